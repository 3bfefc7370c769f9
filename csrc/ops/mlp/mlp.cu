// The small network on CUDA: one block per tile of samples, all layers, the tile in shared memory.
//
// A tile has 64 samples, or fewer where layers are so wide that the buffers (2 forward and backward,
// 3 for the second derivative) would not fit the 48 KB that every GPU gives; 4 samples of 512 doubles
// still do. In a product a thread owns one column for 4 samples, so that a weight is read once
// for 4 uses and a warp reads the samples as broadcasts. In a weight gradient it owns one weight, sums
// over the tile, and adds the sum to global memory.
// Normalisation, scale, shift and the waves (epilogue.h) are a warp's work on a row after its product.
// Traffic: weights come from L1 and L2 once per 4 samples of a tile; the input is read and the output
// and the saved activations are written once. Activations that are not kept are computed again, all
// layers first, into scratch memory. The second derivative keeps 2 numbers per neuron and sample in
// scratch memory, and two rows per sample.
// Weight gradients are atomic adds in whatever order blocks arrive: their last bits differ from run to
// run. Everything else has one owner and repeats bit for bit.
//
// Not taken: matrix units (wmma; half or tf32 inputs would leave float32's error bounds); weights
// staged in shared memory, which pays for widths up to 64 only; sums of weight gradients per
// block with a second pass to add them in order, which would repeat bits for n_blocks times the memory.
#include "common/cuda.cuh"
#include "ops/mlp/epilogue.h"

NF_BEGIN
namespace {

constexpr int kSharedBytes = 48 * 1024;
constexpr int kMaxTile = 64, kGroup = 4;  // samples per block at most, and per thread of a product
static_assert(kSharedBytes >= 3 * kGroup * kMlpMaxWidth * static_cast<int>(sizeof(double)), "4 samples need to fit");

// The largest power of two of samples whose buffers fit.
int tile_size(const MlpShape& shape, int n_buffers, std::size_t number_bytes) {
  int n = kMaxTile;
  while (n > kGroup && static_cast<std::size_t>(n_buffers) * n * shape.max_width() * number_bytes > kSharedBytes) n /= 2;
  return n;
}

// Where layers begin: in the parameters, and in a list of blocks [n, width], one per layer from 1 on.
struct MlpOffsets {
  std::int64_t matrix[kMlpMaxLayers], layer[kMlpMaxLayers + 1];
  std::int64_t n_activations;
  int tile;  // samples per block
};

MlpOffsets offsets_of(const MlpShape& shape, std::int64_t n, int tile) {
  MlpOffsets offsets{};
  offsets.n_activations = shape.n_activations();
  offsets.tile = tile;
  for (int l = 0; l < shape.n_layers; ++l) offsets.matrix[l] = shape.matrix(l);
  for (int l = 1; l < shape.n_layers; ++l) offsets.layer[l + 1] = offsets.layer[l] + n * shape.widths[l];
  return offsets;
}

// What a block knows: its samples, and how to find the rows of any layer.
template <class T>
struct Tile {
  const MlpArgs<T>& args;
  const MlpOffsets& offsets;
  T* ys;             // activations of the hidden layers: saved, or computed again
  std::int64_t first;
  int n_rows, size;  // samples that exist, and those that are computed; all in between are zeros
  T beta;

  __device__ Tile(const MlpArgs<T>& args, const MlpOffsets& offsets, T* again = nullptr)
      : args(args), offsets(offsets), ys(again != nullptr ? again : args.hidden), first(static_cast<std::int64_t>(blockIdx.x) * offsets.tile),
        n_rows(static_cast<int>(args.n - first < offsets.tile ? args.n - first : offsets.tile)), size(offsets.tile),
        beta(static_cast<T>(args.shape.beta)) {}

  __device__ int width(int l) const { return args.shape.widths[l]; }
  __device__ Activation kind(int l) const { return l == args.shape.n_layers ? args.shape.output : args.shape.hidden; }
  __device__ T* buffer(T* shared, int i, int max_width) const { return shared + i * size * max_width; }

