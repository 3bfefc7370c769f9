// Tensors cross the boundary without libtorch: by DLPack's C exchange API where the tensor's type
// offers it, else through its data_ptr(), shape, stride(), dtype and device.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/bf16.h"

namespace nf {

namespace py = pybind11;

enum class Dtype { f32, f64, bf16, i32, i64, u8, boolean, other };
const char* dtype_name(Dtype dtype);

struct TensorView {
  void* data = nullptr;
  std::vector<std::int64_t> shape;
  bool contiguous = false;
  bool on_cuda = false;
  int device_index = 0;
  Dtype dtype = Dtype::other;

  std::int64_t numel() const;
};

TensorView view_tensor(const py::handle& tensor, const char* name);

// What a binding demands of a tensor; -1 in `shape` stands for any length.
// Throws py::value_error / py::type_error that name the argument, what was needed and what came.
TensorView require_tensor(const py::handle& tensor, const char* name, Dtype dtype,
                          const std::vector<std::int64_t>& shape, bool on_cuda = false);

template <class T>
constexpr Dtype dtype_of();
template <>
constexpr Dtype dtype_of<float>() { return Dtype::f32; }
template <>
constexpr Dtype dtype_of<double>() { return Dtype::f64; }
template <>
constexpr Dtype dtype_of<Bf16>() { return Dtype::bf16; }
template <>
constexpr Dtype dtype_of<std::int32_t>() { return Dtype::i32; }
template <>
constexpr Dtype dtype_of<std::int64_t>() { return Dtype::i64; }
template <>
constexpr Dtype dtype_of<unsigned char>() { return Dtype::u8; }

// Where a module's tensors are. What is on a GPU is not read here: that would wait for it.
#if defined(NF_CUDA_MODULE) && !defined(NF_CUDA_EMULATED)
constexpr bool kOnCuda = true;
#else
constexpr bool kOnCuda = false;
#endif
// The raw cudaStream_t that is current for a tensor's library on its device.
std::uintptr_t current_stream_of(const py::handle& tensor, int device_index);

// The data of a required tensor, or of an optional one (None gives nullptr).
template <class T>
T* tensor_data(const py::handle& tensor, const char* name, const std::vector<std::int64_t>& shape) {
  return static_cast<T*>(require_tensor(tensor, name, dtype_of<T>(), shape, kOnCuda).data);
}
template <class T>
T* optional_data(const py::handle& tensor, const char* name, const std::vector<std::int64_t>& shape) {
  return tensor.is_none() ? nullptr : tensor_data<T>(tensor, name, shape);
}

}  // namespace nf
