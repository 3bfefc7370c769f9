// CPU loops of the small network: tasks of whole tiles; weight gradients are summed per task and
// the tasks' sums added in order, so that results do not depend on the number of threads.
#include "ops/mlp/mlp.h"

#include <cstring>

#include "common/loops.h"
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

// The saved activations of layer l (1 .. n_layers - 1) from row `first` on.
template <class T>
T* saved_layer(const MlpArgs<T>& args, int l, std::int64_t first) {
  std::int64_t before = 0;
  for (int k = 1; k < l; ++k) before += args.shape.widths[k];
  return args.hidden + args.n * before + first * args.shape.widths[l];
}

template <class T>
struct Tile {  // scratch for one tile of one task
  explicit Tile(const MlpShape& shape)
      : width(pad16(shape.max_width())), data(static_cast<std::size_t>(width) * kMlpTile * 6) {
    std::memset(data.data(), 0, sizeof(T) * width * kMlpTile * 6);
  }
  T* block(int i) { return data.data() + static_cast<std::int64_t>(i) * width * kMlpTile; }
  std::int64_t width;
  Buffer<T> data;
};

template <class T>
void forward_tile(const MlpArgs<T>& args, const PackedMlp<T>& mlp, Tile<T>& tile, std::int64_t first, int n_rows) {
  const MlpShape& shape = args.shape;
  const T* x = args.input + first * shape.widths[0];
  std::int64_t x_row = shape.widths[0];
  for (int l = 0; l < shape.n_layers; ++l) {
    T* y = tile.block(l & 1);
    const int width = shape.widths[l + 1], padded = pad16(width);
    mlp.layer(l, x, x_row, y, n_rows);
    if (l + 1 == shape.n_layers)
      unpad_rows<T>(y, padded, args.output + first * width, width, n_rows);
    else if (args.hidden != nullptr)
      unpad_rows<T>(y, padded, saved_layer(args, l + 1, first), width, n_rows);
    x = y;
    x_row = padded;
  }
}

template <class T>
void forward(const MlpArgs<T>& args) {
  const PackedMlp<T> mlp(args.shape, args.params);
  parallel_chunks(args.n, task_size(args.n), [&](std::int64_t begin, std::int64_t end) {
    Tile<T> tile(args.shape);
    for (std::int64_t first = begin; first < end; first += kMlpTile)
      forward_tile(args, mlp, tile, first, static_cast<int>(end - first < kMlpTile ? end - first : kMlpTile));
  });
}

// Rows of a layer's activations, padded to a multiple of 16 columns: in place where they already are.
template <class T>
const T* padded_activations(const MlpArgs<T>& args, int l, std::int64_t first, int n_rows, T* scratch) {
  const int width = args.shape.widths[l];
  const T* rows = l == 0 ? args.input + first * width : saved_layer(args, l, first);
  if (width % 16 == 0) return rows;
  pad_rows<T>(rows, width, scratch, pad16(width), n_rows);
  return scratch;
}

// delta of the last layer: grad_output * phi'(output), padded
template <class T>
void output_delta(const MlpArgs<T>& args, std::int64_t first, int n_rows, T* delta, T* scratch) {
  const int width = args.shape.widths[args.shape.n_layers], padded = pad16(width);
  pad_rows<T>(args.grad_output + first * width, width, delta, padded, n_rows);
  if (args.shape.output == Activation::none) return;
  pad_rows<T>(args.saved_output + first * width, width, scratch, padded, n_rows);
  multiply_by_slope<T>(args.shape.output, static_cast<T>(args.shape.beta), scratch, delta,
                       static_cast<std::int64_t>(n_rows) * padded);
}

