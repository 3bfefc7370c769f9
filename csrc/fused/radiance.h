// The hot path of the hash radiance field: whole rays through encoding, both networks, compositing,
// loss and back, tile by tile, from the operations' own tile functions. A test holds these equal to
// the operations called one by one.
//
// Field: f = D(encode(x)) with log-density f[0], colour = C(f, SH(d)); see docs/ops/fused.md.
#pragma once

#include "ops/hash_grid/hash_grid.h"
#include "ops/march/march.h"
#include "ops/mlp/mlp.h"

namespace nf {

struct RadianceField {
  HashGridShape grid;            // 3-D; features and all hidden widths multiples of 16
  MlpShape density;              // encoding -> features; features[0] is log sigma per unit
  MlpShape color;                // features and 16 spherical harmonics -> 3, sigmoid
  const float* table;            // [entries, n_features]
  const float* density_params;
  const float* color_params;
};

void check_radiance_field(const RadianceField& field);  // throws std::invalid_argument

struct RadianceTrainArgs {
  RadianceField field;
  RaySamples samples;            // positions are overwritten
  float unit;                    // world length of one unit
  float stop;                    // transmittance below which a ray ends
  float huber;                   // knee of the loss
  std::int64_t n_loss_rays;      // the loss is a mean over this many rays (at most samples.n_rays)
  const float* target;           // [n_rays, 3] composited over background
  const float* background;       // [n_rays, 3]
  float* features;               // [capacity, encoding width] workspace
  float* grad_table;             // like table, added to
  unsigned char* touched;        // one byte per 16 numbers of grad_table
  float* grad_density;           // [density.n_params()], overwritten
  float* grad_color;             // [color.n_params()], overwritten
  float* ray_loss;               // [n_rays] out
  float* ray_color;              // [n_rays, 3] out, composited over background
  std::int64_t* n_kept;         // [1] out: samples that carried a gradient
};

struct RadianceDensityArgs {
  RadianceField field;
  std::int64_t n;
  const float* positions;        // [n, 3] in [0, 1]
  float* log_density;            // [n] per unit
};

struct RadianceRenderArgs {
  RadianceField field;
  MarchScene scene;
  std::int64_t n_rays;
  const float* origins;          // [n_rays, 3]
  const float* directions;       // [n_rays, 3]
  float stop;                    // transmittance below which a ray ends
  float cull;                    // samples of smaller weight get no colour
  float* color;                  // [n_rays, 3] premultiplied, no background
  float* opacity;                // [n_rays]
  float* depth;                  // [n_rays]
  const volatile int* cancel = nullptr;  // rendering stops between tiles once this is not 0
  std::int64_t* n_samples;       // [1] out
};

}  // namespace nf

NF_KERNEL_MATRIX(radiance_train, RadianceTrainArgs)
NF_KERNEL_MATRIX(radiance_density, RadianceDensityArgs)
NF_KERNEL_MATRIX(radiance_render, RadianceRenderArgs)
