// The hash grid on CUDA.
//
// Features and table gradients: one thread per (point, level), the level in blockIdx.y, so that a
// wave of blocks works on one level and its entries stay in L2. Position gradients and the second
// derivative: one thread per point, all levels in order.
// Traffic: per (point, level) 2^n_dims entries of n_features numbers from random places. Coarse
// levels hit L1 and L2; each entry of a fine level is a 32-byte sector of its own, and those sectors
// are what the operation costs. Positions are read once per level, from L2.
// Table gradients are atomic adds in whatever order threads arrive: their last bits differ from run
// to run. Everything else has one owner and repeats bit for bit.
//
// Not taken: features of one entry as one vector load or atomic (fewer instructions, the same
// sectors; needs alignment that sub-tensors lack); sorting points by cell so that adds meet in
// registers, which would also repeat bits, for one sort per level; half-precision atomics.
#include "common/cuda.cuh"
#include "ops/hash_grid/hash_grid.h"

NF_BEGIN
namespace {

// A point in a level: its cell, and the first feature of each corner's entry in the table.
template <class T, int D>
struct PointInLevel {
  static constexpr int n_corners = 1 << D;
  GridCell<D, T> cell;
  std::int64_t entry[n_corners];

  __device__ PointInLevel(const HashGridArgs<T>& args, int l, std::int64_t i) {
    const HashGridLevel& level = args.shape.levels[l];
    T x[D];
    for (int d = 0; d < D; ++d) x[d] = args.positions[i * D + d];
    cell = hash_grid_locate<D, T>(level, args.shape.interpolation, x);
    NF_UNROLL
    for (int c = 0; c < n_corners; ++c)
      entry[c] = (level.offset + hash_grid_index<D, T>(level, cell, c)) * args.shape.n_features;
  }
};

// Where the features of point i at level l are in a row-major [n, n_levels * n_features].
template <class T>
__device__ std::int64_t feature_at(const HashGridArgs<T>& args, std::int64_t i, int l) {
  return (i * args.shape.n_levels + l) * args.shape.n_features;
}

template <class T, int D>
__global__ void forward_kernel(const __grid_constant__ HashGridArgs<T> args) {
  const std::int64_t i = thread_index();
  if (i >= args.n) return;
  const int l = static_cast<int>(blockIdx.y);
  const PointInLevel<T, D> point(args, l, i);
  T weight[point.n_corners];
  NF_UNROLL
  for (int c = 0; c < point.n_corners; ++c) weight[c] = hash_grid_weight<D, T>(point.cell, c);
  T* output = args.output + feature_at(args, i, l);
  for (int f = 0; f < args.shape.n_features; ++f) {
    T sum = 0;
    NF_UNROLL
    for (int c = 0; c < point.n_corners; ++c) sum += weight[c] * args.table[point.entry[c] + f];
    output[f] = sum;
  }
}

// d weight / d position of a corner, along the point's tangent
template <class T, int D>
__device__ T weight_along(const HashGridArgs<T>& args, const GridCell<D, T>& cell, int corner, std::int64_t i) {
  T value = 0;
  NF_UNROLL
  for (int d = 0; d < D; ++d) value += args.tangents[i * D + d] * hash_grid_weight_gradient<D, T>(cell, corner, d);
  return value;
}

// Adds weight * grad_output to the table; `Second`: weight is its derivative along the tangents.
template <class T, int D, bool Second>
__global__ void scatter_kernel(const __grid_constant__ HashGridArgs<T> args) {
  const std::int64_t i = thread_index();
  if (i >= args.n) return;
  const int l = static_cast<int>(blockIdx.y);
  const PointInLevel<T, D> point(args, l, i);
  const T* g = args.grad_output + feature_at(args, i, l);
  NF_UNROLL
  for (int c = 0; c < point.n_corners; ++c) {
    const T weight = Second ? weight_along<T, D>(args, point.cell, c, i) : hash_grid_weight<D, T>(point.cell, c);
    for (int f = 0; f < args.shape.n_features; ++f) atomicAdd(args.grad_table + point.entry[c] + f, weight * g[f]);
    // Many threads may write the same 1, and an entry lies in one block of 16 numbers.
    if (args.touched != nullptr) args.touched[point.entry[c] >> 4] = 1;
  }
}

template <class T, int D>
__global__ void backward_positions_kernel(const __grid_constant__ HashGridArgs<T> args) {
  const std::int64_t i = thread_index();
  if (i >= args.n) return;
  T sum[D] = {};
  for (int l = 0; l < args.shape.n_levels; ++l) {
    const PointInLevel<T, D> point(args, l, i);
    const T* g = args.grad_output + feature_at(args, i, l);
    NF_UNROLL
    for (int c = 0; c < point.n_corners; ++c) {
      T product = 0;
      for (int f = 0; f < args.shape.n_features; ++f) product += g[f] * args.table[point.entry[c] + f];
      NF_UNROLL
      for (int d = 0; d < D; ++d) sum[d] += product * hash_grid_weight_gradient<D, T>(point.cell, c, d);
    }
  }
  for (int d = 0; d < D; ++d) args.grad_positions[i * D + d] = sum[d];
}

template <class T, int D>
__global__ void second_kernel(const __grid_constant__ HashGridArgs<T> args) {
  const std::int64_t i = thread_index();
  if (i >= args.n) return;
  T sum[D] = {};
  for (int l = 0; l < args.shape.n_levels; ++l) {
    const PointInLevel<T, D> point(args, l, i);
    const T* g = args.grad_output + feature_at(args, i, l);
    T* along = args.grad_grad_output + feature_at(args, i, l);
    for (int f = 0; f < args.shape.n_features; ++f) along[f] = 0;
    NF_UNROLL
    for (int c = 0; c < point.n_corners; ++c) {
      const T value = weight_along<T, D>(args, point.cell, c, i);
      T product = 0;
      for (int f = 0; f < args.shape.n_features; ++f) {
        const T feature = args.table[point.entry[c] + f];
        product += g[f] * feature;
        along[f] += value * feature;
      }
      NF_UNROLL
      for (int d = 0; d < D; ++d) {
        NF_UNROLL
        for (int e = 0; e < D; ++e)
          sum[d] += product * args.tangents[i * D + e] * hash_grid_weight_hessian<D, T>(point.cell, c, d, e);
      }
    }
  }
  for (int d = 0; d < D; ++d) args.grad_positions[i * D + d] = sum[d];
}

template <class T, int D>
void forward(const HashGridArgs<T>& args, Stream stream) {
  launch_rows("hash_grid_forward", stream, args.n, args.shape.n_levels, forward_kernel<T, D>, args);
}
template <class T, int D>
void backward_table(const HashGridArgs<T>& args, Stream stream) {
  launch_rows("hash_grid_backward_table", stream, args.n, args.shape.n_levels, scatter_kernel<T, D, false>, args);
}
template <class T, int D>
void backward_positions(const HashGridArgs<T>& args, Stream stream) {
  launch("hash_grid_backward_positions", stream, args.n, backward_positions_kernel<T, D>, args);
}
template <class T, int D>
void second(const HashGridArgs<T>& args, Stream stream) {
  launch("hash_grid_second", stream, args.n, second_kernel<T, D>, args);
  if (args.grad_table == nullptr) return;
  launch_rows("hash_grid_second", stream, args.n, args.shape.n_levels, scatter_kernel<T, D, true>, args);
}

#define NF_GRID_DISPATCH(function)                       \
  switch (args.shape.n_dims) {                           \
    case 2: return function<T, 2>(args, stream);         \
    case 3: return function<T, 3>(args, stream);         \
    default: return function<T, 4>(args, stream);        \
  }

template <class T>
void dispatch_forward(const HashGridArgs<T>& args, Stream stream) { NF_GRID_DISPATCH(forward) }
template <class T>
void dispatch_backward_table(const HashGridArgs<T>& args, Stream stream) { NF_GRID_DISPATCH(backward_table) }
template <class T>
void dispatch_backward_positions(const HashGridArgs<T>& args, Stream stream) { NF_GRID_DISPATCH(backward_positions) }
template <class T>
void dispatch_second(const HashGridArgs<T>& args, Stream stream) { NF_GRID_DISPATCH(second) }

}  // namespace

void hash_grid_forward_f32(const HashGridArgs<float>& args, Stream stream) { dispatch_forward(args, stream); }
void hash_grid_backward_table_f32(const HashGridArgs<float>& args, Stream stream) { dispatch_backward_table(args, stream); }
void hash_grid_backward_positions_f32(const HashGridArgs<float>& args, Stream stream) { dispatch_backward_positions(args, stream); }
void hash_grid_second_f32(const HashGridArgs<float>& args, Stream stream) { dispatch_second(args, stream); }
void hash_grid_forward_f64(const HashGridArgs<double>& args, Stream stream) { dispatch_forward(args, stream); }
void hash_grid_backward_table_f64(const HashGridArgs<double>& args, Stream stream) { dispatch_backward_table(args, stream); }
void hash_grid_backward_positions_f64(const HashGridArgs<double>& args, Stream stream) { dispatch_backward_positions(args, stream); }
void hash_grid_second_f64(const HashGridArgs<double>& args, Stream stream) { dispatch_second(args, stream); }

NF_END
