// The CPU module: neural_fields._core.
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "bind/ops.h"
#include "common/cpu.h"
#include "common/memory.h"
#include "common/parallel.h"

namespace py = pybind11;

namespace {

nf::Isa isa_from_name(const std::string& name) {
  for (const nf::Isa isa : {nf::Isa::portable, nf::Isa::avx2, nf::Isa::avx512, nf::Isa::amx, nf::Isa::amx_emulated})
    if (name == nf::isa_name(isa)) return isa;
  throw std::invalid_argument("isa: needs one of portable, avx2, avx512, amx, amx-emulated, got '" + name + "'.");
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The native CPU core of neural_fields.";
  m.def("best_isa", [] { return nf::isa_name(nf::best_isa()); });
  m.def("active_isa", [] { return nf::isa_name(nf::active_isa()); });
  m.def("set_isa", [](const std::string& name) { nf::set_isa(isa_from_name(name)); }, py::arg("name"));
  m.def("has_avx512_bf16", &nf::has_avx512_bf16);
  m.def("num_threads", &nf::num_threads);
  m.def("set_num_threads", &nf::set_num_threads, py::arg("n"));
  m.def("keep_freed_memory", &nf::keep_freed_memory);
  nf::bind_hash_grid(m);
  nf::bind_mlp(m);
  nf::bind_rays(m);
  nf::bind_adam(m);
  nf::bind_radiance(m);
  nf::bind_slope(m);
  nf::bind_frame(m);
  nf::bind_rate(m);
  nf::bind_frequency(m);
  nf::bind_spherical_harmonics(m);
  nf::bind_tensor_planes(m);
  nf::bind_voxels(m);
  nf::bind_modulate(m);
  nf::bind_distill(m);
  nf::bind_rbf(m);
  nf::bind_limits(m);
}