  // This tile's rows of [n, width] blocks of a hidden layer.
  __device__ T* rows_of(T* blocks, int l) const { return blocks + offsets.layer[l] + first * width(l); }
  // The activations of layer l: the input, a hidden layer, or the saved output.
  __device__ const T* activations(int l) const {
    if (l == 0) return args.input + first * width(0);
    return l < args.shape.n_layers ? rows_of(ys, l) : args.saved_output + first * width(l);
  }

  // f(row) by one warp for each sample that exists
  template <class F>
  __device__ void for_rows(F&& f) const {
    for (int row = static_cast<int>(threadIdx.x) / 32; row < n_rows; row += kBlockThreads / 32) f(row);
  }
  // What is known of a sample on layer l.
  __device__ Row<T> saved_row(int l, int row) const {
    const T* y = activations(l) + row * width(l);
    if (l == args.shape.n_layers || !keeps_preactivations(args)) return row_of<T>(args, l, first + row, y, y, 1);
    const T rstd = args.shape.normalize ? *rstd_at(args, offsets.n_activations, l, first + row) : 1;
    return row_of<T>(args, l, first + row, rows_of(args.hidden, l) + row * width(l), y, rstd);
  }
  // Computes the activations of hidden layers again, where others are kept.
  __device__ void restore() const {
    if (ys == args.hidden) return;
    for (int l = 1; l < args.shape.n_layers; ++l)
      for_rows([&](int row) { activate_row(saved_row(l, row), rows_of(ys, l) + row * width(l)); });
    __syncthreads();
  }
  // The epilogue of layer l on the products in z, which become the activations.
  __device__ void finish(int l, T* z) const {
    for_rows([&](int row) {
      T *m = z + row * width(l), *kept = args.hidden != nullptr ? rows_of(args.hidden, l) + row * width(l) : m;
      if (kept != m) for_columns<T>(width(l), [&](T, int i) { kept[i] = m[i]; });
      if (!args.shape.normalize) return activate_row(row_of<T>(args, l, first + row, kept, kept, 1), m);
      const T mean = mean_of_row(kept, width(l)), rstd = rstd_of_row(kept, width(l), mean);
      if (kept != m && threadIdx.x % 32 == 0) *rstd_at(args, offsets.n_activations, l, first + row) = rstd;
      normalize_and_activate_row(row_of<T>(args, l, first + row, kept, kept, rstd), kept, mean, m);
    });
  }

  // f(index in the tile, whether the sample exists) for each number of layer l
  template <class F>
  __device__ void for_numbers(int l, F&& f) const {
    const int n = size * width(l), n_real = n_rows * width(l);
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kBlockThreads) f(i, i < n_real);
  }

  // done(index in the tile, whether the sample exists, sum) for each number of layer `to`, where
  // sum = sum_k weights[column * column_step + k * step] x[row][k] over the layer `from`.
  template <class F>
  __device__ void product(const T* weights, int column_step, int step, const T* x, int from, int to, F&& done) const {
    const int n_in = width(from), n_out = width(to), n_tasks = size / kGroup * n_out;
    for (int task = static_cast<int>(threadIdx.x); task < n_tasks; task += kBlockThreads) {
      const int column = task % n_out, row = task / n_out * kGroup;
      const T* own = weights + column * column_step;
      const T* rows = x + row * n_in;
      T sum[kGroup] = {};
      for (int k = 0; k < n_in; ++k) {
        const T weight = own[k * step];
        NF_UNROLL
        for (int r = 0; r < kGroup; ++r) sum[r] += weight * rows[r * n_in + k];
      }
      NF_UNROLL
      for (int r = 0; r < kGroup; ++r) done((row + r) * n_out + column, row + r < n_rows, sum[r]);
    }
  }
  template <class F>
  __device__ void linear(int l, const T* x, F&& done) const {  // W_l x, for layer l from layer l - 1
    product(args.params + offsets.matrix[l - 1], width(l - 1), 1, x, l - 1, l, done);
  }
  template <class F>
  __device__ void transposed(int l, const T* delta, F&& done) const {  // W_l^T delta
    product(args.params + offsets.matrix[l - 1], 1, width(l - 1), delta, l, l - 1, done);
  }

