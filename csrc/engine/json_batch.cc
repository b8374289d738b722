#include "engine/json_batch.hpp"

#include <utility>

namespace din_infer {
namespace {

const Json& Array(const Json& json, const std::string& where) {
  if (!json.is_array()) JsonError(where, "a list", json);
  return json;
}

}  // namespace

JsonBatch::JsonBatch(const Schema& schema, const Json& columns) {
  const auto add = [&](const Group& group, size_t levels) {
    for (const Feature& feature : group.features) {
      const std::string name = group.name + "." + feature.name;
      const Json& rows = Array(Member(columns, name), name);
      batch.requests = static_cast<int64_t>(rows.size());
      Add(name, schema.Type(feature), levels + static_cast<size_t>(feature.many != Many::kNo), rows);
    }
  };
  add(schema.user, 0);
  add(schema.context, 0);
  add(schema.candidate, 1);
  for (const History& history : schema.histories) add(history, 1);
}

void JsonBatch::Add(const std::string& name, DType type, size_t levels, const Json& rows) {
  std::vector<Offsets> lists;
  Json values = rows;
  for (size_t level = 0; level < levels; ++level) {
    std::vector<int64_t>& offsets = integers_.emplace_back(1, 0);
    Json inner = Json::array();
    for (const Json& list : values) {
      inner.insert(inner.end(), Array(list, name).begin(), list.end());
      offsets.push_back(static_cast<int64_t>(inner.size()));
    }
    lists.push_back({offsets.data(), static_cast<int64_t>(offsets.size())});
    values = std::move(inner);
  }
  const auto size = static_cast<int64_t>(values.size());
  Column& column = batch.columns[name];
  if (type == DType::kFloat32) {
    std::vector<float>& numbers = floats_.emplace_back();
    for (const Json& value : values) numbers.push_back(AsFloat(value, name));
    column = Column::floats(numbers.data(), size);
  } else if (type == DType::kInt64) {
    std::vector<int64_t>& ids = integers_.emplace_back();
    for (const Json& value : values) ids.push_back(AsInteger(value, name, INT64_MIN, INT64_MAX));
    column = Column::int64s(ids.data(), size);
  } else {
    std::string& characters = characters_.emplace_back();
    std::vector<int64_t>& offsets = integers_.emplace_back(1, 0);
    for (const Json& value : values) {
      if (!value.is_string()) JsonError(name, "a string", value);
      characters += value.get_ref<const std::string&>();
      offsets.push_back(static_cast<int64_t>(characters.size()));
    }
    column = Column::strings(characters.data(), offsets.data(), size);
  }
  column.lists = std::move(lists);
}

}  // namespace din_infer
