// Dense voxels on CUDA: one thread per point, all channels.
//
// Traffic: 2^n_dims vertices of n_channels numbers per point, from random places unless points are
// along rays; a vertex of 28 channels is 112 contiguous bytes, which its thread reads in order and
// the L1 cache keeps between reads.
// Grid gradients are atomic adds in whatever order threads arrive: their last bits differ from run to
// run. Everything else has one owner and repeats bit for bit.
//
// Not taken: channels across threads (reads in order, but the harmonics would cross threads); points
// sorted by cell, as the CPU does.
#include "common/cuda.cuh"
#include "ops/voxels/voxels.h"

NF_BEGIN
namespace {

// A point's cell: its sides and corners.
template <class N, int D, class T>
struct PointInGrid {
  LatticeSide<N> sides[D];
  LatticeCorners<D, N> corners;

  __device__ PointInGrid(const VoxelsArgs<T>& args, std::int64_t i) {
    const LatticeGrid& grid = args.shape.grid;
    for (int d = 0; d < D; ++d) {
      const auto cell = lattice_locate<T>(grid.resolution[d], grid.wrap[d], grid.interpolation, args.positions[i * D + d]);
      sides[d].set(cell, args.tangents == nullptr ? T(0) : args.tangents[i * D + d]);
    }
    corners.set(grid, sides);
  }
};

// sum over the corners of weight * number for one channel; with Jets its derivative.
template <class N, int D, class T>
__device__ T channel_of(const VoxelsArgs<T>& args, const PointInGrid<N, D, T>& point, int channel) {
  T sum = 0;
  NF_UNROLL
  for (int c = 0; c < (1 << D); ++c)
    sum += result_of(point.corners.weight[c]) * args.grid[point.corners.first[c] + channel];
  return sum;
}

// A row of `output` (forward), or of its derivative along the tangents (with Jets).
template <class N, int D, class T>
__device__ void write_row(const VoxelsArgs<T>& args, const PointInGrid<N, D, T>& point, std::int64_t i, T* output) {
  const int k = args.shape.n_harmonics;
  T* row = output + i * args.shape.n_output();
  if (k == 0) {
    for (int c = 0; c < args.shape.grid.n_channels; ++c) row[c] = channel_of(args, point, c);
    return;
  }
  T basis[kVoxelsMaxHarmonics];
  voxels_basis(args, i, basis);
  row[0] = channel_of(args, point, 0);
  for (int c = 0; c < 3; ++c) {
    T sum = 0;
    for (int j = 0; j < k; ++j) sum += channel_of(args, point, 1 + c * k + j) * basis[j];
    row[1 + c] = sum;
  }
}

// body(channel, gradient) for all channels of a point
template <class T, class Body>
__device__ void for_gradients(const VoxelsArgs<T>& args, std::int64_t i, Body body) {
  const int k = args.shape.n_harmonics;
  const T* row = args.grad_output + i * args.shape.n_output();
  if (k == 0) {
    for (int c = 0; c < args.shape.grid.n_channels; ++c) body(c, row[c]);
    return;
  }
  T basis[kVoxelsMaxHarmonics];
  voxels_basis(args, i, basis);
  body(0, row[0]);
  for (int c = 0; c < 3; ++c)
    for (int j = 0; j < k; ++j) body(1 + c * k + j, row[1 + c] * basis[j]);
}

template <class T, int D>
__global__ void forward_kernel(const __grid_constant__ VoxelsArgs<T> args) {
  const std::int64_t i = thread_index();
  if (i >= args.n) return;
  const PointInGrid<T, D, T> point(args, i);
  write_row<T, D, T>(args, point, i, args.output);
}

template <class N, int D, class T>
__global__ void scatter_kernel(const __grid_constant__ VoxelsArgs<T> args) {
  const std::int64_t i = thread_index();
  if (i >= args.n) return;
  const PointInGrid<N, D, T> point(args, i);
  for_gradients(args, i, [&](int channel, T gradient) {
    NF_UNROLL
    for (int c = 0; c < (1 << D); ++c)
      atomicAdd(args.grad_grid + point.corners.first[c] + channel, result_of(point.corners.weight[c]) * gradient);
  });
}

template <class N, int D, class T>
__global__ void positions_kernel(const __grid_constant__ VoxelsArgs<T> args) {
  const std::int64_t i = thread_index();
  if (i >= args.n) return;
  const PointInGrid<N, D, T> point(args, i);
  T product[1 << D] = {};
  for_gradients(args, i, [&](int channel, T gradient) {
    NF_UNROLL
    for (int c = 0; c < (1 << D); ++c) product[c] += gradient * args.grid[point.corners.first[c] + channel];
  });
  for (int d = 0; d < D; ++d) {
    T sum = 0;
    NF_UNROLL
    for (int c = 0; c < (1 << D); ++c) sum += product[c] * result_of(lattice_slope<D, N>(point.sides, c, d));
    args.grad_positions[i * D + d] = sum;
  }
  if constexpr (!std::is_same<N, T>::value) write_row<N, D, T>(args, point, i, args.grad_grad_output);
}

template <class T, int D>
void forward(const VoxelsArgs<T>& args, Stream stream) {
  launch("voxels_forward", stream, args.n, forward_kernel<T, D>, args);
}
template <class T, int D>
void backward_grid(const VoxelsArgs<T>& args, Stream stream) {
  launch("voxels_backward_grid", stream, args.n, scatter_kernel<T, D, T>, args);
}
template <class T, int D>
void backward_positions(const VoxelsArgs<T>& args, Stream stream) {
  launch("voxels_backward_positions", stream, args.n, positions_kernel<T, D, T>, args);
}
template <class T, int D>
void second(const VoxelsArgs<T>& args, Stream stream) {
  launch("voxels_second", stream, args.n, positions_kernel<Jet<T>, D, T>, args);
  if (args.grad_grid != nullptr) launch("voxels_second", stream, args.n, scatter_kernel<Jet<T>, D, T>, args);
}

#define NF_VOXELS_DISPATCH(function)                      \
  switch (args.shape.grid.n_dims) {                       \
    case 1: return function<T, 1>(args, stream);          \
    case 2: return function<T, 2>(args, stream);          \
    case 3: return function<T, 3>(args, stream);          \
    default: return function<T, 4>(args, stream);         \
  }

template <class T>
void dispatch_forward(const VoxelsArgs<T>& args, Stream stream) { NF_VOXELS_DISPATCH(forward) }
template <class T>
void dispatch_backward_grid(const VoxelsArgs<T>& args, Stream stream) { NF_VOXELS_DISPATCH(backward_grid) }
template <class T>
void dispatch_backward_positions(const VoxelsArgs<T>& args, Stream stream) { NF_VOXELS_DISPATCH(backward_positions) }
template <class T>
void dispatch_second(const VoxelsArgs<T>& args, Stream stream) { NF_VOXELS_DISPATCH(second) }

}  // namespace

void voxels_forward_f32(const VoxelsArgs<float>& args, Stream stream) { dispatch_forward(args, stream); }
void voxels_backward_grid_f32(const VoxelsArgs<float>& args, Stream stream) { dispatch_backward_grid(args, stream); }
void voxels_backward_positions_f32(const VoxelsArgs<float>& args, Stream stream) { dispatch_backward_positions(args, stream); }
void voxels_second_f32(const VoxelsArgs<float>& args, Stream stream) { dispatch_second(args, stream); }
void voxels_forward_f64(const VoxelsArgs<double>& args, Stream stream) { dispatch_forward(args, stream); }
void voxels_backward_grid_f64(const VoxelsArgs<double>& args, Stream stream) { dispatch_backward_grid(args, stream); }
void voxels_backward_positions_f64(const VoxelsArgs<double>& args, Stream stream) { dispatch_backward_positions(args, stream); }
void voxels_second_f64(const VoxelsArgs<double>& args, Stream stream) { dispatch_second(args, stream); }

NF_END
