// CPU loops of the distillation: numbers of a level are lanes, whatever its width, and a task's
// squares are summed apart from the others', so that results do not depend on the number of threads.
// The way back computes the differences anew: to read two numbers costs less than new memory for one.
#include "ops/distill/distill.h"

#include <atomic>
#include <limits>
#include <type_traits>

#include "common/buffer.h"
#include "common/loops.h"
#include "common/rows.h"

NF_BEGIN
namespace {

constexpr std::int64_t kRows = 256;  // samples per task
constexpr int kBlock = 64;           // samples whose numbers fill whole groups of registers
constexpr int kChains = 4;           // sums side by side
constexpr std::int64_t kRays = 64;
constexpr std::int64_t kNumbers = 1 << 16;  // per task of a selection
constexpr int kMaxLanes = 16;
static_assert(LaneTraits<FloatLanes>::width <= kMaxLanes && kBlock % kMaxLanes == 0, "a register needs to fit");

template <class T>
using Lane = typename RowLanes<T>::type;

// The bounds of a row's numbers, repeated far enough that a register can start at any column.
template <class T>
struct Bounds {
  T low[kDistillMaxWidth + kMaxLanes], high[kDistillMaxWidth + kMaxLanes];

  Bounds(const DistillArgs<T>& args, const DistillLevel<T>& level) {
    const T infinity = std::numeric_limits<T>::infinity();
    for (int i = 0; i < level.width + kMaxLanes; ++i) {
      const bool clipped = level.log_density && i % level.width == 0;
      low[i] = clipped ? args.low : -infinity;
      high[i] = clipped ? args.high : infinity;
    }
  }
};

// What becomes of differences: their squares are summed.
template <class T>
class Squares {
 public:
  template <class L>
  NF_INLINE void use(int chain, std::int64_t, const DistillDifference<L>& difference) {
    const L square = difference.value * difference.value;
    if constexpr (std::is_same_v<L, Lane<T>>) sums_[chain] = sums_[chain] + square;
    else rest_ += square;
  }

  double total() const {
    alignas(64) T numbers[kChains * LaneTraits<Lane<T>>::width];
    for (int c = 0; c < kChains; ++c) lane_store(numbers + c * LaneTraits<Lane<T>>::width, sums_[c]);
    double sum = rest_;
    for (const T number : numbers) sum += number;
    return sum;
  }

 private:
  Lane<T> sums_[kChains] = {};
  T rest_ = 0;
};

// Or they are the student's gradients but for a factor.
template <class T>
struct Slopes {
  const T factor;
  T* const grad_student;

  template <class L>
  NF_INLINE void use(int, std::int64_t at, const DistillDifference<L>& difference) {
    lane_store(grad_student + at, broadcast<L>(factor) * difference.passed);
  }
};

// The differences of one level over a task's samples.
template <class T>
class LevelPass {
 public:
  LevelPass(const DistillArgs<T>& args, int level)
      : level_(args.levels[level]), keep_(args.keep), lane_step_(W % level_.width), bounds_(args, level_) {}

  template <class Consumer>
  void over(std::int64_t begin, std::int64_t end, Consumer& consumer) {
    for (std::int64_t first = begin; first < end; first += kBlock) {
      const int n_rows = static_cast<int>(end - first < kBlock ? end - first : kBlock);
      if (keep_ == nullptr) {
        add<false>(first * level_.width, n_rows * level_.width, consumer);
      } else {
        spread(keep_ + first, n_rows);
        add<true>(first * level_.width, n_rows * level_.width, consumer);
      }
    }
  }

 private:
  static constexpr int W = LaneTraits<Lane<T>>::width;

  // 1 or 0 per number.
  void spread(const bool* keep, int n_rows) {
    if (level_.width == 1) return spread_narrow<1>(keep, n_rows);
    if (level_.width == 3) return spread_narrow<3>(keep, n_rows);
    for (int r = 0; r < n_rows; ++r) {
      const Lane<T> kept = broadcast<Lane<T>>(static_cast<T>(keep[r]));
      T* row = kept_ + r * level_.width;  // what is stored behind its end, the next row overwrites
      for (int j = 0; j < level_.width; j += W) lane_store(row + j, kept);
    }
  }

  template <int kWidth>
  void spread_narrow(const bool* keep, int n_rows) {
    for (int r = 0; r < n_rows; ++r)
      for (int j = 0; j < kWidth; ++j) kept_[r * kWidth + j] = static_cast<T>(keep[r]);
  }

  template <bool kMasked, class Consumer>
  NF_INLINE void add(std::int64_t first, int n, Consumer& consumer) {
    int i = 0, column = 0;
    for (; i + kChains * W <= n; i += kChains * W) {
      NF_UNROLL
      for (int c = 0; c < kChains; ++c) step<kMasked, Lane<T>>(first, i + c * W, column, c, consumer);
    }
    for (; i + W <= n; i += W) step<kMasked, Lane<T>>(first, i, column, 0, consumer);
    for (; i < n; ++i) step<kMasked, T>(first, i, column, 0, consumer);
  }

