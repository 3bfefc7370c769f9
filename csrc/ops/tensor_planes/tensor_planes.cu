// Low-rank tensors on CUDA.
//
// Features and table gradients: one thread per (point, channel of a term), the term in blockIdx.y.
// Threads of a warp have neighbouring channels of one point, so corners are read, and added to, in
// runs of `rank` numbers. Position gradients and the second derivative's: one thread per point.
// Table gradients are atomic adds in whatever order threads arrive: their last bits differ from run
// to run. Everything else has one owner and repeats bit for bit.
//
// Not taken: the channels of a point spread over a warp in the position gradients (reads in order,
// for sums that cross threads); points sorted by row, as the CPU does, so that adds meet in registers.
#include "common/cuda.cuh"
#include "ops/tensor_planes/tensor_planes.h"

NF_BEGIN
namespace {

// A point in a term: its factors, and loads of one channel at their corners.
template <class N, int F, class T>
struct PointInTerm {
  FactorAt<N> at[F];

  __device__ PointInTerm(const TensorPlanesArgs<T>& args, int t, std::int64_t i, bool slopes) {
    const TensorPlanesShape& shape = args.shape;
    LatticeSide<N> sides[kLatticeMaxDims];
    for (int d = 0; d < shape.n_dims; ++d) {
      const std::int64_t place = i * shape.n_dims + d;
      const auto cell = lattice_locate<T>(shape.resolution[d], false, shape.interpolation, args.positions[place]);
      sides[d].set(cell, args.tangents == nullptr ? T(0) : args.tangents[place]);
    }
    NF_UNROLL
    for (int k = 0; k < F; ++k) at[k].set(shape, shape.terms[t].factors[k], sides, slopes);
  }
};

template <class N, class T>
struct Entries {
  const TensorPlanesArgs<T>& args;
  int channel;
  __device__ typename LatticeNumbers<N, 1>::V operator()(std::int64_t corner) const {
    return LatticeNumbers<N, 1>::load(args.table, args.table_tangents, corner + channel);
  }
};

template <class T, int F>
__device__ void forward_term(const TensorPlanesArgs<T>& args, int t, std::int64_t i, int channel) {
  const PointInTerm<T, F, T> point(args, t, i, false);
  const Entries<T, T> load{args, channel};
  Pack<T, 1> product = planes_sum<Pack<T, 1>>(point.at[0], point.at[0].weight, load);
  NF_UNROLL
  for (int k = 1; k < F; ++k) product = product * planes_sum<Pack<T, 1>>(point.at[k], point.at[k].weight, load);
  args.output[i * args.shape.n_output() + t * args.shape.rank + channel] = product[0];
}

template <class N, int F, class T>
__device__ void scatter_term(const TensorPlanesArgs<T>& args, int t, std::int64_t i, int channel) {
  using V = typename LatticeNumbers<N, 1>::V;
  const PointInTerm<N, F, T> point(args, t, i, false);
  const Entries<N, T> load{args, channel};
  V value[F];
  NF_UNROLL
  for (int k = 0; k < F; ++k) value[k] = planes_sum<V>(point.at[k], point.at[k].weight, load);
  const std::int64_t column = i * args.shape.n_output() + t * args.shape.rank + channel;
  const V g = LatticeNumbers<N, 1>::constant(args.grad_output + column);
  NF_UNROLL
  for (int k = 0; k < F; ++k) {
    const V others = planes_others<F>(value, k, g);
    for (int c = 0; c < 2 * point.at[k].n_axes; ++c) {
      const V gradient = point.at[k].weight[c] * others;
      atomicAdd(args.grad_table + point.at[k].corner[c] + channel, result_of(gradient)[0]);
    }
  }
}

template <class N, int F, class T>
__device__ void positions_of_term(const TensorPlanesArgs<T>& args, int t, std::int64_t i, T* sum) {
  using V = typename LatticeNumbers<N, 1>::V;
  const PointInTerm<N, F, T> point(args, t, i, true);
  for (int channel = 0; channel < args.shape.rank; ++channel) {
    const Entries<N, T> load{args, channel};
    const std::int64_t column = i * args.shape.n_output() + t * args.shape.rank + channel;
    const V g = LatticeNumbers<N, 1>::constant(args.grad_output + column);
    V value[F];
    NF_UNROLL
    for (int k = 0; k < F; ++k) value[k] = planes_sum<V>(point.at[k], point.at[k].weight, load);
    NF_UNROLL
    for (int k = 0; k < F; ++k) {
      const V others = planes_others<F>(value, k, g);
      for (int j = 0; j < point.at[k].n_axes; ++j) {
        const V slope = others * planes_sum<V>(point.at[k], point.at[k].slope[j], load);
        sum[args.shape.terms[t].factors[k].axis[j]] += result_of(slope)[0];
      }
    }
    if constexpr (!std::is_same<N, T>::value) {
      V product = value[0];
      NF_UNROLL
      for (int k = 1; k < F; ++k) product = product * value[k];
      args.grad_grad_output[column] = result_of(product)[0];
    }
  }
}

template <class T>
__global__ void forward_kernel(const __grid_constant__ TensorPlanesArgs<T> args) {
  const std::int64_t i = thread_index() / args.shape.rank;
  const int channel = static_cast<int>(thread_index() % args.shape.rank), t = static_cast<int>(blockIdx.y);
  if (i >= args.n) return;
  switch (args.shape.terms[t].n_factors) {
    case 1: return forward_term<T, 1>(args, t, i, channel);
    case 2: return forward_term<T, 2>(args, t, i, channel);
    case 3: return forward_term<T, 3>(args, t, i, channel);
    case 4: return forward_term<T, 4>(args, t, i, channel);
    case 5: return forward_term<T, 5>(args, t, i, channel);
    default: return forward_term<T, 6>(args, t, i, channel);
  }
}

template <class N, class T>
__global__ void scatter_kernel(const __grid_constant__ TensorPlanesArgs<T> args) {
  const std::int64_t i = thread_index() / args.shape.rank;
  const int channel = static_cast<int>(thread_index() % args.shape.rank), t = static_cast<int>(blockIdx.y);
  if (i >= args.n) return;
  switch (args.shape.terms[t].n_factors) {
    case 1: return scatter_term<N, 1>(args, t, i, channel);
    case 2: return scatter_term<N, 2>(args, t, i, channel);
    case 3: return scatter_term<N, 3>(args, t, i, channel);
    case 4: return scatter_term<N, 4>(args, t, i, channel);
    case 5: return scatter_term<N, 5>(args, t, i, channel);
    default: return scatter_term<N, 6>(args, t, i, channel);
  }
}

template <class N, class T>
__global__ void positions_kernel(const __grid_constant__ TensorPlanesArgs<T> args) {
  const std::int64_t i = thread_index();
  if (i >= args.n) return;
  T sum[kLatticeMaxDims] = {};
  for (int t = 0; t < args.shape.n_terms; ++t) {
    switch (args.shape.terms[t].n_factors) {
      case 1: positions_of_term<N, 1>(args, t, i, sum); break;
      case 2: positions_of_term<N, 2>(args, t, i, sum); break;
      case 3: positions_of_term<N, 3>(args, t, i, sum); break;
      case 4: positions_of_term<N, 4>(args, t, i, sum); break;
      case 5: positions_of_term<N, 5>(args, t, i, sum); break;
      default: positions_of_term<N, 6>(args, t, i, sum);
    }
  }
  for (int d = 0; d < args.shape.n_dims; ++d) args.grad_positions[i * args.shape.n_dims + d] = sum[d];
}

template <class T>
void forward(const TensorPlanesArgs<T>& args, Stream stream) {
  launch_rows("tensor_planes_forward", stream, args.n * args.shape.rank, args.shape.n_terms, forward_kernel<T>, args);
}
template <class N, class T>
void backward_table(const TensorPlanesArgs<T>& args, Stream stream) {
  launch_rows("tensor_planes_backward_table", stream, args.n * args.shape.rank, args.shape.n_terms, scatter_kernel<N, T>, args);
}
template <class N, class T>
void backward_positions(const TensorPlanesArgs<T>& args, Stream stream) {
  launch("tensor_planes_backward_positions", stream, args.n, positions_kernel<N, T>, args);
}
template <class T>
void second(const TensorPlanesArgs<T>& args, Stream stream) {
  backward_positions<Jet<T>>(args, stream);
  if (args.grad_table != nullptr) backward_table<Jet<T>>(args, stream);
}

}  // namespace

void tensor_planes_forward_f32(const TensorPlanesArgs<float>& args, Stream stream) { forward(args, stream); }
void tensor_planes_backward_table_f32(const TensorPlanesArgs<float>& args, Stream stream) { backward_table<float>(args, stream); }
void tensor_planes_backward_positions_f32(const TensorPlanesArgs<float>& args, Stream stream) {
  backward_positions<float>(args, stream);
}
void tensor_planes_second_f32(const TensorPlanesArgs<float>& args, Stream stream) { second(args, stream); }
void tensor_planes_forward_f64(const TensorPlanesArgs<double>& args, Stream stream) { forward(args, stream); }
void tensor_planes_backward_table_f64(const TensorPlanesArgs<double>& args, Stream stream) {
  backward_table<double>(args, stream);
}
void tensor_planes_backward_positions_f64(const TensorPlanesArgs<double>& args, Stream stream) {
  backward_positions<double>(args, stream);
}
void tensor_planes_second_f64(const TensorPlanesArgs<double>& args, Stream stream) { second(args, stream); }

NF_END
