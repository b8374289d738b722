#include <pybind11/stl.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "din_infer/din_infer.hpp"
#include "kernels/kernels.hpp"
#include "python/bindings.hpp"
#include "python/pool.hpp"

namespace py = pybind11;

namespace din_infer {
namespace {

using Layers = std::vector<std::tuple<Floats, Floats, py::dict>>;  // weights, biases, activation parameters

FloatView View(const Floats& array) { return {array.data(), array.size()}; }

// A unit and a runner for each thread that runs it now.
class SharedUnit {
 public:
  explicit SharedUnit(ActivationUnitRunner unit) : unit_(std::move(unit)) {}

  void Run(const Floats& keys, const Int64s& key_offsets, const Floats& queries, const Int64s& query_offsets,
           const std::optional<Int64s>& counts, Floats& out, int threads);

 private:
  ActivationUnitRunner unit_;
  Pool<int, ActivationUnitRunner> runners_;  // by threads
};

std::unique_ptr<SharedUnit> MakeUnit(const std::string& interaction, const Layers& layers,
                                     const std::string& activation, const std::string& normalize,
                                     std::optional<float> scale) {
  ActivationUnitParams params{interaction, {}, activation, normalize, scale};
  std::deque<Floats> keep;
  for (const auto& [weights, biases, learned] : layers) {
    UnitLayer& layer = params.layers.emplace_back();
    layer.outputs = weights.shape(0), layer.inputs = weights.shape(1);
    layer.weights = View(weights), layer.biases = View(biases);
    for (const auto& [name, view] : {std::pair{"alpha", &layer.alpha}, {"mean", &layer.mean}, {"var", &layer.var}}) {
      if (learned.contains(name)) *view = View(keep.emplace_back(learned[name].template cast<Floats>()));
    }
    if (learned.contains("eps")) layer.eps = learned["eps"].template cast<float>();
  }
  return std::make_unique<SharedUnit>(ActivationUnitRunner(params));
}

Rows View(const Floats& rows, const Int64s& offsets) {
  return {rows.data(), rows.shape(0), {offsets.data(), offsets.size()}};
}

void SharedUnit::Run(const Floats& keys, const Int64s& key_offsets, const Floats& queries, const Int64s& query_offsets,
                     const std::optional<Int64s>& counts, Floats& out, int threads) {
  const Rows key_rows = View(keys, key_offsets), query_rows = View(queries, query_offsets);
  const int64_t* key_counts = counts.has_value() ? counts->data() : nullptr;
  float* interests = out.mutable_data();
  const auto runner = runners_.Take(
      threads, [&] { return std::make_unique<ActivationUnitRunner>(unit_, ActivationUnitRunnerOptions{threads}); });
  py::gil_scoped_release release;
  runner->run(key_rows, query_rows, interests, key_counts);
}

}  // namespace

void RegisterKernels(py::module_& module) {
  module.def("targets", &kernels::Targets);
  module.def("target", &target);
  py::class_<SharedUnit>(module, "ActivationUnitRunner")
      .def(py::init(&MakeUnit), py::arg("interaction"), py::arg("layers"), py::arg("activation"), py::arg("normalize"),
           py::arg("scale"))
      .def_static(
          "of_model",
          [](const std::string& path, const std::string& history, bool auto_fold) {
            ActivationUnitRunnerOptions options;
            options.auto_fold = auto_fold;
            return std::make_unique<SharedUnit>(ActivationUnitRunner(Model::load(path), history, options));
          },
          py::arg("path"), py::arg("history"), py::arg("auto_fold"))
      .def("run", &SharedUnit::Run, py::arg("keys"), py::arg("key_offsets"), py::arg("queries"),
           py::arg("query_offsets"), py::arg("counts"), py::arg("out"), py::arg("threads"));
}

}  // namespace din_infer
