// The hot path of surfaces.
#include <pybind11/stl.h>

#include "bind/ops.h"
#include "bind/tensor.h"
#include "fused/slope.h"

namespace nf {
namespace {

SlopeArgs slope_args(const HashGridShape& grid, const MlpShape& network, const py::object& table, const py::object& params,
                     int n_levels, const py::object& positions, const py::object& encoded) {
  check_slope_trunk(grid, network);
  if (n_levels < 1 || n_levels > grid.n_levels)
    throw py::value_error("slope: n_levels needs 1 to " + std::to_string(grid.n_levels) + ", got " + std::to_string(n_levels) + ".");
  const HashGridLevel& last = grid.levels[grid.n_levels - 1];
  SlopeArgs args{};
  args.trunk.grid = grid;
  args.trunk.network = network;
  args.trunk.table = tensor_data<float>(table, "table", {last.offset + last.size, grid.n_features});
  args.trunk.params = tensor_data<float>(params, "params", {network.n_params()});
  args.trunk.n_levels = n_levels;
  args.positions = tensor_data<float>(positions, "positions", {-1, 3});
  args.n = view_tensor(positions, "positions").shape[0];
  args.encoded = tensor_data<float>(encoded, "encoded", {args.n, network.widths[0]});
  return args;
}

void forward(const HashGridShape& grid, const MlpShape& network, const py::object& table, const py::object& params,
             int n_levels, const py::object& positions, const py::object& encoded, const py::object& features,
             const py::object& slope) {
  SlopeArgs args = slope_args(grid, network, table, params, n_levels, positions, encoded);
  args.features = tensor_data<float>(features, "features", {args.n, network.widths[network.n_layers]});
  if (!slope.is_none()) args.slope = tensor_data<float>(slope, "slope", {args.n, 3});
  const py::gil_scoped_release release;
  slope_forward(args);
}

void backward(const HashGridShape& grid, const MlpShape& network, const py::object& table, const py::object& params,
              int n_levels, const py::object& positions, const py::object& encoded, const py::object& grad_features,
              const py::object& grad_slope, const py::object& grad_table, const py::object& touched,
              const py::object& grad_params) {
  SlopeArgs args = slope_args(grid, network, table, params, n_levels, positions, encoded);
  const HashGridLevel& last = grid.levels[grid.n_levels - 1];
  const std::int64_t entries = last.offset + last.size;
  args.grad_features = tensor_data<float>(grad_features, "grad_features", {args.n, network.widths[network.n_layers]});
  args.grad_slope = tensor_data<float>(grad_slope, "grad_slope", {args.n, 3});
  args.grad_table = tensor_data<float>(grad_table, "grad_table", {entries, grid.n_features});
  args.touched = tensor_data<unsigned char>(touched, "touched", {(entries * grid.n_features + 15) / 16});
  args.grad_params = tensor_data<float>(grad_params, "grad_params", {network.n_params()});
  const py::gil_scoped_release release;
  slope_backward(args);
}

}  // namespace

void bind_slope(py::module_& m) {
  m.def("check_slope_trunk", &check_slope_trunk, py::arg("grid"), py::arg("network"));
  m.def("slope_forward", &forward, py::arg("grid"), py::arg("network"), py::arg("table"), py::arg("params"),
        py::arg("n_levels"), py::arg("positions"), py::arg("encoded"), py::arg("features"), py::arg("slope") = py::none());
  m.def("slope_backward", &backward, py::arg("grid"), py::arg("network"), py::arg("table"), py::arg("params"),
        py::arg("n_levels"), py::arg("positions"), py::arg("encoded"), py::arg("grad_features"), py::arg("grad_slope"),
        py::arg("grad_table"), py::arg("touched"), py::arg("grad_params"));
}

}  // namespace nf
