// CPU loops over dense grids of channels (lattice_grid.h). What an operation makes of the channels of
// a point, and which gradient they get, is its own: it passes functions of the point.
#pragma once

#include "common/lattice_grid.h"
#include "common/lattice_points.h"

NF_BEGIN

constexpr std::int64_t kLatticeChunk = 1024, kLatticeBatch = 128 * kLatticeChunk;
constexpr int kLatticeMaxChannels = 256;

inline LatticeAxes lattice_axes(const LatticeGrid& grid) {
  LatticeAxes axes{};
  axes.n_dims = grid.n_dims;
  axes.interpolation = grid.interpolation;
  for (int d = 0; d < grid.n_dims; ++d) {
    axes.resolution[d] = grid.resolution[d];
    axes.wrap[d] = grid.wrap[d];
  }
  return axes;
}

// Asks for all corners of a cell; neighbours along x are adjacent, but where an axis wraps.
template <class T, int D>
NF_INLINE void lattice_fetch(const LatticeGrid& grid, const T* numbers, const LatticeTile<T>& tile, int i) {
  NF_UNROLL
  for (int c = 0; c < (1 << D); c += 2) {
    std::int64_t vertex = tile.lower[0][i], stride = grid.resolution[0];
    NF_UNROLL
    for (int d = 1; d < D; ++d) {
      const int place = tile.lower[d][i] + (c >> d & 1);
      vertex += (place == grid.resolution[d] ? 0 : place) * stride;
      stride *= grid.resolution[d];
    }
    lattice_prefetch(numbers + vertex * grid.n_channels, 2 * grid.n_channels);
  }
}

template <class T>
bool lattice_is_far(const LatticeGrid& grid) {
  return grid.n_vertices() * grid.n_channels * sizeof(T) > kLatticeNearBytes;
}

template <class N, int D, class T>
NF_INLINE LatticeCorners<D, N> lattice_corners(const LatticeGrid& grid, const LatticeTile<T>& tile, int i,
                                               const T* tangents, LatticeSide<N>* sides) {
  for (int d = 0; d < D; ++d) sides[d] = tile.template side<N>(d, i, tangents, D);
  LatticeCorners<D, N> corners;
  corners.set(grid, sides);
  return corners;
}

// store(point, channels): channels are the interpolated numbers of the point.
template <class T, int D, class Store>
void lattice_forward(const LatticeGrid& grid, const T* positions, std::int64_t n, const T* numbers, Store&& store) {
  const LatticeAxes axes = lattice_axes(grid);
  const bool far = lattice_is_far<T>(grid);
  parallel_chunks(n, kLatticeChunk, [&](std::int64_t begin, std::int64_t end) {
    const auto fetch = [&](const LatticeTile<T>& tile, int i) {
      if (far) lattice_fetch<T, D>(grid, numbers, tile, i);
    };
    alignas(64) T channels[kLatticeMaxChannels];
    lattice_for_points<T>(axes, positions, nullptr, 0, begin, end, fetch, [&](const LatticeTile<T>& tile, int i) {
      LatticeSide<T> sides[D];
      const LatticeCorners<D, T> corners = lattice_corners<T, D>(grid, tile, i, static_cast<const T*>(nullptr), sides);
      for_packs(grid.n_channels, [&](auto width, int c) {
        constexpr int W = width;
        Pack<T, W> sum = corners.weight[0] * pack_load<T, W>(numbers + corners.first[0] + c);
        NF_UNROLL
        for (int k = 1; k < corners.count; ++k) sum += corners.weight[k] * pack_load<T, W>(numbers + corners.first[k] + c);
        pack_store<T, W>(channels + c, sum);
      });
      store(tile.point[i], channels);
    });
  });
}

