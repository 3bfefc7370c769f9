// The frequency encoding on CUDA: one thread per coordinate of a point, all its octaves.
//
// Traffic: one number read and 2 * n_octaves written (backward: the reverse). Threads of a warp hold
// neighbouring coordinates, so per octave they write runs of n_dims numbers, a row apart.
// Each number has one owner: no atomics, and results repeat bit for bit.
//
// Not taken: one thread per output number. It writes in order, but computes sine and cosine twice,
// and the backward sum over octaves would cross threads.
#include "common/cuda.cuh"
#include "ops/frequency/frequency.h"

NF_BEGIN
namespace {

// The coordinate of a thread: its position in the input, and its row and column.
struct Coordinate {
  std::int64_t index, point;
  int d;
  __device__ explicit Coordinate(const FrequencyShape& shape)
      : index(thread_index()), point(index / shape.n_dims), d(static_cast<int>(index % shape.n_dims)) {}
};

template <class T>
__global__ void forward_kernel(const __grid_constant__ FrequencyArgs<T> args) {
  const FrequencyShape& shape = args.shape;
  const Coordinate c(shape);
  if (c.point >= args.n) return;
  const T x = args.positions[c.index];
  T* row = args.output + c.point * shape.n_output();
  if (shape.identity) row[c.d] = x;
  for (int k = 0; k < shape.n_octaves; ++k) {
    T* column = row + frequency_sine_column(shape, k, c.d);
    frequency_sincos<T>(x, k, shape.include_pi, column, column + shape.n_dims);
  }
}

template <class T>
__global__ void backward_kernel(const __grid_constant__ FrequencyArgs<T> args) {
  const FrequencyShape& shape = args.shape;
  const Coordinate c(shape);
  if (c.point >= args.n) return;
  const T x = args.positions[c.index];
  const T* row = args.grad_output + c.point * shape.n_output();
  T sum = shape.identity ? row[c.d] : T(0);
  for (int k = 0; k < shape.n_octaves; ++k) {
    T sine, cosine;
    frequency_sincos<T>(x, k, shape.include_pi, &sine, &cosine);
    const T* g = row + frequency_sine_column(shape, k, c.d);
    sum = sum + frequency_rate<T>(k, shape.include_pi) * (g[0] * cosine - g[shape.n_dims] * sine);
  }
  args.grad_positions[c.index] = sum;
}

template <class T>
__global__ void second_kernel(const __grid_constant__ FrequencyArgs<T> args) {
  const FrequencyShape& shape = args.shape;
  const Coordinate c(shape);
  if (c.point >= args.n) return;
  const T x = args.positions[c.index], tangent = args.tangents[c.index];
  const T* row = args.grad_output + c.point * shape.n_output();
  T* out = args.grad_grad_output + c.point * shape.n_output();
  if (shape.identity) out[c.d] = tangent;
  T sum = 0;
  for (int k = 0; k < shape.n_octaves; ++k) {
    T sine, cosine;
    frequency_sincos<T>(x, k, shape.include_pi, &sine, &cosine);
    const int column = frequency_sine_column(shape, k, c.d);
    const T rate = frequency_rate<T>(k, shape.include_pi);
    out[column] = rate * (tangent * cosine);
    out[column + shape.n_dims] = -rate * (tangent * sine);
    sum = sum - (rate * rate) * (row[column] * sine + row[column + shape.n_dims] * cosine);
  }
  args.grad_positions[c.index] = tangent * sum;
}

template <class T>
void forward(const FrequencyArgs<T>& args, Stream stream) {
  launch("frequency_forward", stream, args.n * args.shape.n_dims, forward_kernel<T>, args);
}
template <class T>
void backward(const FrequencyArgs<T>& args, Stream stream) {
  launch("frequency_backward", stream, args.n * args.shape.n_dims, backward_kernel<T>, args);
}
template <class T>
void second(const FrequencyArgs<T>& args, Stream stream) {
  launch("frequency_second", stream, args.n * args.shape.n_dims, second_kernel<T>, args);
}

}  // namespace

void frequency_forward_f32(const FrequencyArgs<float>& args, Stream stream) { forward(args, stream); }
void frequency_backward_f32(const FrequencyArgs<float>& args, Stream stream) { backward(args, stream); }
void frequency_second_f32(const FrequencyArgs<float>& args, Stream stream) { second(args, stream); }
void frequency_forward_f64(const FrequencyArgs<double>& args, Stream stream) { forward(args, stream); }
void frequency_backward_f64(const FrequencyArgs<double>& args, Stream stream) { backward(args, stream); }
void frequency_second_f64(const FrequencyArgs<double>& args, Stream stream) { second(args, stream); }

NF_END
