#include <cmath>
#include <stdexcept>
#include <string>

#include "ops/mlp/mlp.h"

namespace nf {

int MlpShape::max_width() const {
  int width = 0;
  for (int i = 0; i <= n_layers; ++i) width = widths[i] > width ? widths[i] : width;
  return width;
}

std::int64_t MlpShape::matrix(int layer) const {
  std::int64_t offset = 0;
  for (int l = 0; l < layer; ++l) offset += static_cast<std::int64_t>(widths[l + 1]) * (widths[l] + (biases ? 1 : 0));
  return offset;
}

std::int64_t MlpShape::n_params() const { return matrix(n_layers); }

std::int64_t MlpShape::n_hidden() const {
  std::int64_t n = 0;
  for (int l = 1; l < n_layers; ++l) n += widths[l];
  return n;
}

void check_mlp_shape(const MlpShape& shape) {
  if (shape.n_layers < 1 || shape.n_layers > kMlpMaxLayers)
    throw std::invalid_argument("mlp: needs 1 to " + std::to_string(kMlpMaxLayers) + " layers, got " +
                                std::to_string(shape.n_layers) + ".");
  for (int i = 0; i <= shape.n_layers; ++i)
    if (shape.widths[i] < 1 || shape.widths[i] > kMlpMaxWidth)
      throw std::invalid_argument("mlp: widths need 1 to " + std::to_string(kMlpMaxWidth) + ", got " +
                                  std::to_string(shape.widths[i]) + " at position " + std::to_string(i) + ".");
  if (!(std::isfinite(shape.beta) && shape.beta > 0))
    throw std::invalid_argument("mlp: beta needs a positive number, got " + std::to_string(shape.beta) + ".");
}

}  // namespace nf
