// Features of a hash trunk and the slope of their first, the signed distance: the hot path of
// surfaces. Backward carries the gradients of both at once, which is the second derivative that
// losses on slopes need (grid and network as their own second derivatives have them, see
// docs/ops/fused.md).
//
// Trunk: f = D(encode(x)), slope = d f[0] / d x.
#pragma once

#include "ops/hash_grid/hash_grid.h"
#include "ops/mlp/mlp.h"

namespace nf {

struct SlopeTrunk {
  HashGridShape grid;             // 3-D
  MlpShape network;               // encoding -> features; all widths multiples of 16, no output activation
  const float* table;             // [entries, n_features]
  const float* params;
  int n_levels;                   // in use, 1 to grid.n_levels; features of the others are 0
};

void check_slope_trunk(const HashGridShape& grid, const MlpShape& network);  // throws std::invalid_argument

struct SlopeArgs {
  SlopeTrunk trunk;
  std::int64_t n;
  const float* positions;         // [n, 3] in [0, 1]
  float* encoded;                 // [n, encoding width]: forward writes it, backward reads it
  float* features = nullptr;      // forward: [n, features]
  float* slope = nullptr;         // forward, optional: [n, 3]
  const float* grad_features = nullptr;  // backward: like features
  const float* grad_slope = nullptr;     // backward: like slope
  float* grad_table = nullptr;    // backward: like table, added to
  unsigned char* touched = nullptr;      // backward: one byte per 16 numbers of grad_table
  float* grad_params = nullptr;   // backward: like params, overwritten
};

}  // namespace nf

NF_KERNEL(slope_forward, SlopeArgs)
NF_KERNEL(slope_backward, SlopeArgs)
