// CPU loops of low-rank tensors.
//
// Forward: a term is walked for many points before the next, so that its factors stay in the last
// cache. Table gradients: a term's planes whose rows lie along one axis share a pass over points in
// the order of these rows, in slabs of rows that one task owns; what it adds to then is in the
// nearest caches, and asked for in time. Lines are small: every task sums its own, and the sums are
// added in order. Neither depends on the number of threads.
#include "ops/tensor_planes/tensor_planes.h"

#include "common/lattice_points.h"

NF_BEGIN
namespace {

constexpr std::int64_t kChunk = 4096, kBatch = 32 * kChunk;
constexpr int kMaxSlabs = 8;

template <class T>
LatticeAxes axes_of(const TensorPlanesArgs<T>& args) {
  LatticeAxes axes{};
  axes.n_dims = args.shape.n_dims;
  axes.interpolation = args.shape.interpolation;
  for (int d = 0; d < axes.n_dims; ++d) axes.resolution[d] = args.shape.resolution[d];
  return axes;
}

std::int64_t factor_size(const TensorPlanesShape& shape, const PlanesFactor& factor) {
  std::int64_t size = shape.rank;
  for (int j = 0; j < factor.n_axes; ++j) size *= shape.resolution[factor.axis[j]];
  return size;
}

// Asks for the numbers of a plane around a point, in the table or in its gradient.
template <class T>
NF_INLINE void fetch_plane(const TensorPlanesShape& shape, const PlanesFactor& factor, const T* table,
                           const LatticeTile<T>& tile, int i) {
  const std::int64_t row = std::int64_t(shape.resolution[factor.axis[0]]) * shape.rank;
  const T* corner = table + factor.offset + tile.lower[factor.axis[1]][i] * row +
                    std::int64_t(tile.lower[factor.axis[0]][i]) * shape.rank;
  lattice_prefetch(corner, 2 * shape.rank);
  lattice_prefetch(corner + row, 2 * shape.rank);
}

// The same for all planes of a term; lines stay in the nearest caches.
template <class T>
NF_INLINE void fetch_planes(const TensorPlanesShape& shape, const PlanesTerm& term, const T* table,
                            const LatticeTile<T>& tile, int i) {
  for (int k = 0; k < term.n_factors; ++k)
    if (term.factors[k].n_axes == 2) fetch_plane(shape, term.factors[k], table, tile, i);
}

// All factors of a term at a point.
template <class N, int F, class T>
NF_INLINE void locate_factors(const TensorPlanesArgs<T>& args, const PlanesTerm& term, const LatticeTile<T>& tile, int i,
                              bool slopes, FactorAt<N> at[F]) {
  LatticeSide<N> sides[kLatticeMaxDims];
  for (int d = 0; d < args.shape.n_dims; ++d) sides[d] = tile.template side<N>(d, i, args.tangents, args.shape.n_dims);
  for (int k = 0; k < F; ++k) at[k].set(args.shape, term.factors[k], sides, slopes);
}

template <class N, int W, class T>
NF_INLINE auto load_at(const TensorPlanesArgs<T>& args, int channel) {
  return [&args, channel](std::int64_t corner) {
    return LatticeNumbers<N, W>::load(args.table, args.table_tangents, corner + channel);
  };
}

template <class T, int F>
void forward_term(const TensorPlanesArgs<T>& args, int t, std::int64_t begin, std::int64_t end) {
  const TensorPlanesShape& shape = args.shape;
  const PlanesTerm& term = shape.terms[t];
  const auto fetch = [&](const LatticeTile<T>& tile, int i) { fetch_planes(shape, term, args.table, tile, i); };
  lattice_for_points<T>(axes_of(args), args.positions, nullptr, 0, begin, end, fetch, [&](const LatticeTile<T>& tile, int i) {
    FactorAt<T> at[F];
    locate_factors<T, F>(args, term, tile, i, false, at);
    T* output = args.output + tile.point[i] * shape.n_output() + t * shape.rank;
    for_packs(shape.rank, [&](auto width, int c) {
      constexpr int W = width;
      const auto load = load_at<T, W>(args, c);
      Pack<T, W> product = planes_sum<Pack<T, W>>(at[0], at[0].weight, load);
      NF_UNROLL
      for (int k = 1; k < F; ++k) product = product * planes_sum<Pack<T, W>>(at[k], at[k].weight, load);
      pack_store<T, W>(output + c, product);
    });
  });
}

template <class T>
void forward(const TensorPlanesArgs<T>& args) {
  for (std::int64_t batch = 0; batch < args.n; batch += kBatch) {
    const std::int64_t last = batch + kBatch < args.n ? batch + kBatch : args.n;
    const std::int64_t n_chunks = (last - batch + kChunk - 1) / kChunk;
    parallel_for(args.shape.n_terms * n_chunks, [&](std::int64_t task) {
      const int t = static_cast<int>(task / n_chunks);
      const std::int64_t begin = batch + task % n_chunks * kChunk, end = begin + kChunk < last ? begin + kChunk : last;
      planes_with_factors(args.shape.terms[t].n_factors,
                          [&](auto n_factors) { forward_term<T, n_factors>(args, t, begin, end); });
    });
  }
}

// ---- gradient of the positions -----------------------------------------------------------------

// Adds a term's share of the gradient of a point's position to `sum`; with Jets also stores the
// term's derivative along the tangents.
template <class N, int F, class T>
NF_INLINE void positions_of_term(const TensorPlanesArgs<T>& args, int t, const LatticeTile<T>& tile, int i, T* sum) {
  const TensorPlanesShape& shape = args.shape;
  const PlanesTerm& term = shape.terms[t];
  FactorAt<N> at[F];
  locate_factors<N, F>(args, term, tile, i, true, at);
  const std::int64_t column = tile.point[i] * shape.n_output() + t * shape.rank;
  for_packs(shape.rank, [&](auto width, int c) {
    constexpr int W = width;
    using Numbers = LatticeNumbers<N, W>;
    using V = typename Numbers::V;
    const auto load = load_at<N, W>(args, c);
    V value[F];
    NF_UNROLL
    for (int k = 0; k < F; ++k) value[k] = planes_sum<V>(at[k], at[k].weight, load);
    const V g = Numbers::constant(args.grad_output + column + c);
    NF_UNROLL
    for (int k = 0; k < F; ++k) {
      const V others = planes_others<F>(value, k, g);
      for (int j = 0; j < at[k].n_axes; ++j)
        sum[term.factors[k].axis[j]] +=
            pack_sum<T, W>(result_of(others * planes_sum<V>(at[k], at[k].slope[j], load)));
    }
    if constexpr (!std::is_same<N, T>::value) {
      V product = value[0];
      NF_UNROLL
      for (int k = 1; k < F; ++k) product = product * value[k];
      pack_store<T, W>(args.grad_grad_output + column + c, result_of(product));
    }
  });
}

template <class N, class T>
void positions_of_points(const TensorPlanesArgs<T>& args) {
  const TensorPlanesShape& shape = args.shape;
  const auto fetch = [&](const LatticeTile<T>& tile, int i) {
    for (int t = 0; t < shape.n_terms; ++t) fetch_planes(shape, shape.terms[t], args.table, tile, i);
  };
  parallel_chunks(args.n, kChunk, [&](std::int64_t begin, std::int64_t end) {
    lattice_for_points<T>(axes_of(args), args.positions, nullptr, 0, begin, end, fetch, [&](const LatticeTile<T>& tile, int i) {
      T sum[kLatticeMaxDims] = {};
      for (int t = 0; t < shape.n_terms; ++t)
        planes_with_factors(shape.terms[t].n_factors,
                            [&](auto n_factors) { positions_of_term<N, n_factors>(args, t, tile, i, sum); });
      for (int d = 0; d < shape.n_dims; ++d) args.grad_positions[tile.point[i] * shape.n_dims + d] = sum[d];
    });
  });
}

// ---- gradient of the table ---------------------------------------------------------------------

// One walk over the points for a term: adds to its planes that have their rows along `axis` (-1:
// none) and, in the term's first walk, to all its lines.
struct Pass {
  int term, axis;
  bool lines;

