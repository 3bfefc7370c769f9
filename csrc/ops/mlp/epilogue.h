// A hidden layer after its product, row by row: z, then m = normalised z (or z), v = scale m + shift,
// y = phi(v), with derivatives to second order. A row is the work of one thread in lanes on the CPU
// and of one warp on CUDA; the mathematics is written once for both.
#pragma once

#include <type_traits>

#include "common/rows.h"
#include "ops/mlp/mlp.h"

NF_BEGIN

// ---- one point ----------------------------------------------------------------------------------

// The activation of one layer.
template <class T>
struct Phi {
  Activation kind;
  T beta, omega, gabor_scale;
};

template <class T>
NF_HD Phi<T> phi_of(const MlpShape& shape, int l) {
  return {l == shape.n_layers ? shape.output : shape.hidden, static_cast<T>(shape.beta),
          static_cast<T>(l == 1 ? shape.first_omega : shape.omega), static_cast<T>(shape.gabor_scale)};
}

// The p of sin(p), and its derivatives as the activation has them.
template <class L>
struct Phase {
  L value, slope, curvature;
};
template <class L>
NF_HD Phase<L> phase_of(const Phi<ScalarOf<L>>& phi, L v) {
  const L zero = broadcast<L>(0), omega = broadcast<L>(phi.omega);
  if (phi.kind == Activation::sine) return {omega * v, omega, zero};
  const L magnitude = select(v > zero, v, -v), rate = omega * (magnitude + 1);
  if (phi.kind == Activation::finer_detached) return {rate * v, rate, zero};
  const L sign = select(v > zero, broadcast<L>(1), select(v < zero, broadcast<L>(-1), zero));
  return {rate * v, rate + omega * magnitude, 2 * omega * sign};
}

NF_HD bool is_wave(Activation kind) {
  return kind == Activation::sine || kind == Activation::finer || kind == Activation::finer_detached;
}

// phi(v), and from both phi'(v) and phi''(v); not for gabor, which takes two numbers at once.
template <class L>
NF_HD L value_at(const Phi<ScalarOf<L>>& phi, L v) {
  if (!is_wave(phi.kind)) return activation<L>(phi.kind, v, phi.beta);
  return lane_sine<L>(phase_of<L>(phi, v).value);
}
template <class L>
NF_HD L slope_at(const Phi<ScalarOf<L>>& phi, L v, L y) {
  if (!is_wave(phi.kind)) return activation_slope<L>(phi.kind, y, phi.beta);
  const Phase<L> phase = phase_of<L>(phi, v);
  return lane_cosine<L>(phase.value) * phase.slope;
}
template <class L>
NF_HD L curvature_at(const Phi<ScalarOf<L>>& phi, L v, L y) {
  if (!is_wave(phi.kind)) return activation_curvature<L>(phi.kind, y, phi.beta);
  const Phase<L> phase = phase_of<L>(phi, v);
  L sine, cosine;
  lane_sincos<L>(phase.value, &sine, &cosine);
  return cosine * phase.curvature - sine * (phase.slope * phase.slope);
}

template <class L>
struct Complex {
  L re, im;
};

// Gabor's wavelet f = exp(i omega z - |s z|^2) of z = a + ib, and the derivatives of its exponent.
template <class L>
struct Gabor {
  Complex<L> f;
  L by_a, by_b, omega, twice;  // d/da: by_a + i omega; d/db: by_b; both second ones: twice

  NF_HD Gabor(const Phi<ScalarOf<L>>& phi, L a, L b, L re, L im)
      : f{re, im},
        omega(broadcast<L>(phi.omega)),
        twice(broadcast<L>(-2 * phi.gabor_scale * phi.gabor_scale)) {
    by_a = twice * a;
    by_b = twice * b - omega;
  }
  static NF_HD Complex<L> value(const Phi<ScalarOf<L>>& phi, L a, L b) {
    const ScalarOf<L> square = phi.gabor_scale * phi.gabor_scale;
    const L magnitude = lane_exp<L>(-(phi.omega * b + square * (a * a + b * b)));
    L sine, cosine;
    lane_sincos<L>(phi.omega * a, &sine, &cosine);
    return {magnitude * cosine, magnitude * sine};
  }
  NF_HD Complex<L> along(Complex<L> w) const { return {by_a * w.re + by_b * w.im, omega * w.re}; }
  NF_HD Complex<L> push(Complex<L> w) const {  // the change of f for a change of z
    const Complex<L> rate = along(w);
    return {f.re * rate.re - f.im * rate.im, f.re * rate.im + f.im * rate.re};
  }
  NF_HD Complex<L> weighted(Complex<L> g) const { return {g.re * f.re + g.im * f.im, g.re * f.im - g.im * f.re}; }
  NF_HD Complex<L> pull(Complex<L> g) const {  // the gradient of z for one of f
    const Complex<L> h = weighted(g);
    return {h.re * by_a - h.im * omega, h.re * by_b};
  }
  NF_HD Complex<L> bend(Complex<L> w, Complex<L> g) const {  // the gradient of z of <g, push(w)>
    const Complex<L> h = weighted(g), rate = along(w);
    const L re = h.re * rate.re - h.im * rate.im, im = h.re * rate.im + h.im * rate.re;
    return {re * by_a - im * omega + twice * h.re * w.re, re * by_b + twice * h.re * w.im};
  }
};

