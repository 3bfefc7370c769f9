// CPU loops of the hash grid. Indices and weights are computed for a register of points at a
// time; a corner's features are then one load per point, because processors gather no faster than
// they load. Table gradients are owned by (level, slab of entries), so that sums are made in point
// order whatever the number of threads.
#include "ops/hash_grid/hash_grid.h"

#include "ops/hash_grid/tile.h"

NF_BEGIN
namespace {

// A level is walked for many points at once, so that its entries are met again while the last cache
// still has them; tasks within it are small enough for many threads.
constexpr std::int64_t kChunk = 8192, kBatch = 16 * kChunk;

template <class T, int D, int F>
void forward(const HashGridArgs<T>& args) {
  const int n_levels = args.shape.n_levels;
  for (std::int64_t batch = 0; batch < args.n; batch += kBatch) {
    const std::int64_t last = batch + kBatch < args.n ? batch + kBatch : args.n;
    const std::int64_t n_chunks = (last - batch + kChunk - 1) / kChunk;
    parallel_for(n_levels * n_chunks, [&](std::int64_t task) {
      const std::int64_t begin = batch + task % n_chunks * kChunk, end = begin + kChunk < last ? begin + kChunk : last;
      hash_grid_encode_level<T, D, F>(args.shape, static_cast<int>(task / n_chunks), args.positions, begin, end,
                                      args.table, args.output, n_levels * F);
    });
  }
}

template <class T, int D, int F>
void backward_table(const HashGridArgs<T>& args) {
  hash_grid_for_slabs(args.shape, [&](int l, std::uint32_t begin, std::uint32_t end, bool whole) {
    const auto scatter = whole ? hash_grid_scatter_level<T, D, F, true> : hash_grid_scatter_level<T, D, F, false>;
    scatter(args.shape, l, args.positions, 0, args.n, args.grad_output, args.grad_table, args.touched, begin, end);
  });
}

// grad_positions, and with tangents also what depends on them (`Second`): see hash_grid_second.
template <class T, int D, int F, bool Second>
void positions_of_chunk(const HashGridArgs<T>& args, std::int64_t begin, std::int64_t end) {
  using L = typename RowLanes<T>::type;
  using Feature = Features<T, F>;
  constexpr int W = LaneTraits<L>::width, n_corners = 1 << D;
  const std::int64_t row = args.shape.n_levels * F;
  alignas(64) std::uint32_t index[n_corners][W];
  alignas(64) T products[n_corners][W], values[n_corners][W];
  for (std::int64_t first = begin; first < end; first += W) {
    const int n_points = end - first < W ? static_cast<int>(end - first) : W;
    L x[D], tangent[D], sum[D];
    load_rows<L>(args.positions, D, first, end, x);
    if (Second) load_rows<L>(args.tangents, D, first, end, tangent);
    for (int d = 0; d < D; ++d) sum[d] = broadcast<L>(0);
    for (int l = 0; l < args.shape.n_levels; ++l) {
      const HashGridLevel& level = args.shape.levels[l];
      const T* table = args.table + level.offset * F;
      const GridCell<D, L> cell = hash_grid_locate<D, L>(level, args.shape.interpolation, x);
      for (int c = 0; c < n_corners; ++c) {
        lane_store(index[c], hash_grid_index<D, L>(level, cell, c));
        if (!Second) continue;
        L value = broadcast<L>(0);
        for (int d = 0; d < D; ++d) value = value + tangent[d] * hash_grid_weight_gradient<D, L>(cell, c, d);
        lane_store(values[c], value);
      }
      for (int p = 0; p < W; ++p) {  // the tail repeats the last point
        const std::int64_t point = p < n_points ? first + p : end - 1;
        const typename Feature::type g = Feature::load(args.grad_output + point * row + l * F);
        typename Feature::type along{};
        for (int c = 0; c < n_corners; ++c) {
          const typename Feature::type entry = Feature::load(table + std::size_t(index[c][p]) * F);
          products[c][p] = Feature::dot(g, entry);
          if (Second) along += values[c][p] * entry;
        }
        if (Second && p < n_points) Feature::store(args.grad_grad_output + point * row + l * F, along);
      }
      for (int c = 0; c < n_corners; ++c) {
        const L product = lane_load<L>(products[c]);
        for (int d = 0; d < D; ++d) {
          if (!Second) {
            sum[d] = sum[d] + product * hash_grid_weight_gradient<D, L>(cell, c, d);
          } else {
            for (int e = 0; e < D; ++e)
              sum[d] = sum[d] + product * tangent[e] * hash_grid_weight_hessian<D, L>(cell, c, d, e);
          }
        }
      }
    }
    for (int d = 0; d < D; ++d) store_column<L>(args.grad_positions, D, first, end, d, sum[d]);
  }
}

template <class T, int D, int F>
void backward_positions(const HashGridArgs<T>& args) {
  parallel_chunks(args.n, 2048, [&](std::int64_t begin, std::int64_t end) {
    positions_of_chunk<T, D, F, false>(args, begin, end);
  });
}

// Scatters sum_d tangent_d d(weight)/dx_d times grad_output: the table's share of the second derivative.
template <class T, int D, int F>
void second_table_level(const HashGridArgs<T>& args, int l) {
  const HashGridLevel& level = args.shape.levels[l];
  T* grad = args.grad_table + level.offset * F;
  for (std::int64_t i = 0; i < args.n; ++i) {
    const GridCell<D, T> cell = hash_grid_locate<D, T>(level, args.shape.interpolation, args.positions + i * D);
    const T* g = args.grad_output + (i * args.shape.n_levels + l) * F;
    for (int c = 0; c < (1 << D); ++c) {
      T value = 0;
      for (int d = 0; d < D; ++d) value += args.tangents[i * D + d] * hash_grid_weight_gradient<D, T>(cell, c, d);
      T* entry = grad + std::size_t(hash_grid_index<D, T>(level, cell, c)) * F;
      for (int f = 0; f < F; ++f) entry[f] += value * g[f];
    }
  }
}

template <class T, int D, int F>
void second(const HashGridArgs<T>& args) {
  parallel_chunks(args.n, 2048, [&](std::int64_t begin, std::int64_t end) {
    positions_of_chunk<T, D, F, true>(args, begin, end);
  });
  if (args.grad_table == nullptr) return;
  parallel_for(args.shape.n_levels, [&](std::int64_t l) { second_table_level<T, D, F>(args, static_cast<int>(l)); });
}

#define NF_GRID_FEATURES(function, D)                         \
  switch (args.shape.n_features) {                            \
    case 1: return function<T, D, 1>(args);                   \
    case 2: return function<T, D, 2>(args);                   \
    case 4: return function<T, D, 4>(args);                   \
    default: return function<T, D, 8>(args);                  \
  }
#define NF_GRID_DISPATCH(function)                            \
  if (args.n == 0) return;                                    \
  switch (args.shape.n_dims) {                                \
    case 2: NF_GRID_FEATURES(function, 2)                     \
    case 3: NF_GRID_FEATURES(function, 3)                     \
    default: NF_GRID_FEATURES(function, 4)                    \
  }

template <class T>
void dispatch_forward(const HashGridArgs<T>& args) { NF_GRID_DISPATCH(forward) }
template <class T>
void dispatch_backward_table(const HashGridArgs<T>& args) { NF_GRID_DISPATCH(backward_table) }
template <class T>
void dispatch_backward_positions(const HashGridArgs<T>& args) { NF_GRID_DISPATCH(backward_positions) }
template <class T>
void dispatch_second(const HashGridArgs<T>& args) { NF_GRID_DISPATCH(second) }

}  // namespace

void hash_grid_forward_f32(const HashGridArgs<float>& args) { dispatch_forward(args); }
void hash_grid_backward_table_f32(const HashGridArgs<float>& args) { dispatch_backward_table(args); }
void hash_grid_backward_positions_f32(const HashGridArgs<float>& args) { dispatch_backward_positions(args); }
void hash_grid_second_f32(const HashGridArgs<float>& args) { dispatch_second(args); }
#ifndef NF_FAST_PATH
void hash_grid_forward_f64(const HashGridArgs<double>& args) { dispatch_forward(args); }
void hash_grid_backward_table_f64(const HashGridArgs<double>& args) { dispatch_backward_table(args); }
void hash_grid_backward_positions_f64(const HashGridArgs<double>& args) { dispatch_backward_positions(args); }
void hash_grid_second_f64(const HashGridArgs<double>& args) { dispatch_second(args); }
#endif

NF_END
