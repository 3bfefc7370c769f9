// Tiles of points: forward alone, or forward and backward up to the encoding, whose gradients are then
// added level by level, each by one task in the order of the points.
#include "fused/frame.h"

#include <cstring>
#include <utility>

#include "common/loops.h"
#include "fused/column_network.h"
#include "fused/tile_network.h"

NF_BEGIN
namespace {

constexpr std::int64_t kChunk = 16 * kMlpTile;  // points of a task
constexpr std::int64_t kLatticeRows = 4;        // of a task
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

// The channels of a cell's two corners in a row lie side by side and are one vector; `Half` are those of
// one corner.
template <int C>
struct Corners {
  typedef float Both __attribute__((vector_size(8 * C)));  // NOLINT: `using` loses a dependent size
  typedef float Half __attribute__((vector_size(4 * C)));  // NOLINT

  static Both load(const float* from) {
    Both both;
    std::memcpy(&both, from, sizeof both);
    return both;
  }
  static void store(float* to, Both both) { std::memcpy(to, &both, sizeof both); }
  static Half left(Both both) { return half<0>(both, std::make_integer_sequence<int, C>()); }
  static Half right(Both both) { return half<C>(both, std::make_integer_sequence<int, C>()); }

 private:
  template <int kFirst, int... kChannel>
  static Half half(Both both, std::integer_sequence<int, kChannel...>) {
    return __builtin_shufflevector(both, both, (kFirst + kChannel)...);
  }
};

// Channel c of point r goes to r * to_row + c * to_channel.
template <int C>
void look_up(const TileCells& cells, const float* NF_RESTRICT grid, std::int64_t below, int rows, float* NF_RESTRICT to,
             std::int64_t to_row, std::int64_t to_channel = 1) {
  for (int r = 0; r < rows; ++r) {
    const float* corner = grid + cells.first[r];
    const typename Corners<C>::Both a = Corners<C>::load(corner), b = Corners<C>::load(corner + below);
    const typename Corners<C>::Both column = a + cells.y[r] * (b - a);
    const typename Corners<C>::Half left = Corners<C>::left(column), right = Corners<C>::right(column);
    const typename Corners<C>::Half value = left + cells.x[r] * (right - left);
    NF_UNROLL
    for (int c = 0; c < C; ++c) to[r * to_row + c * to_channel] = value[c];
  }
}

// Adds the slope of the values along both axes, weighed with the gradients of the values.
template <int C>
void pull(const TileCells& cells, const FrameLevel& level, const float* NF_RESTRICT grid, int rows,
          const float* NF_RESTRICT gradient, std::int64_t gradient_row, float* NF_RESTRICT to_x, float* NF_RESTRICT to_y) {
  const std::int64_t below = std::int64_t(level.width) * C;
  const float cells_x = static_cast<float>(level.width - 1), cells_y = static_cast<float>(level.height - 1);
  for (int r = 0; r < rows; ++r) {
    using In = Corners<C>;
    const float *corner = grid + cells.first[r], *g = gradient + r * gradient_row;
    const typename In::Both a = In::load(corner), down = In::load(corner + below) - a, column = a + cells.y[r] * down;
    const typename In::Half across = In::right(column) - In::left(column);
    const typename In::Half fall = In::left(down) + cells.x[r] * (In::right(down) - In::left(down));
    float along_x = 0, along_y = 0;
    NF_UNROLL
    for (int c = 0; c < C; ++c) {
      along_x += g[c] * across[c];
      along_y += g[c] * fall[c];
    }
    to_x[r] += cells_x * along_x;
    to_y[r] += cells_y * along_y;
  }
}

template <int C>
void scatter(const TileCells& cells, std::int64_t below, int rows, const float* NF_RESTRICT gradient,
             std::int64_t gradient_row, float* grid) {
  for (int r = 0; r < rows; ++r) {
    using In = Corners<C>;
    float *upper = grid + cells.first[r], *lower = upper + below;
    const float *g = gradient + r * gradient_row, x = cells.x[r], y = cells.y[r];
    typename In::Both spread;
    NF_UNROLL
    for (int c = 0; c < C; ++c) {
      spread[C + c] = x * g[c];
      spread[c] = g[c] - spread[C + c];
    }
    In::store(upper, In::load(upper) + (1 - y) * spread);
    In::store(lower, In::load(lower) + y * spread);
  }
}

// What a tile looks at.
struct FrameSource {
  FrameShape shape;
  const float* levels[kFrameMaxLevels];
  const float* motion;
  float scale[2], offset[2];

  explicit FrameSource(const FrameArgs& args)
      : shape(args.shape), motion(args.motion), scale{args.scale[0], args.scale[1]}, offset{args.offset[0], args.offset[1]} {
    for (int l = 0; l < shape.n_levels; ++l) levels[l] = args.grids + shape.levels[l].offset;
  }

