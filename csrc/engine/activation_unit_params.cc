#include "engine/activation_unit_params.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/quote.hpp"
#include "base/schema.hpp"

namespace din_infer {
namespace {

// As wide as a layer of a model file may be.
constexpr int64_t kMaxWidth = int64_t{1} << 20;

template <typename Names>
auto Choice(const std::string& where, const std::string& name, const Names& names) {
  std::string expected;
  for (const auto& [known, value] : names) {
    if (known == name) return value;
    expected += (expected.empty() ? "" : " | ") + std::string(known);
  }
  throw InputError(where + ": expected " + expected + ", got " + Quote(name));
}

// Finite floats of which there are `rows` * `columns`.
void CheckFloats(const std::string& where, const FloatView& view, int64_t rows, int64_t columns) {
  if (view.size % rows != 0 || view.size / rows != columns) {
    const std::string shape =
        columns == 1 ? std::to_string(rows) : std::to_string(rows) + " x " + std::to_string(columns);
    throw InputError(where + ": expected " + shape + " floats, got " + std::to_string(view.size));
  }
  if (view.data == nullptr) throw InputError(where + ": expected floats, got a null pointer");
  for (int64_t i = 0; i < view.size; ++i) {
    if (std::isfinite(view.data[i])) continue;
    throw InputError(where + ": expected finite numbers, got " + std::to_string(view.data[i]) + " at " +
                     std::to_string(i));
  }
}

void CheckEmpty(const std::string& where, const FloatView& view) {
  if (view.size != 0) throw InputError(where + ": expected none here, got " + std::to_string(view.size));
}

// D of W_1's inputs: 2D + D^2 (outer) or 4D (hadamard).
int64_t KeyWidth(const UnitSemantics& unit, int64_t inputs) {
  const bool outer = unit.interaction == Interaction::kOuter;
  const double of_outer = std::sqrt(static_cast<double>(std::max<int64_t>(inputs, 0)) + 1) - 1;
  const int64_t dim = outer ? std::llround(of_outer) : inputs / 4;
  if (dim < 1 || dim > kMaxKeyWidth || unit.InputWidth(dim) != inputs) {
    throw InputError(std::string("layers[0].inputs: expected ") + (outer ? "2D + D*D for outer" : "4D for hadamard") +
                     " with D from 1 to " + std::to_string(kMaxKeyWidth) + ", got " + std::to_string(inputs));
  }
  return dim;
}

// Values behind the checked layers, in the form that the engine takes them.
class Layers {
 public:
  Layers(const ActivationUnitParams& params, Activation activation) : activation_(activation) {
    alpha_.reserve(params.layers.size());
    for (size_t l = 0; l < params.layers.size(); ++l) {
      const std::string where = "layers[" + std::to_string(l) + "]";
      Add(params.layers[l], l == 0 ? params.layers[0].inputs : params.layers[l - 1].outputs, where);
      if (l + 1 < params.layers.size()) {
        AddActivation(params.layers[l], where);
      } else {
        CheckOutput(params.layers[l], where);
      }
    }
  }

  LayerParameters parameters;

 private:
  void Add(const UnitLayer& layer, int64_t inputs, const std::string& where) {
    if (layer.outputs < 1 || layer.outputs > kMaxWidth) {
      throw InputError(where + ".outputs: expected 1 to " + std::to_string(kMaxWidth) + ", got " +
                       std::to_string(layer.outputs));
    }
    if (layer.inputs != inputs) {
      throw InputError(where + ".inputs: expected " + std::to_string(inputs) + ", got " + std::to_string(layer.inputs));
    }
    CheckFloats(where + ".weights", layer.weights, layer.outputs, layer.inputs);
    CheckFloats(where + ".biases", layer.biases, layer.outputs, 1);
    parameters.weights.push_back(layer.weights.data);
    parameters.biases.push_back(layer.biases.data);
  }

  void AddActivation(const UnitLayer& layer, const std::string& where) {
    const bool dice = activation_ == Activation::kDice;
    parameters.alpha.push_back(Alpha(layer, where + ".alpha"));
    parameters.mean.push_back(dice ? layer.mean.data : nullptr);
    parameters.var.push_back(dice ? layer.var.data : nullptr);
    parameters.eps.push_back(layer.eps);
    if (!dice) {
      CheckEmpty(where + ".mean", layer.mean);
      CheckEmpty(where + ".var", layer.var);
      return;
    }
    CheckFloats(where + ".mean", layer.mean, layer.outputs, 1);
    CheckFloats(where + ".var", layer.var, layer.outputs, 1);
    const float least = *std::min_element(layer.var.data, layer.var.data + layer.var.size);
    if (!std::isfinite(layer.eps) || !(least >= 0 && least + layer.eps > 0)) {
      throw InputError(where + ": expected var >= 0 and var + eps > 0, got " + std::to_string(least) + " and " +
                       std::to_string(layer.eps));
    }
  }

  // One value for all units is repeated for each of them.
  const float* Alpha(const UnitLayer& layer, const std::string& where) {
    if (activation_ != Activation::kDice && activation_ != Activation::kPRelu) {
      CheckEmpty(where, layer.alpha);
      return nullptr;
    }
    CheckFloats(where, layer.alpha, layer.alpha.size == 1 ? 1 : layer.outputs, 1);
    if (layer.alpha.size == layer.outputs) return layer.alpha.data;
    return alpha_.emplace_back(static_cast<size_t>(layer.outputs), *layer.alpha.data).data();
  }

  static void CheckOutput(const UnitLayer& layer, const std::string& where) {
    if (layer.outputs != 1) {
      throw InputError(where + ".outputs: expected 1 of the last layer, got " + std::to_string(layer.outputs));
    }
    CheckEmpty(where + ".alpha", layer.alpha);
    CheckEmpty(where + ".mean", layer.mean);
    CheckEmpty(where + ".var", layer.var);
  }

  Activation activation_;
  std::vector<std::vector<float>> alpha_;
};

}  // namespace

ActivationUnit PackUnit(const ActivationUnitParams& params) {
  UnitSemantics unit;
  unit.interaction = Choice("interaction", params.interaction, kInteractionNames);
  unit.activation = Choice("activation", params.activation, kActivationNames);
  unit.softmax = Choice("normalize", params.normalize, kNormalizationNames);
  unit.scale = params.scale;
  if (unit.scale.has_value() && !std::isfinite(*unit.scale)) {
    throw InputError("scale: expected a finite number, got " + std::to_string(*unit.scale));
  }
  if (params.layers.empty()) throw InputError("layers: expected at least one, got none");
  const int64_t dim = KeyWidth(unit, params.layers[0].inputs);
  const Layers layers(params, unit.activation);
  for (const UnitLayer& layer : params.layers) unit.hidden.push_back(layer.outputs);
  unit.hidden.pop_back();
  return ActivationUnit(unit, dim, layers.parameters);
}

}  // namespace din_infer
