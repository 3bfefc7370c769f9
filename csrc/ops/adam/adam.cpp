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
void update(const AdamArgs<T>& args, T rate, std::int64_t block) {
  const std::int64_t first = block * kAdamBlock, left = args.n - first;
  if (left >= kAdamBlock)
    update_block(args, rate, first, kAdamBlock);
  else
    update_block(args, rate, first, static_cast<int>(left));
}

// Touched blocks lie apart in four arrays. Memory streams several times as fast as it can be picked
// from, so where many are touched all blocks are fetched, in order, and the others left alone.
template <class T>
void update_touched(const AdamArgs<T>& args, T rate, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kAhead = 16;
  std::int64_t n = 0;
  for (std::int64_t block = begin; block < end; ++block) n += args.touched[block] != 0;
  const bool stream = n * 10 > end - begin;
  for (std::int64_t block = begin; block < end; ++block) {
    if (stream && block + kAhead < end) {
      const std::int64_t first = (block + kAhead) * kAdamBlock;
      NF_PREFETCH(args.grads + first);
      NF_PREFETCH(args.params + first);
      NF_PREFETCH(args.first + first);
      NF_PREFETCH(args.second + first);
    }
    if (args.touched[block] != 0) update(args, rate, block);
  }
  std::memset(args.touched + begin, 0, static_cast<std::size_t>(end - begin));
}

template <class T>
void adam(const AdamArgs<T>& args) {
  const T rate = adam_rate(args);
  const std::int64_t blocks = (args.n + kAdamBlock - 1) / kAdamBlock;
  parallel_chunks(blocks, 1024, [&](std::int64_t begin, std::int64_t end) {
    if (args.touched != nullptr) return update_touched(args, rate, begin, end);
    for (std::int64_t block = begin; block < end; ++block) update(args, rate, block);
  });
}

}  // namespace

void adam_f32(const AdamArgs<float>& args) { adam(args); }
#ifndef NF_FAST_PATH
void adam_f64(const AdamArgs<double>& args) { adam(args); }
#endif

NF_END
