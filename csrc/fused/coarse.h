// A scene that many rays are marched through: with the coarse occupancy that skips empty space. There
// may be several grids, whose words lie one after the other.
#pragma once

#include "common/buffer.h"
#include "ops/march/march.h"

NF_BEGIN

class CoarseScene {
 public:
  explicit CoarseScene(const MarchScene& from, std::int64_t n_grids = 1)
      : scene(from), coarse_(size(from.grid) * static_cast<std::size_t>(n_grids)) {
    if (!occupancy_has_coarse(from.grid)) return;
    scene.coarse = coarse_.data();
    for (std::int64_t i = 0; i < n_grids; ++i)
      occupancy_coarse(from.grid, of_grid(i).words, coarse_.data() + static_cast<std::size_t>(i) * size(from.grid));
  }
  MarchScene of_grid(std::int64_t i) const {
    MarchScene one = scene;
    one.words += i * (occupancy_cells(scene.grid) / 64);
    if (one.coarse != nullptr) one.coarse += static_cast<std::size_t>(i) * size(scene.grid);
    return one;
  }
  MarchScene scene;  // of the first grid

 private:
  static std::size_t size(const OccupancyShape& grid) {
    const std::size_t side = static_cast<std::size_t>(occupancy_coarse_side(grid));
    return static_cast<std::size_t>(grid.n_cascades) * side * side * side;
  }
  Buffer<unsigned char> coarse_;
};

NF_END
