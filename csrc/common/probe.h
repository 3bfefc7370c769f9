// Whether the current GPU can run what the CUDA module holds.
#pragma once

namespace nf {
namespace cuda {

// Empty where it can; else what CUDA says. Loads a kernel, which needs its code for that GPU.
const char* probe();

}  // namespace cuda
}  // namespace nf
