// Building blocks for tiles of samples through a network; also used by csrc/fused.
#pragma once

#include "common/buffer.h"
#include "ops/mlp/gemm.h"
#include "ops/mlp/mlp.h"

NF_BEGIN

constexpr int kMlpTile = 96;  // samples: a multiple of the 6-row block; two 64-wide layers fit L1/L2

inline int pad16(int n) { return (n + 15) / 16 * 16; }

template <class T>
struct ElementLanes {
  using type = T;
};
template <>
struct ElementLanes<float> {
  using type = FloatLanes;
};

// f applied to lanes of up to three arrays of n numbers, n a multiple of 16
template <class T, class F>
NF_INLINE void for_lanes(std::int64_t n, F&& f) {
  constexpr int W = LaneTraits<typename ElementLanes<T>::type>::width;
  for (std::int64_t i = 0; i < n; i += W) f(i);
}

// z <- phi(z + bias) for a tile whose rows are padded to a multiple of 16
template <class T>
void activate_tile(Activation kind, T beta, const T* bias, T* z, int n_rows, int width) {
  using L = typename ElementLanes<T>::type;
  if (kind == Activation::none && bias == nullptr) return;
  for (int r = 0; r < n_rows; ++r) {
    T* row = z + static_cast<std::int64_t>(r) * width;
    for_lanes<T>(width, [&](std::int64_t i) {
      L value = lane_load<L>(row + i);
      if (bias != nullptr) value = value + lane_load<L>(bias + i);
      lane_store(row + i, activation<L>(kind, value, beta));
    });
  }
}

// delta <- delta * phi'(.), from the activations y
template <class T>
void multiply_by_slope(Activation kind, T beta, const T* y, T* delta, std::int64_t n) {
  using L = typename ElementLanes<T>::type;
  if (kind == Activation::none) return;
  for_lanes<T>(n, [&](std::int64_t i) {
    const L slope = activation_slope<L>(kind, lane_load<L>(y + i), beta);
    lane_store(delta + i, lane_load<L>(delta + i) * slope);
  });
}

// Copies rows of `width` numbers into rows of `padded` numbers, zeros behind them.
template <class T>
void pad_rows(const T* from, std::int64_t width, T* to, std::int64_t padded, std::int64_t n_rows) {
  for (std::int64_t r = 0; r < n_rows; ++r) {
    for (std::int64_t i = 0; i < width; ++i) to[r * padded + i] = from[r * width + i];
    for (std::int64_t i = width; i < padded; ++i) to[r * padded + i] = 0;
  }
}

template <class T>
void unpad_rows(const T* from, std::int64_t padded, T* to, std::int64_t width, std::int64_t n_rows) {
  for (std::int64_t r = 0; r < n_rows; ++r)
    for (std::int64_t i = 0; i < width; ++i) to[r * width + i] = from[r * padded + i];
}

// The parameters in the two layouts that the products read: per layer the transposed matrix
// [n_in, pad(n_out)] for the forward pass, the matrix [n_out, pad(n_in)] for the backward pass,
// and the padded bias.
template <class T>
class PackedMlp {
 public:
  PackedMlp(const MlpShape& shape, const T* params) : shape_(shape), data_(size(shape)) { pack(params); }

  void pack(const T* params) {
    std::int64_t at = 0;
    for (int l = 0; l < shape_.n_layers; ++l) {
      const std::int64_t n_in = shape_.widths[l], n_out = shape_.widths[l + 1];
      const std::int64_t in_pad = pad16(shape_.widths[l]), out_pad = pad16(shape_.widths[l + 1]);
      const T* matrix = params + shape_.matrix(l);
      forward_[l] = at;
      T* transposed = data_.data() + at;
      for (std::int64_t i = 0; i < n_in; ++i)
        for (std::int64_t o = 0; o < out_pad; ++o) transposed[i * out_pad + o] = o < n_out ? matrix[o * n_in + i] : 0;
      at += n_in * out_pad;
      backward_[l] = at;
      pad_rows(matrix, n_in, data_.data() + at, in_pad, n_out);
      at += n_out * in_pad;
      bias_[l] = at;
      if (shape_.biases) pad_rows(matrix + n_in * n_out, n_out, data_.data() + at, out_pad, 1);
      at += out_pad;
    }
  }

  const T* forward(int l) const { return data_.data() + forward_[l]; }
  const T* backward(int l) const { return data_.data() + backward_[l]; }
  const T* bias(int l) const { return shape_.biases ? data_.data() + bias_[l] : nullptr; }

