// What bindings that march share: the scene and its checks.
#pragma once

#include "bind/op_module.h"
#include "bind/tensor.h"
#include "ops/march/march.h"

namespace nf {

OccupancyShape checked_occupancy(int resolution, int n_cascades);  // throws py::value_error
std::uint64_t* words_data(const OccupancyShape& shape, const py::object& words);  // int64 [cells / 64]
MarchScene scene_with_words(MarchScene scene, const py::object& words);
// Tensors of a batch of rays, jitter apart.
RaySamples ray_samples(const py::object& origins, const py::object& directions, const py::object& offsets,
                       const py::object& t_starts, const py::object& t_ends, const py::object& positions);
void check_offsets(const std::int64_t* offsets, std::int64_t n_rays, std::int64_t n_samples);
void bind_scene(OpModule& m);

}  // namespace nf
