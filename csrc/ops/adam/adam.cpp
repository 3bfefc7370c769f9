#include "ops/adam/adam.h"

#include <cmath>
#include <cstring>

#include "common/loops.h"

NF_BEGIN
namespace {

constexpr int kBlock = 16;

// A block of at most 16 numbers; the loop has no branches, so compilers turn it into lanes.
template <class T>
NF_INLINE void update_block(const AdamArgs<T>& args, T rate, std::int64_t begin, int n) {
  T *p = args.params + begin, *g = args.grads + begin, *m = args.first + begin, *v = args.second + begin;
  for (int i = 0; i < n; ++i) {
    const bool keep = args.skip_zero && g[i] == 0;
    const T gradient = g[i] + args.l2 * p[i];
    const T mean = args.beta1 * m[i] + (1 - args.beta1) * gradient;
    const T square = args.beta2 * v[i] + (1 - args.beta2) * gradient * gradient;
    const T moved = p[i] - rate * mean / (std::sqrt(square) + args.eps);
    p[i] = keep ? p[i] : moved;
    m[i] = keep ? m[i] : mean;
    v[i] = keep ? v[i] : square;
  }
  if (args.clear) std::memset(g, 0, sizeof(T) * static_cast<std::size_t>(n));
}

template <class T>
void adam(const AdamArgs<T>& args) {
  const double step = static_cast<double>(args.step);
  const double correction = std::sqrt(1 - std::pow(static_cast<double>(args.beta2), step)) /
                            (1 - std::pow(static_cast<double>(args.beta1), step));
  const T rate = static_cast<T>(static_cast<double>(args.rate) * correction);
  const std::int64_t blocks = (args.n + kBlock - 1) / kBlock;
  parallel_chunks(blocks, 1024, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      if (args.touched != nullptr) {
        if (args.touched[block] == 0) continue;
        args.touched[block] = 0;
      }
      const std::int64_t first = block * kBlock, left = args.n - first;
      if (left >= kBlock)
        update_block(args, rate, first, kBlock);
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