template <class T>
void backward_tile(const MlpArgs<T>& args, const PackedMlp<T>& mlp, Tile<T>& tile, MlpGradient<T>* gradient,
                   std::int64_t first, int n_rows) {
  const MlpShape& shape = args.shape;
  T *delta = tile.block(0), *next = tile.block(1), *scratch = tile.block(2);
  output_delta(args, first, n_rows, delta, scratch);
  for (int l = shape.n_layers - 1; l >= 0; --l) {
    const std::int64_t delta_row = pad16(shape.widths[l + 1]), x_row = pad16(shape.widths[l]);
    const T* x = padded_activations(args, l, first, n_rows, scratch);
    if (gradient != nullptr) {
      gradient->add_matrix(l, delta, delta_row, x, x_row, n_rows);
      gradient->add_bias(l, delta, delta_row, n_rows);
    }
    if (l == 0 && args.grad_input == nullptr) break;
    mlp.transposed(l, delta, delta_row, next, n_rows);
    if (l == 0)
      unpad_rows<T>(next, x_row, args.grad_input + first * shape.widths[0], shape.widths[0], n_rows);
    else
      multiply_by_slope<T>(shape.hidden, static_cast<T>(shape.beta), x, next, n_rows * x_row);
    T* swap = delta;
    delta = next;
    next = swap;
  }
}

// Runs f(first, n_rows, gradient) over all tiles and leaves the sums in grad_params.
template <class T, class F>
void with_gradients(const MlpArgs<T>& args, F&& f) {
  const std::int64_t chunk = task_size(args.n), n_tasks = (args.n + chunk - 1) / chunk;
  const std::int64_t stride = MlpGradient<T>::size(args.shape);
  const bool wanted = args.grad_params != nullptr;
  Buffer<T> sums(wanted ? n_tasks * stride : 1);
  parallel_for(n_tasks, [&](std::int64_t task) {
    Tile<T> tile(args.shape);
    T* own = sums.data() + (wanted ? task * stride : 0);
    if (wanted) std::memset(own, 0, sizeof(T) * stride);
    MlpGradient<T> gradient(args.shape, own);
    const std::int64_t end = (task + 1) * chunk < args.n ? (task + 1) * chunk : args.n;
    for (std::int64_t first = task * chunk; first < end; first += kMlpTile)
      f(tile, wanted ? &gradient : nullptr, first, static_cast<int>(end - first < kMlpTile ? end - first : kMlpTile));
  });
  if (!wanted) return;
  std::memset(args.grad_params, 0, sizeof(T) * args.shape.n_params());
  MlpGradient<T>::reduce(args.shape, sums.data(), n_tasks, args.grad_params);
}

template <class T>
void backward(const MlpArgs<T>& args) {
  const PackedMlp<T> mlp(args.shape, args.params);
  with_gradients(args, [&](Tile<T>& tile, MlpGradient<T>* gradient, std::int64_t first, int n_rows) {
    backward_tile(args, mlp, tile, gradient, first, n_rows);
  });
}

// Derivatives of s = <tangents, grad_input>. Forward over reverse: with t_0 = tangents,
// u_l = W_l t_{l-1}, t_l = phi'(z_l) u_l we have s = <grad_output, t_last>. Its own reverse pass
// carries the adjoints of u (which are the deltas of the first backward pass) and of z.
template <class T>
struct SecondTile {
  explicit SecondTile(const MlpShape& shape) : width(pad16(shape.max_width())) {
    const std::size_t n = static_cast<std::size_t>(width) * kMlpTile;
    data = new Buffer<T>(n * (2 * (shape.n_layers + 1) + 5));
    std::memset(data->data(), 0, sizeof(T) * n * (2 * (shape.n_layers + 1) + 5));
  }
  ~SecondTile() { delete data; }
  SecondTile(const SecondTile&) = delete;
  SecondTile& operator=(const SecondTile&) = delete;
  T* tangent(int l) { return block(2 * l); }
  T* before_slope(int l) { return block(2 * l + 1); }  // u_l
  T* work(int i, int n_layers) { return block(2 * (n_layers + 1) + i); }
  T* block(int i) { return data->data() + static_cast<std::int64_t>(i) * width * kMlpTile; }
  std::int64_t width;
  Buffer<T>* data;
};

template <class T>
const T* padded_layer_output(const MlpArgs<T>& args, int l, std::int64_t first, int n_rows, T* scratch) {
  if (l < args.shape.n_layers) return padded_activations(args, l, first, n_rows, scratch);
  const int width = args.shape.widths[l];
  pad_rows<T>(args.saved_output + first * width, width, scratch, pad16(width), n_rows);
  return scratch;
}

