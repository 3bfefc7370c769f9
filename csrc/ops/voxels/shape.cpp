#include <stdexcept>
#include <string>

#include "ops/voxels/voxels.h"

namespace nf {
namespace {

void require(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument("voxels: " + message);
}

}  // namespace

VoxelsShape voxels_shape(const int* resolution, const bool* wrap, int n_dims, int n_channels, int n_harmonics,
                         LatticeInterpolation interpolation) {
  require(n_dims >= 1 && n_dims <= kLatticeMaxDims, "resolution needs 1 to 4 axes, got " + std::to_string(n_dims) + ".");
  require(n_channels >= 1 && n_channels <= 256, "n_channels needs 1 to 256, got " + std::to_string(n_channels) + ".");
  require(n_harmonics == 0 || n_harmonics == 1 || n_harmonics == 4 || n_harmonics == 9 || n_harmonics == 16,
          "n_harmonics needs 0, 1, 4, 9 or 16, got " + std::to_string(n_harmonics) + ".");
  require(n_harmonics == 0 || n_channels == 1 + 3 * n_harmonics,
          "n_channels needs 1 + 3 n_harmonics = " + std::to_string(1 + 3 * n_harmonics) + ", got " +
              std::to_string(n_channels) + ".");
  VoxelsShape shape{};
  shape.n_harmonics = n_harmonics;
  shape.grid.n_dims = n_dims;
  shape.grid.n_channels = n_channels;
  shape.grid.interpolation = interpolation;
  double size = n_channels;
  for (int d = 0; d < n_dims; ++d) {
    require(resolution[d] >= 2 && resolution[d] <= (1 << 22),
            "resolution needs 2 to 2^22 vertices per axis, got " + std::to_string(resolution[d]) + ".");
    shape.grid.resolution[d] = resolution[d];
    shape.grid.wrap[d] = wrap[d];
    size *= resolution[d];
  }
  require(size < 1e12, "the grid needs fewer than 10^12 numbers.");
  return shape;
}

}  // namespace nf
