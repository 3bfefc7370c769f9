// Matrix tiles (Intel AMX): 16 rows of 64 bytes, and their product in one instruction. With
// NF_EMULATE_TILES the same operations on plain arrays, to test the code that uses them anywhere.
#pragma once

#include <atomic>

#include "common/bf16.h"

#if defined(__AMX_BF16__)
#define NF_TILES 1
#include <immintrin.h>
#elif defined(NF_EMULATE_TILES)
#define NF_TILES 1
#endif

#if defined(NF_TILES)
NF_BEGIN

constexpr int kTileRows = 16;  // and units or floats per row

#if !defined(NF_EMULATE_TILES)

// Eight tiles of full size; released at the end, so that nothing else pays for their state.
class TileScope {
 public:
  TileScope() { _tile_loadconfig(&kConfig); }
  ~TileScope() { _tile_release(); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;

 private:
  // Constant: compilers that know only the first 8 bytes to be read may drop stores to a local one.
  struct alignas(64) Config {
    std::uint8_t palette, start_row, reserved[14];
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
  };
  static constexpr Config kConfig{1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
};

// Tile loads do not tell every compiler that they read memory.
inline void stores_before_tile_loads() { std::atomic_signal_fence(std::memory_order_seq_cst); }

// Macros, because a tile's number is part of the instruction. `row` counts units or floats.
#define NF_TILE_LOAD(t, data, row) _tile_loadd(t, data, static_cast<int>((row) * 4))
#define NF_TILE_STORE(t, data, row) _tile_stored(t, data, static_cast<int>((row) * 4))
#define NF_TILE_DOT(c, a, b) _tile_dpbf16ps(c, a, b)

#else

struct TileState {
  std::uint32_t words[8][kTileRows][kTileRows];
};
inline TileState& tile_state() {
  thread_local TileState state;
  return state;
}
class TileScope {
 public:
  TileScope() { memset(&tile_state(), 0xff, sizeof(TileState)); }  // NaN: a tile that is not loaded shows
};
inline void stores_before_tile_loads() {}
inline void tile_load(int t, const void* data, std::int64_t row) {
  for (int r = 0; r < kTileRows; ++r) memcpy(tile_state().words[t][r], static_cast<const std::uint32_t*>(data) + r * row, 64);
}
inline void tile_store(int t, void* data, std::int64_t row) {
  for (int r = 0; r < kTileRows; ++r) memcpy(static_cast<std::uint32_t*>(data) + r * row, tile_state().words[t][r], 64);
}
inline void tile_dot(int c, int a, int b) {
  TileState& state = tile_state();
  for (int m = 0; m < kTileRows; ++m)
    for (int n = 0; n < kTileRows; ++n) {
      float sum = bits_to_float(static_cast<std::int32_t>(state.words[c][m][n]));
      for (int k = 0; k < kTileRows; ++k) {
        const std::uint32_t left = state.words[a][m][k], right = state.words[b][k][n];
        sum += bits_to_float(static_cast<std::int32_t>(left << 16)) * bits_to_float(static_cast<std::int32_t>(right << 16));
        sum += bits_to_float(static_cast<std::int32_t>(left & 0xffff0000u)) *
               bits_to_float(static_cast<std::int32_t>(right & 0xffff0000u));
      }
      state.words[c][m][n] = as_uint(float_to_bits(sum));
    }
}
#define NF_TILE_LOAD(t, data, row) tile_load(t, data, row)
#define NF_TILE_STORE(t, data, row) tile_store(t, data, row)
#define NF_TILE_DOT(c, a, b) tile_dot(c, a, b)

#endif

// One side of a block of 2 x 2 tiles: 32 rows of A as the tile loads want them, in place where they
// already are, else copied with zeros behind the end.
struct LeftPanel {
  static constexpr std::int64_t kMaxUnits = 256;  // 512 numbers
  const Bf16Pair* data;
  std::int64_t row;
  alignas(64) Bf16Pair copy[2 * kTileRows * kMaxUnits];

  void take(const Bf16Pair* from, std::int64_t from_row, std::int64_t from_column, std::int64_t n_m, std::int64_t n_k) {
    if (from_column == 1 && n_m >= 2 * kTileRows) {
      data = from;
      row = from_row;
      return;
    }
    data = copy;
    row = n_k;
    for (std::int64_t m = 0; m < 2 * kTileRows; ++m)
      for (std::int64_t k = 0; k < n_k; ++k) copy[m * n_k + k] = m < n_m ? load_pair(from + m * from_row + k * from_column) : 0;
  }
};

template <class Out>
void start_tile(const Out& out, std::int64_t m0, std::int64_t n0, std::int64_t n_m, float* sums) {
  constexpr int W = kPackFloats;
  for (std::int64_t m = 0; m < kTileRows; ++m)
    for (int n = 0; n < kTileRows; n += W)
      pack_store<float, W>(sums + m * kTileRows + n, m0 + m < n_m ? out.template start<W>(m0 + m, n0 + n) : Pack<float, W>{});
}
template <class Out>
void finish_tile(const Out& out, std::int64_t m0, std::int64_t n0, std::int64_t n_m, const float* sums) {
  constexpr int W = kPackFloats;
  for (std::int64_t m = 0; m < kTileRows && m0 + m < n_m; ++m)
    for (int n = 0; n < kTileRows; n += W)
      out.template finish<W>(m0 + m, n0 + n, pack_load<float, W>(sums + m * kTileRows + n));
}

// The product of gemm.h in blocks of 2 x 2 tiles; n_n a multiple of 16, n_k of 16 units.
// Tiles 0 to 3 are the sums, 4 and 5 rows of A, 6 and 7 columns of B.
template <class Out>
void gemm_tiles(const Bf16Pair* a, std::int64_t a_row, std::int64_t a_column, const Bf16Pair* b, std::int64_t b_row,
                std::int64_t n_m, std::int64_t n_n, std::int64_t n_k, const Out& out) {
  const TileScope scope;
  alignas(64) float sums[4][kTileRows * kTileRows];
  LeftPanel left;
  for (std::int64_t m = 0; m < n_m; m += 2 * kTileRows) {
    left.take(a + m * a_row, a_row, a_column, n_m - m, n_k);
    for (std::int64_t n = 0; n < n_n; n += 2 * kTileRows) {
      // A last column of tiles stands alone: its neighbour repeats it and is dropped.
      const std::int64_t second = n + kTileRows < n_n ? n + kTileRows : n;
      start_tile(out, m, n, n_m, sums[0]);
      start_tile(out, m, second, n_m, sums[1]);
      start_tile(out, m + kTileRows, n, n_m, sums[2]);
      start_tile(out, m + kTileRows, second, n_m, sums[3]);
      stores_before_tile_loads();
      NF_TILE_LOAD(0, sums[0], kTileRows);
      NF_TILE_LOAD(1, sums[1], kTileRows);
      NF_TILE_LOAD(2, sums[2], kTileRows);
      NF_TILE_LOAD(3, sums[3], kTileRows);
      for (std::int64_t k = 0; k < n_k; k += kTileRows) {
        NF_TILE_LOAD(4, left.data + k, left.row);
        NF_TILE_LOAD(5, left.data + kTileRows * left.row + k, left.row);
        NF_TILE_LOAD(6, b + k * b_row + n, b_row);
        NF_TILE_LOAD(7, b + k * b_row + second, b_row);
        NF_TILE_DOT(0, 4, 6);
        NF_TILE_DOT(1, 4, 7);
        NF_TILE_DOT(2, 5, 6);
        NF_TILE_DOT(3, 5, 7);
      }
      NF_TILE_STORE(0, sums[0], kTileRows);
      NF_TILE_STORE(1, sums[1], kTileRows);
      NF_TILE_STORE(2, sums[2], kTileRows);
      NF_TILE_STORE(3, sums[3], kTileRows);
      finish_tile(out, m, n, n_m, sums[0]);
      finish_tile(out, m + kTileRows, n, n_m, sums[2]);
      if (second == n) continue;
      finish_tile(out, m, second, n_m, sums[1]);
      finish_tile(out, m + kTileRows, second, n_m, sums[3]);
    }
  }
}

NF_END
#endif
