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

template <class T, class F>
void for_rest(const CompositeArgs<T>& args, F&& f) {
  for (std::int64_t i = packed_end(args.offsets, args.n_rays, args.n); i < args.n; ++i) f(args, i);
}

template <class T>
void forward(const CompositeArgs<T>& args) {
  for_rays(args, composite_forward_ray<T>);
  if (args.weights != nullptr) for_rest(args, composite_forward_rest<T>);
}

template <class T>
void backward(const CompositeArgs<T>& args) {
  for_rays(args, composite_backward_ray<T>);
  for_rest(args, composite_backward_rest<T>);
}

}  // namespace

void composite_forward_f32(const CompositeArgs<float>& args) { forward(args); }
void composite_backward_f32(const CompositeArgs<float>& args) { backward(args); }
#ifndef NF_FAST_PATH
void composite_forward_f64(const CompositeArgs<double>& args) { forward(args); }
void composite_backward_f64(const CompositeArgs<double>& args) { backward(args); }
#endif

NF_END
