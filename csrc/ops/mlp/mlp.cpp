// CPU loops of the small network: tasks of whole tiles; weight gradients are summed per task and
// the tasks' sums added in order, so that results do not depend on the number of threads.
#include "ops/mlp/mlp.h"

#include <cstring>
#include <utility>

#include "common/loops.h"
#include "ops/mlp/epilogue.h"
#include "ops/mlp/tile.h"

NF_BEGIN
namespace {

constexpr std::int64_t kMaxTasks = 64;

// Samples per task: whole tiles, at most kMaxTasks tasks, a function of n alone.
std::int64_t task_size(std::int64_t n) {
  const std::int64_t tiles = (n + kMlpTile - 1) / kMlpTile;
  const std::int64_t per_task = (tiles + kMaxTasks - 1) / kMaxTasks;
  return (per_task < 8 ? 8 : per_task) * kMlpTile;
}

// What is saved of layer l (1 .. n_layers - 1) from row `first` on.
template <class T, class E>
E* saved_layer(const MlpArgs<T, E>& args, int l, std::int64_t first) {
  std::int64_t before = 0;
  for (int k = 1; k < l; ++k) before += args.shape.widths[k];
  return args.hidden + args.n * before + first * args.shape.widths[l];
}

// Whether hidden layers take the epilogue, which bf16 does not have.
template <class T, class E>
bool has_epilogue(const MlpArgs<T, E>& args) {
  if constexpr (std::is_same<T, E>::value) return keeps_preactivations(args);
  return false;
}

// The row of a sample on layer l with the activations y, of which z is the product, or saved.
template <class T>
Row<T> saved_row(const MlpArgs<T>& args, int l, std::int64_t sample, const T* y) {
  if (l == args.shape.n_layers || !keeps_preactivations(args)) return row_of<T>(args, l, sample, y, y, 1);
  const T rstd = args.shape.normalize ? *rstd_at(args, args.shape.n_activations(), l, sample) : 1;
  return row_of<T>(args, l, sample, saved_layer(args, l, sample), y, rstd);
}

template <class N>
struct Blocks {  // of one tile of samples each, zeros at first
  Blocks(const MlpShape& shape, int n_blocks, std::int64_t row_padding)
      : size((shape.max_width() + row_padding - 1) / row_padding * row_padding * kMlpTile),
        data(static_cast<std::size_t>(size * n_blocks)) {
    std::memset(static_cast<void*>(data.data()), 0, sizeof(N) * static_cast<std::size_t>(size * n_blocks));
  }
  N* operator[](int i) { return data.data() + i * size; }
  std::int64_t size;
  Buffer<N> data;
};

template <class T, class E>
struct Tile {  // scratch for one tile of one task
  explicit Tile(const MlpShape& shape)
      : rows(shape, 3, Factors<E>::padding), sums(shape, 2, Factors<E>::padding) {}
  Blocks<E> rows;
  Blocks<T> sums;
};

template <class E>
struct Rows {
  const E* data;
  std::int64_t row;
};

// The rows of a layer's input as a product reads them: in place where that is possible.
template <class T, class E>
Rows<E> layer_input(const MlpArgs<T, E>& args, int l, std::int64_t first, std::int64_t n_rows, bool all_padded, E* scratch) {
  const std::int64_t width = args.shape.widths[l], row = padded<E>(width);
  const auto copy = [&](const auto* rows) {
    copy_rows(rows, width, width, scratch, row, row, n_rows);
    return Rows<E>{scratch, row};
  };
  const bool fits = width == row || (!all_padded && Factors<E>::per_unit == 1);
  if (l > 0) {
    if constexpr (std::is_same<T, E>::value)
      if (has_epilogue(args)) {
        for (std::int64_t r = 0; r < n_rows; ++r) activate_row(saved_row(args, l, first + r, scratch + r * row), scratch + r * row);
        return {scratch, row};
      }
    const E* rows = saved_layer(args, l, first);
    return fits ? Rows<E>{rows, width} : copy(rows);
  }
  const T* rows = args.input + first * width;
  if constexpr (std::is_same<T, E>::value)
    if (fits) return {rows, width};
  return copy(rows);
}

// The epilogue of layer l from the products z, which become m, to the activations y.
template <class T>
void finish_rows(const MlpArgs<T>& args, int l, T* z, T* y, std::int64_t row, std::int64_t first, std::int64_t n_rows) {
  constexpr std::int64_t kTogether = 8;
  const int width = args.shape.widths[l];
  T* kept = args.hidden != nullptr ? rstd_at(args, args.shape.n_activations(), l, first) : nullptr;
  T means[kTogether], rstds[kTogether];
  for (std::int64_t begin = 0; begin < n_rows; begin += kTogether) {
    const std::int64_t n = n_rows - begin < kTogether ? n_rows - begin : kTogether;
    T *from = z + begin * row, *to = y + begin * row;
    if (args.shape.normalize) {
      for (std::int64_t r = 0; r < n; ++r) means[r] = mean_of_row(from + r * row, width);
      for (std::int64_t r = 0; r < n; ++r) rstds[r] = rstd_of_row(from + r * row, width, means[r]);
      if (kept != nullptr) std::memcpy(kept + begin, rstds, sizeof(T) * static_cast<std::size_t>(n));
    }
    for (std::int64_t r = 0; r < n; ++r, from += row, to += row) {
      const Row<T> at = row_of<T>(args, l, first + begin + r, from, to, args.shape.normalize ? rstds[r] : 1);
      if (args.shape.normalize) normalize_and_activate_row(at, from, means[r], to);
      else activate_row(at, to);
    }
  }
}

// Layer l with its epilogue, from x to y; what is to be saved is computed in its place where it can be.
template <class T>
void forward_epilogue(const MlpArgs<T>& args, const PackedMlp<T>& mlp, T* scratch, int l, Rows<T> x, T* y,
                      std::int64_t first, std::int64_t n_rows) {
  const std::int64_t width = args.shape.widths[l], row = padded<T>(width);
  const bool saves = args.hidden != nullptr, in_place = saves && width == row;
  T* z = in_place ? saved_layer(args, l, first) : saves ? scratch : y;
  mlp.preactivation(l - 1, x.data, x.row, z, row, n_rows);
  finish_rows(args, l, z, y, row, first, n_rows);
  if (saves && !in_place) copy_rows(z, row, width, saved_layer(args, l, first), width, width, n_rows);
}

template <class T, class E>
void forward_tile(const MlpArgs<T, E>& args, const PackedMlp<E>& mlp, Tile<T, E>& tile, std::int64_t first,
                  std::int64_t n_rows) {
  const MlpShape& shape = args.shape;
  Rows<E> x = layer_input(args, 0, first, n_rows, false, tile.rows[2]);
  for (int l = 0; l + 1 < shape.n_layers; ++l) {
    const std::int64_t width = shape.widths[l + 1], row = padded<E>(width);
    E* y = tile.rows[l & 1];
    const Rows<E> below = x;
    x = {y, row};
    if constexpr (std::is_same<T, E>::value)
      if (has_epilogue(args)) {
        forward_epilogue(args, mlp, tile.sums[0], l + 1, below, y, first, n_rows);
        continue;
      }
    mlp.layer(l, below.data, below.row, y, row, n_rows);
    if (args.hidden != nullptr) copy_rows(y, row, width, saved_layer(args, l + 1, first), width, width, n_rows);
  }
  const std::int64_t width = shape.widths[shape.n_layers], row = pad16(width);
  T* output = args.output + first * width;
  if (width == row) return mlp.layer(shape.n_layers - 1, x.data, x.row, output, row, n_rows);
  mlp.layer(shape.n_layers - 1, x.data, x.row, tile.sums[0], row, n_rows);
  copy_rows(tile.sums[0], row, width, output, width, width, n_rows);
}

template <class T, class E>
void forward(const MlpArgs<T, E>& args) {
  const PackedMlp<E> mlp(args.shape, args.params);
  parallel_chunks(args.n, task_size(args.n), [&](std::int64_t begin, std::int64_t end) {
    Tile<T, E> tile(args.shape);
    for (std::int64_t first = begin; first < end; first += kMlpTile)
      forward_tile(args, mlp, tile, first, end - first < kMlpTile ? end - first : kMlpTile);
  });
}

// delta of the last layer: grad_output * phi'(output), padded
template <class T, class E>
void output_delta(const MlpArgs<T, E>& args, std::int64_t first, std::int64_t n_rows, E* delta, Tile<T, E>& tile) {
  const std::int64_t width = args.shape.widths[args.shape.n_layers], row = padded<E>(width);
  const T* gradient = args.grad_output + first * width;
  if (args.shape.output == Activation::none) return copy_rows(gradient, width, width, delta, row, row, n_rows);
  copy_rows(gradient, width, width, tile.sums[0], row, row, n_rows);
  copy_rows(args.saved_output + first * width, width, width, tile.sums[1], row, row, n_rows);
  multiply_by_slope<T>(args.shape.output, static_cast<T>(args.shape.beta), tile.sums[1], tile.sums[0], n_rows * row);
  copy_rows(tile.sums[0], row, row, delta, row, row, n_rows);
}

// delta of layer l, whose activations are y, from that of the layer above.
template <class T, class E>
void hidden_delta(const MlpArgs<T, E>& args, const PackedMlp<E>& mlp, int l, const E* above, const E* y, E* delta,
                  std::int64_t first, std::int64_t n_rows) {
  const std::int64_t above_row = padded<E>(args.shape.widths[l + 1]), row = padded<E>(args.shape.widths[l]);
  if constexpr (std::is_same<T, E>::value)
    if (has_epilogue(args)) {
      mlp.transposed(l, above, above_row, n_rows, Overwrite<T>{delta, row});
      for (std::int64_t r = 0; r < n_rows; ++r)
        set_gradients(args, l, first + r, backward_row(saved_row(args, l, first + r, y + r * row), delta + r * row));
      return;
    }
  mlp.transposed(l, above, above_row, n_rows, Sloped<T, E>{delta, row, y, args.shape.hidden, static_cast<T>(args.shape.beta)});
}

template <class T, class E>
void backward_tile(const MlpArgs<T, E>& args, const PackedMlp<E>& mlp, Tile<T, E>& tile, MlpGradient<E>* gradient,
                   std::int64_t first, std::int64_t n_rows) {
  const MlpShape& shape = args.shape;
  E *delta = tile.rows[0], *next = tile.rows[1], *scratch = tile.rows[2];
  output_delta(args, first, n_rows, delta, tile);
  for (int l = shape.n_layers - 1; l >= 0; --l) {
    if (l == 0 && gradient == nullptr) break;
    const std::int64_t delta_row = padded<E>(shape.widths[l + 1]);
    const Rows<E> x = layer_input(args, l, first, n_rows, true, scratch);
    if (gradient != nullptr) {
      gradient->add_matrix(l, delta, delta_row, x.data, x.row, n_rows);
      gradient->add_bias(l, delta, delta_row, n_rows);
    }
    if (l == 0) break;
    hidden_delta(args, mlp, l, delta, x.data, next, first, n_rows);
    E* swap = delta;
    delta = next;
    next = swap;
  }
  if (args.grad_input == nullptr) return;
  const std::int64_t width = shape.widths[0], row = pad16(width), delta_row = padded<E>(shape.widths[1]);
  T* grad_input = args.grad_input + first * width;
  if (width == row) return mlp.transposed(0, delta, delta_row, n_rows, Overwrite<T>{grad_input, row});
  mlp.transposed(0, delta, delta_row, n_rows, Overwrite<T>{tile.sums[0], row});
  copy_rows(tile.sums[0], row, width, grad_input, width, width, n_rows);
}

// Runs f(gradient, first, n_rows) over the tiles of tasks that make() a scratch each, and leaves the
// sums in grad_params.
template <class T, class E, class Make, class F>
void with_gradients(const MlpArgs<T, E>& args, Make&& make, F&& f) {
  const std::int64_t chunk = task_size(args.n), n_tasks = (args.n + chunk - 1) / chunk;
  const std::int64_t stride = MlpGradient<E>::size(args.shape);
  const bool wanted = args.grad_params != nullptr;
  Buffer<T> sums(static_cast<std::size_t>(wanted ? n_tasks * stride : 1));
  parallel_for(n_tasks, [&](std::int64_t task) {
    auto scratch = make();
    T* own = sums.data() + (wanted ? task * stride : 0);
    if (wanted) std::memset(own, 0, sizeof(T) * static_cast<std::size_t>(stride));
    MlpGradient<E> gradient(args.shape, own);
    const std::int64_t end = (task + 1) * chunk < args.n ? (task + 1) * chunk : args.n;
    for (std::int64_t first = task * chunk; first < end; first += kMlpTile)
      f(scratch, wanted ? &gradient : nullptr, first, end - first < kMlpTile ? end - first : kMlpTile);
  });
  if (!wanted) return;
  std::memset(args.grad_params, 0, sizeof(T) * static_cast<std::size_t>(args.shape.n_params()));
  MlpGradient<E>::reduce(args.shape, sums.data(), n_tasks, args.grad_params);
}

template <class T, class E>
void backward(const MlpArgs<T, E>& args) {
  const PackedMlp<E> mlp(args.shape, args.params);
  with_gradients(args, [&] { return Tile<T, E>(args.shape); },
                 [&](Tile<T, E>& tile, MlpGradient<E>* gradient, std::int64_t first, std::int64_t n_rows) {
                   backward_tile(args, mlp, tile, gradient, first, n_rows);
                 });
}

#ifndef NF_MATRIX_PATH  // second derivatives are float's and double's alone

// Derivatives of s = <tangents, grad_input> + <scale_tangents, grad_scale> + <shift_tangents, grad_shift>.
// Forward over reverse: with t_0 = tangents, u_l = W_l t_{l-1}, w_l the change of v_l for u_l and the
// tangents of scale and shift, t_l = phi'(v_l) w_l we have s = <grad_output, t_last>. Its own reverse
// pass carries the adjoints of u (which are the deltas of the first backward pass) and of z.
template <class T>
struct SecondTile {
  explicit SecondTile(const MlpShape& shape) : n_layers(shape.n_layers), blocks(shape, 2 * shape.n_layers + 8, 16) {}
  T* tangent(int l) { return blocks[2 * l]; }
  T* before_slope(int l) { return blocks[2 * l + 1]; }  // u_l
  T* work(int i) { return blocks[2 * (n_layers + 1) + i]; }
  int n_layers;
  Blocks<T> blocks;
};

template <class T>
const T* layer_output(const MlpArgs<T>& args, int l, std::int64_t first, std::int64_t n_rows, T* scratch) {
  if (l < args.shape.n_layers) return layer_input(args, l, first, n_rows, true, scratch).data;
  const std::int64_t width = args.shape.widths[l];
  copy_rows(args.saved_output + first * width, width, width, scratch, pad16(width), pad16(width), n_rows);
  return scratch;
}

// Tangents of all layers, and grad_grad_output.
template <class T>
void second_tile_forward(const MlpArgs<T>& args, const PackedMlp<T>& mlp, SecondTile<T>& tile, std::int64_t first,
                         std::int64_t n_rows) {
  const MlpShape& shape = args.shape;
  const std::int64_t n_in = shape.widths[0], n_out = shape.widths[shape.n_layers];
  if (args.tangents != nullptr)
    copy_rows(args.tangents + first * n_in, n_in, n_in, tile.tangent(0), pad16(n_in), pad16(n_in), n_rows);
  else
    std::memset(tile.tangent(0), 0, sizeof(T) * static_cast<std::size_t>(n_rows * pad16(n_in)));
  for (int l = 1; l <= shape.n_layers; ++l) {
    const std::int64_t row = pad16(shape.widths[l]);
    mlp.linear(l - 1, tile.tangent(l - 1), pad16(shape.widths[l - 1]), n_rows, Overwrite<T>{tile.before_slope(l), row});
    const T* y = layer_output(args, l, first, n_rows, tile.work(4));
    for (std::int64_t r = 0; r < n_rows; ++r) {
      const Row<T> at = saved_row(args, l, first + r, y + r * row);
      T* t = tile.tangent(l) + r * row;
      push_to_v(at, tile.before_slope(l) + r * row, tile.work(5), t);
      push_row(at, t);
    }
  }
  copy_rows(tile.tangent(shape.n_layers), pad16(n_out), n_out, args.grad_grad_output + first * n_out, n_out, n_out, n_rows);
}

template <class T>
void second_tile(const MlpArgs<T>& args, const PackedMlp<T>& mlp, SecondTile<T>& tile, MlpGradient<T>* gradient,
                 std::int64_t first, std::int64_t n_rows) {
  const MlpShape& shape = args.shape;
  const int n = shape.n_layers;
  T *of_u = tile.work(0), *of_z = tile.work(1), *next_u = tile.work(2), *next_z = tile.work(3);
  T* scratch = tile.work(4);
  T *change = tile.work(5), *w = change + pad16(shape.max_width());
  second_tile_forward(args, mlp, tile, first, n_rows);
  const std::int64_t n_in = shape.widths[0], n_out = shape.widths[n];
  copy_rows(args.grad_output + first * n_out, n_out, n_out, of_u, pad16(n_out), pad16(n_out), n_rows);
  std::memset(of_z, 0, sizeof(T) * static_cast<std::size_t>(n_rows * pad16(n_out)));
  for (int l = n; l >= 1; --l) {
    const std::int64_t row = pad16(shape.widths[l]), below = pad16(shape.widths[l - 1]);
    const T* y = layer_output(args, l, first, n_rows, scratch);
    for (std::int64_t r = 0; r < n_rows; ++r) {
      const std::int64_t at = r * row;
      const RowSums<T> sums =
          second_row(saved_row(args, l, first + r, y + at), tile.before_slope(l) + at, change, w, of_u + at, of_z + at);
      if (l < n) set_gradients(args, l, first + r, sums);
    }
    const T* x = layer_input(args, l - 1, first, n_rows, true, scratch).data;
    if (gradient != nullptr) {
      gradient->add_matrix(l - 1, of_u, row, tile.tangent(l - 1), below, n_rows);
      gradient->add_matrix(l - 1, of_z, row, x, below, n_rows);
      gradient->add_bias(l - 1, of_z, row, n_rows);
    }
    mlp.transposed(l - 1, of_u, row, n_rows, Overwrite<T>{next_u, below});
    mlp.transposed(l - 1, of_z, row, n_rows, Overwrite<T>{next_z, below});
    std::swap(of_u, next_u);
    std::swap(of_z, next_z);
  }
  if (args.grad_input != nullptr)
    copy_rows(of_z, pad16(n_in), n_in, args.grad_input + first * n_in, n_in, n_in, n_rows);
}

template <class T>
void second(const MlpArgs<T>& args) {
  const PackedMlp<T> mlp(args.shape, args.params);
  with_gradients(args, [&] { return SecondTile<T>(args.shape); },
                 [&](SecondTile<T>& tile, MlpGradient<T>* gradient, std::int64_t first, std::int64_t n_rows) {
                   second_tile(args, mlp, tile, gradient, first, n_rows);
                 });
}

#endif

}  // namespace

void mlp_forward_bf16(const MlpBf16Args& args) { forward(args); }
void mlp_backward_bf16(const MlpBf16Args& args) { backward(args); }
#ifndef NF_MATRIX_PATH
void mlp_forward_f32(const MlpArgs<float>& args) { forward(args); }
void mlp_backward_f32(const MlpArgs<float>& args) { backward(args); }
void mlp_second_f32(const MlpArgs<float>& args) { second(args); }
#endif
#if !defined(NF_FAST_PATH) && !defined(NF_MATRIX_PATH)
void mlp_forward_f64(const MlpArgs<double>& args) { forward(args); }
void mlp_backward_f64(const MlpArgs<double>& args) { backward(args); }
void mlp_second_f64(const MlpArgs<double>& args) { second(args); }
#endif

NF_END
