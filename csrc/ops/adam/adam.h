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

constexpr int kAdamBlock = 16;  // numbers that share a byte of `touched`

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

NF_BEGIN

// The rate of this step, with both bias corrections.
template <class T>
T adam_rate(const AdamArgs<T>& args) {
  const double step = static_cast<double>(args.step);
  const double correction = std::sqrt(1 - std::pow(static_cast<double>(args.beta2), step)) /
                            (1 - std::pow(static_cast<double>(args.beta1), step));
  return static_cast<T>(static_cast<double>(args.rate) * correction);
}

template <class T>
struct AdamNumber {
  T param, first, second;
};

// The next value of a number and of its moments. No branches, so that loops over it become lanes.
template <class T>
NF_HD AdamNumber<T> adam_number(const AdamArgs<T>& args, T rate, T grad, T param, T first, T second) {
  const bool keep = args.skip_zero && grad == 0;
  const T gradient = grad + args.l2 * param;
  const T mean = args.beta1 * first + (1 - args.beta1) * gradient;
  const T square = args.beta2 * second + (1 - args.beta2) * gradient * gradient;
  const T moved = param - rate * mean / (std::sqrt(square) + args.eps);
  return {keep ? param : moved, keep ? first : mean, keep ? second : square};
}

NF_END