  bool owns(const PlanesFactor& factor) const { return factor.n_axes == 2 && factor.axis[1] == axis; }
  // Whether it adds to one factor alone, whose own value then is not needed.
  bool single(const PlanesTerm& with) const {
    int n_owned = 0;
    for (int k = 0; k < with.n_factors; ++k) n_owned += owns(with.factors[k]);
    return n_owned == 1 && !lines;
  }
};
constexpr int kMaxPasses = kPlanesMaxTerms * kLatticeMaxDims;

int list_passes(const TensorPlanesShape& shape, Pass* passes) {
  int n = 0;
  for (int t = 0; t < shape.n_terms; ++t) {
    const PlanesTerm& term = shape.terms[t];
    const int first = n;
    for (int axis = 0; axis < shape.n_dims; ++axis) {
      const Pass pass{t, axis, n == first};
      bool any = false;
      for (int k = 0; k < term.n_factors; ++k) any = any || pass.owns(term.factors[k]);
      if (any) passes[n++] = pass;
    }
    if (n == first) passes[n++] = {t, -1, true};
  }
  return n;
}

// Where a task of a pass sums the lines of its term: all of them, one behind the other.
template <class T>
struct LineSums {
  T* factor[kPlanesMaxFactors];

  static std::int64_t size(const TensorPlanesShape& shape, const PlanesTerm& term) {
    std::int64_t size = 0;
    for (int k = 0; k < term.n_factors; ++k)
      if (term.factors[k].n_axes == 1) size += factor_size(shape, term.factors[k]);
    return size;
  }
  LineSums(const TensorPlanesShape& shape, const PlanesTerm& term, T* sums) {
    for (int k = 0; k < term.n_factors; ++k) {
      factor[k] = sums;
      if (term.factors[k].n_axes == 1) sums += factor_size(shape, term.factors[k]);
    }
  }
};

template <class T, int W, class V>
NF_INLINE void add_corner(T* numbers, const V& gradient) {
  pack_store<T, W>(numbers, pack_load<T, W>(numbers) + result_of(gradient));
}

// A part of a pass: the points [begin, end) of `order` (or of all, where there is none). The rows
// [row_begin, row_end) of the pass's planes belong to it; the first cells may lie half below.
template <class T>
struct Slab {
  Pass pass;
  const std::int32_t* order;
  std::int64_t offset, begin, end, row_begin, row_end;
  T* sums;  // of the lines
};

template <class N, int F, bool Single, class T>
void scatter_slab(const TensorPlanesArgs<T>& args, const Slab<T>& slab) {
  const TensorPlanesShape& shape = args.shape;
  const PlanesTerm& term = shape.terms[slab.pass.term];
  const LineSums<T> lines(shape, term, slab.sums);
  bool owned[F], summed[F];
  for (int k = 0; k < F; ++k) {
    owned[k] = slab.pass.owns(term.factors[k]);
    summed[k] = slab.pass.lines && term.factors[k].n_axes == 1;
  }
  const std::int64_t row = shape.n_output();
  const T* const grads = args.grad_output + slab.pass.term * shape.rank;
  const auto fetch = [&](const LatticeTile<T>& tile, int i) {
    lattice_prefetch(grads + tile.point[i] * row, shape.rank);
    for (int k = 0; k < F; ++k) {
      if (term.factors[k].n_axes == 1) continue;
      if (owned[k]) fetch_plane(shape, term.factors[k], args.grad_table, tile, i);
      if (!Single || !owned[k]) fetch_plane(shape, term.factors[k], args.table, tile, i);
    }
  };
  lattice_for_points<T>(axes_of(args), args.positions, slab.order, slab.offset, slab.begin, slab.end, fetch,
                        [&](const LatticeTile<T>& tile, int i) {
    FactorAt<N> at[F];
    locate_factors<N, F>(args, term, tile, i, false, at);
    bool side[2] = {true, false};  // which rows of the cell belong to the slab
    if (slab.pass.axis >= 0) {
      const std::int64_t lower = tile.lower[slab.pass.axis][i];
      side[0] = lower >= slab.row_begin;
      side[1] = lower + 1 < slab.row_end;
    }
    const T* const grad = grads + tile.point[i] * row;
    for_packs(shape.rank, [&](auto width, int c) {
      constexpr int W = width;
      using V = typename LatticeNumbers<N, W>::V;
      const auto load = load_at<N, W>(args, c);
      const V g = LatticeNumbers<N, W>::constant(grad + c);
      V value[F];
      NF_UNROLL
      for (int k = 0; k < F; ++k)
        value[k] = Single && owned[k] ? g : planes_sum<V>(at[k], at[k].weight, load);  // g: not used
      NF_UNROLL
      for (int k = 0; k < F; ++k) {
        if (owned[k]) {
          const V others = planes_others<F>(value, k, g);
          NF_UNROLL
          for (int corner = 0; corner < 4; ++corner)
            if (side[corner >> 1]) add_corner<T, W>(args.grad_table + at[k].corner[corner] + c, at[k].weight[corner] * others);
        } else if (!Single && summed[k] && side[0]) {
          const V others = planes_others<F>(value, k, g);
          T* const sums = lines.factor[k] - term.factors[k].offset + c;
          add_corner<T, W>(sums + at[k].corner[0], at[k].weight[0] * others);
          add_corner<T, W>(sums + at[k].corner[1], at[k].weight[1] * others);
        }
      }
    });
  });
}

// Every pass over the points [begin, end): cuts it into slabs and scatters them.
template <class T>
class Scatter {
 public:
  Scatter(const TensorPlanesArgs<T>& args, std::int64_t begin, std::int64_t end)
      : args_(args), begin_(begin), end_(end), n_passes_(list_passes(args.shape, passes_)),
        n_slabs_(slabs_for(end - begin)), sums_(static_cast<std::size_t>(place_sums())) {
    for (int p = 0; p < n_passes_; ++p) sort(passes_[p].axis);
  }
  ~Scatter() {
    for (const CellOrder* order : orders_) delete order;
  }
  Scatter(const Scatter&) = delete;
  Scatter& operator=(const Scatter&) = delete;

