// What the processor can do and which path is in use.
#pragma once

namespace nf {

// Each includes those before it, but the last: matrix tiles as plain arrays and the portable path
// for the rest, which tests the code for tiles on machines that have none.
enum class Isa : int { portable = 0, avx2 = 1, avx512 = 2, amx = 3, amx_emulated = 4 };

Isa best_isa();                     // the most capable path that this machine can run
bool has_isa(Isa isa);              // whether this machine can run it
Isa active_isa();                   // the path in use: NF_ISA if set, else best_isa()
void set_isa(Isa isa);              // throws std::invalid_argument where the machine lacks it
bool has_avx512_bf16();             // bfloat16 dot products in 512-bit registers
const char* isa_name(Isa isa);

}  // namespace nf
