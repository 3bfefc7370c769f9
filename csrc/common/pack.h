// Pack<T, W>: W numbers that are loaded, multiplied by one scalar and added together, the shape
// of every dense inner loop. A register where the compiler offers vectors, an array elsewhere.
#pragma once

#include <type_traits>

#include "common/lanes.h"

NF_BEGIN

#if defined(NF_VECTORS)
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
