#include "engine/model.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace din_infer {
namespace {

const Parameter& Get(const ModelFile& file, const std::string& name) {
  const auto found = file.parameters.find(name);
  if (found == file.parameters.end()) throw ModelFileError("expected a parameter " + name + ", got none");
  return found->second;
}

LayerParameters GetLayers(const ModelFile& file, const std::string& prefix, const LayerSemantics& semantics) {
  LayerParameters layers;
  for (size_t l = 0; l <= semantics.hidden.size(); ++l) {
    const std::string index = std::to_string(l);
    layers.weights.push_back(Get(file, prefix + ".weights." + index).Floats());
    layers.biases.push_back(Get(file, prefix + ".biases." + index).Floats());
    if (l == semantics.hidden.size()) break;
    const auto optional = [&](const char* name, bool present) {
      return present ? Get(file, prefix + ".activation." + index + "." + name).Floats() : nullptr;
    };
    const bool dice = semantics.activation == Activation::kDice;
    layers.alpha.push_back(optional("alpha", semantics.HasAlpha()));
    layers.mean.push_back(optional("mean", dice));
    layers.var.push_back(optional("var", dice));
    layers.eps.push_back(semantics.eps);
  }
  return layers;
}

// A dense feature of a history has the statistics of the candidate's feature of that name, where there is one.
GroupEmbedding EmbedGroup(const ModelFile& file, const std::vector<RowMap>& rows, const Group& group) {
  GroupEmbedding embedding;
  const auto& shared = file.schema.candidate.features;
  for (const Feature& feature : group.features) {
    if (feature.table == kDense) {
      const bool of_candidate =
          std::any_of(shared.begin(), shared.end(), [&](const Feature& other) { return other.name == feature.name; });
      const bool history = group.name != "user" && group.name != "context";
      const std::string owner = history && of_candidate ? "candidate" : group.name;
      const std::string name = "dense." + owner + "." + feature.name;
      embedding.Add(FeatureEmbedding::Dense(*Get(file, name + ".mean").Floats(), *Get(file, name + ".std").Floats()));
      continue;
    }
    const size_t index = static_cast<size_t>(feature.table);
    const Table& table = file.schema.tables[index];
    const Parameter& stored = Get(file, "table." + table.name);
    const bool ranged = stored.dtype == DType::kInt8;
    const float* ranges = ranged ? Get(file, "table." + table.name + ".range").Floats() : nullptr;
    embedding.Add(FeatureEmbedding::Table(&rows[index], {stored.dtype, stored.data, ranges}, table.dim, feature.many));
  }
  return embedding;
}

void CheckValues(const std::string& name, const Parameter& parameter) {
  if (name.rfind("table.", 0) == 0) return;
  const auto ends = [&](const std::string& end) {
    return name.size() > end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
  };
  int64_t size = 1;
  for (int64_t dim : parameter.shape) size *= dim;
  for (int64_t i = 0; i < size; ++i) {
    const float value = parameter.Floats()[i];
    const bool fits = std::isfinite(value) && !(ends(".var") && value < 0) && !(ends(".std") && value <= 0);
    if (!fits) {
      const char* expected = ends(".var")   ? "numbers of at least 0"
                             : ends(".std") ? "numbers above 0"
                                            : "finite numbers";
      throw ModelFileError("parameter " + name + ": expected " + expected + ", got " + std::to_string(value) + " at " +
                           std::to_string(i));
    }
  }
}

std::vector<int64_t> QueryColumns(const Schema& schema, const History& history, const GroupEmbedding& candidate) {
  std::vector<int64_t> columns;
  for (const Feature& feature : history.features) {
    int64_t from = -1;
    for (size_t f = 0; f < schema.candidate.features.size(); ++f) {
      if (schema.candidate.features[f].name == feature.name) from = candidate.Begin(f);
    }
    for (int64_t i = 0; i < schema.Width(feature); ++i) columns.push_back(from < 0 ? -1 : from + i);
  }
  return columns;
}

// Smaller folds, in multiply-adds, cost about as much as to look them up and to read them.
constexpr int64_t kCachedFoldWork = 50'000;

// Memory that a unit's remembered folds may take. They need not be in a processor's cache: while one panel of a fold is
// multiplied, the next is read.
constexpr size_t kFoldCacheBytes = size_t{64} << 20;

std::unique_ptr<FoldCache> MakeFoldCache(const ActivationUnit& unit) {
  const size_t bytes = static_cast<size_t>(unit.dim() + unit.folded_size()) * sizeof(float);
  return std::make_unique<FoldCache>(unit.dim(), unit.folded_size(), static_cast<int64_t>(kFoldCacheBytes / bytes));
}

}  // namespace

