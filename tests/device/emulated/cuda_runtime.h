// CUDA's device language on the host: a launch runs block after block, and a block's threads in turn,
// each until it waits for the others. What waits are fibres, a stack each.
//
// Threads run in an order that no GPU has, and never at once: races between barriers go unseen, as do
// rounding and speed of a GPU. What is seen: indices, bounds, barriers that not all threads reach,
// shared memory that is too small, and every line of arithmetic.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __grid_constant__
#define __forceinline__ inline

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulated {

extern dim3 block_of_grid, thread_of_block, size_of_grid, size_of_block;

// Calls `thread` once for each thread of the grid. Throws std::runtime_error where threads of a block
// wait for different things.
void run(dim3 grid, unsigned n_threads, std::size_t shared_bytes, cudaStream_t stream, const std::function<void()>& thread);

double* shared_memory();

void wait_for_block();
int count_in_block(bool value);       // a barrier, and how many of the block's threads have true
void wait_for_warp();
std::uint32_t votes_of_warp(bool value);
double from_lane(double value, int lane);  // what another lane of the warp has; exact for float and double

}  // namespace emulated

#define blockIdx emulated::block_of_grid
#define threadIdx emulated::thread_of_block
#define gridDim emulated::size_of_grid
#define blockDim emulated::size_of_block

inline void __syncthreads() { emulated::wait_for_block(); }
inline int __syncthreads_count(bool value) { return emulated::count_in_block(value); }
inline void __syncwarp() { emulated::wait_for_warp(); }
inline unsigned __ballot_sync(unsigned, bool value) { return emulated::votes_of_warp(value); }
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return static_cast<T>(emulated::from_lane(value, static_cast<int>(threadIdx.x % 32) ^ mask));
}

template <class T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at = before + value;
  return before;
}
template <class T>
T atomicOr(T* at, T value) {
  const T before = *at;
  *at = before | value;
  return before;
}
