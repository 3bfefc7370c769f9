// Loops over the points of one level; also used by csrc/fused.
#pragma once

#include "common/loops.h"
#include "common/pack.h"
#include "common/rows.h"
#include "ops/hash_grid/hash_grid.h"

NF_BEGIN

// F features of one entry as one register (a plain number for F = 1).
template <class T, int F>
struct Features {
  using type = Pack<T, F>;
  static NF_INLINE type load(const T* p) { return pack_load<T, F>(p); }
  static NF_INLINE void store(T* p, type x) { pack_store<T, F>(p, x); }
  static NF_INLINE T dot(type a, type b) {
    T sum = 0;
    NF_UNROLL
    for (int f = 0; f < F; ++f) sum += a[f] * b[f];
    return sum;
  }
};
template <class T>
struct Features<T, 1> {
  using type = T;
  static NF_INLINE type load(const T* p) { return *p; }
  static NF_INLINE void store(T* p, type x) { *p = x; }
  static NF_INLINE T dot(type a, type b) { return a * b; }
};

// Indices and weights of all corners for W points; with tangents also how fast weights change along
// them.
template <class L, int D>
struct Corners {
  static constexpr int W = LaneTraits<L>::width, count = 1 << D;
  alignas(64) std::uint32_t index[count][W];
  alignas(64) ScalarOf<L> weight[count][W];
  alignas(64) ScalarOf<L> change[count][W];

  NF_INLINE void compute(const HashGridLevel& level, GridInterpolation interpolation, const L x[D], const L* tangent) {
    const GridCell<D, L> cell = hash_grid_locate<D, L>(level, interpolation, x);
    NF_UNROLL
    for (int c = 0; c < count; ++c) {
      lane_store(index[c], hash_grid_index<D, L>(level, cell, c));
      lane_store(weight[c], hash_grid_weight<D, L>(cell, c));
    }
    if (tangent == nullptr) return;
    NF_UNROLL
    for (int c = 0; c < count; ++c) lane_store(change[c], hash_grid_weight_change<D, L>(cell, c, tangent));
  }
};

// Calls body(point, corners, lane) for the points [begin, end). The corners of the next W points are
// located and their entries of `table` prefetched while the present ones are worked on: the loads of
// a level that the nearest caches cannot hold then overlap (measured, random positions, 2^19 entries:
// 6.2 to 9.0 M points/s). A null table prefetches nothing: where a body skips entries that other
// threads write, their lines must not be fetched.
template <class T, int D, int F, class Body>
NF_INLINE void hash_grid_for_points(const HashGridShape& shape, const HashGridLevel& level, const T* positions,
                                    const T* tangents, std::int64_t begin, std::int64_t end, const T* table, Body&& body) {
  using L = typename RowLanes<T>::type;
  constexpr int W = Corners<L, D>::W;
  constexpr std::size_t kNear = 384 << 10;  // bytes that stay in the nearest caches by themselves
  const bool prefetch = table != nullptr && level.size * sizeof(T) * F > kNear;
  Corners<L, D> blocks[2];
  const auto locate = [&](std::int64_t first, Corners<L, D>& corners) {
    L x[D], tangent[D];
    load_rows<L>(positions, D, first, end, x);
    if (tangents != nullptr) load_rows<L>(tangents, D, first, end, tangent);
    corners.compute(level, shape.interpolation, x, tangents != nullptr ? tangent : nullptr);
  };
  if (begin < end) locate(begin, blocks[0]);
  int current = 0;
  for (std::int64_t first = begin; first < end; first += W, current ^= 1) {
    const Corners<L, D>&corners = blocks[current], &next = blocks[current ^ 1];
    const bool more = first + W < end;
    if (more) locate(first + W, blocks[current ^ 1]);
    const int n_points = end - first < W ? static_cast<int>(end - first) : W;
    for (int p = 0; p < n_points; ++p) {
      if (prefetch && more) {
        NF_UNROLL
        for (int c = 0; c < corners.count; ++c) NF_PREFETCH(table + std::size_t(next.index[c][p]) * F);
      }
      body(first + p, corners, p);
    }
  }
}

