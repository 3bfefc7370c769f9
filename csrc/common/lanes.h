// Lane types: the maths of an operation is written once, for a "lane" that is a plain float or
// double (portable C++, CUDA) or a register of 8 or 16 floats (AVX2, AVX-512). The registers are
// the compiler's vector extension, so +, -, *, / and comparisons need no wrappers; this header
// adds what operators cannot say.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "common/macros.h"

NF_BEGIN

template <class L>
struct LaneTraits;

template <>
struct LaneTraits<float> {
  using Scalar = float;
  using Int = std::int32_t;
  using Uint = std::uint32_t;
  static constexpr int width = 1;
};

template <>
struct LaneTraits<double> {
  using Scalar = double;
  using Int = std::int32_t;
  using Uint = std::uint32_t;
  static constexpr int width = 1;
};

template <class L>
using ScalarOf = typename LaneTraits<L>::Scalar;
template <class L>
using IntOf = typename LaneTraits<L>::Int;
template <class L>
using UintOf = typename LaneTraits<L>::Uint;

// ---- scalars -------------------------------------------------------------------------------

template <class T>
NF_HD T select(bool mask, T a, T b) {
  return mask ? a : b;
}
NF_HD std::int32_t minus_one_where(bool mask) { return mask ? -1 : 0; }
NF_HD std::int32_t to_int(float x) { return static_cast<std::int32_t>(x); }
NF_HD std::int32_t to_int(double x) { return static_cast<std::int32_t>(x); }
template <class L>
NF_HD L to_lane(std::int32_t x) {
  return static_cast<L>(x);
}
NF_HD std::uint32_t as_uint(std::int32_t x) { return static_cast<std::uint32_t>(x); }
NF_HD std::int32_t float_to_bits(float x) {
  std::int32_t y;
  memcpy(&y, &x, sizeof(y));
  return y;
}
NF_HD float bits_to_float(std::int32_t x) {
  float y;
  memcpy(&y, &x, sizeof(y));
  return y;
}

template <class L>
NF_HD L lane_load(const ScalarOf<L>* p);
template <>
NF_HD float lane_load<float>(const float* p) {
  return *p;
}
template <>
NF_HD double lane_load<double>(const double* p) {
  return *p;
}
NF_HD void lane_store(float* p, float x) { *p = x; }
NF_HD void lane_store(double* p, double x) { *p = x; }
NF_HD void lane_store(std::uint32_t* p, std::uint32_t x) { *p = x; }

// ---- registers -----------------------------------------------------------------------------

#if defined(__GNUC__) && !defined(__CUDACC__)
#define NF_VECTORS 1

template <class T, int W>
struct VectorOf {
  typedef T type __attribute__((vector_size(sizeof(T) * W)));
  typedef T unaligned __attribute__((vector_size(sizeof(T) * W), aligned(alignof(T)), may_alias));
};
template <class T, int W>
using Vector = typename VectorOf<T, W>::type;

#define NF_VECTOR_LANES(W)                                                                       \
  template <>                                                                                    \
  struct LaneTraits<Vector<float, W>> {                                                          \
    using Scalar = float;                                                                        \
    using Int = Vector<std::int32_t, W>;                                                         \
    using Uint = Vector<std::uint32_t, W>;                                                       \
    static constexpr int width = W;                                                              \
  };                                                                                             \
  NF_INLINE Vector<float, W> select(Vector<std::int32_t, W> mask, Vector<float, W> a,            \
                                    Vector<float, W> b) {                                        \
    return mask ? a : b;                                                                         \
  }                                                                                              \
  NF_INLINE Vector<std::uint32_t, W> select(Vector<std::int32_t, W> mask,                        \
                                            Vector<std::uint32_t, W> a,                          \
                                            Vector<std::uint32_t, W> b) {                        \
    return mask ? a : b;                                                                         \
  }                                                                                              \
  NF_INLINE Vector<std::int32_t, W> minus_one_where(Vector<std::int32_t, W> mask) {              \
    return mask;                                                                                 \
  }                                                                                              \
  NF_INLINE Vector<std::int32_t, W> to_int(Vector<float, W> x) {                                 \
    return __builtin_convertvector(x, Vector<std::int32_t, W>);                                  \
  }                                                                                              \
  NF_INLINE Vector<std::uint32_t, W> as_uint(Vector<std::int32_t, W> x) {                        \
    return (Vector<std::uint32_t, W>)x;                                                          \
  }                                                                                              \
  template <class L>                                                                             \
  NF_INLINE L to_lane(Vector<std::int32_t, W> x) {                                               \
    return __builtin_convertvector(x, L);                                                        \
  }                                                                                              \
  NF_INLINE Vector<float, W> bits_to_float(Vector<std::int32_t, W> x) {                          \
    return (Vector<float, W>)x;                                                                  \
  }                                                                                              \
  NF_INLINE Vector<std::int32_t, W> float_to_bits(Vector<float, W> x) {                          \
    return (Vector<std::int32_t, W>)x;                                                           \
  }                                                                                              \
  template <>                                                                                    \
  NF_INLINE Vector<float, W> lane_load<Vector<float, W>>(const float* p) {                       \
    return *reinterpret_cast<const VectorOf<float, W>::unaligned*>(p);                           \
  }                                                                                              \
  NF_INLINE void lane_store(float* p, Vector<float, W> x) {                                      \
    *reinterpret_cast<VectorOf<float, W>::unaligned*>(p) = x;                                    \
  }                                                                                              \
  NF_INLINE void lane_store(std::uint32_t* p, Vector<std::uint32_t, W> x) {                      \
    *reinterpret_cast<VectorOf<std::uint32_t, W>::unaligned*>(p) = x;                            \
  }

