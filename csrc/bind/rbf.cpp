#include "bind/ops.h"
#include "bind/tensor.h"
#include "ops/rbf/rbf.h"

namespace nf {
namespace {

using Object = const py::object&;

// The parameters of the neurons, or their gradients.
struct Kernels {
  py::object centers, log_precision, weight;
};

RbfShape shape_of(Object features, const Kernels& kernels) {
  const TensorView precision = view_tensor(kernels.log_precision, "log_precision");
  const TensorView weight = view_tensor(kernels.weight, "weight"), rows = view_tensor(features, "features");
  if (rows.shape.size() != 2 || weight.shape.size() != 2) throw py::value_error("rbf: features and weight need two axes.");
  const auto length = [](std::int64_t n) { return static_cast<int>(n < (1 << 24) ? n : (1 << 24)); };
  const RbfShape shape{length(rows.shape[1]), length(weight.shape[1]), length(weight.shape[0]), precision.shape.size() == 1};
  check_rbf_shape(shape);
  return shape;
}

std::vector<std::int64_t> precision_shape(const RbfShape& shape) {
  if (shape.isotropic) return {shape.n_kernels};
  return {shape.n_kernels, shape.n_input};
}

template <class T>
RbfArgs<T> common(Object features, const Kernels& kernels) {
  RbfArgs<T> args{};
  args.shape = shape_of(features, kernels);
  args.features = tensor_data<T>(features, "features", {-1, args.shape.n_input});
  args.n = view_tensor(features, "features").shape[0];
  args.centers = tensor_data<T>(kernels.centers, "centers", {args.shape.n_kernels, args.shape.n_input});
  args.log_precision = tensor_data<T>(kernels.log_precision, "log_precision", precision_shape(args.shape));
  args.weight = tensor_data<T>(kernels.weight, "weight", {args.shape.n_output, args.shape.n_kernels});
  return args;
}

template <class T>
void forward(Object features, const Kernels& kernels, Object bias, Object output, Object activations,
             void (*kernel)(const RbfArgs<T>&)) {
  RbfArgs<T> args = common<T>(features, kernels);
  args.bias = tensor_data<T>(bias, "bias", {args.shape.n_output});
  args.output = tensor_data<T>(output, "output", {args.n, args.shape.n_output});
  args.activations = optional_data<T>(activations, "activations", {args.n, args.shape.n_kernels});
  const py::gil_scoped_release release;
  kernel(args);
}

// What the backward pass and its own derivative share.
template <class T>
RbfArgs<T> with_gradients(Object grad_output, Object features, const Kernels& kernels, Object activations,
                          Object grad_features, const Kernels& gradients) {
  RbfArgs<T> args = common<T>(features, kernels);
  const RbfShape& shape = args.shape;
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, shape.n_output});
  args.activations = tensor_data<T>(activations, "activations", {args.n, shape.n_kernels});
  args.grad_features = optional_data<T>(grad_features, "grad_features", {args.n, shape.n_input});
  args.grad_centers = optional_data<T>(gradients.centers, "grad_centers", {shape.n_kernels, shape.n_input});
  args.grad_log_precision = optional_data<T>(gradients.log_precision, "grad_log_precision", precision_shape(shape));
  args.grad_weight = optional_data<T>(gradients.weight, "grad_weight", {shape.n_output, shape.n_kernels});
  const bool wanted = args.grad_centers != nullptr;
  if ((args.grad_log_precision != nullptr) != wanted || (args.grad_weight != nullptr) != wanted)
    throw py::value_error("rbf: gradients of the parameters need to come together.");
  return args;
}

template <class T>
void backward(Object grad_output, Object features, const Kernels& kernels, Object activations, Object grad_features,
              const Kernels& gradients, Object grad_bias, void (*kernel)(const RbfArgs<T>&)) {
  RbfArgs<T> args = with_gradients<T>(grad_output, features, kernels, activations, grad_features, gradients);
  args.grad_bias = optional_data<T>(grad_bias, "grad_bias", {args.shape.n_output});
  if ((args.grad_bias != nullptr) != (args.grad_centers != nullptr))
    throw py::value_error("rbf: gradients of the parameters need to come together.");
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void second(Object tangents, Object grad_output, Object features, const Kernels& kernels, Object activations,
            Object grad_grad_output, Object grad_features, const Kernels& gradients, void (*kernel)(const RbfArgs<T>&)) {
  RbfArgs<T> args = with_gradients<T>(grad_output, features, kernels, activations, grad_features, gradients);
  args.tangents = tensor_data<T>(tangents, "tangents", {args.n, args.shape.n_input});
  args.grad_grad_output = tensor_data<T>(grad_grad_output, "grad_grad_output", {args.n, args.shape.n_output});
  const py::gil_scoped_release release;
  kernel(args);
}

bool is_f64(Object tensor) { return view_tensor(tensor, "features").dtype == Dtype::f64; }

}  // namespace

void bind_rbf(OpModule& m) {
  m.def("rbf_forward",
        [](Object features, Object centers, Object log_precision, Object weight, Object bias, Object output, Object activations) {
          const Kernels kernels{centers, log_precision, weight};
          if (is_f64(features)) forward<double>(features, kernels, bias, output, activations, &rbf_forward_f64);
          else forward<float>(features, kernels, bias, output, activations, &rbf_forward_f32);
        },
        py::arg("features"), py::arg("centers"), py::arg("log_precision"), py::arg("weight"), py::arg("bias"),
        py::arg("output"), py::arg("activations"));
  m.def("rbf_backward",
        [](Object grad_output, Object features, Object centers, Object log_precision, Object weight, Object activations,
           Object grad_features, Object grad_centers, Object grad_log_precision, Object grad_weight, Object grad_bias) {
          const Kernels kernels{centers, log_precision, weight}, gradients{grad_centers, grad_log_precision, grad_weight};
          const auto run = [&](auto kernel) {
            backward(grad_output, features, kernels, activations, grad_features, gradients, grad_bias, kernel);
          };
          if (is_f64(features)) run(&rbf_backward_f64);
          else run(&rbf_backward_f32);
        },
        py::arg("grad_output"), py::arg("features"), py::arg("centers"), py::arg("log_precision"), py::arg("weight"),
        py::arg("activations"), py::arg("grad_features"), py::arg("grad_centers"), py::arg("grad_log_precision"),
        py::arg("grad_weight"), py::arg("grad_bias"));
  m.def("rbf_second",
        [](Object tangents, Object grad_output, Object features, Object centers, Object log_precision, Object weight,
           Object activations, Object grad_grad_output, Object grad_features, Object grad_centers, Object grad_log_precision,
           Object grad_weight) {
          const Kernels kernels{centers, log_precision, weight}, gradients{grad_centers, grad_log_precision, grad_weight};
          const auto run = [&](auto kernel) {
            second(tangents, grad_output, features, kernels, activations, grad_grad_output, grad_features, gradients, kernel);
          };
          if (is_f64(features)) run(&rbf_second_f64);
          else run(&rbf_second_f32);
        },
        py::arg("tangents"), py::arg("grad_output"), py::arg("features"), py::arg("centers"), py::arg("log_precision"),
        py::arg("weight"), py::arg("activations"), py::arg("grad_grad_output"), py::arg("grad_features"),
        py::arg("grad_centers"), py::arg("grad_log_precision"), py::arg("grad_weight"));
}

}  // namespace nf