  template <bool kMasked, class L, class Consumer>
  NF_INLINE void step(std::int64_t first, int i, int& column, int chain, Consumer& consumer) {
    const std::int64_t at = first + i;
    const L low = lane_load<L>(bounds_.low + column), high = lane_load<L>(bounds_.high + column);
    auto difference = distill_difference<L>(lane_load<L>(level_.student + at), lane_load<L>(level_.teacher + at), low, high);
    if constexpr (kMasked) {
      const L zero = broadcast<L>(0), kept = lane_load<L>(kept_ + i);
      difference = {select(kept > zero, difference.value, zero), select(kept > zero, difference.passed, zero)};
    }
    consumer.template use<L>(chain, at, difference);
    column += LaneTraits<L>::width == 1 ? 1 : lane_step_;
    column -= column >= level_.width ? level_.width : 0;
  }

  const DistillLevel<T> level_;
  const bool* const keep_;
  const int lane_step_;  // of the column, from register to register
  const Bounds<T> bounds_;
  alignas(64) T kept_[kBlock * kDistillMaxWidth + kMaxLanes];
};

std::int64_t count_kept(const bool* keep, std::int64_t begin, std::int64_t end) {
  if (keep == nullptr) return end - begin;
  std::int64_t n = 0;
  for (std::int64_t i = begin; i < end; ++i) n += keep[i] ? 1 : 0;
  return n;
}

template <class T>
void forward(const DistillArgs<T>& args) {
  constexpr int kSums = kDistillLevels + 1;
  const std::int64_t n_tasks = (args.n + kRows - 1) / kRows;
  Buffer<double> sums(static_cast<std::size_t>(n_tasks) * kSums);
  parallel_chunks(args.n, kRows, [&](std::int64_t begin, std::int64_t end) {
    double* own = sums.data() + begin / kRows * kSums;
    for (int l = 0; l < kDistillLevels; ++l) {
      Squares<T> squares;
      if (args.levels[l].width > 0) LevelPass<T>(args, l).over(begin, end, squares);
      own[l] = squares.total();
    }
    own[kDistillLevels] = static_cast<double>(count_kept(args.keep, begin, end));
  });
  double totals[kSums] = {};
  for (std::int64_t task = 0; task < n_tasks; ++task)
    for (int i = 0; i < kSums; ++i) totals[i] += sums[static_cast<std::size_t>(task * kSums + i)];
  for (int l = 0; l < kDistillLevels; ++l) distill_finish(args, l, totals[l], totals[kDistillLevels]);
}

template <class T>
void backward(const DistillArgs<T>& args) {
  parallel_chunks(args.n, kRows, [&](std::int64_t begin, std::int64_t end) {
    for (int l = 0; l < kDistillLevels; ++l) {
      if (args.levels[l].grad_student == nullptr) continue;
      Slopes<T> slopes{args.grad_losses[l] * args.factors[l], args.levels[l].grad_student};
      LevelPass<T>(args, l).over(begin, end, slopes);
    }
  });
}

template <class T>
void visible(const DistillVisibleArgs<T>& args) {
  parallel_chunks(args.n_rays, kRays, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t ray = begin; ray < end; ++ray) distill_visible_ray(args, ray);
  });
  for (std::int64_t i = packed_end(args.offsets, args.n_rays, args.n); i < args.n; ++i) distill_visible_rest(args, i);
}

}  // namespace

void distill_forward_f32(const DistillArgs<float>& args) { forward(args); }
void distill_backward_f32(const DistillArgs<float>& args) { backward(args); }
void distill_visible_f32(const DistillVisibleArgs<float>& args) { visible(args); }

void distill_hardest(const DistillHardestArgs& args) {
  if (args.k == 0) return;
  const auto count = [&](std::int32_t key) {
    std::atomic<std::int64_t> n{0};
    parallel_chunks(args.n, kNumbers, [&](std::int64_t begin, std::int64_t end) {
      n.fetch_add(count_reaching(args.difficulty + begin, end - begin, key), std::memory_order_relaxed);
    });
    return n.load();
  };
  const std::int32_t least = kth_largest_key<std::int32_t>(args.k, count);
  std::int64_t n_equal = args.k - count(least + 1), n = 0;
  for (std::int64_t i = 0; n < args.k; ++i) {
    const std::int32_t key = order_key(args.difficulty[i]);
    if (key > least || (key == least && n_equal-- > 0)) args.output[n++] = i;
  }
}

#ifndef NF_FAST_PATH
void distill_forward_f64(const DistillArgs<double>& args) { forward(args); }
void distill_backward_f64(const DistillArgs<double>& args) { backward(args); }
void distill_visible_f64(const DistillVisibleArgs<double>& args) { visible(args); }
#endif

NF_END
