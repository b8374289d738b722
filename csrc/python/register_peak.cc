#include "kernels/peak.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;

namespace din_infer {

void RegisterPeak(py::module_& module) {
  module.def("fma_peak_gflops", &kernels::FmaPeakGflops, py::call_guard<py::gil_scoped_release>());
}

}  // namespace din_infer
