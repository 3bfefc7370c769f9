// Low-rank tensors: positions in [0, 1]^D -> products of grids over one or two axes.
//
// Chen et al. 2022 (TensoRF: VM, CP) and Fridovich-Keil et al. 2023 (K-planes): a term is the
// channel-wise product of its factors, each a dense grid over one axis (a line) or two (a plane),
// interpolated; the terms are concatenated. Corners are aligned to the ends of the axes.
#pragma once

#include "common/cpu.h"
#include "common/lattice.h"

namespace nf {

constexpr int kPlanesMaxTerms = 8;
constexpr int kPlanesMaxFactors = 6;  // the pairs of four axes

struct PlanesFactor {
  int n_axes;           // 1: a line, 2: a plane
  int axis[2];          // the lower one first; vertices along it are neighbours in memory
  std::int64_t offset;  // first number in the table
};

struct PlanesTerm {
  int n_factors;
  PlanesFactor factors[kPlanesMaxFactors];
};

struct TensorPlanesShape {
  int n_dims;  // 2, 3 or 4
  int rank;    // channels of every factor
  int n_terms;
  LatticeInterpolation interpolation;
  int resolution[kLatticeMaxDims];  // vertices per axis
  PlanesTerm terms[kPlanesMaxTerms];
  std::int64_t n_params;

  NF_HD int n_output() const { return n_terms * rank; }
};

// `terms` are digits of axes; * multiplies factors and + separates terms: "12*0+02*1+01*2".
// Throws std::invalid_argument.
TensorPlanesShape tensor_planes_shape(const int* resolution, int n_dims, int rank, const char* terms,
                                      LatticeInterpolation interpolation);

template <class T>
struct TensorPlanesArgs {
  TensorPlanesShape shape;
  std::int64_t n;                     // points
  const T* positions;                 // [n, n_dims], row-major
  const T* table;                     // [n_params]: a factor is [vertices of axis 1, vertices of axis 0, rank]
  T* output = nullptr;                // forward: [n, n_terms * rank]
  const T* grad_output = nullptr;     // backward: like output
  T* grad_table = nullptr;            // backward: like table, added to
  T* grad_positions = nullptr;        // backward: [n, n_dims], overwritten
  const T* tangents = nullptr;        // second: [n, n_dims], cotangent of grad_positions, or none
  const T* table_tangents = nullptr;  // second: like table, cotangent of grad_table, or none
  T* grad_grad_output = nullptr;      // second: like output, overwritten
};

}  // namespace nf

NF_KERNEL(tensor_planes_forward_f32, TensorPlanesArgs<float>)
NF_KERNEL(tensor_planes_backward_table_f32, TensorPlanesArgs<float>)
NF_KERNEL(tensor_planes_backward_positions_f32, TensorPlanesArgs<float>)
NF_KERNEL(tensor_planes_second_f32, TensorPlanesArgs<float>)
NF_KERNEL_PORTABLE(tensor_planes_forward_f64, TensorPlanesArgs<double>)
NF_KERNEL_PORTABLE(tensor_planes_backward_table_f64, TensorPlanesArgs<double>)
NF_KERNEL_PORTABLE(tensor_planes_backward_positions_f64, TensorPlanesArgs<double>)
NF_KERNEL_PORTABLE(tensor_planes_second_f64, TensorPlanesArgs<double>)

NF_BEGIN

// A factor at a point. Corner c is on the upper side of the factor's axis j where bit j of c is set.
// N: a plain number, or a Jet along the point's tangent, which gives derivatives of derivatives.
template <class N>
struct FactorAt {
  int n_axes;
  std::int64_t corner[4];  // of its first channel in the table
  N weight[4];
  N slope[2][4];  // of the weights along each axis of the factor

  NF_HD void set(const TensorPlanesShape& shape, const PlanesFactor& factor, const LatticeSide<N>* sides, bool slopes) {
    const LatticeSide<N>& first = sides[factor.axis[0]];
    n_axes = factor.n_axes;
    const bool plane = n_axes == 2;
    const LatticeSide<N>& second = sides[factor.axis[plane ? 1 : 0]];
    const std::int64_t row = std::int64_t(shape.resolution[factor.axis[0]]) * shape.rank;
    const std::int64_t origin = factor.offset + std::int64_t(first.lower) * shape.rank + (plane ? second.lower * row : 0);
    NF_UNROLL
    for (int c = 0; c < 4; ++c) {  // a line has no upper row: its corners 2 and 3 are never read
      const int side = c & 1, upper = c >> 1;
      corner[c] = origin + side * shape.rank + (plane ? upper * row : 0);
      weight[c] = plane ? first.weight[side] * second.weight[upper] : first.weight[side];
      if (!slopes) continue;
      slope[0][c] = plane ? first.slope[side] * second.weight[upper] : first.slope[side];
      slope[1][c] = first.weight[side] * second.slope[upper];
    }
  }
};

// sum over the corners of weights * numbers; at(corner) loads a V.
template <class V, class N, class At>
NF_HD V planes_sum(const FactorAt<N>& factor, const N weight[4], At&& at) {
  V sum = weight[0] * at(factor.corner[0]) + weight[1] * at(factor.corner[1]);
  if (factor.n_axes == 2) sum = sum + (weight[2] * at(factor.corner[2]) + weight[3] * at(factor.corner[3]));
  return sum;
}

// grad times the values of a term's other factors: the gradient of one factor's value.
template <int F, class V>
NF_HD V planes_others(const V value[F], int one, V grad) {
  NF_UNROLL
  for (int k = 0; k < F; ++k)
    if (k != one) grad = grad * value[k];
  return grad;
}

// f(integral constant n) for the number of a term's factors
template <class Body>
NF_HD void planes_with_factors(int n_factors, Body&& body) {
  switch (n_factors) {
    case 1: return body(std::integral_constant<int, 1>{});
    case 2: return body(std::integral_constant<int, 2>{});
    case 3: return body(std::integral_constant<int, 3>{});
    case 4: return body(std::integral_constant<int, 4>{});
    case 5: return body(std::integral_constant<int, 5>{});
    default: return body(std::integral_constant<int, 6>{});
  }
}

NF_END
