// Pack<T, W>: W numbers that are loaded, multiplied by one scalar and added together, the shape
// of every dense inner loop. A register where the compiler offers vectors, an array elsewhere.
#pragma once

#include <type_traits>

#include "common/lanes.h"

NF_BEGIN

#if defined(NF_VECTORS)
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)  // GCC from 12 on, clang
#define NF_SHUFFLES 1
#endif
#endif

template <class T, int W>
using Pack = Vector<T, W>;

template <class T, int W>
NF_INLINE Pack<T, W> pack_load(const T* p) {
  return *reinterpret_cast<const typename VectorOf<T, W>::unaligned*>(p);
}
template <class T, int W>
NF_INLINE void pack_store(T* p, Pack<T, W> x) {
  *reinterpret_cast<typename VectorOf<T, W>::unaligned*>(p) = x;
}
template <class T, int W>
NF_INLINE Pack<T, W> constant_pack(T number) {
  return Pack<T, W>{} + number;
}
#else
template <class T, int W>
struct Pack {
  T v[W];
  NF_HD Pack& operator+=(const Pack& o) {
    for (int i = 0; i < W; ++i) v[i] += o.v[i];
    return *this;
  }
  friend NF_HD Pack operator*(T s, const Pack& x) {
    Pack y;
    for (int i = 0; i < W; ++i) y.v[i] = s * x.v[i];
    return y;
  }
  friend NF_HD Pack operator*(Pack x, const Pack& o) {
    for (int i = 0; i < W; ++i) x.v[i] *= o.v[i];
    return x;
  }
  friend NF_HD Pack operator+(Pack x, const Pack& o) { return x += o; }
  friend NF_HD Pack operator+(T s, Pack x) {
    for (int i = 0; i < W; ++i) x.v[i] += s;
    return x;
  }
  NF_HD T operator[](int i) const { return v[i]; }
};
template <class T, int W>
NF_HD Pack<T, W> pack_load(const T* p) {
  Pack<T, W> x;
  for (int i = 0; i < W; ++i) x.v[i] = p[i];
  return x;
}
template <class T, int W>
NF_HD void pack_store(T* p, const Pack<T, W>& x) {
  for (int i = 0; i < W; ++i) p[i] = x.v[i];
}
template <class T, int W>
NF_HD Pack<T, W> constant_pack(T number) {
  Pack<T, W> x;
  for (int i = 0; i < W; ++i) x.v[i] = number;
  return x;
}
#endif

// In halves: a chain of W sums would take longer than what is summed.
template <class T, int W>
NF_HD T pack_sum(const Pack<T, W>& x) {
  if constexpr (W == 1) {
    return x[0];
  } else {
    Pack<T, W / 2> half[2];
    memcpy(half, &x, sizeof(x));
    return pack_sum<T, W / 2>(half[0] + half[1]);
  }
}

// The sums of four packs at once, bit for bit those of pack_sum: side by side they take a third of
// the shuffles.
template <class T, int W>
NF_HD void pack_sums(const Pack<T, W> (&x)[4], T (&sums)[4]) {
#if defined(NF_SHUFFLES)
  if constexpr (W == 16) {
    Pack<T, W> pairs[2];
    for (int i = 0; i < 2; ++i) {
      const Pack<T, W> a = x[2 * i], b = x[2 * i + 1];
      pairs[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                 __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    }
    Pack<T, W> four = __builtin_shufflevector(pairs[0], pairs[1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
                      __builtin_shufflevector(pairs[0], pairs[1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    four += __builtin_shufflevector(four, four, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    four += __builtin_shufflevector(four, four, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    pack_store<T, 4>(sums, __builtin_shufflevector(four, four, 0, 4, 8, 12));
    return;
  }
#endif
  for (int i = 0; i < 4; ++i) sums[i] = pack_sum<T, W>(x[i]);
}

// The register width that this path multiplies with.
#if defined(__AVX512F__)
constexpr int kPackFloats = 16;
#elif defined(__AVX2__)
constexpr int kPackFloats = 8;
#else
constexpr int kPackFloats = 4;
#endif

// body(width, first) over [0, n) in packs: as wide as registers are, and narrower ones for the rest.
// `width` is an integral constant.
template <class Body>
NF_INLINE void for_packs(int n, Body&& body) {
  int c = 0;
  for (; c + kPackFloats <= n; c += kPackFloats) body(std::integral_constant<int, kPackFloats>{}, c);
  if constexpr (kPackFloats > 8) {
    if (c + 8 <= n) {
      body(std::integral_constant<int, 8>{}, c);
      c += 8;
    }
  }
  if constexpr (kPackFloats > 4) {
    if (c + 4 <= n) {
      body(std::integral_constant<int, 4>{}, c);
      c += 4;
    }
  }
  for (; c < n; ++c) body(std::integral_constant<int, 1>{}, c);
}

NF_END