  template <class N>
  void run() {
    parallel_for(std::int64_t(n_passes_) * n_slabs_, [&](std::int64_t task) {
      const Slab<T> slab = cut(static_cast<int>(task / n_slabs_), static_cast<int>(task % n_slabs_));
      const PlanesTerm& term = args_.shape.terms[slab.pass.term];
      const std::int64_t n_sums = slab.pass.lines ? LineSums<T>::size(args_.shape, term) : 0;
      for (std::int64_t i = 0; i < n_sums; ++i) slab.sums[i] = 0;
      planes_with_factors(term.n_factors, [&](auto n_factors) {
        if (slab.pass.single(term)) scatter_slab<N, n_factors, true>(args_, slab);
        else scatter_slab<N, n_factors, false>(args_, slab);
      });
    });
    parallel_for(n_passes_, [&](std::int64_t p) { add_lines(static_cast<int>(p)); });
  }

 private:
  // As many as pay, from the number of points alone.
  static int slabs_for(std::int64_t n) { return n >= kMaxSlabs * 1024 ? kMaxSlabs : static_cast<int>(n / 1024) + 1; }

  std::int64_t place_sums() {
    std::int64_t size = 0;
    for (int p = 0; p < n_passes_; ++p) {
      sums_at_[p] = size;
      if (passes_[p].lines) size += n_slabs_ * LineSums<T>::size(args_.shape, args_.shape.terms[passes_[p].term]);
    }
    return size;
  }

