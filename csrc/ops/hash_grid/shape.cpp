#include <cmath>
#include <stdexcept>
#include <string>

#include "ops/hash_grid/hash_grid.h"

namespace nf {
namespace {

// The published "coherent prime" hash; the first factor is 1 so that neighbours along x share cache lines.
constexpr std::uint32_t kPrimes[kHashGridMaxDims] = {1u, 2654435761u, 805459861u, 3674653429u};
// Largest resolution whose power still fits 32 bits, per number of dimensions.
constexpr std::uint32_t kMaxDense[kHashGridMaxDims + 1] = {0, 0, 65535, 1625, 255};

void require(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument("hash_grid: " + message);
}

std::uint64_t power(std::uint64_t base, int exponent) {
  std::uint64_t result = 1;
  for (int i = 0; i < exponent; ++i) result *= base;
  return result;
}

std::uint64_t round_up_8(std::uint64_t n) { return (n + 7) / 8 * 8; }

}  // namespace

HashGridShape hash_grid_shape(int n_dims, int n_levels, int n_features, int log2_table_size, int base_resolution,
                              double per_level_scale, GridIndexing type, GridInterpolation interpolation,
                              GridConvention convention) {
  require(n_dims >= 2 && n_dims <= 4, "n_dims needs 2, 3 or 4, got " + std::to_string(n_dims) + ".");
  require(n_features == 1 || n_features == 2 || n_features == 4 || n_features == 8,
          "n_features needs 1, 2, 4 or 8, got " + std::to_string(n_features) + ".");
  require(n_levels >= 1 && n_levels <= kHashGridMaxLevels,
          "n_levels needs 1 to 32, got " + std::to_string(n_levels) + ".");
  require(log2_table_size >= 3 && log2_table_size <= 28,
          "log2_table_size needs 3 to 28, got " + std::to_string(log2_table_size) + ".");
  require(base_resolution >= 1 && base_resolution <= 65535,
          "base_resolution needs 1 to 65535, got " + std::to_string(base_resolution) + ".");
  require(std::isfinite(per_level_scale) && per_level_scale >= 1.0,
          "per_level_scale needs a number of at least 1, got " + std::to_string(per_level_scale) + ".");
  require(convention == GridConvention::tiny_cuda_nn || type == GridIndexing::hash,
          "convention torch-ngp needs grid_type hash.");
  HashGridShape shape{};
  shape.n_dims = n_dims;
  shape.n_features = n_features;
  shape.n_levels = n_levels;
  shape.interpolation = interpolation;
  const std::uint64_t cap = std::uint64_t(1) << log2_table_size;
  std::int64_t offset = 0;
  for (int l = 0; l < n_levels; ++l) {
    HashGridLevel& level = shape.levels[l];
    // Rounded to float32 once, at the end: rounding the growth first can turn 31 cells into
    // 31.000002 and add a vertex per axis.
    level.scale = static_cast<float>(std::exp2(l * std::log2(per_level_scale)) * base_resolution - 1.0);
    require(level.scale < 16777216.0f, "the finest resolution needs to stay below 2^24, got level " +
                                           std::to_string(l) + " at " + std::to_string(level.scale) + ".");
    level.resolution = static_cast<std::uint32_t>(std::ceil(level.scale)) + 1;
    // torch-ngp has entries for the row past the last vertex too.
    const std::uint32_t side = level.resolution + (convention == GridConvention::torch_ngp ? 1 : 0);
    const bool fits = side <= kMaxDense[n_dims];
    const std::uint64_t vertices = fits ? power(side, n_dims) : 0xffffffffull;
    // The cap is a multiple of 8, so that rounding before it (tiny-cuda-nn) or after it is the same.
    std::uint64_t size = round_up_8(vertices);
    if (type == GridIndexing::hash) size = size < cap ? size : cap;
    if (type == GridIndexing::tiled) {
      const std::uint64_t tile = round_up_8(power(base_resolution, n_dims));
      size = size < tile ? size : tile;
    }
    require(size <= (std::uint64_t(1) << 31), "level " + std::to_string(l) + " needs fewer than 2^31 entries; use type hash.");
    level.size = static_cast<std::uint32_t>(size);
    level.indexing = size >= vertices ? GridIndexing::dense : type;
    level.offset = offset;
    for (int d = 0; d < n_dims; ++d)
      level.multiplier[d] = level.indexing == GridIndexing::hash
                                ? kPrimes[d]
                                : static_cast<std::uint32_t>(power(side, d));
    offset += static_cast<std::int64_t>(size);
  }
  return shape;
}

}  // namespace nf
