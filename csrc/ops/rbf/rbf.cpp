// CPU loops of the Gaussian neurons: registers hold kernels, and a tile of points stays in the
// nearest cache. Gradients of parameters are summed per task and the tasks' sums added in order, so
// that results do not depend on the number of threads.
#include "ops/rbf/rbf.h"

#include <cstring>

#include "common/buffer.h"
#include "common/loops.h"
#include "common/pack.h"
#include "common/rows.h"

NF_BEGIN
namespace {

constexpr int W = kPackFloats;
constexpr int kTile = 16;  // points
constexpr int kGroup = 4;  // points whose sums are in registers at once
constexpr int kColumns = W == 16 ? 4 : 2;  // packs of kernels, likewise
constexpr std::int64_t kMaxTasks = 64;
constexpr int kWideOutput = W == 16 ? 8 : W / 2;  // so many fill a register well enough

template <class T>
using Kernels = Pack<T, W>;

int padded(int n) { return (n + W - 1) / W * W; }

// Parameters as the loops read them: kernels are the fastest axis, padded with ones that are 0.
// Distances need two products per feature. Gradients need three and a sum: no slower than four
// products, and faster where sums have units of their own.
template <class T>
struct Packed {
  int n_input, n_kernels, n_output, row;
  int n_wide;               // outputs that registers hold instead of kernels, padded
  Buffer<T> scale, offset;  // [n_input, row]: s and -s mu of distances; of gradients, beta and -mu
  Buffer<T> weight;         // [n_output, row]
  Buffer<T> by_kernel;      // [n_kernels, n_wide]: the same

  Packed(const RbfArgs<T>& args, bool gradients)
      : n_input(args.shape.n_input), n_kernels(args.shape.n_kernels), n_output(args.shape.n_output), row(padded(n_kernels)),
        n_wide(n_output % W < kWideOutput ? n_output / W * W : padded(n_output)), scale(size_of(n_input)),
        offset(size_of(n_input)), weight(size_of(n_output)), by_kernel(static_cast<std::size_t>(n_kernels) * n_wide) {
    for (int k = 0; k < row; ++k) {
      const bool real = k < n_kernels;
      for (int j = 0; j < n_input; ++j) {
        const T s = !real ? T(0) : gradients ? rbf_scale(args, k, j) : rbf_distance_scale(args, k, j);
        const T center = real ? args.centers[k * n_input + j] : T(0);
        scale[j * row + k] = gradients ? s * s : s;
        offset[j * row + k] = gradients ? -center : -s * center;
      }
      for (int o = 0; o < n_output; ++o) weight[o * row + k] = real ? args.weight[o * n_kernels + k] : T(0);
    }
    for (int k = 0; k < n_kernels; ++k)
      for (int o = 0; o < n_wide; ++o) by_kernel[k * n_wide + o] = o < n_output ? args.weight[o * n_kernels + k] : T(0);
  }

