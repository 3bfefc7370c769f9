// Packed emission-absorption: densities and colours along rays -> colour, opacity, depth.
//
// Max 1995; Mildenhall et al. 2020, equation 3. With thickness a_i = sigma_i (t1_i - t0_i) and
// transmittance T_i = exp(-sum_{j<i} a_j), the weight of a sample is w_i = T_i (1 - exp(-a_i)).
// Depth is sum w_i t_i with t_i the midpoint; the distortion is Barron et al. 2022, equation 15,
// in world units. A ray ends before the sample at which T falls below `stop`.
#pragma once

#include "common/cpu.h"
#include "common/lanes.h"
#include "common/packed.h"

namespace nf {

template <class T>
struct CompositeArgs {
  std::int64_t n_rays, n;
  const std::int64_t* offsets;  // [n_rays + 1]: ray r owns the samples offsets[r] .. offsets[r + 1]; the rest, nobody
  const T* t_starts;            // [n]
  const T* t_ends;              // [n]
  const T* density;             // [n], at least 0
  const T* color;               // [n, 3]
  T stop = 0;                   // transmittance below which a ray ends; 0 = never
  T* ray_color = nullptr;       // [n_rays, 3], without background
  T* opacity = nullptr;         // [n_rays]
  T* depth = nullptr;           // [n_rays]
  T* distortion = nullptr;      // [n_rays]
  T* weights = nullptr;         // [n]; 0 beyond the end of a ray, and for samples of nobody
  const T* grad_color = nullptr;       // backward: like ray_color
  const T* grad_opacity = nullptr;
  const T* grad_depth = nullptr;
  const T* grad_distortion = nullptr;
  const T* grad_weights = nullptr;
  T* grad_density = nullptr;           // [n], overwritten
  T* grad_sample_color = nullptr;      // [n, 3], overwritten
};

}  // namespace nf

NF_KERNEL(composite_forward_f32, CompositeArgs<float>)
NF_KERNEL(composite_backward_f32, CompositeArgs<float>)
NF_KERNEL_PORTABLE(composite_forward_f64, CompositeArgs<double>)
NF_KERNEL_PORTABLE(composite_backward_f64, CompositeArgs<double>)

NF_BEGIN

// One ray front to back: calls visit(i, weight, transmittance behind sample i) until it ends.
// Returns how many samples count.
template <class T, class Visit>
NF_HD std::int64_t composite_walk(const T* t_starts, const T* t_ends, const T* density, std::int64_t n, T stop, Visit&& visit) {
  T transmittance = 1;
  for (std::int64_t i = 0; i < n; ++i) {
    if (transmittance < stop) return i;
    const T passed = lane_exp<T>(-density[i] * (t_ends[i] - t_starts[i]));
    visit(i, transmittance * (1 - passed), transmittance * passed);
    transmittance = transmittance * passed;
  }
  return n;
}

template <class T>
NF_HD void composite_forward_ray(const CompositeArgs<T>& args, std::int64_t ray) {
  const PackedRange range = packed_range(args.offsets, ray, args.n);
  const std::int64_t begin = range.begin, n = range.n;
  const T *t0 = args.t_starts + begin, *t1 = args.t_ends + begin, *color = args.color + begin * 3;
  T rgb[3] = {0, 0, 0}, opacity = 0, depth = 0, distortion = 0;
  const std::int64_t used = composite_walk(t0, t1, args.density + begin, n, args.stop, [&](std::int64_t i, T w, T) {
    const T middle = (t0[i] + t1[i]) / 2;
    for (int c = 0; c < 3; ++c) rgb[c] += w * color[i * 3 + c];
    // sum_{j<i} 2 w_i w_j (t_i - t_j) + w_i^2 dt_i / 3, from the running sums of w and w t
    distortion += 2 * w * (middle * opacity - depth) + w * w * (t1[i] - t0[i]) / 3;
    opacity += w;
    depth += w * middle;
    if (args.weights != nullptr) args.weights[begin + i] = w;
  });
  for (int c = 0; c < 3; ++c) args.ray_color[ray * 3 + c] = rgb[c];
  args.opacity[ray] = opacity;
  args.depth[ray] = depth;
  if (args.distortion != nullptr) args.distortion[ray] = distortion;
  if (args.weights != nullptr)
    for (std::int64_t i = used; i < n; ++i) args.weights[begin + i] = 0;
}

// With g_i = dL/dw_i: dL/dsigma_i = dt_i (T_{i+1} g_i - sum_{j>i} w_j g_j) and dL/dc_i = w_i dL/dC.
template <class T>
NF_HD void composite_backward_ray(const CompositeArgs<T>& args, std::int64_t ray) {
  const PackedRange range = packed_range(args.offsets, ray, args.n);
  const std::int64_t begin = range.begin, n = range.n;
  const T *t0 = args.t_starts + begin, *t1 = args.t_ends + begin, *color = args.color + begin * 3;
  const T* density = args.density + begin;
  T *grad_density = args.grad_density + begin, *grad_color = args.grad_sample_color + begin * 3;
  const T g_distortion = args.grad_distortion != nullptr ? args.grad_distortion[ray] : 0;
  T total_w = 0, total_wt = 0;
  if (g_distortion != 0)
    composite_walk(t0, t1, density, n, args.stop, [&](std::int64_t i, T w, T) {
      total_w += w;
      total_wt += w * (t0[i] + t1[i]) / 2;
    });
  T before_w = 0, before_wt = 0, sum = 0;  // sum = sum_{j<=i} w_j g_j
  const std::int64_t used = composite_walk(t0, t1, density, n, args.stop, [&](std::int64_t i, T w, T behind) {
    const T middle = (t0[i] + t1[i]) / 2, dt = t1[i] - t0[i];
    T g = args.grad_weights != nullptr ? args.grad_weights[begin + i] : 0;
    for (int c = 0; c < 3; ++c) {
      const T ray_gradient = args.grad_color != nullptr ? args.grad_color[ray * 3 + c] : 0;
      g += ray_gradient * color[i * 3 + c];
      grad_color[i * 3 + c] = w * ray_gradient;
    }
    if (args.grad_opacity != nullptr) g += args.grad_opacity[ray];
    if (args.grad_depth != nullptr) g += args.grad_depth[ray] * middle;
    if (g_distortion != 0) {
      const T after_w = total_w - before_w - w, after_wt = total_wt - before_wt - w * middle;
      g += g_distortion * (2 * (middle * before_w - before_wt + after_wt - middle * after_w) + 2 * w * dt / 3);
      before_w += w;
      before_wt += w * middle;
    }
    sum += w * g;
    grad_density[i] = dt * (behind * g + sum);  // the suffix is subtracted below
  });
  for (std::int64_t i = 0; i < used; ++i) grad_density[i] -= (t1[i] - t0[i]) * sum;
  for (std::int64_t i = used; i < n; ++i) {
    grad_density[i] = 0;
    for (int c = 0; c < 3; ++c) grad_color[i * 3 + c] = 0;
  }
}

// A sample of nobody, forward and backward.
template <class T>
NF_HD void composite_forward_rest(const CompositeArgs<T>& args, std::int64_t i) {
  args.weights[i] = 0;
}
template <class T>
NF_HD void composite_backward_rest(const CompositeArgs<T>& args, std::int64_t i) {
  args.grad_density[i] = 0;
  for (int c = 0; c < 3; ++c) args.grad_sample_color[i * 3 + c] = 0;
}

NF_END
