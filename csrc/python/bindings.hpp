// The parts of the module _core; each registers what one file binds.
#pragma once

#include <pybind11/pybind11.h>

namespace din_infer {

void RegisterErrors(pybind11::module_& module);
void RegisterKernels(pybind11::module_& module);
void RegisterLists(pybind11::module_& module);
void RegisterModel(pybind11::module_& module);
void RegisterParameters(pybind11::module_& module);
void RegisterGraph(pybind11::module_& module);
void RegisterPeak(pybind11::module_& module);
void RegisterWork(pybind11::module_& module);

}  // namespace din_infer
