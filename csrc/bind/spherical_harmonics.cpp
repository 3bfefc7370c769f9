#include <stdexcept>
#include <string>

#include "bind/ops.h"
#include "bind/tensor.h"
#include "ops/spherical_harmonics/spherical_harmonics.h"

namespace nf {
namespace {

template <class T>
SphericalHarmonicsArgs<T> common(int degree, const py::object& directions) {
  if (degree < 1 || degree > kSphericalHarmonicsMaxDegree)
    throw std::invalid_argument("spherical_harmonics: degree needs 1 to 4, got " + std::to_string(degree) + ".");
  SphericalHarmonicsArgs<T> args{};
  args.degree = degree;
  args.directions = tensor_data<T>(directions, "directions", {-1, 3});
  args.n = view_tensor(directions, "directions").shape[0];
  return args;
}

template <class T>
void forward(int degree, const py::object& directions, const py::object& output,
             void (*kernel)(const SphericalHarmonicsArgs<T>&)) {
  SphericalHarmonicsArgs<T> args = common<T>(degree, directions);
  args.output = tensor_data<T>(output, "output", {args.n, degree * degree});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void backward(int degree, const py::object& grad_output, const py::object& directions, const py::object& grad_directions,
              void (*kernel)(const SphericalHarmonicsArgs<T>&)) {
  SphericalHarmonicsArgs<T> args = common<T>(degree, directions);
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, degree * degree});
  args.grad_directions = tensor_data<T>(grad_directions, "grad_directions", {args.n, 3});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void second(int degree, const py::object& tangents, const py::object& grad_output, const py::object& directions,
            const py::object& grad_grad_output, const py::object& grad_directions,
            void (*kernel)(const SphericalHarmonicsArgs<T>&)) {
  SphericalHarmonicsArgs<T> args = common<T>(degree, directions);
  args.tangents = tensor_data<T>(tangents, "tangents", {args.n, 3});
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, degree * degree});
  args.grad_grad_output = tensor_data<T>(grad_grad_output, "grad_grad_output", {args.n, degree * degree});
  args.grad_directions = tensor_data<T>(grad_directions, "grad_directions", {args.n, 3});
  const py::gil_scoped_release release;
  kernel(args);
}

bool is_f64(const py::object& tensor) { return view_tensor(tensor, "directions").dtype == Dtype::f64; }

}  // namespace

void bind_spherical_harmonics(OpModule& m) {
  m.def("spherical_harmonics_forward",
        [](int degree, const py::object& directions, const py::object& output) {
          if (is_f64(directions)) forward<double>(degree, directions, output, &spherical_harmonics_forward_f64);
          else forward<float>(degree, directions, output, &spherical_harmonics_forward_f32);
        },
        py::arg("degree"), py::arg("directions"), py::arg("output"));
  m.def("spherical_harmonics_backward",
        [](int degree, const py::object& grad_output, const py::object& directions, const py::object& grad_directions) {
          if (is_f64(directions))
            backward<double>(degree, grad_output, directions, grad_directions, &spherical_harmonics_backward_f64);
          else
            backward<float>(degree, grad_output, directions, grad_directions, &spherical_harmonics_backward_f32);
        },
        py::arg("degree"), py::arg("grad_output"), py::arg("directions"), py::arg("grad_directions"));
  m.def("spherical_harmonics_second",
        [](int degree, const py::object& tangents, const py::object& grad_output, const py::object& directions,
           const py::object& grad_grad_output, const py::object& grad_directions) {
          if (is_f64(directions))
            second<double>(degree, tangents, grad_output, directions, grad_grad_output, grad_directions,
                           &spherical_harmonics_second_f64);
          else
            second<float>(degree, tangents, grad_output, directions, grad_grad_output, grad_directions,
                          &spherical_harmonics_second_f32);
        },
        py::arg("degree"), py::arg("tangents"), py::arg("grad_output"), py::arg("directions"),
        py::arg("grad_grad_output"), py::arg("grad_directions"));
}

}  // namespace nf