// Features of the points [begin, end) at one level; rows of the output are `row` numbers apart.
template <class T, int D, int F>
void hash_grid_encode_level(const HashGridShape& shape, int l, const T* positions, std::int64_t begin, std::int64_t end,
                            const T* NF_RESTRICT table, T* NF_RESTRICT output, std::int64_t row) {
  using Feature = Features<T, F>;
  const HashGridLevel& level = shape.levels[l];
  table += level.offset * F;
  output += l * F;
  hash_grid_for_points<T, D, F>(
      shape, level, positions, nullptr, begin, end, table, [&](std::int64_t point, const auto& corners, int p) {
        typename Feature::type sum{};
        NF_UNROLL
        for (int c = 0; c < corners.count; ++c)
          sum += corners.weight[c][p] * Feature::load(table + std::size_t(corners.index[c][p]) * F);
        Feature::store(output + point * row, sum);
      });
}

// Adds weight * gradient of the points [begin, end) to the entries [slab_begin, slab_end) of one
// level, in point order. `touched` (optional) marks blocks of 16 numbers that were added to.
template <class T, int D, int F, bool WholeLevel>
void hash_grid_scatter_level(const HashGridShape& shape, int l, const T* positions, std::int64_t begin, std::int64_t end,
                             const T* NF_RESTRICT grad_output, T* NF_RESTRICT grad_table, unsigned char* touched,
                             std::uint32_t slab_begin, std::uint32_t slab_end) {
  using Feature = Features<T, F>;
  const HashGridLevel& level = shape.levels[l];
  T* NF_RESTRICT grad = grad_table + level.offset * F;
  const std::int64_t row = shape.n_levels * F;
  hash_grid_for_points<T, D, F>(
      shape, level, positions, nullptr, begin, end, WholeLevel ? grad : nullptr, [&](std::int64_t point, const auto& corners, int p) {
        const typename Feature::type g = Feature::load(grad_output + point * row + l * F);
        NF_UNROLL
        for (int c = 0; c < corners.count; ++c) {
          const std::uint32_t index = corners.index[c][p];
          if (!WholeLevel && (index < slab_begin || index >= slab_end)) continue;
          T* entry = grad + std::size_t(index) * F;
          Feature::store(entry, Feature::load(entry) + corners.weight[c][p] * g);
          if (touched != nullptr)  // relaxed: two levels may share a block, and both write 1
            __atomic_store_n(touched + ((level.offset + index) * F >> 4), 1, __ATOMIC_RELAXED);
        }
      });
}

// How fast the features of the points [begin, end) at one level change along tangents [points, D].
template <class T, int D, int F>
void hash_grid_push_level(const HashGridShape& shape, int l, const T* positions, const T* tangents, std::int64_t begin,
                          std::int64_t end, const T* NF_RESTRICT table, T* NF_RESTRICT output, std::int64_t row) {
  using Feature = Features<T, F>;
  const HashGridLevel& level = shape.levels[l];
  table += level.offset * F;
  output += l * F;
  hash_grid_for_points<T, D, F>(
      shape, level, positions, tangents, begin, end, table, [&](std::int64_t point, const auto& corners, int p) {
        typename Feature::type sum{};
        NF_UNROLL
        for (int c = 0; c < corners.count; ++c)
          sum += corners.change[c][p] * Feature::load(table + std::size_t(corners.index[c][p]) * F);
        Feature::store(output + point * row, sum);
      });
}

