#include "onnx/expected_graph.hpp"

#include <algorithm>
#include <unordered_set>

#include "base/errors.hpp"
#include "base/quote.hpp"
#include "onnx/builder.hpp"
#include "onnx/functions.hpp"

namespace din_infer::onnx {
namespace {

const Feature* Find(const Group& group, const std::string& name) {
  const auto found = std::find_if(group.features.begin(), group.features.end(),
                                  [&](const Feature& feature) { return feature.name == name; });
  return found == group.features.end() ? nullptr : &*found;
}

// Values of the graph that are neither columns, parameters nor the output: those names hold no slash in front.
std::string Internal(const std::string& name) { return "/" + name; }

class Generator {
 public:
  Generator(const Schema& schema, const Semantics& semantics, bool raw_ids, DType table_dtype)
      : schema_(schema), semantics_(semantics), raw_ids_(raw_ids), table_dtype_(table_dtype), b_(&graph_.nodes) {}

  Graph Generate() {
    Inputs();
    Tables();
    Requests();
    graph_.outputs = {{"probability", DType::kFloat32, {std::string("B"), std::string("N")}}};
    CheckNames();
    return std::move(graph_);
  }

 private:
  // --- inputs

  static bool PerRequest(const Group& group) { return group.name == "user" || group.name == "context"; }

  void ColumnInputs(const Group& group, const std::string& slots) {
    for (const Feature& feature : group.features) {
      const std::string column = group.name + "." + feature.name;
      std::vector<Dim> dims = {std::string("B")};
      if (!PerRequest(group)) dims.emplace_back(slots);
      const std::vector<Dim> length_dims = dims;
      if (feature.many != Many::kNo) dims.emplace_back("G_" + column);
      const bool is_row = !raw_ids_ && feature.table != kDense;
      graph_.inputs.push_back({column, is_row ? DType::kInt64 : schema_.Type(feature), dims});
      if (feature.many != Many::kNo) graph_.inputs.push_back({column + ".lengths", DType::kInt64, length_dims});
    }
    if (!PerRequest(group)) {
      graph_.inputs.push_back({group.name + ".lengths", DType::kInt64, {std::string("B")}});
    }
  }

  void Inputs() {
    ColumnInputs(schema_.user, "");
    ColumnInputs(schema_.context, "");
    ColumnInputs(schema_.candidate, "N");
    for (const History& history : schema_.histories) ColumnInputs(history, "T_" + history.name);
  }

  // --- parameters

  void Tables() {
    for (size_t i = 0; i < schema_.tables.size(); ++i) {
      const Table& table = schema_.tables[i];
      ParameterShape parameter{"table." + table.name, {table.size, table.dim}};
      if (table.ids == Ids::kIdentity) parameter.shape[0] = 1 + table.size;
      if (table.ids == Ids::kVocabulary) {
        parameter.shape[0] = kAnyRows;
        parameter.vocabulary = static_cast<int>(i);
      }
      parameter.dtype = table_dtype_;
      graph_.parameters.push_back(parameter);
      if (table_dtype_ != DType::kInt8) continue;
      parameter.name += ".range";
      parameter.shape[1] = 2;
      parameter.dtype = DType::kFloat32;
      graph_.parameters.push_back(parameter);
    }
  }

  // Appends the parameters of a stack of layers to the graph's, and to the inputs of the call that uses them.
  void LayerInputs(const LayerSemantics& layers, int64_t width, const std::string& prefix, Names* inputs) {
    for (ParameterShape parameter : LayerParameters(layers, width)) {
      parameter.name = prefix + "." + parameter.name;
      inputs->push_back(parameter.name);
      graph_.parameters.push_back(std::move(parameter));
    }
  }

  // --- functions

