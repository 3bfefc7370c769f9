// One binding file per operation.
#pragma once

#include "bind/op_module.h"

namespace nf {

void bind_hash_grid(OpModule& m);
void bind_mlp(OpModule& m);
void bind_rays(OpModule& m);
void bind_adam(OpModule& m);
void bind_radiance(pybind11::module_& m);
void bind_slope(pybind11::module_& m);
void bind_frame(pybind11::module_& m);
void bind_rate(pybind11::module_& m);
void bind_frequency(OpModule& m);
void bind_spherical_harmonics(OpModule& m);
void bind_tensor_planes(OpModule& m);
void bind_voxels(OpModule& m);
void bind_modulate(OpModule& m);
void bind_distill(OpModule& m);
void bind_rbf(OpModule& m);
void bind_limits(pybind11::module_& m);

}  // namespace nf
