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
  if (name == "sine") return Activation::sine;
  if (name == "finer") return Activation::finer;
  if (name == "finer-detached") return Activation::finer_detached;
  if (name == "gabor") return Activation::gabor;
  throw py::value_error("activation: needs none, relu, softplus, sigmoid, sine, finer, finer-detached or gabor, got '" + name +
                        "'.");
}

Precision precision_from_name(const std::string& name) {
  if (name == "float32") return Precision::full;
  if (name == "bf16") return Precision::bf16;
  throw py::value_error("precision: needs float32 or bf16, got '" + name + "'.");
}

MlpShape make_shape(const std::vector<int>& widths, const std::string& hidden, const std::string& output, double beta,
                    bool biases, const std::string& precision, double omega, double first_omega, double gabor_scale,
                    bool normalize) {
  MlpShape shape{};
  shape.n_layers = static_cast<int>(widths.size()) - 1;
  for (std::size_t i = 0; i < widths.size() && i <= kMlpMaxLayers; ++i) shape.widths[i] = widths[i];
  shape.hidden = activation_from_name(hidden);
  shape.output = activation_from_name(output);
  shape.beta = beta;
  shape.biases = biases;
  shape.precision = precision_from_name(precision);
  shape.omega = omega;
  shape.first_omega = first_omega;
  shape.gabor_scale = gabor_scale;
  shape.normalize = normalize;
  check_mlp_shape(shape);
  return shape;
}

int n_in(const MlpShape& shape) { return shape.widths[0]; }
int n_out(const MlpShape& shape) { return shape.widths[shape.n_layers]; }

// The optional scale and shift of hidden layers, with what else has their shape.
struct Modulation {
  py::object scale = py::none(), shift = py::none(), grad_scale = py::none(), grad_shift = py::none(),
             scale_tangents = py::none(), shift_tangents = py::none();
};

template <class T>
T* of_layers(const MlpShape& shape, const py::object& tensor, const char* name, std::int64_t n) {
  return optional_data<T>(tensor, name, {n, shape.n_layers - 1});
}

template <class T, class E>
MlpArgs<T, E> common(const MlpShape& shape, const py::object& input, const py::object& params, const Modulation& m) {
  MlpArgs<T, E> args{};
  args.shape = shape;
  args.input = tensor_data<T>(input, "input", {-1, n_in(shape)});
  args.n = view_tensor(input, "input").shape[0];
  args.params = tensor_data<T>(params, "params", {shape.n_params()});
  args.scale = of_layers<T>(shape, m.scale, "scale", args.n);
  args.shift = of_layers<T>(shape, m.shift, "shift", args.n);
  args.grad_scale = of_layers<T>(shape, m.grad_scale, "grad_scale", args.n);
  args.grad_shift = of_layers<T>(shape, m.grad_shift, "grad_shift", args.n);
  args.scale_tangents = of_layers<T>(shape, m.scale_tangents, "scale_tangents", args.n);
  args.shift_tangents = of_layers<T>(shape, m.shift_tangents, "shift_tangents", args.n);
  if (m.scale.is_none() != m.shift.is_none() || m.grad_scale.is_none() != m.grad_shift.is_none() ||
      m.scale_tangents.is_none() != m.shift_tangents.is_none())
    throw py::value_error("mlp: scale and shift need to come together.");
  if (m.scale.is_none() && !(m.grad_scale.is_none() && m.scale_tangents.is_none()))
    throw py::value_error("mlp: gradients and tangents of scale and shift need scale and shift.");
  if (!m.scale.is_none() && shape.precision == Precision::bf16)
    throw py::value_error("mlp: scale and shift need precision float32, got bf16.");
  return args;
}

template <class T, class E = T>
void forward(const MlpShape& shape, const py::object& input, const py::object& params, const py::object& output,
             const py::object& hidden, const Modulation& modulation, void (*kernel)(const MlpArgs<T, E>&)) {
  MlpArgs<T, E> args = common<T, E>(shape, input, params, modulation);
  args.output = tensor_data<T>(output, "output", {args.n, n_out(shape)});
  args.hidden = optional_data<E>(hidden, "hidden", {args.n * shape.n_hidden()});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T, class E = T>
MlpArgs<T, E> with_saved(const MlpShape& shape, const py::object& grad_output, const py::object& input,
                         const py::object& params, const py::object& hidden, const py::object& output,
                         const Modulation& modulation) {
  MlpArgs<T, E> args = common<T, E>(shape, input, params, modulation);
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, n_out(shape)});
  args.hidden = tensor_data<E>(hidden, "hidden", {args.n * shape.n_hidden()});
  args.saved_output = tensor_data<T>(output, "output", {args.n, n_out(shape)});
  return args;
}

