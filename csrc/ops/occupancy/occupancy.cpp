#include "ops/occupancy/occupancy.h"

#include "common/loops.h"
#include "common/philox.h"

#ifndef NF_FAST_PATH  // bound by memory: one path serves every processor
NF_BEGIN

void occupancy_points(const OccupancyArgs& args) {
  parallel_chunks(args.n, 16384, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      float corner[3], side;
      occupancy_corner(args.shape, args.cells[i], corner, &side);
      const Philox4 random = philox(args.seed, args.stream, static_cast<std::uint64_t>(args.cells[i]));
      for (int d = 0; d < 3; ++d) args.positions[i * 3 + d] = corner[d] + side * uniform_float(random.v[d]);
    }
  });
}

void occupancy_update(const OccupancyArgs& args) {
  parallel_chunks(args.n, 65536, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      float& value = args.values[args.cells[i]];
      if (value < 0) continue;
      const float decayed = args.decay * value;
      value = args.fresh[i] > decayed ? args.fresh[i] : decayed;
    }
  });
}

namespace {

// Mean of max(value, 0) over the innermost cascade, summed in fixed blocks.
float innermost_mean(const OccupancyArgs& args) {
  const std::int64_t n = occupancy_cells({args.shape.resolution, 1});
  double sum = 0;
  for (std::int64_t begin = 0; begin < n; begin += 4096) {
    float part = 0;
    const std::int64_t end = begin + 4096 < n ? begin + 4096 : n;
    for (std::int64_t i = begin; i < end; ++i) part += args.values[i] > 0 ? args.values[i] : 0;
    sum += part;
  }
  return static_cast<float>(sum / static_cast<double>(n));
}

// A point in cascade k is looked up in cascade k alone, so the part of an outer cascade that an
// inner one covers is filled from it: a coarse cell is occupied where any of its 8 fine ones is.
void fold_inner_cascade(const OccupancyArgs& args, int cascade) {
  const int n = args.shape.resolution;
  parallel_for(n / 2, [&](std::int64_t half_z) {
    const int z = static_cast<int>(half_z) + n / 4;
    for (int y = n / 4; y < n * 3 / 4; ++y)
      for (int x = n / 4; x < n * 3 / 4; ++x) {
        bool any = false;
        for (int corner = 0; corner < 8 && !any; ++corner) {
          const int fx = (x - n / 4) * 2 + (corner & 1), fy = (y - n / 4) * 2 + (corner >> 1 & 1);
          const int fz = (z - n / 4) * 2 + (corner >> 2);
          const std::int64_t block = occupancy_block(args.shape, cascade - 1, fx / 4, fy / 4, fz / 4);
          any = args.words[block] >> occupancy_bit(fx, fy, fz) & 1;
        }
        if (!any) continue;
        const std::int64_t block = occupancy_block(args.shape, cascade, x / 4, y / 4, z / 4);
        // Planes of one block may belong to different tasks.
        __atomic_fetch_or(args.words + block, std::uint64_t(1) << occupancy_bit(x, y, z), __ATOMIC_RELAXED);
      }
  });
}

}  // namespace

void occupancy_words(const OccupancyArgs& args) {
  const float mean = innermost_mean(args);
  const float threshold = mean < args.threshold ? mean : args.threshold;
  const std::int64_t n_words = occupancy_cells(args.shape) / 64;
  parallel_chunks(n_words, 4096, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t w = begin; w < end; ++w) {
      std::uint64_t word = 0;
      for (int bit = 0; bit < 64; ++bit)
        word |= static_cast<std::uint64_t>(args.values[w * 64 + bit] > threshold) << bit;
      args.words[w] = word;
    }
  });
  for (int cascade = 1; cascade < args.shape.n_cascades; ++cascade) fold_inner_cascade(args, cascade);
}

NF_END
#endif
