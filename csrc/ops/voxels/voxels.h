// Dense voxels: positions in [0, 1]^D -> interpolated channels, or density and colours from
// spherical harmonics.
//
// The dense tensor of PVD (Fang et al. 2023) in the manner of Plenoxels (Fridovich-Keil et al. 2022):
// multilinear interpolation with corners aligned to the ends. With k harmonics a vertex has
// 1 + 3 k channels, and a row of the output is [channel 0, sum_j channel(1 + c k + j) Y_j(direction)
// for the colours c], before any activation. Axes may wrap, which modulation uses.
#pragma once

#include "common/cpu.h"
#include "common/lattice_grid.h"
#include "ops/spherical_harmonics/spherical_harmonics.h"

namespace nf {

struct VoxelsShape {
  LatticeGrid grid;
  int n_harmonics;  // 0, 1, 4, 9 or 16

  NF_HD int n_output() const { return n_harmonics > 0 ? 4 : grid.n_channels; }
};

// Throws std::invalid_argument.
VoxelsShape voxels_shape(const int* resolution, const bool* wrap, int n_dims, int n_channels, int n_harmonics,
                         LatticeInterpolation interpolation);

template <class T>
struct VoxelsArgs {
  VoxelsShape shape;
  std::int64_t n;                   // points
  const T* positions;               // [n, n_dims], row-major
  const T* directions = nullptr;    // [n, 3] unit vectors; none: harmonics are zero
  const T* grid = nullptr;          // [vertices, n_channels], x fastest
  T* output = nullptr;              // forward: [n, n_output]
  const T* grad_output = nullptr;   // backward: like output
  T* grad_grid = nullptr;           // backward: like grid, added to
  T* grad_positions = nullptr;      // backward: [n, n_dims], overwritten
  const T* tangents = nullptr;      // second: [n, n_dims], cotangent of grad_positions
  T* grad_grad_output = nullptr;    // second: like output, overwritten
};

}  // namespace nf

NF_KERNEL(voxels_forward_f32, VoxelsArgs<float>)
NF_KERNEL(voxels_backward_grid_f32, VoxelsArgs<float>)
NF_KERNEL(voxels_backward_positions_f32, VoxelsArgs<float>)
NF_KERNEL(voxels_second_f32, VoxelsArgs<float>)
NF_KERNEL_PORTABLE(voxels_forward_f64, VoxelsArgs<double>)
NF_KERNEL_PORTABLE(voxels_backward_grid_f64, VoxelsArgs<double>)
NF_KERNEL_PORTABLE(voxels_backward_positions_f64, VoxelsArgs<double>)
NF_KERNEL_PORTABLE(voxels_second_f64, VoxelsArgs<double>)

NF_BEGIN

constexpr int kVoxelsMaxHarmonics = 16;

// The harmonics of a point's direction; zeros without one.
template <class T>
NF_HD void voxels_basis(const VoxelsArgs<T>& args, std::int64_t point, T basis[kVoxelsMaxHarmonics]) {
  if (args.directions == nullptr) {
    for (int j = 0; j < kVoxelsMaxHarmonics; ++j) basis[j] = 0;
    return;
  }
  const T* d = args.directions + point * 3;
  switch (args.shape.n_harmonics) {
    case 1: return spherical_harmonics<1, T>(d[0], d[1], d[2], basis);
    case 4: return spherical_harmonics<2, T>(d[0], d[1], d[2], basis);
    case 9: return spherical_harmonics<3, T>(d[0], d[1], d[2], basis);
    default: return spherical_harmonics<4, T>(d[0], d[1], d[2], basis);
  }
}

// A row of the output from a point's channels.
template <class T>
NF_HD void voxels_row(const VoxelsArgs<T>& args, std::int64_t point, const T* channels, T* output) {
  const int k = args.shape.n_harmonics;
  T* row = output + point * args.shape.n_output();
  if (k == 0) {
    for (int c = 0; c < args.shape.grid.n_channels; ++c) row[c] = channels[c];
    return;
  }
  T basis[kVoxelsMaxHarmonics];
  voxels_basis(args, point, basis);
  row[0] = channels[0];
  for (int c = 0; c < 3; ++c) {
    T sum = 0;
    for (int j = 0; j < k; ++j) sum += channels[1 + c * k + j] * basis[j];
    row[1 + c] = sum;
  }
}

// The gradient of a point's channels from that of its row of the output.
template <class T>
NF_HD const T* voxels_gradient(const VoxelsArgs<T>& args, std::int64_t point, T* scratch) {
  const int k = args.shape.n_harmonics;
  const T* row = args.grad_output + point * args.shape.n_output();
  if (k == 0) return row;
  T basis[kVoxelsMaxHarmonics];
  voxels_basis(args, point, basis);
  scratch[0] = row[0];
  for (int c = 0; c < 3; ++c)
    for (int j = 0; j < k; ++j) scratch[1 + c * k + j] = row[1 + c] * basis[j];
  return scratch;
}

NF_END
