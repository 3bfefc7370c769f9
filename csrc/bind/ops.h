// One binding file per operation.
#pragma once

#include <pybind11/pybind11.h>

namespace nf {

void bind_hash_grid(pybind11::module_& m);
void bind_mlp(pybind11::module_& m);
void bind_rays(pybind11::module_& m);
void bind_adam(pybind11::module_& m);
void bind_radiance(pybind11::module_& m);
void bind_frequency(pybind11::module_& m);
void bind_spherical_harmonics(pybind11::module_& m);

}  // namespace nf
