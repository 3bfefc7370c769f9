#include <string>

#include "bind/ops.h"
#include "bind/tensor.h"
#include "ops/hash_grid/hash_grid.h"

namespace nf {
namespace {

GridIndexing indexing_from_name(const std::string& name) {
  if (name == "dense") return GridIndexing::dense;
  if (name == "hash") return GridIndexing::hash;
  if (name == "tiled") return GridIndexing::tiled;
  throw py::value_error("grid_type: needs dense, hash or tiled, got '" + name + "'.");
}

GridInterpolation interpolation_from_name(const std::string& name) {
  if (name == "linear") return GridInterpolation::linear;
  if (name == "smoothstep") return GridInterpolation::smoothstep;
  throw py::value_error("interpolation: needs linear or smoothstep, got '" + name + "'.");
}

GridConvention convention_from_name(const std::string& name) {
  if (name == "tiny-cuda-nn") return GridConvention::tiny_cuda_nn;
  if (name == "torch-ngp") return GridConvention::torch_ngp;
  throw py::value_error("convention: needs tiny-cuda-nn or torch-ngp, got '" + name + "'.");
}

std::int64_t n_entries(const HashGridShape& shape) {
  const HashGridLevel& last = shape.levels[shape.n_levels - 1];
  return last.offset + last.size;
}

template <class T>
HashGridArgs<T> common(const HashGridShape& shape, const py::object& positions, const py::object& table) {
  HashGridArgs<T> args{};
  args.shape = shape;
  args.positions = tensor_data<T>(positions, "positions", {-1, shape.n_dims});
  args.n = view_tensor(positions, "positions").shape[0];
  if (!table.is_none()) args.table = tensor_data<T>(table, "table", {n_entries(shape), shape.n_features});
  return args;
}

std::int64_t n_output(const HashGridShape& shape) { return shape.n_levels * shape.n_features; }

template <class T>
void forward(const HashGridShape& shape, const py::object& positions, const py::object& table, const py::object& output,
             void (*kernel)(const HashGridArgs<T>&)) {
  HashGridArgs<T> args = common<T>(shape, positions, table);
  args.output = tensor_data<T>(output, "output", {args.n, n_output(shape)});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void backward_table(const HashGridShape& shape, const py::object& grad_output, const py::object& positions,
                    const py::object& grad_table, const py::object& touched, void (*kernel)(const HashGridArgs<T>&)) {
  HashGridArgs<T> args = common<T>(shape, positions, py::none());
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, n_output(shape)});
  args.grad_table = tensor_data<T>(grad_table, "grad_table", {n_entries(shape), shape.n_features});
  args.touched = optional_data<unsigned char>(touched, "touched", {(n_entries(shape) * shape.n_features + 15) / 16});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void backward_positions(const HashGridShape& shape, const py::object& grad_output, const py::object& positions,
                        const py::object& table, const py::object& grad_positions, void (*kernel)(const HashGridArgs<T>&)) {
  HashGridArgs<T> args = common<T>(shape, positions, table);
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, n_output(shape)});
  args.grad_positions = tensor_data<T>(grad_positions, "grad_positions", {args.n, shape.n_dims});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void second(const HashGridShape& shape, const py::object& tangents, const py::object& grad_output,
            const py::object& positions, const py::object& table, const py::object& grad_grad_output,
            const py::object& grad_positions, const py::object& grad_table, void (*kernel)(const HashGridArgs<T>&)) {
  HashGridArgs<T> args = common<T>(shape, positions, table);
  args.tangents = tensor_data<T>(tangents, "tangents", {args.n, shape.n_dims});
  args.grad_output = tensor_data<T>(grad_output, "grad_output", {args.n, n_output(shape)});
  args.grad_grad_output = tensor_data<T>(grad_grad_output, "grad_grad_output", {args.n, n_output(shape)});
  args.grad_positions = tensor_data<T>(grad_positions, "grad_positions", {args.n, shape.n_dims});
  args.grad_table = optional_data<T>(grad_table, "grad_table", {n_entries(shape), shape.n_features});
  const py::gil_scoped_release release;
  kernel(args);
}

py::list level_table(const HashGridShape& shape) {
  py::list levels;
  for (int l = 0; l < shape.n_levels; ++l) {
    const HashGridLevel& level = shape.levels[l];
    const char* names[] = {"dense", "hash", "tiled"};
    levels.append(py::make_tuple(level.scale, level.resolution, level.size, level.offset,
                                 names[static_cast<int>(level.indexing)]));
  }
  return levels;
}

bool is_f64(const py::object& tensor) { return view_tensor(tensor, "positions").dtype == Dtype::f64; }

}  // namespace

