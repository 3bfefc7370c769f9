#include "ops/limits/limits.h"

#include "common/loops.h"

NF_BEGIN
namespace {

std::uint32_t bits(float x) { return as_uint(float_to_bits(x)); }

std::uint32_t multiply_add(std::int64_t n_rounds) {
  using L = FloatLanes;
  // The factor is volatile so that no compiler sees where the iteration ends up.
  const volatile float factor = 0.999f, summand = 0.001f;
  const L b = broadcast<L>(factor), c = broadcast<L>(summand);
  // Plain floats are left to the compiler, which makes registers of four out of them.
  constexpr int n = kLimitAccumulators * (LaneTraits<L>::width == 1 ? 4 : 1);
  L sums[n];
  for (L& sum : sums) sum = b;
  for (std::int64_t round = 0; round < n_rounds; ++round) {
    NF_UNROLL
    for (int k = 0; k < n; ++k) sums[k] = sums[k] * b + c;
  }
  float lanes[LaneTraits<L>::width];
  L total = sums[0];
  for (int k = 1; k < n; ++k) total = total + sums[k];
  lane_store(lanes, total);
  return bits(lanes[0]);
}

// Lines in no order that a prefetcher could guess: a hash of the running number.
NF_INLINE void random_lines(std::uint32_t first, std::uint64_t n_lines, std::uint32_t* lines) {
  for (int i = 0; i < kLimitBlock; ++i) {
    std::uint32_t h = first + static_cast<std::uint32_t>(i);
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    h = (h ^ (h >> 13)) * 0xc2b2ae35u;
    lines[i] = static_cast<std::uint32_t>(((h ^ (h >> 16)) * n_lines) >> 32);
  }
}

template <bool Prefetch>
std::uint32_t read_lines(const LimitArgs& args, std::int64_t task) {
  const std::uint64_t n_lines = static_cast<std::uint64_t>(args.n_lines);
  std::uint32_t number = static_cast<std::uint32_t>(task * args.n_rounds * kLimitBlock), found = 0;
  alignas(64) std::uint32_t lines[2][kLimitBlock];
  random_lines(number, n_lines, lines[0]);
  for (std::int64_t round = 0; round < args.n_rounds; ++round) {
    const std::uint32_t* current = lines[round & 1];
    std::uint32_t* next = lines[(round + 1) & 1];
    random_lines(number += kLimitBlock, n_lines, next);
    if (Prefetch)
      for (int i = 0; i < kLimitBlock; ++i) NF_PREFETCH(args.data + std::size_t{next[i]} * 16);
    NF_UNROLL
    for (int i = 0; i < kLimitBlock; ++i) found ^= args.data[std::size_t{current[i]} * 16];
  }
  return found;
}

std::uint32_t stream(const LimitArgs& args, std::int64_t task) {
  const std::uint32_t* from = args.data + task * args.n_rounds;
  if (args.variant == 1) {
    float* NF_RESTRICT to = args.output + task * args.n_rounds;
    for (std::int64_t i = 0; i < args.n_rounds; ++i) to[i] = static_cast<float>(from[i] & 1);
    return bits(to[0]);
  }
  std::uint32_t found = 0;
  for (std::int64_t i = 0; i < args.n_rounds; ++i) found ^= from[i];
  return found;
}

}  // namespace

void limit_fma(const LimitArgs& args) {
  parallel_for(args.n_tasks, [&](std::int64_t task) { args.sink[task] = multiply_add(args.n_rounds); });
}

void limit_lines(const LimitArgs& args) {
  parallel_for(args.n_tasks, [&](std::int64_t task) {
    args.sink[task] = args.variant == 0 ? read_lines<false>(args, task) : read_lines<true>(args, task);
  });
}

void limit_stream(const LimitArgs& args) {
  parallel_for(args.n_tasks, [&](std::int64_t task) { args.sink[task] = stream(args, task); });
}

NF_END
