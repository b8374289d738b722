// The graph that a model file must hold: ONNX's node lists as plain values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "base/schema.hpp"

namespace din_infer::onnx {

inline constexpr int64_t kOpset = 18;   // of ONNX's own operators
inline constexpr int64_t kMlOpset = 4;  // of ai.onnx.ml
inline constexpr char kMlDomain[] = "ai.onnx.ml";
inline constexpr char kDomain[] = "din_infer";  // of the model-local functions
inline constexpr int64_t kDomainVersion = 1;

// A tensor of a LabelEncoder. Which ids and rows it holds is the file's business, not the graph's.
struct VocabularyData {
  enum Part { kKeys, kRows, kDefault };
  int table = 0;  // index into Schema::tables
  Part part = kKeys;

  bool operator==(const VocabularyData& other) const { return table == other.table && part == other.part; }
};

using Attribute = std::variant<int64_t, float, std::string, std::vector<int64_t>, VocabularyData>;

struct Node {
  std::string op, domain, name;
  std::vector<std::string> inputs, outputs;
  std::map<std::string, Attribute> attributes;

  bool operator==(const Node& other) const {
    return op == other.op && domain == other.domain && name == other.name && inputs == other.inputs &&
           outputs == other.outputs && attributes == other.attributes;
  }
};

// A model-local function of domain kDomain.
struct Function {
  std::string name;
  std::vector<std::string> inputs, outputs;
  std::vector<Node> nodes;
};

using Dim = std::variant<int64_t, std::string>;  // fixed, or the name of a dynamic axis

struct Value {
  std::string name;
  DType dtype = DType::kFloat32;
  std::vector<Dim> dims;
};

inline constexpr int64_t kAnyRows = -1;  // in a parameter's shape: as many rows as the vocabulary asks for

struct ParameterShape {
  std::string name;
  std::vector<int64_t> shape;
  int vocabulary = -1;  // index into Schema::tables where the number of rows is kAnyRows
  DType dtype = DType::kFloat32;
};

struct Graph {
  std::vector<Value> inputs, outputs;
  std::vector<Node> nodes;
  std::vector<Function> functions;
  std::vector<ParameterShape> parameters;
};

}  // namespace din_infer::onnx