  // y [n_rows, pad(n_out)] = phi(W x + b), x [n_rows] with row stride x_row
  void layer(int l, const T* x, std::int64_t x_row, T* y, int n_rows) const {
    linear(l, x, x_row, y, n_rows);
    activate_tile<T>(kind(l), static_cast<T>(shape_.beta), bias(l), y, n_rows, pad16(shape_.widths[l + 1]));
  }

  // y = W x alone
  void linear(int l, const T* x, std::int64_t x_row, T* y, int n_rows) const {
    const std::int64_t out_pad = pad16(shape_.widths[l + 1]);
    gemm<T, false>(x, x_row, 1, forward(l), out_pad, y, out_pad, n_rows, out_pad, shape_.widths[l]);
  }

  // x [n_rows, pad(n_in)] = W^T delta, delta with row stride delta_row
  void transposed(int l, const T* delta, std::int64_t delta_row, T* x, int n_rows) const {
    const std::int64_t in_pad = pad16(shape_.widths[l]);
    gemm<T, false>(delta, delta_row, 1, backward(l), in_pad, x, in_pad, n_rows, in_pad, shape_.widths[l + 1]);
  }

  Activation kind(int l) const { return l + 1 == shape_.n_layers ? shape_.output : shape_.hidden; }

 private:
  static std::int64_t size(const MlpShape& shape) {
    std::int64_t n = 0;
    for (int l = 0; l < shape.n_layers; ++l)
      n += static_cast<std::int64_t>(shape.widths[l] + 1) * pad16(shape.widths[l + 1]) +
           static_cast<std::int64_t>(shape.widths[l + 1]) * pad16(shape.widths[l]);
    return n;
  }

  MlpShape shape_;
  Buffer<T> data_;
  std::int64_t forward_[kMlpMaxLayers], backward_[kMlpMaxLayers], bias_[kMlpMaxLayers];
};

// Sums of weight gradients that belong to one task: per layer [n_out, pad(n_in)], then the bias.
template <class T>
class MlpGradient {
 public:
  static std::int64_t size(const MlpShape& shape) {
    std::int64_t n = 0;
    for (int l = 0; l < shape.n_layers; ++l)
      n += static_cast<std::int64_t>(shape.widths[l + 1]) * pad16(shape.widths[l]) + pad16(shape.widths[l + 1]);
    return n;
  }

  MlpGradient(const MlpShape& shape, T* data) : shape_(shape), data_(data) {
    std::int64_t at = 0;
    for (int l = 0; l < shape.n_layers; ++l) {
      matrix_[l] = at;
      at += static_cast<std::int64_t>(shape.widths[l + 1]) * pad16(shape.widths[l]);
      bias_[l] = at;
      at += pad16(shape.widths[l + 1]);
    }
  }

  // dW += delta^T x, x padded to a multiple of 16 columns
  void add_matrix(int l, const T* delta, std::int64_t delta_row, const T* x, std::int64_t x_row, int n_rows) {
    const std::int64_t in_pad = pad16(shape_.widths[l]);
    gemm<T, true>(delta, 1, delta_row, x, x_row, data_ + matrix_[l], in_pad, shape_.widths[l + 1], in_pad, n_rows);
  }

  void add_bias(int l, const T* delta, std::int64_t delta_row, int n_rows) {
    if (!shape_.biases) return;
    T* bias = data_ + bias_[l];
    for (int r = 0; r < n_rows; ++r)
      for (int o = 0; o < shape_.widths[l + 1]; ++o) bias[o] += delta[r * delta_row + o];
  }

  // Adds the sums of all tasks in their order to grad_params, in the public layout.
  static void reduce(const MlpShape& shape, const T* sums, std::int64_t n_sums, T* grad_params) {
    const std::int64_t stride = size(shape);
    MlpGradient layout(shape, nullptr);
    for (int l = 0; l < shape.n_layers; ++l) {
      const std::int64_t n_in = shape.widths[l], n_out = shape.widths[l + 1], in_pad = pad16(shape.widths[l]);
      T* matrix = grad_params + shape.matrix(l);
      for (std::int64_t s = 0; s < n_sums; ++s) {
        const T* sum = sums + s * stride + layout.matrix_[l];
        for (std::int64_t o = 0; o < n_out; ++o)
          for (std::int64_t i = 0; i < n_in; ++i) matrix[o * n_in + i] += sum[o * in_pad + i];
        if (!shape.biases) continue;
        const T* bias = sums + s * stride + layout.bias_[l];
        for (std::int64_t o = 0; o < n_out; ++o) matrix[n_in * n_out + o] += bias[o];
      }
    }
  }

 private:
  MlpShape shape_;
  T* data_;
  std::int64_t matrix_[kMlpMaxLayers], bias_[kMlpMaxLayers];
};

NF_END
