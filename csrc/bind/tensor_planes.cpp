#include <string>
#include <vector>

#include "bind/ops.h"
#include "bind/tensor.h"
#include "ops/tensor_planes/tensor_planes.h"

namespace nf {
namespace {

LatticeInterpolation interpolation_from_name(const std::string& name) {
  if (name == "linear") return LatticeInterpolation::linear;
  if (name == "smoothstep") return LatticeInterpolation::smoothstep;
  throw py::value_error("interpolation: needs linear or smoothstep, got '" + name + "'.");
}

template <class T>
TensorPlanesArgs<T> common(const TensorPlanesShape& shape, const py::object& positions, const py::object& table) {
  TensorPlanesArgs<T> args{};
  args.shape = shape;
  args.positions = tensor_data<T>(positions, "positions", {-1, shape.n_dims});
  args.n = view_tensor(positions, "positions").shape[0];
  args.table = tensor_data<T>(table, "table", {shape.n_params});
  return args;
}

template <class T>
void forward(const TensorPlanesShape& shape, const py::object& positions, const py::object& table,
             const py::object& output, void (*kernel)(const TensorPlanesArgs<T>&)) {
  TensorPlanesArgs<T> args = common<T>(shape, positions, table);
  args.output = tensor_data<T>(output, "output", {args.n, shape.n_output()});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void backward(const TensorPlanesShape& shape, const py::object& grad_output, const py::object& positions,
              const py::object& table, const py::object& grad_positions, const py::object& grad_table,
              void (*kernel)(const TensorPlanesArgs<T>&)) {
  TensorPlanesArgs<T> args = common<T>(shape, positions, table);
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, shape.n_output()});
  args.grad_positions = optional_data<T>(grad_positions, "grad_positions", {args.n, shape.n_dims});
  args.grad_table = optional_data<T>(grad_table, "grad_table", {shape.n_params});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void second(const TensorPlanesShape& shape, const py::object& tangents, const py::object& table_tangents,
            const py::object& grad_output, const py::object& positions, const py::object& table,
            const py::object& grad_grad_output, const py::object& grad_positions, const py::object& grad_table,
            void (*kernel)(const TensorPlanesArgs<T>&)) {
  TensorPlanesArgs<T> args = common<T>(shape, positions, table);
  args.tangents = optional_data<T>(tangents, "tangents", {args.n, shape.n_dims});
  args.table_tangents = optional_data<T>(table_tangents, "table_tangents", {shape.n_params});
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, shape.n_output()});
  args.grad_grad_output = tensor_data<T>(grad_grad_output, "grad_grad_output", {args.n, shape.n_output()});
  args.grad_positions = tensor_data<T>(grad_positions, "grad_positions", {args.n, shape.n_dims});
  args.grad_table = optional_data<T>(grad_table, "grad_table", {shape.n_params});
  const py::gil_scoped_release release;
  kernel(args);
}

// Per term and factor: its axes and its first number in the table.
py::list factor_table(const TensorPlanesShape& shape) {
  py::list terms;
  for (int t = 0; t < shape.n_terms; ++t) {
    py::list factors;
    for (int k = 0; k < shape.terms[t].n_factors; ++k) {
      const PlanesFactor& factor = shape.terms[t].factors[k];
      py::list axes;
      for (int j = 0; j < factor.n_axes; ++j) axes.append(factor.axis[j]);
      factors.append(py::make_tuple(py::tuple(axes), factor.offset));
    }
    terms.append(py::tuple(factors));
  }
  return terms;
}

bool is_f64(const py::object& tensor) { return view_tensor(tensor, "positions").dtype == Dtype::f64; }

}  // namespace

void bind_tensor_planes(OpModule& m) {
  py::class_<TensorPlanesShape>(m, "TensorPlanesShape", py::module_local(kLocalTypes))
      .def(py::init([](const std::vector<int>& resolution, int rank, const std::string& terms, const std::string& interpolation) {
             return tensor_planes_shape(resolution.data(), static_cast<int>(resolution.size()), rank, terms.c_str(),
                                        interpolation_from_name(interpolation));
           }),
           py::arg("resolution"), py::arg("rank"), py::arg("terms"), py::arg("interpolation"))
      .def_readonly("n_dims", &TensorPlanesShape::n_dims)
      .def_readonly("n_params", &TensorPlanesShape::n_params)
      .def_property_readonly("n_output", &TensorPlanesShape::n_output)
      .def_property_readonly("factors", &factor_table, "Per term a tuple of (axes, offset), one for each factor.");

  m.def("tensor_planes_forward",
        [](const TensorPlanesShape& shape, const py::object& positions, const py::object& table, const py::object& output) {
          if (is_f64(positions)) forward<double>(shape, positions, table, output, &tensor_planes_forward_f64);
          else forward<float>(shape, positions, table, output, &tensor_planes_forward_f32);
        },
        py::arg("shape"), py::arg("positions"), py::arg("table"), py::arg("output"));
  m.def("tensor_planes_backward_table",
        [](const TensorPlanesShape& shape, const py::object& grad_output, const py::object& positions,
           const py::object& table, const py::object& grad_table) {
          if (is_f64(positions))
            backward<double>(shape, grad_output, positions, table, py::none(), grad_table, &tensor_planes_backward_table_f64);
          else
            backward<float>(shape, grad_output, positions, table, py::none(), grad_table, &tensor_planes_backward_table_f32);
        },
        py::arg("shape"), py::arg("grad_output"), py::arg("positions"), py::arg("table"), py::arg("grad_table").none(false));
  m.def("tensor_planes_backward_positions",
        [](const TensorPlanesShape& shape, const py::object& grad_output, const py::object& positions,
           const py::object& table, const py::object& grad_positions) {
          if (is_f64(positions))
            backward<double>(shape, grad_output, positions, table, grad_positions, py::none(),
                             &tensor_planes_backward_positions_f64);
          else
            backward<float>(shape, grad_output, positions, table, grad_positions, py::none(),
                            &tensor_planes_backward_positions_f32);
        },
        py::arg("shape"), py::arg("grad_output"), py::arg("positions"), py::arg("table"),
        py::arg("grad_positions").none(false));
  m.def("tensor_planes_second",
        [](const TensorPlanesShape& shape, const py::object& tangents, const py::object& table_tangents,
           const py::object& grad_output, const py::object& positions, const py::object& table,
           const py::object& grad_grad_output, const py::object& grad_positions, const py::object& grad_table) {
          if (is_f64(positions))
            second<double>(shape, tangents, table_tangents, grad_output, positions, table, grad_grad_output,
                           grad_positions, grad_table, &tensor_planes_second_f64);
          else
            second<float>(shape, tangents, table_tangents, grad_output, positions, table, grad_grad_output,
                          grad_positions, grad_table, &tensor_planes_second_f32);
        },
        py::arg("shape"), py::arg("tangents"), py::arg("table_tangents"), py::arg("grad_output"), py::arg("positions"),
        py::arg("table"), py::arg("grad_grad_output"), py::arg("grad_positions"), py::arg("grad_table"));
}

}  // namespace nf
