// CPU loops over points in dense grids: cells are located for a register of points at a time, and
// points can be visited in the order of their cells, so that what they read and add to stays in the
// nearest caches and every range of the grid has one owner.
#pragma once

#include "common/buffer.h"
#include "common/lattice.h"
#include "common/loops.h"
#include "common/pack.h"
#include "common/rows.h"

NF_BEGIN

constexpr std::size_t kLatticeNearBytes = 384 << 10;  // what stays in the nearest caches by itself

struct LatticeAxes {
  int n_dims;
  int resolution[kLatticeMaxDims];
  bool wrap[kLatticeMaxDims];
  LatticeInterpolation interpolation;
};

// The cells of a few points.
template <class T>
struct LatticeTile {
  static constexpr int size = 32;
  int n;
  std::int64_t point[size];
  alignas(64) std::int32_t lower[kLatticeMaxDims][size];
  alignas(64) T weight[kLatticeMaxDims][size], slope[kLatticeMaxDims][size], curvature[kLatticeMaxDims][size];

  // Up to `size` points of [first, end): those numbers themselves, or their places in `order`.
  void take(const std::int32_t* order, std::int64_t offset, std::int64_t first, std::int64_t end) {
    n = end - first < size ? static_cast<int>(end - first) : size;
    for (int i = 0; i < n; ++i) point[i] = order == nullptr ? first + i : offset + order[first + i];
  }

  void locate_along(const LatticeAxes& axes, const T* positions, int d) {
    using L = typename RowLanes<T>::type;
    constexpr int W = LaneTraits<L>::width;
    alignas(64) T column[size];
    for (int i = 0; i < size; ++i) column[i] = positions[point[i < n ? i : n - 1] * axes.n_dims + d];
    for (int i = 0; i < n; i += W) {
      const LatticeCell<L> cell =
          lattice_locate<L>(axes.resolution[d], axes.wrap[d], axes.interpolation, lane_load<L>(column + i));
      lane_store(reinterpret_cast<std::uint32_t*>(lower[d] + i), as_uint(cell.lower));
      lane_store(weight[d] + i, cell.weight);
      lane_store(slope[d] + i, cell.slope);
      lane_store(curvature[d] + i, cell.curvature);
    }
  }

  void locate(const LatticeAxes& axes, const T* positions, const std::int32_t* order, std::int64_t offset,
              std::int64_t first, std::int64_t end) {
    take(order, offset, first, end);
    for (int d = 0; d < axes.n_dims; ++d) locate_along(axes, positions, d);
  }

  template <class N>
  NF_INLINE LatticeSide<N> side(int d, int i, const T* tangents, int n_dims) const {
    LatticeSide<N> side;
    const LatticeCell<T> cell{lower[d][i], weight[d][i], slope[d][i], curvature[d][i]};
    side.set(cell, tangents == nullptr ? T(0) : tangents[point[i] * n_dims + d]);
    return side;
  }
};

// body(tile, i) for the points [begin, end), and fetch(tile, i) for the point one tile ahead of it.
template <class T, class Fetch, class Body>
NF_INLINE void lattice_for_points(const LatticeAxes& axes, const T* positions, const std::int32_t* order,
                                  std::int64_t offset, std::int64_t begin, std::int64_t end, Fetch&& fetch, Body&& body) {
  LatticeTile<T> tiles[2];
  constexpr int size = LatticeTile<T>::size;
  int current = 0;
  if (begin < end) tiles[0].locate(axes, positions, order, offset, begin, end);
  for (std::int64_t first = begin; first < end; first += size, current ^= 1) {
    const LatticeTile<T>&tile = tiles[current], &next = tiles[current ^ 1];
    const int n_next = end - first > size ? (end - first - size < size ? static_cast<int>(end - first) - size : size) : 0;
    if (n_next > 0) tiles[current ^ 1].locate(axes, positions, order, offset, first + size, end);
    for (int i = 0; i < tile.n; ++i) {
      if (i < n_next) fetch(next, i);
      body(tile, i);
    }
  }
}

