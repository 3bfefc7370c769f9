// Rows of activations: padding, rounding, and what becomes of the sums of a product.
#pragma once

#include <type_traits>

#include "ops/mlp/gemm.h"
#include "ops/mlp/mlp.h"

NF_BEGIN

// Width of a row of numbers that are multiplied as E.
template <class E>
constexpr std::int64_t padded(std::int64_t n) {
  return (n + Factors<E>::padding - 1) / Factors<E>::padding * Factors<E>::padding;
}
// Numbers along k in units.
template <class E>
constexpr std::int64_t units(std::int64_t n) {
  return Factors<E>::per_unit == 1 ? n : padded<E>(n) / Factors<E>::per_unit;
}
constexpr std::int64_t pad16(std::int64_t n) { return (n + 15) / 16 * 16; }

template <int W>
NF_INLINE Pack<float, W> load_numbers(const float* p) {
  return pack_load<float, W>(p);
}
template <int W>
NF_INLINE Pack<double, W> load_numbers(const double* p) {
  return pack_load<double, W>(p);
}
template <int W>
NF_INLINE Pack<float, W> load_numbers(const Bf16* p) {
  return bf16_load<W>(p);
}
template <int W>
NF_INLINE void store_numbers(float* p, Pack<float, W> x) {
  pack_store<float, W>(p, x);
}
template <int W>
NF_INLINE void store_numbers(double* p, Pack<double, W> x) {
  pack_store<double, W>(p, x);
}
template <int W>
NF_INLINE void store_numbers(Bf16* p, Pack<float, W> x) {
  bf16_store<W>(p, x);
}
NF_INLINE float number(float x) { return x; }
NF_INLINE double number(double x) { return x; }
NF_INLINE float number(Bf16 x) { return to_float(x); }
NF_INLINE void set_number(float* p, float x) { *p = x; }
NF_INLINE void set_number(double* p, double x) { *p = x; }
NF_INLINE void set_number(Bf16* p, float x) { *p = to_bf16(x); }

// f over the lanes of a pack: at once where the pack is this path's register, else one by one.
template <class T, int W, class F, class... Packs>
NF_INLINE Pack<T, W> map_lanes(F&& f, const Pack<T, W>& x, const Packs&... more) {
  if constexpr (std::is_same<Pack<T, W>, FloatLanes>::value) {
    return f(x, more...);
  } else {
    alignas(64) T numbers[W];
    for (int i = 0; i < W; ++i) numbers[i] = f(static_cast<T>(x[i]), static_cast<T>(more[i])...);
    return pack_load<T, W>(numbers);
  }
}

// Copies and converts rows of `width` numbers into rows `to_row` apart; up to `fill` zeros follow.
template <class From, class To>
void copy_rows(const From* from, std::int64_t from_row, std::int64_t width, To* to, std::int64_t to_row, std::int64_t fill,
               std::int64_t n_rows) {
  for (std::int64_t r = 0; r < n_rows; ++r, from += from_row, to += to_row) {
    std::int64_t i = 0;
    for (; i + 16 <= width; i += 16) store_numbers<16>(to + i, load_numbers<16>(from + i));
    for (; i < width; ++i) set_number(to + i, number(from[i]));
    for (; i < fill; ++i) set_number(to + i, 0);
  }
}

// delta <- delta * phi'(.), from the activations y; n a multiple of 16
template <class T>
void multiply_by_slope(Activation kind, T beta, const T* y, T* delta, std::int64_t n) {
  constexpr int W = sizeof(T) == 4 ? kPackFloats : 4;
  if (kind == Activation::none) return;
  for (std::int64_t i = 0; i < n; i += W)
    pack_store<T, W>(delta + i, map_lanes<T, W>([=](auto d, auto v) { return d * activation_slope<decltype(v)>(kind, v, beta); },
                                                pack_load<T, W>(delta + i), pack_load<T, W>(y + i)));
}

// ---- what becomes of the sums of a product ----------------------------------------------------
// `columns` is how many columns are wanted of a result of width n.

template <class T>
struct Overwrite {  // C = A B
  static constexpr std::int64_t columns(std::int64_t n) { return padded<T>(n); }
  T* c;
  std::int64_t row;
  template <int W>
  NF_INLINE Pack<T, W> start(std::int64_t, std::int64_t) const {
    return Pack<T, W>{};
  }
  template <int W>
  NF_INLINE void finish(std::int64_t m, std::int64_t n, Pack<T, W> sum) const {
    pack_store<T, W>(c + m * row + n, sum);
  }
};

template <class T>
struct AddTo {  // C += A B
  T* c;
  std::int64_t row;
  template <int W>
  NF_INLINE Pack<T, W> start(std::int64_t m, std::int64_t n) const {
    return pack_load<T, W>(c + m * row + n);
  }
  template <int W>
  NF_INLINE void finish(std::int64_t m, std::int64_t n, Pack<T, W> sum) const {
    pack_store<T, W>(c + m * row + n, sum);
  }
};

template <class T, class To>
struct Activated {  // y = phi(A B + bias)
  static constexpr std::int64_t columns(std::int64_t n) { return padded<To>(n); }
  To* y;
  std::int64_t row;
  const T* bias;
  Activation kind;
  T beta;
  template <int W>
  NF_INLINE Pack<T, W> start(std::int64_t, std::int64_t n) const {
    return bias == nullptr ? Pack<T, W>{} : pack_load<T, W>(bias + n);
  }
  template <int W>
  NF_INLINE void finish(std::int64_t m, std::int64_t n, Pack<T, W> sum) const {
    store_numbers<W>(y + m * row + n,
                     map_lanes<T, W>([this](auto z) { return activation<decltype(z)>(kind, z, beta); }, sum));
  }
};

template <class T, class E>
struct Sloped {  // delta = (A B) phi'(.), from the activations y of the layer below
  static constexpr std::int64_t columns(std::int64_t n) { return padded<E>(n); }
  E* delta;
  std::int64_t row;
  const E* y;
  Activation kind;
  T beta;
  template <int W>
  NF_INLINE Pack<T, W> start(std::int64_t, std::int64_t) const {
    return Pack<T, W>{};
  }
  template <int W>
  NF_INLINE void finish(std::int64_t m, std::int64_t n, Pack<T, W> sum) const {
    const Pack<T, W> scaled =
        map_lanes<T, W>([this](auto d, auto v) { return d * activation_slope<decltype(v)>(kind, v, beta); }, sum,
                        load_numbers<W>(y + m * row + n));
    store_numbers<W>(delta + m * row + n, scaled);
  }
};

NF_END
