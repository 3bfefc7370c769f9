// CUB's running sum, on the host.
#pragma once

#include <cstdint>

#include "cuda_runtime.h"

namespace cub {

struct DeviceScan {
  template <class T>
  static cudaError_t InclusiveSum(void* room, std::size_t& n_bytes, const T* in, T* out, std::int64_t n, cudaStream_t) {
    if (room == nullptr) {
      n_bytes = 1;
      return cudaSuccess;
    }
    T sum = 0;
    for (std::int64_t i = 0; i < n; ++i) out[i] = sum += in[i];
    return cudaSuccess;
  }
};

}  // namespace cub
