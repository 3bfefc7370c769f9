// Row by row: the lines above and below and the moment before are read where they are.
#include "fused/rate.h"

#include <cstring>

#include "common/buffer.h"
#include "common/loops.h"

NF_BEGIN
namespace {

constexpr float kFloor = 0.1f, kNarrowest = 2e-3f, kPerNat = 1.44269504f;
constexpr std::int64_t kRows = 16;  // of a task

template <class L>
L magnitude(L x) {
  return lane_max(x, -x);
}

template <class L>
struct Bits {
  L bits, by_number, by_log_width;  // the last two are derivatives
};

template <class L>
Bits<L> laplace(L y, L log_width) {
  const L one = broadcast<L>(1), half = broadcast<L>(0.5f), zero = broadcast<L>(0);
  const L free = lane_exp<L>(log_width), b = free + kNarrowest, per_b = one / b;
  const L size = magnitude(y);
  // Of the two cases the other's exponentials are of no use, but stay in range.
  const L below = lane_max(half - size, zero), above = half + size, past = lane_max(size - half, zero);
  const L e1 = lane_exp<L>(-below * per_b), e2 = lane_exp<L>(-above * per_b), e3 = lane_exp<L>(-per_b);
  const L inner = one - half * (e1 + e2), outer = lane_max(one - e3, broadcast<L>(1e-7f));
  const auto is_inner = size < half;
  const L inside = lane_max(select(is_inner, inner, outer), broadcast<L>(1e-12f));
  const L logarithm = lane_log<L>(inside) * kPerNat;
  Bits<L> result;
  result.bits = select(is_inner, -logarithm, past * per_b * kPerNat + one - logarithm);
  const L scale = kPerNat / inside;
  const L by_size = select(is_inner, half * (e1 - e2) * per_b * scale, per_b * kPerNat);
  const L of_inner = half * (e1 * below + e2 * above) * per_b * per_b * scale;
  const L of_outer = per_b * per_b * (e3 * scale - past * kPerNat);
  result.by_number = select(y < zero, -by_size, by_size);
  result.by_log_width = select(is_inner, of_inner, of_outer) * free;
  return result;
}

struct Row {
  const float *here, *above, *below, *left, *right, *before;  // null: nothing there
};

template <class L>
void advance(const RateArgs& args, const Row& row, std::int64_t i, float* gradient, L sums[4]) {
  const L zero = broadcast<L>(0);
  const auto at = [&](const float* from) { return from == nullptr ? zero : magnitude(lane_load<L>(from + i)); };
  const L near = 0.25f * (at(row.above) + at(row.below) + at(row.left) + at(row.right));
  const L by_near = lane_log<L>(near + kFloor);
  const L by_before = row.before == nullptr ? zero : lane_log<L>(at(row.before) + kFloor);
  const L log_width = args.weights[0] + args.weights[1] * by_near + args.weights[2] * by_before;
  const Bits<L> found = laplace<L>(lane_load<L>(row.here + i), log_width);
  lane_store(gradient + i, found.by_number);
  sums[0] = sums[0] + found.bits;
  sums[1] = sums[1] + found.by_log_width;
  sums[2] = sums[2] + found.by_log_width * by_near;
  sums[3] = sums[3] + found.by_log_width * by_before;
}

template <class L>
float lane_sum(L x) {
  if constexpr (LaneTraits<L>::width == 1) {
    return x;
  } else {
    float total = 0;
    for (int i = 0; i < LaneTraits<L>::width; ++i) total += x[i];
    return total;
  }
}

// Rows are of width * channels numbers; the first and the last pixel lack a neighbour.
void one_row(const RateArgs& args, const Row& row, float* gradient, double totals[4]) {
  using L = FloatLanes;
  constexpr std::int64_t W = LaneTraits<L>::width;
  const std::int64_t c = args.n_channels, n = args.width * c;
  float sums[4] = {};
  const auto slow = [&](std::int64_t i) {
    Row edge = row;
    if (i < c) edge.left = nullptr;
    if (i >= n - c) edge.right = nullptr;
    advance<float>(args, edge, i, gradient, sums);
  };
  std::int64_t i = 0;
  for (; i < c; ++i) slow(i);
  L wide[4] = {L{}, L{}, L{}, L{}};
  for (; i + W <= n - c; i += W) advance<L>(args, row, i, gradient, wide);
  for (; i < n; ++i) slow(i);
  for (int k = 0; k < 4; ++k) totals[k] += double(sums[k]) + double(lane_sum(wide[k]));
}

Row row_at(const RateArgs& args, std::int64_t moment, std::int64_t y) {
  const std::int64_t n = args.width * args.n_channels, picture = args.height * n;
  const float* here = args.numbers + moment * picture + y * n;
  const float* before = args.before == nullptr ? nullptr : moment == 0 ? args.before + y * n : here - picture;
  return Row{here,   y > 0 ? here - n : nullptr, y + 1 < args.height ? here + n : nullptr,
             here - args.n_channels, here + args.n_channels,     before};
}

}  // namespace

void rate_bits(const RateArgs& args) {
  const std::int64_t n_rows = args.n_moments * args.height, n_tasks = (n_rows + kRows - 1) / kRows;
  Buffer<double> totals(static_cast<std::size_t>(4 * n_tasks) + 1);
  std::memset(totals.data(), 0, sizeof(double) * static_cast<std::size_t>(4 * n_tasks));
  parallel_for(n_tasks, [&](std::int64_t task) {
    const std::int64_t end = (task + 1) * kRows < n_rows ? (task + 1) * kRows : n_rows;
    for (std::int64_t r = task * kRows; r < end; ++r)
      one_row(args, row_at(args, r / args.height, r % args.height), args.grad_numbers + r * args.width * args.n_channels,
              totals.data() + 4 * task);
  });
  double sums[4] = {};
  for (std::int64_t task = 0; task < n_tasks; ++task)
    for (int k = 0; k < 4; ++k) sums[k] += totals.data()[4 * task + k];
  *args.bits = sums[0];
  for (int k = 0; k < 3; ++k) args.grad_weights[k] = sums[1 + k];
}

NF_END
