// CPU loops of the frequency encoding: a register of points at a time.
#include "ops/frequency/frequency.h"

#include "common/loops.h"
#include "common/rows.h"

NF_BEGIN
namespace {

constexpr std::int64_t kChunk = 1024;  // points per task

// f(first, end, d, x) for every register of points and every coordinate
template <class T, class F>
void for_coordinates(const FrequencyArgs<T>& args, F&& f) {
  using L = typename RowLanes<T>::type;
  parallel_chunks(args.n, kChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t first = begin; first < end; first += LaneTraits<L>::width) {
      L x[kFrequencyMaxDims];
      load_rows<L>(args.positions, args.shape.n_dims, first, end, x);
      for (int d = 0; d < args.shape.n_dims; ++d) f(first, end, d, x[d]);
    }
  });
}

template <class T>
void forward(const FrequencyArgs<T>& args) {
  using L = typename RowLanes<T>::type;
  const FrequencyShape shape = args.shape;
  const int width = shape.n_output();
  for_coordinates(args, [&](std::int64_t first, std::int64_t end, int d, L x) {
    if (shape.identity) store_column<L>(args.output, width, first, end, d, x);
    for (int k = 0; k < shape.n_octaves; ++k) {
      L sine, cosine;
      frequency_sincos<L>(x, k, shape.include_pi, &sine, &cosine);
      const int column = frequency_sine_column(shape, k, d);
      store_column<L>(args.output, width, first, end, column, sine);
      store_column<L>(args.output, width, first, end, column + shape.n_dims, cosine);
    }
  });
}

template <class T>
void backward(const FrequencyArgs<T>& args) {
  using L = typename RowLanes<T>::type;
  const FrequencyShape shape = args.shape;
  const int width = shape.n_output();
  for_coordinates(args, [&](std::int64_t first, std::int64_t end, int d, L x) {
    L sum = shape.identity ? load_column<L>(args.grad_output, width, first, end, d) : broadcast<L>(0);
    for (int k = 0; k < shape.n_octaves; ++k) {
      L sine, cosine;
      frequency_sincos<L>(x, k, shape.include_pi, &sine, &cosine);
      const int column = frequency_sine_column(shape, k, d);
      const L g_sine = load_column<L>(args.grad_output, width, first, end, column);
      const L g_cosine = load_column<L>(args.grad_output, width, first, end, column + shape.n_dims);
      sum = sum + frequency_rate<T>(k, shape.include_pi) * (g_sine * cosine - g_cosine * sine);
    }
    store_column<L>(args.grad_positions, shape.n_dims, first, end, d, sum);
  });
}

template <class T>
void second(const FrequencyArgs<T>& args) {
  using L = typename RowLanes<T>::type;
  const FrequencyShape shape = args.shape;
  const int width = shape.n_output();
  for_coordinates(args, [&](std::int64_t first, std::int64_t end, int d, L x) {
    const L tangent = load_column<L>(args.tangents, shape.n_dims, first, end, d);
    if (shape.identity) store_column<L>(args.grad_grad_output, width, first, end, d, tangent);
    L sum = broadcast<L>(0);
    for (int k = 0; k < shape.n_octaves; ++k) {
      L sine, cosine;
      frequency_sincos<L>(x, k, shape.include_pi, &sine, &cosine);
      const int column = frequency_sine_column(shape, k, d);
      const T rate = frequency_rate<T>(k, shape.include_pi);
      const L g_sine = load_column<L>(args.grad_output, width, first, end, column);
      const L g_cosine = load_column<L>(args.grad_output, width, first, end, column + shape.n_dims);
      store_column<L>(args.grad_grad_output, width, first, end, column, rate * (tangent * cosine));
      store_column<L>(args.grad_grad_output, width, first, end, column + shape.n_dims, -rate * (tangent * sine));
      sum = sum - (rate * rate) * (g_sine * sine + g_cosine * cosine);
    }
    store_column<L>(args.grad_positions, shape.n_dims, first, end, d, tangent * sum);
  });
}

}  // namespace

void frequency_forward_f32(const FrequencyArgs<float>& args) { forward(args); }
void frequency_backward_f32(const FrequencyArgs<float>& args) { backward(args); }
void frequency_second_f32(const FrequencyArgs<float>& args) { second(args); }
#ifndef NF_FAST_PATH
void frequency_forward_f64(const FrequencyArgs<double>& args) { forward(args); }
void frequency_backward_f64(const FrequencyArgs<double>& args) { backward(args); }
void frequency_second_f64(const FrequencyArgs<double>& args) { second(args); }
#endif

NF_END