// ---- one row ------------------------------------------------------------------------------------

// f(lane, i) over the columns 0 .. n; `lane` has the type of the numbers taken at i at once.
template <class T, class F>
NF_HD void for_columns(int n, F&& f) {
#if defined(NF_ON_DEVICE)
  for (int i = static_cast<int>(threadIdx.x) % 32; i < n; i += 32) f(T(0), i);
  __syncwarp();
#else
  using L = typename RowLanes<T>::type;
  int i = 0;
  for (; i + LaneTraits<L>::width <= n; i += LaneTraits<L>::width) f(L{}, i);
  for (; i < n; ++i) f(T(0), i);
#endif
}

// A sum over the columns.
template <class T>
struct Sum {
  using L = typename RowLanes<T>::type;
  L lanes{};
  T rest{};

  template <class K>
  NF_HD void add(K x) {
    if constexpr (std::is_same<K, L>::value) lanes += x;
    else rest += x;
  }
  NF_HD T total() const {
#if defined(NF_ON_DEVICE)
    T sum = lanes;
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    return sum;
#else
    alignas(64) T parts[LaneTraits<L>::width];
    lane_store(parts, lanes);
    for (int step = LaneTraits<L>::width / 2; step > 0; step /= 2)
      for (int i = 0; i < step; ++i) parts[i] += parts[i + step];
    return parts[0] + rest;
#endif
  }
};

// One sample on one layer.
template <class T>
struct Row {
  Phi<T> phi;
  int width;
  bool normalize, plain;  // plain: v is m, which is z
  T scale, shift, scale_tangent, shift_tangent;
  T rstd;                 // 1 / standard deviation of z, where it is normalised
  const T *m, *y;         // where only y is kept (its slope needs no more), m is y

  template <class L>
  NF_HD L v(int i) const {
    return scale * lane_load<L>(m + i) + shift;
  }
};

template <class T>
struct RowSums {
  T scale, shift;  // gradients
};

// Statistics of z, for m = (z - mean) rstd. A CPU takes several rows at a time through each of these,
// so that it need not wait for the sums of one.
template <class T>
NF_HD T mean_of_row(const T* z, int width) {
  Sum<T> sum;
  for_columns<T>(width, [&](auto lane, int i) { sum.add(lane_load<decltype(lane)>(z + i)); });
  return sum.total() / width;
}
template <class T>
NF_HD T rstd_of_row(const T* z, int width, T mean) {
  Sum<T> squares;
  for_columns<T>(width, [&](auto lane, int i) {
    const auto from_mean = lane_load<decltype(lane)>(z + i) - mean;
    squares.add(from_mean * from_mean);
  });
  return 1 / std::sqrt(squares.total() / width + T(1e-5));
}

// The change of m for a change u of z: J u, with a symmetric J. `sum` is that of u, `along` <m, u>.
template <class T>
NF_HD void change_row(const Row<T>& row, T sum, T along, const T* u, T* change) {
  const T mean = sum / row.width, slope = along / row.width, rstd = row.rstd;
  for_columns<T>(row.width, [&](auto lane, int i) {
    using L = decltype(lane);
    lane_store(change + i, rstd * (lane_load<L>(u + i) - mean - lane_load<L>(row.m + i) * slope));
  });
}

// y <- phi(v(lane, i)), a point being two columns for gabor, else one.
template <class T, class V>
NF_HD void activate_columns(const Phi<T>& phi, int width, const V& v, T* y) {
  if (phi.kind != Activation::gabor)
    return for_columns<T>(width, [&](auto lane, int i) { lane_store(y + i, value_at<decltype(lane)>(phi, v(lane, i))); });
  const int half = width / 2;
  for_columns<T>(half, [&](auto lane, int i) {
    const auto a = v(lane, i), b = v(lane, i + half);
    const auto f = Gabor<decltype(lane)>::value(phi, a, b);
    lane_store(y + i, f.re);
    lane_store(y + half + i, f.im);
  });
}
template <class T>
NF_HD void activate_row(const Row<T>& row, T* y) {
  activate_columns<T>(row.phi, row.width, [&](auto lane, int i) { return row.template v<decltype(lane)>(i); }, y);
}
// The same from z, which becomes m on the way; y may be in its place.
template <class T>
NF_HD void normalize_and_activate_row(const Row<T>& row, T* z, T mean, T* y) {
  const auto v = [&](auto lane, int i) {
    const auto m = (lane_load<decltype(lane)>(z + i) - mean) * row.rstd;
    lane_store(z + i, m);
    return row.scale * m + row.shift;
  };
  activate_columns<T>(row.phi, row.width, v, y);
}

