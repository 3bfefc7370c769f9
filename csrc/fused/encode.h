// The 3-D hash grid for one tile, with the number of features chosen once per call.
#pragma once

#include "ops/hash_grid/tile.h"

NF_BEGIN

// Calls f(std::integral_constant<int, n_features>).
template <class F>
void with_features(int n_features, F&& f) {
  switch (n_features) {
    case 1: return f(std::integral_constant<int, 1>{});
    case 2: return f(std::integral_constant<int, 2>{});
    case 4: return f(std::integral_constant<int, 4>{});
    default: return f(std::integral_constant<int, 8>{});
  }
}

// output [n, n_levels * n_features] from positions [n, 3] in [0, 1]
inline void encode_tile(const HashGridShape& grid, const float* table, const float* positions, std::int64_t n,
                        float* output) {
  with_features(grid.n_features, [&](auto features) {
    for (int l = 0; l < grid.n_levels; ++l)
      hash_grid_encode_level<float, 3, features.value>(grid, l, positions, 0, n, table, output,
                                                       grid.n_levels * features.value);
  });
}

NF_END
