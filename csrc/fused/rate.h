// Estimated bits of whole numbers on grids, with their gradients: the hot path of fitting videos for a
// bitstream.
//
// A number y is Laplace distributed about 0 with width b = exp(w0 + w1 log(near + 0.1) + w2 log(before +
// 0.1)) + 0.002, near: the mean magnitude of its four neighbours, before: its magnitude in the moment
// before. Bits are -log2 of the probability of [y - 1/2, y + 1/2].
#pragma once

#include "common/cpu.h"
#include "common/lanes.h"

namespace nf {

struct RateArgs {
  std::int64_t n_moments, height, width, n_channels;
  const float* numbers;           // [moments, height, width, channels]
  const float* before = nullptr;  // [height, width, channels] of the moment before the first, or null: there
                                  // are no moments before any, and w2 counts for nothing
  float weights[3];
  double* bits;                   // the sum of all
  float* grad_numbers;            // like numbers, overwritten
  double* grad_weights;           // [3], overwritten
};

}  // namespace nf

NF_KERNEL(rate_bits, RateArgs)
