// What every CUDA launch shares: errors that name the operation, grid sizes, scratch memory.
//
// The host compiler takes the same files with NF_CUDA_EMULATED, where tests/device/emulated stands in
// for the toolkit's headers and runs a block's threads in turn: tests of kernels without a GPU.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "common/macros.h"

NF_BEGIN

constexpr int kBlockThreads = 256;

// What helps against an error that is not the program's.
inline const char* cuda_remedy(cudaError_t status) {
  if (status == cudaErrorNoKernelImageForDevice) return " The module was built for other GPUs: run 'make cuda' on this machine.";
  if (status == cudaErrorInsufficientDriver) return " Update the driver, or build the module with an older CUDA toolkit.";
  return "";
}

inline void check_cuda(const char* op, cudaError_t status) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(op) + ": CUDA error: " + cudaGetErrorString(status) + "." + cuda_remedy(status));
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
#ifdef NF_CUDA_EMULATED
  emulated::run(grid, kBlockThreads, shared_bytes, stream, [&] { kernel(arguments...); });
#else
  kernel<<<grid, kBlockThreads, shared_bytes, stream>>>(arguments...);
#endif
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

// Dynamic shared memory of a block, for numbers of any type.
__device__ inline double* shared_memory() {
#ifdef NF_CUDA_EMULATED
  return emulated::shared_memory();
#else
  extern __shared__ double shared[];
  return shared;
#endif
}

// Uninitialised device memory of n numbers, nullptr for none. It goes back to torch when the call
// does, which is early enough: what torch gives it to next is behind the kernels in the same stream.
template <class T>
T* scratch(std::int64_t n) {
  return n > 0 ? static_cast<T*>(scratch_memory(static_cast<std::size_t>(n) * sizeof(T))) : nullptr;
}

NF_END
