// Packed lists: what of one list of n numbers belongs to each of many rays.
#pragma once

#include "common/macros.h"

NF_BEGIN

struct PackedRange {
  std::int64_t begin, n;
};

// Of ray r, offsets[r] .. offsets[r + 1], cut to the list: on a GPU nobody has looked at the offsets
// before, and what is wrong in them must not reach other memory.
NF_HD PackedRange packed_range(const std::int64_t* offsets, std::int64_t ray, std::int64_t n) {
  std::int64_t begin = offsets[ray], end = offsets[ray + 1];
  begin = begin < 0 ? 0 : begin > n ? n : begin;
  end = end < begin ? begin : end > n ? n : end;
  return {begin, end - begin};
}

// Where the rest begins, which belongs to no ray.
NF_HD std::int64_t packed_end(const std::int64_t* offsets, std::int64_t n_rays, std::int64_t n) {
  const std::int64_t end = offsets[n_rays];
  return end < 0 ? 0 : end > n ? n : end;
}

NF_END
