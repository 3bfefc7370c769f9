// Occupancy grid: which cells of nested cubes a ray needs to visit.
//
// As in instant-ngp (Mueller et al. 2022, appendix E), a cell holds an estimate of its optical
// thickness sigma * step, an evaluated cell becomes max(decay * value, new), and a cell is occupied
// above min(threshold, mean of the innermost cascade). Deviations: cells are evaluated in sweeps
// and only an evaluated cell decays, so that none starves by chance; cells are stored in 4x4x4
// blocks, one 64-bit word of occupancy per block, so that a ray skips an empty block by one test.
#pragma once

#include "common/cpu.h"
#include "common/lanes.h"

namespace nf {

// A cube of side 2 centred at the origin ("unit" coordinates), n_cascades nested cubes that halve
// in side; cascade n_cascades - 1 is the whole cube. Cell order: cascade, block (x fastest), then
// x, y, z inside the block (x fastest).
struct OccupancyShape {
  int resolution;  // cells per axis and cascade; a multiple of 4, at most 512
  int n_cascades;  // 1 to 8
};

struct OccupancyArgs {
  OccupancyShape shape;
  float* values = nullptr;              // [cells] optical thickness; negative = never visited
  std::uint64_t* words = nullptr;       // [cells / 64]
  std::int64_t n = 0;                   // listed cells
  const std::int64_t* cells = nullptr;  // [n] each at most once
  const float* fresh = nullptr;         // [n] new optical thickness
  float* positions = nullptr;           // [n, 3] out: one random point per cell, unit coordinates
  float decay = 0.95f;
  float threshold = 0.01f;
  std::uint64_t seed = 0, stream = 0;   // of the random points
};

}  // namespace nf

NF_KERNEL_PORTABLE(occupancy_points, OccupancyArgs)
NF_KERNEL_PORTABLE(occupancy_update, OccupancyArgs)
NF_KERNEL_PORTABLE(occupancy_words, OccupancyArgs)

NF_BEGIN

NF_HD std::int64_t occupancy_cells(const OccupancyShape& shape) {
  return static_cast<std::int64_t>(shape.n_cascades) * shape.resolution * shape.resolution * shape.resolution;
}

NF_HD std::int64_t occupancy_block(const OccupancyShape& shape, int cascade, int bx, int by, int bz) {
  const std::int64_t blocks = shape.resolution / 4;
  return ((cascade * blocks + bz) * blocks + by) * blocks + bx;
}

// Cubes of 4x4x4 blocks, one byte each: whether any block in it has a bit. Small enough for the
// nearest cache, where the bits of all cells are not. No cube may reach into the next cascade.
NF_HD bool occupancy_has_coarse(const OccupancyShape& shape) { return shape.n_cascades == 1 || shape.resolution % 64 == 0; }

NF_HD int occupancy_coarse_side(const OccupancyShape& shape) { return (shape.resolution + 15) / 16; }

NF_HD std::int64_t occupancy_coarse_index(const OccupancyShape& shape, int cascade, int x, int y, int z) {
  const std::int64_t side = occupancy_coarse_side(shape);
  return ((cascade * side + z) * side + y) * side + x;
}

inline void occupancy_coarse(const OccupancyShape& shape, const std::uint64_t* words, unsigned char* coarse) {
  const int side = occupancy_coarse_side(shape), blocks = shape.resolution / 4;
  memset(coarse, 0, static_cast<std::size_t>(shape.n_cascades) * side * side * side);
  for (int cascade = 0; cascade < shape.n_cascades; ++cascade)
    for (int z = 0; z < blocks; ++z)
      for (int y = 0; y < blocks; ++y)
        for (int x = 0; x < blocks; ++x)
          if (words[occupancy_block(shape, cascade, x, y, z)] != 0)
            coarse[occupancy_coarse_index(shape, cascade, x >> 2, y >> 2, z >> 2)] = 1;
}

NF_HD int occupancy_bit(int x, int y, int z) { return (x & 3) | ((y & 3) << 2) | ((z & 3) << 4); }

// Half side of a cascade's cube in unit coordinates.
NF_HD float occupancy_half_side(const OccupancyShape& shape, int cascade) {
  return 1.0f / static_cast<float>(1 << (shape.n_cascades - 1 - cascade));
}

// The smallest cascade that holds a point.
NF_HD int occupancy_cascade(const OccupancyShape& shape, float x, float y, float z) {
  const float ax = x < 0 ? -x : x, ay = y < 0 ? -y : y, az = z < 0 ? -z : z;
  const float largest = ax > ay ? (ax > az ? ax : az) : (ay > az ? ay : az);
  int cascade = 0;
  while (cascade < shape.n_cascades - 1 && largest >= occupancy_half_side(shape, cascade)) ++cascade;
  return cascade;
}

// Cell coordinate along one axis; points outside belong to the outermost cells.
NF_HD int occupancy_coordinate(const OccupancyShape& shape, float half_side, float x) {
  const float scaled = (x / half_side + 1.0f) * 0.5f * static_cast<float>(shape.resolution);
  if (!(scaled > 0)) return 0;
  return scaled < static_cast<float>(shape.resolution) ? static_cast<int>(scaled) : shape.resolution - 1;
}

// Lower corner of a cell in unit coordinates; `*side` is the cell's side.
NF_HD void occupancy_corner(const OccupancyShape& shape, std::int64_t cell, float corner[3], float* side) {
  const std::int64_t block = cell >> 6, blocks = shape.resolution / 4;
  const int bit = static_cast<int>(cell & 63);
  const int bx = static_cast<int>(block % blocks), by = static_cast<int>(block / blocks % blocks);
  const int bz = static_cast<int>(block / blocks / blocks % blocks);
  const int cascade = static_cast<int>(block / (blocks * blocks * blocks));
  const float half = occupancy_half_side(shape, cascade);
  *side = 2.0f * half / static_cast<float>(shape.resolution);
  corner[0] = -half + *side * static_cast<float>(bx * 4 + (bit & 3));
  corner[1] = -half + *side * static_cast<float>(by * 4 + (bit >> 2 & 3));
  corner[2] = -half + *side * static_cast<float>(bz * 4 + (bit >> 4));
}

NF_END
