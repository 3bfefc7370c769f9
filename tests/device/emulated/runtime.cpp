// The threads of a block as fibres. One launch runs at a time, on the thread that asked for it.
#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "cuda_runtime.h"

namespace emulated {

dim3 block_of_grid, thread_of_block, size_of_grid, size_of_block;

namespace {

constexpr std::size_t kStackBytes = 128 * 1024, kSharedBytes = 48 * 1024;

#if defined(__x86_64__)
// Another stack goes on: what a called function has to keep is pushed on the one and popped from the
// other. (swapcontext asks the kernel for the signal mask each time, which takes most of the tests' time.)
extern "C" void nf_emulated_switch(void** from, void* to);
asm(R"(
.text
.type nf_emulated_switch, @function
nf_emulated_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size nf_emulated_switch, .-nf_emulated_switch
)");
struct Context {
  void* stack = nullptr;
  // Makes a switch to it call `start`, with the stack as after a call.
  void begin(char* memory, std::size_t n_bytes, void (*start)()) {
    auto top = (reinterpret_cast<std::uintptr_t>(memory) + n_bytes) / 16 * 16 - 16;
    *reinterpret_cast<void (**)()>(top) = start;
    stack = reinterpret_cast<void*>(top - 6 * sizeof(void*));
  }
};
void go(Context& from, Context& to) { nf_emulated_switch(&from.stack, to.stack); }
#else
}  // namespace
}  // namespace emulated
#include <ucontext.h>
namespace emulated {
namespace {
struct Context {
  ucontext_t state;
  void begin(char* memory, std::size_t n_bytes, void (*start)()) {
    getcontext(&state);
    state.uc_stack.ss_sp = memory;
    state.uc_stack.ss_size = n_bytes;
    makecontext(&state, start, 0);
  }
};
void go(Context& from, Context& to) { swapcontext(&from.state, &to.state); }
#endif

enum class State { ready, at_block, at_warp, done };

struct Fiber {
  Context context;
  std::vector<char> stack = std::vector<char>(kStackBytes);
  State state = State::ready;
  double value = 0;  // that it gives to others at a barrier
};

std::mutex one_launch;
std::vector<Fiber> fibers;
Context scheduler;
std::size_t current = 0;
alignas(64) double shared[kSharedBytes / sizeof(double)];
const std::function<void()>* body = nullptr;

void start() {
  (*body)();
  fibers[current].state = State::done;
  go(fibers[current].context, scheduler);
  std::abort();  // what is done is not asked for again
}

void wait(State state, double value) {
  const std::size_t own = current;
  const dim3 thread = thread_of_block;
  fibers[own].state = state;
  fibers[own].value = value;
  go(fibers[own].context, scheduler);
  thread_of_block = thread;
}

// Lets those go on that wait where all others of first .. last wait too, or are done.
bool release(std::size_t first, std::size_t last, State state) {
  bool any = false;
  for (std::size_t i = first; i < last; ++i) {
    if (fibers[i].state == state) any = true;
    else if (fibers[i].state != State::done) return false;
  }
  for (std::size_t i = first; any && i < last; ++i)
    if (fibers[i].state == state) fibers[i].state = State::ready;
  return any;
}

void run_block(unsigned n_threads) {
  for (unsigned i = 0; i < n_threads; ++i) {
    Fiber& fiber = fibers[i];
    fiber.context.begin(fiber.stack.data(), kStackBytes, start);
    fiber.state = State::ready;
  }
  for (;;) {
    for (unsigned i = 0; i < n_threads; ++i) {
      if (fibers[i].state != State::ready) continue;
      current = i;
      thread_of_block = dim3(i);
      go(scheduler, fibers[i].context);
    }
    bool any = release(0, n_threads, State::at_block);
    for (unsigned i = 0; i < n_threads; i += 32) any = release(i, std::min(i + 32, n_threads), State::at_warp) || any;
    if (any) continue;
    const auto finished = [](const Fiber& fiber) { return fiber.state == State::done; };
    if (std::all_of(fibers.begin(), fibers.begin() + n_threads, finished)) return;
    throw std::runtime_error("emulated: threads of a block wait for different barriers.");
  }
}

}  // namespace

void run(dim3 grid, unsigned n_threads, std::size_t shared_bytes, cudaStream_t, const std::function<void()>& thread) {
  if (shared_bytes > kSharedBytes) throw std::runtime_error("emulated: a block has 48 KB of shared memory.");
  const std::lock_guard<std::mutex> lock(one_launch);
  if (fibers.size() < n_threads) fibers = std::vector<Fiber>(n_threads);
  body = &thread;
  size_of_grid = grid;
  size_of_block = dim3(n_threads);
  for (unsigned y = 0; y < grid.y; ++y)
    for (unsigned x = 0; x < grid.x; ++x) {
      std::fill(shared, shared + kSharedBytes / sizeof(double), -1e300);  // nothing is in it yet
      block_of_grid = dim3(x, y);
      run_block(n_threads);
    }
}

double* shared_memory() { return shared; }

void wait_for_block() { wait(State::at_block, 0); }
void wait_for_warp() { wait(State::at_warp, 0); }

// What others gave is read by each thread after the barrier; the second one keeps it until all have.
int count_in_block(bool value) {
  wait(State::at_block, value ? 1 : 0);
  double sum = 0;
  for (std::size_t i = 0; i < size_of_block.x; ++i) sum += fibers[i].state == State::done ? 0 : fibers[i].value;
  wait(State::at_block, value ? 1 : 0);
  return static_cast<int>(sum);
}

std::uint32_t votes_of_warp(bool value) {
  wait(State::at_warp, value ? 1 : 0);
  const std::size_t first = current / 32 * 32;
  std::uint32_t votes = 0;
  for (std::size_t i = 0; i < 32 && first + i < size_of_block.x; ++i)
    if (fibers[first + i].state != State::done && fibers[first + i].value != 0) votes |= 1u << i;
  wait(State::at_warp, value ? 1 : 0);
  return votes;
}

double from_lane(double value, int lane) {
  wait(State::at_warp, value);
  const double other = fibers[current / 32 * 32 + static_cast<std::size_t>(lane)].value;
  wait(State::at_warp, value);
  return other;
}

}  // namespace emulated
