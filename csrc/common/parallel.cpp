#include "common/parallel.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace nf {
namespace {

int default_threads() {
  if (const char* wanted = std::getenv("NF_NUM_THREADS")) {
    const int n = std::atoi(wanted);
    if (n > 0) return n;
  }
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n > 0 ? static_cast<int>(n) : 1;
}

std::int64_t process_id() {
#if defined(__unix__) || defined(__APPLE__)
  return static_cast<std::int64_t>(getpid());
#else
  return 0;
#endif
}

inline void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

class Pool {
 public:
  explicit Pool(int n_threads) : owner_(process_id()) {
    for (int i = 1; i < n_threads; ++i) workers_.emplace_back([this] { work(); });
  }

  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  int size() const { return static_cast<int>(workers_.size()) + 1; }
  bool usable() const { return owner_ == process_id(); }  // threads do not survive fork()

  // The workers do not survive fork(), so in a child their handles must not be joined.
  void abandon() {
    for (auto& worker : workers_) worker.detach();
    workers_.clear();
  }

  void run(std::int64_t n_tasks, void (*function)(void*, std::int64_t), void* context) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      function_ = function;
      context_ = context;
      n_tasks_ = n_tasks;
      next_.store(0, std::memory_order_relaxed);
      busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    drain();
    while (busy_.load(std::memory_order_acquire) != 0) pause_briefly();
  }

 private:
  void drain() {
    for (;;) {
      const std::int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
      if (task >= n_tasks_) return;
      function_(context_, task);
    }
  }

  // Kernels follow each other within microseconds in training, so a worker looks for the next
  // one a short while before it sleeps.
  void work() {
    std::uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < 2000 && generation_.load(std::memory_order_acquire) == seen; ++spin) pause_briefly();
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
      }
      seen = generation_.load(std::memory_order_acquire);
      {
        std::lock_guard<std::mutex> lock(mutex_);
        if (stop_) return;
      }
      drain();
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  const std::int64_t owner_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<std::int64_t> next_{0};
  std::atomic<int> busy_{0};
  void (*function_)(void*, std::int64_t) = nullptr;
  void* context_ = nullptr;
  std::int64_t n_tasks_ = 0;
  bool stop_ = false;
};

struct State {
  std::mutex in_use;  // held while a kernel runs, so that a second caller runs inline
  int wanted = default_threads();
  std::unique_ptr<Pool> pool;
};

// Never destroyed: at process exit the workers may already be gone.
State& state() {
  static State* s = new State;
  return *s;
}

thread_local bool inside = false;

void run_inline(std::int64_t n_tasks, void (*run)(void*, std::int64_t), void* context) {
  for (std::int64_t task = 0; task < n_tasks; ++task) run(context, task);
}

}  // namespace

int num_threads() { return state().wanted; }

void set_num_threads(int n) {
  std::lock_guard<std::mutex> lock(state().in_use);
  state().wanted = n < 1 ? 1 : n;
}

void parallel_tasks(std::int64_t n_tasks, void (*run)(void*, std::int64_t), void* context) {
  State& s = state();
  if (n_tasks <= 1 || inside) return run_inline(n_tasks, run, context);
  std::unique_lock<std::mutex> lock(s.in_use, std::try_to_lock);
  if (!lock.owns_lock() || s.wanted == 1) return run_inline(n_tasks, run, context);
  if (s.pool && !s.pool->usable()) {
    s.pool->abandon();
    s.pool.release();  // its mutexes may be in any state after fork()
  }
  if (!s.pool || s.pool->size() != s.wanted) {
    s.pool.reset();
    s.pool = std::make_unique<Pool>(s.wanted);
  }
  inside = true;
  s.pool->run(n_tasks, run, context);
  inside = false;
}

}  // namespace nf