 private:
  std::size_t size_of(int n) const { return static_cast<std::size_t>(n) * row; }
};

// f(integral constant: how many packs, first kernel) over all kernels.
template <class F>
NF_INLINE void for_columns(int row, F&& f) {
  int k = 0;
  for (; k + kColumns * W <= row; k += kColumns * W) f(std::integral_constant<int, kColumns>{}, k);
  const int left = (row - k) / W;
  if (left == 1) f(std::integral_constant<int, 1>{}, k);
  if constexpr (kColumns > 2) {
    if (left == 2) f(std::integral_constant<int, 2>{}, k);
    if (left == 3) f(std::integral_constant<int, 3>{}, k);
  }
}

// f(integral constant: how many points, first point) over a tile.
template <class F>
NF_INLINE void for_groups(int n_rows, F&& f) {
  int r = 0;
  for (; r + kGroup <= n_rows; r += kGroup) f(std::integral_constant<int, kGroup>{}, r);
  for (; r < n_rows; ++r) f(std::integral_constant<int, 1>{}, r);
}

// The sum of each register.
template <class T, int G>
NF_INLINE void group_sums(const Kernels<T> (&x)[G], T (&sums)[G]) {
  if constexpr (G == 4)
    pack_sums<T, W>(x, sums);
  else
    for (int g = 0; g < G; ++g) sums[g] = pack_sum<T, W>(x[g]);
}

// ---- values --------------------------------------------------------------------------------------

template <class T>
NF_INLINE void store_value(T* to, const Kernels<T>& squares) {
  using L = typename RowLanes<T>::type;
  constexpr int n = LaneTraits<L>::width;
  if constexpr (n == W) {
    lane_store(to, rbf_value<L>(squares));
  } else {
    for (int i = 0; i < W; i += n) lane_store(to + i, rbf_value<L>(squares[i]));
  }
}

// phi [n_rows, row] of a tile's points x [n_rows, n_input].
template <class T>
void activate(const Packed<T>& p, const T* x, int n_rows, T* phi) {
  for_columns(p.row, [&](auto columns, int k) {
    for_groups(n_rows, [&](auto group, int r) {
      constexpr int V = columns, G = group;
      Kernels<T> sum[G][V] = {};
      const T* at = x + std::int64_t(r) * p.n_input;
      for (int j = 0; j < p.n_input; ++j) {
        Kernels<T> s[V], o[V];
        NF_UNROLL
        for (int v = 0; v < V; ++v) {
          s[v] = pack_load<T, W>(p.scale.data() + j * p.row + k + v * W);
          o[v] = pack_load<T, W>(p.offset.data() + j * p.row + k + v * W);
        }
        NF_UNROLL
        for (int g = 0; g < G; ++g) {
          const T number = at[g * p.n_input + j];
          NF_UNROLL
          for (int v = 0; v < V; ++v) {
            const Kernels<T> t = number * s[v] + o[v];
            sum[g][v] += t * t;
          }
        }
      }
      NF_UNROLL
      for (int g = 0; g < G; ++g) {
        T* const to = phi + std::int64_t(r + g) * p.row + k;
        NF_UNROLL
        for (int v = 0; v < V; ++v) store_value(to + v * W, sum[g][v]);
      }
    });
  });
}

// y [n_rows, n_output] = factor * phi W^T + bias; bias may be none. Outputs that fill registers are
// summed in them; what is left over, as long as it is little, in registers of kernels.
template <class T>
void read_out(const Packed<T>& p, const T* phi, const T* bias, T factor, int n_rows, T* y) {
  for_columns(p.n_wide, [&](auto columns, int o) {
    for_groups(n_rows, [&](auto group, int r) {
      constexpr int V = columns, G = group;
      Pack<T, W> sum[G][V] = {};
      for (int k = 0; k < p.n_kernels; ++k) {
        Pack<T, W> w[V];
        NF_UNROLL
        for (int v = 0; v < V; ++v) w[v] = pack_load<T, W>(p.by_kernel.data() + std::int64_t(k) * p.n_wide + o + v * W);
        NF_UNROLL
        for (int g = 0; g < G; ++g)
          NF_UNROLL
          for (int v = 0; v < V; ++v) sum[g][v] += phi[std::int64_t(r + g) * p.row + k] * w[v];
      }
      for (int g = 0; g < G; ++g) {
        T* const to = y + std::int64_t(r + g) * p.n_output + o;
        for (int v = 0; v < V; ++v) {
          if (o + (v + 1) * W <= p.n_output) {
            pack_store<T, W>(to + v * W, bias == nullptr ? factor * sum[g][v] : factor * sum[g][v] + pack_load<T, W>(bias + o + v * W));
            continue;
          }
          for (int i = o + v * W; i < p.n_output; ++i) to[i - o] = factor * sum[g][v][i - o - v * W] + (bias == nullptr ? T(0) : bias[i]);
        }
      }
    });
  });
  for (int o = p.n_wide; o < p.n_output; ++o)
    for_groups(n_rows, [&](auto group, int r) {
      constexpr int G = group;
      Kernels<T> sum[G] = {};
      for (int k = 0; k < p.row; k += W) {
        const Kernels<T> w = pack_load<T, W>(p.weight.data() + o * p.row + k);
        NF_UNROLL
        for (int g = 0; g < G; ++g) sum[g] += pack_load<T, W>(phi + std::int64_t(r + g) * p.row + k) * w;
      }
      T of_point[G];
      group_sums<T>(sum, of_point);
      for (int g = 0; g < G; ++g) y[(r + g) * p.n_output + o] = factor * of_point[g] + (bias == nullptr ? T(0) : bias[o]);
    });
}

// Points per task: whole tiles, at most kMaxTasks tasks, a function of n alone.
std::int64_t task_size(std::int64_t n) {
  const std::int64_t tiles = (n + kTile - 1) / kTile, per_task = (tiles + kMaxTasks - 1) / kMaxTasks;
  return (per_task < 8 ? 8 : per_task) * kTile;
}

template <class T>
void copy_columns(const T* from, int from_row, T* to, int to_row, int n_rows, int n) {
  for (int r = 0; r < n_rows; ++r) {
    std::memcpy(to + std::int64_t(r) * to_row, from + std::int64_t(r) * from_row, sizeof(T) * static_cast<std::size_t>(n));
    for (int i = n; i < to_row; ++i) to[std::int64_t(r) * to_row + i] = 0;
  }
}

template <class T>
void forward(const RbfArgs<T>& args) {
  const Packed<T> p(args, false);
  parallel_chunks(args.n, task_size(args.n), [&](std::int64_t begin, std::int64_t end) {
    Buffer<T> phi(static_cast<std::size_t>(kTile) * p.row);
    for (std::int64_t first = begin; first < end; first += kTile) {
      const int n_rows = static_cast<int>(end - first < kTile ? end - first : kTile);
      const bool in_place = args.activations != nullptr && p.row == p.n_kernels;
      T* const to = in_place ? args.activations + first * p.n_kernels : phi.data();
      activate(p, args.features + first * p.n_input, n_rows, to);
      if (args.activations != nullptr && !in_place)
        copy_columns(to, p.row, args.activations + first * p.n_kernels, p.n_kernels, n_rows, p.n_kernels);
      read_out(p, to, args.bias, T(1), n_rows, args.output + first * p.n_output);
    }
  });
}

// ---- gradients -----------------------------------------------------------------------------------

// A task's sums for the parameters, kernels the fastest axis.
template <class T>
struct Sums {
  T *center, *log_precision, *weight, *bias;

