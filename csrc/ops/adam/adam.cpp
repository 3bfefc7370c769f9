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
void adam(const AdamArgs<T>& args) {
  const T rate = adam_rate(args);
  const std::int64_t blocks = (args.n + kAdamBlock - 1) / kAdamBlock;
  parallel_chunks(blocks, 1024, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      if (args.touched != nullptr) {
        if (args.touched[block] == 0) continue;
        args.touched[block] = 0;
      }
      const std::int64_t first = block * kAdamBlock, left = args.n - first;
      if (left >= kAdamBlock)
        update_block(args, rate, first, kAdamBlock);
      else
        update_block(args, rate, first, static_cast<int>(left));
    }
  });
}

}  // namespace

void adam_f32(const AdamArgs<float>& args) { adam(args); }
#ifndef NF_FAST_PATH
void adam_f64(const AdamArgs<double>& args) { adam(args); }
#endif

NF_END