  // The function's name in the graph: one serves all places that need the same body.
  std::string Declare(const std::string& stem, Function function) {
    int number = 1;
    for (const Function& other : graph_.functions) {
      if (other.name.compare(0, stem.size() + 1, stem + "_") != 0) continue;
      if (other.inputs == function.inputs && other.nodes == function.nodes) return other.name;
      ++number;
    }
    function.name = stem + "_" + std::to_string(number);
    graph_.functions.push_back(std::move(function));
    return graph_.functions.back().name;
  }

  // --- embeddings

  std::string DenseEmbedding(const Group& group, const Feature& feature) {
    const std::string column = group.name + "." + feature.name;
    const bool shared = !PerRequest(group) && Find(schema_.candidate, feature.name) != nullptr;
    const std::string statistics = "dense." + (shared ? "candidate." + feature.name : column);
    if (!shared || group.name == "candidate") {
      graph_.parameters.push_back({statistics + ".mean", {}});
      graph_.parameters.push_back({statistics + ".std", {}});
    }
    return b_.Call(Declare("Standardise", StandardiseFunction()), Internal(column + "/embedding"),
                   {column, statistics + ".mean", statistics + ".std"});
  }

  // [B, d], [B, N, d] or [B, T, d]
  std::string Embedding(const Group& group, const Feature& feature) {
    if (feature.table == kDense) return DenseEmbedding(group, feature);
    const std::string column = group.name + "." + feature.name;
    const Table& table = schema_.tables[static_cast<size_t>(feature.table)];
    std::string rows = column;
    if (raw_ids_) {
      rows = b_.Call(Declare("Rows", RowsFunction(table, feature.table)), Internal(column + "/rows"), {column});
    }
    const std::string output = Internal(column + "/embedding");
    Names inputs = {"table." + table.name};
    if (table_dtype_ == DType::kInt8) inputs.push_back("table." + table.name + ".range");
    inputs.push_back(rows);
    if (feature.many == Many::kNo) {
      if (table_dtype_ == DType::kFloat32) return b_.Op("Gather", output, inputs, {{"axis", int64_t{0}}});
      return b_.Call(Declare("Embedding", EmbeddingFunction(table_dtype_)), output, inputs);
    }
    inputs.push_back(column + ".lengths");
    return b_.Call(Declare("EmbeddingBag", EmbeddingBagFunction(feature.many, PerRequest(group) ? 1 : 2, table_dtype_)),
                   output, inputs);
  }

  std::map<std::string, std::string> Embeddings(const Group& group) {
    std::map<std::string, std::string> embeddings;
    for (const Feature& feature : group.features) embeddings[feature.name] = Embedding(group, feature);
    return embeddings;
  }

  std::string Mask(const Group& group, int64_t max_length, bool keeps_tail) {
    return b_.Call(Declare("Mask", MaskFunction(max_length, keeps_tail)), Internal(group.name + "/mask"),
                   {group.name + "." + group.features.front().name, group.name + ".lengths"});
  }

  std::string Joined(const std::string& output, const Names& parts) {
    return parts.size() == 1 ? parts.front() : b_.Concat(output, parts, -1);
  }

  // --- the model

  // Queries [B, N, D] of a history: the candidates' embeddings, zeros for what only behaviours have.
  std::string Queries(const History& history) {
    Names parts;
    for (const Feature& feature : history.features) {
      if (Find(schema_.candidate, feature.name)) {
        parts.push_back(candidate_.at(feature.name));
        continue;
      }
      const std::string zeros = Internal(history.name + "." + feature.name + "/zeros");
      const std::string width = b_.Ints(zeros + "_width", {schema_.Width(feature)});
      parts.push_back(b_.Op("ConstantOfShape", zeros, {b_.Concat(zeros + "_shape", {candidate_shape_, width}, 0)}));
    }
    return Joined(Internal(history.name + "/queries"), parts);
  }

