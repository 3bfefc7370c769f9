// Spherical harmonics on CUDA: one thread per direction.
//
// Traffic: 3 numbers read and up to 16 written per thread; a thread's row fills whole 32-byte
// sectors from degree 3 on, so spread accesses cost little. Each number has one owner: no atomics,
// and results repeat bit for bit.
//
// Not taken: rows through shared memory for writes in order; the kernel is a small part of a step.
#include "common/cuda.cuh"
#include "common/dual.h"
#include "ops/spherical_harmonics/spherical_harmonics.h"

NF_BEGIN
namespace {

template <class T>
__device__ void load(const T* from, std::int64_t row, int width, T* to) {
  for (int i = 0; i < width; ++i) to[i] = from[row * width + i];
}

template <class T, int Degree>
__global__ void forward_kernel(const __grid_constant__ SphericalHarmonicsArgs<T> args) {
  constexpr int n_values = Degree * Degree;
  const std::int64_t i = thread_index();
  if (i >= args.n) return;
  T d[3], out[n_values];
  load(args.directions, i, 3, d);
  spherical_harmonics<Degree, T>(d[0], d[1], d[2], out);
  for (int k = 0; k < n_values; ++k) args.output[i * n_values + k] = out[k];
}

template <class T, int Degree>
__global__ void backward_kernel(const __grid_constant__ SphericalHarmonicsArgs<T> args) {
  constexpr int n_values = Degree * Degree;
  const std::int64_t i = thread_index();
  if (i >= args.n) return;
  T d[3], g[n_values], grad[3];
  load(args.directions, i, 3, d);
  load(args.grad_output, i, n_values, g);
  spherical_harmonics_gradient<Degree, T>(d[0], d[1], d[2], g, grad);
  for (int k = 0; k < 3; ++k) args.grad_directions[i * 3 + k] = grad[k];
}

// Both results are derivatives along the tangents: of the values, and of the first gradient.
template <class T, int Degree>
__global__ void second_kernel(const __grid_constant__ SphericalHarmonicsArgs<T> args) {
  constexpr int n_values = Degree * Degree;
  const std::int64_t i = thread_index();
  if (i >= args.n) return;
  T d[3], tangent[3], g[n_values];
  load(args.directions, i, 3, d);
  load(args.tangents, i, 3, tangent);
  load(args.grad_output, i, n_values, g);
  Dual<T> x[3], weights[n_values], values[n_values], grad[3];
  for (int k = 0; k < 3; ++k) x[k] = {d[k], tangent[k]};
  for (int k = 0; k < n_values; ++k) weights[k] = {g[k], T(0)};
  spherical_harmonics<Degree, Dual<T>>(x[0], x[1], x[2], values);
  spherical_harmonics_gradient<Degree, Dual<T>>(x[0], x[1], x[2], weights, grad);
  for (int k = 0; k < n_values; ++k) args.grad_grad_output[i * n_values + k] = values[k].tangent;
  for (int k = 0; k < 3; ++k) args.grad_directions[i * 3 + k] = grad[k].tangent;
}

#define NF_SH_LAUNCH(op, kernel)                                      \
  switch (args.degree) {                                              \
    case 1: return launch(op, stream, args.n, kernel<T, 1>, args);    \
    case 2: return launch(op, stream, args.n, kernel<T, 2>, args);    \
    case 3: return launch(op, stream, args.n, kernel<T, 3>, args);    \
    default: return launch(op, stream, args.n, kernel<T, 4>, args);   \
  }

template <class T>
void forward(const SphericalHarmonicsArgs<T>& args, Stream stream) {
  NF_SH_LAUNCH("spherical_harmonics_forward", forward_kernel)
}
template <class T>
void backward(const SphericalHarmonicsArgs<T>& args, Stream stream) {
  NF_SH_LAUNCH("spherical_harmonics_backward", backward_kernel)
}
template <class T>
void second(const SphericalHarmonicsArgs<T>& args, Stream stream) {
  NF_SH_LAUNCH("spherical_harmonics_second", second_kernel)
}

}  // namespace

void spherical_harmonics_forward_f32(const SphericalHarmonicsArgs<float>& args, Stream stream) { forward(args, stream); }
void spherical_harmonics_backward_f32(const SphericalHarmonicsArgs<float>& args, Stream stream) { backward(args, stream); }
void spherical_harmonics_second_f32(const SphericalHarmonicsArgs<float>& args, Stream stream) { second(args, stream); }
void spherical_harmonics_forward_f64(const SphericalHarmonicsArgs<double>& args, Stream stream) { forward(args, stream); }
void spherical_harmonics_backward_f64(const SphericalHarmonicsArgs<double>& args, Stream stream) { backward(args, stream); }
void spherical_harmonics_second_f64(const SphericalHarmonicsArgs<double>& args, Stream stream) { second(args, stream); }

NF_END
