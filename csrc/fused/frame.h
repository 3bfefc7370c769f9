// One moment of a video field: positions of a picture to values, through a displacement, a stack of
// 2-D grids and a network. The hot path of fitting and of decoding videos.
//
// values(p) = D(encode(scale p + offset + motion(p))), all lookups bilinear with corners aligned to the
// ends of [0, 1] and positions clamped to it.
#pragma once

#include "ops/mlp/mlp.h"

namespace nf {

constexpr int kFrameMaxLevels = 32;

struct FrameLevel {
  int width, height;    // vertices
  int n_channels;       // 1, 2, 4 or 8
  std::int64_t offset;  // its first number in `grids`
  int column;           // of its first channel in the encoding
};

struct FrameShape {
  int n_levels;
  FrameLevel levels[kFrameMaxLevels];
  FrameLevel motion;  // 2 channels; width 0: nothing moves
  MlpShape network;   // encoding -> values; float32, no waves, no normalize
  std::int64_t n_grids;  // numbers of all levels
};

// Throws std::invalid_argument. `levels` are width, height and channels of each.
FrameShape frame_shape(const int (*levels)[3], int n_levels, int motion_width, int motion_height, const MlpShape& network);

struct FrameArgs {
  FrameShape shape;
  std::int64_t n;
  const float* positions;           // [n, 2] in [0, 1]
  const float* grids;               // the levels one after the other, each [height, width, channels]
  const float* motion;              // [height, width, 2], or null
  const float* params;              // of the network
  float scale[2], offset[2];        // of positions in what the grids cover
  float* output = nullptr;          // forward: [n, values]
  const float* grad_output = nullptr;  // backward: like output
  float* grad_grids = nullptr;      // backward: like grids, overwritten
  float* grad_motion = nullptr;     // backward: like motion, overwritten
  float* grad_params = nullptr;     // backward: like params, overwritten
};

// Between two moments: lower + share (upper - lower), or lower where upper is null.
struct FrameSlice {
  const float* lower;
  const float* upper;
  float share;
};

// All crossings of columns x and rows y, whose grids are slices between moments; forward alone.
struct FrameLatticeArgs {
  FrameShape shape;
  std::int64_t width, height;
  const float* x;                      // [width] in [0, 1]
  const float* y;                      // [height] in [0, 1]
  FrameSlice levels[kFrameMaxLevels];  // each [height, width, channels]
  FrameSlice motion;                   // [height, width, 2]
  float unit[2];                       // of motion, in what the grids cover
  const float* params;
  float scale[2], offset[2];
  float* output;                       // [height, width, values]
};

}  // namespace nf

NF_KERNEL(frame_lattice, FrameLatticeArgs)
NF_KERNEL(frame_forward, FrameArgs)
NF_KERNEL(frame_backward, FrameArgs)