void CheckParameters(const ModelFile& file) {
  for (const auto& [name, parameter] : file.parameters) CheckValues(name, parameter);
}

Model::Parts::Parts(ModelFile model_file) : file(std::move(model_file)), unknown(file.schema.FeatureCount()) {
  const Schema& schema = file.schema;
  CheckParameters(file);
  for (size_t t = 0; t < schema.tables.size(); ++t) rows.emplace_back(schema.tables[t], file.vocabularies[t]);
  file.vocabularies.clear();  // of as many bytes again
  user = EmbedGroup(file, rows, schema.user);
  context = EmbedGroup(file, rows, schema.context);
  candidate = EmbedGroup(file, rows, schema.candidate);
  int64_t pooled = 0;
  for (size_t h = 0; h < schema.histories.size(); ++h) {
    HistoryPart& part = histories.emplace_back();
    part.schema = &schema.histories[h];
    part.keys = EmbedGroup(file, rows, schema.histories[h]);
    part.query = QueryColumns(schema, schema.histories[h], candidate);
    part.own_begin = pooled;
    pooled += part.keys.width();
    if (file.semantics.pooling != Pooling::kActivationUnit) continue;
    const UnitSemantics& unit = file.semantics.units[h];
    const LayerParameters layers = GetLayers(file, "unit." + part.schema->name, unit);
    part.unit.emplace(unit, part.keys.width(), layers);
    part.key_side.emplace(ActivationUnit::ForKeys(unit, part.keys.width(), layers));
    if (part.unit->FoldWork() >= kCachedFoldWork) part.folds = MakeFoldCache(*part.unit);
  }
  tower.emplace(file.semantics.tower, user.width(), pooled + candidate.width(), context.width(),
                GetLayers(file, "tower", file.semantics.tower));
}

void Model::Parts::CountUnknown(const std::vector<int64_t>& ids) const {
  for (size_t f = 0; f < ids.size(); ++f) {
    if (ids[f] != 0) unknown[f].fetch_add(ids[f], std::memory_order_relaxed);
  }
}

size_t Model::Parts::MemoryBytes() const {
  size_t bytes = tower->bytes();
  for (const RowMap& map : rows) bytes += map.bytes();
  for (const HistoryPart& history : histories) {
    if (history.unit.has_value()) bytes += history.unit->bytes() + history.key_side->bytes();
    if (history.folds != nullptr) bytes += history.folds->bytes();
  }
  for (const auto& [name, parameter] : file.parameters) bytes += static_cast<size_t>(parameter.bytes);
  return bytes;
}

size_t Model::Parts::HistoryIndex(const std::string& name) const {
  std::string known;
  for (size_t h = 0; h < histories.size(); ++h) {
    if (histories[h].schema->name == name) return h;
    known += (h == 0 ? "" : " | ") + histories[h].schema->name;
  }
  throw InputError("history: expected " + (known.empty() ? "a model with histories" : known) + ", got " + name);
}

Model Model::load(const std::string& path) { return Parts::Of(ReadModelFile(path)); }

Model Model::load_bytes(std::string bytes, const std::string& folder) {
  return Parts::Of(ReadModelFile(std::move(bytes), folder));
}

const std::map<std::string, std::string>& Model::metadata() const { return parts_->file.metadata; }

std::map<std::string, int64_t> Model::unknown_ids() const {
  std::map<std::string, int64_t> counts;
  size_t at = 0;
  for (const Group* group : parts_->file.schema.Groups()) {
    for (const Feature& feature : group->features) {
      const int64_t count = parts_->unknown[at++].load(std::memory_order_relaxed);
      if (feature.table != kDense) counts.emplace(group->name + "." + feature.name, count);
    }
  }
  return counts;
}

MultiplyAdds Model::multiply_adds() const {
  return {parts_->work_request.load(std::memory_order_relaxed), parts_->work_done.load(std::memory_order_relaxed)};
}

size_t Model::memory_bytes() const { return parts_->MemoryBytes(); }

}  // namespace din_infer
