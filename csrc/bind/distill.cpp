#include "ops/distill/distill.h"

#include "bind/ops.h"
#include "bind/scene.h"
#include "bind/tensor.h"

namespace nf {
namespace {

const bool* optional_mask(const py::object& keep, std::int64_t n) {
  if (keep.is_none()) return nullptr;
  return static_cast<const bool*>(require_tensor(keep, "keep", Dtype::boolean, {n}, kOnCuda).data);
}

bool is_f64(const py::object& tensor, const char* name) { return view_tensor(tensor, name).dtype == Dtype::f64; }

// A tensor of every level; None where it does not count.
struct Levels {
  const py::object &features, &log_density, &color;
};

// The number of samples and the widths from one such set.
template <class T>
void set_shape(DistillArgs<T>& args, const Levels& tensors, const char* name) {
  const py::object* all[kDistillLevels] = {&tensors.features, &tensors.log_density, &tensors.color};
  args.n = 0;
  for (int l = 0; l < kDistillLevels; ++l) {
    if (all[l]->is_none()) continue;
    const TensorView view = view_tensor(*all[l], name);
    if (view.shape.size() != (l == 1 ? 1u : 2u))
      throw py::value_error(std::string(name) + ": needs features [n, k], log_density [n] and color [n, 3].");
    args.n = view.shape[0];
    const std::int64_t width = l == 1 ? 1 : view.shape[1];
    if (width < 1 || width > kDistillMaxWidth)
      throw py::value_error("features: needs 1 to " + std::to_string(kDistillMaxWidth) + " per sample, got " +
                            std::to_string(width) + ".");
    args.levels[l].width = static_cast<int>(width);
    args.levels[l].log_density = l != 2;
  }
}

// Sets one pointer of every level that counts.
template <class T, class Pointer>
void set_levels(DistillArgs<T>& args, const Levels& tensors, Pointer DistillLevel<T>::*member) {
  const std::int64_t n = args.n;
  DistillLevel<T>* levels = args.levels;
  if (levels[0].width > 0) levels[0].*member = optional_data<T>(tensors.features, "features", {n, levels[0].width});
  if (levels[1].width > 0) levels[1].*member = optional_data<T>(tensors.log_density, "log_density", {n});
  if (levels[2].width > 0) levels[2].*member = optional_data<T>(tensors.color, "color", {n, 3});
}

template <class T, class Pointer>
void set_all_levels(DistillArgs<T>& args, const Levels& tensors, Pointer DistillLevel<T>::*member, const char* name) {
  set_levels(args, tensors, member);
  for (const DistillLevel<T>& level : args.levels)
    if (level.width > 0 && level.*member == nullptr && args.n > 0)
      throw py::value_error(std::string(name) + ": needs the levels that the student has.");
}

// What both ways read.
struct Sides {
  const Levels student, teacher;
  const py::object& keep;
  double low, high;
};

template <class T>
DistillArgs<T> make_args(const Sides& sides, const py::object& factors) {
  DistillArgs<T> args{};
  set_shape(args, sides.student, "student");
  set_all_levels(args, sides.student, &DistillLevel<T>::student, "student");
  set_all_levels(args, sides.teacher, &DistillLevel<T>::teacher, "teacher");
  args.keep = optional_mask(sides.keep, args.n);
  args.low = static_cast<T>(sides.low);
  args.high = static_cast<T>(sides.high);
  args.factors = tensor_data<T>(factors, "factors", {kDistillLevels});
  return args;
}

template <class T>
void forward(const Sides& sides, bool mean, const py::object& losses, const py::object& factors,
             void (*kernel)(const DistillArgs<T>&)) {
  DistillArgs<T> args = make_args<T>(sides, factors);
  args.mean = mean;
  args.losses = tensor_data<T>(losses, "losses", {kDistillLevels});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void backward(const Sides& sides, const py::object& grad_losses, const py::object& factors, const Levels& gradients,
              void (*kernel)(const DistillArgs<T>&)) {
  DistillArgs<T> args = make_args<T>(sides, factors);
  set_levels(args, gradients, &DistillLevel<T>::grad_student);
  args.grad_losses = tensor_data<T>(grad_losses, "grad_losses", {kDistillLevels});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void visible(const py::object& offsets, const py::object& weights, double share, double opacity, const py::object& keep,
             const py::object& output, void (*kernel)(const DistillVisibleArgs<T>&)) {
  DistillVisibleArgs<T> args{};
  args.offsets = tensor_data<std::int64_t>(offsets, "offsets", {-1});
  args.n_rays = view_tensor(offsets, "offsets").shape[0] - 1;
  args.weights = tensor_data<T>(weights, "weights", {-1});
  const std::int64_t n = view_tensor(weights, "weights").shape[0];
  args.n = n;
  check_offsets(args.offsets, args.n_rays, n);
  if (!(share >= 0 && share <= 1)) throw py::value_error("share: needs a number from 0 to 1.");
  args.share = share;
  args.opacity = opacity;
  args.keep = optional_mask(keep, n);
  args.output = static_cast<bool*>(require_tensor(output, "output", Dtype::boolean, {n}, kOnCuda).data);
  const py::gil_scoped_release release;
  kernel(args);
}

}  // namespace

void bind_distill(OpModule& m) {
  m.def("distill_forward",
        [](const py::object& student_features, const py::object& student_log_density, const py::object& student_color,
           const py::object& teacher_features, const py::object& teacher_log_density, const py::object& teacher_color,
           const py::object& keep, double low, double high, bool mean, const py::object& losses,
           const py::object& factors) {
          const Sides sides{{student_features, student_log_density, student_color},
                            {teacher_features, teacher_log_density, teacher_color},
                            keep, low, high};
          if (is_f64(losses, "losses"))
            forward<double>(sides, mean, losses, factors, &distill_forward_f64);
          else
            forward<float>(sides, mean, losses, factors, &distill_forward_f32);
        },
        py::arg("student_features"), py::arg("student_log_density"), py::arg("student_color"),
        py::arg("teacher_features"), py::arg("teacher_log_density"), py::arg("teacher_color"), py::arg("keep"),
        py::arg("low"), py::arg("high"), py::arg("mean"), py::arg("losses"), py::arg("factors"));
  m.def("distill_backward",
        [](const py::object& student_features, const py::object& student_log_density, const py::object& student_color,
           const py::object& teacher_features, const py::object& teacher_log_density, const py::object& teacher_color,
           const py::object& keep, double low, double high, const py::object& grad_losses, const py::object& factors,
           const py::object& grad_features, const py::object& grad_log_density, const py::object& grad_color) {
          const Sides sides{{student_features, student_log_density, student_color},
                            {teacher_features, teacher_log_density, teacher_color},
                            keep, low, high};
          const Levels gradients{grad_features, grad_log_density, grad_color};
          if (is_f64(factors, "factors"))
            backward<double>(sides, grad_losses, factors, gradients, &distill_backward_f64);
          else
            backward<float>(sides, grad_losses, factors, gradients, &distill_backward_f32);
        },
        py::arg("student_features"), py::arg("student_log_density"), py::arg("student_color"),
        py::arg("teacher_features"), py::arg("teacher_log_density"), py::arg("teacher_color"), py::arg("keep"),
        py::arg("low"), py::arg("high"), py::arg("grad_losses"), py::arg("factors"), py::arg("grad_features"),
        py::arg("grad_log_density"), py::arg("grad_color"));
  m.def("distill_visible",
        [](const py::object& offsets, const py::object& weights, double share, double opacity, const py::object& keep,
           const py::object& output) {
          if (is_f64(weights, "weights"))
            visible<double>(offsets, weights, share, opacity, keep, output, &distill_visible_f64);
          else
            visible<float>(offsets, weights, share, opacity, keep, output, &distill_visible_f32);
        },
        py::arg("offsets"), py::arg("weights"), py::arg("share"), py::arg("opacity"), py::arg("keep"),
        py::arg("output"));
  m.def("distill_hardest",
        [](const py::object& difficulty, const py::object& output) {
          DistillHardestArgs args{};
          args.difficulty = tensor_data<float>(difficulty, "difficulty", {-1});
          args.n = view_tensor(difficulty, "difficulty").shape[0];
          args.output = tensor_data<std::int64_t>(output, "output", {-1});
          args.k = view_tensor(output, "output").shape[0];
          if (args.k > args.n)
            throw py::value_error("output: needs at most " + std::to_string(args.n) + " indices, got " +
                                  std::to_string(args.k) + ".");
          const py::gil_scoped_release release;
          distill_hardest(args);
        },
        py::arg("difficulty"), py::arg("output"));
}

}  // namespace nf
