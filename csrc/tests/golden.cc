#include "golden.hpp"

#include <fstream>
#include <iterator>
#include <stdexcept>

namespace din_infer::testing {

const std::vector<std::string> kGoldenModels = {"v1-outer-dice", "v1-hadamard-softmax-strings", "v1-base-mean"};

std::string GoldenPath(const std::string& model, const std::string& suffix) {
  return std::string(DIN_INFER_GOLDEN) + "/" + model + suffix;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": cannot be opened");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Requests::Requests(const Schema& schema, const Json& columns) {
  const auto add = [&](const Group& group, size_t levels) {
    for (const Feature& feature : group.features) {
      const std::string name = group.name + "." + feature.name;
      batch.requests = static_cast<int64_t>(columns.at(name).size());
      Add(name, schema.Type(feature), levels + static_cast<size_t>(feature.many != Many::kNo), columns.at(name));
    }
  };
  add(schema.user, 0);
  add(schema.context, 0);
  add(schema.candidate, 1);
  for (const History& history : schema.histories) add(history, 1);
}

void Requests::Add(const std::string& name, DType type, size_t levels, const Json& rows) {
  std::vector<Offsets> lists;
  Json values = rows;
  for (size_t level = 0; level < levels; ++level) {
    std::vector<int64_t>& offsets = integers_.emplace_back(1, 0);
    Json inner = Json::array();
    for (const Json& list : values) {
      inner.insert(inner.end(), list.begin(), list.end());
      offsets.push_back(static_cast<int64_t>(inner.size()));
    }
    lists.push_back({offsets.data(), static_cast<int64_t>(offsets.size())});
    values = std::move(inner);
  }
  const auto size = static_cast<int64_t>(values.size());
  Column& column = batch.columns[name];
  if (type == DType::kFloat32) {
    column = Column::floats(floats_.emplace_back(values.get<std::vector<float>>()).data(), size);
  } else if (type == DType::kInt64) {
    column = Column::int64s(integers_.emplace_back(values.get<std::vector<int64_t>>()).data(), size);
  } else {
    std::string& characters = characters_.emplace_back();
    std::vector<int64_t>& offsets = integers_.emplace_back(1, 0);
    for (const Json& value : values) {
      characters += value.get<std::string>();
      offsets.push_back(static_cast<int64_t>(characters.size()));
    }
    column = Column::strings(characters.data(), offsets.data(), size);
  }
  column.lists = std::move(lists);
}

Json OneRequest(const Json& columns, size_t request) {
  Json one = Json::object();
  for (const auto& [name, rows] : columns.items()) one[name] = Json::array({rows.at(request)});
  return one;
}

}  // namespace din_infer::testing
