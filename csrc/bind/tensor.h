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

// Numbers of a tensor for checks on the host: in place, or a copy from the GPU, which waits for it.
#ifdef NF_CUDA_MODULE
constexpr bool kOnCuda = true;
void copy_to_host(void* to, const void* from, std::size_t n_bytes);
template <class T>
std::vector<T> host_numbers(const T* data, std::int64_t n) {
  std::vector<T> numbers(static_cast<std::size_t>(n));
  copy_to_host(numbers.data(), data, sizeof(T) * numbers.size());
  return numbers;
}
// The raw cudaStream_t that is current for a tensor's library on its device.
std::uintptr_t current_stream_of(const py::handle& tensor, int device_index);
#else
constexpr bool kOnCuda = false;
template <class T>
const T* host_numbers(const T* data, std::int64_t) {
  return data;
}
#endif

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
