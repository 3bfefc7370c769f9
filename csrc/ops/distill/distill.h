// Distillation: losses between the levels of two fields at the same samples, and which samples count.
//
// Fang et al. 2023 (Progressive Volume Distillation) and its active form, PVD-AL; written from a
// description of the authors' code. The levels are features, log-density and colour; the first
// feature is a log-density, too. Log-densities are clamped on both sides, and a student's number
// outside the bounds gets no gradient. Selections take the k largest numbers without a sort or
// memory: a bisection over the bits of the k-th.
#pragma once

#include "common/cpu.h"
#include "common/lanes.h"
#include "common/packed.h"

namespace nf {

constexpr int kDistillLevels = 3;     // features, log-density, colour
constexpr int kDistillMaxWidth = 64;  // numbers of a level per sample

template <class T>
struct DistillLevel {
  int width = 0;                  // numbers per sample; 0: the level does not count
  bool log_density = false;       // whether the first of them is one
  const T* student = nullptr;     // [n, width]
  const T* teacher = nullptr;     // like student
  T* grad_student = nullptr;      // backward: like student, overwritten; nullptr: not wanted
};

template <class T>
struct DistillArgs {
  std::int64_t n;                       // samples
  DistillLevel<T> levels[kDistillLevels];
  T low = 0, high = 0;                  // bounds of log-densities
  bool mean = false;                    // forward: the mean of squares instead of the root of their sum
  const bool* keep = nullptr;           // [n], optional: the samples that count
  T* losses = nullptr;                  // forward: [3]
  T* factors = nullptr;                 // [3]: of a gradient to its difference
  const T* grad_losses = nullptr;       // backward: [3]
};

template <class T>
struct DistillVisibleArgs {
  std::int64_t n_rays, n;
  const std::int64_t* offsets;  // [n_rays + 1]: ray r owns the samples offsets[r] .. offsets[r + 1]; the rest, nobody
  const T* weights;             // [n], at least 0
  double share;                 // of a ray's samples, of which one more is kept
  double opacity;               // rays whose weights sum to less have none
  const bool* keep = nullptr;   // [n], optional: what is kept besides
  bool* output;                 // [n]; false for samples of nobody
};

struct DistillHardestArgs {
  std::int64_t n, k;
  const float* difficulty;  // [n], at least 0; NaN is the largest
  std::int64_t* output;     // [k], ascending
};

}  // namespace nf

NF_KERNEL(distill_forward_f32, DistillArgs<float>)
NF_KERNEL(distill_backward_f32, DistillArgs<float>)
NF_KERNEL(distill_visible_f32, DistillVisibleArgs<float>)
NF_KERNEL(distill_hardest, DistillHardestArgs)
NF_KERNEL_PORTABLE(distill_forward_f64, DistillArgs<double>)
NF_KERNEL_PORTABLE(distill_backward_f64, DistillArgs<double>)
NF_KERNEL_PORTABLE(distill_visible_f64, DistillVisibleArgs<double>)

NF_BEGIN

// ---- losses --------------------------------------------------------------------------------------

// NaN stays NaN.
template <class L>
NF_HD L distill_clamp(L x, L low, L high) {
  return select(x < low, low, select(x > high, high, x));
}

template <class L>
struct DistillDifference {
  L value;   // what the loss sums the squares of
  L passed;  // what of it reaches the student
};

template <class L>
NF_HD DistillDifference<L> distill_difference(L student, L teacher, L low, L high) {
  const L value = distill_clamp(student, low, high) - distill_clamp(teacher, low, high);
  const L zero = broadcast<L>(0);
  return {value, select(student < low, zero, select(student > high, zero, value))};
}

// The loss of a level and its factor from the sum of squares over `n_kept` samples.
template <class T>
NF_HD void distill_finish(const DistillArgs<T>& args, int level, double squares, double n_kept) {
  const double count = n_kept * args.levels[level].width, norm = sqrt(squares);
  double loss = norm, factor = norm == 0 ? 0 : 1 / norm;
  if (args.mean) {
    loss = count == 0 ? 0 : squares / count;
    factor = count == 0 ? 0 : 2 / count;
  }
  args.losses[level] = static_cast<T>(loss);
  args.factors[level] = static_cast<T>(factor);
}

// ---- selections ----------------------------------------------------------------------------------

// Integers in the order of numbers of at least 0; less counts as 0, NaN as more than infinity.
NF_HD std::int32_t order_key(float x) {
  return x == x ? (x > 0 ? float_to_bits(x) : 0) : 0x7f800001;
}
NF_HD std::int64_t order_key(double x) {
  std::int64_t bits;
  memcpy(&bits, &x, sizeof(bits));
  return x == x ? (x > 0 ? bits : 0) : 0x7ff0000000000001;
}
template <class T>
using OrderKey = decltype(order_key(T()));

template <class Key>
constexpr int kKeyBits = static_cast<int>(sizeof(Key)) * 8 - 1;  // without the sign

// A key that k keys reach, or more where they are equal to it. count(key): how many reach a key.
template <class Key, class Count>
NF_HD Key kth_largest_key(std::int64_t k, Count&& count) {
  Key found = 0;
  for (int bit = kKeyBits<Key> - 1; bit >= 0; --bit) {
    const Key candidate = found | Key(1) << bit;
    const std::int64_t n = count(candidate);
    if (n >= k) found = candidate;
    if (n == k) break;
  }
  return found;
}

template <class T>
NF_HD std::int64_t count_reaching(const T* numbers, std::int64_t n, OrderKey<T> key) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < n; ++i) count += order_key(numbers[i]) >= key ? 1 : 0;
  return count;
}

// Of a ray with m samples the min(m, floor(share m) + 1) of largest weight, the first ones of equals.
template <class T>
NF_HD void distill_visible_ray(const DistillVisibleArgs<T>& args, std::int64_t ray) {
  const PackedRange range = packed_range(args.offsets, ray, args.n);
  const std::int64_t begin = range.begin, m = range.n;
  const T* weights = args.weights + begin;
  double sum = 0;
  for (std::int64_t i = 0; i < m; ++i) sum += weights[i];
  const bool opaque = sum >= args.opacity;
  std::int64_t k = static_cast<std::int64_t>(floor(args.share * static_cast<double>(m))) + 1;
  if (k > m) k = m;
  OrderKey<T> least = 0;
  std::int64_t n_equal = 0;
  if (opaque) {
    least = kth_largest_key<OrderKey<T>>(k, [&](OrderKey<T> key) { return count_reaching(weights, m, key); });
    n_equal = k - count_reaching(weights, m, least + 1);
  }
  for (std::int64_t i = 0; i < m; ++i) {
    const OrderKey<T> key = order_key(weights[i]);
    const bool chosen = opaque && (key > least || (key == least && n_equal-- > 0));
    args.output[begin + i] = chosen || (args.keep != nullptr && args.keep[begin + i]);
  }
}

template <class T>
NF_HD void distill_visible_rest(const DistillVisibleArgs<T>& args, std::int64_t i) {
  args.output[i] = false;
}

NF_END
