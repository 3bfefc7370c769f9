// The CUDA module: neural_fields._cuda. Importing it needs no driver and touches no device.
#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "bind/op_module.h"
#include "bind/ops.h"
#include "bind/scene.h"

namespace nf {
namespace {

void check(const std::string& op, cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(op + ": CUDA error: " + cudaGetErrorString(status) + ".");
}

thread_local cuda::Stream running_stream = nullptr;

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

void copy_to_host(void* to, const void* from, std::size_t n_bytes) {
  if (n_bytes == 0) return;
  const py::gil_scoped_release release;
  check("copy to host", cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToHost, running_stream));
  check("copy to host", cudaStreamSynchronize(running_stream));
}

LaunchScope::LaunchScope(const char* op, std::initializer_list<py::handle> tensors, StreamHandle stream)
    : previous_stream_(running_stream) {
  py::handle first;
  int device = -1;
  for (const py::handle& tensor : tensors) {
    if (!tensor || tensor.is_none()) continue;
    const TensorView view = view_tensor(tensor, op);
    if (!view.on_cuda) continue;  // the binding refuses it by its name
    if (first && view.device_index != device)
      throw py::value_error(std::string(op) + ": needs all tensors on one GPU, got them on " + std::to_string(device) +
                            " and " + std::to_string(view.device_index) + ".");
    first = tensor;
    device = view.device_index;
  }
  if (!first) return;
  const std::uintptr_t handle = stream ? *stream : current_stream_of(first, device);
  int previous = 0;
  check(op, cudaGetDevice(&previous));
  check(op, cudaSetDevice(device));
  previous_device_ = previous;
  running_stream = reinterpret_cast<cuda::Stream>(handle);
}

LaunchScope::~LaunchScope() {
  running_stream = previous_stream_;
  if (previous_device_ >= 0) cudaSetDevice(previous_device_);
}

}  // namespace nf

PYBIND11_MODULE(_cuda, module) {
  module.doc() = "The CUDA core of neural_fields.";
  module.def("device_count", &nf::device_count, "Number of usable GPUs; 0 without a driver.");
  module.def("device_name", &nf::device_name, nf::py::arg("index"));
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
