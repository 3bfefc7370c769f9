// Dual<L>: a number and its derivative along one direction. A polynomial that is templated on its
// number type gives its directional derivative when it is called with these.
#pragma once

#include "common/lanes.h"

NF_BEGIN

template <class L>
struct Dual {
  L value, tangent;

  friend NF_HD Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.tangent + b.tangent}; }
  friend NF_HD Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.tangent - b.tangent}; }
  friend NF_HD Dual operator*(Dual a, Dual b) {
    return {a.value * b.value, a.tangent * b.value + a.value * b.tangent};
  }
  friend NF_HD Dual operator+(Dual a, ScalarOf<L> s) { return {a.value + s, a.tangent}; }
  friend NF_HD Dual operator*(ScalarOf<L> s, Dual a) { return {s * a.value, s * a.tangent}; }
};

template <class L>
struct LaneTraits<Dual<L>> {
  using Scalar = ScalarOf<L>;
};

NF_END
