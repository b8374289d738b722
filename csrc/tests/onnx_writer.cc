#include "onnx_writer.hpp"

#include <numeric>

#include <protozero/pbf_writer.hpp>

#include "onnx/expected_graph.hpp"
#include "onnx/model_file.hpp"
#include "onnx/tensor.hpp"

namespace din_infer::testing {
namespace {

using protozero::pbf_writer;

constexpr int64_t kRows = 4;  // of a table with a vocabulary

std::string Tensor(const std::string& name, int32_t type, const std::vector<int64_t>& dims, const std::string& raw) {
  std::string bytes;
  pbf_writer tensor(bytes);
  for (const int64_t dim : dims) tensor.add_int64(1, dim);
  tensor.add_int32(2, type);
  tensor.add_string(8, name);
  if (type != onnx::OnnxType(DType::kString)) tensor.add_bytes(9, raw);
  return bytes;
}

template <typename T>
std::string Raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string Int64Tensor(const std::vector<int64_t>& values) {
  return Tensor("", 7, {static_cast<int64_t>(values.size())}, Raw(values));
}

std::string Vocabulary(const FileContents& contents, const onnx::VocabularyData& data, const Schema& schema) {
  const std::string& table = schema.tables[static_cast<size_t>(data.table)].name;
  if (data.part == onnx::VocabularyData::kDefault) return Int64Tensor({contents.default_row});
  if (data.part == onnx::VocabularyData::kRows) return Int64Tensor(contents.rows.at(table));
  if (contents.int64_keys.count(table)) return Int64Tensor(contents.int64_keys.at(table));
  const std::vector<std::string>& keys = contents.string_keys.at(table);
  std::string bytes = Tensor("", 8, {static_cast<int64_t>(keys.size())}, "");
  pbf_writer tensor(bytes);
  for (const std::string& key : keys) tensor.add_string(6, key);
  return bytes;
}

std::string Node(const FileContents& contents, const onnx::Node& node, const Schema& schema) {
  std::string bytes;
  pbf_writer writer(bytes);
  for (const std::string& input : node.inputs) writer.add_string(1, input);
  for (const std::string& output : node.outputs) writer.add_string(2, output);
  writer.add_string(3, node.name);
  writer.add_string(4, node.op);
  for (const auto& [name, value] : node.attributes) {
    pbf_writer attribute(writer, 5);
    attribute.add_string(1, name);
    if (const auto* integer = std::get_if<int64_t>(&value)) {
      attribute.add_int64(3, *integer);
    } else if (const auto* number = std::get_if<float>(&value)) {
      attribute.add_float(2, *number);
    } else if (const auto* text = std::get_if<std::string>(&value)) {
      attribute.add_string(4, *text);
    } else if (const auto* ints = std::get_if<std::vector<int64_t>>(&value)) {
      for (const int64_t item : *ints) attribute.add_int64(8, item);
    } else {
      attribute.add_message(5, Vocabulary(contents, std::get<onnx::VocabularyData>(value), schema));
    }
    constexpr int32_t kTypes[] = {2, 1, 3, 7, 4};
    attribute.add_int32(20, kTypes[value.index()]);
  }
  writer.add_string(7, node.domain);
  return bytes;
}

std::string Value(const onnx::Value& value) {
  std::string bytes;
  pbf_writer writer(bytes);
  writer.add_string(1, value.name);
  pbf_writer type(writer, 2);
  pbf_writer tensor(type, 1);
  tensor.add_int64(1, onnx::OnnxType(value.dtype));
  pbf_writer shape(tensor, 2);
  for (const onnx::Dim& dim : value.dims) {
    pbf_writer item(shape, 1);
    if (const auto* fixed = std::get_if<int64_t>(&dim)) {
      item.add_int64(1, *fixed);
    } else {
      item.add_string(2, std::get<std::string>(dim));
    }
  }
  shape.commit();
  tensor.commit();
  type.commit();
  return bytes;
}

std::string Initializer(const FileContents& contents, const onnx::ParameterShape& parameter) {
  const auto external = contents.external.find(parameter.name);
  const bool is_external = external != contents.external.end();
  size_t count = is_external ? 0 : 1;  // of those that are here
  for (const int64_t dim : parameter.shape) count *= static_cast<size_t>(dim);
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) / 8;
  const bool is_float = parameter.dtype == DType::kFloat32;
  std::string bytes_of_stored(count * onnx::ItemBytes(parameter.dtype), '\0');
  std::iota(bytes_of_stored.begin(), bytes_of_stored.end(), '\0');
  const bool as_float_data = contents.as_float_data && is_float;
  const std::string raw = is_external || as_float_data ? "" : is_float ? Raw(values) : bytes_of_stored;
  const auto own_type = static_cast<int32_t>(onnx::OnnxType(parameter.dtype));
  const int32_t type = contents.parameter_type == 0 ? own_type : contents.parameter_type;
  std::string bytes = Tensor(parameter.name, type, parameter.shape, raw);
  pbf_writer writer(bytes);
  if (is_external) {
    for (const auto& [key, value] : external->second) {
      pbf_writer entry(writer, 13);
      entry.add_string(1, key);
      entry.add_string(2, value);
    }
    writer.add_int32(14, 1);
  } else if (as_float_data) {
    writer.add_packed_float(4, values.begin(), values.end());
  }
  return bytes;
}

void AddOpsets(const FileContents& contents, pbf_writer& writer, uint32_t tag, bool with_functions) {
  for (const auto& [domain, version] : contents.opsets) {
    if (domain == onnx::kDomain && !with_functions) continue;
    pbf_writer opset(writer, tag);
    opset.add_string(1, domain);
    opset.add_int64(2, std::stoll(version));
  }
}

void AddEntry(pbf_writer& writer, const std::string& key, const std::string& value) {
  pbf_writer entry(writer, 14);
  entry.add_string(1, key);
  entry.add_string(2, value);
}

}  // namespace

