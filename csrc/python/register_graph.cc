// The graph that the exporter fills in, from the generator that it shares with the reader; and what a model file holds.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "onnx/expected_graph.hpp"
#include "onnx/model_file.hpp"
#include "onnx/tensor.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;

namespace din_infer {
namespace {

py::object ToPython(const onnx::Attribute& attribute, const Schema& schema) {
  if (const auto* data = std::get_if<onnx::VocabularyData>(&attribute)) {
    constexpr const char* kParts[] = {"keys", "rows", "default"};
    return py::make_tuple(schema.tables[static_cast<size_t>(data->table)].name, kParts[data->part]);
  }
  if (const auto* integer = std::get_if<int64_t>(&attribute)) return py::cast(*integer);
  if (const auto* number = std::get_if<float>(&attribute)) return py::cast(*number);
  if (const auto* text = std::get_if<std::string>(&attribute)) return py::cast(*text);
  return py::cast(std::get<std::vector<int64_t>>(attribute));
}

py::list ToPython(const std::vector<onnx::Node>& nodes, const Schema& schema) {
  py::list result;
  for (const onnx::Node& node : nodes) {
    py::dict attributes;
    for (const auto& [name, value] : node.attributes) attributes[py::str(name)] = ToPython(value, schema);
    py::dict item;
    item["op"] = node.op;
    item["domain"] = node.domain;
    item["name"] = node.name;
    item["inputs"] = node.inputs;
    item["outputs"] = node.outputs;
    item["attributes"] = attributes;
    result.append(item);
  }
  return result;
}

py::list ToPython(const std::vector<onnx::Value>& values) {
  py::list result;
  for (const onnx::Value& value : values) {
    result.append(py::make_tuple(value.name, onnx::TypeName(value.dtype), value.dims));
  }
  return result;
}

py::dict ExpectedGraph(const std::string& schema_json, const std::string& semantics_json, bool raw_ids,
                       const std::string& table_dtype) {
  const Schema schema = ParseSchema(schema_json);
  const onnx::Graph graph =
      onnx::ExpectedGraph(schema, ParseSemantics(semantics_json, schema), raw_ids, ParseTableDType(table_dtype));
  py::list functions, parameters;
  for (const onnx::Function& function : graph.functions) {
    py::dict item;
    item["name"] = function.name;
    item["inputs"] = function.inputs;
    item["outputs"] = function.outputs;
    item["nodes"] = ToPython(function.nodes, schema);
    functions.append(item);
  }
  for (const onnx::ParameterShape& parameter : graph.parameters) {
    parameters.append(py::make_tuple(parameter.name, onnx::TypeName(parameter.dtype), parameter.shape));
  }
  py::dict result;
  result["inputs"] = ToPython(graph.inputs);
  result["outputs"] = ToPython(graph.outputs);
  result["nodes"] = ToPython(graph.nodes, schema);
  result["functions"] = functions;
  result["parameters"] = parameters;
  result["opset"] = onnx::kOpset;
  result["ml_opset"] = onnx::kMlOpset;
  return result;
}

py::dict DescribeFile(const std::string& path) {
  const ModelFile file = ReadModelFile(std::filesystem::path(path));
  py::dict parameters, vocabularies;
  for (const auto& [name, parameter] : file.parameters) {
    parameters[py::str(name)] = py::make_tuple(onnx::TypeName(parameter.dtype), parameter.shape);
  }
  for (size_t i = 0; i < file.vocabularies.size(); ++i) {
    if (file.schema.tables[i].ids != Ids::kVocabulary) continue;
    vocabularies[py::str(file.schema.tables[i].name)] = file.vocabularies[i].rows.size();
  }
  py::dict result;
  result["metadata"] = file.metadata;
  result["parameters"] = parameters;
  result["vocabularies"] = vocabularies;
  return result;
}

}  // namespace

void RegisterGraph(py::module_& module) {
  module.def("expected_graph", &ExpectedGraph, py::arg("schema_json"), py::arg("semantics_json"), py::arg("raw_ids"),
             py::arg("table_dtype") = "float32");
  module.def("describe_file", &DescribeFile, py::arg("path"));
}

}  // namespace din_infer
