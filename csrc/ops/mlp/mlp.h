// Small fully connected networks, whole tiles of samples through all layers at once.
//
// h_0 = x, h_l = phi(scale_l N(W_l h_{l-1} + b_l) + shift_l), where N normalises a sample's row and
// scale and shift are numbers per sample and layer, all three if asked for; the last layer has its own
// activation and nothing else. Parameters are one flat array: per layer the matrix [n_out, n_in] row by row, then the bias [n_out] if there is
// one. As in tiny-cuda-nn's fully fused networks (Mueller et al. 2021) all activations of a tile
// stay in the nearest caches; unlike there, biases are possible and widths need no padding.
#pragma once

#include "common/bf16.h"
#include "common/cpu.h"
#include "common/trig.h"

namespace nf {

constexpr int kMlpMaxLayers = 12;
constexpr int kMlpMaxWidth = 512;

// What is multiplied: float32 (or float64) numbers, or numbers rounded to bfloat16 with float32 sums.
enum class Precision : int { full = 0, bf16 = 1 };

// From sine on hidden layers alone: their slope cannot be had from their value.
enum class Activation : int { none = 0, relu = 1, softplus = 2, sigmoid = 3, sine = 4, finer = 5, finer_detached = 6, gabor = 7 };

struct MlpShape {
  int n_layers;                       // matrices
  int widths[kMlpMaxLayers + 1];      // input, hidden ..., output
  Activation hidden, output;
  double beta;                        // of softplus: log(1 + exp(beta z)) / beta
  bool biases;
  Precision precision;
  double omega, first_omega;          // of the waves, in hidden layers after the first and in the first
  double gabor_scale;                 // s of exp(i omega z - |s z|^2)
  bool normalize;                     // hidden rows to mean 0 and variance 1 before scale and shift

  int max_width() const;
  std::int64_t n_params() const;
  std::int64_t n_activations() const;  // numbers of all hidden layers, per sample
  std::int64_t n_hidden() const;      // and what else is kept for the backward
  std::int64_t matrix(int layer) const;  // offset of W in the parameters; its bias follows it
};

void check_mlp_shape(const MlpShape& shape);  // throws std::invalid_argument

// T: numbers outside; E: numbers that are multiplied, and the hidden activations that are kept.
template <class T, class E = T>
struct MlpArgs {
  MlpShape shape;
  std::int64_t n;                  // samples
  const T* input;                  // [n, widths[0]]
  const T* params;                 // [n_params]
  T* output = nullptr;             // forward: [n, widths[n_layers]]
  E* hidden = nullptr;             // forward, optional; backward and second, read:
                                   //   per hidden layer one [n, width] block of activations, or of
                                   //   rows before scale and shift (keeps_preactivations); if they
                                   //   are normalised, per hidden layer [n] 1 / standard deviation
  const T* saved_output = nullptr;  // backward and second: the forward's output
  const T* grad_output = nullptr;  // backward: [n, n_out]
  T* grad_input = nullptr;         // backward, optional: [n, n_in], overwritten
  T* grad_params = nullptr;        // backward, optional: [n_params], overwritten
  const T* scale = nullptr;        // optional, with shift: [n, n_layers - 1], of the hidden layers
  const T* shift = nullptr;
  T* grad_scale = nullptr;         // backward and second, optional, both or none: like scale, overwritten
  T* grad_shift = nullptr;
  const T* tangents = nullptr;     // second: [n, n_in], cotangent of grad_input
  const T* scale_tangents = nullptr;  // second, optional, both or none: cotangents of grad_scale and
  const T* shift_tangents = nullptr;  //   grad_shift
  T* grad_grad_output = nullptr;   // second: [n, n_out], overwritten
};

}  // namespace nf

NF_KERNEL(mlp_forward_f32, MlpArgs<float>)
NF_KERNEL(mlp_backward_f32, MlpArgs<float>)
NF_KERNEL(mlp_second_f32, MlpArgs<float>)
#if !defined(NF_CUDA_MODULE)
namespace nf {
using MlpBf16Args = MlpArgs<float, Bf16>;
}
NF_KERNEL_MATRIX(mlp_forward_bf16, MlpBf16Args)
NF_KERNEL_MATRIX(mlp_backward_bf16, MlpBf16Args)
#endif
NF_KERNEL_PORTABLE(mlp_forward_f64, MlpArgs<double>)
NF_KERNEL_PORTABLE(mlp_backward_f64, MlpArgs<double>)
NF_KERNEL_PORTABLE(mlp_second_f64, MlpArgs<double>)

NF_BEGIN

// phi(z)
template <class L>
NF_HD L activation(Activation kind, L z, ScalarOf<L> beta) {
  const L zero = broadcast<L>(0);
  switch (kind) {
    case Activation::relu: return select(z <= zero, zero, z);  // NaN stays NaN
    case Activation::softplus: {
      const L a = z * beta;
      const L magnitude = select(a > zero, a, -a);
      return (select(a > zero, a, zero) + lane_log<L>(1 + lane_exp<L>(-magnitude))) / beta;
    }
    case Activation::sigmoid: return 1 / (1 + lane_exp<L>(-z));
    default: return z;
  }
}

// phi'(z) and phi''(z), from y = phi(z)
template <class L>
NF_HD L activation_slope(Activation kind, L y, ScalarOf<L> beta) {
  const L zero = broadcast<L>(0), one = broadcast<L>(1);
  switch (kind) {
    case Activation::relu: return select(y > zero, one, zero);
    case Activation::softplus: return 1 - lane_exp<L>(-y * beta);
    case Activation::sigmoid: return y * (1 - y);
    default: return one;
  }
}
template <class L>
NF_HD L activation_curvature(Activation kind, L y, ScalarOf<L> beta) {
  switch (kind) {
    case Activation::softplus: {
      const L rest = lane_exp<L>(-y * beta);
      return beta * (1 - rest) * rest;
    }
    case Activation::sigmoid: return y * (1 - y) * (1 - 2 * y);
    default: return broadcast<L>(0);
  }
}

NF_END
