// Writes model files as the exporter does, from a graph that tests may have tampered with.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "onnx/graph.hpp"

namespace din_infer::testing {

// Everything that the file holds beside the graph; the defaults make a valid model of kSchema and kSemantics.
struct FileContents {
  onnx::Graph graph;
  std::map<std::string, std::string> metadata;
  std::map<std::string, std::vector<int64_t>> int64_keys;                            // by table
  std::map<std::string, std::vector<std::string>> string_keys;                       // by table
  std::map<std::string, std::vector<int64_t>> rows;                                  // by table
  std::map<std::string, std::vector<std::pair<std::string, std::string>>> external;  // entries by parameter
  std::map<std::string, std::string> opsets;                                         // domain and version
  int64_t default_row = 0;
  int32_t parameter_type = 0;  // of all parameters; 0: each has its own
  bool as_float_data = false;  // parameters in float_data, otherwise in raw_data
  bool with_crc = true;
};

extern const char kSchema[];
extern const char kSemantics[];

// A model of kSchema and kSemantics; parameters hold 0, 1, 2, ... / 8, and tables that are not float32 bytes 0, 1, 2,
// ...
FileContents ValidContents(DType table_dtype = DType::kFloat32);

std::string Write(const FileContents& contents);

}  // namespace din_infer::testing
