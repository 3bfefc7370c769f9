// How the allocator treats the large buffers of a training loop.
#pragma once

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace nf {

// Lets the allocator keep freed buffers of any size. A step frees and asks for the same tens of megabytes again and
// again; by default glibc returns them to the system each time, and clearing their pages anew cost up to a third of a step
// of large layers. Does nothing where the allocator is another one.
inline void keep_freed_memory() {
#if defined(__GLIBC__)
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, 0x7fffffff);
#endif
}

}  // namespace nf
