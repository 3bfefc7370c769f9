#include <stdexcept>
#include <string>

#include "fused/frame.h"
#include "fused/radiance.h"
#include "fused/slope.h"

namespace nf {
namespace {

void require(bool ok, const char* message) {
  if (!ok) throw std::invalid_argument(std::string("radiance: ") + message);
}

void require_slope(bool ok, const char* message) {
  if (!ok) throw std::invalid_argument(std::string("slope: ") + message);
}

void require_frame(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument("frame: " + message);
}

FrameLevel frame_level(int width, int height, int n_channels) {
  const std::int64_t n = std::int64_t(width) * height * n_channels;
  require_frame(width >= 2 && height >= 2 && n < (std::int64_t(1) << 31),
                "levels need 2 vertices per axis and fewer than 2^31 numbers, got " + std::to_string(width) + "x" +
                    std::to_string(height) + ".");
  require_frame(n_channels == 1 || n_channels == 2 || n_channels == 4 || n_channels == 8,
                "levels need 1, 2, 4 or 8 channels, got " + std::to_string(n_channels) + ".");
  return FrameLevel{width, height, n_channels, 0, 0};
}

}  // namespace

FrameShape frame_shape(const int (*levels)[3], int n_levels, int motion_width, int motion_height, const MlpShape& network) {
  require_frame(n_levels >= 1 && n_levels <= kFrameMaxLevels,
                "needs 1 to 32 levels, got " + std::to_string(n_levels) + ".");
  FrameShape shape{};
  shape.n_levels = n_levels;
  int column = 0;
  for (int l = 0; l < n_levels; ++l) {
    FrameLevel& level = shape.levels[l];
    level = frame_level(levels[l][0], levels[l][1], levels[l][2]);
    level.offset = shape.n_grids;
    level.column = column;
    column += level.n_channels;
    shape.n_grids += std::int64_t(level.width) * level.height * level.n_channels;
  }
  if (motion_width != 0 || motion_height != 0) shape.motion = frame_level(motion_width, motion_height, 2);
  require_frame(network.widths[0] == column, "the network's input needs the channels of all levels, " +
                                                 std::to_string(column) + ", got " + std::to_string(network.widths[0]) + ".");
  require_frame(network.precision == Precision::full, "the network needs precision float32.");
  require_frame(network.hidden < Activation::sine && !network.normalize,
                "hidden layers need none, relu, softplus or sigmoid, and no normalize; use the operations one by one.");
  shape.network = network;
  return shape;
}

void check_slope_trunk(const HashGridShape& grid, const MlpShape& network) {
  require_slope(grid.n_dims == 3, "the hash grid needs 3 dimensions.");
  require_slope(network.widths[0] == grid.n_levels * grid.n_features, "the network's input needs the width of the encoding.");
  require_slope(network.precision == Precision::full, "the network needs precision float32.");
  require_slope(network.output == Activation::none, "the network needs no output activation.");
  require_slope(network.hidden < Activation::sine && !network.normalize,
                "hidden layers need none, relu, softplus or sigmoid, and no normalize; use the operations one by one.");
  for (int l = 0; l <= network.n_layers; ++l)
    require_slope(network.widths[l] % 16 == 0, "all widths need to be multiples of 16.");
}

void check_radiance_field(const RadianceField& field) {
  require(field.grid.n_dims == 3, "the hash grid needs 3 dimensions.");
  const int encoding = field.grid.n_levels * field.grid.n_features;
  const int features = field.density.widths[field.density.n_layers];
  require(field.density.widths[0] == encoding, "the density network's input needs the width of the encoding.");
  require(features % 16 == 0, "the number of features needs to be a multiple of 16.");
  require(field.color.widths[0] == features + 16, "the colour network's input needs features + 16 spherical harmonics.");
  require(field.color.widths[field.color.n_layers] == 3, "the colour network needs 3 outputs.");
  require(field.density.precision == field.color.precision, "both networks need the same precision.");
  require(encoding % 16 == 0, "the width of the encoding needs to be a multiple of 16.");
  for (const MlpShape* shape : {&field.density, &field.color}) {
    require(shape->hidden < Activation::sine && !shape->normalize,
            "hidden layers need none, relu, softplus or sigmoid, and no normalize; use the operations one by one.");
    for (int l = 1; l < shape->n_layers; ++l)
      require(shape->widths[l] % 16 == 0, "hidden widths need to be multiples of 16.");
  }
}

}  // namespace nf