  static std::int64_t size(const Packed<T>& p) {
    return std::int64_t(2 * p.n_input + p.n_output) * p.row + padded(p.n_output);
  }
  Sums(const Packed<T>& p, T* sums)
      : center(sums), log_precision(sums + p.n_input * p.row), weight(log_precision + p.n_input * p.row),
        bias(weight + p.n_output * p.row) {}
};

// Scratch of a tile: q = phi dL/dphi and, for the second derivative, phi a and w = q a (RbfSecond).
template <class T>
struct Tile {
  explicit Tile(const Packed<T>& p) : size(static_cast<std::size_t>(kTile) * p.row), data(4 * size) {}
  T* q() { return data.data(); }
  T* copy() { return data.data() + size; }
  T* phi_a() { return data.data() + 2 * size; }
  T* w() { return data.data() + 3 * size; }
  std::size_t size;
  Buffer<T> data;
  const T* phi = nullptr;  // as it was saved, in place where rows have no padding
};

// phi, and q = phi * (grad_output W).
template <class T>
void start_backward(const RbfArgs<T>& args, const Packed<T>& p, Tile<T>& tile, std::int64_t first, int n_rows) {
  tile.phi = args.activations + first * p.n_kernels;
  if (p.row != p.n_kernels) {
    copy_columns(tile.phi, p.n_kernels, tile.copy(), p.row, n_rows, p.n_kernels);
    tile.phi = tile.copy();
  }
  const T* g = args.grad_output + first * p.n_output;
  for_columns(p.row, [&](auto columns, int k) {
    for_groups(n_rows, [&](auto group, int r) {
      constexpr int V = columns, G = group;
      Kernels<T> sum[G][V] = {};
      for (int o = 0; o < p.n_output; ++o) {
        Kernels<T> w[V];
        NF_UNROLL
        for (int v = 0; v < V; ++v) w[v] = pack_load<T, W>(p.weight.data() + o * p.row + k + v * W);
        NF_UNROLL
        for (int i = 0; i < G; ++i)
          NF_UNROLL
          for (int v = 0; v < V; ++v) sum[i][v] += g[std::int64_t(r + i) * p.n_output + o] * w[v];
      }
      NF_UNROLL
      for (int i = 0; i < G; ++i)
        NF_UNROLL
        for (int v = 0; v < V; ++v) {
          const std::int64_t at = std::int64_t(r + i) * p.row + k + v * W;
          pack_store<T, W>(tile.q() + at, sum[i][v] * pack_load<T, W>(tile.phi + at));
        }
    });
  });
}

// Adds factor * sum_n g[n, o] phi[n, k] and, where asked for, sum_n g[n, o].
template <class T>
void add_readout(const Packed<T>& p, const T* g, const T* phi, T factor, int n_rows, const Sums<T>& sums, bool bias) {
  for_columns(p.row, [&](auto columns, int k) {
    for_groups(p.n_output, [&](auto group, int o) {
      constexpr int V = columns, G = group;  // of outputs
      Kernels<T> sum[G][V] = {};
      for (int r = 0; r < n_rows; ++r) {
        Kernels<T> of_row[V];
        NF_UNROLL
        for (int v = 0; v < V; ++v) of_row[v] = pack_load<T, W>(phi + std::int64_t(r) * p.row + k + v * W);
        NF_UNROLL
        for (int i = 0; i < G; ++i)
          NF_UNROLL
          for (int v = 0; v < V; ++v) sum[i][v] += g[std::int64_t(r) * p.n_output + o + i] * of_row[v];
      }
      NF_UNROLL
      for (int i = 0; i < G; ++i)
        NF_UNROLL
        for (int v = 0; v < V; ++v) {
          T* const to = sums.weight + (o + i) * p.row + k + v * W;
          pack_store<T, W>(to, pack_load<T, W>(to) + factor * sum[i][v]);
        }
    });
  });
  if (!bias) return;
  for (int r = 0; r < n_rows; ++r)
    for (int o = 0; o < p.n_output; ++o) sums.bias[o] += g[std::int64_t(r) * p.n_output + o];
}

// Over all kernels, features and points of a tile: gradient(r, k, j, u) gives the sums' terms at a
// pack of kernels from k on; features get their negative times beta. Either result may be none.
template <class T, class Gradient>
void add_kernels(const Packed<T>& p, const T* x, int n_rows, T* grad_x, const Sums<T>* sums, Gradient&& gradient) {
  for_columns(p.row, [&](auto columns, int k) {
    constexpr int V = columns;
    for (int j = 0; j < p.n_input; ++j) {
      const int at = j * p.row + k;
      Kernels<T> s[V], o[V], center[V] = {}, log_precision[V] = {};
      NF_UNROLL
      for (int v = 0; v < V; ++v) {
        s[v] = pack_load<T, W>(p.scale.data() + at + v * W);
        o[v] = pack_load<T, W>(p.offset.data() + at + v * W);
      }
      for_groups(n_rows, [&](auto group, int r) {
        constexpr int G = group;
        Kernels<T> of_x[G] = {};
        const std::int64_t number = std::int64_t(r) * p.n_input + j;
        NF_UNROLL
        for (int g = 0; g < G; ++g)
          NF_UNROLL
          for (int v = 0; v < V; ++v) {
            const auto term = gradient(r + g, k + v * W, j, x[number + g * p.n_input] + o[v]);
            center[v] += term.center;
            log_precision[v] += term.log_precision;
            of_x[g] += term.center * s[v];
          }
        if (grad_x == nullptr) return;
        T of_point[G];
        if constexpr (G == 4)
          pack_sums<T, W>(of_x, of_point);
        else
          of_point[0] = pack_sum<T, W>(of_x[0]);
        for (int g = 0; g < G; ++g) {
          T& to = grad_x[number + g * p.n_input];
          to = (k == 0 ? T(0) : to) - of_point[g];
        }
      });
      if (sums == nullptr) continue;
      NF_UNROLL
      for (int v = 0; v < V; ++v) {
        T *const to_center = sums->center + at + v * W, *const to_precision = sums->log_precision + at + v * W;
        pack_store<T, W>(to_center, pack_load<T, W>(to_center) + center[v]);
        pack_store<T, W>(to_precision, pack_load<T, W>(to_precision) + log_precision[v]);
      }
    }
  });
}

// The next tile's rows, which processors do not fetch ahead of themselves across pages.
template <class T>
NF_INLINE void prefetch_rows(const T* rows, std::int64_t first, std::int64_t end, int width) {
  for (std::int64_t i = first * width; i < end * width; i += 64 / sizeof(T)) NF_PREFETCH(rows + i);
}

template <class T>
T* rows_or_none(T* rows, std::int64_t first, int width) {
  return rows == nullptr ? nullptr : rows + first * width;
}

template <class T>
void backward_tile(const RbfArgs<T>& args, const Packed<T>& p, Tile<T>& tile, const Sums<T>* sums, std::int64_t first, int n_rows) {
  start_backward(args, p, tile, first, n_rows);
  if (sums != nullptr) add_readout(p, args.grad_output + first * p.n_output, tile.phi, T(1), n_rows, *sums, true);
  const T* const q = tile.q();
  add_kernels(p, args.features + first * p.n_input, n_rows, rows_or_none(args.grad_features, first, p.n_input), sums,
              [&](int r, int k, int, const Kernels<T>& u) {
                return RbfGradient<Kernels<T>, T>(pack_load<T, W>(q + std::int64_t(r) * p.row + k), u);
              });
}

// w = q a and phi a of a tile, with a = sum_j v_j beta u for the points' tangents v.
template <class T>
void along_tangents(const Packed<T>& p, Tile<T>& tile, const T* x, const T* v, int n_rows) {
  for (int r = 0; r < n_rows; ++r)
    for (int k = 0; k < p.row; k += W) {
      Kernels<T> a{};
      for (int j = 0; j < p.n_input; ++j) {
        const Kernels<T> u = x[std::int64_t(r) * p.n_input + j] + pack_load<T, W>(p.offset.data() + j * p.row + k);
        a += v[std::int64_t(r) * p.n_input + j] * (pack_load<T, W>(p.scale.data() + j * p.row + k) * u);
      }
      const std::int64_t at = std::int64_t(r) * p.row + k;
      pack_store<T, W>(tile.w() + at, pack_load<T, W>(tile.q() + at) * a);
      pack_store<T, W>(tile.phi_a() + at, pack_load<T, W>(tile.phi + at) * a);
    }
}

template <class T>
void second_tile(const RbfArgs<T>& args, const Packed<T>& p, Tile<T>& tile, const Sums<T>* sums, std::int64_t first, int n_rows) {
  const T *const x = args.features + first * p.n_input, *const v = args.tangents + first * p.n_input;
  start_backward(args, p, tile, first, n_rows);
  along_tangents(p, tile, x, v, n_rows);
  read_out(p, tile.phi_a(), static_cast<const T*>(nullptr), T(-1), n_rows, args.grad_grad_output + first * p.n_output);
  if (sums != nullptr) add_readout(p, args.grad_output + first * p.n_output, tile.phi_a(), T(-1), n_rows, *sums, false);
  const T *const q = tile.q(), *const w = tile.w();
  add_kernels(p, x, n_rows, rows_or_none(args.grad_features, first, p.n_input), sums,
              [&](int r, int k, int j, const Kernels<T>& u) {
                const std::int64_t at = std::int64_t(r) * p.row + k;
                return RbfSecond<Kernels<T>, T>(pack_load<T, W>(q + at), pack_load<T, W>(w + at), u,
                                                v[std::int64_t(r) * p.n_input + j]);
              });
}

// The tasks' sums in order, in the parameters' own layout.
template <class T>
void reduce(const RbfArgs<T>& args, const Packed<T>& p, T* sums, std::int64_t n_tasks) {
  const std::int64_t stride = Sums<T>::size(p);
  for (std::int64_t task = 1; task < n_tasks; ++task)
    for (std::int64_t i = 0; i < stride; ++i) sums[i] += sums[task * stride + i];
  const Sums<T> total(p, sums);
  for (int k = 0; k < p.n_kernels; ++k) {
    T of_all = 0;
    for (int j = 0; j < p.n_input; ++j) {
      const T beta = p.scale.data()[j * p.row + k], of_one = T(-0.5) * beta * total.log_precision[j * p.row + k];
      args.grad_centers[k * p.n_input + j] = beta * total.center[j * p.row + k];
      if (!args.shape.isotropic) args.grad_log_precision[k * p.n_input + j] = of_one;
      of_all += of_one;
    }
    if (args.shape.isotropic) args.grad_log_precision[k] = of_all;
    for (int o = 0; o < p.n_output; ++o) args.grad_weight[o * p.n_kernels + k] = total.weight[o * p.row + k];
  }
  if (args.grad_bias == nullptr) return;
  for (int o = 0; o < p.n_output; ++o) args.grad_bias[o] = total.bias[o];
}

// f(tile, sums or none, first point, how many) over all tiles, and the sums of all tasks.
template <class T, class F>
void with_gradients(const RbfArgs<T>& args, const Packed<T>& p, F&& f) {
  const bool wanted = args.grad_centers != nullptr;
  const std::int64_t chunk = task_size(args.n), n_tasks = args.n == 0 ? 1 : (args.n + chunk - 1) / chunk;
  const std::int64_t stride = Sums<T>::size(p);
  Buffer<T> all(static_cast<std::size_t>(wanted ? n_tasks * stride : 1));
  parallel_for(n_tasks, [&](std::int64_t task) {
    T* const own = all.data() + (wanted ? task * stride : 0);
    if (wanted) std::memset(own, 0, sizeof(T) * static_cast<std::size_t>(stride));
    const Sums<T> sums(p, own);
    Tile<T> tile(p);
    const std::int64_t end = (task + 1) * chunk < args.n ? (task + 1) * chunk : args.n;
    for (std::int64_t first = task * chunk; first < end; first += kTile) {
      const std::int64_t next = first + kTile, behind = next + kTile < args.n ? next + kTile : args.n;
      prefetch_rows(args.activations, next, behind, p.n_kernels);
      prefetch_rows(args.features, next, behind, p.n_input);
      f(tile, wanted ? &sums : nullptr, first, static_cast<int>(end - first < kTile ? end - first : kTile));
    }
  });
  if (wanted) reduce(args, p, all.data(), n_tasks);
}

template <class T>
void backward(const RbfArgs<T>& args) {
  const Packed<T> p(args, true);
  with_gradients(args, p, [&](Tile<T>& tile, const Sums<T>* sums, std::int64_t first, int n_rows) {
    backward_tile(args, p, tile, sums, first, n_rows);
  });
}

template <class T>
void second(const RbfArgs<T>& args) {
  const Packed<T> p(args, true);
  with_gradients(args, p, [&](Tile<T>& tile, const Sums<T>* sums, std::int64_t first, int n_rows) {
    second_tile(args, p, tile, sums, first, n_rows);
  });
}

}  // namespace

void rbf_forward_f32(const RbfArgs<float>& args) { forward(args); }
void rbf_backward_f32(const RbfArgs<float>& args) { backward(args); }
void rbf_second_f32(const RbfArgs<float>& args) { second(args); }
#ifndef NF_FAST_PATH
void rbf_forward_f64(const RbfArgs<double>& args) { forward(args); }
void rbf_backward_f64(const RbfArgs<double>& args) { backward(args); }
void rbf_second_f64(const RbfArgs<double>& args) { second(args); }
#endif

NF_END
