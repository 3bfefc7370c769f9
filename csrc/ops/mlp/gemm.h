// The one matrix product of this library: sums over k of A(m, k) B(k, n) for a tile that fits the
// caches. Samples are rows and features are lanes, so the layout is torch's row-major one and
// forward, input gradient and weight gradient are the same loop with different strides of A.
// What becomes of a sum (activation, slope, rounding) is decided while it is still in a register.
#pragma once

#include "common/bf16.h"
#include "ops/mlp/tiles.h"

NF_BEGIN

// How numbers of type E are multiplied: one unit of A with a register of units of B.
template <class E>
struct Factors {
  using Unit = E;
  using Sum = E;
  static NF_INLINE E load(const E* p) { return *p; }
  static constexpr int per_unit = 1;  // numbers along k
  static constexpr int padding = 16;  // rows of activations are padded to a multiple of this
  template <int W>
  static NF_INLINE Pack<E, W> multiply_add(Pack<E, W> sum, E a, Pack<E, W> b) {
    sum += a * b;
    return sum;
  }
};
template <>
struct Factors<Bf16> {
  using Unit = Bf16Pair;
  using Sum = float;
  static NF_INLINE Bf16Pair load(const Bf16Pair* p) { return load_pair(p); }
  static constexpr int per_unit = 2;
  static constexpr int padding = 32;  // the depth of a matrix tile
  template <int W>
  static NF_INLINE Pack<float, W> multiply_add(Pack<float, W> sum, Bf16Pair a, Pack<Bf16Pair, W> b) {
    return bf16_dot<W>(sum, a, b);
  }
};
template <class E>
using UnitOf = typename Factors<E>::Unit;
template <class E>
using SumOf = typename Factors<E>::Sum;

// A(m, k) = a[m * row + k * column], in units.
template <class E>
struct Left {
  const UnitOf<E>* data;
  std::int64_t row, column;
};

// `out` gives the register that a sum starts from and takes the finished one:
//   out.template start<W>(m, n) and out.template finish<W>(m, n, sum).
template <class E, int W, int MR, int NR, class Out>
NF_INLINE void gemm_block(const Left<E>& a, const UnitOf<E>* NF_RESTRICT b, std::int64_t b_row, std::int64_t m0,
                          std::int64_t n0, std::int64_t n_k, const Out& out) {
  const UnitOf<E>* NF_RESTRICT left = a.data + m0 * a.row;
  Pack<SumOf<E>, W> sum[MR][NR];
  NF_UNROLL
  for (int m = 0; m < MR; ++m) {
    NF_UNROLL
    for (int n = 0; n < NR; ++n) sum[m][n] = out.template start<W>(m0 + m, n0 + n * W);
  }
  for (std::int64_t k = 0; k < n_k; ++k) {
    Pack<UnitOf<E>, W> right[NR];
    NF_UNROLL
    for (int n = 0; n < NR; ++n) right[n] = pack_load<UnitOf<E>, W>(b + k * b_row + n0 + n * W);
    NF_UNROLL
    for (int m = 0; m < MR; ++m) {
      const UnitOf<E> factor = Factors<E>::load(left + m * a.row + k * a.column);
      NF_UNROLL
      for (int n = 0; n < NR; ++n) sum[m][n] = Factors<E>::template multiply_add<W>(sum[m][n], factor, right[n]);
    }
  }
  NF_UNROLL
  for (int m = 0; m < MR; ++m) {
    NF_UNROLL
    for (int n = 0; n < NR; ++n) out.template finish<W>(m0 + m, n0 + n * W, sum[m][n]);
  }
}

template <class E, int W, int NR, class Out>
void gemm_columns(const Left<E>& a, const UnitOf<E>* b, std::int64_t b_row, std::int64_t n_m, std::int64_t n0,
                  std::int64_t n_k, const Out& out) {
  // Blocks of 6 rows keep 24 sums in 32 registers (AVX-512); 16 registers hold 4 rows of 2.
  constexpr int kRows = W == 16 ? 6 : 4;
  std::int64_t m = 0;
  for (; m + kRows <= n_m; m += kRows) gemm_block<E, W, kRows, NR>(a, b, b_row, m, n0, n_k, out);
  for (; m + 2 <= n_m; m += 2) gemm_block<E, W, 2, NR>(a, b, b_row, m, n0, n_k, out);
  for (; m < n_m; ++m) gemm_block<E, W, 1, NR>(a, b, b_row, m, n0, n_k, out);
}

// n_k in units; n_n a multiple of 16, rows of B padded to it.
template <class E, class Out>
void gemm(const Left<E>& a, const UnitOf<E>* b, std::int64_t b_row, std::int64_t n_m, std::int64_t n_n, std::int64_t n_k,
          const Out& out) {
#if defined(NF_TILES)
  if constexpr (Factors<E>::per_unit == 2) return gemm_tiles(a.data, a.row, a.column, b, b_row, n_m, n_n, n_k, out);
#endif
  constexpr int W = sizeof(SumOf<E>) == 4 ? kPackFloats : 4;
  constexpr int NR = W == 16 ? 4 : 2;
  std::int64_t n = 0;
  for (; n + NR * W <= n_n; n += NR * W) gemm_columns<E, W, NR>(a, b, b_row, n_m, n, n_k, out);
  if constexpr (NR == 4)
    for (; n + 2 * W <= n_n; n += 2 * W) gemm_columns<E, W, 2>(a, b, b_row, n_m, n, n_k, out);
  for (; n < n_n; n += W) gemm_columns<E, W, 1>(a, b, b_row, n_m, n, n_k, out);
}

NF_END
