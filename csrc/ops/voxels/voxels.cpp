// CPU loops of dense voxels: those of common/lattice_loops.h, with the harmonics of each point.
#include "ops/voxels/voxels.h"

#include "common/lattice_loops.h"

NF_BEGIN
namespace {

// The gradient of a point's channels, and a request for what it is made of.
template <class T>
struct ChannelGradient {
  const VoxelsArgs<T>& args;
  NF_INLINE const T* operator()(std::int64_t point, T* scratch) const { return voxels_gradient(args, point, scratch); }
  NF_INLINE void fetch(std::int64_t point) const {
    lattice_prefetch(args.grad_output + point * args.shape.n_output(), args.shape.n_output());
    if (args.directions != nullptr) NF_PREFETCH(args.directions + point * 3);
  }
};

template <class T, int D>
void forward(const VoxelsArgs<T>& args) {
  lattice_forward<T, D>(args.shape.grid, args.positions, args.n, args.grid,
                        [&](std::int64_t point, const T* channels) { voxels_row(args, point, channels, args.output); });
}

template <class N, int D, class T>
void positions(const VoxelsArgs<T>& args) {
  lattice_positions<N, D>(args.shape.grid, args.positions, args.n, args.grid, args.tangents, args.grad_positions,
                          ChannelGradient<T>{args}, [&](std::int64_t point, const T* channels) {
                            voxels_row(args, point, channels, args.grad_grad_output);
                          });
}

template <class T, int D>
void backward_positions(const VoxelsArgs<T>& args) {
  positions<T, D>(args);
}

template <class T, int D>
void backward_grid(const VoxelsArgs<T>& args) {
  lattice_scatter<T, D>(args.shape.grid, args.positions, args.n, args.tangents, args.grad_grid, ChannelGradient<T>{args});
}

template <class T, int D>
void second(const VoxelsArgs<T>& args) {
  positions<Jet<T>, D>(args);
  if (args.grad_grid != nullptr)
    lattice_scatter<Jet<T>, D>(args.shape.grid, args.positions, args.n, args.tangents, args.grad_grid, ChannelGradient<T>{args});
}

#define NF_VOXELS_DISPATCH(function)              \
  switch (args.shape.grid.n_dims) {               \
    case 1: return function<T, 1>(args);          \
    case 2: return function<T, 2>(args);          \
    case 3: return function<T, 3>(args);          \
    default: return function<T, 4>(args);         \
  }

template <class T>
void dispatch_forward(const VoxelsArgs<T>& args) { NF_VOXELS_DISPATCH(forward) }
template <class T>
void dispatch_backward_grid(const VoxelsArgs<T>& args) { NF_VOXELS_DISPATCH(backward_grid) }
template <class T>
void dispatch_backward_positions(const VoxelsArgs<T>& args) { NF_VOXELS_DISPATCH(backward_positions) }
template <class T>
void dispatch_second(const VoxelsArgs<T>& args) { NF_VOXELS_DISPATCH(second) }

}  // namespace

void voxels_forward_f32(const VoxelsArgs<float>& args) { dispatch_forward(args); }
void voxels_backward_grid_f32(const VoxelsArgs<float>& args) { dispatch_backward_grid(args); }
void voxels_backward_positions_f32(const VoxelsArgs<float>& args) { dispatch_backward_positions(args); }
void voxels_second_f32(const VoxelsArgs<float>& args) { dispatch_second(args); }
#ifndef NF_FAST_PATH
void voxels_forward_f64(const VoxelsArgs<double>& args) { dispatch_forward(args); }
void voxels_backward_grid_f64(const VoxelsArgs<double>& args) { dispatch_backward_grid(args); }
void voxels_backward_positions_f64(const VoxelsArgs<double>& args) { dispatch_backward_positions(args); }
void voxels_second_f64(const VoxelsArgs<double>& args) { dispatch_second(args); }
#endif

NF_END
