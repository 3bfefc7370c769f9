#include <pybind11/stl.h>

#include <array>

#include "bind/ops.h"
#include "bind/tensor.h"
#include "fused/rate.h"

namespace nf {
namespace {

py::tuple bits(const py::object& numbers, const py::object& before, const std::array<float, 3>& weights,
               const py::object& grad_numbers) {
  const TensorView view = require_tensor(numbers, "numbers", Dtype::f32, {-1, -1, -1, -1});
  RateArgs args{};
  args.n_moments = view.shape[0];
  args.height = view.shape[1];
  args.width = view.shape[2];
  args.n_channels = view.shape[3];
  args.numbers = static_cast<const float*>(view.data);
  args.before = optional_data<float>(before, "before", {args.height, args.width, args.n_channels});
  for (std::size_t k = 0; k < 3; ++k) args.weights[k] = weights[k];
  args.grad_numbers = tensor_data<float>(grad_numbers, "grad_numbers", view.shape);
  double total = 0, of_weights[3] = {};
  args.bits = &total;
  args.grad_weights = of_weights;
  {
    const py::gil_scoped_release release;
    rate_bits(args);
  }
  return py::make_tuple(total, py::make_tuple(of_weights[0], of_weights[1], of_weights[2]));
}

}  // namespace

void bind_rate(py::module_& m) {
  m.def("rate_bits", &bits, py::arg("numbers"), py::arg("before"), py::arg("weights"), py::arg("grad_numbers"));
}

}  // namespace nf
