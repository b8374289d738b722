// A model file, read and checked: what the engine needs of it, in views that `storage` keeps alive.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/schema.hpp"
#include "base/semantics.hpp"

namespace din_infer {

// Row-major, aligned for its type.
struct Parameter {
  std::vector<int64_t> shape;
  DType dtype = DType::kFloat32;
  const void* data = nullptr;
  uint64_t bytes = 0;

  const float* Floats() const { return static_cast<const float*>(data); }  // of kFloat32
};

// Row `rows[i]` for the raw id `int64_keys[i]` or `string_keys[i]`; all other ids go to row 0. Ids that are
// there twice are for RowMap to refuse.
struct Vocabulary {
  std::vector<int64_t> int64_keys;
  std::vector<std::string_view> string_keys;
  std::vector<int64_t> rows;
};

struct ModelFile {
  Schema schema;
  Semantics semantics;
  DType table_dtype = DType::kFloat32;          // of embedding tables
  std::map<std::string, std::string> metadata;  // ONNX metadata_props, `din_infer.*` among them
  std::map<std::string, Parameter> parameters;  // names and shapes as ExpectedParameters gives them
  std::vector<Vocabulary> vocabularies;         // one per table of the schema, empty where ids are not a vocabulary
  std::shared_ptr<const void> storage;          // file bytes and mappings that the views point into
};

// Both throw ModelFileError. `folder` is where external data may lie. `pause`, where it is not empty, is called each
// few hundred KiB that are read.
ModelFile ReadModelFile(const std::filesystem::path& path, const std::function<void()>& pause = {});
ModelFile ReadModelFile(std::string bytes, const std::filesystem::path& folder);

// What a model file ends with: a metadata entry with the CRC-32 of all bytes before it.
std::string ChecksumEntry(std::string_view bytes);

}  // namespace din_infer
