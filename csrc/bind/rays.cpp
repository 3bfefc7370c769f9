// march, occupancy and composite.
#include <pybind11/stl.h>

#include "bind/ops.h"
#include "bind/scene.h"
#include "ops/composite/composite.h"

namespace nf {
namespace {

template <class T>
struct CompositeTensors {
  CompositeArgs<T> args{};
  CompositeTensors(const py::object& offsets, const py::object& t_starts, const py::object& t_ends,
                   const py::object& density, const py::object& color, double stop) {
    args.offsets = tensor_data<std::int64_t>(offsets, "offsets", {-1});
    args.n_rays = view_tensor(offsets, "offsets").shape[0] - 1;
    args.t_starts = tensor_data<T>(t_starts, "t_starts", {-1});
    n = view_tensor(t_starts, "t_starts").shape[0];
    args.t_ends = tensor_data<T>(t_ends, "t_ends", {n});
    args.density = tensor_data<T>(density, "density", {n});
    args.color = tensor_data<T>(color, "color", {n, 3});
    args.stop = static_cast<T>(stop);
    args.n = n;
    check_offsets(args.offsets, args.n_rays, n);
  }
  std::int64_t n = 0;
};

template <class T>
void composite_forward(const py::object& offsets, const py::object& t_starts, const py::object& t_ends,
                       const py::object& density, const py::object& color, double stop, const py::object& ray_color,
                       const py::object& opacity, const py::object& depth, const py::object& distortion,
                       const py::object& weights, void (*kernel)(const CompositeArgs<T>&)) {
  CompositeTensors<T> tensors(offsets, t_starts, t_ends, density, color, stop);
  CompositeArgs<T>& args = tensors.args;
  args.ray_color = tensor_data<T>(ray_color, "ray_color", {args.n_rays, 3});
  args.opacity = tensor_data<T>(opacity, "opacity", {args.n_rays});
  args.depth = tensor_data<T>(depth, "depth", {args.n_rays});
  args.distortion = optional_data<T>(distortion, "distortion", {args.n_rays});
  args.weights = optional_data<T>(weights, "weights", {tensors.n});
  const py::gil_scoped_release release;
  kernel(args);
}

template <class T>
void composite_backward(const py::object& offsets, const py::object& t_starts, const py::object& t_ends,
                        const py::object& density, const py::object& color, double stop, const py::object& grad_color,
                        const py::object& grad_opacity, const py::object& grad_depth, const py::object& grad_distortion,
                        const py::object& grad_weights, const py::object& grad_density,
                        const py::object& grad_sample_color, void (*kernel)(const CompositeArgs<T>&)) {
  CompositeTensors<T> tensors(offsets, t_starts, t_ends, density, color, stop);
  CompositeArgs<T>& args = tensors.args;
  args.grad_color = optional_data<T>(grad_color, "grad_color", {args.n_rays, 3});
  args.grad_opacity = optional_data<T>(grad_opacity, "grad_opacity", {args.n_rays});
  args.grad_depth = optional_data<T>(grad_depth, "grad_depth", {args.n_rays});
  args.grad_distortion = optional_data<T>(grad_distortion, "grad_distortion", {args.n_rays});
  args.grad_weights = optional_data<T>(grad_weights, "grad_weights", {tensors.n});
  args.grad_density = tensor_data<T>(grad_density, "grad_density", {tensors.n});
  args.grad_sample_color = tensor_data<T>(grad_sample_color, "grad_sample_color", {tensors.n, 3});
  const py::gil_scoped_release release;
  kernel(args);
}

bool is_f64(const py::object& tensor) { return view_tensor(tensor, "t_starts").dtype == Dtype::f64; }

// On a GPU nobody looks; kernels pass over what does not exist.
void check_indices(const std::int64_t* indices, std::int64_t n, std::int64_t end, const char* name) {
  if (kOnCuda) return;
  for (std::int64_t i = 0; i < n; ++i)
    if (indices[i] < 0 || indices[i] >= end)
      throw py::index_error(std::string(name) + ": needs indices from 0 and below " + std::to_string(end) + ", got " +
                            std::to_string(indices[i]) + ".");
}

MarchArgs march_args(const MarchScene& scene, const py::object& words, const py::object& origins,
                     const py::object& directions, const py::object& jitter, const py::object& offsets) {
  MarchArgs args{};
  args.scene = scene_with_words(scene, words);
  args.origins = tensor_data<float>(origins, "origins", {-1, 3});
  args.n_rays = view_tensor(origins, "origins").shape[0];
  args.directions = tensor_data<float>(directions, "directions", {args.n_rays, 3});
  args.jitter = optional_data<float>(jitter, "jitter", {args.n_rays});
  args.offsets = tensor_data<std::int64_t>(offsets, "offsets", {args.n_rays + 1});
  return args;
}

void bind_march(OpModule& m) {
  m.def("march_distance_at",
        [](const MarchScene& scene, float n) { return portable::StepLattice(scene).distance_at(n); }, py::arg("scene"),
        py::arg("n"));
  m.def("march_index_at",
        [](const MarchScene& scene, float t) { return portable::StepLattice(scene).index_at(t); }, py::arg("scene"),
        py::arg("t"));
  m.def("march_count",
        [](const MarchScene& scene, const py::object& words, const py::object& origins, const py::object& directions,
           const py::object& jitter, const py::object& offsets) {
          const MarchArgs args = march_args(scene, words, origins, directions, jitter, offsets);
          const py::gil_scoped_release release;
          march_count(args);
        },
        py::arg("scene"), py::arg("words"), py::arg("origins"), py::arg("directions"), py::arg("jitter"),
        py::arg("offsets"));
  m.def("march_fill",
        [](const MarchScene& scene, const py::object& words, const py::object& origins, const py::object& directions,
           const py::object& jitter, const py::object& offsets, const py::object& t_starts, const py::object& t_ends) {
          MarchArgs args = march_args(scene, words, origins, directions, jitter, offsets);
          args.t_starts = tensor_data<float>(t_starts, "t_starts", {-1});
          args.n = view_tensor(t_starts, "t_starts").shape[0];
          args.t_ends = tensor_data<float>(t_ends, "t_ends", {args.n});
          check_offsets(args.offsets, args.n_rays, args.n);
          const py::gil_scoped_release release;
          march_fill(args);
        },
        py::arg("scene"), py::arg("words"), py::arg("origins"), py::arg("directions"), py::arg("jitter"),
        py::arg("offsets"), py::arg("t_starts"), py::arg("t_ends"));
  m.def("march_into",
        [](MarchScene scene, const py::object& words, const py::object& origins, const py::object& directions,
           const py::object& jitter, const py::object& grids, const py::object& offsets, const py::object& t_starts,
           const py::object& t_ends, const py::object& positions, const py::object& used) {
          MarchIntoArgs args{};
          args.samples = ray_samples(origins, directions, offsets, t_starts, t_ends, positions);
          args.samples.jitter = tensor_data<float>(jitter, "jitter", {args.samples.n_rays});
          args.scene = scene;
          args.n_grids = 1;
          if (grids.is_none()) {
            args.scene.words = words_data(scene.grid, words);
          } else {
            const std::int64_t n_words = portable::occupancy_cells(scene.grid) / 64;
            args.scene.words = reinterpret_cast<std::uint64_t*>(tensor_data<std::int64_t>(words, "words", {-1, n_words}));
            args.n_grids = view_tensor(words, "words").shape[0];
            args.grids = tensor_data<std::int64_t>(grids, "grids", {args.samples.n_rays});
            check_indices(args.grids, args.samples.n_rays, args.n_grids, "grids");
          }
          args.used = tensor_data<std::int64_t>(used, "used", {2});
          const py::gil_scoped_release release;
          march_into(args);
        },
        py::arg("scene"), py::arg("words"), py::arg("origins"), py::arg("directions"), py::arg("jitter"),
        py::arg("grids"), py::arg("offsets"), py::arg("t_starts"), py::arg("t_ends"), py::arg("positions"),
        py::arg("used"));
}

OccupancyArgs occupancy_args(int resolution, int n_cascades) {
  OccupancyArgs args{};
  args.shape = checked_occupancy(resolution, n_cascades);
  return args;
}

void list_cells(OccupancyArgs& args, const py::object& cells) {
  args.cells = tensor_data<std::int64_t>(cells, "cells", {-1});
  args.n = view_tensor(cells, "cells").shape[0];
  check_indices(args.cells, args.n, portable::occupancy_cells(args.shape), "cells");
}

void bind_occupancy(OpModule& m) {
  m.def("occupancy_points",
        [](int resolution, int n_cascades, const py::object& cells, std::uint64_t seed, std::uint64_t stream,
           const py::object& positions) {
          OccupancyArgs args = occupancy_args(resolution, n_cascades);
          list_cells(args, cells);
          args.positions = tensor_data<float>(positions, "positions", {args.n, 3});
          args.seed = seed;
          args.stream = stream;
          const py::gil_scoped_release release;
          occupancy_points(args);
        },
        py::arg("resolution"), py::arg("n_cascades"), py::arg("cells"), py::arg("seed"), py::arg("stream"),
        py::arg("positions"));
  m.def("occupancy_update",
        [](int resolution, int n_cascades, const py::object& values, const py::object& cells, const py::object& fresh,
           double decay) {
          OccupancyArgs args = occupancy_args(resolution, n_cascades);
          args.values = tensor_data<float>(values, "values", {portable::occupancy_cells(args.shape)});
          list_cells(args, cells);
          args.fresh = tensor_data<float>(fresh, "fresh", {args.n});
          args.decay = static_cast<float>(decay);
          const py::gil_scoped_release release;
          occupancy_update(args);
        },
        py::arg("resolution"), py::arg("n_cascades"), py::arg("values"), py::arg("cells"), py::arg("fresh"),
        py::arg("decay"));
  m.def("occupancy_words",
        [](int resolution, int n_cascades, const py::object& values, double threshold, const py::object& words) {
          OccupancyArgs args = occupancy_args(resolution, n_cascades);
          args.values = tensor_data<float>(values, "values", {portable::occupancy_cells(args.shape)});
          args.words = words_data(args.shape, words);
          args.threshold = static_cast<float>(threshold);
          const py::gil_scoped_release release;
          occupancy_words(args);
        },
        py::arg("resolution"), py::arg("n_cascades"), py::arg("values"), py::arg("threshold"), py::arg("words"));
}

void bind_composite(OpModule& m) {
  m.def("composite_forward",
        [](const py::object& offsets, const py::object& t_starts, const py::object& t_ends, const py::object& density,
           const py::object& color, double stop, const py::object& ray_color, const py::object& opacity,
           const py::object& depth, const py::object& distortion, const py::object& weights) {
          if (is_f64(t_starts))
            composite_forward<double>(offsets, t_starts, t_ends, density, color, stop, ray_color, opacity, depth,
                                      distortion, weights, &composite_forward_f64);
          else
            composite_forward<float>(offsets, t_starts, t_ends, density, color, stop, ray_color, opacity, depth,
                                     distortion, weights, &composite_forward_f32);
        },
        py::arg("offsets"), py::arg("t_starts"), py::arg("t_ends"), py::arg("density"), py::arg("color"),
        py::arg("stop"), py::arg("ray_color"), py::arg("opacity"), py::arg("depth"), py::arg("distortion") = py::none(),
        py::arg("weights") = py::none());
  m.def("composite_backward",
        [](const py::object& offsets, const py::object& t_starts, const py::object& t_ends, const py::object& density,
           const py::object& color, double stop, const py::object& grad_color, const py::object& grad_opacity,
           const py::object& grad_depth, const py::object& grad_distortion, const py::object& grad_weights,
           const py::object& grad_density, const py::object& grad_sample_color) {
          if (is_f64(t_starts))
            composite_backward<double>(offsets, t_starts, t_ends, density, color, stop, grad_color, grad_opacity,
                                       grad_depth, grad_distortion, grad_weights, grad_density, grad_sample_color,
                                       &composite_backward_f64);
          else
            composite_backward<float>(offsets, t_starts, t_ends, density, color, stop, grad_color, grad_opacity,
                                      grad_depth, grad_distortion, grad_weights, grad_density, grad_sample_color,
                                      &composite_backward_f32);
        },
        py::arg("offsets"), py::arg("t_starts"), py::arg("t_ends"), py::arg("density"), py::arg("color"),
        py::arg("stop"), py::arg("grad_color"), py::arg("grad_opacity"), py::arg("grad_depth"),
        py::arg("grad_distortion"), py::arg("grad_weights"), py::arg("grad_density"), py::arg("grad_sample_color"));
}

}  // namespace

void bind_rays(OpModule& m) {
  bind_scene(m);
  bind_march(m);
  bind_occupancy(m);
  bind_composite(m);
}

}  // namespace nf