  // `blended` holds those of a lattice's slices that lie between moments, one after the other.
  FrameSource(const FrameLatticeArgs& args, float* blended)
      : shape(args.shape), scale{args.scale[0], args.scale[1]}, offset{args.offset[0], args.offset[1]} {
    float* at = blended;
    for (int l = 0; l < shape.n_levels; ++l) {
      const FrameLevel& level = shape.levels[l];
      levels[l] = between(args.levels[l], std::int64_t(level.width) * level.height * level.n_channels, at);
    }
    const std::int64_t n = std::int64_t(shape.motion.width) * shape.motion.height * 2;
    const float* moved = n > 0 ? between(args.motion, n, at) : nullptr;
    for (std::int64_t i = 0; i < n; ++i) at[i] = moved[i] * args.unit[i & 1];
    motion = at;
  }

  static std::int64_t room(const FrameShape& shape) {
    return shape.n_grids + std::int64_t(4) * shape.motion.width * shape.motion.height + 1;
  }

 private:
  static const float* between(const FrameSlice& slice, std::int64_t n, float*& at) {
    if (slice.upper == nullptr) return slice.lower;
    float* made = at;
    for (std::int64_t i = 0; i < n; ++i) made[i] = slice.lower[i] + slice.share * (slice.upper[i] - slice.lower[i]);
    at += n;
    return made;
  }
};

// Positions of a tile, x and y apart: as they are and where the grids are looked up.
struct TilePoints {
  float px[kMlpTile] = {}, py[kMlpTile] = {}, qx[kMlpTile] = {}, qy[kMlpTile] = {};

  void set(const FrameSource& source, const float* positions, int rows) {
    for (int r = 0; r < rows; ++r) {
      px[r] = positions[2 * r];
      py[r] = positions[2 * r + 1];
    }
    place(source, rows);
  }

  void set(const FrameSource& source, const float* x, float y, int rows) {
    for (int r = 0; r < rows; ++r) {
      px[r] = x[r];
      py[r] = y;
    }
    place(source, rows);
  }

 private:
  void place(const FrameSource& source, int rows) {
    for (int r = 0; r < rows; ++r) {
      qx[r] = source.scale[0] * px[r] + source.offset[0];
      qy[r] = source.scale[1] * py[r] + source.offset[1];
    }
    const FrameLevel& motion = source.shape.motion;
    if (motion.width == 0) return;
    TileCells cells;
    float moved[2 * kMlpTile];
    cells.set(motion, px, py, rows);
    look_up<2>(cells, source.motion, std::int64_t(motion.width) * 2, rows, moved, 2);
    for (int r = 0; r < rows; ++r) {
      qx[r] += moved[2 * r];
      qy[r] += moved[2 * r + 1];
    }
  }
};

bool inside(float q) { return q > 0 && q < 1; }

class FrameTile {
 public:
  FrameTile(const FrameSource& source, const PackedMlp<float>& mlp)
      : source_(source),
        network_(mlp, source.shape.network, kMlpTile),
        encoded_(static_cast<std::size_t>(network_.input_row() * kMlpTile)) {
    std::memset(encoded_.data(), 0, sizeof(float) * static_cast<std::size_t>(network_.input_row() * kMlpTile));
  }

  void forward(const float* positions, int rows, float* output) {
    points_.set(source_, positions, rows);
    evaluate(rows);
    give(rows, output);
  }


  // Leaves the gradients of the encoding, the places of the lookups and, where things move, their gradients.
  void backward(const FrameArgs& args, std::int64_t first, int rows, MlpGradient<float>& gradient, float* grad_encoded,
                float* places, float* grad_places) {
    points_.set(source_, args.positions + first * 2, rows);
    evaluate(rows);
    const std::int64_t n_values = values(), row = network_.output_row(), width = network_.input_row();
    std::memset(network_.output_gradient(), 0, sizeof(float) * static_cast<std::size_t>(rows * row));
    for (int r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < n_values; ++c)
        network_.output_gradient()[r * row + c] = args.grad_output[(first + r) * n_values + c];
    float* of_encoding = grad_encoded + first * width;
    network_.backward(encoded_.data(), rows, gradient, of_encoding, width);
    float *to_x = places + 2 * first, *to_y = to_x + kMlpTile;  // x and y of a tile apart
    std::memcpy(to_x, points_.qx, sizeof points_.qx);
    std::memcpy(to_y, points_.qy, sizeof points_.qy);
    if (source_.shape.motion.width > 0) pull_places(first, rows, of_encoding, width, grad_places);
  }

 private:
  std::int64_t values() const { return source_.shape.network.widths[source_.shape.network.n_layers]; }

  void give(int rows, float* output) {
    const std::int64_t n_values = values(), row = network_.output_row();
    for (int r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < n_values; ++c) output[r * n_values + c] = network_.output()[r * row + c];
  }

  void evaluate(int rows) {
    for (int l = 0; l < source_.shape.n_levels; ++l) {
      const FrameLevel& level = source_.shape.levels[l];
      cells_.set(level, points_.qx, points_.qy, rows);
      with_channels(level.n_channels, [&](auto channels) {
        look_up<channels.value>(cells_, source_.levels[l], std::int64_t(level.width) * channels.value, rows,
                                encoded_.data() + level.column, network_.input_row());
      });
    }
    network_.forward(encoded_.data(), rows);
  }

