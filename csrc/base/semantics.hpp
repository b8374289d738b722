// What a model computes; the C++ form of din_infer/semantics.py, which defines the meaning of each field.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/schema.hpp"

namespace din_infer {

enum class Activation { kSigmoid, kRelu, kPRelu, kTanh, kDice, kBiSigmoid };
enum class Interaction { kOuter, kHadamard };
enum class Pooling { kActivationUnit, kSum, kMean };

inline constexpr std::pair<std::string_view, Activation> kActivationNames[] = {
    {"sigmoid", Activation::kSigmoid}, {"relu", Activation::kRelu}, {"prelu", Activation::kPRelu},
    {"tanh", Activation::kTanh},       {"dice", Activation::kDice}, {"bisigmoid", Activation::kBiSigmoid}};
inline constexpr std::pair<std::string_view, Interaction> kInteractionNames[] = {{"outer", Interaction::kOuter},
                                                                                 {"hadamard", Interaction::kHadamard}};
inline constexpr std::pair<std::string_view, bool> kNormalizationNames[] = {{"none", false}, {"softmax", true}};

struct LayerSemantics {
  std::vector<int64_t> hidden;
  Activation activation = Activation::kDice;
  float eps = 0;  // of kDice

  bool HasAlpha() const { return activation == Activation::kDice || activation == Activation::kPRelu; }
};

struct UnitSemantics : LayerSemantics {
  Interaction interaction = Interaction::kOuter;
  bool softmax = false;
  std::optional<float> scale;

  // Inputs of the first layer for keys of width `dim`.
  int64_t InputWidth(int64_t dim) const { return interaction == Interaction::kOuter ? 2 * dim + dim * dim : 4 * dim; }
};

struct Semantics {
  Pooling pooling = Pooling::kActivationUnit;
  std::vector<UnitSemantics> units;  // one per history of the schema, in its order; empty without activation units
  LayerSemantics tower;
};

// Reads the JSON that Semantics.to_dict writes. Throws ModelFileError.
Semantics ParseSemantics(std::string_view json, const Schema& schema);

}  // namespace din_infer
