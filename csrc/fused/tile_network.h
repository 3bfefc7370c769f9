// One network with all activations of a block of rows kept for the way back.
#pragma once

#include <cstring>

#include "ops/mlp/tile.h"

NF_BEGIN

// Rows of input and hidden layers are numbers of type E; outputs and their gradients are floats,
// padded to a multiple of 16.
template <class E>
class TileNetwork {
 public:
  TileNetwork(const PackedMlp<E>& weights, const MlpShape& shape, std::int64_t max_rows)
      : weights_(weights),
        shape_(shape),
        hidden_(static_cast<std::size_t>(hidden_size(shape) * max_rows)),
        deltas_(static_cast<std::size_t>(3 * kMlpTile * padded<E>(shape.max_width()))),
        output_(static_cast<std::size_t>(output_row() * max_rows)),
        output_gradient_(static_cast<std::size_t>(output_row() * max_rows)) {
    E* at = hidden_.data();
    for (int l = 1; l < shape.n_layers; ++l) {
      activation_[l] = at;
      at += padded<E>(shape.widths[l]) * max_rows;
    }
  }

  float* output() { return output_.data(); }
  // Where backward expects dL/d(output), before the output activation's slope.
  float* output_gradient() { return output_gradient_.data(); }
  std::int64_t output_row() const { return pad16(shape_.widths[shape_.n_layers]); }
  std::int64_t input_row() const { return padded<E>(shape_.widths[0]); }

  void forward(const E* input, std::int64_t n_rows) { forward(input, 0, n_rows); }

  // Rows begin .. begin + n_rows alone.
  void forward(const E* input, std::int64_t begin, std::int64_t n_rows) {
    const std::int64_t end = begin + n_rows;
    const int last = shape_.n_layers - 1;
    for (std::int64_t first = begin; first < end; first += kMlpTile) {
      const std::int64_t rows = end - first < kMlpTile ? end - first : kMlpTile;
      const E* x = input + first * input_row();
      for (int l = 0; l < last; ++l) {
        const std::int64_t row = padded<E>(shape_.widths[l + 1]);
        E* y = activation_[l + 1] + first * row;
        weights_.layer(l, x, padded<E>(shape_.widths[l]), y, row, rows);
        x = y;
      }
      weights_.layer(last, x, padded<E>(shape_.widths[last]), output() + first * output_row(), output_row(), rows);
    }
  }

  // Moves row `from` of every layer to row `to`.
  void move_row(std::int64_t from, std::int64_t to) {
    for (int l = 1; l < shape_.n_layers; ++l) move(activation_[l], padded<E>(shape_.widths[l]), from, to);
    move(output(), output_row(), from, to);
  }

  // Adds to the weight gradients and writes dL/d(input) [n_rows, grad_row] to grad_input.
  void backward(const E* input, std::int64_t n_rows, MlpGradient<E>& gradient, float* grad_input, std::int64_t grad_row) {
    const float beta = static_cast<float>(shape_.beta);
    for (std::int64_t first = 0; first < n_rows; first += kMlpTile) {
      const std::int64_t rows = n_rows - first < kMlpTile ? n_rows - first : kMlpTile;
      const E* delta = output_delta(first, rows);
      for (int l = shape_.n_layers - 1; l >= 0; --l) {
        const std::int64_t delta_row = padded<E>(shape_.widths[l + 1]), x_row = padded<E>(shape_.widths[l]);
        const E* x = (l == 0 ? input : activation_[l]) + first * x_row;
        gradient.add_matrix(l, delta, delta_row, x, x_row, rows);
        gradient.add_bias(l, delta, delta_row, rows);
        if (l == 0) {
          weights_.transposed(0, delta, delta_row, rows, Overwrite<float>{grad_input + first * grad_row, grad_row});
        } else {
          E* below = deltas_.data() + (l & 1) * kMlpTile * padded<E>(shape_.max_width());
          weights_.transposed(l, delta, delta_row, rows, Sloped<float, E>{below, x_row, x, shape_.hidden, beta});
          delta = below;
        }
      }
    }
  }

 private:
  static std::int64_t hidden_size(const MlpShape& shape) {
    std::int64_t n = 1;
    for (int l = 1; l < shape.n_layers; ++l) n += padded<E>(shape.widths[l]);
    return n;
  }

  template <class N>
  static void move(N* rows, std::int64_t row, std::int64_t from, std::int64_t to) {
    std::memcpy(static_cast<void*>(rows + to * row), rows + from * row, sizeof(N) * static_cast<std::size_t>(row));
  }

  const E* output_delta(std::int64_t first, std::int64_t rows) {
    float* delta = output_gradient() + first * output_row();
    multiply_by_slope<float>(shape_.output, static_cast<float>(shape_.beta), output() + first * output_row(), delta,
                             rows * output_row());
    if constexpr (std::is_same<E, float>::value) {
      return delta;
    } else {
      E* rounded = deltas_.data() + 2 * kMlpTile * padded<E>(shape_.max_width());
      const std::int64_t row = padded<E>(shape_.widths[shape_.n_layers]);
      copy_rows(delta, output_row(), output_row(), rounded, row, row, rows);
      return rounded;
    }
  }

  const PackedMlp<E>& weights_;
  MlpShape shape_;
  Buffer<E> hidden_, deltas_;
  Buffer<float> output_, output_gradient_;
  E* activation_[kMlpMaxLayers + 1];
};

NF_END