// With the points of a row of gabor: f(lane, i, wavelet) for the columns i and half + i.
template <class T, class F>
NF_HD void for_wavelets(const Row<T>& row, F&& f) {
  const Phi<T> phi = row.phi;
  const int half = row.width / 2;
  for_columns<T>(half, [&](auto lane, int i) {
    using L = decltype(lane);
    f(lane, i, Gabor<L>(phi, row.template v<L>(i), row.template v<L>(i + half), lane_load<L>(row.y + i), lane_load<L>(row.y + half + i)));
  });
}
template <class L>
NF_HD Complex<L> load_complex(const ScalarOf<L>* p, int half) {
  return {lane_load<L>(p), lane_load<L>(p + half)};
}
template <class T, class L>
NF_HD void store_complex(T* p, int half, Complex<L> z) {
  lane_store(p, z.re);
  lane_store(p + half, z.im);
}

// delta <- phi'(v)^T delta
template <class T>
NF_HD void pull_row(const Row<T>& row, T* delta) {
  const Phi<T> phi = row.phi;
  if (phi.kind != Activation::gabor)
    return for_columns<T>(row.width, [&](auto lane, int i) {
      using L = decltype(lane);
      lane_store(delta + i, lane_load<L>(delta + i) * slope_at<L>(phi, row.template v<L>(i), lane_load<L>(row.y + i)));
    });
  const int half = row.width / 2;
  for_wavelets<T>(row, [&](auto lane, int i, const auto& gabor) {
    store_complex(delta + i, half, gabor.pull(load_complex<decltype(lane)>(delta + i, half)));
  });
}

// tangent <- phi'(v) tangent
template <class T>
NF_HD void push_row(const Row<T>& row, T* tangent) {
  if (row.phi.kind != Activation::gabor) return pull_row(row, tangent);
  const int half = row.width / 2;
  for_wavelets<T>(row, [&](auto lane, int i, const auto& gabor) {
    store_complex(tangent + i, half, gabor.push(load_complex<decltype(lane)>(tangent + i, half)));
  });
}

// to += d/dv <from_t, phi'(v) w>
template <class T>
NF_HD void bend_row(const Row<T>& row, const T* w, const T* from_t, T* to) {
  const Phi<T> phi = row.phi;
  if (phi.kind != Activation::gabor)
    return for_columns<T>(row.width, [&](auto lane, int i) {
      using L = decltype(lane);
      const L curvature = curvature_at<L>(phi, row.template v<L>(i), lane_load<L>(row.y + i));
      lane_store(to + i, lane_load<L>(to + i) + lane_load<L>(from_t + i) * curvature * lane_load<L>(w + i));
    });
  const int half = row.width / 2;
  for_wavelets<T>(row, [&](auto lane, int i, const auto& gabor) {
    using L = decltype(lane);
    const Complex<L> bent = gabor.bend(load_complex<L>(w + i, half), load_complex<L>(from_t + i, half));
    const Complex<L> before = load_complex<L>(to + i, half);
    store_complex(to + i, half, Complex<L>{before.re + bent.re, before.im + bent.im});
  });
}

// delta: the gradient of y, becomes that of z.
template <class T>
NF_HD RowSums<T> backward_row(const Row<T>& row, T* delta) {
  pull_row(row, delta);
  if (row.plain) return {0, 0};
  const T scale = row.scale;
  Sum<T> of_scale, of_shift;
  for_columns<T>(row.width, [&](auto lane, int i) {
    using L = decltype(lane);
    const L of_v = lane_load<L>(delta + i);
    of_scale.add(of_v * lane_load<L>(row.m + i));
    of_shift.add(of_v);
    lane_store(delta + i, scale * of_v);
  });
  const RowSums<T> sums{of_scale.total(), of_shift.total()};
  if (row.normalize) change_row(row, scale * sums.shift, scale * sums.scale, delta, delta);
  return sums;
}

// Sums over u and over m u.
template <class T>
NF_HD RowSums<T> sums_of(const Row<T>& row, const T* u) {
  Sum<T> of_m, of_u;
  for_columns<T>(row.width, [&](auto lane, int i) {
    using L = decltype(lane);
    const L x = lane_load<L>(u + i);
    of_m.add(x * lane_load<L>(row.m + i));
    of_u.add(x);
  });
  return {of_m.total(), of_u.total()};
}

