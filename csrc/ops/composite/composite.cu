// Compositing on CUDA: one thread per ray, which walks its samples front to back as on the CPU. What
// belongs to no ray is cleared by a thread per sample, of which the others return at once.
//
// Traffic: a sample is 6 numbers read and, backward, 4 written; neighbouring threads read different
// rays, so accesses of a warp are spread and rely on the caches. Nothing is shared between rays:
// no atomics, and results repeat bit for bit.
//
// Not taken: one warp per ray with a scan over its samples. It reads in order and does not wait for
// the longest of 32 rays, but sums in another order than the CPU, and an early end saves nothing.
#include "common/cuda.cuh"
#include "ops/composite/composite.h"

NF_BEGIN
namespace {

template <class T>
__global__ void forward_kernel(const __grid_constant__ CompositeArgs<T> args) {
  const std::int64_t ray = thread_index();
  if (ray < args.n_rays) composite_forward_ray(args, ray);
}

template <class T>
__global__ void backward_kernel(const __grid_constant__ CompositeArgs<T> args) {
  const std::int64_t ray = thread_index();
  if (ray < args.n_rays) composite_backward_ray(args, ray);
}

template <class T>
__global__ void forward_rest_kernel(const __grid_constant__ CompositeArgs<T> args) {
  const std::int64_t i = thread_index();
  if (i < args.n && i >= packed_end(args.offsets, args.n_rays, args.n)) composite_forward_rest(args, i);
}

template <class T>
__global__ void backward_rest_kernel(const __grid_constant__ CompositeArgs<T> args) {
  const std::int64_t i = thread_index();
  if (i < args.n && i >= packed_end(args.offsets, args.n_rays, args.n)) composite_backward_rest(args, i);
}

template <class T>
void forward(const CompositeArgs<T>& args, Stream stream) {
  launch("composite_forward", stream, args.n_rays, forward_kernel<T>, args);
  if (args.weights != nullptr) launch("composite_forward", stream, args.n, forward_rest_kernel<T>, args);
}

template <class T>
void backward(const CompositeArgs<T>& args, Stream stream) {
  launch("composite_backward", stream, args.n_rays, backward_kernel<T>, args);
  launch("composite_backward", stream, args.n, backward_rest_kernel<T>, args);
}

}  // namespace

void composite_forward_f32(const CompositeArgs<float>& args, Stream stream) { forward(args, stream); }
void composite_backward_f32(const CompositeArgs<float>& args, Stream stream) { backward(args, stream); }
void composite_forward_f64(const CompositeArgs<double>& args, Stream stream) { forward(args, stream); }
void composite_backward_f64(const CompositeArgs<double>& args, Stream stream) { backward(args, stream); }

NF_END
