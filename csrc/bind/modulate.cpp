#include "bind/ops.h"
#include "bind/tensor.h"
#include "ops/modulate/modulate.h"

namespace nf {
namespace {

template <class T>
ModulateArgs<T> common(const py::object& features, const py::object& scale, bool normalize) {
  ModulateArgs<T> args{};
  args.features = tensor_data<T>(features, "features", {-1, -1});
  const TensorView view = view_tensor(features, "features");
  if (view.shape[1] < 1) throw py::value_error("features: needs at least one channel, got none.");
  if (view.shape[1] > (1 << 24)) throw py::value_error("features: needs at most 2^24 channels.");
  args.n = view.shape[0];
  args.n_channels = static_cast<int>(view.shape[1]);
  args.scale = tensor_data<T>(scale, "scale", {args.n});
  args.normalize = normalize;
  return args;
}

template <class T>
void forward(const py::object& features, const py::object& scale, const py::object& shift, bool normalize,
             const py::object& output, void (*kernel)(const ModulateArgs<T>&)) {
  ModulateArgs<T> args = common<T>(features, scale, normalize);
  args.shift = tensor_data<T>(shift, "shift", {args.n});
  args.output = tensor_data<T>(output, "output", {args.n, args.n_channels});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void backward(const py::object& grad_output, const py::object& features, const py::object& scale, bool normalize,
              const py::object& grad_features, const py::object& grad_scale, const py::object& grad_shift,
              void (*kernel)(const ModulateArgs<T>&)) {
  ModulateArgs<T> args = common<T>(features, scale, normalize);
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, args.n_channels});
  args.grad_features = tensor_data<T>(grad_features, "grad_features", {args.n, args.n_channels});
  args.grad_scale = tensor_data<T>(grad_scale, "grad_scale", {args.n});
  args.grad_shift = tensor_data<T>(grad_shift, "grad_shift", {args.n});
  const py::gil_scoped_release release;
  kernel(args);
}

bool is_f64(const py::object& tensor) { return view_tensor(tensor, "features").dtype == Dtype::f64; }

}  // namespace

void bind_modulate(OpModule& m) {
  m.def("modulate_forward",
        [](const py::object& features, const py::object& scale, const py::object& shift, bool normalize,
           const py::object& output) {
          if (is_f64(features)) forward<double>(features, scale, shift, normalize, output, &modulate_forward_f64);
          else forward<float>(features, scale, shift, normalize, output, &modulate_forward_f32);
        },
        py::arg("features"), py::arg("scale"), py::arg("shift"), py::arg("normalize"), py::arg("output"));
  m.def("modulate_backward",
        [](const py::object& grad_output, const py::object& features, const py::object& scale, bool normalize,
           const py::object& grad_features, const py::object& grad_scale, const py::object& grad_shift) {
          if (is_f64(features))
            backward<double>(grad_output, features, scale, normalize, grad_features, grad_scale, grad_shift,
                             &modulate_backward_f64);
          else
            backward<float>(grad_output, features, scale, normalize, grad_features, grad_scale, grad_shift,
                            &modulate_backward_f32);
        },
        py::arg("grad_output"), py::arg("features"), py::arg("scale"), py::arg("normalize"), py::arg("grad_features"),
        py::arg("grad_scale"), py::arg("grad_shift"));
}

}  // namespace nf
