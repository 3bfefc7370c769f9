// CPU loops of the modulation: a row stays in the nearest cache between its passes, so that memory
// is read and written once.
#include "ops/modulate/modulate.h"

#include "common/loops.h"
#include "common/pack.h"

NF_BEGIN
namespace {

constexpr int kChunkNumbers = 1 << 15;  // per task

// A sum over the channels of a row; several can run in one pass.
template <class T>
struct ChannelSum {
  Pack<T, kPackFloats> wide{};
  T rest = 0;

  template <int W>
  NF_INLINE void add(Pack<T, W> x) {
    if constexpr (W == kPackFloats) wide += x;
    else rest += pack_sum<T, W>(x);
  }
  NF_INLINE T total() const { return pack_sum<T, kPackFloats>(wide) + rest; }
};

template <int W, class T>
NF_INLINE Pack<T, W> centered(const T* x, T mean) {
  return pack_load<T, W>(x) + constant_pack<T, W>(-mean);
}

template <class T>
NF_INLINE ModulateStatistics<T> statistics(const T* x, int n) {
  ChannelSum<T> sum, squares;
  for_packs(n, [&](auto width, int c) { sum.template add<width>(pack_load<T, width>(x + c)); });
  const T mean = sum.total() / T(n);
  for_packs(n, [&](auto width, int c) {
    const Pack<T, width> y = centered<width>(x + c, mean);
    squares.template add<width>(y * y);
  });
  return {mean, modulate_rate(squares.total() / T(n))};
}

// Of a row and its gradient: the statistics, the sum of g and that of g * normalised, in two passes.
template <class T>
struct GradientSums {
  ModulateStatistics<T> s{0, 1};
  T g = 0, product = 0;

  NF_INLINE GradientSums(const T* x, const T* grad, int n, bool normalize) {
    ChannelSum<T> sum, sum_g, squares, products;
    for_packs(n, [&](auto width, int c) {
      sum.template add<width>(pack_load<T, width>(x + c));
      sum_g.template add<width>(pack_load<T, width>(grad + c));
    });
    if (normalize) s.mean = sum.total() / T(n);
    for_packs(n, [&](auto width, int c) {
      const Pack<T, width> y = centered<width>(x + c, s.mean);
      squares.template add<width>(y * y);
      products.template add<width>(pack_load<T, width>(grad + c) * y);
    });
    if (normalize) s.rate = modulate_rate(squares.total() / T(n));
    g = sum_g.total();
    product = s.rate * products.total();
  }
};

template <class T, class Body>
void for_rows(const ModulateArgs<T>& args, Body&& body) {
  const std::int64_t chunk = kChunkNumbers / args.n_channels + 1;
  parallel_chunks(args.n, chunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) body(i, args.features + i * args.n_channels);
  });
}

template <class T>
void forward(const ModulateArgs<T>& args) {
  const int n = args.n_channels;
  for_rows(args, [&](std::int64_t i, const T* x) {
    const ModulateStatistics<T> s = args.normalize ? statistics(x, n) : ModulateStatistics<T>{0, 1};
    const ModulateRow<T> row = modulate_row(s, args.scale[i], args.shift[i]);
    T* y = args.output + i * n;
    for_packs(n, [&](auto width, int c) {
      pack_store<T, width>(y + c, row.factor * pack_load<T, width>(x + c) + constant_pack<T, width>(row.offset));
    });
  });
}

template <class T>
void backward(const ModulateArgs<T>& args) {
  const int n = args.n_channels;
  for_rows(args, [&](std::int64_t i, const T* x) {
    const T* g = args.grad_output + i * n;
    const GradientSums<T> sums(x, g, n, args.normalize);
    const ModulateStatistics<T> s = sums.s;
    args.grad_shift[i] = sums.g;
    args.grad_scale[i] = sums.product;
    // modulate_gradient as a * g + b * x + c
    const T scale = args.scale[i], mean_g = args.normalize ? sums.g / T(n) : T(0);
    const T mean_product = args.normalize ? sums.product / T(n) : T(0);
    const T of_g = scale * s.rate, of_x = -of_g * s.rate * mean_product;
    const T constant = modulate_gradient(s, scale, mean_g, mean_product, T(0), T(0));
    T* grad = args.grad_features + i * n;
    for_packs(n, [&](auto width, int c) {
      const Pack<T, width> linear = of_g * pack_load<T, width>(g + c) + of_x * pack_load<T, width>(x + c);
      pack_store<T, width>(grad + c, linear + constant_pack<T, width>(constant));
    });
  });
}

}  // namespace

void modulate_forward_f32(const ModulateArgs<float>& args) { forward(args); }
void modulate_backward_f32(const ModulateArgs<float>& args) { backward(args); }
#ifndef NF_FAST_PATH
void modulate_forward_f64(const ModulateArgs<double>& args) { forward(args); }
void modulate_backward_f64(const ModulateArgs<double>& args) { backward(args); }
#endif

NF_END
