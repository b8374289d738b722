// Writes nodes one after another; every value gets its name from the caller.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "onnx/graph.hpp"

namespace din_infer::onnx {

using Names = std::vector<std::string>;
using Attributes = std::map<std::string, Attribute>;

class Builder {
 public:
  explicit Builder(std::vector<Node>* nodes) : nodes_(nodes) {}

  // Appends a node with one output, and returns the output's name.
  std::string Op(const std::string& op, const std::string& output, Names inputs, Attributes attributes = {},
                 const std::string& domain = "") {
    nodes_->push_back({op, domain, output, std::move(inputs), {output}, std::move(attributes)});
    return output;
  }
  std::string Call(const std::string& function, const std::string& output, Names inputs) {
    return Op(function, output, std::move(inputs), {}, kDomain);
  }

  std::string Ints(const std::string& output, std::vector<int64_t> values) {
    return Op("Constant", output, {}, {{"value_ints", std::move(values)}});
  }
  std::string Int(const std::string& output, int64_t value) {
    return Op("Constant", output, {}, {{"value_int", value}});
  }
  std::string Float(const std::string& output, float value) {
    return Op("Constant", output, {}, {{"value_float", value}});
  }
  std::string Unsqueeze(const std::string& output, const std::string& input, int64_t axis) {
    return Op("Unsqueeze", output, {input, Ints(output + "_axis", {axis})});
  }
  std::string Concat(const std::string& output, const Names& inputs, int64_t axis) {
    return Op("Concat", output, inputs, {{"axis", axis}});
  }

 private:
  std::vector<Node>* nodes_;
};

}  // namespace din_infer::onnx
