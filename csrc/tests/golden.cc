#include "golden.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace din_infer::testing {

const std::vector<std::string> kGoldenModels = {"v1-outer-dice", "v1-hadamard-softmax-strings", "v1-base-mean",
                                                "v2-float16", "v2-int8"};

std::string GoldenName(const ::testing::TestParamInfo<std::string>& model) {
  std::string name = model.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::string GoldenPath(const std::string& model, const std::string& suffix) {
  return std::string(DIN_INFER_GOLDEN) + "/" + model + suffix;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": cannot be opened");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Json OneRequest(const Json& columns, size_t request) {
  Json one = Json::object();
  for (const auto& [name, rows] : columns.items()) one[name] = Json::array({rows.at(request)});
  return one;
}

Json Repeated(Json columns, size_t times) {
  for (auto& [name, rows] : columns.items()) {
    const Json once = rows;
    for (size_t i = 1; i < times; ++i) rows.insert(rows.end(), once.begin(), once.end());
  }
  return columns;
}

}  // namespace din_infer::testing
