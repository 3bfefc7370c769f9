// Multiresolution hash grid: positions in [0, 1]^D -> concatenated per-level features.
//
// Mueller et al. 2022, equations 1 to 4, in the convention of tiny-cuda-nn (level scale
// N_min b^l - 1, positions staggered by half a cell, dense levels that wrap at the upper edge) or in
// that of torch-ngp, whose dense levels have one row more per axis and do not wrap.
// Deviation: positions outside [0, 1] are clamped, with zero gradient there.
#pragma once

#include "common/cpu.h"
#include "common/lanes.h"

namespace nf {

constexpr int kHashGridMaxLevels = 32;
constexpr int kHashGridMaxDims = 4;

enum class GridIndexing : int { dense = 0, hash = 1, tiled = 2 };
enum class GridInterpolation : int { linear = 0, smoothstep = 1 };
enum class GridConvention : int { tiny_cuda_nn = 0, torch_ngp = 1 };

struct HashGridLevel {
  float scale;                                // cells per unit length
  std::uint32_t resolution;                   // vertices per axis
  std::uint32_t size;                         // entries; a power of two where hashed
  std::int64_t offset;                        // first entry in the table
  GridIndexing indexing;
  std::uint32_t multiplier[kHashGridMaxDims];  // stride (dense, tiled) or prime (hash) per axis
};

struct HashGridShape {
  int n_dims;      // 2, 3 or 4
  int n_features;  // per level: 1, 2, 4 or 8
  int n_levels;
  GridInterpolation interpolation;
  HashGridLevel levels[kHashGridMaxLevels];
};

// Level geometry from (base resolution, growth, log2 of the table cap); throws std::invalid_argument.
HashGridShape hash_grid_shape(int n_dims, int n_levels, int n_features, int log2_table_size, int base_resolution,
                              double per_level_scale, GridIndexing type, GridInterpolation interpolation,
                              GridConvention convention);

template <class T>
struct HashGridArgs {
  HashGridShape shape;
  std::int64_t n;                     // points
  const T* positions;                 // [n, n_dims], row-major
  const T* table;                     // [entries, n_features]
  T* output = nullptr;                // forward: [n, n_levels * n_features]
  const T* grad_output = nullptr;     // backward: like output
  T* grad_table = nullptr;            // backward: like table, added to
  unsigned char* touched = nullptr;   // backward: one byte per 16 numbers of grad_table, set where added to
  T* grad_positions = nullptr;        // backward: [n, n_dims], overwritten
  const T* tangents = nullptr;        // second: [n, n_dims], cotangent of grad_positions
  T* grad_grad_output = nullptr;      // second: like output, overwritten
};

}  // namespace nf

NF_KERNEL(hash_grid_forward_f32, HashGridArgs<float>)
NF_KERNEL(hash_grid_backward_table_f32, HashGridArgs<float>)
NF_KERNEL(hash_grid_backward_positions_f32, HashGridArgs<float>)
NF_KERNEL(hash_grid_second_f32, HashGridArgs<float>)
NF_KERNEL_PORTABLE(hash_grid_forward_f64, HashGridArgs<double>)
NF_KERNEL_PORTABLE(hash_grid_backward_table_f64, HashGridArgs<double>)
NF_KERNEL_PORTABLE(hash_grid_backward_positions_f64, HashGridArgs<double>)
NF_KERNEL_PORTABLE(hash_grid_second_f64, HashGridArgs<double>)

NF_BEGIN

// Where a point lies in a level: per axis the two corner terms of the index, the weight of the
// upper corner and its first and second derivative with respect to the position.
template <int D, class L>
struct GridCell {
  UintOf<L> term[D][2];
  L weight[D], slope[D], curvature[D];
};