#if defined(__AVX512F__)
NF_VECTOR_LANES(16)
using FloatLanes = Vector<float, 16>;
#elif defined(__AVX2__)
NF_VECTOR_LANES(8)
using FloatLanes = Vector<float, 8>;
#else
using FloatLanes = float;
#endif
#undef NF_VECTOR_LANES
#else
using FloatLanes = float;
#endif

// ---- the same for every lane type ------------------------------------------------------------

template <class L>
NF_HD L broadcast(ScalarOf<L> x) {
  return L{} + x;
}
template <class L>
NF_HD L lane_min(L a, L b) {
  return select(a < b, a, b);
}
template <class L>
NF_HD L lane_max(L a, L b) {
  return select(a > b, a, b);
}

// Largest integer not above x, for |x| < 2^31.
template <class L>
NF_HD IntOf<L> floor_to_int(L x) {
  const IntOf<L> truncated = to_int(x);
  return truncated + minus_one_where(to_lane<L>(truncated) > x);
}

// Adding it rounds a number below 2^22 to a whole one, which is left in the lowest bits.
constexpr float kRoundingShift = 12582912.0f;  // 3 * 2^22

// p 2^n, where kRoundingShift + n is given.
template <class L>
NF_HD L lane_times_power(L p, L shifted) {
  const IntOf<L> n = float_to_bits(shifted) - 0x4B400000;
  return p * bits_to_float((n + 127) * (1 << 23));
}

// exp(x) to about 2 ulp for float, saturating at the ends of the range; std::exp for double.
// Range reduction x = n ln2 + r and a degree-6 polynomial, the same on every path.
template <class L>
NF_HD L lane_exp(L x) {
  // In this order NaN stays NaN, here and in the product at the end.
  const L clamped = lane_min(broadcast<L>(88.0f), lane_max(broadcast<L>(-87.0f), x));
  const L shifted = clamped * 1.44269504f + kRoundingShift;
  const L k = shifted - kRoundingShift;
  const L r = (clamped - k * 0.693359375f) + k * 2.12194440e-4f;
  L p = broadcast<L>(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return lane_times_power<L>(p, shifted);
}
template <>
NF_HD double lane_exp<double>(double x) {
  return exp(x);
}

// 2^x to about 1 ulp for float, in half the work of exp: the rest of x needs no products.
template <class L>
NF_HD L lane_exp2(L x) {
  const L clamped = lane_min(broadcast<L>(127.0f), lane_max(broadcast<L>(-126.0f), x));
  const L shifted = clamped + kRoundingShift;
  const L r = clamped - (shifted - kRoundingShift);
  L p = broadcast<L>(1.5345812020e-4f);
  p = p * r + 1.3399931220e-3f;
  p = p * r + 9.6184889571e-3f;
  p = p * r + 5.5503287770e-2f;
  p = p * r + 2.4022646890e-1f;
  p = p * r + 6.9314720574e-1f;
  p = p * r + 1.0f;
  return lane_times_power<L>(p, shifted);
}
template <>
NF_HD double lane_exp2<double>(double x) {
  return exp2(x);
}

// log(x) to about 2 ulp for normal positive floats; std::log for double.
template <class L>
NF_HD L lane_log(L x) {
  // x = m 2^e with m in [sqrt(1/2), sqrt(2))
  const IntOf<L> bits = float_to_bits(x) - 0x3f3504f3;
  const IntOf<L> exponent = bits >> 23;
  const L m = bits_to_float(float_to_bits(x) - (exponent << 23)) - 1.0f;
  const L e = to_lane<L>(exponent);
  L p = broadcast<L>(7.0376836292e-2f);
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const L square = m * m;
  const L result = m + (p * m * square + e * -2.12194440e-4f - 0.5f * square) + e * 0.693359375f;
  return select(x == x, result, x);  // NaN stays NaN
}
template <>
NF_HD double lane_log<double>(double x) {
  return log(x);
}

NF_END
