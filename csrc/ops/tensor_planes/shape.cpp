#include <cstring>
#include <stdexcept>
#include <string>

#include "ops/tensor_planes/tensor_planes.h"

namespace nf {
namespace {

void require(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument("tensor_planes: " + message);
}

// Reads one factor's digits and returns what follows them.
const char* read_factor(const char* text, int n_dims, PlanesFactor* factor) {
  factor->n_axes = 0;
  for (; *text != '\0' && *text != '*' && *text != '+'; ++text) {
    const int axis = *text - '0';
    require(axis >= 0 && axis < n_dims, "terms need axes below " + std::to_string(n_dims) + ", got '" + std::string(1, *text) + "'.");
    require(factor->n_axes < 2, "terms need factors of one or two axes.");
    require(factor->n_axes == 0 || axis > factor->axis[0], "terms need a factor's lower axis first.");
    factor->axis[factor->n_axes++] = axis;
  }
  require(factor->n_axes > 0, "terms need factors of one or two axes.");
  return text;
}

}  // namespace

TensorPlanesShape tensor_planes_shape(const int* resolution, int n_dims, int rank, const char* terms,
                                      LatticeInterpolation interpolation) {
  require(n_dims >= 2 && n_dims <= kLatticeMaxDims, "resolution needs 2, 3 or 4 axes, got " + std::to_string(n_dims) + ".");
  require(rank >= 1 && rank <= 512, "rank needs 1 to 512, got " + std::to_string(rank) + ".");
  TensorPlanesShape shape{};
  shape.n_dims = n_dims;
  shape.rank = rank;
  shape.interpolation = interpolation;
  for (int d = 0; d < n_dims; ++d) {
    require(resolution[d] >= 2 && resolution[d] <= (1 << 22),
            "resolution needs 2 to 2^22 vertices per axis, got " + std::to_string(resolution[d]) + ".");
    shape.resolution[d] = resolution[d];
  }
  for (bool more = true; more;) {
    require(shape.n_terms < kPlanesMaxTerms, "terms need to be 8 at most.");
    PlanesTerm& term = shape.terms[shape.n_terms++];
    do {
      require(term.n_factors < kPlanesMaxFactors, "terms need 6 factors at most.");
      PlanesFactor& factor = term.factors[term.n_factors++];
      terms = read_factor(terms, n_dims, &factor);
      factor.offset = shape.n_params;
      std::int64_t size = rank;
      for (int j = 0; j < factor.n_axes; ++j) size *= shape.resolution[factor.axis[j]];
      shape.n_params += size;
      require(shape.n_params < (std::int64_t(1) << 40), "the table needs fewer than 2^40 numbers.");
    } while (*terms++ == '*');
    more = terms[-1] == '+';
  }
  return shape;
}

}  // namespace nf
