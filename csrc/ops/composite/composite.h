// Packed emission-absorption: densities and colours along rays -> colour, opacity, depth.
//
// Max 1995; Mildenhall et al. 2020, equation 3. With thickness a_i = sigma_i (t1_i - t0_i) and
// transmittance T_i = exp(-sum_{j<i} a_j), the weight of a sample is w_i = T_i (1 - exp(-a_i)).
// Depth is sum w_i t_i with t_i the midpoint; the distortion is Barron et al. 2022, equation 15,
// in world units. A ray ends before the sample at which T falls below `stop`.
#pragma once

#include "common/cpu.h"
#include "common/lanes.h"

namespace nf {

template <class T>
struct CompositeArgs {
  std::int64_t n_rays;
  const std::int64_t* offsets;  // [n_rays + 1]: ray r owns the samples offsets[r] .. offsets[r + 1]
  const T* t_starts;            // [n]
  const T* t_ends;              // [n]
  const T* density;             // [n], at least 0
  const T* color;               // [n, 3]
  T stop = 0;                   // transmittance below which a ray ends; 0 = never
  T* ray_color = nullptr;       // [n_rays, 3], without background
  T* opacity = nullptr;         // [n_rays]
  T* depth = nullptr;           // [n_rays]
  T* distortion = nullptr;      // [n_rays]
  T* weights = nullptr;         // [n]; 0 beyond the end of a ray
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

NF_END
