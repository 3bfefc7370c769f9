// What every CUDA launch shares: errors that name the operation, grid sizes, scratch memory.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "common/macros.h"

NF_BEGIN

constexpr int kBlockThreads = 256;

inline void check_cuda(const char* op, cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(std::string(op) + ": CUDA error: " + cudaGetErrorString(status) + ".");
}

// Which index of [0, n) a thread of `launch` has; those of the last block may lie beyond n.
__device__ inline std::int64_t thread_index() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// Runs kernel(arguments...) with n_blocks x n_rows blocks on the current device; none where either is 0.
template <class... Parameters, class... Arguments>
void launch_blocks(const char* op, Stream stream, std::int64_t n_blocks, int n_rows, std::size_t shared_bytes,
                   void (*kernel)(Parameters...), const Arguments&... arguments) {
  if (n_blocks == 0 || n_rows == 0) return;
  if (n_blocks > 0x7fffffff) throw std::runtime_error(std::string(op) + ": too many numbers for one CUDA launch.");
  const dim3 grid(static_cast<unsigned>(n_blocks), static_cast<unsigned>(n_rows));
  kernel<<<grid, kBlockThreads, shared_bytes, stream>>>(arguments...);
  check_cuda(op, cudaGetLastError());
}

// The same with a thread per index of [0, n), for each of n_rows values of blockIdx.y.
template <class Kernel, class... Arguments>
void launch_rows(const char* op, Stream stream, std::int64_t n, int n_rows, Kernel kernel, const Arguments&... arguments) {
  launch_blocks(op, stream, (n + kBlockThreads - 1) / kBlockThreads, n_rows, 0, kernel, arguments...);
}
template <class Kernel, class... Arguments>
void launch(const char* op, Stream stream, std::int64_t n, Kernel kernel, const Arguments&... arguments) {
  launch_rows(op, stream, n, 1, kernel, arguments...);
}

// Uninitialised device memory in stream order: it may go out of scope while the stream still works.
template <class T>
class DeviceScratch {
 public:
  DeviceScratch(const char* op, Stream stream, std::int64_t n) : stream_(stream) {
    if (n > 0) check_cuda(op, cudaMallocAsync(reinterpret_cast<void**>(&data_), static_cast<std::size_t>(n) * sizeof(T), stream));
  }
  ~DeviceScratch() {
    if (data_ != nullptr) cudaFreeAsync(data_, stream_);
  }
  DeviceScratch(const DeviceScratch&) = delete;
  DeviceScratch& operator=(const DeviceScratch&) = delete;
  T* data() const { return data_; }

 private:
  Stream stream_;
  T* data_ = nullptr;
};

NF_END