// gradient(point, scratch) gives the gradient of the point's channels. With Jets (tangents) the result
// is the derivative of the positions' gradient, and along(point, channels) gets that of the channels.
template <class N, int D, class T, class Gradient, class Along>
void lattice_positions(const LatticeGrid& grid, const T* positions, std::int64_t n, const T* numbers, const T* tangents,
                       T* grad_positions, Gradient&& gradient, Along&& along) {
  const LatticeAxes axes = lattice_axes(grid);
  const bool far = lattice_is_far<T>(grid);
  parallel_chunks(n, kLatticeChunk, [&](std::int64_t begin, std::int64_t end) {
    const auto fetch = [&](const LatticeTile<T>& tile, int i) {
      if (far) lattice_fetch<T, D>(grid, numbers, tile, i);
    };
    alignas(64) T scratch[kLatticeMaxChannels], channels[kLatticeMaxChannels];
    lattice_for_points<T>(axes, positions, nullptr, 0, begin, end, fetch, [&](const LatticeTile<T>& tile, int i) {
      LatticeSide<N> sides[D];
      const LatticeCorners<D, N> corners = lattice_corners<N, D>(grid, tile, i, tangents, sides);
      const T* const g = gradient(tile.point[i], scratch);
      T product[1 << D] = {};
      for_packs(grid.n_channels, [&](auto width, int c) {
        constexpr int W = width;
        const Pack<T, W> factor = pack_load<T, W>(g + c);
        Pack<T, W> sum{};
        NF_UNROLL
        for (int k = 0; k < corners.count; ++k) {
          const Pack<T, W> number = pack_load<T, W>(numbers + corners.first[k] + c);
          product[k] += pack_sum<T, W>(factor * number);
          if constexpr (!std::is_same<N, T>::value) sum += result_of(corners.weight[k]) * number;
        }
        if constexpr (!std::is_same<N, T>::value) pack_store<T, W>(channels + c, sum);
      });
      for (int d = 0; d < D; ++d) {
        T sum = 0;
        for (int k = 0; k < corners.count; ++k) sum += product[k] * result_of(lattice_slope<D, N>(sides, k, d));
        grad_positions[tile.point[i] * D + d] = sum;
      }
      if constexpr (!std::is_same<N, T>::value) along(tile.point[i], channels);
    });
  });
}

// Adds weight * gradient to the corners on one side of the last axis. Not inlined: of several copies,
// some may fuse a product and its sum and others not, and which runs depends on the slabs.
template <int D, class T>
NF_NOINLINE void lattice_add(int n_channels, const std::int64_t* first, const T* weight, const T* NF_RESTRICT g, T* grad) {
  for_packs(n_channels, [&](auto width, int c) {
    constexpr int W = width;
    const Pack<T, W> factor = pack_load<T, W>(g + c);
    NF_UNROLL
    for (int k = 0; k < (1 << (D - 1)); ++k) {
      T* const number = grad + first[k] + c;
      pack_store<T, W>(number, pack_load<T, W>(number) + weight[k] * factor);
    }
  });
}

// The grid's gradient, added in the order of cells, so that the lines it adds to are near; a slab of
// layers of the last axis has one owner, and sums do not depend on where slabs end.
template <class N, int D, class T, class Gradient>
void lattice_scatter(const LatticeGrid& grid, const T* positions, std::int64_t n, const T* tangents, T* grad, Gradient&& gradient) {
  const LatticeAxes axes = lattice_axes(grid);
  int sorted[D];
  for (int d = 0; d < D; ++d) sorted[d] = d;
  const int n_slabs = num_threads() == 1 ? 1 : 4 * num_threads();
  const std::int64_t n_layers = grid.resolution[D - 1];
  for (std::int64_t batch = 0; batch < n; batch += kLatticeBatch) {
    const CellOrder order(axes, positions, batch, batch + kLatticeBatch < n ? batch + kLatticeBatch : n, sorted, D);
    parallel_for(n_slabs, [&](std::int64_t s) {
      const std::int64_t begin = order.slab_begin(static_cast<int>(s), n_slabs);
      const std::int64_t end = order.slab_begin(static_cast<int>(s) + 1, n_slabs);
      alignas(64) T scratch[kLatticeMaxChannels];
      const auto walk = [&](std::int64_t first, std::int64_t last) {  // cells of these layers
        const auto fetch = [&](const LatticeTile<T>& tile, int i) { gradient.fetch(tile.point[i]); };
        lattice_for_points<T>(axes, positions, order.points(), batch, order.below(first), order.below(last), fetch,
                              [&](const LatticeTile<T>& tile, int i) {
          LatticeSide<N> sides[D];
          const LatticeCorners<D, N> corners = lattice_corners<N, D>(grid, tile, i, tangents, sides);
          const std::int64_t lower = tile.lower[D - 1][i], upper = lower + 1 == n_layers ? 0 : lower + 1;
          const T* const g = gradient(tile.point[i], scratch);
          constexpr int half = 1 << (D - 1);
          T weight[2 * half];
          for (int k = 0; k < 2 * half; ++k) weight[k] = result_of(corners.weight[k]);
          if (lower >= begin && lower < end) lattice_add<D>(grid.n_channels, corners.first, weight, g, grad);
          if (upper >= begin && upper < end) lattice_add<D>(grid.n_channels, corners.first + half, weight + half, g, grad);
        });
      };
      if (begin == end) return;
      walk(begin > 0 ? begin - 1 : 0, end);
      if (begin == 0 && axes.wrap[D - 1] && end < n_layers) walk(n_layers - 1, n_layers);  // they end in layer 0
    });
  }
}

NF_END