template <class T>
void second_tile(const MlpArgs<T>& args, const PackedMlp<T>& mlp, SecondTile<T>& tile, MlpGradient<T>* gradient,
                 std::int64_t first, int n_rows) {
  using L = typename ElementLanes<T>::type;
  const MlpShape& shape = args.shape;
  const int n = shape.n_layers;
  const T beta = static_cast<T>(shape.beta);
  T *adjoint_u = tile.work(0, n), *adjoint_z = tile.work(1, n), *next_u = tile.work(2, n), *next_z = tile.work(3, n);
  T* scratch = tile.work(4, n);
  pad_rows<T>(args.tangents + first * shape.widths[0], shape.widths[0], tile.tangent(0), pad16(shape.widths[0]), n_rows);
  for (int l = 1; l <= n; ++l) {
    const std::int64_t count = static_cast<std::int64_t>(n_rows) * pad16(shape.widths[l]);
    mlp.linear(l - 1, tile.tangent(l - 1), pad16(shape.widths[l - 1]), tile.before_slope(l), n_rows);
    std::memcpy(tile.tangent(l), tile.before_slope(l), sizeof(T) * count);
    multiply_by_slope<T>(mlp.kind(l - 1), beta, padded_layer_output(args, l, first, n_rows, scratch), tile.tangent(l), count);
  }
  const int n_out = shape.widths[n];
  unpad_rows<T>(tile.tangent(n), pad16(n_out), args.grad_grad_output + first * n_out, n_out, n_rows);

  pad_rows<T>(args.grad_output + first * n_out, n_out, next_u, pad16(n_out), n_rows);
  std::memset(next_z, 0, sizeof(T) * n_rows * pad16(n_out));
  for (int l = n; l >= 1; --l) {
    const std::int64_t row = pad16(shape.widths[l]), below = pad16(shape.widths[l - 1]);
    const T* y = padded_layer_output(args, l, first, n_rows, scratch);
    const T* u = tile.before_slope(l);
    for_lanes<T>(n_rows * row, [&](std::int64_t i) {
      const L value = lane_load<L>(y + i), from_t = lane_load<L>(next_u + i);
      const L slope = activation_slope<L>(mlp.kind(l - 1), value, beta);
      const L curvature = activation_curvature<L>(mlp.kind(l - 1), value, beta);
      lane_store(adjoint_u + i, from_t * slope);
      lane_store(adjoint_z + i, lane_load<L>(next_z + i) * slope + from_t * curvature * lane_load<L>(u + i));
    });
    const T* x = padded_activations(args, l - 1, first, n_rows, scratch);
    if (gradient != nullptr) {
      gradient->add_matrix(l - 1, adjoint_u, row, tile.tangent(l - 1), below, n_rows);
      gradient->add_matrix(l - 1, adjoint_z, row, x, below, n_rows);
      gradient->add_bias(l - 1, adjoint_z, row, n_rows);
    }
    mlp.transposed(l - 1, adjoint_u, row, next_u, n_rows);
    mlp.transposed(l - 1, adjoint_z, row, next_z, n_rows);
  }
  if (args.grad_input != nullptr)
    unpad_rows<T>(next_z, pad16(shape.widths[0]), args.grad_input + first * shape.widths[0], shape.widths[0], n_rows);
}

template <class T>
void second(const MlpArgs<T>& args) {
  const PackedMlp<T> mlp(args.shape, args.params);
  with_gradients(args, [&](Tile<T>&, MlpGradient<T>* gradient, std::int64_t first, int n_rows) {
    SecondTile<T> tile(args.shape);
    second_tile(args, mlp, tile, gradient, first, n_rows);
  });
}

}  // namespace

void mlp_forward_f32(const MlpArgs<float>& args) { forward(args); }
void mlp_backward_f32(const MlpArgs<float>& args) { backward(args); }
void mlp_second_f32(const MlpArgs<float>& args) { second(args); }
#ifndef NF_FAST_PATH
void mlp_forward_f64(const MlpArgs<double>& args) { forward(args); }
void mlp_backward_f64(const MlpArgs<double>& args) { backward(args); }
void mlp_second_f64(const MlpArgs<double>& args) { second(args); }
#endif

NF_END
