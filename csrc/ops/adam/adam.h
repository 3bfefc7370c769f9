// Adam in the form that hash grids need.
//
// Kingma and Ba 2015, algorithm 1, with tiny-cuda-nn's choices: eps is added to sqrt(v) before bias
// correction, which is folded into the rate; L2 is added to the gradient; a number whose gradient
// is exactly zero may be left alone, moments and all (Mueller et al. 2022, section 4).
// Deviation: one step counter for all numbers, not one per number.
#pragma once

#include "common/cpu.h"
#include "common/lanes.h"

namespace nf {

template <class T>
struct AdamArgs {
  std::int64_t n;
  T* params;                         // [n]
  T* grads;                          // [n]
  T* first;                          // [n] running mean of the gradient
  T* second;                         // [n] running mean of its square
  T rate, beta1, beta2, eps, l2;
  std::int64_t step;                 // 1 for the first
  bool skip_zero;                    // leave numbers with zero gradient alone
  bool clear;                        // set the gradients to zero afterwards
  unsigned char* touched = nullptr;  // one byte per 16 numbers: only blocks with 1 are visited, then set to 0
};

}  // namespace nf

NF_KERNEL(adam_f32, AdamArgs<float>)
NF_KERNEL_PORTABLE(adam_f64, AdamArgs<double>)