  // grad W_l += sum over the tile of term(row, out, in); the bias takes `delta` [size, width(l)].
  template <class F>
  __device__ void add_gradient(int l, const T* delta, F&& term) const {
    const int n_in = width(l - 1), n_out = width(l);
    T* gradient = args.grad_params + offsets.matrix[l - 1];
    for (int i = static_cast<int>(threadIdx.x); i < n_in * n_out; i += kBlockThreads) {
      const int out = i / n_in, in = i % n_in;
      T sum = 0;
      for (int row = 0; row < n_rows; ++row) sum += term(row, out, in);
      atomicAdd(gradient + i, sum);
    }
    if (!args.shape.biases) return;
    for (int out = static_cast<int>(threadIdx.x); out < n_out; out += kBlockThreads) {
      T sum = 0;
      for (int row = 0; row < n_rows; ++row) sum += delta[row * n_out + out];
      atomicAdd(gradient + n_in * n_out + out, sum);
    }
  }
};

// Dynamic shared memory; one declaration serves float and double.
template <class T>
__device__ T* shared_numbers() {
  return reinterpret_cast<T*>(shared_memory());
}

template <class T>
__device__ void swap_buffers(T*& a, T*& b) {
  T* c = a;
  a = b;
  b = c;
}

template <class T>
__global__ void forward_kernel(const __grid_constant__ MlpArgs<T> args, const __grid_constant__ MlpOffsets offsets, int max_width) {
  const Tile<T> tile(args, offsets);
  T* x = tile.buffer(shared_numbers<T>(), 0, max_width);
  T* y = tile.buffer(shared_numbers<T>(), 1, max_width);
  const T* input = tile.activations(0);
  tile.for_numbers(0, [&](int i, bool real) { x[i] = real ? input[i] : T(0); });
  for (int l = 1; l <= args.shape.n_layers; ++l) {
    const bool last = l == args.shape.n_layers;
    const int width = tile.width(l);
    const T* bias = args.shape.biases ? args.params + offsets.matrix[l - 1] + tile.width(l - 1) * width : nullptr;
    const bool finishes = !last && keeps_preactivations(args);
    T* saved = last ? args.output + tile.first * width : args.hidden != nullptr ? tile.rows_of(args.hidden, l) : nullptr;
    __syncthreads();
    tile.linear(l, x, [&](int i, bool real, T sum) {
      const T z = bias != nullptr ? sum + bias[i % width] : sum;
      y[i] = finishes ? z : activation<T>(tile.kind(l), z, tile.beta);
      if (real && saved != nullptr && !finishes) saved[i] = y[i];
    });
    if (finishes) {
      __syncthreads();
      tile.finish(l, y);
    }
    swap_buffers(x, y);
  }
}

template <class T>
__global__ void backward_kernel(const __grid_constant__ MlpArgs<T> args, const __grid_constant__ MlpOffsets offsets, int max_width,
                                T* ys) {
  const Tile<T> tile(args, offsets, ys);
  tile.restore();
  T* delta = tile.buffer(shared_numbers<T>(), 0, max_width);
  T* next = tile.buffer(shared_numbers<T>(), 1, max_width);
  const int n_layers = args.shape.n_layers;
  const T* g = args.grad_output + tile.first * tile.width(n_layers);
  const T* output = tile.activations(n_layers);
  tile.for_numbers(n_layers, [&](int i, bool real) {
    delta[i] = real ? g[i] * activation_slope<T>(tile.kind(n_layers), output[i], tile.beta) : T(0);
  });
  for (int l = n_layers; l >= 1; --l) {
    const int n_in = tile.width(l - 1), n_out = tile.width(l);
    const T* x = tile.activations(l - 1);
    __syncthreads();
    if (args.grad_params != nullptr)
      tile.add_gradient(l, delta, [&](int row, int out, int in) { return delta[row * n_out + out] * x[row * n_in + in]; });
    if (l == 1 && args.grad_input == nullptr) return;
    T* grad_input = args.grad_input + tile.first * n_in;
    const bool by_rows = l > 1 && keeps_preactivations(args);
    tile.transposed(l, delta, [&](int i, bool real, T sum) {
      if (l > 1)
        next[i] = !real ? T(0) : by_rows ? sum : sum * activation_slope<T>(tile.kind(l - 1), x[i], tile.beta);
      else if (real)
        grad_input[i] = sum;
    });
    if (by_rows) {
      __syncthreads();
      tile.for_rows([&](int row) {
        const RowSums<T> sums = backward_row(tile.saved_row(l - 1, row), next + row * n_in);
        if (threadIdx.x % 32 == 0) set_gradients(args, l - 1, tile.first + row, sums);
      });
    }
    swap_buffers(delta, next);
  }
}