const char kSchema[] = R"({"version": 1, "request": {"key": "request_id"}, "label": "label",
  "tables": {"item": {"dim": 3, "ids": "vocabulary", "dtype": "int64", "min_count": 1},
             "brand": {"dim": 2, "dtype": "string"}, "tag": {"dim": 2, "ids": "hash", "size": 5}},
  "user": {"age": {"dense": "standardise"}}, "context": {},
  "candidate": {"item": {"table": "item"}, "brand": {"table": "brand"}, "tags": {"table": "tag", "many": "mean"}},
  "histories": {"clicks": {"features": {"item": {"table": "item"}, "tags": {"table": "tag", "many": "mean"}},
                           "order": "oldest_first", "max_length": 3, "keep": "latest"}}})";
const char kSemantics[] = R"({"pooling": "activation_unit",
  "units": {"clicks": {"hidden": [4, 2], "activation": "dice", "eps": 1e-8, "interaction": "outer",
                       "normalize": "softmax", "scale": 0.5}},
  "tower": {"hidden": [3], "activation": "prelu", "eps": null}})";

FileContents ValidContents(DType table_dtype) {
  FileContents contents;
  contents.metadata = {
      {"din_infer.format_version", "1"}, {"din_infer.schema", kSchema}, {"din_infer.semantics", kSemantics}};
  if (table_dtype != DType::kFloat32) {
    contents.metadata["din_infer.format_version"] = "2";
    contents.metadata["din_infer.table_dtype"] = onnx::TypeName(table_dtype);
  }
  const Schema schema = ParseSchema(kSchema);
  contents.graph = onnx::ExpectedGraph(schema, ParseSemantics(kSemantics, schema), true, table_dtype);
  for (onnx::ParameterShape& parameter : contents.graph.parameters) {
    if (!parameter.shape.empty() && parameter.shape[0] == onnx::kAnyRows) parameter.shape[0] = kRows;
  }
  contents.int64_keys["item"] = {-7, 5, int64_t{1} << 40};
  contents.string_keys["brand"] = {"a", "", "c\xc3\xa9"};
  contents.rows = {{"item", {1, 2, 3}}, {"brand", {1, 2, 3}}};
  contents.opsets = {{"", std::to_string(onnx::kOpset)},
                     {onnx::kMlDomain, std::to_string(onnx::kMlOpset)},
                     {onnx::kDomain, std::to_string(onnx::kDomainVersion)}};
  return contents;
}

std::string Write(const FileContents& contents) {
  const Schema schema = ParseSchema(kSchema);
  std::string bytes;
  pbf_writer model(bytes);
  model.add_int64(1, 9);
  pbf_writer graph(model, 7);
  for (const onnx::Node& node : contents.graph.nodes) graph.add_message(1, Node(contents, node, schema));
  for (const onnx::ParameterShape& parameter : contents.graph.parameters)
    graph.add_message(5, Initializer(contents, parameter));
  for (const onnx::Value& input : contents.graph.inputs) graph.add_message(11, Value(input));
  for (const onnx::Value& output : contents.graph.outputs) graph.add_message(12, Value(output));
  graph.commit();
  AddOpsets(contents, model, 8, true);
  for (const auto& [key, value] : contents.metadata) AddEntry(model, key, value);
  for (const onnx::Function& function : contents.graph.functions) {
    pbf_writer writer(model, 25);
    writer.add_string(1, function.name);
    for (const std::string& input : function.inputs) writer.add_string(4, input);
    for (const std::string& output : function.outputs) writer.add_string(5, output);
    for (const onnx::Node& node : function.nodes) writer.add_message(7, Node(contents, node, schema));
    AddOpsets(contents, writer, 9, false);
    writer.add_string(10, onnx::kDomain);
  }
  return contents.with_crc ? bytes + ChecksumEntry(bytes) : bytes;
}

}  // namespace din_infer::testing
