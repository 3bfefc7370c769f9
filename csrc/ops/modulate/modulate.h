// Modulation of features: y = scale * normalised(x) + shift, one scale and shift per row.
//
// Lee et al. 2024 (Coordinate-Aware Modulation), the per-sample form: statistics over the channels of
// each row alone, with the biased variance and eps 1e-5, so that a row never depends on another.
#pragma once

#include "common/cpu.h"
#include "common/lanes.h"

namespace nf {

template <class T>
struct ModulateArgs {
  bool normalize;                    // without it y = scale * x + shift
  int n_channels;                    // 1 or more
  std::int64_t n;                    // rows
  const T* features;                 // [n, n_channels]
  const T* scale;                    // [n]
  const T* shift = nullptr;          // forward: [n]
  T* output = nullptr;               // forward: [n, n_channels]
  const T* grad_output = nullptr;    // backward: like output
  T* grad_features = nullptr;        // backward: like features, overwritten
  T* grad_scale = nullptr;           // backward: [n], overwritten
  T* grad_shift = nullptr;           // backward: [n], overwritten
};

}  // namespace nf

NF_KERNEL(modulate_forward_f32, ModulateArgs<float>)
NF_KERNEL(modulate_backward_f32, ModulateArgs<float>)
NF_KERNEL_PORTABLE(modulate_forward_f64, ModulateArgs<double>)
NF_KERNEL_PORTABLE(modulate_backward_f64, ModulateArgs<double>)

NF_BEGIN

// normalised = (x - mean) * rate
template <class T>
struct ModulateStatistics {
  T mean, rate;
};

template <class T>
NF_HD T modulate_rate(T variance) {
  return 1 / sqrt(variance + T(1e-5));
}

// y = factor * x + offset for all channels of a row
template <class T>
struct ModulateRow {
  T factor, offset;
};
template <class T>
NF_HD ModulateRow<T> modulate_row(ModulateStatistics<T> s, T scale, T shift) {
  return {scale * s.rate, shift - scale * s.rate * s.mean};
}

// The gradient of x is factor * (g - mean_g - normalised * mean_product), where mean_g and
// mean_product are the means of g and of g * normalised, or zero where nothing is normalised.
template <class T>
NF_HD T modulate_gradient(ModulateStatistics<T> s, T scale, T mean_g, T mean_product, T g, T x) {
  return scale * s.rate * (g - mean_g - (x - s.mean) * s.rate * mean_product);
}

NF_END
