#include <string>
#include <vector>

#include "bind/ops.h"
#include "bind/tensor.h"
#include "ops/voxels/voxels.h"

namespace nf {
namespace {

LatticeInterpolation interpolation_from_name(const std::string& name) {
  if (name == "linear") return LatticeInterpolation::linear;
  if (name == "smoothstep") return LatticeInterpolation::smoothstep;
  throw py::value_error("interpolation: needs linear or smoothstep, got '" + name + "'.");
}

VoxelsShape shape_of(const std::vector<int>& resolution, int n_channels, int n_harmonics, const std::string& interpolation,
                     const std::vector<bool>& wrap) {
  bool wraps[kLatticeMaxDims] = {};
  if (!wrap.empty() && wrap.size() != resolution.size())
    throw py::value_error("wrap: needs one value per axis, got " + std::to_string(wrap.size()) + ".");
  for (std::size_t d = 0; d < wrap.size() && d < kLatticeMaxDims; ++d) wraps[d] = wrap[d];
  return voxels_shape(resolution.data(), wraps, static_cast<int>(resolution.size()), n_channels, n_harmonics,
                      interpolation_from_name(interpolation));
}

template <class T>
VoxelsArgs<T> common(const VoxelsShape& shape, const py::object& positions, const py::object& grid, const py::object& directions) {
  VoxelsArgs<T> args{};
  args.shape = shape;
  args.positions = tensor_data<T>(positions, "positions", {-1, shape.grid.n_dims});
  args.n = view_tensor(positions, "positions").shape[0];
  args.directions = optional_data<T>(directions, "directions", {args.n, 3});
  args.grid = optional_data<T>(grid, "grid", {shape.grid.n_vertices(), shape.grid.n_channels});
  return args;
}

template <class T>
void forward(const VoxelsShape& shape, const py::object& positions, const py::object& grid, const py::object& directions,
             const py::object& output, void (*kernel)(const VoxelsArgs<T>&)) {
  VoxelsArgs<T> args = common<T>(shape, positions, grid, directions);
  args.output = tensor_data<T>(output, "output", {args.n, shape.n_output()});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void backward(const VoxelsShape& shape, const py::object& grad_output, const py::object& positions, const py::object& grid,
              const py::object& directions, const py::object& grad_positions, const py::object& grad_grid,
              void (*kernel)(const VoxelsArgs<T>&)) {
  VoxelsArgs<T> args = common<T>(shape, positions, grid, directions);
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, shape.n_output()});
  args.grad_positions = optional_data<T>(grad_positions, "grad_positions", {args.n, shape.grid.n_dims});
  args.grad_grid = optional_data<T>(grad_grid, "grad_grid", {shape.grid.n_vertices(), shape.grid.n_channels});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void second(const VoxelsShape& shape, const py::object& tangents, const py::object& grad_output, const py::object& positions,
            const py::object& grid, const py::object& directions, const py::object& grad_grad_output,
            const py::object& grad_positions, const py::object& grad_grid, void (*kernel)(const VoxelsArgs<T>&)) {
  VoxelsArgs<T> args = common<T>(shape, positions, grid, directions);
  args.tangents = tensor_data<T>(tangents, "tangents", {args.n, shape.grid.n_dims});
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, shape.n_output()});
  args.grad_grad_output = tensor_data<T>(grad_grad_output, "grad_grad_output", {args.n, shape.n_output()});
  args.grad_positions = tensor_data<T>(grad_positions, "grad_positions", {args.n, shape.grid.n_dims});
  args.grad_grid = optional_data<T>(grad_grid, "grad_grid", {shape.grid.n_vertices(), shape.grid.n_channels});
  const py::gil_scoped_release release;
  kernel(args);
}

bool is_f64(const py::object& tensor) { return view_tensor(tensor, "positions").dtype == Dtype::f64; }

}  // namespace

void bind_voxels(OpModule& m) {
  py::class_<VoxelsShape>(m, "VoxelsShape", py::module_local(kLocalTypes))
      .def(py::init(&shape_of), py::arg("resolution"), py::arg("n_channels"), py::arg("n_harmonics"),
           py::arg("interpolation"), py::arg("wrap"))
      .def_property_readonly("n_vertices", [](const VoxelsShape& shape) { return shape.grid.n_vertices(); })
      .def_property_readonly("n_output", &VoxelsShape::n_output);

  m.def("voxels_forward",
        [](const VoxelsShape& shape, const py::object& positions, const py::object& grid, const py::object& directions,
           const py::object& output) {
          if (is_f64(positions)) forward<double>(shape, positions, grid, directions, output, &voxels_forward_f64);
          else forward<float>(shape, positions, grid, directions, output, &voxels_forward_f32);
        },
        py::arg("shape"), py::arg("positions"), py::arg("grid").none(false), py::arg("directions"), py::arg("output"));
  m.def("voxels_backward_grid",
        [](const VoxelsShape& shape, const py::object& grad_output, const py::object& positions,
           const py::object& directions, const py::object& grad_grid) {
          if (is_f64(positions))
            backward<double>(shape, grad_output, positions, py::none(), directions, py::none(), grad_grid,
                             &voxels_backward_grid_f64);
          else
            backward<float>(shape, grad_output, positions, py::none(), directions, py::none(), grad_grid,
                            &voxels_backward_grid_f32);
        },
        py::arg("shape"), py::arg("grad_output"), py::arg("positions"), py::arg("directions"),
        py::arg("grad_grid").none(false));
  m.def("voxels_backward_positions",
        [](const VoxelsShape& shape, const py::object& grad_output, const py::object& positions, const py::object& grid,
           const py::object& directions, const py::object& grad_positions) {
          if (is_f64(positions))
            backward<double>(shape, grad_output, positions, grid, directions, grad_positions, py::none(),
                             &voxels_backward_positions_f64);
          else
            backward<float>(shape, grad_output, positions, grid, directions, grad_positions, py::none(),
                            &voxels_backward_positions_f32);
        },
        py::arg("shape"), py::arg("grad_output"), py::arg("positions"), py::arg("grid").none(false),
        py::arg("directions"), py::arg("grad_positions").none(false));
  m.def("voxels_second",
        [](const VoxelsShape& shape, const py::object& tangents, const py::object& grad_output,
           const py::object& positions, const py::object& grid, const py::object& directions,
           const py::object& grad_grad_output, const py::object& grad_positions, const py::object& grad_grid) {
          if (is_f64(positions))
            second<double>(shape, tangents, grad_output, positions, grid, directions, grad_grad_output, grad_positions,
                           grad_grid, &voxels_second_f64);
          else
            second<float>(shape, tangents, grad_output, positions, grid, directions, grad_grad_output, grad_positions,
                          grad_grid, &voxels_second_f32);
        },
        py::arg("shape"), py::arg("tangents"), py::arg("grad_output"), py::arg("positions"),
        py::arg("grid").none(false), py::arg("directions"), py::arg("grad_grad_output"), py::arg("grad_positions"),
        py::arg("grad_grid"));
}

}  // namespace nf
