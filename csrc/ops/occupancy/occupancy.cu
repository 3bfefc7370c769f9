// The occupancy grid on CUDA.
//
// Points and updates: one thread per listed cell, bound by the scattered read or write of its value.
// Words: one thread per cell; a warp's votes are one half of a 64-bit word, so values are read in
// order and once. Folding a cascade into the next: one thread per cell of the inner cube, 8 bits read.
// The mean is added in the CPU's order, blocks of 4096 numbers through shared memory and then their
// sums, so that both devices find the same threshold and the same words.
// The only atomics are bitwise ors: results repeat bit for bit.
//
// Not taken: a tree of partial sums for the mean. It would take microseconds instead of a fraction of
// a millisecond, once per update of the grid, and the words would differ between devices.
#include "common/cuda.cuh"
#include "common/philox.h"
#include "ops/occupancy/occupancy.h"

NF_BEGIN
namespace {

constexpr int kMeanBlock = 4096;

// The host has not looked at the list.
__device__ bool exists(const OccupancyArgs& args, std::int64_t cell) { return cell >= 0 && cell < occupancy_cells(args.shape); }

__global__ void points_kernel(const __grid_constant__ OccupancyArgs args) {
  const std::int64_t i = thread_index();
  if (i >= args.n || !exists(args, args.cells[i])) return;
  float corner[3], side;
  occupancy_corner(args.shape, args.cells[i], corner, &side);
  const Philox4 random = philox(args.seed, args.stream, static_cast<std::uint64_t>(args.cells[i]));
  for (int d = 0; d < 3; ++d) args.positions[i * 3 + d] = corner[d] + side * uniform_float(random.v[d]);
}

__global__ void update_kernel(const __grid_constant__ OccupancyArgs args) {
  const std::int64_t i = thread_index();
  if (i >= args.n || !exists(args, args.cells[i])) return;
  float& value = args.values[args.cells[i]];
  if (value < 0) return;
  const float decayed = args.decay * value;
  value = args.fresh[i] > decayed ? args.fresh[i] : decayed;
}

// Sums max(value, 0) over a block of kMeanBlock cells, in order.
__global__ void block_sums_kernel(const float* values, std::int64_t n, float* sums) {
  __shared__ float block[kMeanBlock];
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * kMeanBlock;
  for (int i = static_cast<int>(threadIdx.x); i < kMeanBlock; i += kBlockThreads)
    block[i] = begin + i < n && values[begin + i] > 0 ? values[begin + i] : 0;
  __syncthreads();
  if (threadIdx.x != 0) return;
  float sum = 0;
  for (int i = 0; i < kMeanBlock; ++i) sum += block[i];
  sums[blockIdx.x] = sum;
}

// *result = min(threshold, mean)
__global__ void threshold_kernel(const float* sums, std::int64_t n_sums, std::int64_t n, float threshold, float* result) {
  if (thread_index() != 0) return;
  double sum = 0;
  for (std::int64_t i = 0; i < n_sums; ++i) sum += sums[i];
  const float mean = static_cast<float>(sum / static_cast<double>(n));
  *result = mean < threshold ? mean : threshold;
}

// The number of cells is a multiple of 64, so no warp is cut.
__global__ void words_kernel(const __grid_constant__ OccupancyArgs args, std::int64_t n_cells, const float* threshold) {
  const std::int64_t cell = thread_index();
  if (cell >= n_cells) return;
  const unsigned votes = __ballot_sync(0xffffffffu, args.values[cell] > *threshold);
  if (cell % 32 == 0) reinterpret_cast<unsigned*>(args.words)[cell / 32] = votes;
}

// Marks the cells of a cascade's inner cube, the whole of the cascade below, where any of its 8 is marked.
__global__ void fold_kernel(const __grid_constant__ OccupancyArgs args, int cascade) {
  const int n = args.shape.resolution, half = n / 2, quarter = n / 4;
  const std::int64_t i = thread_index();
  if (i >= static_cast<std::int64_t>(half) * half * half) return;
  const int ix = static_cast<int>(i % half), iy = static_cast<int>(i / half % half), iz = static_cast<int>(i / half / half);
  bool any = false;
  for (int corner = 0; corner < 8; ++corner) {
    const int fx = ix * 2 + (corner & 1), fy = iy * 2 + (corner >> 1 & 1), fz = iz * 2 + (corner >> 2);
    const std::int64_t block = occupancy_block(args.shape, cascade - 1, fx / 4, fy / 4, fz / 4);
    any = any || (args.words[block] >> occupancy_bit(fx, fy, fz) & 1) != 0;
  }
  if (!any) return;
  const int x = ix + quarter, y = iy + quarter, z = iz + quarter;
  std::uint64_t* word = args.words + occupancy_block(args.shape, cascade, x / 4, y / 4, z / 4);
  atomicOr(reinterpret_cast<unsigned long long*>(word), 1ull << occupancy_bit(x, y, z));
}

}  // namespace

void occupancy_points(const OccupancyArgs& args, Stream stream) {
  launch("occupancy_points", stream, args.n, points_kernel, args);
}

void occupancy_update(const OccupancyArgs& args, Stream stream) {
  launch("occupancy_update", stream, args.n, update_kernel, args);
}

void occupancy_words(const OccupancyArgs& args, Stream stream) {
  const char* op = "occupancy_words";
  const std::int64_t n_cells = occupancy_cells(args.shape), n_inner = occupancy_cells({args.shape.resolution, 1});
  const std::int64_t n_sums = (n_inner + kMeanBlock - 1) / kMeanBlock;
  float *sums = scratch<float>(n_sums + 1), *threshold = sums + n_sums;
  launch_blocks(op, stream, n_sums, 1, 0, block_sums_kernel, args.values, n_inner, sums);
  launch_blocks(op, stream, 1, 1, 0, threshold_kernel, sums, n_sums, n_inner, args.threshold, threshold);
  launch(op, stream, n_cells, words_kernel, args, n_cells, threshold);
  const std::int64_t half = args.shape.resolution / 2;
  for (int cascade = 1; cascade < args.shape.n_cascades; ++cascade)
    launch(op, stream, half * half * half, fold_kernel, args, cascade);
}

NF_END
