// The fused hot path.
#include <pybind11/stl.h>

#include "bind/ops.h"
#include "bind/scene.h"
#include "fused/radiance.h"

namespace nf {
namespace {

// Shapes of a field; its tensors come with each call.
struct RadianceShape {
  RadianceField field;
};

std::int64_t n_entries(const HashGridShape& grid) {
  return grid.levels[grid.n_levels - 1].offset + grid.levels[grid.n_levels - 1].size;
}

RadianceField with_params(const RadianceShape& shape, const py::object& table, const py::object& density,
                          const py::object& color) {
  RadianceField field = shape.field;
  field.table = tensor_data<float>(table, "table", {n_entries(field.grid), field.grid.n_features});
  field.density_params = tensor_data<float>(density, "density_params", {field.density.n_params()});
  field.color_params = tensor_data<float>(color, "color_params", {field.color.n_params()});
  return field;
}

std::int64_t train(const RadianceShape& shape, const py::object& table, const py::object& density_params,
                   const py::object& color_params, const py::object& origins, const py::object& directions,
                   const py::object& offsets, const py::object& t_starts, const py::object& t_ends,
                   const py::object& positions, const py::object& target, const py::object& background,
                   const py::object& features, const py::object& grad_table, const py::object& touched,
                   const py::object& grad_density, const py::object& grad_color, const py::object& ray_loss,
                   const py::object& ray_color, float unit, float stop, float huber, std::int64_t n_loss_rays) {
  RadianceTrainArgs args{};
  args.field = with_params(shape, table, density_params, color_params);
  args.samples = ray_samples(origins, directions, offsets, t_starts, t_ends, positions);
  const std::int64_t n_rays = args.samples.n_rays, capacity = args.samples.capacity;
  const std::int64_t width = args.field.density.widths[0], entries = n_entries(args.field.grid);
  args.target = tensor_data<float>(target, "target", {n_rays, 3});
  args.background = tensor_data<float>(background, "background", {n_rays, 3});
  args.features = tensor_data<float>(features, "features", {capacity, width});
  args.grad_table = tensor_data<float>(grad_table, "grad_table", {entries, args.field.grid.n_features});
  args.touched = tensor_data<unsigned char>(touched, "touched", {(entries * args.field.grid.n_features + 15) / 16});
  args.grad_density = tensor_data<float>(grad_density, "grad_density", {args.field.density.n_params()});
  args.grad_color = tensor_data<float>(grad_color, "grad_color", {args.field.color.n_params()});
  args.ray_loss = tensor_data<float>(ray_loss, "ray_loss", {n_rays});
  args.ray_color = tensor_data<float>(ray_color, "ray_color", {n_rays, 3});
  check_offsets(args.samples.offsets, n_rays, args.samples.offsets[n_rays]);
  if (args.samples.offsets[n_rays] > capacity)
    throw py::value_error("offsets: needs at most as many samples as there is room for, " + std::to_string(capacity) + ".");
  if (!(unit > 0 && huber > 0 && n_loss_rays > 0))
    throw py::value_error("radiance_train: unit, huber and n_loss_rays need to be positive.");
  args.unit = unit;
  args.stop = stop;
  args.huber = huber;
  args.n_loss_rays = n_loss_rays;
  std::int64_t n_kept = 0;
  args.n_kept = &n_kept;
  const py::gil_scoped_release release;
  radiance_train(args);
  return n_kept;
}

void density(const RadianceShape& shape, const py::object& table, const py::object& density_params,
             const py::object& color_params, const py::object& positions, const py::object& log_density) {
  RadianceDensityArgs args{};
  args.field = with_params(shape, table, density_params, color_params);
  args.positions = tensor_data<float>(positions, "positions", {-1, 3});
  args.n = view_tensor(positions, "positions").shape[0];
  args.log_density = tensor_data<float>(log_density, "log_density", {args.n});
  const py::gil_scoped_release release;
  radiance_density(args);
}

std::int64_t render(const RadianceShape& shape, const py::object& table, const py::object& density_params,
                    const py::object& color_params, const MarchScene& scene, const py::object& words,
                    const py::object& origins, const py::object& directions, const py::object& color,
                    const py::object& opacity, const py::object& depth, float stop, float cull) {
  RadianceRenderArgs args{};
  args.field = with_params(shape, table, density_params, color_params);
  args.scene = scene_with_words(scene, words);
  args.origins = tensor_data<float>(origins, "origins", {-1, 3});
  args.n_rays = view_tensor(origins, "origins").shape[0];
  args.directions = tensor_data<float>(directions, "directions", {args.n_rays, 3});
  args.color = tensor_data<float>(color, "color", {args.n_rays, 3});
  args.opacity = tensor_data<float>(opacity, "opacity", {args.n_rays});
  args.depth = tensor_data<float>(depth, "depth", {args.n_rays});
  args.stop = stop;
  args.cull = cull;
  std::int64_t n_samples = 0;
  args.n_samples = &n_samples;
  const py::gil_scoped_release release;
  radiance_render(args);
  return n_samples;
}

}  // namespace

void bind_radiance(py::module_& m) {
  py::class_<RadianceShape>(m, "RadianceShape")
      .def(py::init([](const HashGridShape& grid, const MlpShape& density, const MlpShape& color) {
             RadianceShape shape{{grid, density, color, nullptr, nullptr, nullptr}};
             check_radiance_field(shape.field);
             return shape;
           }),
           py::arg("grid"), py::arg("density"), py::arg("color"));
  m.def("radiance_train", &train, py::arg("shape"), py::arg("table"), py::arg("density_params"),
        py::arg("color_params"), py::arg("origins"), py::arg("directions"), py::arg("offsets"), py::arg("t_starts"),
        py::arg("t_ends"), py::arg("positions"), py::arg("target"), py::arg("background"), py::arg("features"),
        py::arg("grad_table"), py::arg("touched"), py::arg("grad_density"), py::arg("grad_color"), py::arg("ray_loss"),
        py::arg("ray_color"), py::arg("unit"), py::arg("stop"), py::arg("huber"), py::arg("n_loss_rays"));
  m.def("radiance_density", &density, py::arg("shape"), py::arg("table"), py::arg("density_params"),
        py::arg("color_params"), py::arg("positions"), py::arg("log_density"));
  m.def("radiance_render", &render, py::arg("shape"), py::arg("table"), py::arg("density_params"),
        py::arg("color_params"), py::arg("scene"), py::arg("words"), py::arg("origins"), py::arg("directions"),
        py::arg("color"), py::arg("opacity"), py::arg("depth"), py::arg("stop"), py::arg("cull"));
}

}  // namespace nf
