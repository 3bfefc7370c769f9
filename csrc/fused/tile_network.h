// One network with all activations of a block of rows kept for the way back.
#pragma once

#include <cstring>

#include "ops/mlp/tile.h"

NF_BEGIN

// Widths of hidden layers and of the input are multiples of 16; the output is padded to one.
class TileNetwork {
 public:
  TileNetwork(const PackedMlp<float>& weights, const MlpShape& shape, std::int64_t max_rows)
      : weights_(weights), shape_(shape), data_(size(shape, max_rows)) {
    std::int64_t at = 0;
    for (int l = 1; l <= shape.n_layers; ++l) {
      activation_[l] = data_.data() + at;
      at += pad16(shape.widths[l]) * max_rows;
    }
    output_gradient_ = data_.data() + at;
    scratch_[0] = output_gradient_ + output_row() * max_rows;
    scratch_[1] = scratch_[0] + kMlpTile * pad16(shape.max_width());
  }

  float* output() { return activation_[shape_.n_layers]; }
  int output_row() const { return pad16(shape_.widths[shape_.n_layers]); }

  void forward(const float* input, std::int64_t n_rows) { forward(input, 0, n_rows); }

  // Rows begin .. begin + n_rows alone.
  void forward(const float* input, std::int64_t begin, std::int64_t n_rows) {
    const std::int64_t end = begin + n_rows;
    for (std::int64_t first = begin; first < end; first += kMlpTile) {
      const int rows = static_cast<int>(end - first < kMlpTile ? end - first : kMlpTile);
      const float* x = input + first * shape_.widths[0];
      for (int l = 0; l < shape_.n_layers; ++l) {
        const std::int64_t width = pad16(shape_.widths[l + 1]);
        float* y = activation_[l + 1] + first * width;
        weights_.layer(l, x, pad16(shape_.widths[l]), y, rows);
        x = y;
      }
    }
  }

  // Moves row `from` of every layer to row `to`.
  void move_row(std::int64_t from, std::int64_t to) {
    for (int l = 1; l <= shape_.n_layers; ++l) {
      const std::int64_t width = pad16(shape_.widths[l]);
      std::memcpy(activation_[l] + to * width, activation_[l] + from * width, sizeof(float) * width);
    }
  }

  // Where backward expects dL/d(output), before the output activation's slope: [n_rows, output_row()].
  float* output_gradient() { return output_gradient_; }

  // Adds to the weight gradients and writes dL/d(input) to grad_input, which may be the input itself.
  void backward(const float* input, std::int64_t n_rows, MlpGradient<float>& gradient, float* grad_input) {
    const float beta = static_cast<float>(shape_.beta);
    for (std::int64_t first = 0; first < n_rows; first += kMlpTile) {
      const int rows = static_cast<int>(n_rows - first < kMlpTile ? n_rows - first : kMlpTile);
      float* delta = output_gradient_ + first * output_row();
      multiply_by_slope<float>(shape_.output, beta, output() + first * output_row(), delta,
                               static_cast<std::int64_t>(rows) * output_row());
      for (int l = shape_.n_layers - 1; l >= 0; --l) {
        const std::int64_t delta_row = pad16(shape_.widths[l + 1]), x_row = pad16(shape_.widths[l]);
        const float* x = (l == 0 ? input : activation_[l]) + first * x_row;
        gradient.add_matrix(l, delta, delta_row, x, x_row, rows);
        gradient.add_bias(l, delta, delta_row, rows);
        float* below = l == 0 ? grad_input + first * x_row : scratch_[l & 1];
        weights_.transposed(l, delta, delta_row, below, rows);
        if (l > 0) multiply_by_slope<float>(shape_.hidden, beta, x, below, rows * x_row);
        delta = below;
      }
    }
  }

 private:
  static std::int64_t size(const MlpShape& shape, std::int64_t max_rows) {
    std::int64_t row = pad16(shape.widths[shape.n_layers]);
    for (int l = 1; l <= shape.n_layers; ++l) row += pad16(shape.widths[l]);
    return row * max_rows + 2 * kMlpTile * pad16(shape.max_width());
  }

  const PackedMlp<float>& weights_;
  MlpShape shape_;
  Buffer<float> data_;
  float* activation_[kMlpMaxLayers + 1];
  float* output_gradient_;
  float* scratch_[2];
};

NF_END