  // [B, N, D]
  std::string Interest(size_t index) {
    const History& history = schema_.histories[index];
    const std::map<std::string, std::string> embeddings = Embeddings(history);
    Names parts;
    for (const Feature& feature : history.features) parts.push_back(embeddings.at(feature.name));
    const std::string keys = Joined(Internal(history.name + "/keys"), parts);
    const std::string mask = Mask(history, history.max_length, history.keeps_tail());
    const std::string output = Internal(history.name + "/interest");
    if (semantics_.pooling != Pooling::kActivationUnit) {
      const bool mean = semantics_.pooling == Pooling::kMean;
      const std::string function = Declare("EqualPooling", EqualPoolingFunction(mean));
      return PerCandidate(output, b_.Call(function, Internal(history.name + "/pooled"), {keys, mask}));
    }
    const UnitSemantics& unit = semantics_.units[index];
    const int64_t dim = schema_.Width(history);
    Names inputs = {keys, mask, Queries(history)};
    LayerInputs(unit, unit.InputWidth(dim), "unit." + history.name, &inputs);
    return b_.Call(Declare("ActivationUnit", ActivationUnitFunction(unit, dim)), output, inputs);
  }

  // [B, 1, d] -> [B, N, d]
  std::string PerCandidate(const std::string& output, const std::string& per_request) {
    if (extent_.empty()) extent_ = b_.Concat("/candidate/extent", {candidate_shape_, b_.Ints("/one", {1})}, 0);
    return b_.Op("Expand", output, {per_request, extent_});
  }

  void RequestPart(const Group& group, Names* parts) {
    if (group.features.empty()) return;
    const std::map<std::string, std::string> embeddings = Embeddings(group);
    Names own;
    for (const Feature& feature : group.features) own.push_back(embeddings.at(feature.name));
    const std::string name = Internal(group.name);
    parts->push_back(PerCandidate(name + "/expanded", b_.Unsqueeze(name + "/row", Joined(name + "/joined", own), 1)));
  }

  void Requests() {
    const Feature& first = schema_.candidate.features.front();
    candidate_shape_ =
        b_.Op("Shape", "/candidate/shape", {"candidate." + first.name}, {{"start", int64_t{0}}, {"end", int64_t{2}}});
    candidate_ = Embeddings(schema_.candidate);
    Names parts;
    RequestPart(schema_.user, &parts);
    for (size_t i = 0; i < schema_.histories.size(); ++i) parts.push_back(Interest(i));
    for (const Feature& feature : schema_.candidate.features) parts.push_back(candidate_.at(feature.name));
    RequestPart(schema_.context, &parts);
    Names inputs = {Joined("/tower/input", parts)};
    LayerInputs(semantics_.tower, schema_.TowerWidth(), "tower", &inputs);
    const std::string logits = b_.Call(Declare("Tower", TowerFunction(semantics_.tower)), "/logits", inputs);
    const std::string mask = Mask(schema_.candidate, 0, false);
    const std::string probability = b_.Op("Sigmoid", "/probability", {logits});
    b_.Op("Where", "probability", {mask, probability, b_.Float("/padding", 0)});
  }

  // ONNX values have one producer each; a history named like the prefix of parameters could break that.
  void CheckNames() const {
    std::unordered_set<std::string> seen;
    const auto add = [&](const std::string& name) {
      if (!seen.insert(name).second) {
        throw ModelFileError("schema: the name " + Quote(name) +
                             " would stand for two values of the graph; rename the history or table");
      }
    };
    for (const Value& input : graph_.inputs) add(input.name);
    for (const ParameterShape& parameter : graph_.parameters) add(parameter.name);
    for (const Node& node : graph_.nodes) add(node.outputs.front());
  }

  const Schema& schema_;
  const Semantics& semantics_;
  const bool raw_ids_;
  const DType table_dtype_;
  Graph graph_;
  Builder b_;
  std::map<std::string, std::string> candidate_;
  std::string candidate_shape_, extent_;
};

}  // namespace

Graph ExpectedGraph(const Schema& schema, const Semantics& semantics, bool raw_ids, DType table_dtype) {
  return Generator(schema, semantics, raw_ids, table_dtype).Generate();
}

}  // namespace din_infer::onnx
