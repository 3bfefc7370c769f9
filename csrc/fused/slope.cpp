// Tiles of points through encoding and network, forth and back. Backward is reverse over forward: the
// tangents t of all layers for the slope's gradient, then the adjoints of tangents (u) and values (z)
// together, so that every matrix is read once for both.
#include "fused/slope.h"

#include <cstring>

#include "common/loops.h"
#include "fused/encode.h"
#include "ops/mlp/tile.h"

NF_BEGIN
namespace {

constexpr std::int64_t kChunk = 16 * kMlpTile;  // points of a task
constexpr std::int64_t kSlots = 32;             // sums of weight gradients

class SlopeTile {
 public:
  SlopeTile(const SlopeArgs& args, const PackedMlp<float>& mlp)
      : args_(args),
        mlp_(mlp),
        shape_(args.trunk.network),
        n_(shape_.n_layers),
        beta_(static_cast<float>(shape_.beta)),
        block_(kMlpTile * shape_.max_width()),
        numbers_(static_cast<std::size_t>(block_ * (3 * n_ + 4))) {}

  void forward(std::int64_t first, std::int64_t rows) {
    encode(first, rows);
    hidden(first, rows);
    const std::int64_t features = width(n_);
    mlp_.layer(n_ - 1, input(n_ - 1, first), width(n_ - 1), args_.features + first * features, features, rows);
    if (args_.slope == nullptr) return;
    float* delta = first_only(work(0), rows);
    for (int l = n_ - 1; l >= 1; --l) {
      float* below = work(1 + (l & 1));
      mlp_.transposed(l, delta, width(l + 1), rows, Sloped<float, float>{below, width(l), value(l), shape_.hidden, beta_});
      delta = below;
    }
    mlp_.transposed(0, delta, width(1), rows, Overwrite<float>{work(3), width(0)});
    pull(first, rows, work(3));
  }

  // Leaves the gradients of the encoding and of its change along grad_slope.
  void backward(std::int64_t first, std::int64_t rows, MlpGradient<float>& gradient, float* grad_encoded, float* grad_change) {
    hidden(first, rows);
    push(first, rows);
    float *of_u = first_only(work(0), rows), *of_z = work(1), *next_u = work(2), *next_z = work(3);
    std::memcpy(of_z, args_.grad_features + first * width(n_), sizeof(float) * static_cast<std::size_t>(rows * width(n_)));
    for (int l = n_ - 1; l >= 0; --l) {
      const std::int64_t above = width(l + 1), row = width(l);
      gradient.add_matrix(l, of_u, above, tangent(l), row, rows);
      gradient.add_matrix(l, of_z, above, input(l, first), row, rows);
      gradient.add_bias(l, of_z, above, rows);
      float* to_u = l > 0 ? next_u : grad_change + first * row;
      float* to_z = l > 0 ? next_z : grad_encoded + first * row;
      mlp_.transposed(l, of_u, above, rows, Overwrite<float>{to_u, row});
      mlp_.transposed(l, of_z, above, rows, Overwrite<float>{to_z, row});
      if (l == 0) return;
      through_activation(l, to_u, to_z, rows * row);
      std::swap(of_u, next_u);
      std::swap(of_z, next_z);
    }
  }

 private:
  std::int64_t width(int l) const { return shape_.widths[l]; }
  float* value(int l) { return numbers_.data() + l * block_; }                  // 1 .. n - 1
  float* tangent(int l) { return numbers_.data() + (n_ + l) * block_; }         // 0 .. n - 1
  float* before_slope(int l) { return numbers_.data() + (2 * n_ + l) * block_; }  // 1 .. n - 1
  float* work(int i) { return numbers_.data() + (3 * n_ + i) * block_; }
  const float* input(int l, std::int64_t first) { return l == 0 ? args_.encoded + first * width(0) : value(l); }

  void encode(std::int64_t first, std::int64_t rows) {
    const HashGridShape& grid = args_.trunk.grid;
    float* encoded = args_.encoded + first * width(0);
    if (args_.trunk.n_levels < grid.n_levels)
      std::memset(encoded, 0, sizeof(float) * static_cast<std::size_t>(rows * width(0)));
    with_features(grid.n_features, [&](auto features) {
      for (int l = 0; l < args_.trunk.n_levels; ++l)
        hash_grid_encode_level<float, 3, features.value>(grid, l, args_.positions + first * 3, 0, rows, args_.trunk.table,
                                                         encoded, width(0));
    });
  }

  void hidden(std::int64_t first, std::int64_t rows) {
    for (int l = 1; l < n_; ++l) mlp_.layer(l - 1, input(l - 1, first), width(l - 1), value(l), width(l), rows);
  }

  // A gradient of 1 for the first feature of every row.
  float* first_only(float* to, std::int64_t rows) {
    std::memset(to, 0, sizeof(float) * static_cast<std::size_t>(rows * width(n_)));
    for (std::int64_t r = 0; r < rows; ++r) to[r * width(n_)] = 1;
    return to;
  }

  void pull(std::int64_t first, std::int64_t rows, const float* gradient) {
    const HashGridShape& grid = args_.trunk.grid;
    float* slope = args_.slope + first * 3;
    std::memset(slope, 0, sizeof(float) * static_cast<std::size_t>(rows * 3));
    with_features(grid.n_features, [&](auto features) {
      for (int l = 0; l < args_.trunk.n_levels; ++l)
        hash_grid_pull_level<float, 3, features.value>(grid, l, args_.positions + first * 3, 0, rows, args_.trunk.table,
                                                       gradient, width(0), slope);
    });
  }

