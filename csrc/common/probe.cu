// Whether a GPU can run what this module holds.
#include "common/cuda.cuh"
#include "common/probe.h"

NF_BEGIN
#ifdef NF_CUDA_EMULATED

const char* probe() { return ""; }

#else
namespace {

__global__ void probe_kernel() {}

}  // namespace

const char* probe() {
  cudaFuncAttributes attributes;
  const cudaError_t status = cudaFuncGetAttributes(&attributes, probe_kernel);
  if (status == cudaSuccess) return "";
  cudaGetLastError();  // what was found is said; it is no error of what comes next
  return cudaGetErrorString(status);
}

#endif

NF_END
