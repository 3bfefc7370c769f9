// A scene that many rays are marched through: with the coarse occupancy that skips empty space.
#pragma once

#include "common/buffer.h"
#include "ops/march/march.h"

NF_BEGIN

class CoarseScene {
 public:
  explicit CoarseScene(const MarchScene& from) : scene(from), coarse_(size(from.grid)) {
    if (!occupancy_has_coarse(from.grid)) return;
    occupancy_coarse(from.grid, from.words, coarse_.data());
    scene.coarse = coarse_.data();
  }
  MarchScene scene;

 private:
  static std::size_t size(const OccupancyShape& grid) {
    const std::size_t side = static_cast<std::size_t>(occupancy_coarse_side(grid));
    return static_cast<std::size_t>(grid.n_cascades) * side * side * side;
  }
  Buffer<unsigned char> coarse_;
};

NF_END