// w: the change of v for a change u of z and those of scale and shift. change: that of m.
template <class T>
NF_HD void push_to_v(const Row<T>& row, const T* u, T* change, T* w) {
  if (row.normalize) {
    const RowSums<T> sums = sums_of(row, u);
    change_row(row, sums.shift, sums.scale, u, change);
  }
  const T* m_change = row.normalize ? change : u;
  for_columns<T>(row.width, [&](auto lane, int i) {
    using L = decltype(lane);
    const L by_scale = row.scale_tangent * lane_load<L>(row.m + i) + row.shift_tangent;
    lane_store(w + i, row.scale * lane_load<L>(m_change + i) + by_scale);
  });
}

// The reverse pass through t = phi'(v) w and y = phi(v): from_t and from_y become the adjoints of u
// and of z. `change` and `w` are room for a row each.
template <class T>
NF_HD RowSums<T> second_row(const Row<T>& row, const T* u, T* change, T* w, T* from_t, T* from_y) {
  push_to_v(row, u, change, w);
  pull_row(row, from_y);
  bend_row(row, w, from_t, from_y);
  pull_row(row, from_t);
  if (row.plain) return {0, 0};
  const T* m_change = row.normalize ? change : u;
  Sum<T> of_scale, of_shift, together;  // together: <adjoint of m's change, that change>
  for_columns<T>(row.width, [&](auto lane, int i) {
    using L = decltype(lane);
    const L of_w = lane_load<L>(from_t + i), of_v = lane_load<L>(from_y + i), moved = lane_load<L>(m_change + i);
    of_scale.add(of_w * moved + of_v * lane_load<L>(row.m + i));
    of_shift.add(of_v);
    together.add(row.scale * of_w * moved);
    lane_store(from_t + i, row.scale * of_w);
    lane_store(from_y + i, row.scale * of_v + row.scale_tangent * of_w);
  });
  const RowSums<T> gradients{of_scale.total(), of_shift.total()};
  if (!row.normalize) return gradients;
  // d/dz <p, J u> = -(<p, J u> m + <m, u> J p + <m, p> J u) rstd / width, for p = from_t
  const RowSums<T> of_u = sums_of(row, u), of_p = sums_of(row, from_t), of_m = sums_of(row, from_y);
  const T product = together.total(), factor = -row.rstd / row.width;
  change_row(row, of_p.shift, of_p.scale, from_t, from_t);
  change_row(row, of_m.shift, of_m.scale, from_y, from_y);
  for_columns<T>(row.width, [&](auto lane, int i) {
    using L = decltype(lane);
    const L bent = product * lane_load<L>(row.m + i) + of_u.scale * lane_load<L>(from_t + i) + of_p.scale * lane_load<L>(change + i);
    lane_store(from_y + i, lane_load<L>(from_y + i) + factor * bent);
  });
  return gradients;
}

// ---- rows of a network --------------------------------------------------------------------------

// Whether `hidden` keeps the rows m, from which y is computed again, or y itself.
template <class T, class E>
NF_HD bool keeps_preactivations(const MlpArgs<T, E>& args) {
  return args.shape.hidden >= Activation::sine || args.shape.normalize || args.scale != nullptr;
}

// The row of a sample on layer l (from 1 on), whose m and y are given.
template <class T>
NF_HD Row<T> row_of(const MlpArgs<T>& args, int l, std::int64_t sample, const T* m, const T* y, T rstd) {
  const bool hidden = l < args.shape.n_layers, scaled = hidden && args.scale != nullptr;
  const std::int64_t at = sample * (args.shape.n_layers - 1) + l - 1;
  Row<T> row{phi_of<T>(args.shape, l), args.shape.widths[l], hidden && args.shape.normalize, !scaled, 1, 0, 0, 0, rstd, m, y};
  if (row.normalize) row.plain = false;
  if (scaled) {
    row.scale = args.scale[at];
    row.shift = args.shift[at];
  }
  if (scaled && args.scale_tangents != nullptr) {
    row.scale_tangent = args.scale_tangents[at];
    row.shift_tangent = args.shift_tangents[at];
  }
  return row;
}

// Where the 1 / standard deviation of a sample's row is kept.
template <class T>
NF_HD T* rstd_at(const MlpArgs<T>& args, std::int64_t n_activations, int l, std::int64_t sample) {
  return args.hidden + args.n * (n_activations + l - 1) + sample;
}

template <class T>
NF_HD void set_gradients(const MlpArgs<T>& args, int l, std::int64_t sample, RowSums<T> sums) {
  if (args.grad_scale == nullptr) return;
  const std::int64_t at = sample * (args.shape.n_layers - 1) + l - 1;
  args.grad_scale[at] = sums.scale;
  args.grad_shift[at] = sums.shift;
}

NF_END
