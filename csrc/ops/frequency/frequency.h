// Frequency encoding: every coordinate as sines and cosines of its octaves.
//
// Mildenhall et al. 2020, equation 4, without the factor pi as in their code (`include_pi` puts it
// back) and in the order of their code. A row of the output is
//   [x (identity only), sin(2^0 x), cos(2^0 x), sin(2^1 x), cos(2^1 x), ...]
// where x and every sine and cosine stand for all n_dims coordinates.
#pragma once

#include "common/cpu.h"
#include "common/trig.h"

namespace nf {

struct FrequencyShape {
  int n_dims;      // 1 to 64
  int n_octaves;   // 0 to 24
  bool identity;   // the coordinates themselves come first
  bool include_pi; // sin(2^k pi x) instead of sin(2^k x)

  NF_HD int n_output() const { return n_dims * (2 * n_octaves + (identity ? 1 : 0)); }
};

constexpr int kFrequencyMaxDims = 64;
constexpr int kFrequencyMaxOctaves = 24;

void check_frequency_shape(const FrequencyShape& shape);  // throws std::invalid_argument

template <class T>
struct FrequencyArgs {
  FrequencyShape shape;
  std::int64_t n;                   // points
  const T* positions;               // [n, n_dims]
  T* output = nullptr;              // forward: [n, n_output]
  const T* grad_output = nullptr;   // backward, second: [n, n_output]
  T* grad_positions = nullptr;      // backward, second: [n, n_dims], overwritten
  const T* tangents = nullptr;      // second: [n, n_dims], cotangent of the first grad_positions
  T* grad_grad_output = nullptr;    // second: [n, n_output], overwritten
};

}  // namespace nf

NF_KERNEL(frequency_forward_f32, FrequencyArgs<float>)
NF_KERNEL(frequency_backward_f32, FrequencyArgs<float>)
NF_KERNEL(frequency_second_f32, FrequencyArgs<float>)
NF_KERNEL_PORTABLE(frequency_forward_f64, FrequencyArgs<double>)
NF_KERNEL_PORTABLE(frequency_backward_f64, FrequencyArgs<double>)
NF_KERNEL_PORTABLE(frequency_second_f64, FrequencyArgs<double>)

NF_BEGIN

// Column of sin(2^k x_d); its cosine lies n_dims columns further.
NF_HD int frequency_sine_column(const FrequencyShape& shape, int octave, int d) {
  return shape.n_dims * (2 * octave + (shape.identity ? 1 : 0)) + d;
}

// d phase / d x of octave k
template <class S>
NF_HD S frequency_rate(int octave, bool include_pi) {
  const S power = static_cast<S>(1 << octave);
  return include_pi ? power * S(3.14159265358979323846) : power;
}

// sin and cos of the phase of octave k. 2^k x is exact; with pi, whole turns are taken off before
// the product is rounded, so that high octaves stay as accurate as low ones.
template <class L>
NF_HD void frequency_sincos(L x, int octave, bool include_pi, L* sine, L* cosine) {
  using S = ScalarOf<L>;
  const L scaled = x * static_cast<S>(1 << octave);
  if (include_pi)
    lane_sincos<L>((scaled - S(2) * lane_round<L>(scaled * S(0.5))) * S(3.14159265358979323846), sine, cosine);
  else
    lane_sincos<L>(scaled, sine, cosine);
}

NF_END
