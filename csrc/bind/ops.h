// One binding file per operation.
#pragma once

#include <pybind11/pybind11.h>

namespace nf {

void bind_hash_grid(pybind11::module_& m);
void bind_mlp(pybind11::module_& m);

}  // namespace nf
