#include <stdexcept>
#include <string>

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

}  // namespace

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
