// Tiles of points: forward alone, or forward and backward up to the encoding, whose gradients are then
// added level by level, each by one task in the order of the points.
#include "fused/frame.h"

#include <cstring>

#include "common/loops.h"
#include "fused/tile_network.h"

NF_BEGIN
namespace {

constexpr std::int64_t kChunk = 16 * kMlpTile;  // points of a task
constexpr std::int64_t kSlots = 32;             // sums of weight gradients

// Where the points of a tile lie in a level: the number of the lower left corner's first channel, and the
// weights of the upper corners. Computed for whole registers, beyond the last row as well.
struct TileCells {
  std::uint32_t first[kMlpTile];
  float x[kMlpTile], y[kMlpTile];

  void set(const FrameLevel& level, const float* px, const float* py, int rows) {
    using L = FloatLanes;
    const std::uint32_t channels = static_cast<std::uint32_t>(level.n_channels), row = static_cast<std::uint32_t>(level.width) * channels;
    for (int r = 0; r < rows; r += LaneTraits<L>::width) {
      const UintOf<L> cell_x = locate<L>(px + r, level.width, x + r), cell_y = locate<L>(py + r, level.height, y + r);
      lane_store(first + r, cell_y * row + cell_x * channels);
    }
  }

 private:
  // The cell of positions along an axis, and where in it; NaN is 0.
  template <class L>
  static UintOf<L> locate(const float* positions, int n_vertices, float* weight) {
    const L p = lane_load<L>(positions), zero = broadcast<L>(0), one = broadcast<L>(1);
    const L at = select(p > zero, select(p < one, p, one), zero) * static_cast<float>(n_vertices - 1);
    const L cell = lane_min(to_lane<L>(to_int(at)), broadcast<L>(static_cast<float>(n_vertices - 2)));
    lane_store(weight, at - cell);
    return as_uint(to_int(cell));
  }
};

template <class F>
void with_channels(int n_channels, F&& f) {
  switch (n_channels) {
    case 1: return f(std::integral_constant<int, 1>{});
    case 2: return f(std::integral_constant<int, 2>{});
    case 4: return f(std::integral_constant<int, 4>{});
    default: return f(std::integral_constant<int, 8>{});
  }
}

template <int C>
void look_up(const TileCells& cells, const float* NF_RESTRICT grid, std::int64_t below, int rows, float* NF_RESTRICT to,
             std::int64_t to_row) {
  for (int r = 0; r < rows; ++r) {
    const float *a = grid + cells.first[r], *b = a + below;
    const float x = cells.x[r], y = cells.y[r];
    NF_UNROLL
    for (int c = 0; c < C; ++c) {
      const float left = a[c] + y * (b[c] - a[c]), right = a[C + c] + y * (b[C + c] - a[C + c]);
      to[r * to_row + c] = left + x * (right - left);
    }
  }
}

// Adds the slope of the values along both axes, weighed with the gradients of the values.
template <int C>
void pull(const TileCells& cells, const FrameLevel& level, const float* NF_RESTRICT grid, int rows,
          const float* NF_RESTRICT gradient, std::int64_t gradient_row, float* NF_RESTRICT to_x, float* NF_RESTRICT to_y) {
  const std::int64_t below = std::int64_t(level.width) * C;
  const float cells_x = static_cast<float>(level.width - 1), cells_y = static_cast<float>(level.height - 1);
  for (int r = 0; r < rows; ++r) {
    const float *a = grid + cells.first[r], *b = a + below, *g = gradient + r * gradient_row;
    const float x = cells.x[r], y = cells.y[r];
    float along_x = 0, along_y = 0;
    NF_UNROLL
    for (int c = 0; c < C; ++c) {
      const float upper = a[C + c] - a[c], lower = b[C + c] - b[c];
      const float left = b[c] - a[c], right = b[C + c] - a[C + c];
      along_x += g[c] * (upper + y * (lower - upper));
      along_y += g[c] * (left + x * (right - left));
    }
    to_x[r] += cells_x * along_x;
    to_y[r] += cells_y * along_y;
  }
}

template <int C>
void scatter(const TileCells& cells, std::int64_t below, int rows, const float* NF_RESTRICT gradient,
             std::int64_t gradient_row, float* grid) {
  for (int r = 0; r < rows; ++r) {
    float *a = grid + cells.first[r], *b = a + below;
    const float *g = gradient + r * gradient_row, x = cells.x[r], y = cells.y[r];
    const float w11 = x * y, w01 = y - w11, w10 = x - w11, w00 = 1 - x - w01;
    NF_UNROLL
    for (int c = 0; c < C; ++c) {
      a[c] += w00 * g[c];
      a[C + c] += w10 * g[c];
      b[c] += w01 * g[c];
      b[C + c] += w11 * g[c];
    }
  }
}

// Positions of a tile, x and y apart: as they are and where the grids are looked up.
struct TilePoints {
  float px[kMlpTile] = {}, py[kMlpTile] = {}, qx[kMlpTile] = {}, qy[kMlpTile] = {};

