#include <string>

#include "bind/ops.h"
#include "bind/tensor.h"
#include "ops/frequency/frequency.h"

namespace nf {
namespace {

template <class T>
FrequencyArgs<T> common(const FrequencyShape& shape, const py::object& positions) {
  FrequencyArgs<T> args{};
  args.shape = shape;
  args.positions = tensor_data<T>(positions, "positions", {-1, shape.n_dims});
  args.n = view_tensor(positions, "positions").shape[0];
  return args;
}

template <class T>
void forward(const FrequencyShape& shape, const py::object& positions, const py::object& output,
             void (*kernel)(const FrequencyArgs<T>&)) {
  FrequencyArgs<T> args = common<T>(shape, positions);
  args.output = tensor_data<T>(output, "output", {args.n, shape.n_output()});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void backward(const FrequencyShape& shape, const py::object& grad_output, const py::object& positions,
              const py::object& grad_positions, void (*kernel)(const FrequencyArgs<T>&)) {
  FrequencyArgs<T> args = common<T>(shape, positions);
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, shape.n_output()});
  args.grad_positions = tensor_data<T>(grad_positions, "grad_positions", {args.n, shape.n_dims});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void second(const FrequencyShape& shape, const py::object& tangents, const py::object& grad_output,
            const py::object& positions, const py::object& grad_grad_output, const py::object& grad_positions,
            void (*kernel)(const FrequencyArgs<T>&)) {
  FrequencyArgs<T> args = common<T>(shape, positions);
  args.tangents = tensor_data<T>(tangents, "tangents", {args.n, shape.n_dims});
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, shape.n_output()});
  args.grad_grad_output = tensor_data<T>(grad_grad_output, "grad_grad_output", {args.n, shape.n_output()});
  args.grad_positions = tensor_data<T>(grad_positions, "grad_positions", {args.n, shape.n_dims});
  const py::gil_scoped_release release;
  kernel(args);
}

bool is_f64(const py::object& tensor) { return view_tensor(tensor, "positions").dtype == Dtype::f64; }

}  // namespace

void bind_frequency(OpModule& m) {
  py::class_<FrequencyShape>(m, "FrequencyShape", py::module_local(kLocalTypes))
      .def(py::init([](int n_dims, int n_octaves, bool identity, bool include_pi) {
             const FrequencyShape shape{n_dims, n_octaves, identity, include_pi};
             check_frequency_shape(shape);
             return shape;
           }),
           py::arg("n_dims"), py::arg("n_octaves"), py::arg("identity"), py::arg("include_pi"))
      .def_property_readonly("n_output", &FrequencyShape::n_output);
  m.def("frequency_forward",
        [](const FrequencyShape& shape, const py::object& positions, const py::object& output) {
          if (is_f64(positions)) forward<double>(shape, positions, output, &frequency_forward_f64);
          else forward<float>(shape, positions, output, &frequency_forward_f32);
        },
        py::arg("shape"), py::arg("positions"), py::arg("output"));
  m.def("frequency_backward",
        [](const FrequencyShape& shape, const py::object& grad_output, const py::object& positions,
           const py::object& grad_positions) {
          if (is_f64(positions)) backward<double>(shape, grad_output, positions, grad_positions, &frequency_backward_f64);
          else backward<float>(shape, grad_output, positions, grad_positions, &frequency_backward_f32);
        },
        py::arg("shape"), py::arg("grad_output"), py::arg("positions"), py::arg("grad_positions"));
  m.def("frequency_second",
        [](const FrequencyShape& shape, const py::object& tangents, const py::object& grad_output,
           const py::object& positions, const py::object& grad_grad_output, const py::object& grad_positions) {
          if (is_f64(positions))
            second<double>(shape, tangents, grad_output, positions, grad_grad_output, grad_positions, &frequency_second_f64);
          else
            second<float>(shape, tangents, grad_output, positions, grad_grad_output, grad_positions, &frequency_second_f32);
        },
        py::arg("shape"), py::arg("tangents"), py::arg("grad_output"), py::arg("positions"),
        py::arg("grad_grad_output"), py::arg("grad_positions"));
}

}  // namespace nf
