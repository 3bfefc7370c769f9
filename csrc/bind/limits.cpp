// The machine's limits, for the benchmarks.
#include "ops/limits/limits.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "bind/ops.h"
#include "bind/tensor.h"
#include "common/parallel.h"

namespace nf {
namespace {

double seconds_of(void (*kernel)(const LimitArgs&), const LimitArgs& args) {
  const auto start = std::chrono::steady_clock::now();
  kernel(args);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Best rate over the variants, of which each does so many units of work per call and gets its part of `seconds`.
double best_rate(void (*kernel)(const LimitArgs&), LimitArgs args, double seconds, const std::vector<double>& work) {
  if (!(seconds > 0)) throw py::value_error("seconds: needs more than 0, got " + std::to_string(seconds) + ".");
  std::vector<std::uint32_t> sink(static_cast<std::size_t>(args.n_tasks));
  args.sink = sink.data();
  const py::gil_scoped_release release;
  double best = 0;
  for (const double units : work) {
    for (double left = seconds / static_cast<double>(work.size()); left > 0;) {
      const double taken = seconds_of(kernel, args);
      best = std::max(best, units / taken);
      left -= taken;
    }
    ++args.variant;
  }
  return best;
}

LimitArgs make_args(std::int64_t n_tasks, std::int64_t n_rounds) {
  LimitArgs args{};
  args.n_tasks = n_tasks;
  args.n_rounds = n_rounds;
  return args;
}

double fma(double seconds) {
  const LimitArgs args = make_args(4 * num_threads(), 1 << 20);
  const int width = active_isa() == Isa::portable ? 4 : (active_isa() == Isa::avx2 ? 8 : 16);
  return best_rate(&limit_fma, args, seconds, {2.0 * kLimitAccumulators * width * static_cast<double>(args.n_tasks * args.n_rounds)});
}

double lines(const py::object& table, double seconds) {
  LimitArgs args = make_args(16 * num_threads(), 1 << 11);
  const std::int64_t n = view_tensor(table, "table").numel();
  args.data = reinterpret_cast<const std::uint32_t*>(tensor_data<float>(table, "table", {-1}));
  args.n_lines = n / 16;
  if (args.n_lines < 1 || args.n_lines >= std::int64_t{1} << 32)
    throw py::value_error("table: needs 16 to 2^36 numbers, got " + std::to_string(n) + ".");
  const double read = static_cast<double>(args.n_tasks * args.n_rounds * kLimitBlock);
  return best_rate(&limit_lines, args, seconds, {read, read});
}

double stream(const py::object& source, const py::object& destination, double seconds) {
  const std::int64_t n = view_tensor(source, "source").numel(), n_tasks = 16 * num_threads();
  LimitArgs args = make_args(n_tasks, n / n_tasks);
  args.data = reinterpret_cast<const std::uint32_t*>(tensor_data<float>(source, "source", {-1}));
  args.output = tensor_data<float>(destination, "destination", {n});
  if (args.n_rounds < 1) throw py::value_error("source: needs at least " + std::to_string(n_tasks) + " numbers.");
  const double bytes = static_cast<double>(args.n_tasks * args.n_rounds * 4);
  return best_rate(&limit_stream, args, seconds, {bytes, 2 * bytes});
}

}  // namespace

void bind_limits(py::module_& m) {
  m.def("limit_fma", &fma, py::arg("seconds"));
  m.def("limit_lines", &lines, py::arg("table"), py::arg("seconds"));
  m.def("limit_stream", &stream, py::arg("source"), py::arg("destination"), py::arg("seconds"));
}

}  // namespace nf
