// Adam on CUDA: one thread per number.
//
// Traffic: 4 numbers read and 3 written (4 with `clear`), all coalesced, so bandwidth is the only
// limit. With `touched`, the 16 threads of a block of numbers read its byte, and where it is 0 they
// read nothing else; the first of them clears it.
//
// Not taken: lists of touched blocks. They would save the threads that find a 0, but making such a
// list is a scan of its own, and reading one byte per 16 numbers is already 1/256 of a dense sweep.
#include "common/cuda.cuh"
#include "ops/adam/adam.h"

NF_BEGIN
namespace {

static_assert(32 % kAdamBlock == 0, "a block of numbers needs to lie in one warp");

template <class T>
__global__ void adam_kernel(const __grid_constant__ AdamArgs<T> args, T rate) {
  const std::int64_t i = thread_index();
  const bool visit = i < args.n && (args.touched == nullptr || args.touched[i / kAdamBlock] != 0);
  __syncwarp();  // all threads of the block have read its byte before it is cleared
  if (!visit) return;
  if (args.touched != nullptr && i % kAdamBlock == 0) args.touched[i / kAdamBlock] = 0;
  const AdamNumber<T> next = adam_number(args, rate, args.grads[i], args.params[i], args.first[i], args.second[i]);
  args.params[i] = next.param;
  args.first[i] = next.first;
  args.second[i] = next.second;
  if (args.clear) args.grads[i] = 0;
}

template <class T>
void adam(const AdamArgs<T>& args, Stream stream) {
  launch("adam", stream, args.n, adam_kernel<T>, args, adam_rate(args));
}

}  // namespace

void adam_f32(const AdamArgs<float>& args, Stream stream) { adam(args, stream); }
void adam_f64(const AdamArgs<double>& args, Stream stream) { adam(args, stream); }

NF_END
