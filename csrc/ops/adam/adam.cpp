#include "ops/adam/adam.h"

#include <cstring>

#include "common/loops.h"

NF_BEGIN
namespace {

// A block of at most 16 numbers; the loop has no branches, so compilers turn it into lanes.
template <class T>
NF_INLINE void update_block(const AdamArgs<T>& args, T rate, std::int64_t begin, int n) {
  T *p = args.params + begin, *g = args.grads + begin, *m = args.first + begin, *v = args.second + begin;
  for (int i = 0; i < n; ++i) {
    const AdamNumber<T> next = adam_number(args, rate, g[i], p[i], m[i], v[i]);
    p[i] = next.param;
    m[i] = next.first;
    v[i] = next.second;
  }
  if (args.clear) std::memset(g, 0, sizeof(T) * static_cast<std::size_t>(n));
}

template <class T>
void update_blocks(const AdamArgs<T>& args, T rate, std::int64_t begin, std::int64_t end, const unsigned char* touched) {
  for (std::int64_t block = begin; block < end; ++block) {
    if (touched != nullptr && touched[block] == 0) continue;
    const std::int64_t first = block * kAdamBlock, left = args.n - first;
    if (left >= kAdamBlock)
      update_block(args, rate, first, kAdamBlock);
    else
      update_block(args, rate, first, static_cast<int>(left));
  }
}

// Whether a sweep over all blocks is faster than picking the touched ones: memory streams several
// times as fast as it can be picked from (measured: from a tenth of the blocks on). Numbers without
// a gradient keep still in a sweep only where zero gradients are skipped.
template <class T>
bool sweep_pays(const AdamArgs<T>& args, std::int64_t begin, std::int64_t end) {
  std::int64_t n = 0;
  for (std::int64_t block = begin; block < end; ++block) n += args.touched[block] != 0;
  return args.skip_zero && n * 10 > end - begin;
}

template <class T>
void adam(const AdamArgs<T>& args) {
  const T rate = adam_rate(args);
  const std::int64_t blocks = (args.n + kAdamBlock - 1) / kAdamBlock;
  parallel_chunks(blocks, 1024, [&](std::int64_t begin, std::int64_t end) {
    if (args.touched == nullptr) return update_blocks(args, rate, begin, end, nullptr);
    update_blocks(args, rate, begin, end, sweep_pays(args, begin, end) ? nullptr : args.touched);
    std::memset(args.touched + begin, 0, static_cast<std::size_t>(end - begin));
  });
}

}  // namespace

void adam_f32(const AdamArgs<float>& args) { adam(args); }
#ifndef NF_FAST_PATH
void adam_f64(const AdamArgs<double>& args) { adam(args); }
#endif

NF_END
