#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind/ops.h"
#include "bind/tensor.h"
#include "fused/frame.h"

namespace nf {
namespace {

using Levels = std::vector<std::array<int, 3>>;

FrameShape make_shape(const Levels& levels, int motion_width, int motion_height, const MlpShape& network) {
  const int n = levels.size() > kFrameMaxLevels ? kFrameMaxLevels + 1 : static_cast<int>(levels.size());
  int sizes[kFrameMaxLevels + 1][3] = {};
  for (int l = 0; l < n && l < kFrameMaxLevels; ++l)
    for (int i = 0; i < 3; ++i) sizes[l][i] = levels[static_cast<std::size_t>(l)][static_cast<std::size_t>(i)];
  return frame_shape(sizes, n, motion_width, motion_height, network);
}

FrameArgs frame_args(const FrameShape& shape, const std::array<float, 4>& place, const py::object& positions,
                     const py::object& grids, const py::object& motion, const py::object& params) {
  FrameArgs args{};
  args.shape = shape;
  args.positions = tensor_data<float>(positions, "positions", {-1, 2});
  args.n = view_tensor(positions, "positions").shape[0];
  args.grids = tensor_data<float>(grids, "grids", {shape.n_grids});
  args.params = tensor_data<float>(params, "params", {shape.network.n_params()});
  if (shape.motion.width > 0)
    args.motion = tensor_data<float>(motion, "motion", {shape.motion.height, shape.motion.width, 2});
  for (int d = 0; d < 2; ++d) {
    args.scale[d] = place[static_cast<std::size_t>(d)];
    args.offset[d] = place[static_cast<std::size_t>(2 + d)];
  }
  return args;
}

std::int64_t n_values(const FrameShape& shape) { return shape.network.widths[shape.network.n_layers]; }

void forward(const FrameShape& shape, const std::array<float, 4>& place, const py::object& positions, const py::object& grids,
             const py::object& motion, const py::object& params, const py::object& output) {
  FrameArgs args = frame_args(shape, place, positions, grids, motion, params);
  args.output = tensor_data<float>(output, "output", {args.n, n_values(shape)});
  const py::gil_scoped_release release;
  frame_forward(args);
}

// (first moment and perhaps the next, how far towards it) of one grid.
using Slice = std::pair<py::object, float>;

FrameSlice slice_of(const Slice& slice, const char* name, int height, int width, int channels) {
  const std::int64_t moments = view_tensor(slice.first, name).shape[0];
  if (moments != 1 && moments != 2) throw std::invalid_argument(std::string("frame: ") + name + " needs one or two moments.");
  const float* lower = tensor_data<float>(slice.first, name, {moments, height, width, channels});
  const std::int64_t n = std::int64_t(height) * width * channels;
  return {lower, moments == 2 ? lower + n : nullptr, slice.second};
}

void lattice(const FrameShape& shape, const std::array<float, 4>& place, const py::object& x, const py::object& y,
             const std::vector<Slice>& levels, const std::optional<Slice>& motion, const std::array<float, 2>& unit,
             const py::object& params, const py::object& output) {
  FrameLatticeArgs args{};
  args.shape = shape;
  args.x = tensor_data<float>(x, "x", {-1});
  args.y = tensor_data<float>(y, "y", {-1});
  args.width = view_tensor(x, "x").shape[0];
  args.height = view_tensor(y, "y").shape[0];
  if (levels.size() != static_cast<std::size_t>(shape.n_levels)) throw std::invalid_argument("frame: needs a slice per level.");
  for (int l = 0; l < shape.n_levels; ++l) {
    const FrameLevel& level = shape.levels[l];
    args.levels[l] = slice_of(levels[static_cast<std::size_t>(l)], "level", level.height, level.width, level.n_channels);
  }
  if (motion.has_value() != (shape.motion.width > 0)) throw std::invalid_argument("frame: motion needs to be as in the shape.");
  if (motion.has_value()) args.motion = slice_of(*motion, "motion", shape.motion.height, shape.motion.width, 2);
  args.params = tensor_data<float>(params, "params", {shape.network.n_params()});
  for (std::size_t d = 0; d < 2; ++d) {
    args.unit[d] = unit[d];
    args.scale[d] = place[d];
    args.offset[d] = place[2 + d];
  }
  args.output = tensor_data<float>(output, "output", {args.height, args.width, n_values(shape)});
  const py::gil_scoped_release release;
  frame_lattice(args);
}

void backward(const FrameShape& shape, const std::array<float, 4>& place, const py::object& positions, const py::object& grids,
              const py::object& motion, const py::object& params, const py::object& grad_output, const py::object& grad_grids,
              const py::object& grad_motion, const py::object& grad_params) {
  FrameArgs args = frame_args(shape, place, positions, grids, motion, params);
  args.grad_output = tensor_data<float>(grad_output, "grad_output", {args.n, n_values(shape)});
  args.grad_grids = tensor_data<float>(grad_grids, "grad_grids", {shape.n_grids});
  args.grad_params = tensor_data<float>(grad_params, "grad_params", {shape.network.n_params()});
  if (shape.motion.width > 0)
    args.grad_motion = tensor_data<float>(grad_motion, "grad_motion", {shape.motion.height, shape.motion.width, 2});
  const py::gil_scoped_release release;
  frame_backward(args);
}

}  // namespace

void bind_frame(py::module_& m) {
  py::class_<FrameShape>(m, "FrameShape")
      .def(py::init(&make_shape), py::arg("levels"), py::arg("motion_width"), py::arg("motion_height"), py::arg("network"))
      .def_readonly("n_grids", &FrameShape::n_grids);
  m.def("frame_forward", &forward, py::arg("shape"), py::arg("place"), py::arg("positions"), py::arg("grids"),
        py::arg("motion"), py::arg("params"), py::arg("output"));
  m.def("frame_lattice", &lattice, py::arg("shape"), py::arg("place"), py::arg("x"), py::arg("y"), py::arg("levels"),
        py::arg("motion"), py::arg("unit"), py::arg("params"), py::arg("output"));
  m.def("frame_backward", &backward, py::arg("shape"), py::arg("place"), py::arg("positions"), py::arg("grids"),
        py::arg("motion"), py::arg("params"), py::arg("grad_output"), py::arg("grad_grids"), py::arg("grad_motion"),
        py::arg("grad_params"));
}

}  // namespace nf
