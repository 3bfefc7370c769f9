# What the CUDA module is made of, and the emulated one of the tests.

set(NF_CUDA_KERNELS
  csrc/common/probe.cu
  csrc/ops/adam/adam.cu
  csrc/ops/composite/composite.cu
  csrc/ops/distill/distill.cu
  csrc/ops/frequency/frequency.cu
  csrc/ops/hash_grid/hash_grid.cu
  csrc/ops/march/march.cu
  csrc/ops/mlp/mlp.cu
  csrc/ops/modulate/modulate.cu
  csrc/ops/occupancy/occupancy.cu
  csrc/ops/rbf/rbf.cu
  csrc/ops/spherical_harmonics/spherical_harmonics.cu
  csrc/ops/tensor_planes/tensor_planes.cu
  csrc/ops/voxels/voxels.cu)

set(NF_CUDA_BINDINGS
  csrc/bind/adam.cpp
  csrc/bind/cuda_module.cpp
  csrc/bind/distill.cpp
  csrc/bind/frequency.cpp
  csrc/bind/hash_grid.cpp
  csrc/bind/mlp.cpp
  csrc/bind/modulate.cpp
  csrc/bind/rays.cpp
  csrc/bind/rbf.cpp
  csrc/bind/scene.cpp
  csrc/bind/spherical_harmonics.cpp
  csrc/bind/tensor.cpp
  csrc/bind/tensor_planes.cpp
  csrc/bind/voxels.cpp)
