#include "onnx/compare.hpp"

#include <algorithm>
#include <cstring>

#include "base/errors.hpp"
#include "base/quote.hpp"
#include "onnx/tensor.hpp"
#include "onnx/wire.hpp"

namespace din_infer::onnx {
namespace {

// AttributeProto.AttributeType
enum AttributeType : int64_t { kFloat = 1, kInt = 2, kString = 3, kTensor = 4, kInts = 7 };

[[noreturn]] void Differs(const std::string& where, const std::string& expected, const std::string& got) {
  throw ModelFileError(where + ": expected " + expected + ", got " + got);
}

std::string Text(const std::vector<int64_t>& values) { return ShapeText(values); }
std::string Text(int64_t value) { return std::to_string(value); }
std::string Text(float value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.9g", static_cast<double>(value));
  return text;
}

template <typename T>
void CheckSame(const T& expected, const T& got, const std::string& where) {
  if (!(expected == got)) Differs(where, Text(expected), Text(got));
}

template <typename Names>
std::string ListText(const Names& names) {
  std::string text;
  for (const auto& name : names) {
    if (text.size() > 200) return text + ", ...";
    text += (text.empty() ? "" : ", ") + Quote(name);
  }
  return text.empty() ? "none" : text;
}

struct AttributeView {
  std::string_view name, text, tensor, reference;
  int64_t type = 0, integer = 0;
  float number = 0;
  std::vector<int64_t> ints;
};

AttributeView ParseAttribute(std::string_view bytes, const std::string& where) {
  Message message(bytes, where);
  AttributeView attribute;
  bool has_tensor = false;
  while (message.Next()) {
    switch (message.Tag()) {
      case 1:
        attribute.name = message.Bytes();
        break;
      case 2:
        attribute.number = message.Float();
        break;
      case 3:
        attribute.integer = message.Int();
        break;
      case 4:
        attribute.text = message.Bytes();
        break;
      case 5:
        attribute.tensor = message.BytesOnce(&has_tensor);
        break;
      case 8:
        message.AppendInts(&attribute.ints);
        break;
      case 20:
        attribute.type = message.Int();
        break;
      case 21:
        attribute.reference = message.Bytes();
        break;
      case 13:
        message.Skip();
        break;  // doc_string
      default:
        message.Refuse("an attribute's value of this kind");
    }
  }
  return attribute;
}

struct ShapeView {
  std::vector<Dim> dims;
  int64_t dtype = 0;
};

Dim ParseDim(std::string_view bytes, const std::string& where) {
  Message message(bytes, where);
  Dim dim = std::string();
  while (message.Next()) {
    switch (message.Tag()) {
      case 1:
        dim = message.Int();
        break;
      case 2:
        dim = std::string(message.Bytes());
        break;
      default:
        message.Skip();
    }
  }
  return dim;
}

ShapeView ParseTensorType(std::string_view bytes, const std::string& where) {
  Message message(bytes, where);
  ShapeView type;
  bool has_shape = false;
  while (message.Next()) {
    if (message.Tag() == 1) {
      type.dtype = message.Int();
    } else if (message.Tag() == 2) {
      Message shape(message.BytesOnce(&has_shape), where);
      while (shape.Next()) {
        if (shape.Tag() != 1) shape.Refuse("a shape of this kind");
        type.dims.push_back(ParseDim(shape.Bytes(), where));
      }
    } else {
      message.Refuse("a tensor type of this kind");
    }
  }
  return type;
}

std::string DimText(const std::vector<Dim>& dims) {
  std::string text = "[";
  for (const Dim& dim : dims) {
    if (text.size() > 200) return text + ", ...]";
    const auto* fixed = std::get_if<int64_t>(&dim);
    text += (text.size() > 1 ? ", " : "") + (fixed ? std::to_string(*fixed) : Quote(std::get<std::string>(dim)));
  }
  return text + "]";
}

}  // namespace

void CheckText(std::string_view expected, std::string_view got, const std::string& where) {
  if (expected != got) Differs(where, Quote(expected), Quote(got));
}

void CheckList(const std::vector<std::string>& expected, const std::vector<std::string_view>& got,
               const std::string& where) {
  const bool same = expected.size() == got.size() && std::equal(expected.begin(), expected.end(), got.begin());
  if (!same) Differs(where, ListText(expected), ListText(got));
}

void CheckValue(const Value& expected, std::string_view value, const std::string& where) {
  Message message(value, where);
  std::string_view name;
  ShapeView type;
  bool has_type = false, has_tensor_type = false;
  while (message.Next()) {
    if (message.Tag() == 1) {
      name = message.Bytes();
    } else if (message.Tag() == 2) {
      Message kinds(message.BytesOnce(&has_type), where);
      while (kinds.Next()) {
        if (kinds.Tag() != 1) kinds.Refuse("a type other than a tensor's");
        type = ParseTensorType(kinds.BytesOnce(&has_tensor_type), where);
      }
    } else {
      message.Skip();
    }
  }
  CheckText(expected.name, name, where + "'s name");
  CheckType(expected.dtype, type.dtype, where + " " + Quote(expected.name));
  if (expected.dims != type.dims)
    Differs(where + " " + Quote(expected.name), "shape " + DimText(expected.dims), DimText(type.dims));
}

NodeChecker::NodeChecker(std::string list, const std::vector<Node>& expected, const Schema& schema,
                         std::vector<Vocabulary>* vocabularies)
    : list_(std::move(list)), expected_(expected), schema_(schema), vocabularies_(vocabularies) {}

void NodeChecker::Add(std::string_view bytes) {
  if (next_ == expected_.size()) Differs(list_, std::to_string(expected_.size()) + " nodes", "more");
  const Node& expected = expected_[next_];
  const std::string where =
      list_ + ", node " + std::to_string(next_) + " (" + expected.op + " " + Quote(expected.name) + ")";
  ++next_;
  Message message(bytes, where);
  std::vector<std::string_view> inputs, outputs, attributes;
  std::string_view op, domain, overload;
  while (message.Next()) {
    switch (message.Tag()) {
      case 1:
        inputs.push_back(message.Bytes());
        break;
      case 2:
        outputs.push_back(message.Bytes());
        break;
      case 4:
        op = message.Bytes();
        break;
      case 5:
        attributes.push_back(message.Bytes());
        break;
      case 7:
        domain = message.Bytes();
        break;
      case 8:
        overload = message.Bytes();
        break;
      case 3:  // name
      case 6:  // doc_string
      case 9:  // metadata_props
        message.Skip();
        break;
      default:
        message.Refuse("a node's property of this kind");
    }
  }
  CheckText(expected.op, op, where + ": operator");
  CheckText(expected.domain, domain, where + ": domain");
  CheckText("", overload, where + ": overload");
  CheckList(expected.inputs, inputs, where + ": inputs");
  CheckList(expected.outputs, outputs, where + ": outputs");
  std::vector<std::string> seen;
  for (const std::string_view attribute : attributes) CheckAttribute(attribute, expected, where, &seen);
  for (const auto& [name, value] : expected.attributes) {
    if (std::find(seen.begin(), seen.end(), name) == seen.end()) Differs(where, "an attribute " + name, "none");
  }
}

void NodeChecker::Finish() const {
  if (next_ != expected_.size()) {
    Differs(list_, std::to_string(expected_.size()) + " nodes",
            std::to_string(next_) + "; the first missing one is " + expected_[next_].op + " " +
                Quote(expected_[next_].name));
  }
}

void NodeChecker::CheckAttribute(std::string_view bytes, const Node& expected, const std::string& node,
                                 std::vector<std::string>* seen) {
  const AttributeView got = ParseAttribute(bytes, node);
  const auto found = expected.attributes.find(std::string(got.name));
  const std::string where = node + ": attribute " + Quote(got.name);
  if (found == expected.attributes.end()) throw ModelFileError(where + ": expected none of that name");
  if (std::find(seen->begin(), seen->end(), found->first) != seen->end()) Differs(where, "it once", "it twice");
  seen->push_back(found->first);
  CheckText("", got.reference, where + ": reference to a function's attribute");
  const Attribute& value = found->second;
  constexpr AttributeType kTypes[] = {kInt, kFloat, kString, kInts, kTensor};  // of Attribute's alternatives
  CheckSame<int64_t>(kTypes[value.index()], got.type, where + ": type");
  if (const auto* data = std::get_if<VocabularyData>(&value)) {
    ReadVocabulary(*data, got.tensor, where);
  } else if (const auto* integer = std::get_if<int64_t>(&value)) {
    CheckSame(*integer, got.integer, where);
  } else if (const auto* number = std::get_if<float>(&value)) {
    CheckSame(*number, got.number, where);
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    CheckText(*text, got.text, where);
  } else {
    CheckSame(std::get<std::vector<int64_t>>(value), got.ints, where);
  }
}

void NodeChecker::ReadVocabulary(const VocabularyData& data, std::string_view bytes, const std::string& where) {
  const Tensor tensor = ParseTensor(bytes, where);
  const auto table = static_cast<size_t>(data.table);
  Vocabulary& vocabulary = (*vocabularies_)[table];
  switch (data.part) {
    case VocabularyData::kKeys:
      if (schema_.tables[table].dtype == DType::kString) {
        vocabulary.string_keys = StringElements(tensor, where);
      } else {
        vocabulary.int64_keys = Int64Elements(tensor, where);
      }
      return;
    case VocabularyData::kRows:
      vocabulary.rows = Int64Elements(tensor, where);
      return;
    case VocabularyData::kDefault:
      CheckSame({0}, Int64Elements(tensor, where), where);
      return;
  }
}

}  // namespace din_infer::onnx
