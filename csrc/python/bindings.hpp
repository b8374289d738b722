// The parts of the module _core; each registers what one file binds.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>

namespace din_infer {

using Floats = pybind11::array_t<float, pybind11::array::c_style>;
using Int64s = pybind11::array_t<int64_t, pybind11::array::c_style>;

void RegisterErrors(pybind11::module_& module);
void RegisterKernels(pybind11::module_& module);
void RegisterLists(pybind11::module_& module);
void RegisterModel(pybind11::module_& module);
void RegisterParameters(pybind11::module_& module);
void RegisterGraph(pybind11::module_& module);
void RegisterPeak(pybind11::module_& module);
void RegisterWork(pybind11::module_& module);

}  // namespace din_infer
