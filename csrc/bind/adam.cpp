#include "bind/ops.h"
#include "bind/tensor.h"
#include "ops/adam/adam.h"

namespace nf {
namespace {

template <class T>
void step(const py::object& params, const py::object& grads, const py::object& first, const py::object& second,
          double rate, double beta1, double beta2, double eps, double l2, std::int64_t step, bool skip_zero, bool clear,
          const py::object& touched, void (*kernel)(const AdamArgs<T>&)) {
  AdamArgs<T> args{};
  args.params = tensor_data<T>(params, "params", {-1});
  args.n = view_tensor(params, "params").shape[0];
  args.grads = tensor_data<T>(grads, "grads", {args.n});
  args.first = tensor_data<T>(first, "first", {args.n});
  args.second = tensor_data<T>(second, "second", {args.n});
  args.touched = optional_data<unsigned char>(touched, "touched", {(args.n + 15) / 16});
  if (step < 1) throw py::value_error("step: needs 1 for the first step, got " + std::to_string(step) + ".");
  args.rate = static_cast<T>(rate);
  args.beta1 = static_cast<T>(beta1);
  args.beta2 = static_cast<T>(beta2);
  args.eps = static_cast<T>(eps);
  args.l2 = static_cast<T>(l2);
  args.step = step;
  args.skip_zero = skip_zero;
  args.clear = clear;
  const py::gil_scoped_release release;
  kernel(args);
}

}  // namespace

void bind_adam(OpModule& m) {
  m.def("adam",
        [](const py::object& params, const py::object& grads, const py::object& first, const py::object& second,
           double rate, double beta1, double beta2, double eps, double l2, std::int64_t step_number, bool skip_zero,
           bool clear, const py::object& touched) {
          if (view_tensor(params, "params").dtype == Dtype::f64)
            step<double>(params, grads, first, second, rate, beta1, beta2, eps, l2, step_number, skip_zero, clear,
                         touched, &adam_f64);
          else
            step<float>(params, grads, first, second, rate, beta1, beta2, eps, l2, step_number, skip_zero, clear,
                        touched, &adam_f32);
        },
        py::arg("params"), py::arg("grads"), py::arg("first"), py::arg("second"), py::arg("rate"), py::arg("beta1"),
        py::arg("beta2"), py::arg("eps"), py::arg("l2"), py::arg("step"), py::arg("skip_zero"), py::arg("clear"),
        py::arg("touched") = py::none());
}

}  // namespace nf
