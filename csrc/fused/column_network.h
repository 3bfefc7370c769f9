// A network on tiles whose numbers lie channel by channel: a lane is a point, so that few outputs cost
// no padding. Forward alone, without normalize or waves.
#pragma once

#include <cstring>

#include "common/buffer.h"
#include "ops/mlp/tile.h"

NF_BEGIN

class ColumnNetwork {
 public:
  ColumnNetwork(const MlpShape& shape, const float* params)
      : shape_(shape),
        params_(params),
        matrices_(static_cast<std::size_t>(shape.n_params())),
        columns_(static_cast<std::size_t>(2 * shape.max_width() * kMlpTile)) {
    for (int l = 0; l < shape.n_layers; ++l) transpose(l);
    std::memset(columns_.data(), 0, sizeof(float) * static_cast<std::size_t>(2 * shape.max_width() * kMlpTile));
  }

  // Where the input goes: channel c of point r is at c * kMlpTile + r.
  float* input() { return half(0); }

  // The values of all points of the tile, laid out like the input.
  const float* forward() {
    for (int l = 0; l < shape_.n_layers; ++l) layer(l, half(l & 1), half((l + 1) & 1));
    return half(shape_.n_layers & 1);
  }

 private:
  using L = FloatLanes;
  static constexpr int kWidth = LaneTraits<L>::width;
  static constexpr int kRows = 8;  // of the matrix at once

  // Matrices as [n_in, n_out], so that a block's weights lie side by side.
  void transpose(int l) {
    const std::int64_t n_in = shape_.widths[l], n_out = shape_.widths[l + 1];
    const float* from = params_ + shape_.matrix(l);
    float* to = matrices_.data() + shape_.matrix(l);
    for (std::int64_t o = 0; o < n_out; ++o)
      for (std::int64_t i = 0; i < n_in; ++i) to[i * n_out + o] = from[o * n_in + i];
  }

  float* half(int which) { return columns_.data() + std::int64_t(which) * shape_.max_width() * kMlpTile; }

  void layer(int l, const float* x, float* y) const {
    const int n_in = shape_.widths[l], n_out = shape_.widths[l + 1];
    const float* matrix = matrices_.data() + shape_.matrix(l);
    const float* bias = shape_.biases ? params_ + shape_.matrix(l) + std::int64_t(n_in) * n_out : nullptr;
    const Activation kind = l + 1 == shape_.n_layers ? shape_.output : shape_.hidden;
    int o = 0;
    for (; o + kRows <= n_out; o += kRows) block<kRows, 2>(matrix + o, n_out, bias, n_in, o, x, y);
    for (; o < n_out; ++o) block<1, 6>(matrix + o, n_out, bias, n_in, o, x, y);
    if (kind != Activation::none) activate(kind, static_cast<float>(shape_.beta), y, n_out * kMlpTile);
  }

  // Apart from the products, whose sums would leave the registers.
  NF_NOINLINE static void activate(Activation kind, float beta, float* y, int n) {
    for (int i = 0; i < n; i += kWidth) lane_store(y + i, activation<L>(kind, lane_load<L>(y + i), beta));
  }

  // kOut outputs from `o` of all points, kPoints lanes at a time.
  template <int kOut, int kPoints>
  NF_NOINLINE static void block(const float* matrix, int stride, const float* bias, int n_in, int o, const float* x, float* y) {
    static_assert(kMlpTile % (kPoints * kWidth) == 0, "a tile is whole blocks");
    for (int r = 0; r < kMlpTile; r += kPoints * kWidth) {
      L sum[kOut][kPoints];
      NF_UNROLL
      for (int k = 0; k < kOut; ++k) {
        NF_UNROLL
        for (int p = 0; p < kPoints; ++p) sum[k][p] = broadcast<L>(bias != nullptr ? bias[o + k] : 0.0f);
      }
      for (int i = 0; i < n_in; ++i) {
        L in[kPoints];
        NF_UNROLL
        for (int p = 0; p < kPoints; ++p) in[p] = lane_load<L>(x + i * kMlpTile + r + p * kWidth);
        NF_UNROLL
        for (int k = 0; k < kOut; ++k) {
          const float weight = matrix[i * stride + k];
          NF_UNROLL
          for (int p = 0; p < kPoints; ++p) sum[k][p] = sum[k][p] + weight * in[p];
        }
      }
      NF_UNROLL
      for (int k = 0; k < kOut; ++k) {
        NF_UNROLL
        for (int p = 0; p < kPoints; ++p)
          lane_store(y + (o + k) * kMlpTile + r + p * kWidth, sum[k][p]);
      }
    }
  }

  MlpShape shape_;
  const float* params_;
  Buffer<float> matrices_, columns_;
};

NF_END