// Derivatives of s = <tangents, grad_input> + <scale_tangents, grad_scale> + <shift_tangents, grad_shift>.
// Forward over reverse: with t_0 = tangents, u_l = W_l t_{l-1}, w_l the change of v_l for u_l and the
// tangents of scale and shift, t_l = phi'(v_l) w_l we have s = <grad_output, t_last>. Its own reverse
// pass carries the adjoints of u (which are the deltas of the first backward pass) and of z.
// us keeps u_l of all layers from 1 on, ts t_l of the hidden ones; `rows` is room for 2 rows a sample.
template <class T>
struct SecondScratch {
  T *us, *ts, *rows;
};
template <class T>
__global__ void second_kernel(const __grid_constant__ MlpArgs<T> args, const __grid_constant__ MlpOffsets offsets, int max_width,
                              T* ys, SecondScratch<T> scratch) {
  const Tile<T> tile(args, offsets, ys);
  tile.restore();
  T* a = tile.buffer(shared_numbers<T>(), 0, max_width);
  T* b = tile.buffer(shared_numbers<T>(), 1, max_width);
  T* c = tile.buffer(shared_numbers<T>(), 2, max_width);
  const int n_layers = args.shape.n_layers;
  const auto room = [&](int row) { return scratch.rows + (tile.first + row) * 2 * max_width; };
  const T* tangents = args.tangents != nullptr ? args.tangents + tile.first * tile.width(0) : nullptr;
  tile.for_numbers(0, [&](int i, bool real) { a[i] = real && tangents != nullptr ? tangents[i] : T(0); });
  for (int l = 1; l <= n_layers; ++l) {
    const int width = tile.width(l);
    T* u = tile.rows_of(scratch.us, l);
    T* t = l == n_layers ? args.grad_grad_output + tile.first * width : tile.rows_of(scratch.ts, l);
    __syncthreads();
    tile.linear(l, a, [&](int i, bool real, T sum) {
      b[i] = 0;
      if (real) u[i] = sum;
    });
    __syncthreads();
    tile.for_rows([&](int row) {
      const Row<T> at = tile.saved_row(l, row);
      T* own = b + row * width;
      push_to_v(at, u + row * width, room(row), own);
      push_row(at, own);
      for_columns<T>(width, [&](T, int i) { t[row * width + i] = own[i]; });
    });
    swap_buffers(a, b);
  }
  __syncthreads();
  T *from_t = a, *from_z = b, *free = c;  // adjoints of t_l and of y_l, later of u_l and of z_l
  const T* g = args.grad_output + tile.first * tile.width(n_layers);
  tile.for_numbers(n_layers, [&](int i, bool real) {
    from_t[i] = real ? g[i] : T(0);
    from_z[i] = 0;
  });
  for (int l = n_layers; l >= 1; --l) {
    const int n_in = tile.width(l - 1), n_out = tile.width(l);
    const T *x = tile.activations(l - 1), *u = tile.rows_of(scratch.us, l);
    const T* t = l == 1 ? tangents : tile.rows_of(scratch.ts, l - 1);
    __syncthreads();
    tile.for_rows([&](int row) {
      const int at = row * n_out;
      const RowSums<T> sums =
          second_row(tile.saved_row(l, row), u + at, room(row), room(row) + max_width, from_t + at, from_z + at);
      if (l < n_layers && threadIdx.x % 32 == 0) set_gradients(args, l, tile.first + row, sums);
    });
    __syncthreads();
    if (args.grad_params != nullptr)
      tile.add_gradient(l, from_z, [&](int row, int out, int in) {
        const T tangent = t != nullptr ? t[row * n_in + in] : T(0);
        return from_t[row * n_out + out] * tangent + from_z[row * n_out + out] * x[row * n_in + in];
      });
    tile.transposed(l, from_t, [&](int i, bool, T sum) { free[i] = sum; });
    __syncthreads();
    T* adjoint_u = from_t;
    from_t = free;
    free = adjoint_u;  // read above, so it may take the other product
    tile.transposed(l, from_z, [&](int i, bool, T sum) { free[i] = sum; });
    swap_buffers(from_z, free);
  }
  if (args.grad_input == nullptr) return;
  __syncthreads();
  T* grad_input = args.grad_input + tile.first * tile.width(0);
  tile.for_numbers(0, [&](int i, bool real) {
    if (real) grad_input[i] = from_z[i];
  });
}