  void pull_places(std::int64_t first, int rows, const float* of_encoding, std::int64_t width, float* grad_places) {
    float to_x[kMlpTile] = {}, to_y[kMlpTile] = {};
    for (int l = 0; l < source_.shape.n_levels; ++l) {
      const FrameLevel& level = source_.shape.levels[l];
      cells_.set(level, points_.qx, points_.qy, rows);
      with_channels(level.n_channels, [&](auto channels) {
        pull<channels.value>(cells_, level, source_.levels[l], rows, of_encoding + level.column, width, to_x, to_y);
      });
    }
    for (int r = 0; r < rows; ++r) {  // clamped places do not move
      grad_places[2 * (first + r)] = inside(points_.qx[r]) ? to_x[r] : 0;
      grad_places[2 * (first + r) + 1] = inside(points_.qy[r]) ? to_y[r] : 0;
    }
  }

  const FrameSource& source_;
  TileNetwork<float> network_;
  Buffer<float> encoded_;
  TilePoints points_;
  TileCells cells_;
};

// A part of a lattice's row, forward alone.
class LatticeTile {
 public:
  LatticeTile(const FrameSource& source, const float* params) : source_(source), network_(source.shape.network, params) {}

  void forward(const float* x, float y, int columns, float* output) {
    points_.set(source_, x, y, columns);
    for (int l = 0; l < source_.shape.n_levels; ++l) {
      const FrameLevel& level = source_.shape.levels[l];
      cells_.set(level, points_.qx, points_.qy, columns);
      with_channels(level.n_channels, [&](auto channels) {
        look_up<channels.value>(cells_, source_.levels[l], std::int64_t(level.width) * channels.value, columns,
                                network_.input() + level.column * kMlpTile, 1, kMlpTile);
      });
    }
    const float* values = network_.forward();
    const int n_values = source_.shape.network.widths[source_.shape.network.n_layers];
    for (int r = 0; r < columns; ++r)
      for (int c = 0; c < n_values; ++c) output[r * n_values + c] = values[c * kMlpTile + r];
  }

 private:
  const FrameSource& source_;
  ColumnNetwork network_;
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
  const FrameSource source(args);
  for_tiles(0, args.n, [&](std::int64_t first, int rows) {
    points.set(source, args.positions + first * 2, rows);
    cells.set(level, points.px, points.py, rows);
    scatter<2>(cells, std::int64_t(level.width) * 2, rows, grad_places + 2 * first, 2, args.grad_motion);
  });
}

}  // namespace

void frame_forward(const FrameArgs& args) {
  const PackedMlp<float> mlp(args.shape.network, args.params);
  const FrameSource source(args);
  const std::int64_t n_values = args.shape.network.widths[args.shape.network.n_layers];
  parallel_chunks(args.n, kChunk, [&](std::int64_t begin, std::int64_t end) {
    FrameTile tile(source, mlp);
    for_tiles(begin, end, [&](std::int64_t first, int rows) {
      tile.forward(args.positions + first * 2, rows, args.output + first * n_values);
    });
  });
}

void frame_lattice(const FrameLatticeArgs& args) {
  Buffer<float> blended(static_cast<std::size_t>(FrameSource::room(args.shape)));
  const FrameSource source(args, blended.data());
  const std::int64_t n_values = args.shape.network.widths[args.shape.network.n_layers];
  parallel_chunks(args.height, kLatticeRows, [&](std::int64_t begin, std::int64_t end) {
    LatticeTile tile(source, args.params);
    for (std::int64_t row = begin; row < end; ++row)
      for_tiles(0, args.width, [&](std::int64_t first, int columns) {
        tile.forward(args.x + first, args.y[row], columns, args.output + (row * args.width + first) * n_values);
      });
  });
}

void frame_backward(const FrameArgs& args) {
  const MlpShape& network = args.shape.network;
  const PackedMlp<float> mlp(network, args.params);
  const std::int64_t row = padded<float>(network.widths[0]), size = MlpGradient<float>::size(network);
  const bool moves = args.shape.motion.width > 0;
  const FrameSource source(args);
  const std::int64_t n_tiles = (args.n + kMlpTile - 1) / kMlpTile;
  Buffer<float> grad_encoded(static_cast<std::size_t>(args.n * row) + 1), places(static_cast<std::size_t>(n_tiles * 2 * kMlpTile) + 1);
  Buffer<float> grad_places(moves ? static_cast<std::size_t>(args.n * 2) + 1 : 1);
  Buffer<float> sums(static_cast<std::size_t>(size * kSlots));
  std::memset(sums.data(), 0, sizeof(float) * static_cast<std::size_t>(size * kSlots));
  parallel_for(kSlots, [&](std::int64_t slot) {
    const std::int64_t begin = n_tiles * slot / kSlots * kMlpTile, last = n_tiles * (slot + 1) / kSlots * kMlpTile;
    FrameTile tile(source, mlp);
    MlpGradient<float> gradient(network, sums.data() + slot * size);
    for_tiles(begin, last < args.n ? last : args.n, [&](std::int64_t first, int rows) {
      tile.backward(args, first, rows, gradient, grad_encoded.data(), places.data(), grad_places.data());
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
