# The CUDA module's sources for the host: tests run every kernel, with tests/device/emulated in the
# place of the toolkit. Needs no nvcc and no GPU; it is no part of any package.

find_package(Python COMPONENTS Interpreter Development.Module REQUIRED)
find_package(pybind11 CONFIG REQUIRED)

file(GLOB NF_SHAPES CONFIGURE_DEPENDS csrc/ops/*/shape.cpp)
pybind11_add_module(_emulated NO_EXTRAS ${NF_CUDA_KERNELS} ${NF_CUDA_BINDINGS} ${NF_SHAPES}
  tests/device/emulated/runtime.cpp)
set_source_files_properties(${NF_CUDA_KERNELS} PROPERTIES
  LANGUAGE CXX COMPILE_OPTIONS "-xc++" COMPILE_DEFINITIONS "NF_ISA=cuda;NF_ON_DEVICE")
target_compile_definitions(_emulated PRIVATE NF_CUDA_MODULE NF_CUDA_EMULATED NF_MODULE=_emulated
  "NF_CUDA_ARCHITECTURES=\"none\"")
target_include_directories(_emulated BEFORE PRIVATE tests/device/emulated)
target_link_libraries(_emulated PRIVATE nf_options)