  void set(const FrameArgs& args, std::int64_t first, int rows) {
    const float* positions = args.positions + first * 2;
    for (int r = 0; r < rows; ++r) {
      px[r] = positions[2 * r];
      py[r] = positions[2 * r + 1];
      qx[r] = args.scale[0] * px[r] + args.offset[0];
      qy[r] = args.scale[1] * py[r] + args.offset[1];
    }
    const FrameLevel& motion = args.shape.motion;
    if (motion.width == 0) return;
    TileCells cells;
    float moved[2 * kMlpTile];
    cells.set(motion, px, py, rows);
    look_up<2>(cells, args.motion, std::int64_t(motion.width) * 2, rows, moved, 2);
    for (int r = 0; r < rows; ++r) {
      qx[r] += moved[2 * r];
      qy[r] += moved[2 * r + 1];
    }
  }
};

bool inside(float q) { return q > 0 && q < 1; }

class FrameTile {
 public:
  FrameTile(const FrameArgs& args, const PackedMlp<float>& mlp)
      : args_(args), network_(mlp, args.shape.network, kMlpTile), encoded_(static_cast<std::size_t>(network_.input_row() * kMlpTile)) {
    std::memset(encoded_.data(), 0, sizeof(float) * static_cast<std::size_t>(network_.input_row() * kMlpTile));
  }

  void forward(std::int64_t first, int rows) {
    evaluate(first, rows);
    const std::int64_t n_values = values(), row = network_.output_row();
    for (int r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < n_values; ++c) args_.output[(first + r) * n_values + c] = network_.output()[r * row + c];
  }

  // Leaves the gradients of the encoding, the places of the lookups and, where things move, their gradients.
  void backward(std::int64_t first, int rows, MlpGradient<float>& gradient, float* grad_encoded, float* places, float* grad_places) {
    evaluate(first, rows);
    const std::int64_t n_values = values(), row = network_.output_row(), width = network_.input_row();
    std::memset(network_.output_gradient(), 0, sizeof(float) * static_cast<std::size_t>(rows * row));
    for (int r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < n_values; ++c)
        network_.output_gradient()[r * row + c] = args_.grad_output[(first + r) * n_values + c];
    float* of_encoding = grad_encoded + first * width;
    network_.backward(encoded_.data(), rows, gradient, of_encoding, width);
    float *to_x = places + 2 * first, *to_y = to_x + kMlpTile;  // x and y of a tile apart
    std::memcpy(to_x, points_.qx, sizeof points_.qx);
    std::memcpy(to_y, points_.qy, sizeof points_.qy);
    if (args_.shape.motion.width > 0) pull_places(first, rows, of_encoding, width, grad_places);
  }

 private:
  std::int64_t values() const { return args_.shape.network.widths[args_.shape.network.n_layers]; }

  void evaluate(std::int64_t first, int rows) {
    points_.set(args_, first, rows);
    for (int l = 0; l < args_.shape.n_levels; ++l) {
      const FrameLevel& level = args_.shape.levels[l];
      cells_.set(level, points_.qx, points_.qy, rows);
      with_channels(level.n_channels, [&](auto channels) {
        look_up<channels.value>(cells_, args_.grids + level.offset, std::int64_t(level.width) * channels.value, rows,
                                encoded_.data() + level.column, network_.input_row());
      });
    }
    network_.forward(encoded_.data(), rows);
  }

  void pull_places(std::int64_t first, int rows, const float* of_encoding, std::int64_t width, float* grad_places) {
    float to_x[kMlpTile] = {}, to_y[kMlpTile] = {};
    for (int l = 0; l < args_.shape.n_levels; ++l) {
      const FrameLevel& level = args_.shape.levels[l];
      cells_.set(level, points_.qx, points_.qy, rows);
      with_channels(level.n_channels, [&](auto channels) {
        pull<channels.value>(cells_, level, args_.grids + level.offset, rows, of_encoding + level.column, width, to_x, to_y);
      });
    }
    for (int r = 0; r < rows; ++r) {  // clamped places do not move
      grad_places[2 * (first + r)] = inside(points_.qx[r]) ? to_x[r] : 0;
      grad_places[2 * (first + r) + 1] = inside(points_.qy[r]) ? to_y[r] : 0;
    }
  }

