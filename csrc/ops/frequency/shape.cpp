#include <stdexcept>
#include <string>

#include "ops/frequency/frequency.h"

namespace nf {

void check_frequency_shape(const FrequencyShape& shape) {
  if (shape.n_dims < 1 || shape.n_dims > kFrequencyMaxDims)
    throw std::invalid_argument("frequency: n_dims needs 1 to " + std::to_string(kFrequencyMaxDims) + ", got " +
                                std::to_string(shape.n_dims) + ".");
  if (shape.n_octaves < 0 || shape.n_octaves > kFrequencyMaxOctaves)
    throw std::invalid_argument("frequency: n_octaves needs 0 to " + std::to_string(kFrequencyMaxOctaves) + ", got " +
                                std::to_string(shape.n_octaves) + ".");
}

}  // namespace nf
