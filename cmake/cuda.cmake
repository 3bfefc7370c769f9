# The CUDA module, neural_fields._cuda: every operation's .cu and the same bindings as _core.
# It is asked for, never found by chance: a build says ON or has none.

set(CMAKE_CUDA_ARCHITECTURES ${NF_CUDA_ARCHITECTURES})
string(REPLACE ";" " " NF_CUDA_ARCHITECTURES_TEXT "${NF_CUDA_ARCHITECTURES}")
set(CMAKE_CUDA_RUNTIME_LIBRARY Static) # so that an import needs neither toolkit nor driver
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
find_package(CUDAToolkit REQUIRED)
find_package(Python COMPONENTS Interpreter Development.Module REQUIRED)
find_package(pybind11 CONFIG REQUIRED)

# Shapes are compiled again, not linked from nf_core: with NF_CUDA_MODULE the headers that they
# include name other kernels, and one module must not mix the two.
file(GLOB NF_CUDA_SHAPES CONFIGURE_DEPENDS csrc/ops/*/shape.cpp)

pybind11_add_module(_cuda NO_EXTRAS ${NF_CUDA_KERNELS} ${NF_CUDA_BINDINGS} ${NF_CUDA_SHAPES})
target_compile_definitions(_cuda PRIVATE NF_CUDA_MODULE NF_MODULE=_cuda
  "NF_CUDA_ARCHITECTURES=\"${NF_CUDA_ARCHITECTURES_TEXT}\"")
target_link_libraries(_cuda PRIVATE nf_options CUDA::cudart_static)
target_compile_options(_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wno-psabi>
  $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${NF_CUDA_REPORT}>>:-Xptxas=-v>
  $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${NF_WERROR}>>:--Werror=all-warnings>)
