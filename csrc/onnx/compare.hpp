// Checks the nodes of a file against the nodes that are expected, one by one: a name alone proves nothing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "onnx/graph.hpp"
#include "onnx/model_file.hpp"

namespace din_infer::onnx {

// Takes the NodeProtos of one list in order. All errors are ModelFileErrors that name `list` and the node, with what
// was expected and what came.
class NodeChecker {
 public:
  // Vocabularies that LabelEncoder nodes hold go to `vocabularies`, one per table of the schema.
  NodeChecker(std::string list, const std::vector<Node>& expected, const Schema& schema,
              std::vector<Vocabulary>* vocabularies);

  void Add(std::string_view node);
  void Finish() const;  // throws where nodes are missing

 private:
  void CheckAttribute(std::string_view attribute, const Node& expected, const std::string& where,
                      std::vector<std::string>* seen);
  void ReadVocabulary(const VocabularyData& data, std::string_view tensor, const std::string& where);

  std::string list_;
  const std::vector<Node>& expected_;
  const Schema& schema_;
  std::vector<Vocabulary>* vocabularies_;
  size_t next_ = 0;
};

// `got` must be `expected`.
void CheckText(std::string_view expected, std::string_view got, const std::string& where);
void CheckList(const std::vector<std::string>& expected, const std::vector<std::string_view>& got,
               const std::string& where);

// A GraphProto's input or output (ValueInfoProto) against what is expected of it.
void CheckValue(const Value& expected, std::string_view value, const std::string& where);

}  // namespace din_infer::onnx
