// CPU loops of the modulation: a row stays in the nearest cache between its passes, so that memory
// is read and written once.
#include "ops/modulate/modulate.h"

#include "common/loops.h"
#include "common/pack.h"

NF_BEGIN
namespace {

constexpr int kChunkNumbers = 1 << 15;  // per task

// sum of body(width, c) over the channels, which returns a pack
template <class T, class Body>
NF_INLINE T sum_channels(int n, Body&& body) {
  Pack<T, kPackFloats> wide{};
  T rest = 0;
  for_packs(n, [&](auto width, int c) {
    constexpr int W = width;
    if constexpr (W == kPackFloats) wide += body(width, c);
    else rest += pack_sum<T, W>(body(width, c));
  });
  return pack_sum<T, kPackFloats>(wide) + rest;
}

template <class T>
NF_INLINE ModulateStatistics<T> statistics(const T* x, int n) {
  const T mean = sum_channels<T>(n, [&](auto width, int c) { return pack_load<T, width>(x + c); }) / T(n);
  const T squares = sum_channels<T>(n, [&](auto width, int c) {
    const Pack<T, width> centered = pack_load<T, width>(x + c) + constant_pack<T, width>(-mean);
    return centered * centered;
  });
  return {mean, modulate_rate(squares / T(n))};
}

template <class T, class Body>
void for_rows(const ModulateArgs<T>& args, Body&& body) {
  const std::int64_t chunk = kChunkNumbers / args.n_channels + 1;
  parallel_chunks(args.n, chunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const T* x = args.features + i * args.n_channels;
      body(i, x, args.normalize ? statistics(x, args.n_channels) : ModulateStatistics<T>{0, 1});
    }
  });
}

template <class T>
void forward(const ModulateArgs<T>& args) {
  for_rows(args, [&](std::int64_t i, const T* x, ModulateStatistics<T> s) {
    const ModulateRow<T> row = modulate_row(s, args.scale[i], args.shift[i]);
    T* y = args.output + i * args.n_channels;
    for_packs(args.n_channels, [&](auto width, int c) {
      pack_store<T, width>(y + c, row.factor * pack_load<T, width>(x + c) + constant_pack<T, width>(row.offset));
    });
  });
}

template <class T>
void backward(const ModulateArgs<T>& args) {
  const int n = args.n_channels;
  for_rows(args, [&](std::int64_t i, const T* x, ModulateStatistics<T> s) {
    const T* g = args.grad_output + i * n;
    const T sum = sum_channels<T>(n, [&](auto width, int c) { return pack_load<T, width>(g + c); });
    const T product = sum_channels<T>(n, [&](auto width, int c) {
      return pack_load<T, width>(g + c) * (s.rate * (pack_load<T, width>(x + c) + constant_pack<T, width>(-s.mean)));
    });
    args.grad_shift[i] = sum;
    args.grad_scale[i] = product;
    // modulate_gradient as a * g + b * x + c
    const T scale = args.scale[i], mean_g = args.normalize ? sum / T(n) : T(0), mean_product = args.normalize ? product / T(n) : T(0);
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