  // Terms share the order along an axis; within a row, points go along the axis before.
  void sort(int axis) {
    if (axis < 0 || orders_[axis] != nullptr) return;
    const int sorted[2] = {axis - 1, axis};
    orders_[axis] = new CellOrder(axes_of(args_), args_.positions, begin_, end_, sorted, 2);
  }

  Slab<T> cut(int p, int s) {
    Slab<T> slab{};
    slab.pass = passes_[p];
    const std::int64_t n = end_ - begin_;
    if (slab.pass.lines)
      slab.sums = sums_.data() + sums_at_[p] + s * LineSums<T>::size(args_.shape, args_.shape.terms[slab.pass.term]);
    if (slab.pass.axis < 0) {
      slab.begin = begin_ + n * s / n_slabs_;
      slab.end = begin_ + n * (s + 1) / n_slabs_;
      return slab;
    }
    const CellOrder& order = *orders_[slab.pass.axis];
    slab.order = order.points();
    slab.offset = begin_;
    slab.row_begin = order.slab_begin(s, n_slabs_);
    slab.row_end = order.slab_begin(s + 1, n_slabs_);
    if (slab.row_begin == slab.row_end) return slab;  // all its points lie in one row of another slab
    slab.begin = order.below(slab.row_begin > 0 ? slab.row_begin - 1 : 0);
    slab.end = order.below(slab.row_end);
    return slab;
  }

