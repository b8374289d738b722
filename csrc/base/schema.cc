#include "base/schema.hpp"

#include <algorithm>
#include <unordered_map>

#include "base/json.hpp"
#include "base/quote.hpp"

namespace din_infer {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 31;

using TableIndex = std::unordered_map<std::string, int>;

Table ParseTable(const std::string& name, const Json& json) {
  const std::string where = "schema: tables." + name;
  AsObject(json, where, {"dim", "ids", "size", "dtype", "min_count"});
  Table table;
  table.name = name;
  table.dim = AsInteger(Member(json, "dim"), where + ".dim", 1, kMaxKeyWidth);
  table.ids = AsChoice<Ids>(Member(json, "ids"), where + ".ids",
                            {{"vocabulary", Ids::kVocabulary}, {"hash", Ids::kHash}, {"identity", Ids::kIdentity}},
                            "vocabulary");
  table.dtype = AsChoice<DType>(Member(json, "dtype"), where + ".dtype",
                                {{"int64", DType::kInt64}, {"string", DType::kString}}, "int64");
  const Json& size = Member(json, "size");
  if (table.ids != Ids::kVocabulary) {
    table.size = AsInteger(size, where + ".size", 1, kMaxSize);
    if (table.dtype == DType::kString)
      throw ModelFileError(where + ": expected int64 ids with hash or identity, got string");
  } else if (!size.is_null()) {
    JsonError(where + ".size", "none with ids: vocabulary", size);
  }
  return table;
}

Feature ParseFeature(const std::string& name, const Json& json, const std::string& where, const TableIndex& tables) {
  AsObject(json, where, {"table", "many", "dense"});
  if (name == "lengths" || name.find('.') != std::string::npos) {
    throw ModelFileError(where + ": expected a feature's name other than `lengths`, without a dot, got " + Quote(name));
  }
  const Json& table = Member(json, "table");
  const Json& dense = Member(json, "dense");
  const Json& many = Member(json, "many");
  if (table.is_null() == dense.is_null()) JsonError(where, "either `table` or `dense`", json);
  Feature feature;
  feature.name = name;
  if (table.is_null()) {
    AsChoice<int>(dense, where + ".dense", {{"standardise", 0}});
    if (!many.is_null()) JsonError(where + ".many", "none with a dense feature", many);
    return feature;
  }
  const auto found = table.is_string() ? tables.find(table.get<std::string>()) : tables.end();
  if (found == tables.end()) JsonError(where + ".table", "the name of a table", table);
  feature.table = found->second;
  if (!many.is_null()) {
    feature.many = AsChoice<Many>(many, where + ".many", {{"mean", Many::kMean}, {"sum", Many::kSum}});
  }
  return feature;
}

Group ParseGroup(const std::string& name, const Json& json, const TableIndex& tables) {
  Group group;
  group.name = name;
  if (json.is_null()) return group;
  for (const auto& item : AsObject(json, "schema: " + name).items()) {
    group.features.push_back(ParseFeature(item.key(), item.value(), "schema: " + name + "." + item.key(), tables));
  }
  return group;
}

// Both sides of an activation unit share their tables: the same feature has the same specification.
void CheckSharedFeatures(const Group& history, const Group& candidate) {
  for (const Feature& feature : history.features) {
    const auto same = std::find_if(candidate.features.begin(), candidate.features.end(),
                                   [&](const Feature& other) { return other.name == feature.name; });
    if (same != candidate.features.end() && (same->table != feature.table || same->many != feature.many)) {
      throw ModelFileError("schema: " + history.name + "." + feature.name +
                           ": expected the table and pooling of candidate." + feature.name + ", got others");
    }
  }
}

History ParseHistory(const std::string& name, const Json& json, const Group& candidate, const TableIndex& tables) {
  const std::string where = "schema: histories." + name;
  AsObject(json, where, {"features", "order", "max_length", "keep"});
  if (name == "user" || name == "context" || name == "candidate" || name.find('.') != std::string::npos) {
    throw ModelFileError(where + ": a history may not be named user, context or candidate, or hold a dot");
  }
  History history;
  static_cast<Group&>(history) = ParseGroup(name, Member(json, "features"), tables);
  if (history.features.empty()) throw ModelFileError(where + ": expected at least one feature, got none");
  CheckSharedFeatures(history, candidate);
  history.oldest_first = AsChoice<bool>(Member(json, "order"), where + ".order",
                                        {{"oldest_first", true}, {"latest_first", false}}, "oldest_first");
  history.keep_latest =
      AsChoice<bool>(Member(json, "keep"), where + ".keep", {{"latest", true}, {"oldest", false}}, "latest");
  const Json& max_length = Member(json, "max_length");
  if (!max_length.is_null()) history.max_length = AsInteger(max_length, where + ".max_length", 1, kMaxSize);
  return history;
}

}  // namespace

DType ParseTableDType(std::string_view name) {
  if (name == "float32") return DType::kFloat32;
  if (name == "float16") return DType::kFloat16;
  if (name == "int8") return DType::kInt8;
  throw ModelFileError("table dtype: expected float32 | float16 | int8, got " + Quote(name));
}

Schema ParseSchema(std::string_view text) {
  const Json json = ParseJsonObject(text, "schema");
  AsObject(json, "schema", {"version", "request", "label", "tables", "user", "context", "candidate", "histories"});
  AsInteger(Member(json, "version"), "schema: version", 1, 1);
  Schema schema;
  TableIndex tables;
  if (const Json& raw = Member(json, "tables"); !raw.is_null()) {
    for (const auto& item : AsObject(raw, "schema: tables").items()) {
      tables.emplace(item.key(), static_cast<int>(schema.tables.size()));
      schema.tables.push_back(ParseTable(item.key(), item.value()));
    }
  }
  schema.user = ParseGroup("user", Member(json, "user"), tables);
  schema.context = ParseGroup("context", Member(json, "context"), tables);
  schema.candidate = ParseGroup("candidate", Member(json, "candidate"), tables);
  if (schema.candidate.features.empty())
    throw ModelFileError("schema: candidate: expected at least one feature, got none");
  if (const Json& raw = Member(json, "histories"); !raw.is_null()) {
    for (const auto& item : AsObject(raw, "schema: histories").items()) {
      schema.histories.push_back(ParseHistory(item.key(), item.value(), schema.candidate, tables));
      if (const int64_t width = schema.Width(schema.histories.back()); width > kMaxKeyWidth) {
        throw ModelFileError("schema: histories." + item.key() + ": expected keys of at most " +
                             std::to_string(kMaxKeyWidth) + " numbers, got " + std::to_string(width));
      }
    }
  }
  return schema;
}

}  // namespace din_infer
