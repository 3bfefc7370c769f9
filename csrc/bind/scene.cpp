#include "bind/scene.h"

#include <pybind11/stl.h>

#include <array>
#include <cmath>

namespace nf {
namespace {

using Point = std::array<float, 3>;

MarchScene make_scene(const Point& box_min, const Point& box_max, const Point& center, float unit, float step, float cone,
                      float max_step, float near, float far, int max_samples, int resolution, int n_cascades) {
  MarchScene scene{};
  for (int d = 0; d < 3; ++d) {
    if (!(box_min[d] < box_max[d])) throw py::value_error("box: needs box_min < box_max on every axis.");
    scene.box_min[d] = box_min[d];
    scene.box_max[d] = box_max[d];
    scene.center[d] = center[d];
  }
  if (!(unit > 0 && step > 0 && max_step >= step && cone >= 0 && near >= 0 && far > near) || !std::isfinite(unit))
    throw py::value_error("scene: needs unit > 0, 0 < step <= max_step, cone >= 0 and 0 <= near < far.");
  if (max_samples < 1 || max_samples > 65536)
    throw py::value_error("max_samples: needs 1 to 65536, got " + std::to_string(max_samples) + ".");
  scene.unit = unit;
  scene.step = step;
  scene.cone = cone;
  scene.max_step = max_step;
  scene.near = near;
  scene.far = far;
  scene.max_samples = max_samples;
  scene.grid = checked_occupancy(resolution, n_cascades);
  return scene;
}

}  // namespace

OccupancyShape checked_occupancy(int resolution, int n_cascades) {
  if (resolution < 4 || resolution > 512 || resolution % 4 != 0)
    throw py::value_error("resolution: needs a multiple of 4 from 4 to 512, got " + std::to_string(resolution) + ".");
  if (n_cascades < 1 || n_cascades > 8)
    throw py::value_error("n_cascades: needs 1 to 8, got " + std::to_string(n_cascades) + ".");
  return {resolution, n_cascades};
}

std::uint64_t* words_data(const OccupancyShape& shape, const py::object& words) {
  return reinterpret_cast<std::uint64_t*>(
      tensor_data<std::int64_t>(words, "words", {portable::occupancy_cells(shape) / 64}));
}

MarchScene scene_with_words(MarchScene scene, const py::object& words) {
  scene.words = words_data(scene.grid, words);
  return scene;
}

void check_offsets(const std::int64_t* offsets, std::int64_t n_rays, std::int64_t n_samples) {
  if (n_rays < 0) throw py::value_error("offsets: needs shape [n_rays + 1], got none.");
  if (kOnCuda) return;  // a look would wait for the GPU; kernels cut what they read to the list
  bool ok = offsets[0] == 0 && offsets[n_rays] <= n_samples;
  for (std::int64_t r = 0; ok && r < n_rays; ++r) ok = offsets[r] <= offsets[r + 1];
  if (!ok)
    throw py::value_error("offsets: needs a non-decreasing list from 0 to at most the number of samples, " +
                          std::to_string(n_samples) + ".");
}

RaySamples ray_samples(const py::object& origins, const py::object& directions, const py::object& offsets,
                       const py::object& t_starts, const py::object& t_ends, const py::object& positions) {
  RaySamples samples{};
  samples.origins = tensor_data<float>(origins, "origins", {-1, 3});
  samples.n_rays = view_tensor(origins, "origins").shape[0];
  samples.directions = tensor_data<float>(directions, "directions", {samples.n_rays, 3});
  samples.offsets = tensor_data<std::int64_t>(offsets, "offsets", {samples.n_rays + 1});
  samples.t_starts = tensor_data<float>(t_starts, "t_starts", {-1});
  samples.capacity = view_tensor(t_starts, "t_starts").shape[0];
  samples.t_ends = tensor_data<float>(t_ends, "t_ends", {samples.capacity});
  samples.positions = tensor_data<float>(positions, "positions", {samples.capacity, 3});
  return samples;
}

void bind_scene(OpModule& m) {
  py::class_<MarchScene>(m, "MarchScene", py::module_local(kLocalTypes))
      .def(py::init(&make_scene), py::arg("box_min"), py::arg("box_max"), py::arg("center"), py::arg("unit"),
           py::arg("step"), py::arg("cone"), py::arg("max_step"), py::arg("near"), py::arg("far"),
           py::arg("max_samples"), py::arg("resolution"), py::arg("n_cascades"));
}

}  // namespace nf
