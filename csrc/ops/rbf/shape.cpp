#include <stdexcept>
#include <string>

#include "ops/rbf/rbf.h"

namespace nf {
namespace {

void require(const char* name, int got, int most) {
  if (got < 1 || got > most)
    throw std::invalid_argument(std::string("rbf: ") + name + " needs 1 to " + std::to_string(most) + ", got " +
                                std::to_string(got) + ".");
}

}  // namespace

void check_rbf_shape(const RbfShape& shape) {
  require("number of features", shape.n_input, kRbfMaxInput);
  require("number of kernels", shape.n_kernels, kRbfMaxKernels);
  require("number of outputs", shape.n_output, kRbfMaxOutput);
}

}  // namespace nf
