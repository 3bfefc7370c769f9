#include "ops/march/march.h"

#include "common/loops.h"

#ifndef NF_FAST_PATH  // each ray branches its own way, so there is nothing for lanes to do
NF_BEGIN
namespace {

// Calls emit(ray, t_start, t_end) for each sample of the rays in order.
template <class Emit>
void march_rays(const MarchArgs& args, std::int64_t begin, std::int64_t end, Emit&& emit) {
  const StepLattice lattice(args.scene);
  for (std::int64_t ray = begin; ray < end; ++ray) {
    const float jitter = args.jitter != nullptr ? args.jitter[ray] : 0.5f;
    RayMarcher marcher(args.scene, lattice, args.origins + ray * 3, args.directions + ray * 3, jitter);
    for (float t0, t1; marcher.next(args.scene, lattice, &t0, &t1);) emit(ray, t0, t1);
  }
}

}  // namespace

void march_count(const MarchArgs& args) {
  parallel_chunks(args.n_rays, 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t ray = begin; ray < end; ++ray) args.offsets[ray + 1] = 0;
    march_rays(args, begin, end, [&](std::int64_t ray, float, float) { ++args.offsets[ray + 1]; });
  });
  args.offsets[0] = 0;
  for (std::int64_t ray = 0; ray < args.n_rays; ++ray) args.offsets[ray + 1] += args.offsets[ray];
}

void march_fill(const MarchArgs& args) {
  parallel_chunks(args.n_rays, 256, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t at = args.offsets[begin];
    march_rays(args, begin, end, [&](std::int64_t ray, float t0, float t1) {
      if (at == args.offsets[ray + 1]) return;  // the grid has changed since the count
      args.t_starts[at] = t0;
      args.t_ends[at] = t1;
      ++at;
    });
  });
}

NF_END
#endif
