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
  std::int64_t at = fill ? args.offsets[ray] : 0;
  const std::int64_t end = fill ? args.offsets[ray + 1] : args.scene.max_samples;  // the grid may have changed
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

}  // namespace

void march_count(const MarchArgs& args, Stream stream) {
  const char* op = "march_count";
  check_cuda(op, cudaMemsetAsync(args.offsets, 0, sizeof(*args.offsets), stream));
  MarchArgs counting = args;
  counting.t_starts = nullptr;
  launch(op, stream, args.n_rays, march_kernel, counting);
  if (args.n_rays == 0) return;
  std::int64_t* counts = args.offsets + 1;
  std::size_t n_bytes = 0;
  check_cuda(op, cub::DeviceScan::InclusiveSum(nullptr, n_bytes, counts, counts, args.n_rays, stream));
  const DeviceScratch<unsigned char> scratch(op, stream, static_cast<std::int64_t>(n_bytes));
  check_cuda(op, cub::DeviceScan::InclusiveSum(scratch.data(), n_bytes, counts, counts, args.n_rays, stream));
}

void march_fill(const MarchArgs& args, Stream stream) {
  if (args.t_starts == nullptr) return;  // no samples, and so no memory for them
  launch("march_fill", stream, args.n_rays, march_kernel, args);
}

NF_END
