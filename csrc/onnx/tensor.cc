#include "onnx/tensor.hpp"

#include <cstring>

#include "base/errors.hpp"
#include "base/quote.hpp"
#include "onnx/graph.hpp"
#include "onnx/wire.hpp"

namespace din_infer::onnx {
namespace {

std::pair<std::string_view, std::string_view> ParseEntry(std::string_view bytes, const std::string& where) {
  Message message(bytes, where);
  std::pair<std::string_view, std::string_view> entry;
  while (message.Next()) {
    switch (message.Tag()) {
      case 1:
        entry.first = message.Bytes();
        break;
      case 2:
        entry.second = message.Bytes();
        break;
      default:
        message.Skip();
    }
  }
  return entry;
}

// The number of elements of a tensor of one dimension.
size_t Length(const Tensor& tensor, const std::string& where) {
  if (tensor.is_external) throw ModelFileError(where + ": expected its data inside the model file, got external data");
  if (tensor.dims.size() != 1 || tensor.dims[0] < 0) {
    throw ModelFileError(where + ": expected one dimension, got shape " + ShapeText(tensor.dims));
  }
  return static_cast<size_t>(tensor.dims[0]);
}

[[noreturn]] void WrongCount(const std::string& where, size_t expected, size_t got) {
  throw ModelFileError(where + ": expected " + std::to_string(expected) + " elements by its shape, got " +
                       std::to_string(got));
}

}  // namespace

Tensor ParseTensor(std::string_view bytes, const std::string& where) {
  constexpr int64_t kExternal = 1;
  Message message(bytes, where);
  Tensor tensor;
  while (message.Next()) {
    switch (message.Tag()) {
      case 1:
        message.AppendInts(&tensor.dims);
        break;
      case 2:
        tensor.dtype = message.Int();
        break;
      case 4:
        message.AppendFloats(&tensor.floats);
        break;
      case 6:
        tensor.strings.push_back(message.Bytes());
        break;
      case 7:
        message.AppendInts(&tensor.ints);
        break;
      case 8:
        tensor.name = message.Bytes();
        break;
      case 9:
        tensor.raw = message.Bytes();
        break;
      case 13:
        tensor.external.push_back(ParseEntry(message.Bytes(), where));
        break;
      case 14:
        tensor.is_external = message.Int() == kExternal;
        break;
      case 3:   // segment
      case 5:   // int32_data
      case 10:  // double_data
      case 11:  // uint64_data
        message.Refuse("tensor data of this kind");
      default:
        message.Skip();
    }
  }
  return tensor;
}

int64_t OnnxType(DType dtype) {
  constexpr int64_t kTypes[] = {7, 8, 1, 10, 3};
  return kTypes[static_cast<size_t>(dtype)];
}

const char* TypeName(DType dtype) {
  constexpr const char* kNames[] = {"int64", "string", "float32", "float16", "int8"};
  return kNames[static_cast<size_t>(dtype)];
}

uint64_t ItemBytes(DType dtype) {
  constexpr uint64_t kBytes[] = {8, 0, 4, 2, 1};
  return kBytes[static_cast<size_t>(dtype)];
}

void CheckType(DType expected, int64_t got, const std::string& where) {
  if (got == OnnxType(expected)) return;
  constexpr const char* kNames[] = {"undefined", "float32", "uint8",  "int8",    "uint16",  "int16",
                                    "int32",     "int64",   "string", "boolean", "float16", "float64"};
  const bool named = got >= 0 && got < static_cast<int64_t>(std::size(kNames));
  throw ModelFileError(where + ": expected " + TypeName(expected) + ", got " +
                       (named ? kNames[got] : "data type " + std::to_string(got)));
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i ? ", " : "") + (shape[i] == kAnyRows ? "?" : std::to_string(shape[i]));
  }
  return Shorten(text) + "]";
}

uint64_t BytesNeeded(const std::vector<int64_t>& dims, uint64_t item, const std::string& where) {
  uint64_t bytes = item;
  for (const int64_t dim : dims) {
    if (dim < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(dim), &bytes) || bytes > INT64_MAX) {
      throw ModelFileError(where + ": expected a shape that fits in memory, got " + ShapeText(dims));
    }
  }
  return bytes;
}

std::vector<int64_t> Int64Elements(const Tensor& tensor, const std::string& where) {
  CheckType(DType::kInt64, tensor.dtype, where);
  const size_t length = Length(tensor, where);
  if (tensor.raw.empty()) {
    if (tensor.ints.size() != length) WrongCount(where, length, tensor.ints.size());
    return tensor.ints;
  }
  if (!tensor.ints.empty() || tensor.raw.size() % sizeof(int64_t) != 0 ||
      tensor.raw.size() / sizeof(int64_t) != length) {
    throw ModelFileError(where + ": expected " + std::to_string(length) + " int64 values by its shape, got " +
                         std::to_string(tensor.raw.size()) + " bytes");
  }
  std::vector<int64_t> values(length);
  std::memcpy(values.data(), tensor.raw.data(), tensor.raw.size());
  return values;
}

std::vector<std::string_view> StringElements(const Tensor& tensor, const std::string& where) {
  CheckType(DType::kString, tensor.dtype, where);
  const size_t length = Length(tensor, where);
  if (tensor.strings.size() != length) WrongCount(where, length, tensor.strings.size());
  return tensor.strings;
}

}  // namespace din_infer::onnx
