#include <chrono>
#include <numeric>
#include <vector>

#include "engine/parallel.hpp"
#include "kernels/peak.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;

namespace din_infer {
namespace {

// What all threads do at once, the library's among them, as in a call. The first round wakes them, and is as long as
// the second for threads that wake late or beside each other. Each one's rate is of the time that it was awake.
double FmaGflops(double seconds, int threads) {
  using Clock = std::chrono::steady_clock;
  Parallel parallel(threads);
  std::vector<double> rates(static_cast<size_t>(threads));
  const auto run = [&] {
    const auto until =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    parallel.For(threads, [&](int64_t item, int) {
      const auto start = Clock::now();
      const double operations = kernels::FmaOperations(until);
      rates[static_cast<size_t>(item)] = operations / std::chrono::duration<double>(Clock::now() - start).count();
    });
  };
  run();
  run();
  return std::accumulate(rates.begin(), rates.end(), 0.0) / 1e9;
}

}  // namespace

void RegisterPeak(py::module_& module) {
  module.def("fma_gflops", &FmaGflops, py::arg("seconds"), py::arg("threads") = 1,
             py::call_guard<py::gil_scoped_release>());
}

}  // namespace din_infer
