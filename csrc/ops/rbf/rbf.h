// Gaussian neurons in feature space and their linear readout: y = W phi + b with
// phi_k = exp(-1/2 sum_j beta_kj (x_j - mu_kj)^2), beta = exp(log_precision).
//
// Bouzidi et al. 2025 (GNF / Gaussian RBFNet). Deviation: distances are sums of squares of
// t = sqrt(beta) x - sqrt(beta) mu, as many multiply-adds as the expanded square, which cancels where
// features are large.
#pragma once

#include "common/cpu.h"
#include "common/lanes.h"

namespace nf {

constexpr int kRbfMaxInput = 256, kRbfMaxKernels = 1024, kRbfMaxOutput = 256;

struct RbfShape {
  int n_input, n_kernels, n_output;
  bool isotropic;  // one precision per kernel instead of one per kernel and feature

  std::int64_t n_precisions() const { return isotropic ? n_kernels : std::int64_t(n_kernels) * n_input; }
};

void check_rbf_shape(const RbfShape& shape);  // throws std::invalid_argument

template <class T>
struct RbfArgs {
  RbfShape shape;
  std::int64_t n;                     // points
  const T* features;                  // [n, n_input]
  const T* centers;                   // [n_kernels, n_input]
  const T* log_precision;             // [n_kernels, n_input], or [n_kernels]
  const T* weight;                    // [n_output, n_kernels]
  const T* bias = nullptr;            // forward: [n_output]
  T* output = nullptr;                // forward: [n, n_output]
  T* activations = nullptr;           // phi [n, n_kernels]: forward, optional; backward and second, read
  const T* grad_output = nullptr;     // backward: like output
  T* grad_features = nullptr;         // backward, optional: like features, overwritten
  T* grad_centers = nullptr;          // backward, optional, all four or none: overwritten
  T* grad_log_precision = nullptr;
  T* grad_weight = nullptr;
  T* grad_bias = nullptr;             // backward alone
  const T* tangents = nullptr;        // second: like features, cotangent of grad_features
  T* grad_grad_output = nullptr;      // second: like output, overwritten
};

}  // namespace nf

NF_KERNEL(rbf_forward_f32, RbfArgs<float>)
NF_KERNEL(rbf_backward_f32, RbfArgs<float>)
NF_KERNEL(rbf_second_f32, RbfArgs<float>)
NF_KERNEL_PORTABLE(rbf_forward_f64, RbfArgs<double>)
NF_KERNEL_PORTABLE(rbf_backward_f64, RbfArgs<double>)
NF_KERNEL_PORTABLE(rbf_second_f64, RbfArgs<double>)

NF_BEGIN

// sqrt(beta) of kernel k along feature j. Logarithms beyond +-80 count as those, so that squares of
// differences do not overflow; NaN stays NaN.
template <class T>
NF_HD T rbf_scale(const RbfArgs<T>& args, int k, int j) {
  const T half = T(0.5) * args.log_precision[args.shape.isotropic ? k : k * args.shape.n_input + j];
  return lane_exp<T>(select(half == half, lane_min(lane_max(half, T(-40)), T(40)), half));
}

// phi from the squared distance
template <class L>
NF_HD L rbf_value(L squares) {
  return lane_exp<L>(ScalarOf<L>(-0.5) * squares);
}

// With q = phi dL/dphi, s = sqrt(beta) and t = s (x - mu), the gradients are sums:
// of a feature over kernels -q t s, of a centre over points q t s, of a log-precision -q t^2 / 2.
template <class V, class T>
struct RbfGradient {
  V center;         // still to be multiplied by s; the negative of a feature's
  V log_precision;  // still to be multiplied by -1/2

  NF_HD RbfGradient(const V& q, const V& t) : center(q * t), log_precision(center * t) {}
};

// The same for the derivative of <tangents, dL/dx>, which is -sum_k q_k a_k with
// a = sum_j v_j s t for the point's tangent v. `w` is q a.
template <class V, class T>
struct RbfSecond {
  V center, log_precision;

  NF_HD RbfSecond(const V& q, const V& w, const V& t, const V& s, T v) {
    const V along = v * (q * s);
    center = T(-1) * (w * t) + along;
    log_precision = t * (T(-1) * (w * t) + T(2) * along);
  }
};

NF_END
