// The golden model files, whose requests and scores lie beside them as JSON.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "base/schema.hpp"
#include "din_infer/din_infer.hpp"

namespace din_infer::testing {

extern const std::vector<std::string> kGoldenModels;

std::string GoldenPath(const std::string& model, const std::string& suffix);
std::string ReadFile(const std::string& path);

// A batch that owns its memory.
class Requests {
 public:
  // `columns`: for each column a JSON array with an entry per request, as Model.score takes them in Python.
  Requests(const Schema& schema, const Json& columns);
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;

  Batch batch;

 private:
  void Add(const std::string& name, DType type, size_t levels, const Json& rows);

  std::deque<std::vector<int64_t>> integers_;
  std::deque<std::vector<float>> floats_;
  std::deque<std::string> characters_;
};

// Request `request` of `columns` alone.
Json OneRequest(const Json& columns, size_t request);

}  // namespace din_infer::testing