// As `hash_grid_scatter_level`, of the features' gradient and of that of their change along tangents.
template <class T, int D, int F, bool WholeLevel>
void hash_grid_scatter_pushed_level(const HashGridShape& shape, int l, const T* positions, const T* tangents,
                                    std::int64_t n, const T* NF_RESTRICT grad_output, const T* NF_RESTRICT grad_change,
                                    std::int64_t row, T* NF_RESTRICT grad_table, unsigned char* touched,
                                    std::uint32_t slab_begin, std::uint32_t slab_end) {
  using Feature = Features<T, F>;
  const HashGridLevel& level = shape.levels[l];
  T* NF_RESTRICT grad = grad_table + level.offset * F;
  hash_grid_for_points<T, D, F>(
      shape, level, positions, tangents, 0, n, WholeLevel ? grad : nullptr,
      [&](std::int64_t point, const auto& corners, int p) {
        const typename Feature::type g = Feature::load(grad_output + point * row + l * F);
        const typename Feature::type h = Feature::load(grad_change + point * row + l * F);
        NF_UNROLL
        for (int c = 0; c < corners.count; ++c) {
          const std::uint32_t index = corners.index[c][p];
          if (!WholeLevel && (index < slab_begin || index >= slab_end)) continue;
          T* entry = grad + std::size_t(index) * F;
          Feature::store(entry, Feature::load(entry) + corners.weight[c][p] * g + corners.change[c][p] * h);
          __atomic_store_n(touched + ((level.offset + index) * F >> 4), 1, __ATOMIC_RELAXED);
        }
      });
}

// Adds to slopes [points, D] what the features' gradients of one level make of it.
template <class T, int D, int F>
void hash_grid_pull_level(const HashGridShape& shape, int l, const T* positions, std::int64_t begin, std::int64_t end,
                          const T* NF_RESTRICT table, const T* NF_RESTRICT gradient, std::int64_t row,
                          T* NF_RESTRICT slopes) {
  using L = typename RowLanes<T>::type;
  using Feature = Features<T, F>;
  constexpr int W = LaneTraits<L>::width, n_corners = 1 << D;
  const HashGridLevel& level = shape.levels[l];
  table += level.offset * F;
  gradient += l * F;
  alignas(64) std::uint32_t index[n_corners][W];
  alignas(64) T products[n_corners][W];
  for (std::int64_t first = begin; first < end; first += W) {
    const int n_points = end - first < W ? static_cast<int>(end - first) : W;
    L x[D], sum[D];
    load_rows<L>(positions, D, first, end, x);
    load_rows<L>(slopes, D, first, end, sum);
    const GridCell<D, L> cell = hash_grid_locate<D, L>(level, shape.interpolation, x);
    for (int c = 0; c < n_corners; ++c) lane_store(index[c], hash_grid_index<D, L>(level, cell, c));
    for (int p = 0; p < W; ++p) {  // the tail repeats the last point
      const std::int64_t point = p < n_points ? first + p : end - 1;
      const typename Feature::type g = Feature::load(gradient + point * row);
      NF_UNROLL
      for (int c = 0; c < n_corners; ++c)
        products[c][p] = Feature::dot(g, Feature::load(table + std::size_t(index[c][p]) * F));
    }
    for (int c = 0; c < n_corners; ++c) {
      const L product = lane_load<L>(products[c]);
      NF_UNROLL
      for (int d = 0; d < D; ++d) sum[d] = sum[d] + product * hash_grid_weight_gradient<D, L>(cell, c, d);
    }
    for (int d = 0; d < D; ++d) store_column<L>(slopes, D, first, end, d, sum[d]);
  }
}

// Calls f(level, slab_begin, slab_end, whole) for every (level, slab of entries), each owned by one task.
template <class F>
void hash_grid_for_slabs(const HashGridShape& shape, F&& f) {
  const int n_levels = shape.n_levels;
  const int n_slabs = num_threads() <= n_levels ? 1 : (num_threads() + n_levels - 1) / n_levels;
  parallel_for(static_cast<std::int64_t>(n_levels) * n_slabs, [&](std::int64_t task) {
    const int l = n_levels - 1 - static_cast<int>(task / n_slabs);  // the slow fine levels first
    const std::uint64_t slab = task % n_slabs, size = shape.levels[l].size;
    f(l, static_cast<std::uint32_t>(size * slab / n_slabs), static_cast<std::uint32_t>(size * (slab + 1) / n_slabs),
      n_slabs == 1);
  });
}

NF_END
