// Real spherical harmonics of unit directions, degree 1 to 4: 1, 4, 9 or 16 values.
//
// The order and signs are those of tiny-cuda-nn (Mueller et al. 2022) and of svox2: band by band,
// with the Condon-Shortley sign. Deviation from tiny-cuda-nn: directions are taken as they are, in
// [-1, 1], not mapped to [0, 1]. Off the unit sphere the values are those of the polynomials below.
#pragma once

#include "common/cpu.h"
#include "common/lanes.h"

namespace nf {

constexpr int kSphericalHarmonicsMaxDegree = 4;

template <class T>
struct SphericalHarmonicsArgs {
  int degree;                        // 1 to 4; a row of output has degree^2 numbers
  std::int64_t n;                    // directions
  const T* directions;               // [n, 3], unit vectors
  T* output = nullptr;               // forward: [n, degree^2]
  const T* grad_output = nullptr;    // backward, second: [n, degree^2]
  T* grad_directions = nullptr;      // backward, second: [n, 3], overwritten
  const T* tangents = nullptr;       // second: [n, 3], cotangent of the first grad_directions
  T* grad_grad_output = nullptr;     // second: [n, degree^2], overwritten
};

}  // namespace nf

NF_KERNEL(spherical_harmonics_forward_f32, SphericalHarmonicsArgs<float>)
NF_KERNEL(spherical_harmonics_backward_f32, SphericalHarmonicsArgs<float>)
NF_KERNEL(spherical_harmonics_second_f32, SphericalHarmonicsArgs<float>)
NF_KERNEL_PORTABLE(spherical_harmonics_forward_f64, SphericalHarmonicsArgs<double>)
NF_KERNEL_PORTABLE(spherical_harmonics_backward_f64, SphericalHarmonicsArgs<double>)
NF_KERNEL_PORTABLE(spherical_harmonics_second_f64, SphericalHarmonicsArgs<double>)

NF_BEGIN

// Normalisation of the harmonics; the literals are the square roots behind them.
template <class S>
struct ShConstants {
  static constexpr S band0 = S(0.28209479177387814);   // (1 / 4pi)
  static constexpr S band1 = S(0.48860251190291992);   // (3 / 4pi)
  static constexpr S xy = S(1.0925484305920792);       // (15 / 4pi)
  static constexpr S zz = S(0.94617469575756008);      // (45 / 16pi)
  static constexpr S one = S(0.31539156525252005);     // (5 / 16pi)
  static constexpr S xx_yy = S(0.54627421529603959);   // (15 / 16pi)
  static constexpr S y3 = S(0.59004358992664352);      // (35 / 32pi)
  static constexpr S xyz = S(2.8906114426405538);      // (105 / 4pi)
  static constexpr S yzz = S(0.45704579946446577);     // (21 / 32pi)
  static constexpr S z3 = S(0.37317633259011546);      // (7 / 16pi)
  static constexpr S xxz = S(1.4453057213202769);      // (105 / 16pi)
};

// N: a lane or a Dual of lanes
template <int Degree, class N>
NF_HD void spherical_harmonics(N x, N y, N z, N out[Degree * Degree]) {
  using S = ScalarOf<N>;
  using C = ShConstants<S>;
  const N xx = x * x, yy = y * y, zz = z * z;
  out[0] = S(0) * x + C::band0;
  if constexpr (Degree > 1) {
    out[1] = -C::band1 * y;
    out[2] = C::band1 * z;
    out[3] = -C::band1 * x;
  }
  if constexpr (Degree > 2) {
    out[4] = C::xy * (x * y);
    out[5] = -C::xy * (y * z);
    out[6] = C::zz * zz + -C::one;
    out[7] = -C::xy * (x * z);
    out[8] = C::xx_yy * (xx - yy);
  }
  if constexpr (Degree > 3) {
    out[9] = C::y3 * (y * (yy - S(3) * xx));
    out[10] = C::xyz * (x * (y * z));
    out[11] = C::yzz * (y * (S(-5) * zz + S(1)));
    out[12] = C::z3 * (z * (S(5) * zz + S(-3)));
    out[13] = C::yzz * (x * (S(-5) * zz + S(1)));
    out[14] = C::xxz * (z * (xx - yy));
    out[15] = C::y3 * (x * (S(3) * yy - xx));
  }
}

// grad = sum_i g_i d out_i / d (x, y, z)
template <int Degree, class N>
NF_HD void spherical_harmonics_gradient(N x, N y, N z, const N g[Degree * Degree], N grad[3]) {
  using S = ScalarOf<N>;
  using C = ShConstants<S>;
  N gx = S(0) * x, gy = gx, gz = gx;
  if constexpr (Degree > 1) {
    gx = gx + -C::band1 * g[3];
    gy = gy + -C::band1 * g[1];
    gz = gz + C::band1 * g[2];
  }
  if constexpr (Degree > 2) {
    const N g4 = C::xy * g[4], g5 = C::xy * g[5], g7 = C::xy * g[7], g8 = (2 * C::xx_yy) * g[8];
    gx = gx + g4 * y - g7 * z + g8 * x;
    gy = gy + g4 * x - g5 * z - g8 * y;
    gz = gz + (2 * C::zz) * (g[6] * z) - g5 * y - g7 * x;
  }
  if constexpr (Degree > 3) {
    const N xx = x * x, yy = y * y, zz = z * z, difference = xx - yy, inner = S(-5) * zz + S(1);
    const N g9 = (3 * C::y3) * g[9], g10 = C::xyz * g[10], g11 = C::yzz * g[11], g13 = C::yzz * g[13];
    const N g14 = C::xxz * g[14], g15 = (3 * C::y3) * g[15];
    const N xy2 = S(2) * (x * y), xz2 = S(2) * (x * z), yz2 = S(2) * (y * z);
    gx = gx - g9 * xy2 + g10 * (y * z) + g13 * inner + g14 * xz2 - g15 * difference;
    gy = gy - g9 * difference + g10 * (x * z) + g11 * inner - g14 * yz2 + g15 * xy2;
    gz = gz + g10 * (x * y) - S(5) * (g11 * yz2 + g13 * xz2) + C::z3 * (g[12] * (S(15) * zz + S(-3))) + g14 * difference;
  }
  grad[0] = gx;
  grad[1] = gy;
  grad[2] = gz;
}

NF_END
