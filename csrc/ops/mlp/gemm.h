// The one matrix product of this library: C = A B or C += A B for a tile that fits the caches.
// Samples are rows and features are lanes, so the layout is torch's row-major one and forward,
// input gradient and weight gradient are the same loop with different strides of A.
#pragma once

#include "common/pack.h"

NF_BEGIN

// C[m][n] for m < MR and NR packs of n. A(m, k) = a[m * a_row + k * a_col], B row-major.
template <class T, int W, int MR, int NR, bool Accumulate>
NF_INLINE void gemm_block(const T* NF_RESTRICT a, std::int64_t a_row, std::int64_t a_col, const T* NF_RESTRICT b,
                          std::int64_t b_row, T* NF_RESTRICT c, std::int64_t c_row, std::int64_t n_k) {
  Pack<T, W> sum[MR][NR];
  NF_UNROLL
  for (int m = 0; m < MR; ++m) {
    NF_UNROLL
    for (int n = 0; n < NR; ++n) sum[m][n] = Accumulate ? pack_load<T, W>(c + m * c_row + n * W) : Pack<T, W>{};
  }
  for (std::int64_t k = 0; k < n_k; ++k) {
    Pack<T, W> row[NR];
    NF_UNROLL
    for (int n = 0; n < NR; ++n) row[n] = pack_load<T, W>(b + k * b_row + n * W);
    NF_UNROLL
    for (int m = 0; m < MR; ++m) {
      const T scale = a[m * a_row + k * a_col];
      NF_UNROLL
      for (int n = 0; n < NR; ++n) sum[m][n] += scale * row[n];
    }
  }
  NF_UNROLL
  for (int m = 0; m < MR; ++m) {
    NF_UNROLL
    for (int n = 0; n < NR; ++n) pack_store<T, W>(c + m * c_row + n * W, sum[m][n]);
  }
}

template <class T, int W, int NR, bool Accumulate>
void gemm_columns(const T* a, std::int64_t a_row, std::int64_t a_col, const T* b, std::int64_t b_row, T* c,
                  std::int64_t c_row, std::int64_t n_m, std::int64_t n_k) {
  // Blocks of 6 rows keep 24 sums in 32 registers (AVX-512); 16 registers hold 4 rows of 2.
  constexpr int kRows = W == 16 ? 6 : 4;
  std::int64_t m = 0;
  for (; m + kRows <= n_m; m += kRows)
    gemm_block<T, W, kRows, NR, Accumulate>(a + m * a_row, a_row, a_col, b, b_row, c + m * c_row, c_row, n_k);
  for (; m + 2 <= n_m; m += 2)
    gemm_block<T, W, 2, NR, Accumulate>(a + m * a_row, a_row, a_col, b, b_row, c + m * c_row, c_row, n_k);
  for (; m < n_m; ++m)
    gemm_block<T, W, 1, NR, Accumulate>(a + m * a_row, a_row, a_col, b, b_row, c + m * c_row, c_row, n_k);
}

// C [n_m, n_n] (+)= A [n_m, n_k] B [n_k, n_n]; n_n a multiple of 16, rows of B and C padded to it.
template <class T, bool Accumulate>
void gemm(const T* a, std::int64_t a_row, std::int64_t a_col, const T* b, std::int64_t b_row, T* c, std::int64_t c_row,
          std::int64_t n_m, std::int64_t n_n, std::int64_t n_k) {
  constexpr int W = sizeof(T) == 4 ? kPackFloats : 4;
  constexpr int NR = W == 16 ? 4 : 2;
  std::int64_t n = 0;
  for (; n + NR * W <= n_n; n += NR * W)
    gemm_columns<T, W, NR, Accumulate>(a, a_row, a_col, b + n, b_row, c + n, c_row, n_m, n_k);
  if constexpr (NR == 4)
    for (; n + 2 * W <= n_n; n += 2 * W)
      gemm_columns<T, W, 2, Accumulate>(a, a_row, a_col, b + n, b_row, c + n, c_row, n_m, n_k);
  for (; n < n_n; n += W) gemm_columns<T, W, 1, Accumulate>(a, a_row, a_col, b + n, b_row, c + n, c_row, n_m, n_k);
}

NF_END
