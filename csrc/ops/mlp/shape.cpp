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

std::int64_t MlpShape::n_activations() const {
  std::int64_t n = 0;
  for (int l = 1; l < n_layers; ++l) n += widths[l];
  return n;
}

std::int64_t MlpShape::n_hidden() const { return n_activations() + (normalize ? n_layers - 1 : 0); }

namespace {

void require(bool ok, const char* name, const char* needed, double got) {
  if (!ok) throw std::invalid_argument(std::string("mlp: ") + name + " needs " + needed + ", got " + std::to_string(got) + ".");
}

}  // namespace

void check_mlp_shape(const MlpShape& shape) {
  if (shape.n_layers < 1 || shape.n_layers > kMlpMaxLayers)
    throw std::invalid_argument("mlp: needs 1 to " + std::to_string(kMlpMaxLayers) + " layers, got " +
                                std::to_string(shape.n_layers) + ".");
  for (int i = 0; i <= shape.n_layers; ++i)
    if (shape.widths[i] < 1 || shape.widths[i] > kMlpMaxWidth)
      throw std::invalid_argument("mlp: widths need 1 to " + std::to_string(kMlpMaxWidth) + ", got " +
                                  std::to_string(shape.widths[i]) + " at position " + std::to_string(i) + ".");
  require(std::isfinite(shape.beta) && shape.beta > 0, "beta", "a positive number", shape.beta);
  require(std::isfinite(shape.omega), "omega", "a finite number", shape.omega);
  require(std::isfinite(shape.first_omega), "first_omega", "a finite number", shape.first_omega);
  require(std::isfinite(shape.gabor_scale), "gabor_scale", "a finite number", shape.gabor_scale);
  if (shape.output >= Activation::sine)
    throw std::invalid_argument("mlp: the output's activation needs none, relu, softplus or sigmoid.");
  for (int l = 1; l < shape.n_layers; ++l)
    if (shape.hidden == Activation::gabor && shape.widths[l] % 2 != 0)
      throw std::invalid_argument("mlp: gabor needs even hidden widths (real and imaginary parts), got " +
                                  std::to_string(shape.widths[l]) + " at position " + std::to_string(l) + ".");
  if (shape.precision == Precision::bf16 && (shape.hidden >= Activation::sine || shape.normalize))
    throw std::invalid_argument("mlp: sine, finer, gabor and normalize need precision float32, got bf16.");
}

}  // namespace nf