// Asks for [data, data + n) numbers.
template <class T>
NF_INLINE void lattice_prefetch(const T* data, std::int64_t n) {
  const std::uintptr_t first = reinterpret_cast<std::uintptr_t>(data), end = reinterpret_cast<std::uintptr_t>(data + n);
  for (std::uintptr_t line = first & ~std::uintptr_t(63); line < end; line += 64) NF_PREFETCH(reinterpret_cast<const void*>(line));
}

// Points [begin, end) in the order of their cells: by the cell's place along the last axis of
// `sorted`, then along the one before, where that is not too many places; else in their own order.
// Every thread counts and places a block of the points; their order does not depend on the blocks.
class CellOrder {
 public:
  template <class T>
  CellOrder(const LatticeAxes& axes, const T* positions, std::int64_t begin, std::int64_t end, const int* sorted, int n_sorted)
      : n_(end - begin),
        n_layers_(axes.resolution[sorted[n_sorted - 1]]),
        inner_(n_inner(axes, sorted, n_sorted)),
        points_(static_cast<std::size_t>(n_)),
        first_(static_cast<std::size_t>(n_layers_ * inner_ + 1)) {
    const int last = sorted[n_sorted - 1], before = sorted[n_sorted > 1 ? n_sorted - 2 : 0];
    const std::int64_t n_places = n_layers_ * inner_;
    const std::int64_t worth = 1 + 4 * n_ / n_places;  // more blocks would have too many counters
    const std::int64_t n_blocks = num_threads() < worth ? num_threads() : worth;
    Buffer<std::int32_t> place_of(static_cast<std::size_t>(n_)), next(static_cast<std::size_t>(n_places * n_blocks));
    parallel_for(n_blocks, [&](std::int64_t block) {
      std::int32_t* const count = next.data() + block * n_places;
      for (std::int64_t place = 0; place < n_places; ++place) count[place] = 0;
      LatticeTile<T> tile;
      const std::int64_t block_end = begin + n_ * (block + 1) / n_blocks;
      for (std::int64_t i = begin + n_ * block / n_blocks; i < block_end; i += tile.size) {
        tile.take(nullptr, 0, i, block_end);
        tile.locate_along(axes, positions, last);
        if (inner_ > 1) tile.locate_along(axes, positions, before);
        for (int p = 0; p < tile.n; ++p) {
          const std::int64_t place = tile.lower[last][p] * inner_ + (inner_ > 1 ? tile.lower[before][p] : 0);
          place_of[i - begin + p] = static_cast<std::int32_t>(place);
          ++count[place];
        }
      }
    });
    std::int32_t sum = 0;
    for (std::int64_t place = 0; place < n_places; ++place) {
      first_[place] = sum;
      for (std::int64_t block = 0; block < n_blocks; ++block) {
        const std::int32_t count = next[block * n_places + place];
        next[block * n_places + place] = sum;
        sum += count;
      }
    }
    first_[n_places] = sum;
    parallel_for(n_blocks, [&](std::int64_t block) {
      std::int32_t* const to = next.data() + block * n_places;
      const std::int64_t block_end = n_ * (block + 1) / n_blocks;
      for (std::int64_t i = n_ * block / n_blocks; i < block_end; ++i) points_[to[place_of[i]]++] = static_cast<std::int32_t>(i);
    });
  }

  const std::int32_t* points() const { return points_.data(); }  // relative to the first
  // How many points lie in cells below a layer.
  std::int64_t below(std::int64_t layer) const { return first_.data()[layer * inner_]; }
  // The first layer of slab `slab` of n_slabs, which have about the same number of points.
  std::int64_t slab_begin(int slab, int n_slabs) const {
    if (slab == 0 || slab == n_slabs) return slab == 0 ? 0 : n_layers_;
    const std::int64_t wanted = n_ * slab / n_slabs;
    std::int64_t low = 0, high = n_layers_;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      if (below(middle) < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  }

 private:
  static std::int64_t n_inner(const LatticeAxes& axes, const int* sorted, int n_sorted) {
    if (n_sorted < 2) return 1;
    const std::int64_t before = axes.resolution[sorted[n_sorted - 2]];
    return axes.resolution[sorted[n_sorted - 1]] * before <= (1 << 18) ? before : 1;
  }

  const std::int64_t n_, n_layers_, inner_;
  Buffer<std::int32_t> points_, first_;
};

NF_END