template <class T, class E = T>
void backward(const MlpShape& shape, const py::object& grad_output, const py::object& input, const py::object& params,
              const py::object& hidden, const py::object& output, const py::object& grad_input,
              const py::object& grad_params, const Modulation& modulation, void (*kernel)(const MlpArgs<T, E>&)) {
  MlpArgs<T, E> args = with_saved<T, E>(shape, grad_output, input, params, hidden, output, modulation);
  args.grad_input = optional_data<T>(grad_input, "grad_input", {args.n, n_in(shape)});
  args.grad_params = optional_data<T>(grad_params, "grad_params", {shape.n_params()});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void second(const MlpShape& shape, const py::object& tangents, const py::object& grad_output, const py::object& input,
            const py::object& params, const py::object& hidden, const py::object& output,
            const py::object& grad_grad_output, const py::object& grad_input, const py::object& grad_params,
            const Modulation& modulation, void (*kernel)(const MlpArgs<T>&)) {
  MlpArgs<T> args = with_saved<T>(shape, grad_output, input, params, hidden, output, modulation);
  args.tangents = optional_data<T>(tangents, "tangents", {args.n, n_in(shape)});
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
  using Object = const py::object&;
  const auto none = [](const char* name) { return py::arg(name) = py::none(); };
  py::class_<MlpShape>(m, "MlpShape", py::module_local(kLocalTypes))
      .def(py::init(&make_shape), py::arg("widths"), py::arg("hidden"), py::arg("output"), py::arg("beta"),
           py::arg("biases"), py::arg("precision") = "float32", py::arg("omega") = 1.0, py::arg("first_omega") = 1.0,
           py::arg("gabor_scale") = 1.0, py::arg("normalize") = false)
      .def_property_readonly("n_params", &MlpShape::n_params)
      .def_property_readonly("n_hidden", &MlpShape::n_hidden);
  m.def("mlp_forward",
        [](const MlpShape& shape, Object input, Object params, Object output, Object hidden, Object scale, Object shift) {
          const Modulation mod{scale, shift};
          if (is_bf16(shape, input)) forward<float, Bf16>(shape, input, params, output, hidden, mod, kForwardBf16);
          else if (is_f64(input)) forward<double>(shape, input, params, output, hidden, mod, &mlp_forward_f64);
          else forward<float>(shape, input, params, output, hidden, mod, &mlp_forward_f32);
        },
        py::arg("shape"), py::arg("input"), py::arg("params"), py::arg("output"), none("hidden"), none("scale"), none("shift"));
  m.def("mlp_backward",
        [](const MlpShape& shape, Object grad_output, Object input, Object params, Object hidden, Object output,
           Object grad_input, Object grad_params, Object scale, Object shift, Object grad_scale, Object grad_shift) {
          const Modulation mod{scale, shift, grad_scale, grad_shift};
          const auto run = [&](auto kernel) {
            backward(shape, grad_output, input, params, hidden, output, grad_input, grad_params, mod, kernel);
          };
          if (is_bf16(shape, input)) run(kBackwardBf16);
          else if (is_f64(input)) run(&mlp_backward_f64);
          else run(&mlp_backward_f32);
        },
        py::arg("shape"), py::arg("grad_output"), py::arg("input"), py::arg("params"), py::arg("hidden"),
        py::arg("output"), py::arg("grad_input"), py::arg("grad_params"), none("scale"), none("shift"),
        none("grad_scale"), none("grad_shift"));
  m.def("mlp_second",
        [](const MlpShape& shape, Object tangents, Object grad_output, Object input, Object params, Object hidden,
           Object output, Object grad_grad_output, Object grad_input, Object grad_params, Object scale, Object shift,
           Object grad_scale, Object grad_shift, Object scale_tangents, Object shift_tangents) {
          if (shape.precision == Precision::bf16)
            throw py::value_error("mlp: second derivatives need float32 precision, got bf16.");
          const Modulation mod{scale, shift, grad_scale, grad_shift, scale_tangents, shift_tangents};
          const auto run = [&](auto kernel) {
            second(shape, tangents, grad_output, input, params, hidden, output, grad_grad_output, grad_input, grad_params,
                   mod, kernel);
          };
          if (is_f64(input)) run(&mlp_second_f64);
          else run(&mlp_second_f32);
        },
        py::arg("shape"), py::arg("tangents"), py::arg("grad_output"), py::arg("input"), py::arg("params"),
        py::arg("hidden"), py::arg("output"), py::arg("grad_grad_output"), py::arg("grad_input"),
        py::arg("grad_params"), none("scale"), none("shift"), none("grad_scale"), none("grad_shift"),
        none("scale_tangents"), none("shift_tangents"));
}

}  // namespace nf