void bind_hash_grid(OpModule& m) {
  py::class_<HashGridShape>(m, "HashGridShape", py::module_local(kLocalTypes))
      .def(py::init([](int n_dims, int n_levels, int n_features, int log2_table_size, int base_resolution,
                       double per_level_scale, const std::string& grid_type, const std::string& interpolation,
                       const std::string& convention) {
             return hash_grid_shape(n_dims, n_levels, n_features, log2_table_size, base_resolution, per_level_scale,
                                    indexing_from_name(grid_type), interpolation_from_name(interpolation),
                                    convention_from_name(convention));
           }),
           py::arg("n_dims"), py::arg("n_levels"), py::arg("n_features"), py::arg("log2_table_size"),
           py::arg("base_resolution"), py::arg("per_level_scale"), py::arg("grid_type"), py::arg("interpolation"),
           py::arg("convention"))
      .def_readonly("n_dims", &HashGridShape::n_dims)
      .def_readonly("n_features", &HashGridShape::n_features)
      .def_readonly("n_levels", &HashGridShape::n_levels)
      .def_property_readonly("n_entries", &n_entries)
      .def_property_readonly("levels", &level_table, "Per level (scale, resolution, size, offset, indexing).");

  m.def("hash_grid_forward",
        [](const HashGridShape& shape, const py::object& positions, const py::object& table, const py::object& output) {
          if (is_f64(positions)) forward<double>(shape, positions, table, output, &hash_grid_forward_f64);
          else forward<float>(shape, positions, table, output, &hash_grid_forward_f32);
        },
        py::arg("shape"), py::arg("positions"), py::arg("table"), py::arg("output"));
  m.def("hash_grid_backward_table",
        [](const HashGridShape& shape, const py::object& grad_output, const py::object& positions,
           const py::object& grad_table, const py::object& touched) {
          if (is_f64(positions))
            backward_table<double>(shape, grad_output, positions, grad_table, touched, &hash_grid_backward_table_f64);
          else
            backward_table<float>(shape, grad_output, positions, grad_table, touched, &hash_grid_backward_table_f32);
        },
        py::arg("shape"), py::arg("grad_output"), py::arg("positions"), py::arg("grad_table"),
        py::arg("touched") = py::none());
  m.def("hash_grid_backward_positions",
        [](const HashGridShape& shape, const py::object& grad_output, const py::object& positions,
           const py::object& table, const py::object& grad_positions) {
          if (is_f64(positions))
            backward_positions<double>(shape, grad_output, positions, table, grad_positions, &hash_grid_backward_positions_f64);
          else
            backward_positions<float>(shape, grad_output, positions, table, grad_positions, &hash_grid_backward_positions_f32);
        },
        py::arg("shape"), py::arg("grad_output"), py::arg("positions"), py::arg("table"), py::arg("grad_positions"));
  m.def("hash_grid_second",
        [](const HashGridShape& shape, const py::object& tangents, const py::object& grad_output,
           const py::object& positions, const py::object& table, const py::object& grad_grad_output,
           const py::object& grad_positions, const py::object& grad_table) {
          if (is_f64(positions))
            second<double>(shape, tangents, grad_output, positions, table, grad_grad_output, grad_positions, grad_table,
                           &hash_grid_second_f64);
          else
            second<float>(shape, tangents, grad_output, positions, table, grad_grad_output, grad_positions, grad_table,
                          &hash_grid_second_f32);
        },
        py::arg("shape"), py::arg("tangents"), py::arg("grad_output"), py::arg("positions"), py::arg("table"),
        py::arg("grad_grad_output"), py::arg("grad_positions"), py::arg("grad_table"));
}

}  // namespace nf
