// Requests that are written as JSON: those of a model file's certificate, and of the golden files.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "base/schema.hpp"
#include "din_infer/din_infer.hpp"

namespace din_infer {

// A batch that owns its memory.
class JsonBatch {
 public:
  // `columns`: for each column a JSON array with an entry per request, as Model.score takes them in Python. Throws
  // ModelFileError where one is missing or of another shape or type.
  JsonBatch(const Schema& schema, const Json& columns);
  JsonBatch(const JsonBatch&) = delete;
  JsonBatch& operator=(const JsonBatch&) = delete;

  Batch batch;

 private:
  void Add(const std::string& name, DType type, size_t levels, const Json& rows);

  std::deque<std::vector<int64_t>> integers_;
  std::deque<std::vector<float>> floats_;
  std::deque<std::string> characters_;
};

}  // namespace din_infer
