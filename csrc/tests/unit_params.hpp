// The parameters of a random unit as the public interface takes them.
#pragma once

#include "din_infer/din_infer.hpp"
#include "reference.hpp"

namespace din_infer::testing {

// Points into `random`.
inline ActivationUnitParams ParamsOf(const RandomUnit& random) {
  const UnitSemantics& semantics = random.semantics();
  const LayerParameters parameters = random.parameters();
  ActivationUnitParams params;
  params.scale = semantics.scale;
  params.normalize = semantics.softmax ? "softmax" : "none";
  for (const auto& [name, interaction] : kInteractionNames) {
    if (interaction == semantics.interaction) params.interaction = name;
  }
  for (const auto& [name, activation] : kActivationNames) {
    if (activation == semantics.activation) params.activation = name;
  }
  const bool dice = semantics.activation == Activation::kDice;
  int64_t inputs = semantics.InputWidth(random.dim());
  for (size_t l = 0; l < parameters.weights.size(); ++l) {
    UnitLayer& layer = params.layers.emplace_back();
    const bool hidden = l < semantics.hidden.size();
    layer.outputs = hidden ? semantics.hidden[l] : 1;
    layer.inputs = inputs;
    layer.weights = {parameters.weights[l], layer.outputs * inputs};
    layer.biases = {parameters.biases[l], layer.outputs};
    if (hidden && semantics.HasAlpha()) layer.alpha = {parameters.alpha[l], layer.outputs};
    if (hidden && dice) {
      layer.mean = {parameters.mean[l], layer.outputs};
      layer.var = {parameters.var[l], layer.outputs};
      layer.eps = parameters.eps[l];
    }
    inputs = layer.outputs;
  }
  return params;
}

}  // namespace din_infer::testing
