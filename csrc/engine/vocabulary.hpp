// Raw ids to rows of an embedding table.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>

#include "base/schema.hpp"
#include "onnx/model_file.hpp"

namespace din_infer {

class RowMap {
 public:
  // The vocabulary's strings must outlive the map.
  RowMap(const Table& table, const Vocabulary& vocabulary);

  int64_t Row(int64_t id) const;                           // of an int64 table
  int64_t Row(std::string_view id) const;                  // of a string table
  bool has_default() const { return ids_ != Ids::kHash; }  // whether row 0 stands for ids that are unknown
  size_t bytes() const;

 private:
  Ids ids_;
  int64_t size_;
  std::unordered_map<int64_t, int64_t> int64_rows_;
  std::unordered_map<std::string_view, int64_t> string_rows_;
};

}  // namespace din_infer
