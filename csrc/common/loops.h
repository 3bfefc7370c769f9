// Parallel loops over fixed-size chunks.
#pragma once

#include <type_traits>

#include "common/macros.h"
#include "common/parallel.h"

NF_BEGIN

// f(task) for task in [0, n_tasks)
template <class F>
void parallel_for(std::int64_t n_tasks, F&& f) {
  using Body = typename std::remove_reference<F>::type;
  parallel_tasks(n_tasks, [](void* context, std::int64_t task) { (*static_cast<Body*>(context))(task); },
                 const_cast<void*>(static_cast<const void*>(&f)));
}

// f(begin, end) over [0, n) in chunks of a size that does not depend on the thread count
template <class F>
void parallel_chunks(std::int64_t n, std::int64_t chunk, F&& f) {
  auto body = [&](std::int64_t task) {
    const std::int64_t begin = task * chunk, end = begin + chunk < n ? begin + chunk : n;
    f(begin, end);
  };
  parallel_for((n + chunk - 1) / chunk, body);
}

NF_END