  const FrameArgs& args_;
  TileNetwork<float> network_;
  Buffer<float> encoded_;
  TilePoints points_;
  TileCells cells_;
};

template <class F>
void for_tiles(std::int64_t begin, std::int64_t end, F&& f) {
  for (std::int64_t first = begin; first < end; first += kMlpTile)
    f(first, static_cast<int>(end - first < kMlpTile ? end - first : kMlpTile));
}

void scatter_level(const FrameArgs& args, const FrameLevel& level, const float* places, const float* gradient,
                   std::int64_t gradient_row, float* grid) {
  std::memset(grid, 0, sizeof(float) * static_cast<std::size_t>(std::int64_t(level.width) * level.height * level.n_channels));
  TileCells cells;
  with_channels(level.n_channels, [&](auto channels) {
    for_tiles(0, args.n, [&](std::int64_t first, int rows) {
      cells.set(level, places + 2 * first, places + 2 * first + kMlpTile, rows);
      scatter<channels.value>(cells, std::int64_t(level.width) * channels.value, rows, gradient + first * gradient_row,
                              gradient_row, grid);
    });
  });
}

void scatter_motion(const FrameArgs& args, const float* grad_places) {
  const FrameLevel& level = args.shape.motion;
  std::memset(args.grad_motion, 0, sizeof(float) * static_cast<std::size_t>(std::int64_t(level.width) * level.height * 2));
  TileCells cells;
  TilePoints points;
  for_tiles(0, args.n, [&](std::int64_t first, int rows) {
    points.set(args, first, rows);
    cells.set(level, points.px, points.py, rows);
    scatter<2>(cells, std::int64_t(level.width) * 2, rows, grad_places + 2 * first, 2, args.grad_motion);
  });
}

}  // namespace

void frame_forward(const FrameArgs& args) {
  const PackedMlp<float> mlp(args.shape.network, args.params);
  parallel_chunks(args.n, kChunk, [&](std::int64_t begin, std::int64_t end) {
    FrameTile tile(args, mlp);
    for_tiles(begin, end, [&](std::int64_t first, int rows) { tile.forward(first, rows); });
  });
}

void frame_backward(const FrameArgs& args) {
  const MlpShape& network = args.shape.network;
  const PackedMlp<float> mlp(network, args.params);
  const std::int64_t row = padded<float>(network.widths[0]), size = MlpGradient<float>::size(network);
  const bool moves = args.shape.motion.width > 0;
  const std::int64_t n_tiles = (args.n + kMlpTile - 1) / kMlpTile;
  Buffer<float> grad_encoded(static_cast<std::size_t>(args.n * row) + 1), places(static_cast<std::size_t>(n_tiles * 2 * kMlpTile) + 1);
  Buffer<float> grad_places(moves ? static_cast<std::size_t>(args.n * 2) + 1 : 1);
  Buffer<float> sums(static_cast<std::size_t>(size * kSlots));
  std::memset(sums.data(), 0, sizeof(float) * static_cast<std::size_t>(size * kSlots));
  parallel_for(kSlots, [&](std::int64_t slot) {
    const std::int64_t begin = n_tiles * slot / kSlots * kMlpTile, last = n_tiles * (slot + 1) / kSlots * kMlpTile;
    FrameTile tile(args, mlp);
    MlpGradient<float> gradient(network, sums.data() + slot * size);
    for_tiles(begin, last < args.n ? last : args.n, [&](std::int64_t first, int rows) {
      tile.backward(first, rows, gradient, grad_encoded.data(), places.data(), grad_places.data());
    });
  });
  std::memset(args.grad_params, 0, sizeof(float) * static_cast<std::size_t>(network.n_params()));
  MlpGradient<float>::reduce(network, sums.data(), kSlots, args.grad_params);
  parallel_for(args.shape.n_levels + (moves ? 1 : 0), [&](std::int64_t task) {
    if (task == args.shape.n_levels) return scatter_motion(args, grad_places.data());
    const FrameLevel& level = args.shape.levels[task];
    scatter_level(args, level, places.data(), grad_encoded.data() + level.column, row, args.grad_grids + level.offset);
  });
}

NF_END
