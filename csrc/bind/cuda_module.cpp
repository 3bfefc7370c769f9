// The CUDA module: neural_fields._cuda. Importing it needs no driver and touches no device. NF_MODULE
// is its name, since tests compile an emulated one.
#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "bind/op_module.h"
#include "bind/ops.h"
#include "bind/scene.h"
#include "common/probe.h"

namespace nf {
namespace {

void check(const std::string& op, cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(op + ": CUDA error: " + cudaGetErrorString(status) + ".");
}

thread_local cuda::Stream running_stream = nullptr;
thread_local int running_device = 0;
thread_local std::vector<py::object> scratch_tensors;  // of the bindings that are running

// 0 where there is no GPU, or no driver that this module can work with.
int device_count() {
  int n = 0;
  const cudaError_t status = cudaGetDeviceCount(&n);
  if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver) return 0;
  check("device_count", status);
  return n;
}

std::string device_name(int index) {
  int n = 0;
  const cudaError_t status = cudaGetDeviceCount(&n);
  if (status != cudaSuccess)
    throw std::runtime_error(std::string("device_name: no GPU can be used here: ") + cudaGetErrorString(status) + ".");
  if (index < 0 || index >= n)
    throw py::index_error("index: needs one of " + std::to_string(n) + " devices from 0 on, got " + std::to_string(index) + ".");
  cudaDeviceProp properties;
  check("device_name", cudaGetDeviceProperties(&properties, index));
  return properties.name;
}

std::string runtime_version() {
  int version = 0;
  check("runtime_version", cudaRuntimeGetVersion(&version));
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

cuda::Stream cuda::current_stream() { return running_stream; }

// A tensor of torch's, so that all memory of a process is torch's to count, to reuse and to keep for a
// graph that is captured. It lives as long as the running binding does.
void* cuda::scratch_memory(std::size_t n_bytes) {
  const py::gil_scoped_acquire acquire;
  const py::module_ torch = py::module_::import("torch");
  const py::object device = torch.attr("device")(kOnCuda ? "cuda" : "cpu", running_device);
  scratch_tensors.push_back(torch.attr("empty")(n_bytes, py::arg("dtype") = torch.attr("uint8"), py::arg("device") = device));
  return view_tensor(scratch_tensors.back(), "scratch memory").data;
}

LaunchScope::LaunchScope(const char* op, std::initializer_list<py::handle> tensors)
    : previous_stream_(running_stream), n_scratch_(scratch_tensors.size()) {
  py::handle first;
  int device = -1;
  for (const py::handle& tensor : tensors) {
    if (!tensor || tensor.is_none()) continue;
    const TensorView view = view_tensor(tensor, op);
    if (view.on_cuda != kOnCuda) continue;  // the binding refuses it by its name
    if (first && view.device_index != device)
      throw py::value_error(std::string(op) + ": needs all tensors on one GPU, got them on " + std::to_string(device) +
                            " and " + std::to_string(view.device_index) + ".");
    first = tensor;
    device = view.device_index;
  }
  if (!first) return;
  const std::uintptr_t handle = current_stream_of(first, device);
  if (kOnCuda) {
    int current = 0;
    check(op, cudaGetDevice(&current));
    // By torch, which goes back without waking a GPU that nobody uses.
    if (current != device) {
      other_device_ = py::module_::import("torch").attr("cuda").attr("device")(device);
      other_device_.attr("__enter__")();
    }
  }
  running_stream = reinterpret_cast<cuda::Stream>(handle);
  running_device = device;
}

LaunchScope::~LaunchScope() {
  running_stream = previous_stream_;
  scratch_tensors.resize(n_scratch_);
  if (other_device_) other_device_.attr("__exit__")(py::none(), py::none(), py::none());
}

}  // namespace nf

PYBIND11_MODULE(NF_MODULE, module) {
  module.doc() = "The CUDA core of neural_fields.";
  module.def("device_count", &nf::device_count, "Number of usable GPUs; 0 without a driver.");
  module.def("device_name", &nf::device_name, nf::py::arg("index"));
  module.def("device_status", &nf::cuda::probe, "Why the current GPU cannot be used; empty where it can.");
  module.def("architectures", [] { return NF_CUDA_ARCHITECTURES; }, "What the module was built for.");
  module.def("runtime_version", &nf::runtime_version, "CUDA runtime that the module was built with.");
  nf::OpModule m(module);
  nf::bind_hash_grid(m);
  nf::bind_mlp(m);
  nf::bind_rays(m);
  nf::bind_adam(m);
  nf::bind_frequency(m);
  nf::bind_spherical_harmonics(m);
  nf::bind_tensor_planes(m);
  nf::bind_voxels(m);
  nf::bind_modulate(m);
  nf::bind_distill(m);
  nf::bind_rbf(m);
}
