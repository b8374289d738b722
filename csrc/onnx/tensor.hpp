// A TensorProto, in views into the file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/schema.hpp"

namespace din_infer::onnx {

struct Tensor {
  std::string_view name;
  int64_t dtype = 0;  // TensorProto.DataType
  std::vector<int64_t> dims;
  std::string_view raw;
  std::vector<float> floats;
  std::vector<int64_t> ints;
  std::vector<std::string_view> strings;
  std::vector<std::pair<std::string_view, std::string_view>> external;
  bool is_external = false;
};

// Throws ModelFileError that names `where`.
Tensor ParseTensor(std::string_view bytes, const std::string& where);

// TensorProto.DataType
int64_t OnnxType(DType dtype);
const char* TypeName(DType dtype);  // as NumPy has it, and `string`
uint64_t ItemBytes(DType dtype);    // of numbers

void CheckType(DType expected, int64_t got, const std::string& where);

// [2, 3], or [?, 3] where a dimension is kAnyRows
std::string ShapeText(const std::vector<int64_t>& shape);

// Bytes that `dims` need at `item` bytes each. Throws where a dimension is negative or the product too large.
uint64_t BytesNeeded(const std::vector<int64_t>& dims, uint64_t item, const std::string& where);

// Contents of a tensor of one dimension inside the file.
std::vector<int64_t> Int64Elements(const Tensor& tensor, const std::string& where);
std::vector<std::string_view> StringElements(const Tensor& tensor, const std::string& where);

}  // namespace din_infer::onnx