template <int D, class L>
NF_HD GridCell<D, L> hash_grid_locate(const HashGridLevel& level, GridInterpolation interpolation, const L x[D]) {
  GridCell<D, L> cell;
  NF_UNROLL
  for (int d = 0; d < D; ++d) {
    const ScalarOf<L> scale = level.scale;
    const L zero = broadcast<L>(0), one = broadcast<L>(1);
    const L inside = select(x[d] >= zero, select(x[d] <= one, one, zero), zero);  // 0 for NaN too
    const L clamped = lane_min(lane_max(x[d], zero), one);
    const L position = clamped * scale + ScalarOf<L>(0.5);
    const IntOf<L> lower = floor_to_int(position);
    const L t = position - to_lane<L>(lower);
    if (interpolation == GridInterpolation::smoothstep) {
      cell.weight[d] = t * t * (3 - 2 * t);
      cell.slope[d] = inside * (6 * t * (1 - t) * scale);
      cell.curvature[d] = inside * ((6 - 12 * t) * (scale * scale));
    } else {
      cell.weight[d] = t;
      cell.slope[d] = inside * scale;
      cell.curvature[d] = zero;
    }
    cell.term[d][0] = as_uint(lower) * level.multiplier[d];
    cell.term[d][1] = cell.term[d][0] + level.multiplier[d];
  }
  return cell;
}

// Entry of one corner, relative to the level's first; bit d of `corner` picks the upper side of axis d.
template <int D, class L>
NF_HD UintOf<L> hash_grid_index(const HashGridLevel& level, const GridCell<D, L>& cell, int corner) {
  UintOf<L> index = cell.term[0][corner & 1];
  if (level.indexing == GridIndexing::hash) {
    NF_UNROLL
    for (int d = 1; d < D; ++d) index = index ^ cell.term[d][(corner >> d) & 1];
    return index & (level.size - 1);
  }
  NF_UNROLL
  for (int d = 1; d < D; ++d) index = index + cell.term[d][(corner >> d) & 1];
  if (level.indexing == GridIndexing::tiled) return index % level.size;
  // One row past the last vertex wraps once (torch-ngp's has entries); it never reaches twice the size.
  return select(index >= level.size, index - level.size, index);
}

template <int D, class L>
NF_HD L hash_grid_weight(const GridCell<D, L>& cell, int corner) {
  L weight = broadcast<L>(1);
  NF_UNROLL
  for (int d = 0; d < D; ++d) weight = weight * ((corner >> d) & 1 ? cell.weight[d] : 1 - cell.weight[d]);
  return weight;
}

// d weight / d position along `axis`
template <int D, class L>
NF_HD L hash_grid_weight_gradient(const GridCell<D, L>& cell, int corner, int axis) {
  L weight = (corner >> axis) & 1 ? cell.slope[axis] : -cell.slope[axis];
  NF_UNROLL
  for (int d = 0; d < D; ++d)
    if (d != axis) weight = weight * ((corner >> d) & 1 ? cell.weight[d] : 1 - cell.weight[d]);
  return weight;
}

// Change of the weight along a tangent.
template <int D, class L>
NF_HD L hash_grid_weight_change(const GridCell<D, L>& cell, int corner, const L tangent[D]) {
  L change = tangent[0] * hash_grid_weight_gradient<D, L>(cell, corner, 0);
  NF_UNROLL
  for (int d = 1; d < D; ++d) change = change + tangent[d] * hash_grid_weight_gradient<D, L>(cell, corner, d);
  return change;
}

// d^2 weight / d position_a d position_b
template <int D, class L>
NF_HD L hash_grid_weight_hessian(const GridCell<D, L>& cell, int corner, int a, int b) {
  L weight = broadcast<L>(1);
  NF_UNROLL
  for (int d = 0; d < D; ++d) {
    const bool upper = (corner >> d) & 1;
    if (d == a && d == b)
      weight = weight * (upper ? cell.curvature[d] : -cell.curvature[d]);
    else if (d == a || d == b)
      weight = weight * (upper ? cell.slope[d] : -cell.slope[d]);
    else
      weight = weight * (upper ? cell.weight[d] : 1 - cell.weight[d]);
  }
  return weight;
}

NF_END
