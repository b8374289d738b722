// Schema and semantics as a model file holds them.
#include <gtest/gtest.h>

#include "base/errors.hpp"
#include "base/schema.hpp"
#include "base/semantics.hpp"
#include "onnx/expected_graph.hpp"
#include "onnx_writer.hpp"

namespace din_infer {
namespace {

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

template <typename Action>
void ExpectError(const Action& action, const std::string& part) {
  try {
    action();
    ADD_FAILURE() << "expected an error with: " << part;
  } catch (const ModelFileError& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

void SchemaError(const std::string& from, const std::string& to, const std::string& part) {
  ExpectError([&] { ParseSchema(Replaced(testing::kSchema, from, to)); }, part);
}

void SemanticsError(const std::string& from, const std::string& to, const std::string& part) {
  const Schema schema = ParseSchema(testing::kSchema);
  ExpectError([&] { ParseSemantics(Replaced(testing::kSemantics, from, to), schema); }, part);
}

TEST(OnnxMetadata, SchemaKeepsTheOrderOfFeatures) {
  const Schema schema = ParseSchema(testing::kSchema);
  EXPECT_EQ(schema.candidate.features[0].name, "item");
  EXPECT_EQ(schema.candidate.features[1].name, "brand");
  EXPECT_EQ(schema.candidate.features[2].many, Many::kMean);
  EXPECT_EQ(schema.user.features[0].table, kDense);
  EXPECT_EQ(schema.Width(schema.histories[0]), 5);
  EXPECT_EQ(schema.TowerWidth(), 1 + 5 + 7);
}

TEST(OnnxMetadata, WrongSchemasAreRefused) {
  SchemaError("\"version\": 1", "\"version\": 2", "version: expected an integer from 1 to 1, got 2");
  SchemaError("\"version\": 1", "\"version\": 1, \"extra\": 0", "unknown key 'extra'");
  SchemaError("\"dim\": 3", "\"dim\": 0", "tables.item.dim: expected an integer from 1");
  SchemaError("\"dim\": 3", "\"dim\": 99999999999999999999", "tables.item.dim: expected an integer from 1");
  SchemaError("\"dim\": 3", "\"dim\": 3.5", "tables.item.dim: expected an integer");
  SchemaError("\"ids\": \"hash\"", "\"ids\": \"md5\"",
              "tables.tag.ids: expected vocabulary | hash | identity, got \"md5\"");
  SchemaError(", \"size\": 5", "", "tables.tag.size: expected an integer from 1");
  SchemaError("{\"table\": \"brand\"}", "{\"table\": \"none\"}", "candidate.brand.table: expected the name of a table");
  SchemaError("{\"table\": \"brand\"}", "{}", "expected either `table` or `dense`");
  SchemaError("\"clicks\"", "\"user\"", "a history may not be named user");
  SchemaError("\"clicks\"", "\"a.b\"", "or hold a dot");
  SchemaError("{\"item\": {\"table\": \"item\"}, \"tags\"", "{\"item\": {\"table\": \"brand\"}, \"tags\"",
              "clicks.item: expected the table");
  SchemaError("\"max_length\": 3", "\"max_length\": -3", "max_length: expected an integer from 1");
  SchemaError("\"age\"", "\"lengths\"", "other than `lengths`");
}

TEST(OnnxMetadata, WrongSemanticsAreRefused) {
  SemanticsError("\"softmax\"", "\"max\"", "normalize: expected none | softmax, got \"max\"");
  SemanticsError("\"prelu\"", "\"swish\"", "tower.activation: expected sigmoid | relu");
  SemanticsError("\"clicks\"", "\"views\"", "a unit for the history clicks");
  SemanticsError("[4, 2]", "[4, 0]", "hidden: expected an integer from 1");
  SemanticsError("[4, 2]", "4", "hidden: expected a list");
  SemanticsError("1e-8", "-1", "eps: expected a number of at least 0");
  SemanticsError("1e-8", "null", "eps: expected a finite float32, got nothing");
  SemanticsError("\"eps\": null", "\"eps\": 1", "eps: expected none without dice");
  SemanticsError("0.5", "1e99", "scale: expected a finite float32");
  SemanticsError("\"activation_unit\"", "\"sum\"", "one for each of 0 histories");
}

TEST(OnnxMetadata, JsonThatIsNoneOrEndlessIsRefused) {
  ExpectError([] { ParseSchema("{"); }, "schema: expected JSON, got '{'");
  ExpectError([] { ParseSchema("[]"); }, "schema: expected a JSON object");
  ExpectError([] { ParseSchema("\xff"); }, "schema: expected JSON, got '\\xff'");
  ExpectError([] { ParseSchema(std::string(100000, '[')); }, "schema: expected JSON");
  ExpectError([] { ParseSchema(std::string(1 << 20, ' ')); }, "schema: expected at most 262144 bytes");
}

TEST(OnnxMetadata, NamesThatCollideInTheGraphAreRefused) {
  const Schema schema = ParseSchema(Replaced(testing::kSchema, "\"clicks\"", "\"table\""));
  const Semantics semantics = ParseSemantics(Replaced(testing::kSemantics, "\"clicks\"", "\"table\""), schema);
  ExpectError([&] { onnx::ExpectedGraph(schema, semantics, true); },
              "the name 'table.item' would stand for two values");
}

}  // namespace
}  // namespace din_infer
