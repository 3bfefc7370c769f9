// Marching rays through an occupancy grid: packed samples on a lattice of steps.
//
// As in instant-ngp (Mueller et al. 2022, appendix E): steps are constant for cone 0, else they
// grow with distance as clamp(cone * t, step, largest step), and an empty cell is left by a whole
// number of steps, so that all samples of a ray lie on one lattice whatever the grid holds: a step
// is a sample if and only if the cell of its midpoint is occupied.
// All lengths here are in world units; a sample's position is its midpoint.
#pragma once

#include "common/packed.h"
#include "ops/occupancy/occupancy.h"

namespace nf {

struct MarchScene {
  float box_min[3], box_max[3];  // world; outside it density is 0
  float center[3];               // of the cube of the grid, world
  float unit;                    // half the cube's side, world
  float step;                    // smallest step, world
  float cone;                    // growth of the step per distance; 0 = constant
  float max_step;                // largest step, world
  float near, far;               // along the ray, world
  int max_samples;               // per ray
  OccupancyShape grid;
  const std::uint64_t* words;    // [cells / 64]
  const unsigned char* coarse = nullptr;  // optional: occupancy_coarse of words; see there when it may be used
};

struct MarchArgs {
  MarchScene scene;
  std::int64_t n_rays;
  const float* origins;          // [n_rays, 3]
  const float* directions;       // [n_rays, 3], unit length; not finite or zero = no samples
  const float* jitter = nullptr;  // [n_rays] in [0, 1): start as a fraction of the first step; null = 0.5
  std::int64_t* offsets;         // [n_rays + 1]; march_count writes, march_fill reads
  std::int64_t n = 0;            // room for samples
  float* t_starts = nullptr;     // [n]
  float* t_ends = nullptr;       // [n]
};

// Packed samples of a batch of rays.
struct RaySamples {
  std::int64_t n_rays;
  std::int64_t capacity;         // room for samples
  const float* origins;          // [n_rays, 3] world
  const float* directions;       // [n_rays, 3] unit
  const float* jitter;           // [n_rays]
  std::int64_t* offsets;         // [n_rays + 1]
  float* t_starts;               // [capacity]
  float* t_ends;                 // [capacity]
  float* positions;              // [capacity, 3] in [0, 1], the encoding's coordinates
};

struct MarchIntoArgs {
  MarchScene scene;              // its words are those of all grids, [n_grids, cells / 64]
  RaySamples samples;
  std::int64_t n_grids = 1;
  const std::int64_t* grids = nullptr;  // [n_rays]: the grid of each ray; null = the first
  std::int64_t* used;            // [2] out: rays whose samples fit the room, from the first, and their samples;
                                 // later rays own none
};

}  // namespace nf

NF_KERNEL_PORTABLE(march_count, MarchArgs)
NF_KERNEL_PORTABLE(march_fill, MarchArgs)
NF_KERNEL(march_into, MarchIntoArgs)

NF_BEGIN

// The step lattice: n(t) is linear with slope 1/step where cone * t < step, logarithmic between,
// linear again beyond the largest step. One step is n + 1.
struct StepLattice {
  float step, max_step, cone, log_growth, t_log, t_far, n_log, n_far;

  NF_HD explicit StepLattice(const MarchScene& scene)
      : step(scene.step), max_step(scene.max_step), cone(scene.cone), log_growth(0), t_log(0), t_far(0), n_log(0), n_far(0) {
    if (cone <= 0) return;
    log_growth = log1pf(cone);
    t_log = step / log_growth;
    t_far = max_step / log_growth;
    n_log = t_log / step;
    n_far = n_log + logf(t_far / t_log) / log_growth;
  }
  NF_HD float index_at(float t) const {
    if (cone <= 0 || t <= t_log) return t / step;
    if (t <= t_far) return n_log + logf(t / t_log) / log_growth;
    return n_far + (t - t_far) / max_step;
  }
  NF_HD float distance_at(float n) const {
    if (cone <= 0 || n <= n_log) return n * step;
    if (n <= n_far) return t_log * expf((n - n_log) * log_growth);
    return t_far + (n - n_far) * max_step;
  }
};

NF_HD bool is_finite(float x) { return x - x == 0.0f; }

// The middle of a step in the encoding's coordinates.
NF_HD void march_position(const MarchScene& scene, const float* origin, const float* direction, float t0, float t1, float* position) {
  const float per_unit = 0.5f / scene.unit, middle = 0.5f * (t0 + t1);
  for (int d = 0; d < 3; ++d) position[d] = (origin[d] + middle * direction[d] - scene.center[d]) * per_unit + 0.5f;
}

// Where a ray is inside the box; false where it misses it, is not finite or has no direction.
NF_HD bool march_interval(const MarchScene& scene, const float origin[3], const float direction[3], float* t_min, float* t_max) {
  float low = scene.near, high = scene.far;
  if (direction[0] == 0.0f && direction[1] == 0.0f && direction[2] == 0.0f) return false;
  for (int d = 0; d < 3; ++d) {
    if (!is_finite(origin[d]) || !is_finite(direction[d])) return false;
    if (direction[d] == 0.0f) {  // parallel to the faces: inside for all t or for none
      if (!(origin[d] >= scene.box_min[d] && origin[d] <= scene.box_max[d])) return false;
      continue;
    }
    const float inverse = 1.0f / direction[d];
    float a = (scene.box_min[d] - origin[d]) * inverse, b = (scene.box_max[d] - origin[d]) * inverse;
    if (a > b) {
      const float swap = a;
      a = b;
      b = swap;
    }
    low = a > low ? a : low;
    high = b < high ? b : high;
  }
  *t_min = low;
  *t_max = high;
  return low < high;
}

