// Marches a batch of rays once: each task keeps its samples until all counts are known.
#include <cstdlib>

#include "common/loops.h"
#include "fused/coarse.h"

NF_BEGIN
namespace {

constexpr std::int64_t kRays = 128;  // per task

struct Ends {
  float t0, t1;
};

// A growing array; std::vector would be shared between instruction sets by the linker.
class EndList {
 public:
  EndList() = default;
  EndList(const EndList&) = delete;
  EndList& operator=(const EndList&) = delete;
  ~EndList() { std::free(data_); }
  void push(Ends ends) {
    if (size_ == capacity_) {
      capacity_ = capacity_ == 0 ? 1024 : capacity_ * 2;
      data_ = static_cast<Ends*>(std::realloc(data_, sizeof(Ends) * static_cast<std::size_t>(capacity_)));
    }
    data_[size_++] = ends;
  }
  const Ends& operator[](std::int64_t i) const { return data_[i]; }

 private:
  Ends* data_ = nullptr;
  std::int64_t size_ = 0, capacity_ = 0;
};

void march_task(const MarchIntoArgs& args, const CoarseScene& coarse, const StepLattice& lattice, std::int64_t begin,
                std::int64_t end, EndList& list) {
  const RaySamples& rays = args.samples;
  MarchScene scene = coarse.scene;
  for (std::int64_t ray = begin; ray < end; ++ray) {
    if (args.grids != nullptr) scene = coarse.of_grid(args.grids[ray]);
    RayMarcher marcher(scene, lattice, rays.origins + ray * 3, rays.directions + ray * 3, rays.jitter[ray]);
    std::int64_t count = 0;
    for (Ends ends; marcher.next(scene, lattice, &ends.t0, &ends.t1); ++count) list.push(ends);
    rays.offsets[ray + 1] = count;
  }
}

// Turns counts into offsets; the first ray that would pass the capacity ends the batch.
std::int64_t accumulate(const RaySamples& rays) {
  rays.offsets[0] = 0;
  std::int64_t used = rays.n_rays;
  for (std::int64_t ray = 0; ray < rays.n_rays; ++ray) {
    const std::int64_t count = rays.offsets[ray + 1];
    if (ray < used && rays.offsets[ray] + count > rays.capacity) used = ray;
    rays.offsets[ray + 1] = rays.offsets[ray] + (ray < used ? count : 0);
  }
  return used;
}

void write_task(const MarchIntoArgs& args, std::int64_t begin, std::int64_t end, const EndList& list) {
  const RaySamples& rays = args.samples;
  for (std::int64_t ray = begin; ray < end; ++ray) {
    const float *o = rays.origins + ray * 3, *d = rays.directions + ray * 3;
    for (std::int64_t at = rays.offsets[ray]; at < rays.offsets[ray + 1]; ++at) {
      const Ends ends = list[at - rays.offsets[begin]];
      rays.t_starts[at] = ends.t0;
      rays.t_ends[at] = ends.t1;
      march_position(args.scene, o, d, ends.t0, ends.t1, rays.positions + at * 3);
    }
  }
}

}  // namespace

void march_into(const MarchIntoArgs& args) {
  const CoarseScene coarse(args.scene, args.n_grids);
  const StepLattice lattice(args.scene);
  const std::int64_t n_rays = args.samples.n_rays, n_tasks = (n_rays + kRays - 1) / kRays;
  EndList* lists = new EndList[static_cast<std::size_t>(n_tasks)];
  const auto end_of = [&](std::int64_t task) { return (task + 1) * kRays < n_rays ? (task + 1) * kRays : n_rays; };
  parallel_for(n_tasks, [&](std::int64_t task) { march_task(args, coarse, lattice, task * kRays, end_of(task), lists[task]); });
  args.used[0] = accumulate(args.samples);
  args.used[1] = args.samples.offsets[args.used[0]];
  parallel_for(n_tasks, [&](std::int64_t task) { write_task(args, task * kRays, end_of(task), lists[task]); });
  delete[] lists;
}

NF_END
