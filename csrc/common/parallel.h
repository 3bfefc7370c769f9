// One pool of threads for every kernel. Work is cut into tasks whose boundaries depend on the
// problem alone, so that results do not depend on how many threads run them.
#pragma once

#include <cstdint>

namespace nf {

int num_threads();
void set_num_threads(int n);  // 1 or more

// Calls run(context, task) for every task in [0, n_tasks), in any order, on all threads.
// Nested calls and calls from several threads at once run inline on the caller.
void parallel_tasks(std::int64_t n_tasks, void (*run)(void*, std::int64_t), void* context);

}  // namespace nf
