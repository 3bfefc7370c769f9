// Sine and cosine of lanes.
#pragma once

#include "common/lanes.h"

NF_BEGIN

// The nearest integer as a float; |x| < 2^22, beyond it the result is no integer to rely on. The
// sum has no fraction bits left, and its low bits are those of the integer.
template <class L>
NF_HD L lane_round_biased(L x) {
  return x + ScalarOf<L>(12582912.0f);
}
template <class L>
NF_HD L lane_round(L x) {
  return lane_round_biased(x) - ScalarOf<L>(12582912.0f);
}
template <>
NF_HD double lane_round<double>(double x) {
  return rint(x);
}

// sin(x) and cos(x) to 2e-7 for |x| up to 1e4; the error grows with |x| beyond that, as does the
// spacing of the floats themselves. The results stay in [-1, 1]; infinities and NaN give NaN.
// Range reduction by multiples of pi / 2 in three parts (Cody and Waite), then the polynomials of
// Cephes on [-pi/4, pi/4], the same on every path. std::sin and std::cos for double.
template <class L>
NF_HD void lane_sincos(L x, L* sine, L* cosine) {
  const L limit = broadcast<L>(2097152.0f);
  const L bounded = lane_min(lane_max(x, -limit), limit);
  const L biased = lane_round_biased(bounded * 0.636619772f);
  const IntOf<L> quadrant = float_to_bits(biased);
  const L k = biased - 12582912.0f;
  L r = ((bounded - k * 1.5703125f) - k * 4.837512969970703125e-4f) - k * 7.54978995489188216e-8f;
  // Where the reduction has lost its digits, any angle is as good; keep it within the polynomials.
  r = lane_min(lane_max(r, broadcast<L>(-0.8f)), broadcast<L>(0.8f));
  const L z = r * r;
  const L s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * r + r;
  const L c = ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * (z * z) - 0.5f * z + 1.0f;
  const auto odd = (quadrant & 1) != 0;
  const L not_finite = x - x;  // 0, or NaN for infinities and NaN
  const L a = select(odd, c, s), b = select(odd, s, c);
  *sine = select((quadrant & 2) != 0, -a, a) + not_finite;
  *cosine = select(((quadrant + 1) & 2) != 0, -b, b) + not_finite;
}
template <>
NF_HD void lane_sincos<double>(double x, double* sine, double* cosine) {
  *sine = sin(x);
  *cosine = cos(x);
}

// Sine, or cosine, alone: x less a multiple of pi, of pi / 2 more for the cosine, and one polynomial
// (that of SLEEF's sinf) on [-pi/2, pi/2]. As exact as the above, for |x| up to 2^21, in half the time.
template <bool kCosine, class L>
NF_HD L lane_sine_or_cosine(L x) {
  const ScalarOf<L> quarter = kCosine ? 0.5f : 0.0f;
  const L biased = lane_round_biased(x * 0.318309886f - quarter);
  const IntOf<L> half_turns = float_to_bits(biased);
  const L k = (biased - 12582912.0f) + quarter;
  L r = ((x - k * 3.140625f) - k * 9.67502593994140625e-4f) - k * 1.509957990978376432e-7f;
  r = lane_min(lane_max(r, broadcast<L>(-1.6f)), broadcast<L>(1.6f));  // see above
  const L z = r * r;
  const L p = ((2.6083159809786593541503e-6f * z - 1.981069071916863322258e-4f) * z + 8.33307858556509017944336e-3f) * z;
  const L s = (p - 0.166666597127914428710938f) * z * r + r;
  const auto flipped = (half_turns & 1) != (kCosine ? 1 : 0);
  return select(flipped, -s, s) + (x - x);
}
template <class L>
NF_HD L lane_sine(L x) {
  return lane_sine_or_cosine<false, L>(x);
}
template <>
NF_HD double lane_sine<double>(double x) {
  return sin(x);
}
template <class L>
NF_HD L lane_cosine(L x) {
  return lane_sine_or_cosine<true, L>(x);
}
template <>
NF_HD double lane_cosine<double>(double x) {
  return cos(x);
}

NF_END
