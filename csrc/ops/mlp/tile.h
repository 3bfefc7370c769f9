// A network's weights as the products read them, and sums of their gradients; also used by
// csrc/fused. E is what is multiplied: float, double, or Bf16 with float sums.
#pragma once

#include "common/buffer.h"
#include "ops/mlp/rows.h"

NF_BEGIN

constexpr int kMlpTile = 96;  // samples: a multiple of 6-row blocks and of 32; two 64-wide layers fit L1/L2

// Per layer the transposed matrix [n_in, n_out] for the forward pass, the matrix [n_out, n_in] for
// the backward pass, both in units and zero-padded, and the padded bias.
template <class E>
class PackedMlp {
 public:
  using T = SumOf<E>;
  using Unit = UnitOf<E>;

  PackedMlp(const MlpShape& shape, const T* params)
      : shape_(shape), matrices_(size(shape)), biases_(static_cast<std::size_t>(shape.n_layers) * bias_row(shape)) {
    Unit* at = matrices_.data();
    for (int l = 0; l < shape.n_layers; ++l) {
      const std::int64_t n_in = shape.widths[l], n_out = shape.widths[l + 1];
      const T* matrix = params + shape.matrix(l);
      forward_[l] = at;
      at = pack(at, n_in, n_out, [&](std::int64_t i, std::int64_t o) { return matrix[o * n_in + i]; });
      backward_[l] = at;
      at = pack(at, n_out, n_in, [&](std::int64_t o, std::int64_t i) { return matrix[o * n_in + i]; });
      if (shape.biases) copy_rows(matrix + n_in * n_out, n_out, n_out, bias_at(l), 0, bias_row(shape), 1);
    }
  }

  // y [n_rows, row] = phi(W x + b) from x [n_rows] with row stride x_row, both in numbers
  template <class To>
  void layer(int l, const E* x, std::int64_t x_row, To* y, std::int64_t y_row, std::int64_t n_rows) const {
    linear(l, x, x_row, n_rows,
           Activated<T, To>{y, y_row, shape_.biases ? bias_at(l) : nullptr, kind(l), static_cast<T>(shape_.beta)});
  }

  // W x + b alone
  void preactivation(int l, const E* x, std::int64_t x_row, T* z, std::int64_t z_row, std::int64_t n_rows) const {
    linear(l, x, x_row, n_rows, Activated<T, T>{z, z_row, shape_.biases ? bias_at(l) : nullptr, Activation::none, T(1)});
  }

  // W x into `out`
  template <class Out>
  void linear(int l, const E* x, std::int64_t x_row, std::int64_t n_rows, const Out& out) const {
    product(x, x_row, forward_[l], shape_.widths[l], shape_.widths[l + 1], n_rows, out);
  }

  // W^T delta into `out`
  template <class Out>
  void transposed(int l, const E* delta, std::int64_t delta_row, std::int64_t n_rows, const Out& out) const {
    product(delta, delta_row, backward_[l], shape_.widths[l + 1], shape_.widths[l], n_rows, out);
  }

  Activation kind(int l) const { return l + 1 == shape_.n_layers ? shape_.output : shape_.hidden; }

 private:
  static std::size_t bias_row(const MlpShape& shape) { return static_cast<std::size_t>(padded<E>(shape.max_width())); }
  T* bias_at(int l) { return biases_.data() + l * bias_row(shape_); }
  const T* bias_at(int l) const { return biases_.data() + l * bias_row(shape_); }

  static std::size_t size(const MlpShape& shape) {
    std::int64_t n = 0;
    for (int l = 0; l < shape.n_layers; ++l) {
      const std::int64_t n_in = shape.widths[l], n_out = shape.widths[l + 1];
      n += units<E>(n_in) * padded<E>(n_out) + units<E>(n_out) * padded<E>(n_in);
    }
    return static_cast<std::size_t>(n);
  }

  // B(k, n) = value(k, n) in units of neighbours along k
  template <class F>
  static Unit* pack(Unit* to, std::int64_t n_k, std::int64_t n_n, F&& value) {
    const auto at = [&](std::int64_t k, std::int64_t n) { return k < n_k && n < n_n ? value(k, n) : T(0); };
    for (std::int64_t u = 0; u < units<E>(n_k); ++u)
      for (std::int64_t n = 0; n < padded<E>(n_n); ++n, ++to) {
        if constexpr (Factors<E>::per_unit == 2)
          *to = to_bf16(at(2 * u, n)).bits | static_cast<Unit>(to_bf16(at(2 * u + 1, n)).bits) << 16;
        else
          *to = at(u, n);
      }
    return to;
  }

  template <class Out>
  static void product(const E* x, std::int64_t x_row, const Unit* weights, std::int64_t n_k, std::int64_t n_n,
                      std::int64_t n_rows, const Out& out) {
    const Left<E> left{reinterpret_cast<const Unit*>(x), x_row / Factors<E>::per_unit, 1};
    gemm<E>(left, weights, padded<E>(n_n), n_rows, Out::columns(n_n), units<E>(n_k), out);
  }

