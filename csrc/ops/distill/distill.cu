// Distillation on CUDA: numbers of all levels in pieces, a ray's selection, a list's selection.
//
// Losses: a block sums the squares of 4096 numbers of one level (or counts the samples kept), and one
// block adds the pieces' sums in a fixed order, so that results repeat bit for bit. Traffic: two
// numbers read forward; the same two read and one written backward, all coalesced.
//
// Rays: one thread each, which reads its weights some 20 times, mostly from the caches. Hardest: one
// pass over the list per bit, whose counts add up by integer atomics; the host waits for none of them.
//
// Not taken: radix histograms in shared memory, which need 4 passes instead of 31 over a list that is
// small (one number per ray of a batch).
#include <cub/device/device_scan.cuh>

#include "common/cuda.cuh"
#include "ops/distill/distill.h"

NF_BEGIN
namespace {

constexpr int kPiece = 4096;                 // numbers per block
constexpr int kSums = kDistillLevels + 1;    // the last counts the samples kept
constexpr int kBits = kKeyBits<std::int32_t>;

// The sum over a block's threads, in all of them.
__device__ double block_sum(double x) {
  __shared__ double sums[kBlockThreads];
  __syncthreads();  // the sum before may still be read
  sums[threadIdx.x] = x;
  for (unsigned half = kBlockThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  __syncthreads();
  return sums[0];
}

template <class T>
__device__ bool kept(const DistillArgs<T>& args, std::int64_t sample) {
  return args.keep == nullptr || args.keep[sample];
}

// Of number `at` of a level, which is in some column of a sample.
template <class T>
__device__ DistillDifference<T> difference_at(const DistillArgs<T>& args, const DistillLevel<T>& level,
                                              std::int64_t sample, bool first_column, std::int64_t at) {
  if (!kept(args, sample)) return {0, 0};
  const T student = level.student[at], teacher = level.teacher[at];
  if (level.log_density && first_column) return distill_difference(student, teacher, args.low, args.high);
  return {student - teacher, student - teacher};
}

// A thread's share of a piece of one level: its squares.
template <class T>
__device__ T level_squares(const DistillArgs<T>& args, const DistillLevel<T>& level, std::int64_t first) {
  const std::int64_t n = args.n * level.width, row = first / level.width;
  const unsigned width = static_cast<unsigned>(level.width), column = static_cast<unsigned>(first - row * level.width);
  T squares = 0;
  for (unsigned i = threadIdx.x; i < kPiece && first + i < n; i += kBlockThreads) {
    const unsigned place = column + i;
    const T value = difference_at(args, level, row + place / width, place % width == 0, first + i).value;
    squares += value * value;
  }
  return squares;
}

// blockIdx.x: which piece; blockIdx.y: which sum.
template <class T>
__global__ void sums_kernel(const __grid_constant__ DistillArgs<T> args, double* sums) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kPiece;
  double own = 0;
  if (blockIdx.y == kDistillLevels) {
    for (std::int64_t i = first + threadIdx.x; i < first + kPiece && i < args.n; i += kBlockThreads) own += kept(args, i) ? 1 : 0;
  } else if (args.levels[blockIdx.y].width > 0) {
    own = level_squares(args, args.levels[blockIdx.y], first);
  }
  const double sum = block_sum(own);
  if (threadIdx.x == 0) sums[static_cast<std::int64_t>(blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

template <class T>
__global__ void finish_kernel(const __grid_constant__ DistillArgs<T> args, const double* sums, std::int64_t n_pieces) {
  double totals[kSums];
  for (int s = 0; s < kSums; ++s) {
    double own = 0;
    for (std::int64_t i = threadIdx.x; i < n_pieces; i += kBlockThreads) own += sums[s * n_pieces + i];
    totals[s] = block_sum(own);
  }
  if (threadIdx.x == 0)
    for (int l = 0; l < kDistillLevels; ++l) distill_finish(args, l, totals[l], totals[kDistillLevels]);
}

template <class T>
__global__ void backward_kernel(const __grid_constant__ DistillArgs<T> args) {
  const DistillLevel<T>& level = args.levels[blockIdx.y];
  const std::int64_t i = thread_index();
  if (level.grad_student == nullptr || i >= args.n * level.width) return;
  const std::int64_t sample = i / level.width;
  const T factor = args.grad_losses[blockIdx.y] * args.factors[blockIdx.y];
  level.grad_student[i] = factor * difference_at(args, level, sample, i == sample * level.width, i).passed;
}

template <class T>
std::int64_t most_numbers(const DistillArgs<T>& args) {
  std::int64_t width = 1;  // of the samples that are counted
  for (const DistillLevel<T>& level : args.levels) width = level.width > width ? level.width : width;
  return args.n * width;
}

template <class T>
void forward(const DistillArgs<T>& args, Stream stream) {
  const char* op = "distill_forward";
  const std::int64_t n_pieces = (most_numbers(args) + kPiece - 1) / kPiece;
  double* sums = scratch<double>(n_pieces * kSums);
  launch_blocks(op, stream, n_pieces, kSums, 0, sums_kernel<T>, args, sums);
  launch_blocks(op, stream, 1, 1, 0, finish_kernel<T>, args, sums, n_pieces);
}

template <class T>
void backward(const DistillArgs<T>& args, Stream stream) {
  launch_rows("distill_backward", stream, most_numbers(args), kDistillLevels, backward_kernel<T>, args);
}

template <class T>
__global__ void visible_kernel(const __grid_constant__ DistillVisibleArgs<T> args) {
  const std::int64_t ray = thread_index();
  if (ray < args.n_rays) distill_visible_ray(args, ray);
}

template <class T>
__global__ void visible_rest_kernel(const __grid_constant__ DistillVisibleArgs<T> args) {
  const std::int64_t i = thread_index();
  if (i < args.n && i >= packed_end(args.offsets, args.n_rays, args.n)) distill_visible_rest(args, i);
}

template <class T>
void visible(const DistillVisibleArgs<T>& args, Stream stream) {
  launch("distill_visible", stream, args.n_rays, visible_kernel<T>, args);
  launch("distill_visible", stream, args.n, visible_rest_kernel<T>, args);
}

// ---- hardest -------------------------------------------------------------------------------------

// The bits of the k-th largest key above `bit`, from the counts of the candidates.
__device__ std::int32_t found_above(int bit, std::int64_t k, const unsigned long long* counts) {
  std::int32_t found = 0;
  for (int b = kBits - 1; b > bit; --b)
    if (static_cast<std::int64_t>(counts[b]) >= k) found |= 1 << b;
  return found;
}

__global__ void count_kernel(const __grid_constant__ DistillHardestArgs args, int bit, unsigned long long* counts) {
  const std::int64_t i = thread_index();
  const std::int32_t candidate = found_above(bit, args.k, counts) | 1 << bit;
  const int n = __syncthreads_count(i < args.n && order_key(args.difficulty[i]) >= candidate);
  if (threadIdx.x == 0 && n > 0) atomicAdd(counts + bit, static_cast<unsigned long long>(n));
}

// Two counts in one number, so that one scan runs over both: keys above the k-th, keys equal to it.
constexpr std::int64_t kAbove = std::int64_t(1) << 32;

__device__ std::int64_t mark(const DistillHardestArgs& args, std::int64_t i, std::int32_t least) {
  const std::int32_t key = order_key(args.difficulty[i]);
  return key > least ? kAbove : (key == least ? 1 : 0);
}

__global__ void mark_kernel(const __grid_constant__ DistillHardestArgs args, const unsigned long long* counts, std::int64_t* marks) {
  const std::int64_t i = thread_index();
  if (i < args.n) marks[i] = mark(args, i, found_above(-1, args.k, counts));
}

// `marks` are running sums, with those of the number itself.
__global__ void place_kernel(const __grid_constant__ DistillHardestArgs args, const unsigned long long* counts, const std::int64_t* marks) {
  const std::int64_t i = thread_index();
  if (i >= args.n) return;
  const std::int64_t own = mark(args, i, found_above(-1, args.k, counts)), before = marks[i] - own;
  const std::int64_t n_equal = args.k - marks[args.n - 1] / kAbove, equal = before % kAbove;
  if (own == kAbove || (own == 1 && equal < n_equal))
    args.output[before / kAbove + (equal < n_equal ? equal : n_equal)] = i;
}

}  // namespace

void distill_forward_f32(const DistillArgs<float>& args, Stream stream) { forward(args, stream); }
void distill_backward_f32(const DistillArgs<float>& args, Stream stream) { backward(args, stream); }
void distill_forward_f64(const DistillArgs<double>& args, Stream stream) { forward(args, stream); }
void distill_backward_f64(const DistillArgs<double>& args, Stream stream) { backward(args, stream); }
void distill_visible_f32(const DistillVisibleArgs<float>& args, Stream stream) { visible(args, stream); }
void distill_visible_f64(const DistillVisibleArgs<double>& args, Stream stream) { visible(args, stream); }

void distill_hardest(const DistillHardestArgs& args, Stream stream) {
  if (args.k == 0) return;
  const char* op = "distill_hardest";
  if (args.n >= kAbove) throw std::runtime_error(std::string(op) + ": needs fewer than 2^32 numbers.");
  auto* counts = scratch<unsigned long long>(kBits);
  auto* marks = scratch<std::int64_t>(args.n);
  check_cuda(op, cudaMemsetAsync(counts, 0, kBits * sizeof(unsigned long long), stream));
  for (int bit = kBits - 1; bit >= 0; --bit) launch(op, stream, args.n, count_kernel, args, bit, counts);
  launch(op, stream, args.n, mark_kernel, args, counts, marks);
  std::size_t n_bytes = 0;
  check_cuda(op, cub::DeviceScan::InclusiveSum(nullptr, n_bytes, marks, marks, args.n, stream));
  void* room = scratch<unsigned char>(static_cast<std::int64_t>(n_bytes));
  check_cuda(op, cub::DeviceScan::InclusiveSum(room, n_bytes, marks, marks, args.n, stream));
  launch(op, stream, args.n, place_kernel, args, counts, marks);
}

NF_END
