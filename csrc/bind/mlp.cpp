#include <string>

#include "bind/ops.h"
#include "bind/tensor.h"
#include "ops/mlp/mlp.h"

namespace nf {
namespace {

Activation activation_from_name(const std::string& name) {
  if (name == "none") return Activation::none;
  if (name == "relu") return Activation::relu;
  if (name == "softplus") return Activation::softplus;
  if (name == "sigmoid") return Activation::sigmoid;
  throw py::value_error("activation: needs none, relu, softplus or sigmoid, got '" + name + "'.");
}

Precision precision_from_name(const std::string& name) {
  if (name == "float32") return Precision::full;
  if (name == "bf16") return Precision::bf16;
  throw py::value_error("precision: needs float32 or bf16, got '" + name + "'.");
}

MlpShape make_shape(const std::vector<int>& widths, const std::string& hidden, const std::string& output, double beta,
                    bool biases, const std::string& precision) {
  MlpShape shape{};
  shape.n_layers = static_cast<int>(widths.size()) - 1;
  for (std::size_t i = 0; i < widths.size() && i <= kMlpMaxLayers; ++i) shape.widths[i] = widths[i];
  shape.hidden = activation_from_name(hidden);
  shape.output = activation_from_name(output);
  shape.beta = beta;
  shape.biases = biases;
  shape.precision = precision_from_name(precision);
  check_mlp_shape(shape);
  return shape;
}

int n_in(const MlpShape& shape) { return shape.widths[0]; }
int n_out(const MlpShape& shape) { return shape.widths[shape.n_layers]; }

template <class T, class E>
MlpArgs<T, E> common(const MlpShape& shape, const py::object& input, const py::object& params) {
  MlpArgs<T, E> args{};
  args.shape = shape;
  args.input = tensor_data<T>(input, "input", {-1, n_in(shape)});
  args.n = view_tensor(input, "input").shape[0];
  args.params = tensor_data<T>(params, "params", {shape.n_params()});
  return args;
}

template <class T, class E = T>
void forward(const MlpShape& shape, const py::object& input, const py::object& params, const py::object& output,
             const py::object& hidden, void (*kernel)(const MlpArgs<T, E>&)) {
  MlpArgs<T, E> args = common<T, E>(shape, input, params);
  args.output = tensor_data<T>(output, "output", {args.n, n_out(shape)});
  args.hidden = optional_data<E>(hidden, "hidden", {args.n * shape.n_hidden()});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T, class E = T>
MlpArgs<T, E> with_saved(const MlpShape& shape, const py::object& grad_output, const py::object& input,
                      const py::object& params, const py::object& hidden, const py::object& output) {
  MlpArgs<T, E> args = common<T, E>(shape, input, params);
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, n_out(shape)});
  args.hidden = tensor_data<E>(hidden, "hidden", {args.n * shape.n_hidden()});
  args.saved_output = tensor_data<T>(output, "output", {args.n, n_out(shape)});
  return args;
}

template <class T, class E = T>
void backward(const MlpShape& shape, const py::object& grad_output, const py::object& input, const py::object& params,
              const py::object& hidden, const py::object& output, const py::object& grad_input,
              const py::object& grad_params, void (*kernel)(const MlpArgs<T, E>&)) {
  MlpArgs<T, E> args = with_saved<T, E>(shape, grad_output, input, params, hidden, output);
  args.grad_input = optional_data<T>(grad_input, "grad_input", {args.n, n_in(shape)});
  args.grad_params = optional_data<T>(grad_params, "grad_params", {shape.n_params()});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void second(const MlpShape& shape, const py::object& tangents, const py::object& grad_output, const py::object& input,
            const py::object& params, const py::object& hidden, const py::object& output,
            const py::object& grad_grad_output, const py::object& grad_input, const py::object& grad_params,
            void (*kernel)(const MlpArgs<T>&)) {
  MlpArgs<T> args = with_saved<T>(shape, grad_output, input, params, hidden, output);
  args.tangents = tensor_data<T>(tangents, "tangents", {args.n, n_in(shape)});
  args.grad_grad_output = tensor_data<T>(grad_grad_output, "grad_grad_output", {args.n, n_out(shape)});
  args.grad_input = optional_data<T>(grad_input, "grad_input", {args.n, n_in(shape)});
  args.grad_params = optional_data<T>(grad_params, "grad_params", {shape.n_params()});
  const py::gil_scoped_release release;
  kernel(args);
}

bool is_f64(const py::object& tensor) { return view_tensor(tensor, "input").dtype == Dtype::f64; }

#if defined(NF_CUDA_MODULE)
using Bf16Kernel = void (*)(const MlpArgs<float, Bf16>&);
constexpr Bf16Kernel kForwardBf16 = nullptr, kBackwardBf16 = nullptr;
#else
constexpr auto kForwardBf16 = &mlp_forward_bf16, kBackwardBf16 = &mlp_backward_bf16;
#endif

bool is_bf16(const MlpShape& shape, const py::object& input) {
  if (shape.precision != Precision::bf16) return false;
  if (kOnCuda) throw py::value_error("mlp: bf16 runs on the CPU; use precision float32 on CUDA.");
  if (is_f64(input)) throw py::type_error("mlp: bf16 needs float32 tensors, got float64.");
  return true;
}

}  // namespace

void bind_mlp(OpModule& m) {
  py::class_<MlpShape>(m, "MlpShape", py::module_local(kOnCuda))
      .def(py::init(&make_shape), py::arg("widths"), py::arg("hidden"), py::arg("output"), py::arg("beta"),
           py::arg("biases"), py::arg("precision") = "float32")
      .def_property_readonly("n_params", &MlpShape::n_params)
      .def_property_readonly("n_hidden", &MlpShape::n_hidden);
  m.def("mlp_forward",
        [](const MlpShape& shape, const py::object& input, const py::object& params, const py::object& output,
           const py::object& hidden) {
          if (is_bf16(shape, input)) forward<float, Bf16>(shape, input, params, output, hidden, kForwardBf16);
          else if (is_f64(input)) forward<double>(shape, input, params, output, hidden, &mlp_forward_f64);
          else forward<float>(shape, input, params, output, hidden, &mlp_forward_f32);
        },
        py::arg("shape"), py::arg("input"), py::arg("params"), py::arg("output"), py::arg("hidden") = py::none());
  m.def("mlp_backward",
        [](const MlpShape& shape, const py::object& grad_output, const py::object& input, const py::object& params,
           const py::object& hidden, const py::object& output, const py::object& grad_input,
           const py::object& grad_params) {
          if (is_bf16(shape, input))
            backward<float, Bf16>(shape, grad_output, input, params, hidden, output, grad_input, grad_params, kBackwardBf16);
          else if (is_f64(input))
            backward<double>(shape, grad_output, input, params, hidden, output, grad_input, grad_params, &mlp_backward_f64);
          else
            backward<float>(shape, grad_output, input, params, hidden, output, grad_input, grad_params, &mlp_backward_f32);
        },
        py::arg("shape"), py::arg("grad_output"), py::arg("input"), py::arg("params"), py::arg("hidden"),
        py::arg("output"), py::arg("grad_input"), py::arg("grad_params"));
  m.def("mlp_second",
        [](const MlpShape& shape, const py::object& tangents, const py::object& grad_output, const py::object& input,
           const py::object& params, const py::object& hidden, const py::object& output,
           const py::object& grad_grad_output, const py::object& grad_input, const py::object& grad_params) {
          if (shape.precision == Precision::bf16)
            throw py::value_error("mlp: second derivatives need float32 precision, got bf16.");
          if (is_f64(input))
            second<double>(shape, tangents, grad_output, input, params, hidden, output, grad_grad_output, grad_input,
                           grad_params, &mlp_second_f64);
          else
            second<float>(shape, tangents, grad_output, input, params, hidden, output, grad_grad_output, grad_input,
                          grad_params, &mlp_second_f32);
        },
        py::arg("shape"), py::arg("tangents"), py::arg("grad_output"), py::arg("input"), py::arg("params"),
        py::arg("hidden"), py::arg("output"), py::arg("grad_grad_output"), py::arg("grad_input"),
        py::arg("grad_params"));
}

}  // namespace nf
