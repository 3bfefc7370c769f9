// Which compilation of a source file this is. Every kernel source is compiled once per
// instruction set, inside a namespace of that name, so that no function compiled for a newer
// processor can be picked by the linker for an older one.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define NF_HD __host__ __device__ __forceinline__
#else
#define NF_HD inline
#endif

// Whether a function's body is that of the GPU; tests that emulate one say so by themselves.
#if defined(__CUDA_ARCH__)
#define NF_ON_DEVICE
#endif

#ifndef NF_ISA
#ifdef __CUDACC__
#define NF_ISA cuda
#else
#define NF_ISA portable
#endif
#endif

#define NF_BEGIN \
  namespace nf { \
  namespace NF_ISA {
#define NF_END \
  } \
  }

#if defined(_MSC_VER)
#define NF_RESTRICT __restrict
#else
#define NF_RESTRICT __restrict__
#endif

#if defined(__CUDA_ARCH__)
#define NF_UNROLL _Pragma("unroll")
#elif defined(__GNUC__) && !defined(__CUDACC__)
#define NF_UNROLL _Pragma("GCC unroll 16")
#else
#define NF_UNROLL
#endif
#if defined(__GNUC__)
#define NF_INLINE inline __attribute__((always_inline))
#else
#define NF_INLINE inline
#endif

// One copy of a function, so that its rounding does not depend on where it is called.
#if defined(__clang__)
#define NF_NOINLINE __attribute__((noinline))
#elif defined(__GNUC__)
#define NF_NOINLINE __attribute__((noinline, noclone))
#else
#define NF_NOINLINE
#endif

// A hint that memory will be read or written soon.
#if defined(__GNUC__) && !defined(__CUDACC__)
#define NF_PREFETCH(address) __builtin_prefetch(address)
#else
#define NF_PREFETCH(address) static_cast<void>(address)
#endif

// Declares a kernel for every instruction set and the one entry point that picks among them.
// Portable is the definition of last resort; where a processor family has no other path it is
// the only one compiled. The CUDA module has one path, on the stream that the binding was given.
#if defined(NF_CUDA_MODULE)
struct CUstream_st;  // what cudaStream_t points to
namespace nf {
namespace cuda {
using Stream = CUstream_st*;
Stream current_stream();                // of the binding that is running on this thread
void* scratch_memory(std::size_t n_bytes);  // on its device, from torch's allocator, until it returns
}  // namespace cuda
}  // namespace nf
#define NF_KERNEL(name, Args)                                                        \
  namespace nf {                                                                     \
  namespace cuda { void name(const Args&, Stream); }                                 \
  inline void name(const Args& args) { cuda::name(args, cuda::current_stream()); }   \
  }
#elif defined(NF_X86)
#define NF_KERNEL(name, Args)                                            \
  namespace nf {                                                         \
  namespace portable { void name(const Args&); }                         \
  namespace avx2 { void name(const Args&); }                             \
  namespace avx512 { void name(const Args&); }                           \
  inline void name(const Args& args) {                                   \
    switch (active_isa()) {                                              \
      case Isa::portable: return portable::name(args);                   \
      case Isa::avx2: return avx2::name(args);                           \
      case Isa::amx_emulated: return portable::name(args);               \
      default: return avx512::name(args);                                \
    }                                                                    \
  }                                                                      \
  }
#else
#define NF_KERNEL(name, Args)                                            \
  namespace nf {                                                         \
  namespace portable { void name(const Args&); }                         \
  inline void name(const Args& args) { portable::name(args); }           \
  }
#endif

// The same for kernels that multiply matrices, where processors differ further: by bfloat16 dot
// products and by matrix tiles.
#if defined(NF_X86) && !defined(NF_CUDA_MODULE)
#define NF_KERNEL_MATRIX(name, Args)                                           \
  namespace nf {                                                               \
  namespace portable { void name(const Args&); }                               \
  namespace avx2 { void name(const Args&); }                                   \
  namespace avx512 { void name(const Args&); }                                 \
  namespace avx512_bf16 { void name(const Args&); }                            \
  namespace amx { void name(const Args&); }                                    \
  namespace amx_emulated { void name(const Args&); }                           \
  inline void name(const Args& args) {                                         \
    switch (active_isa()) {                                                    \
      case Isa::portable: return portable::name(args);                         \
      case Isa::avx2: return avx2::name(args);                                 \
      case Isa::avx512:                                                        \
        return has_avx512_bf16() ? avx512_bf16::name(args) : avx512::name(args); \
      case Isa::amx: return amx::name(args);                                   \
      case Isa::amx_emulated: return amx_emulated::name(args);                 \
    }                                                                          \
  }                                                                            \
  }
#else
#define NF_KERNEL_MATRIX(name, Args) NF_KERNEL(name, Args)
#endif

// Double precision exists on the portable path and on CUDA.
#if defined(NF_CUDA_MODULE)
#define NF_KERNEL_PORTABLE(name, Args) NF_KERNEL(name, Args)
#else
#define NF_KERNEL_PORTABLE(name, Args)                                   \
  namespace nf {                                                         \
  namespace portable { void name(const Args&); }                         \
  inline void name(const Args& args) { portable::name(args); }           \
  }
#endif
