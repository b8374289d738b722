#include "base/semantics.hpp"

#include "base/json.hpp"

namespace din_infer {
namespace {

constexpr size_t kMaxHiddenLayers = 64;
constexpr int64_t kMaxHiddenWidth = int64_t{1} << 20;

void ParseLayers(const Json& json, const std::string& where, LayerSemantics* layers) {
  const Json& hidden = Member(json, "hidden");
  if (!hidden.is_array() || hidden.size() > kMaxHiddenLayers) {
    JsonError(where + ".hidden", "a list of at most " + std::to_string(kMaxHiddenLayers) + " widths", hidden);
  }
  for (const Json& width : hidden) layers->hidden.push_back(AsInteger(width, where + ".hidden", 1, kMaxHiddenWidth));
  layers->activation = AsChoice<Activation>(Member(json, "activation"), where + ".activation", kActivationNames);
  const Json& eps = Member(json, "eps");
  if (layers->activation == Activation::kDice) {
    layers->eps = AsFloat(eps, where + ".eps");
    if (layers->eps < 0) JsonError(where + ".eps", "a number of at least 0", eps);
  } else if (!eps.is_null()) {
    JsonError(where + ".eps", "none without dice", eps);
  }
}

UnitSemantics ParseUnit(const Json& json, const std::string& where) {
  AsObject(json, where, {"hidden", "activation", "eps", "interaction", "normalize", "scale"});
  UnitSemantics unit;
  ParseLayers(json, where, &unit);
  unit.interaction = AsChoice<Interaction>(Member(json, "interaction"), where + ".interaction", kInteractionNames);
  unit.softmax = AsChoice<bool>(Member(json, "normalize"), where + ".normalize", kNormalizationNames);
  if (const Json& scale = Member(json, "scale"); !scale.is_null()) unit.scale = AsFloat(scale, where + ".scale");
  return unit;
}

void ParseUnits(const Json& json, const Schema& schema, Semantics* semantics) {
  const std::string where = "semantics: units";
  AsObject(json, where);
  const size_t expected = semantics->pooling == Pooling::kActivationUnit ? schema.histories.size() : 0;
  if (json.size() != expected) JsonError(where, "one for each of " + std::to_string(expected) + " histories", json);
  if (expected == 0) return;
  for (const History& history : schema.histories) {
    const Json& unit = Member(json, history.name);
    if (unit.is_null()) JsonError(where, "a unit for the history " + history.name, json);
    semantics->units.push_back(ParseUnit(unit, where + "." + history.name));
  }
}

}  // namespace

Semantics ParseSemantics(std::string_view text, const Schema& schema) {
  const Json json = ParseJsonObject(text, "semantics");
  AsObject(json, "semantics", {"pooling", "units", "tower"});
  Semantics semantics;
  semantics.pooling = AsChoice<Pooling>(
      Member(json, "pooling"), "semantics: pooling",
      {{"activation_unit", Pooling::kActivationUnit}, {"sum", Pooling::kSum}, {"mean", Pooling::kMean}});
  ParseUnits(Member(json, "units"), schema, &semantics);
  ParseLayers(AsObject(Member(json, "tower"), "semantics: tower", {"hidden", "activation", "eps"}), "semantics: tower",
              &semantics.tower);
  return semantics;
}

}  // namespace din_infer
