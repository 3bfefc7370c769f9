// CPU loops of the spherical harmonics: a register of directions at a time.
#include "ops/spherical_harmonics/spherical_harmonics.h"

#include "common/dual.h"
#include "common/loops.h"
#include "common/rows.h"

NF_BEGIN
namespace {

constexpr std::int64_t kChunk = 4096;  // directions per task

// f(first, end) for every register of directions; end is that of the task
template <class L, class F>
void for_registers(std::int64_t n, F&& f) {
  parallel_chunks(n, kChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t first = begin; first < end; first += LaneTraits<L>::width) f(first, end);
  });
}

template <class T, int Degree>
void forward(const SphericalHarmonicsArgs<T>& args) {
  using L = typename RowLanes<T>::type;
  for_registers<L>(args.n, [&](std::int64_t first, std::int64_t end) {
    L d[3], out[Degree * Degree];
    load_rows<L>(args.directions, 3, first, end, d);
    spherical_harmonics<Degree, L>(d[0], d[1], d[2], out);
    for (int i = 0; i < Degree * Degree; ++i) store_column<L>(args.output, Degree * Degree, first, end, i, out[i]);
  });
}

template <class T, int Degree>
void backward(const SphericalHarmonicsArgs<T>& args) {
  using L = typename RowLanes<T>::type;
  for_registers<L>(args.n, [&](std::int64_t first, std::int64_t end) {
    L d[3], g[Degree * Degree], grad[3];
    load_rows<L>(args.directions, 3, first, end, d);
    load_rows<L>(args.grad_output, Degree * Degree, first, end, g);
    spherical_harmonics_gradient<Degree, L>(d[0], d[1], d[2], g, grad);
    for (int i = 0; i < 3; ++i) store_column<L>(args.grad_directions, 3, first, end, i, grad[i]);
  });
}

// Both results are derivatives along the tangents: of the values, and of the first gradient.
template <class T, int Degree>
void second(const SphericalHarmonicsArgs<T>& args) {
  using L = typename RowLanes<T>::type;
  for_registers<L>(args.n, [&](std::int64_t first, std::int64_t end) {
    constexpr int n_values = Degree * Degree;
    L d[3], tangent[3], g[n_values];
    load_rows<L>(args.directions, 3, first, end, d);
    load_rows<L>(args.tangents, 3, first, end, tangent);
    load_rows<L>(args.grad_output, n_values, first, end, g);
    Dual<L> x[3], weights[n_values], values[n_values], grad[3];
    for (int i = 0; i < 3; ++i) x[i] = {d[i], tangent[i]};
    for (int i = 0; i < n_values; ++i) weights[i] = {g[i], broadcast<L>(0)};
    spherical_harmonics<Degree, Dual<L>>(x[0], x[1], x[2], values);
    spherical_harmonics_gradient<Degree, Dual<L>>(x[0], x[1], x[2], weights, grad);
    for (int i = 0; i < n_values; ++i)
      store_column<L>(args.grad_grad_output, n_values, first, end, i, values[i].tangent);
    for (int i = 0; i < 3; ++i) store_column<L>(args.grad_directions, 3, first, end, i, grad[i].tangent);
  });
}

#define NF_SH_DISPATCH(function)                 \
  switch (args.degree) {                         \
    case 1: return function<T, 1>(args);         \
    case 2: return function<T, 2>(args);         \
    case 3: return function<T, 3>(args);         \
    default: return function<T, 4>(args);        \
  }

template <class T>
void dispatch_forward(const SphericalHarmonicsArgs<T>& args) { NF_SH_DISPATCH(forward) }
template <class T>
void dispatch_backward(const SphericalHarmonicsArgs<T>& args) { NF_SH_DISPATCH(backward) }
template <class T>
void dispatch_second(const SphericalHarmonicsArgs<T>& args) { NF_SH_DISPATCH(second) }

}  // namespace

void spherical_harmonics_forward_f32(const SphericalHarmonicsArgs<float>& args) { dispatch_forward(args); }
void spherical_harmonics_backward_f32(const SphericalHarmonicsArgs<float>& args) { dispatch_backward(args); }
void spherical_harmonics_second_f32(const SphericalHarmonicsArgs<float>& args) { dispatch_second(args); }
#ifndef NF_FAST_PATH
void spherical_harmonics_forward_f64(const SphericalHarmonicsArgs<double>& args) { dispatch_forward(args); }
void spherical_harmonics_backward_f64(const SphericalHarmonicsArgs<double>& args) { dispatch_backward(args); }
void spherical_harmonics_second_f64(const SphericalHarmonicsArgs<double>& args) { dispatch_second(args); }
#endif

NF_END
