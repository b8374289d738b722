#include "python/bindings.hpp"

PYBIND11_MODULE(_core, module) {
  module.doc() = "The C++ core of din_infer. Its callers have checked types and shapes; see _core.pyi.";
  din_infer::RegisterErrors(module);
  din_infer::RegisterKernels(module);
  din_infer::RegisterLists(module);
  din_infer::RegisterModel(module);
  din_infer::RegisterParameters(module);
  din_infer::RegisterGraph(module);
  din_infer::RegisterPeak(module);
  din_infer::RegisterWork(module);
}
