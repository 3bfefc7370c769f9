// Modulation on CUDA: a warp per row, whose channels its threads share; sums cross them by shuffles.
//
// Traffic: a row is read and written once from memory (statistics read it from L1 again).
// Each number has one owner and sums have a fixed order: results repeat bit for bit.
#include "common/cuda.cuh"
#include "ops/modulate/modulate.h"

NF_BEGIN
namespace {

constexpr int kWarp = 32;

// The sum over a warp's threads, the same in all of them.
template <class T>
__device__ T warp_sum(T x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

template <class T>
__device__ ModulateStatistics<T> statistics(const ModulateArgs<T>& args, const T* x, int lane) {
  if (!args.normalize) return {0, 1};
  T sum = 0, squares = 0;
  for (int c = lane; c < args.n_channels; c += kWarp) sum += x[c];
  const T mean = warp_sum(sum) / T(args.n_channels);
  for (int c = lane; c < args.n_channels; c += kWarp) squares += (x[c] - mean) * (x[c] - mean);
  return {mean, modulate_rate(warp_sum(squares) / T(args.n_channels))};
}

template <class T>
__global__ void forward_kernel(const __grid_constant__ ModulateArgs<T> args) {
  const std::int64_t i = thread_index() / kWarp;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  if (i >= args.n) return;  // whole warps
  const T* x = args.features + i * args.n_channels;
  const ModulateRow<T> row = modulate_row(statistics(args, x, lane), args.scale[i], args.shift[i]);
  for (int c = lane; c < args.n_channels; c += kWarp)
    args.output[i * args.n_channels + c] = row.factor * x[c] + row.offset;
}

template <class T>
__global__ void backward_kernel(const __grid_constant__ ModulateArgs<T> args) {
  const std::int64_t i = thread_index() / kWarp;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  if (i >= args.n) return;
  const T* x = args.features + i * args.n_channels;
  const T* g = args.grad_output + i * args.n_channels;
  const ModulateStatistics<T> s = statistics(args, x, lane);
  T sum = 0, product = 0;
  for (int c = lane; c < args.n_channels; c += kWarp) {
    sum += g[c];
    product += g[c] * ((x[c] - s.mean) * s.rate);
  }
  sum = warp_sum(sum);
  product = warp_sum(product);
  if (lane == 0) {
    args.grad_shift[i] = sum;
    args.grad_scale[i] = product;
  }
  const T share = args.normalize ? T(1) / T(args.n_channels) : T(0);
  for (int c = lane; c < args.n_channels; c += kWarp)
    args.grad_features[i * args.n_channels + c] = modulate_gradient(s, args.scale[i], sum * share, product * share, g[c], x[c]);
}

}  // namespace

void modulate_forward_f32(const ModulateArgs<float>& args, Stream stream) {
  launch("modulate_forward", stream, args.n * kWarp, forward_kernel<float>, args);
}
void modulate_backward_f32(const ModulateArgs<float>& args, Stream stream) {
  launch("modulate_backward", stream, args.n * kWarp, backward_kernel<float>, args);
}
void modulate_forward_f64(const ModulateArgs<double>& args, Stream stream) {
  launch("modulate_forward", stream, args.n * kWarp, forward_kernel<double>, args);
}
void modulate_backward_f64(const ModulateArgs<double>& args, Stream stream) {
  launch("modulate_backward", stream, args.n * kWarp, backward_kernel<double>, args);
}

NF_END
