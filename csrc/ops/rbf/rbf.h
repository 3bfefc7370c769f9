// Gaussian neurons in feature space and their linear readout: y = W phi + b with
// phi_k = exp(-1/2 sum_j beta_kj (x_j - mu_kj)^2), beta = exp(log_precision).
//
// Bouzidi et al. 2025 (GNF / Gaussian RBFNet). Deviation: phi = 2^-sum_j t_j^2 with
// t = s x - s mu and s = sqrt(beta log2(e) / 2), as many multiply-adds as the expanded square, which
// cancels where features are large.
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

// The factor s of differences whose squares make phi.
template <class T>
NF_HD T rbf_distance_scale(const RbfArgs<T>& args, int k, int j) {
  return T(0.84932180028801904) * rbf_scale(args, k, j);  // sqrt(log2(e) / 2)
}

// phi from the sum of those squares
template <class L>
NF_HD L rbf_value(L squares) {
  return lane_exp2<L>(-squares);
}

// With q = phi dL/dphi and u = x - mu, the gradients are sums: of a feature over kernels -q beta u,
// of a centre over points q beta u, of a log-precision -q beta u^2 / 2.
template <class V, class T>
struct RbfGradient {
  V center;         // still to be multiplied by beta; the negative of a feature's
  V log_precision;  // still to be multiplied by -beta / 2

  NF_HD RbfGradient(const V& q, const V& u) : center(q * u), log_precision(center * u) {}
};

// The same for the derivative of <tangents, dL/dx>, which is -sum_k q_k a_k with
// a = sum_j v_j beta u for the point's tangent v. `w` is q a.
template <class V, class T>
struct RbfSecond {
  V center, log_precision;

  NF_HD RbfSecond(const V& q, const V& w, const V& u, T v) {
    const V along = v * q;
    center = T(-1) * (w * u) + along;
    log_precision = u * (center + along);
  }
};

NF_END
