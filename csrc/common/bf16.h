// bfloat16: the upper half of a float, rounded to nearest, ties to even. Products of two are exact
// in float32, so sums of products are as good as float32 sums of the rounded numbers.
#pragma once

#include "common/pack.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace nf {

struct Bf16 {
  std::uint16_t bits;
};

// Two neighbours along the summed axis, the first in the lower half.
using Bf16Pair = std::uint32_t;

}  // namespace nf

NF_BEGIN

// A pair as it stands in an array of Bf16, whose type it does not have.
NF_INLINE Bf16Pair load_pair(const Bf16Pair* p) {
  Bf16Pair pair;
  std::memcpy(&pair, p, sizeof(pair));
  return pair;
}

NF_HD float to_float(Bf16 x) { return bits_to_float(static_cast<std::int32_t>(static_cast<std::uint32_t>(x.bits) << 16)); }

NF_HD Bf16 to_bf16(float x) {
  const std::uint32_t bits = as_uint(float_to_bits(x));
  if (x != x) return {static_cast<std::uint16_t>(bits >> 16 | 0x40u)};  // a quiet NaN
  return {static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

// W numbers into one register of floats, and back.
#if defined(NF_VECTORS)
template <int W>
NF_INLINE Pack<float, W> bf16_load(const Bf16* p) {
  const Vector<std::uint16_t, W> bits = *reinterpret_cast<const typename VectorOf<std::uint16_t, W>::unaligned*>(p);
  return (Pack<float, W>)(__builtin_convertvector(bits, Vector<std::uint32_t, W>) << 16);
}
template <int W>
NF_INLINE void bf16_store(Bf16* p, Pack<float, W> x) {
#if defined(__AVX512BF16__)
  if constexpr (W == 16) {
    const __m256bh rounded = _mm512_cvtneps_pbh((__m512)x);
    std::memcpy(static_cast<void*>(p), &rounded, sizeof(rounded));
    return;
  }
#endif
  const Vector<std::uint32_t, W> bits = (Vector<std::uint32_t, W>)x;
  const Vector<std::uint32_t, W> rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  const Vector<std::uint32_t, W> kept = x == x ? rounded : (bits >> 16 | 0x40u);
  *reinterpret_cast<typename VectorOf<std::uint16_t, W>::unaligned*>(p) =
      __builtin_convertvector(kept, Vector<std::uint16_t, W>);
}
#else
template <int W>
NF_INLINE Pack<float, W> bf16_load(const Bf16* p) {
  float x[W];
  for (int i = 0; i < W; ++i) x[i] = to_float(p[i]);
  return pack_load<float, W>(x);
}
template <int W>
NF_INLINE void bf16_store(Bf16* p, Pack<float, W> x) {
  for (int i = 0; i < W; ++i) p[i] = to_bf16(x[i]);
}
#endif

// sum + the two products of a pair with a register of pairs. The instruction rounds to
// nearest even and flushes subnormals, as does that of bf16_store; elsewhere these are two float32 multiply-adds.
template <int W>
NF_INLINE Pack<float, W> bf16_dot(Pack<float, W> sum, Bf16Pair a, Pack<Bf16Pair, W> b) {
#if defined(__AVX512BF16__)
  if constexpr (W == 16)
    return (Pack<float, 16>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)b, (__m512bh)_mm512_set1_epi32(static_cast<int>(a)));
#endif
  const float first = bits_to_float(static_cast<std::int32_t>(a << 16));
  const float second = bits_to_float(static_cast<std::int32_t>(a & 0xffff0000u));
#if defined(NF_VECTORS)
  sum += first * (Pack<float, W>)(b << 16);
  sum += second * (Pack<float, W>)(b & 0xffff0000u);
#else
  for (int i = 0; i < W; ++i) {
    sum.v[i] += first * bits_to_float(static_cast<std::int32_t>(b.v[i] << 16));
    sum.v[i] += second * bits_to_float(static_cast<std::int32_t>(b.v[i] & 0xffff0000u));
  }
#endif
  return sum;
}

NF_END
