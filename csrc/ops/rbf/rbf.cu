// Gaussian neurons on CUDA: a thread per number of each step, which are sums over features, kernels,
// outputs or a block of points.
//
// Traffic: s and -s mu of distances, for gradients beta and -mu, are computed once, kernels the
// fastest axis, so that a warp reads them in order and the point's features as broadcasts; activations and what the backward
// passes make of them go through memory, [n, n_kernels] each. Gradients of parameters are atomic
// adds of sums over kPoints points: their last bits differ from run to run. Everything else has one
// owner and repeats bit for bit.
//
// Not taken: one launch for all steps with activations in shared memory; matrix units.
#include "common/cuda.cuh"
#include "ops/rbf/rbf.h"

NF_BEGIN
namespace {

constexpr int kPoints = 1024;  // per sum of a parameter's gradient

template <class T>
struct Packed {
  T *scale, *offset;  // [n_input, n_kernels]
  explicit Packed(const RbfShape& shape)
      : scale(scratch<T>(std::int64_t(shape.n_input) * shape.n_kernels)),
        offset(scratch<T>(std::int64_t(shape.n_input) * shape.n_kernels)) {}
};

template <class T>
__global__ void pack_kernel(const __grid_constant__ RbfArgs<T> args, bool gradients, T* scale, T* offset) {
  const std::int64_t i = thread_index();
  const RbfShape& shape = args.shape;
  if (i >= std::int64_t(shape.n_input) * shape.n_kernels) return;
  const int j = static_cast<int>(i / shape.n_kernels), k = static_cast<int>(i % shape.n_kernels);
  const T s = gradients ? rbf_scale(args, k, j) : rbf_distance_scale(args, k, j), center = args.centers[k * shape.n_input + j];
  scale[i] = gradients ? s * s : s;
  offset[i] = gradients ? -center : -s * center;
}

// phi [n, n_kernels]
template <class T>
__global__ void values_kernel(const __grid_constant__ RbfArgs<T> args, const T* scale, const T* offset, T* phi) {
  const std::int64_t i = thread_index();
  const int n_kernels = args.shape.n_kernels, n_input = args.shape.n_input;
  if (i >= args.n * n_kernels) return;
  const int k = static_cast<int>(i % n_kernels);
  const T* x = args.features + i / n_kernels * n_input;
  T sum = 0;
  for (int j = 0; j < n_input; ++j) {
    const T t = x[j] * scale[j * n_kernels + k] + offset[j * n_kernels + k];
    sum += t * t;
  }
  phi[i] = rbf_value<T>(sum);
}

// y [n, n_output] = factor * phi W^T + bias
template <class T>
__global__ void read_out_kernel(const __grid_constant__ RbfArgs<T> args, const T* phi, const T* bias, T factor, T* y) {
  const std::int64_t i = thread_index();
  const int n_kernels = args.shape.n_kernels, n_output = args.shape.n_output;
  if (i >= args.n * n_output) return;
  const int o = static_cast<int>(i % n_output);
  const T* row = phi + i / n_output * n_kernels;
  T sum = 0;
  for (int k = 0; k < n_kernels; ++k) sum += row[k] * args.weight[o * n_kernels + k];
  y[i] = factor * sum + (bias == nullptr ? T(0) : bias[o]);
}

// q = phi * (grad_output W); for the second derivative also w = q a and phi a.
template <class T>
__global__ void start_kernel(const __grid_constant__ RbfArgs<T> args, const T* scale, const T* offset, T* q, T* w, T* phi_a) {
  const std::int64_t i = thread_index();
  const int n_kernels = args.shape.n_kernels, n_output = args.shape.n_output, n_input = args.shape.n_input;
  if (i >= args.n * n_kernels) return;
  const int k = static_cast<int>(i % n_kernels);
  const std::int64_t point = i / n_kernels;
  T sum = 0;
  for (int o = 0; o < n_output; ++o) sum += args.grad_output[point * n_output + o] * args.weight[o * n_kernels + k];
  q[i] = sum * args.activations[i];
  if (w == nullptr) return;
  T a = 0;
  for (int j = 0; j < n_input; ++j) {
    const T u = args.features[point * n_input + j] + offset[j * n_kernels + k];
    a += args.tangents[point * n_input + j] * (scale[j * n_kernels + k] * u);
  }
  w[i] = q[i] * a;
  phi_a[i] = args.activations[i] * a;
}

// What a point and a kernel add along one feature.
template <class T>
struct Term {
  T center, log_precision;
  __device__ Term(const RbfArgs<T>& args, const T* q, const T* w, std::int64_t point, int k, int j, T offset) {
    const std::int64_t i = point * args.shape.n_kernels + k, at = point * args.shape.n_input + j;
    const T u = args.features[at] + offset;
    if (w == nullptr) {
      const RbfGradient<T, T> term(q[i], u);
      center = term.center;
      log_precision = term.log_precision;
    } else {
      const RbfSecond<T, T> term(q[i], w[i], u, args.tangents[at]);
      center = term.center;
      log_precision = term.log_precision;
    }
  }
};

template <class T>
__global__ void features_kernel(const __grid_constant__ RbfArgs<T> args, const T* scale, const T* offset, const T* q, const T* w) {
  const std::int64_t i = thread_index();
  const int n_kernels = args.shape.n_kernels, n_input = args.shape.n_input;
  if (i >= args.n * n_input) return;
  const int j = static_cast<int>(i % n_input);
  T sum = 0;
  for (int k = 0; k < n_kernels; ++k)
    sum += scale[j * n_kernels + k] * Term<T>(args, q, w, i / n_input, k, j, offset[j * n_kernels + k]).center;
  args.grad_features[i] = -sum;
}

__device__ inline std::int64_t block_begin() { return std::int64_t(blockIdx.y) * kPoints; }
__device__ inline std::int64_t block_end(std::int64_t n) {
  const std::int64_t end = block_begin() + kPoints;
  return end < n ? end : n;
}

template <class T>
__global__ void neurons_kernel(const __grid_constant__ RbfArgs<T> args, const T* scale, const T* offset, const T* q, const T* w) {
  const std::int64_t i = thread_index();
  const int n_kernels = args.shape.n_kernels, n_input = args.shape.n_input;
  if (i >= std::int64_t(n_input) * n_kernels) return;
  const int j = static_cast<int>(i / n_kernels), k = static_cast<int>(i % n_kernels);
  T center = 0, log_precision = 0;
  for (std::int64_t point = block_begin(); point < block_end(args.n); ++point) {
    const Term<T> term(args, q, w, point, k, j, offset[i]);
    center += term.center;
    log_precision += term.log_precision;
  }
  atomicAdd(args.grad_centers + k * n_input + j, scale[i] * center);
  atomicAdd(args.grad_log_precision + (args.shape.isotropic ? k : k * n_input + j), T(-0.5) * scale[i] * log_precision);
}

// factor * sum_n g[n, o] phi[n, k], and the bias's sum_n g[n, o] where it is asked for
template <class T>
__global__ void weight_kernel(const __grid_constant__ RbfArgs<T> args, const T* phi, T factor) {
  const std::int64_t i = thread_index();
  const int n_kernels = args.shape.n_kernels, n_output = args.shape.n_output;
  if (i >= std::int64_t(n_output) * n_kernels) return;
  const int o = static_cast<int>(i / n_kernels), k = static_cast<int>(i % n_kernels);
  T weight = 0, bias = 0;
  for (std::int64_t point = block_begin(); point < block_end(args.n); ++point) {
    const T g = args.grad_output[point * n_output + o];
    weight += g * phi[point * n_kernels + k];
    bias += g;
  }
  atomicAdd(args.grad_weight + i, factor * weight);
  if (args.grad_bias != nullptr && k == 0) atomicAdd(args.grad_bias + o, bias);
}

template <class T>
void zero(const char* op, Stream stream, T* numbers, std::int64_t n) {
  if (numbers != nullptr) check_cuda(op, cudaMemsetAsync(numbers, 0, static_cast<std::size_t>(n) * sizeof(T), stream));
}

int n_blocks_of_points(std::int64_t n) { return static_cast<int>((n + kPoints - 1) / kPoints); }

template <class T>
void pack(const char* op, const RbfArgs<T>& args, bool gradients, const Packed<T>& s, Stream stream) {
  launch(op, stream, std::int64_t(args.shape.n_input) * args.shape.n_kernels, pack_kernel<T>, args, gradients, s.scale, s.offset);
}

template <class T>
void forward(const RbfArgs<T>& args, Stream stream) {
  const char* op = "rbf_forward";
  const RbfShape& shape = args.shape;
  const Packed<T> s(shape);
  T* phi = args.activations == nullptr ? scratch<T>(args.n * shape.n_kernels) : args.activations;
  pack(op, args, false, s, stream);
  launch(op, stream, args.n * shape.n_kernels, values_kernel<T>, args, s.scale, s.offset, phi);
  launch(op, stream, args.n * shape.n_output, read_out_kernel<T>, args, phi, args.bias, T(1), args.output);
}

// The gradients from q and, for the second derivative, w; `phi` is what the readout's gets, times factor.
template <class T>
void add_gradients(const char* op, const RbfArgs<T>& args, const Packed<T>& s, const T* q, const T* w, const T* phi, T factor,
                   Stream stream) {
  const RbfShape& shape = args.shape;
  if (args.grad_features != nullptr)
    launch(op, stream, args.n * shape.n_input, features_kernel<T>, args, s.scale, s.offset, q, w);
  if (args.grad_centers == nullptr) return;
  const std::int64_t n_numbers = std::int64_t(shape.n_input) * shape.n_kernels;
  zero(op, stream, args.grad_centers, n_numbers);
  zero(op, stream, args.grad_log_precision, shape.n_precisions());
  zero(op, stream, args.grad_weight, std::int64_t(shape.n_output) * shape.n_kernels);
  zero(op, stream, args.grad_bias, shape.n_output);
  const int n_rows = n_blocks_of_points(args.n);
  launch_rows(op, stream, n_numbers, n_rows, neurons_kernel<T>, args, s.scale, s.offset, q, w);
  launch_rows(op, stream, std::int64_t(shape.n_output) * shape.n_kernels, n_rows, weight_kernel<T>, args, phi, factor);
}

template <class T>
void backward(const RbfArgs<T>& args, Stream stream) {
  const char* op = "rbf_backward";
  const Packed<T> s(args.shape);
  const std::int64_t n = args.n * args.shape.n_kernels;
  T* q = scratch<T>(n);
  T* none = nullptr;
  pack(op, args, true, s, stream);
  launch(op, stream, n, start_kernel<T>, args, s.scale, s.offset, q, none, none);
  add_gradients<T>(op, args, s, q, none, args.activations, T(1), stream);
}

template <class T>
void second(const RbfArgs<T>& args, Stream stream) {
  const char* op = "rbf_second";
  const Packed<T> s(args.shape);
  const std::int64_t n = args.n * args.shape.n_kernels;
  T *q = scratch<T>(n), *w = scratch<T>(n), *phi_a = scratch<T>(n);
  pack(op, args, true, s, stream);
  launch(op, stream, n, start_kernel<T>, args, s.scale, s.offset, q, w, phi_a);
  const T* no_bias = nullptr;
  launch(op, stream, args.n * args.shape.n_output, read_out_kernel<T>, args, phi_a, no_bias, T(-1), args.grad_grad_output);
  add_gradients<T>(op, args, s, q, w, phi_a, T(-1), stream);
}

}  // namespace

void rbf_forward_f32(const RbfArgs<float>& args, Stream stream) { forward(args, stream); }
void rbf_backward_f32(const RbfArgs<float>& args, Stream stream) { backward(args, stream); }
void rbf_second_f32(const RbfArgs<float>& args, Stream stream) { second(args, stream); }
void rbf_forward_f64(const RbfArgs<double>& args, Stream stream) { forward(args, stream); }
void rbf_backward_f64(const RbfArgs<double>& args, Stream stream) { backward(args, stream); }
void rbf_second_f64(const RbfArgs<double>& args, Stream stream) { second(args, stream); }

NF_END
