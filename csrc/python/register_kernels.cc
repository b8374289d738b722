#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "engine/activation_unit.hpp"
#include "engine/unit_runner.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;

namespace din_infer {
namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Int64s = py::array_t<int64_t, py::array::c_style>;

Activation ParseActivation(const std::string& name) {
  if (name == "sigmoid") return Activation::kSigmoid;
  if (name == "relu") return Activation::kRelu;
  if (name == "prelu") return Activation::kPRelu;
  if (name == "tanh") return Activation::kTanh;
  if (name == "dice") return Activation::kDice;
  if (name == "bisigmoid") return Activation::kBiSigmoid;
  throw InputError("activation: unknown name " + name);
}

// D from W1's columns: 2D + D^2 (outer) or 4D (hadamard).
int64_t KeyWidth(const UnitSemantics& unit, int64_t columns) {
  int64_t dim = 0;
  while (unit.InputWidth(dim) < columns) ++dim;
  return dim;
}

ActivationUnit MakeUnit(const std::string& interaction, const std::vector<Floats>& weights,
                        const std::vector<Floats>& biases, const std::string& activation,
                        const std::vector<py::dict>& activation_params, const std::string& normalize,
                        std::optional<float> scale) {
  UnitSemantics unit;
  unit.interaction = interaction == "outer" ? Interaction::kOuter : Interaction::kHadamard;
  unit.activation = ParseActivation(activation);
  unit.softmax = normalize == "softmax";
  unit.scale = scale;
  LayerParameters parameters;
  std::vector<Floats> keep;
  for (size_t l = 0; l < weights.size(); ++l) {
    parameters.weights.push_back(weights[l].data());
    parameters.biases.push_back(biases[l].data());
    if (l + 1 == weights.size()) break;
    unit.hidden.push_back(weights[l].shape(0));
    const auto values = [&](const char* name) -> const float* {
      if (!activation_params[l].contains(name)) return nullptr;
      return keep.emplace_back(activation_params[l][name].cast<Floats>()).data();
    };
    parameters.alpha.push_back(values("alpha"));
    parameters.mean.push_back(values("mean"));
    parameters.var.push_back(values("var"));
    const bool dice = unit.activation == Activation::kDice;
    parameters.eps.push_back(dice ? activation_params[l]["eps"].cast<float>() : 0.0f);
  }
  return ActivationUnit(unit, KeyWidth(unit, weights[0].shape(1)), parameters);
}

void Run(const ActivationUnit& unit, const Floats& keys, const Int64s& key_offsets, const Floats& queries,
         const Int64s& query_offsets, const std::optional<Int64s>& counts, Floats& out, int threads) {
  const int64_t requests = key_offsets.size() - 1, dim = unit.dim();
  const int64_t* offsets = key_offsets.data();
  const float* key_rows = keys.data();
  const int64_t* key_counts = counts.has_value() ? counts->data() : nullptr;
  float* interests = out.mutable_data();
  py::gil_scoped_release release;
  Parallel parallel(threads);
  std::vector<FloatBuffer> tiles(static_cast<size_t>(requests)), float_counts(tiles.size());
  std::vector<PackedKeys> packed(tiles.size());
  parallel.For(requests, [&](int64_t r, int) {
    const size_t request = static_cast<size_t>(r);
    const int64_t begin = offsets[r], count = offsets[r + 1] - begin;
    PackTiles(key_rows + begin * dim, dim, count, dim,
              Reserve(tiles[request], static_cast<size_t>(WholeTiles(count) * dim)));
    if (key_counts != nullptr) float_counts[request].assign(key_counts + begin, key_counts + begin + count);
    packed[request] = {tiles[request].data(), count, key_counts == nullptr ? nullptr : float_counts[request].data()};
  });
  UnitRunner().Run(unit, nullptr, nullptr, {packed, query_offsets.data(), queries.data(), dim, interests, dim},
                   parallel);
}

}  // namespace

void RegisterKernels(py::module_& module) {
  module.def("targets", &kernels::Targets);
  module.def("target", [] { return kernels::Kernels().target; });
  py::class_<ActivationUnit>(module, "ActivationUnit")
      .def(py::init(&MakeUnit), py::arg("interaction"), py::arg("weights"), py::arg("biases"), py::arg("activation"),
           py::arg("activation_params"), py::arg("normalize"), py::arg("scale"))
      .def("run", &Run, py::arg("keys"), py::arg("key_offsets"), py::arg("queries"), py::arg("query_offsets"),
           py::arg("counts"), py::arg("out"), py::arg("threads"));
}

}  // namespace din_infer