  void add_lines(int p) {
    if (!passes_[p].lines) return;
    const PlanesTerm& term = args_.shape.terms[passes_[p].term];
    const std::int64_t size = LineSums<T>::size(args_.shape, term);
    for (int s = 0; s < n_slabs_; ++s) {
      const LineSums<T> lines(args_.shape, term, sums_.data() + sums_at_[p] + s * size);
      for (int k = 0; k < term.n_factors; ++k) {
        if (term.factors[k].n_axes != 1) continue;
        T* NF_RESTRICT grad = args_.grad_table + term.factors[k].offset;
        const T* NF_RESTRICT sum = lines.factor[k];
        const std::int64_t n = factor_size(args_.shape, term.factors[k]);
        for (std::int64_t i = 0; i < n; ++i) grad[i] += sum[i];
      }
    }
  }

  const TensorPlanesArgs<T>& args_;
  const std::int64_t begin_, end_;
  Pass passes_[kMaxPasses];
  const int n_passes_, n_slabs_;
  std::int64_t sums_at_[kMaxPasses];
  Buffer<T> sums_;
  CellOrder* orders_[kLatticeMaxDims] = {};  // along each axis
};

template <class N, class T>
void scatter(const TensorPlanesArgs<T>& args) {
  for (std::int64_t begin = 0; begin < args.n; begin += kBatch)
    Scatter<T>(args, begin, begin + kBatch < args.n ? begin + kBatch : args.n).template run<N>();
}

template <class T>
void second(const TensorPlanesArgs<T>& args) {
  positions_of_points<Jet<T>>(args);
  if (args.grad_table != nullptr) scatter<Jet<T>>(args);
}

}  // namespace

void tensor_planes_forward_f32(const TensorPlanesArgs<float>& args) { forward(args); }
void tensor_planes_backward_table_f32(const TensorPlanesArgs<float>& args) { scatter<float>(args); }
void tensor_planes_backward_positions_f32(const TensorPlanesArgs<float>& args) { positions_of_points<float>(args); }
void tensor_planes_second_f32(const TensorPlanesArgs<float>& args) { second(args); }
#ifndef NF_FAST_PATH
void tensor_planes_forward_f64(const TensorPlanesArgs<double>& args) { forward(args); }
void tensor_planes_backward_table_f64(const TensorPlanesArgs<double>& args) { scatter<double>(args); }
void tensor_planes_backward_positions_f64(const TensorPlanesArgs<double>& args) { positions_of_points<double>(args); }
void tensor_planes_second_f64(const TensorPlanesArgs<double>& args) { second(args); }
#endif

NF_END