  MlpShape shape_;
  Buffer<Unit> matrices_;
  Buffer<T> biases_;
  const Unit *forward_[kMlpMaxLayers], *backward_[kMlpMaxLayers];
};

// Sums of weight gradients that belong to one task: per layer [n_out, padded(n_in)], then the bias.
template <class E>
class MlpGradient {
 public:
  using T = SumOf<E>;
  using Unit = UnitOf<E>;

  static std::int64_t size(const MlpShape& shape) {
    std::int64_t n = 0;
    for (int l = 0; l < shape.n_layers; ++l)
      n += shape.widths[l + 1] * padded<E>(shape.widths[l]) + padded<E>(shape.widths[l + 1]);
    return n;
  }

  MlpGradient(const MlpShape& shape, T* data) : shape_(shape), data_(data), pairs_(pairs_size(shape)) {
    std::int64_t at = 0;
    for (int l = 0; l < shape.n_layers; ++l) {
      matrix_[l] = at;
      at += shape.widths[l + 1] * padded<E>(shape.widths[l]);
      bias_[l] = at;
      at += padded<E>(shape.widths[l + 1]);
    }
  }

  // dW += delta^T x for at most kMlpTile rows, x padded to padded(n_in) columns
  void add_matrix(int l, const E* delta, std::int64_t delta_row, const E* x, std::int64_t x_row, std::int64_t n_rows) {
    const std::int64_t n_in = padded<E>(shape_.widths[l]);
    const AddTo<T> sums{data_ + matrix_[l], n_in};
    if constexpr (Factors<E>::per_unit == 2) {
      const std::int64_t n_out = padded<E>(shape_.widths[l + 1]);
      Unit *left = pairs_.data(), *right = left + units<E>(kMlpTile) * n_out;
      pair_rows(delta, delta_row, n_out, n_rows, left);
      pair_rows(x, x_row, n_in, n_rows, right);
      gemm<E>({left, 1, n_out}, right, n_in, shape_.widths[l + 1], n_in, units<E>(n_rows), sums);
    } else {
      gemm<E>({delta, 1, delta_row}, x, x_row, shape_.widths[l + 1], n_in, n_rows, sums);
    }
  }

  void add_bias(int l, const E* delta, std::int64_t delta_row, std::int64_t n_rows) {
    if (!shape_.biases) return;
    T* bias = data_ + bias_[l];
    for (std::int64_t r = 0; r < n_rows; ++r)
      for (int o = 0; o < shape_.widths[l + 1]; ++o) bias[o] += number(delta[r * delta_row + o]);
  }

  // Adds the sums of all tasks in their order to grad_params, in the public layout.
  static void reduce(const MlpShape& shape, const T* sums, std::int64_t n_sums, T* grad_params) {
    const std::int64_t stride = size(shape);
    std::int64_t at = 0;
    for (int l = 0; l < shape.n_layers; ++l) {
      const std::int64_t n_in = shape.widths[l], n_out = shape.widths[l + 1], row = padded<E>(n_in);
      T* matrix = grad_params + shape.matrix(l);
      for (std::int64_t s = 0; s < n_sums; ++s) {
        const T* sum = sums + s * stride + at;
        for (std::int64_t o = 0; o < n_out; ++o)
          for (std::int64_t i = 0; i < n_in; ++i) matrix[o * n_in + i] += sum[o * row + i];
        if (!shape.biases) continue;
        const T* bias = sum + n_out * row;
        for (std::int64_t o = 0; o < n_out; ++o) matrix[n_in * n_out + o] += bias[o];
      }
      at += n_out * row + padded<E>(n_out);
    }
  }

 private:
  static std::size_t pairs_size(const MlpShape& shape) {
    return Factors<E>::per_unit == 1 ? 1 : static_cast<std::size_t>(2 * units<E>(kMlpTile) * padded<E>(shape.max_width()));
  }

  // Two rows at a time; zeros follow up to a multiple of the padding.
  static void pair_rows(const E* rows, std::int64_t row, std::int64_t width, std::int64_t n_rows, Unit* NF_RESTRICT to) {
    for (std::int64_t r = 0; r < padded<E>(n_rows); r += 2, to += width) {
      const E *first = rows + r * row, *second = first + row;
      if (r + 1 < n_rows)
        for (std::int64_t i = 0; i < width; ++i) to[i] = first[i].bits | static_cast<Unit>(second[i].bits) << 16;
      else
        for (std::int64_t i = 0; i < width; ++i) to[i] = r < n_rows ? first[i].bits : 0;
    }
  }

  MlpShape shape_;
  T* data_;
  Buffer<Unit> pairs_;
  std::int64_t matrix_[kMlpMaxLayers], bias_[kMlpMaxLayers];
};

NF_END
