// Counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011). The same (seed, stream,
// index) gives the same numbers on every device and for any number of threads.
#pragma once

#include "common/macros.h"

NF_BEGIN

struct Philox4 {
  std::uint32_t v[4];
};

NF_HD Philox4 philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  std::uint32_t c[4] = {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                        static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)};
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = static_cast<std::uint64_t>(0xD2511F53u) * c[0];
    const std::uint64_t b = static_cast<std::uint64_t>(0xCD9E8D57u) * c[2];
    const std::uint32_t next0 = static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k0;
    const std::uint32_t next2 = static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k1;
    c[1] = static_cast<std::uint32_t>(b);
    c[3] = static_cast<std::uint32_t>(a);
    c[0] = next0;
    c[2] = next2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c[0], c[1], c[2], c[3]}};
}

// Uniform in [0, 1), 24 bits.
NF_HD float uniform_float(std::uint32_t bits) { return static_cast<float>(bits >> 8) * (1.0f / 16777216.0f); }

NF_END
