// A dense grid of vertices with channels: what is interpolated, per point and for all corners. Shared
// by the operations that look up dense grids; x is the fastest axis.
#pragma once

#include "common/lattice.h"

namespace nf {

struct LatticeGrid {
  int n_dims;      // 1 to 4
  int n_channels;  // per vertex
  int resolution[kLatticeMaxDims];
  bool wrap[kLatticeMaxDims];
  LatticeInterpolation interpolation;

  NF_HD std::int64_t n_vertices() const {
    std::int64_t n = 1;
    for (int d = 0; d < n_dims; ++d) n *= resolution[d];
    return n;
  }
};

}  // namespace nf

NF_BEGIN

// The corners around a point: bit d of a corner is set on the upper side of axis d.
template <int D, class N>
struct LatticeCorners {
  static constexpr int count = 1 << D;
  std::int64_t first[count];  // the first channel of each corner's vertex
  N weight[count];

  NF_HD void set(const LatticeGrid& grid, const LatticeSide<N>* sides) {
    std::int64_t stride = grid.n_channels;
    first[0] = 0;
    weight[0] = sides[0].weight[0];
    NF_UNROLL
    for (int d = 0; d < D; ++d) {
      const int lower = sides[d].lower, upper = lower + 1 == grid.resolution[d] ? 0 : lower + 1;  // wrapped
      NF_UNROLL
      for (int c = 0; c < (1 << d); ++c) {
        first[c | 1 << d] = first[c] + upper * stride;
        first[c] += lower * stride;
        if (d == 0) continue;
        weight[c | 1 << d] = weight[c] * sides[d].weight[1];
        weight[c] = weight[c] * sides[d].weight[0];
      }
      if (d == 0) weight[1] = sides[0].weight[1];
      stride *= grid.resolution[d];
    }
  }
};

// The derivative of a corner's weight along `axis`.
template <int D, class N>
NF_HD N lattice_slope(const LatticeSide<N>* sides, int corner, int axis) {
  N product = sides[axis].slope[corner >> axis & 1];
  NF_UNROLL
  for (int d = 0; d < D; ++d)
    if (d != axis) product = product * sides[d].weight[corner >> d & 1];
  return product;
}

NF_END
