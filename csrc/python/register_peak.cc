#include <chrono>
#include <numeric>
#include <vector>

#include "engine/parallel.hpp"
#include "kernels/peak.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;

namespace din_infer {
namespace {

// What all threads do at once, the library's among them, as in a call. The first round wakes them.
double FmaGflops(double seconds, int threads) {
  using Clock = std::chrono::steady_clock;
  Parallel parallel(threads);
  std::vector<double> operations(static_cast<size_t>(threads));
  const auto run = [&](double some) {
    const auto start = Clock::now();
    const auto until = start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(some));
    parallel.For(threads,
                 [&](int64_t item, int) { operations[static_cast<size_t>(item)] = kernels::FmaOperations(until); });
    const std::chrono::duration<double> passed = Clock::now() - start;
    return std::accumulate(operations.begin(), operations.end(), 0.0) / passed.count() / 1e9;
  };
  run(seconds / 10);
  return run(seconds);
}

}  // namespace

void RegisterPeak(py::module_& module) {
  module.def("fma_gflops", &FmaGflops, py::arg("seconds"), py::arg("threads") = 1,
             py::call_guard<py::gil_scoped_release>());
}

}  // namespace din_infer