  // Tangents of all layers.
  void push(std::int64_t first, std::int64_t rows) {
    const HashGridShape& grid = args_.trunk.grid;
    if (args_.trunk.n_levels < grid.n_levels)
      std::memset(tangent(0), 0, sizeof(float) * static_cast<std::size_t>(rows * width(0)));
    with_features(grid.n_features, [&](auto features) {
      for (int l = 0; l < args_.trunk.n_levels; ++l)
        hash_grid_push_level<float, 3, features.value>(grid, l, args_.positions + first * 3, args_.grad_slope + first * 3,
                                                       0, rows, args_.trunk.table, tangent(0), width(0));
    });
    for (int l = 1; l < n_; ++l) {
      mlp_.linear(l - 1, tangent(l - 1), width(l - 1), rows, Overwrite<float>{before_slope(l), width(l)});
      std::memcpy(tangent(l), before_slope(l), sizeof(float) * static_cast<std::size_t>(rows * width(l)));
      multiply_by_slope<float>(shape_.hidden, beta_, value(l), tangent(l), rows * width(l));
    }
  }

  void through_activation(int l, float* of_u, float* of_z, std::int64_t n) {
    const float *y = value(l), *u = before_slope(l);
    if (shape_.hidden == Activation::none) return;
    constexpr int W = kPackFloats;
    const Activation kind = shape_.hidden;
    const float beta = beta_;
    for (std::int64_t i = 0; i < n; i += W) {
      const auto at_y = pack_load<float, W>(y + i), at_u = pack_load<float, W>(of_u + i), at_z = pack_load<float, W>(of_z + i);
      const auto slope = map_lanes<float, W>([=](auto v) { return activation_slope<decltype(v)>(kind, v, beta); }, at_y);
      auto of = slope * at_z;
      if (kind != Activation::relu) {
        const auto bend = map_lanes<float, W>([=](auto v) { return activation_curvature<decltype(v)>(kind, v, beta); }, at_y);
        of += bend * at_u * pack_load<float, W>(u + i);
      }
      pack_store<float, W>(of_z + i, of);
      pack_store<float, W>(of_u + i, slope * at_u);
    }
  }

  const SlopeArgs& args_;
  const PackedMlp<float>& mlp_;
  const MlpShape shape_;
  const int n_;
  const float beta_;
  const std::int64_t block_;
  Buffer<float> numbers_;
};

template <class F>
void for_tiles(std::int64_t begin, std::int64_t end, F&& f) {
  for (std::int64_t first = begin; first < end; first += kMlpTile)
    f(first, end - first < kMlpTile ? end - first : kMlpTile);
}

void scatter(const SlopeArgs& args, const float* grad_encoded, const float* grad_change) {
  HashGridShape used = args.trunk.grid;
  used.n_levels = args.trunk.n_levels;
  const std::int64_t row = args.trunk.network.widths[0];
  with_features(used.n_features, [&](auto features) {
    constexpr int F = features.value;
    hash_grid_for_slabs(used, [&](int l, std::uint32_t begin, std::uint32_t end, bool whole) {
      const auto level = whole ? hash_grid_scatter_pushed_level<float, 3, F, true> : hash_grid_scatter_pushed_level<float, 3, F, false>;
      level(used, l, args.positions, args.grad_slope, args.n, grad_encoded, grad_change, row, args.grad_table, args.touched,
            begin, end);
    });
  });
}

}  // namespace

void slope_forward(const SlopeArgs& args) {
  const PackedMlp<float> mlp(args.trunk.network, args.trunk.params);
  parallel_chunks(args.n, kChunk, [&](std::int64_t begin, std::int64_t end) {
    SlopeTile tile(args, mlp);
    for_tiles(begin, end, [&](std::int64_t first, std::int64_t rows) { tile.forward(first, rows); });
  });
}

void slope_backward(const SlopeArgs& args) {
  const MlpShape& shape = args.trunk.network;
  const PackedMlp<float> mlp(shape, args.trunk.params);
  const std::int64_t row = shape.widths[0], size = MlpGradient<float>::size(shape);
  Buffer<float> grad_encoded(static_cast<std::size_t>(args.n * row) + 1), grad_change(static_cast<std::size_t>(args.n * row) + 1);
  Buffer<float> sums(static_cast<std::size_t>(size * kSlots));
  std::memset(sums.data(), 0, sizeof(float) * static_cast<std::size_t>(size * kSlots));
  const std::int64_t n_tiles = (args.n + kMlpTile - 1) / kMlpTile;
  parallel_for(kSlots, [&](std::int64_t slot) {
    const std::int64_t begin = n_tiles * slot / kSlots * kMlpTile, last = n_tiles * (slot + 1) / kSlots * kMlpTile;
    SlopeTile tile(args, mlp);
    MlpGradient<float> gradient(shape, sums.data() + slot * size);
    for_tiles(begin, last < args.n ? last : args.n, [&](std::int64_t first, std::int64_t rows) {
      tile.backward(first, rows, gradient, grad_encoded.data(), grad_change.data());
    });
  });
  std::memset(args.grad_params, 0, sizeof(float) * static_cast<std::size_t>(shape.n_params()));
  MlpGradient<float>::reduce(shape, sums.data(), kSlots, args.grad_params);
  scatter(args, grad_encoded.data(), grad_change.data());
}

NF_END