// Launches a kernel with n_buffers of shared memory, over all tiles.
template <class T, class Kernel, class... More>
void launch_tiles(const char* op, Stream stream, const MlpArgs<T>& args, int n_buffers, Kernel kernel, const More&... more) {
  const int tile = tile_size(args.shape, n_buffers, sizeof(T)), max_width = args.shape.max_width();
  const std::size_t shared = static_cast<std::size_t>(n_buffers) * tile * max_width * sizeof(T);
  launch_blocks(op, stream, (args.n + tile - 1) / tile, 1, shared, kernel, args, offsets_of(args.shape, args.n, tile), max_width,
                more...);
}

template <class T>
void clear_gradients(const char* op, const MlpArgs<T>& args, Stream stream) {
  if (args.grad_params == nullptr) return;
  check_cuda(op, cudaMemsetAsync(args.grad_params, 0, sizeof(T) * static_cast<std::size_t>(args.shape.n_params()), stream));
}

template <class T>
void forward(const MlpArgs<T>& args, Stream stream) {
  launch_tiles("mlp_forward", stream, args, 2, forward_kernel<T>);
}

// Numbers for activations that need to be computed again.
template <class T>
std::int64_t n_again(const MlpArgs<T>& args) {
  return keeps_preactivations(args) ? args.n * args.shape.n_activations() : 0;
}

template <class T>
void backward(const MlpArgs<T>& args, Stream stream) {
  clear_gradients("mlp_backward", args, stream);
  launch_tiles("mlp_backward", stream, args, 2, backward_kernel<T>, scratch<T>(n_again(args)));
}

template <class T>
void second(const MlpArgs<T>& args, Stream stream) {
  const char* op = "mlp_second";
  clear_gradients(op, args, stream);
  const std::int64_t n_hidden = args.shape.n_activations(), n_all = n_hidden + args.shape.widths[args.shape.n_layers];
  const SecondScratch<T> room{scratch<T>(args.n * n_all), scratch<T>(args.n * n_hidden),
                              scratch<T>(args.n * 2 * args.shape.max_width())};
  launch_tiles(op, stream, args, 3, second_kernel<T>, scratch<T>(n_again(args)), room);
}

}  // namespace

void mlp_forward_f32(const MlpArgs<float>& args, Stream stream) { forward(args, stream); }
void mlp_backward_f32(const MlpArgs<float>& args, Stream stream) { backward(args, stream); }
void mlp_second_f32(const MlpArgs<float>& args, Stream stream) { second(args, stream); }
void mlp_forward_f64(const MlpArgs<double>& args, Stream stream) { forward(args, stream); }
void mlp_backward_f64(const MlpArgs<double>& args, Stream stream) { backward(args, stream); }
void mlp_second_f64(const MlpArgs<double>& args, Stream stream) { second(args, stream); }

NF_END
