// Dense grids over [0, 1]^D: where a point lies along an axis, and numbers that carry a derivative.
//
// Vertices lie on both ends of an axis ("corners aligned"): vertex i of n is at i / (n - 1). A
// wrapped axis has period 1 and its vertex i at i / n. Positions outside are clamped, with zero
// gradient there; NaN reads as 0, with zero gradient.
#pragma once

#include "common/pack.h"

namespace nf {

constexpr int kLatticeMaxDims = 4;

enum class LatticeInterpolation : int { linear = 0, smoothstep = 1 };

}  // namespace nf

NF_BEGIN

// A number and its derivative along one direction. Unlike a Dual, it may be made of packs and be
// scaled by a Jet of plain numbers. What is linear in its arguments is written once, for plain
// numbers and for these; with Jets it gives second derivatives.
template <class V>
struct Jet {
  V value, tangent;
  friend NF_HD Jet operator+(const Jet& a, const Jet& b) { return {a.value + b.value, a.tangent + b.tangent}; }
};
template <class S, class V>
NF_HD Jet<V> operator*(const Jet<S>& s, const Jet<V>& v) {
  return {s.value * v.value, s.tangent * v.value + s.value * v.tangent};
}

// What a kernel accumulates: the number itself, or the derivative that a Jet carries.
template <class V>
NF_HD const V& result_of(const V& x) {
  return x;
}
template <class V>
NF_HD const V& result_of(const Jet<V>& x) {
  return x.tangent;
}

// The cell's lower vertex, the weight of its upper vertex and that weight's first and second
// derivative with respect to the position.
template <class L>
struct LatticeCell {
  IntOf<L> lower;
  L weight, slope, curvature;
};

template <class L>
NF_HD LatticeCell<L> lattice_locate(int resolution, bool wrap, LatticeInterpolation interpolation, L x) {
  using S = ScalarOf<L>;
  const L zero = broadcast<L>(0), one = broadcast<L>(1);
  L inside, unit;
  if (wrap) {  // beyond 2^22 a float has no fraction worth a place
    inside = select(x > S(-4194304), select(x < S(4194304), one, zero), zero);
    const L usable = select(inside > zero, x, zero);
    unit = usable - to_lane<L>(floor_to_int(usable));
  } else {
    inside = select(x >= zero, select(x <= one, one, zero), zero);
    unit = lane_min(lane_max(x, zero), one);
  }
  const S scale = static_cast<S>(wrap ? resolution : resolution - 1);
  const L position = unit * scale;
  LatticeCell<L> cell;
  cell.lower = floor_to_int(lane_min(position, broadcast<L>(scale - 1)));
  const L t = position - to_lane<L>(cell.lower);
  if (interpolation == LatticeInterpolation::smoothstep) {
    cell.weight = t * t * (3 - 2 * t);
    cell.slope = inside * (6 * t * (1 - t) * scale);
    cell.curvature = inside * ((6 - 12 * t) * (scale * scale));
  } else {
    cell.weight = t;
    cell.slope = inside * scale;
    cell.curvature = zero;
  }
  return cell;
}

// An axis of a point's cell for one kind of number: N is T, or Jet<T> along the point's tangent.
template <class N>
struct LatticeSide;
template <class N>
struct LatticeSideBase {
  std::int32_t lower;
  N weight[2];  // of the lower and the upper vertex
  N slope[2];   // their derivatives
};
template <class T>
struct LatticeSide : LatticeSideBase<T> {
  NF_HD void set(const LatticeCell<T>& cell, T) {
    this->lower = cell.lower;
    this->weight[0] = 1 - cell.weight;
    this->weight[1] = cell.weight;
    this->slope[0] = -cell.slope;
    this->slope[1] = cell.slope;
  }
};
template <class T>
struct LatticeSide<Jet<T>> : LatticeSideBase<Jet<T>> {
  NF_HD void set(const LatticeCell<T>& cell, T tangent) {
    const T first = cell.slope * tangent, second = cell.curvature * tangent;
    this->lower = cell.lower;
    this->weight[0] = {1 - cell.weight, -first};
    this->weight[1] = {cell.weight, first};
    this->slope[0] = {-cell.slope, -second};
    this->slope[1] = {cell.slope, second};
  }
};

// W numbers of a table as one V: a Pack, or for Jets with their derivatives, which may be none.
template <class N, int W>
struct LatticeNumbers {
  using V = Pack<N, W>;
  static NF_HD V load(const N* values, const N*, std::int64_t i) { return pack_load<N, W>(values + i); }
  static NF_HD V constant(const N* values) { return pack_load<N, W>(values); }
};
template <class T, int W>
struct LatticeNumbers<Jet<T>, W> {
  using V = Jet<Pack<T, W>>;
  static NF_HD V load(const T* values, const T* tangents, std::int64_t i) {
    return {pack_load<T, W>(values + i), tangents == nullptr ? Pack<T, W>{} : pack_load<T, W>(tangents + i)};
  }
  static NF_HD V constant(const T* values) { return {pack_load<T, W>(values), Pack<T, W>{}}; }
};

NF_END
