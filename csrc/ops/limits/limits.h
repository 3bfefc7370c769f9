// What this machine can do at most: the yardsticks of the benchmarks.
//
// Each kernel runs a fixed amount of work once, on all threads; the caller times it. None depends
// on what an operation does with the numbers, so that an operation's share of a limit says how much
// of the machine it leaves unused.
#pragma once

#include "common/cpu.h"
#include "common/lanes.h"

namespace nf {

struct LimitArgs {
  int variant;               // which of the ways to do the same work; the fastest one is the limit
  std::int64_t n_tasks;      // spread over all threads
  std::int64_t n_rounds;     // of a task
  const std::uint32_t* data = nullptr;  // lines: [n_lines * 16]; stream: [n_tasks * n_rounds]
  std::int64_t n_lines = 0;  // 64-byte lines of data
  float* output = nullptr;   // stream, variant 1: like data
  std::uint32_t* sink;       // [n_tasks] depends on all that was computed, so that none is left out
};

constexpr int kLimitAccumulators = 12;  // registers: more than one unit's latency times the number of units
constexpr int kLimitBlock = 64;         // lines of a round

}  // namespace nf

NF_KERNEL(limit_fma, LimitArgs)     // per round one multiply-add for each number of kLimitAccumulators registers
NF_KERNEL(limit_lines, LimitArgs)   // kLimitBlock independent random lines per round; variant 1 prefetches a round ahead
NF_KERNEL(limit_stream, LimitArgs)  // one number per round; variant 0 reads, 1 reads and writes
