// Rows of a row-major array as lanes: element d of W consecutive rows is one lane variable.
#pragma once

#include "common/lanes.h"

NF_BEGIN

template <class T>
struct RowLanes {
  using type = T;
};
template <>
struct RowLanes<float> {
  using type = FloatLanes;
};

// Element `d` of the rows first .. first + W of [n, width]; behind the end the last row is repeated.
template <class L>
NF_INLINE L load_column(const ScalarOf<L>* rows, int width, std::int64_t first, std::int64_t n, int d) {
  constexpr int W = LaneTraits<L>::width;
  alignas(64) ScalarOf<L> column[W];
  for (int p = 0; p < W; ++p) column[p] = rows[(first + p < n ? first + p : n - 1) * width + d];
  return lane_load<L>(column);
}

template <class L>
NF_INLINE void load_rows(const ScalarOf<L>* rows, int width, std::int64_t first, std::int64_t n, L* x) {
  for (int d = 0; d < width; ++d) x[d] = load_column<L>(rows, width, first, n, d);
}

// Stores element `d` of the same rows; what lies behind the end is dropped.
template <class L>
NF_INLINE void store_column(ScalarOf<L>* rows, int width, std::int64_t first, std::int64_t n, int d, L x) {
  constexpr int W = LaneTraits<L>::width;
  alignas(64) ScalarOf<L> column[W];
  lane_store(column, x);
  const int n_rows = n - first < W ? static_cast<int>(n - first) : W;
  for (int p = 0; p < n_rows; ++p) rows[(first + p) * width + d] = column[p];
}

NF_END