struct GridProbe {
  bool occupied;
  float exit;  // distance along the ray to where the empty cell or cube of cells ends, world
};

// Distance from p to where the cube of 2^shift cells per axis around `cell` ends.
NF_HD float march_exit(const OccupancyShape& grid, float half, const int cell[3], int shift, const float p[3], const float inverse[3]) {
  const float side = 2.0f * half / static_cast<float>(grid.resolution);
  float exit = 1e30f;
  for (int d = 0; d < 3; ++d) {
    int edge = inverse[d] > 0 ? ((cell[d] >> shift) + 1) << shift : (cell[d] >> shift) << shift;
    edge = edge < grid.resolution ? edge : grid.resolution;
    const float distance = (-half + side * static_cast<float>(edge) - p[d]) * inverse[d];
    exit = distance < exit ? distance : exit;
  }
  return exit > 0 ? exit : 0.0f;
}

// Looks up one point (unit coordinates); an empty 4x4x4 block, and with `coarse` an empty cube of
// 4x4x4 blocks, is reported whole.
NF_HD GridProbe march_probe(const OccupancyShape& grid, const std::uint64_t* words, const unsigned char* coarse,
                            const float p[3], const float inverse[3], int least_cascade) {
  int cascade = occupancy_cascade(grid, p[0], p[1], p[2]);
  cascade = cascade < least_cascade ? least_cascade : cascade;
  const float half = occupancy_half_side(grid, cascade);
  int cell[3];
  for (int d = 0; d < 3; ++d) cell[d] = occupancy_coordinate(grid, half, p[d]);
  if (coarse != nullptr && coarse[occupancy_coarse_index(grid, cascade, cell[0] >> 4, cell[1] >> 4, cell[2] >> 4)] == 0)
    return {false, march_exit(grid, half, cell, 4, p, inverse)};
  const std::uint64_t word = words[occupancy_block(grid, cascade, cell[0] >> 2, cell[1] >> 2, cell[2] >> 2)];
  if (word >> occupancy_bit(cell[0], cell[1], cell[2]) & 1) return {true, 0.0f};
  // An empty block of an inner cascade may be left whole: beyond the cascade the next probe decides.
  return {false, march_exit(grid, half, cell, word == 0 ? 2 : 0, p, inverse)};
}

// One ray, sample by sample.
class RayMarcher {
 public:
  NF_HD RayMarcher() : alive_(false) {}
  NF_HD RayMarcher(const MarchScene& scene, const StepLattice& lattice, const float origin[3], const float direction[3],
                   float jitter)
      : t_max_(0), count_(0), i_(0) {
    float t_min = 0;
    alive_ = march_interval(scene, origin, direction, &t_min, &t_max_);
    const float per_unit = 1.0f / scene.unit;
    for (int d = 0; d < 3; ++d) {
      start_[d] = (origin[d] - scene.center[d]) * per_unit;
      slope_[d] = direction[d] * per_unit;
      inverse_[d] = slope_[d] != 0.0f ? 1.0f / slope_[d] : 1e30f;
    }
    first_ = lattice.index_at(t_min) + jitter;
  }

  // The next sample's ends; false when there is none.
  NF_HD bool next(const MarchScene& scene, const StepLattice& lattice, float* t0, float* t1) {
    // i_ is exact in float up to 2^24 steps, so a ray's samples do not depend on what was skipped.
    while (alive_ && count_ < scene.max_samples && i_ < 16777216.0f) {
      *t0 = lattice.distance_at(first_ + i_);
      *t1 = lattice.distance_at(first_ + i_ + 1);
      const float middle = 0.5f * (*t0 + *t1);
      if (!(middle < t_max_)) break;
      float p[3];
      position(middle, p);
      const int least = least_cascade(scene, *t1 - *t0);
      const GridProbe probe = march_probe(scene.grid, scene.words, scene.coarse, p, inverse_, least);
      if (probe.occupied) {
        ++count_;
        i_ += 1;
        return true;
      }
      i_ += steps_to_leave(scene, lattice, middle, probe.exit, least);
    }
    alive_ = false;
    return false;
  }

  // Unit coordinates of the point at distance t.
  NF_HD void position(float t, float p[3]) const {
    for (int d = 0; d < 3; ++d) p[d] = start_[d] + t * slope_[d];
  }

 private:
  // How many steps to skip from an empty cell at `middle`, at least 1. A skip that is too short
  // costs a probe, one that is too long loses a sample, so it errs on the short side: by a little
  // for rounding, and to single steps where longer samples begin to look up coarser cells.
  NF_HD float steps_to_leave(const MarchScene& scene, const StepLattice& lattice, float middle, float exit, int least) const {
    const float whole = ceilf(lattice.index_at(middle + exit) - lattice.index_at(middle) - 0.02f);
    if (!(whole > 1.0f)) return 1.0f;
    if (lattice.cone <= 0 || least == scene.grid.n_cascades - 1) return whole;
    const float landing = first_ + i_ + whole - 1;
    const float length = lattice.distance_at(landing + 1) - lattice.distance_at(landing);
    return least_cascade(scene, length) == least ? whole : 1.0f;
  }

  // Far samples are long: cells need not be much smaller than the step.
  NF_HD int least_cascade(const MarchScene& scene, float dt) const {
    const float length = dt / scene.unit;
    int least = 0;
    while (least < scene.grid.n_cascades - 1 &&
           length * static_cast<float>(scene.grid.resolution) > 4.0f * occupancy_half_side(scene.grid, least))
      ++least;
    return least;
  }

  float start_[3], slope_[3], inverse_[3], first_, t_max_;
  int count_;
  float i_;
  bool alive_;
};

NF_END
