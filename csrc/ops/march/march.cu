// Marching on CUDA: one thread per ray. Counts, their running sum by CUB, then the samples.
//
// Traffic: a probe is one 64-bit word of the grid, mostly from L2 (128^3 cells are 256 KB); counting
// writes 8 bytes per ray, filling 8 bytes per sample, in runs that belong to one ray. Rays of a warp
// take different ways and wait for the longest of them. No atomics: results repeat bit for bit.
// One kernel makes both passes, so that both see the same machine arithmetic and agree on every sample.
//
// Not taken: one pass that reserves room with an atomic counter. It saves half the probes, but the
// order of the rays' samples would change from run to run, and `offsets` would not be increasing.
#include <cub/device/device_scan.cuh>

#include "common/cuda.cuh"
#include "ops/march/march.h"

NF_BEGIN
namespace {

// Counts the samples of a ray into offsets[ray + 1], or, where t_starts is given, stores them.
__global__ void march_kernel(const __grid_constant__ MarchArgs args) {
  const std::int64_t ray = thread_index();
  if (ray >= args.n_rays) return;
  const StepLattice lattice(args.scene);
  const float jitter = args.jitter != nullptr ? args.jitter[ray] : 0.5f;
  RayMarcher marcher(args.scene, lattice, args.origins + ray * 3, args.directions + ray * 3, jitter);
  const bool fill = args.t_starts != nullptr;
  const PackedRange own = fill ? packed_range(args.offsets, ray, args.n) : PackedRange{0, args.scene.max_samples};
  std::int64_t at = own.begin;
  const std::int64_t end = own.begin + own.n;  // the grid may have changed since the count
  float t0, t1;
  while (at < end && marcher.next(args.scene, lattice, &t0, &t1)) {
    if (fill) {
      args.t_starts[at] = t0;
      args.t_ends[at] = t1;
    }
    ++at;
  }
  if (!fill) args.offsets[ray + 1] = at;
}

void running_sums(const char* op, Stream stream, std::int64_t* counts, std::int64_t n) {
  if (n == 0) return;
  std::size_t n_bytes = 0;
  check_cuda(op, cub::DeviceScan::InclusiveSum(nullptr, n_bytes, counts, counts, n, stream));
  void* room = scratch<unsigned char>(static_cast<std::int64_t>(n_bytes));
  check_cuda(op, cub::DeviceScan::InclusiveSum(room, n_bytes, counts, counts, n, stream));
}

// ---- into a buffer -------------------------------------------------------------------------------

// visit(t0, t1) for each step of a ray in its grid, which does not exist where its number is wrong.
template <class Visit>
__device__ void march_steps(const MarchIntoArgs& args, std::int64_t ray, Visit&& visit) {
  const std::int64_t grid = args.grids != nullptr ? args.grids[ray] : 0;
  if (grid < 0 || grid >= args.n_grids) return;
  MarchScene scene = args.scene;
  scene.words += grid * (occupancy_cells(scene.grid) / 64);
  const StepLattice lattice(scene);
  RayMarcher marcher(scene, lattice, args.samples.origins + ray * 3, args.samples.directions + ray * 3, args.samples.jitter[ray]);
  float t0, t1;
  while (marcher.next(scene, lattice, &t0, &t1) && visit(t0, t1)) {
  }
}

// Counts the samples of a ray into offsets[ray + 1], or stores them: as above, by one kernel.
__global__ void into_kernel(const __grid_constant__ MarchIntoArgs args, bool fill) {
  const std::int64_t ray = thread_index();
  const RaySamples& rays = args.samples;
  if (ray >= rays.n_rays) return;
  std::int64_t at = fill ? rays.offsets[ray] : 0;
  const std::int64_t end = fill ? rays.offsets[ray + 1] : args.scene.max_samples;
  if (at == end) return;
  march_steps(args, ray, [&](float t0, float t1) {
    if (fill) {
      rays.t_starts[at] = t0;
      rays.t_ends[at] = t1;
      march_position(args.scene, rays.origins + ray * 3, rays.directions + ray * 3, t0, t1, rays.positions + at * 3);
    }
    return ++at < end;
  });
  if (!fill) rays.offsets[ray + 1] = at;
}

// The rays that fit are the first ones, since offsets grow: how many they are, by bisection.
__global__ void used_kernel(const __grid_constant__ MarchIntoArgs args) {
  if (thread_index() != 0) return;
  const RaySamples& rays = args.samples;
  std::int64_t low = 0, high = rays.n_rays;  // `low` rays fit, more than `high` do not
  while (low < high) {
    const std::int64_t middle = high - (high - low) / 2;
    if (rays.offsets[middle] <= rays.capacity) low = middle;
    else high = middle - 1;
  }
  args.used[0] = low;
  args.used[1] = rays.offsets[low];
}

__global__ void cut_kernel(const __grid_constant__ MarchIntoArgs args) {
  const std::int64_t ray = thread_index();
  if (ray < args.samples.n_rays && ray >= args.used[0]) args.samples.offsets[ray + 1] = args.used[1];
}

}  // namespace

void march_count(const MarchArgs& args, Stream stream) {
  const char* op = "march_count";
  check_cuda(op, cudaMemsetAsync(args.offsets, 0, sizeof(*args.offsets), stream));
  MarchArgs counting = args;
  counting.t_starts = nullptr;
  launch(op, stream, args.n_rays, march_kernel, counting);
  running_sums(op, stream, args.offsets + 1, args.n_rays);
}

void march_fill(const MarchArgs& args, Stream stream) {
  if (args.t_starts == nullptr) return;  // no samples, and so no memory for them
  launch("march_fill", stream, args.n_rays, march_kernel, args);
}

void march_into(const MarchIntoArgs& args, Stream stream) {
  const char* op = "march_into";
  check_cuda(op, cudaMemsetAsync(args.samples.offsets, 0, sizeof(*args.samples.offsets), stream));
  launch(op, stream, args.samples.n_rays, into_kernel, args, false);
  running_sums(op, stream, args.samples.offsets + 1, args.samples.n_rays);
  launch_blocks(op, stream, 1, 1, 0, used_kernel, args);
  launch(op, stream, args.samples.n_rays, cut_kernel, args);
  launch(op, stream, args.samples.n_rays, into_kernel, args, true);
}

NF_END
