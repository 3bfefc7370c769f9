#include "common/cpu.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#if defined(NF_X86)
#include <cpuid.h>
#endif
#if defined(__linux__) && defined(NF_X86)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace nf {
namespace {

#if defined(NF_X86)
struct CpuFeatures {
  bool avx2 = false, avx512 = false, avx512_bf16 = false, amx = false;
};

std::uint64_t read_xcr0() {
  std::uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

// Linux hands out the 8 KB tile state only on request (ARCH_REQ_XCOMP_PERM, XTILEDATA).
bool request_amx_permission() {
#if defined(__linux__)
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
  return false;
#endif
}

CpuFeatures detect() {
  CpuFeatures found;
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
  const bool osxsave = c & (1u << 27), fma = c & (1u << 12), f16c = c & (1u << 29);
  if (!osxsave || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
  const std::uint64_t xcr0 = read_xcr0();
  const bool os_avx = (xcr0 & 0x6) == 0x6, os_avx512 = (xcr0 & 0xe6) == 0xe6;
  found.avx2 = os_avx && fma && f16c && (b & (1u << 5)) && (b & (1u << 8));
  const unsigned needed = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);  // f, dq, bw, vl
  found.avx512 = found.avx2 && os_avx512 && (b & needed) == needed;
  const bool amx_bits = (d & (1u << 22)) && (d & (1u << 24));  // amx-bf16, amx-tile
  unsigned a1 = 0, b1, c1, d1;
  if (__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1)) found.avx512_bf16 = found.avx512 && (a1 & (1u << 5));
  found.amx = found.avx512_bf16 && amx_bits && (xcr0 & 0x60000) == 0x60000 && request_amx_permission();
  return found;
}

const CpuFeatures& features() {
  static const CpuFeatures found = detect();
  return found;
}
#endif

Isa initial_isa() {
  const char* wanted = std::getenv("NF_ISA");
  if (wanted == nullptr || *wanted == '\0') return best_isa();
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512, Isa::amx, Isa::amx_emulated})
    if (std::strcmp(wanted, isa_name(isa)) == 0 && has_isa(isa)) return isa;
  throw std::invalid_argument(std::string("NF_ISA: needs one of portable, avx2, avx512, amx, amx-emulated that this machine has (best: ") +
                              isa_name(best_isa()) + "), got '" + wanted + "'.");
}

std::atomic<int>& current() {
  static std::atomic<int> isa(static_cast<int>(initial_isa()));
  return isa;
}

}  // namespace

Isa best_isa() {
#if defined(NF_X86)
  if (features().amx) return Isa::amx;
  if (features().avx512) return Isa::avx512;
  if (features().avx2) return Isa::avx2;
#endif
  return Isa::portable;
}

bool has_isa(Isa isa) {
#if defined(NF_X86)
  return isa <= best_isa() || isa == Isa::amx_emulated;
#else
  return isa == Isa::portable;
#endif
}

bool has_avx512_bf16() {
#if defined(NF_X86)
  return features().avx512_bf16;
#else
  return false;
#endif
}

Isa active_isa() { return static_cast<Isa>(current().load(std::memory_order_relaxed)); }

void set_isa(Isa isa) {
  if (!has_isa(isa))
    throw std::invalid_argument(std::string("set_isa: this machine runs up to ") + isa_name(best_isa()) +
                                ", got " + isa_name(isa) + ".");
  current().store(static_cast<int>(isa));
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::portable: return "portable";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::amx: return "amx";
    case Isa::amx_emulated: return "amx-emulated";
  }
  return "?";
}

}  // namespace nf
