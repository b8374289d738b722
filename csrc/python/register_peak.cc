#include <numeric>
#include <vector>

#include "engine/parallel.hpp"
#include "kernels/peak.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;

namespace din_infer {
namespace {

// All threads at once, the library's among them, as in a call.
double FmaGflops(double seconds, int threads) {
  std::vector<double> gflops(static_cast<size_t>(threads));
  Parallel(threads).For(threads,
                        [&](int64_t item, int) { gflops[static_cast<size_t>(item)] = kernels::FmaGflops(seconds); });
  return std::accumulate(gflops.begin(), gflops.end(), 0.0);
}

}  // namespace

void RegisterPeak(py::module_& module) {
  module.def("fma_gflops", &FmaGflops, py::arg("seconds"), py::arg("threads") = 1,
             py::call_guard<py::gil_scoped_release>());
}

}  // namespace din_infer
