// One task per block of rays; a ray is a short serial scan.
#include "ops/composite/composite.h"

#include "common/loops.h"

NF_BEGIN
namespace {

constexpr std::int64_t kRays = 256;

template <class T, class F>
void for_rays(const CompositeArgs<T>& args, F&& f) {
  parallel_chunks(args.n_rays, kRays, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t ray = begin; ray < end; ++ray) f(args, ray);
  });
}

}  // namespace

void composite_forward_f32(const CompositeArgs<float>& args) { for_rays(args, composite_forward_ray<float>); }
void composite_backward_f32(const CompositeArgs<float>& args) { for_rays(args, composite_backward_ray<float>); }
#ifndef NF_FAST_PATH
void composite_forward_f64(const CompositeArgs<double>& args) { for_rays(args, composite_forward_ray<double>); }
void composite_backward_f64(const CompositeArgs<double>& args) { for_rays(args, composite_backward_ray<double>); }
#endif

NF_END
