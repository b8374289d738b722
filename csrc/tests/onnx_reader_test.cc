// Reading model files: what they hold, and that damaged, hostile or edited ones are refused with the reason.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "base/crc32.hpp"
#include "base/errors.hpp"
#include "base/quote.hpp"
#include "onnx/model_file.hpp"
#include "onnx/tensor.hpp"
#include "onnx_writer.hpp"

namespace din_infer {
namespace {

using testing::FileContents;
using testing::ValidContents;
using testing::Write;

std::string WithoutChecksum(FileContents contents) {
  contents.with_crc = false;
  return Write(contents);
}

ModelFile Read(const FileContents& contents) { return ReadModelFile(Write(contents), "."); }

// The error of reading, or nothing where the file was read.
std::string ErrorOf(const std::string& bytes) {
  try {
    ReadModelFile(bytes, ".");
  } catch (const ModelFileError& error) {
    return error.what();
  }
  return "";
}

void ExpectError(const FileContents& contents, const std::string& part) {
  const std::string error = ErrorOf(Write(contents));
  EXPECT_NE(error.find(part), std::string::npos) << "expected an error with: " << part << "\ngot: " << error;
}

TEST(OnnxReader, ReadsWhatTheFileHolds) {
  const ModelFile file = Read(ValidContents());
  EXPECT_EQ(file.schema.tables.size(), 3U);
  EXPECT_EQ(file.schema.histories[0].max_length, 3);
  EXPECT_TRUE(file.semantics.units[0].softmax);
  EXPECT_EQ(file.semantics.units[0].scale, 0.5F);
  EXPECT_EQ(file.metadata.at("din_infer.format_version"), "1");
  EXPECT_EQ(file.vocabularies[0].int64_keys, (std::vector<int64_t>{-7, 5, int64_t{1} << 40}));
  EXPECT_EQ(file.vocabularies[1].string_keys, (std::vector<std::string_view>{"a", "", "c\xc3\xa9"}));
  EXPECT_EQ(file.vocabularies[1].rows, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_TRUE(file.vocabularies[2].rows.empty());
  const Parameter& weights = file.parameters.at("unit.clicks.weights.0");
  EXPECT_EQ(weights.shape, (std::vector<int64_t>{4, 2 * 5 + 5 * 5}));
  EXPECT_EQ(weights.Floats()[9], 9 / 8.0F);
  EXPECT_EQ(file.parameters.at("dense.user.age.mean").shape, std::vector<int64_t>());
}

constexpr DType kTableDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kInt8};

TEST(OnnxReader, ReadsTablesOfEachType) {
  for (const DType dtype : {DType::kFloat16, DType::kInt8}) {
    const ModelFile file = Read(ValidContents(dtype));
    EXPECT_EQ(file.table_dtype, dtype);
    const Parameter& table = file.parameters.at("table.item");
    EXPECT_EQ(table.dtype, dtype);
    EXPECT_EQ(table.shape, (std::vector<int64_t>{4, 3}));
    EXPECT_EQ(table.bytes, dtype == DType::kFloat16 ? 24U : 12U);
    EXPECT_EQ(static_cast<const char*>(table.data)[11], 11);
    EXPECT_EQ(file.parameters.count("table.item.range"), dtype == DType::kInt8 ? 1U : 0U);
  }
  EXPECT_EQ(Read(ValidContents(DType::kInt8)).parameters.at("table.item.range").Floats()[7], 7 / 8.0F);
}

TEST(OnnxReader, NeverGuessesHowTablesAreStored) {
  FileContents contents = ValidContents(DType::kInt8);
  contents.metadata.erase("din_infer.table_dtype");
  ExpectError(contents, "without the metadata entry din_infer.table_dtype");
  contents.metadata["din_infer.table_dtype"] = "uint8";
  ExpectError(contents, "table dtype: expected float32 | float16 | int8, got 'uint8'");
  contents.metadata["din_infer.table_dtype"] = "float16";
  ExpectError(contents, "function Embedding_1");
  contents = ValidContents();
  contents.metadata["din_infer.table_dtype"] = "float32";
  ExpectError(contents, "format version 1: expected no metadata entry din_infer.table_dtype, got 'float32'");
  contents = ValidContents(DType::kFloat16);
  contents.parameter_type = 1;
  ExpectError(contents, "parameter table.item: expected float16, got float32");
}

TEST(OnnxReader, WantsAScaleAndAnOffsetForEachRow) {
  const auto edit = [](int64_t rows, int64_t columns, const std::string& error) {
    FileContents contents = ValidContents(DType::kInt8);
    ASSERT_EQ(contents.graph.parameters[1].name, "table.item.range");
    contents.graph.parameters[1].shape = {rows, columns};
    ExpectError(contents, error);
  };
  edit(3, 2, "parameter table.item.range: expected 4 rows, got 3");
  edit(5, 2, "parameter table.item.range: expected 4 rows, got 5");
  edit(4, 1, "parameter table.item.range: expected shape [?, 2], got [4, 1]");
}

TEST(OnnxReader, DataIsAlignedWhereverItLies) {
  for (size_t shift = 0; shift < 12; ++shift) {
    FileContents contents = ValidContents(kTableDTypes[shift / 4]);
    contents.graph.nodes[0].name += std::string(shift % 4, 'x');  // which lies before the parameters
    for (const bool as_float_data : {false, true}) {
      contents.as_float_data = as_float_data;
      const ModelFile file = Read(contents);
      for (const auto& [name, parameter] : file.parameters) {
        EXPECT_EQ(reinterpret_cast<uintptr_t>(parameter.data) % onnx::ItemBytes(parameter.dtype), 0U) << name;
        EXPECT_EQ(*static_cast<const char*>(parameter.data), 0) << name;
      }
    }
  }
}

// Files are read in pieces of 1 MiB, whose pages are let go of.
TEST(OnnxReader, LargeTablesAreReadPieceByPiece) {
  constexpr int64_t kManyRows = 300'000;
  const std::filesystem::path path =
      std::filesystem::path(::testing::TempDir()) / ("large_tables" + std::to_string(getpid()) + ".onnx");
  for (size_t shift = 0; shift < 4; ++shift) {
    FileContents contents = ValidContents();
    contents.graph.nodes[0].name += std::string(shift, 'x');
    contents.graph.parameters[0].shape[0] = kManyRows;
    std::string bytes = Write(contents);
    std::ofstream(path, std::ios::binary) << bytes;
    const ModelFile file = ReadModelFile(path);
    const Parameter& table = file.parameters.at("table.item");
    ASSERT_EQ(table.bytes, kManyRows * 3 * sizeof(float));
    int64_t wrong = 0;
    for (int64_t i = 0; i < kManyRows * 3; ++i) wrong += table.Floats()[i] != static_cast<float>(i) / 8;
    EXPECT_EQ(wrong, 0);
    bytes[(size_t{5} << 19) + shift] ^= 1;
    EXPECT_NE(ErrorOf(bytes).find("has changed since it was exported"), std::string::npos);
  }
  std::filesystem::remove(path);
}

TEST(OnnxReader, Crc32IsZlibs) {
  EXPECT_EQ(Crc32("123456789"), 0xCBF43926U);
  EXPECT_EQ(Crc32("3456789", Crc32("12")), 0xCBF43926U);
  EXPECT_EQ(Crc32(""), 0U);
}

TEST(OnnxReader, RefusesEveryCut) {
  for (const DType dtype : kTableDTypes) {
    const std::string bytes = Write(ValidContents(dtype));
    ASSERT_EQ(ErrorOf(bytes), "");
    for (size_t size = 0; size < bytes.size(); ++size)
      EXPECT_NE(ErrorOf(bytes.substr(0, size)), "") << "cut to " << size << " of " << bytes.size();
  }
}

TEST(OnnxReader, RefusesEveryFlippedBit) {
  std::string bytes = Write(ValidContents());
  for (size_t place = 0; place < bytes.size(); ++place) {
    const int bit = static_cast<int>(place * 5 % 8);
    bytes[place] = static_cast<char>(bytes[place] ^ (1 << bit));
    EXPECT_NE(ErrorOf(bytes), "") << "bit " << bit << " of byte " << place;
    bytes[place] = static_cast<char>(bytes[place] ^ (1 << bit));
  }
}

TEST(OnnxReader, SurvivesManyWrongBytes) {
  std::string valid[3];
  for (size_t i = 0; i < 3; ++i) valid[i] = WithoutChecksum(ValidContents(kTableDTypes[i]));
  std::mt19937 random(1);
  for (int round = 0; round < 5000; ++round) {
    std::string bytes = valid[round % 3];
    for (int change = 0; change < 1 + round % 20; ++change)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    ErrorOf(bytes + ChecksumEntry(bytes));  // some are valid models with other weights; none may crash or hang
  }
}

class OnnxReaderOfTables : public ::testing::TestWithParam<DType> {};

TEST_P(OnnxReaderOfTables, RefusesEveryEditedNode) {
  const FileContents valid = ValidContents(GetParam());
  const std::vector<std::function<void(onnx::Node&)>> edits = {
      [](onnx::Node& node) { node.op += "X"; },
      [](onnx::Node& node) { node.domain += "x"; },
      [](onnx::Node& node) { node.inputs.push_back("more"); },
      [](onnx::Node& node) { node.outputs[0] += "x"; },
      [](onnx::Node& node) { node.attributes["extra"] = int64_t{1}; },
  };
  const auto check = [&](const std::function<std::vector<onnx::Node>&(FileContents&)>& list, const std::string& where) {
    FileContents counted = valid;
    const size_t count = list(counted).size();
    for (size_t i = 0; i < count; ++i) {
      for (const auto& edit : edits) {
        FileContents contents = valid;
        edit(list(contents)[i]);
        ExpectError(contents, where + ", node " + std::to_string(i) + " (");
      }
      FileContents contents = valid;
      list(contents).erase(list(contents).begin() + static_cast<std::ptrdiff_t>(i));
      ExpectError(contents, where);
    }
  };
  check([](FileContents& c) -> std::vector<onnx::Node>& { return c.graph.nodes; }, "graph");
  for (size_t f = 0; f < valid.graph.functions.size(); ++f) {
    check([f](FileContents& c) -> std::vector<onnx::Node>& { return c.graph.functions[f].nodes; },
          "function " + valid.graph.functions[f].name);
  }
}

TEST_P(OnnxReaderOfTables, RefusesEveryEditedAttribute) {
  const FileContents valid = ValidContents(GetParam());
  for (size_t f = 0; f < valid.graph.functions.size(); ++f) {
    for (size_t n = 0; n < valid.graph.functions[f].nodes.size(); ++n) {
      for (const auto& [name, value] : valid.graph.functions[f].nodes[n].attributes) {
        FileContents contents = valid;
        onnx::Attribute& edited = contents.graph.functions[f].nodes[n].attributes[name];
        if (auto* integer = std::get_if<int64_t>(&edited)) {
          ++*integer;
        } else if (auto* number = std::get_if<float>(&edited)) {
          *number *= 1.5F;
          if (*number == 0) *number = 1;
        } else if (auto* ints = std::get_if<std::vector<int64_t>>(&edited)) {
          ++ints->at(0);
        } else {
          continue;  // a vocabulary, which has tests of its own
        }
        ExpectError(contents, "attribute '" + name + "'");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, OnnxReaderOfTables, ::testing::ValuesIn(kTableDTypes),
                         [](const auto& dtype) { return std::string(onnx::TypeName(dtype.param)); });

TEST(OnnxReader, RefusesOtherFunctions) {
  FileContents contents = ValidContents();
  contents.graph.functions.pop_back();
  ExpectError(contents, "model-local functions, got");
  contents = ValidContents();
  std::swap(contents.graph.functions[0], contents.graph.functions[1]);
  ExpectError(contents, "function " + ValidContents().graph.functions[0].name);
  contents = ValidContents();
  contents.graph.functions[0].inputs.push_back("more");
  ExpectError(contents, ": inputs: expected");
}

TEST(OnnxReader, RefusesOtherInputsAndOutputs) {
  FileContents contents = ValidContents();
  contents.graph.inputs[0].dtype = DType::kInt64;
  ExpectError(contents, "graph input 0 'user.age': expected float32, got int64");
  contents = ValidContents();
  contents.graph.inputs[1].dims[1] = int64_t{7};
  ExpectError(contents, "expected shape ['B', 'N'], got ['B', 7]");
  contents = ValidContents();
  contents.graph.outputs[0].name = "score";
  ExpectError(contents, "expected 'probability', got 'score'");
  contents = ValidContents();
  contents.graph.inputs.pop_back();
  ExpectError(contents, "inputs, got");
}

TEST(OnnxReader, RefusesOtherParameters) {
  const auto edit = [](const std::function<void(onnx::ParameterShape&)>& change, const std::string& error) {
    FileContents contents = ValidContents();
    change(contents.graph.parameters[0]);
    ExpectError(contents, error);
  };
  edit([](auto& p) { p.shape[1] = 4; }, "parameter table.item: expected shape [?, 3], got [4, 4]");
  edit([](auto& p) { p.shape = {12}; }, "parameter table.item: expected shape [?, 3], got [12]");
  edit([](auto& p) { p.name = "table.brand"; }, "parameter table.brand: expected");
  edit([](auto& p) { p.name = "other"; }, "initializer 'other'");
  edit([](auto& p) { p.shape[0] = 3; }, "vocabulary of table item: expected rows from 0 to 2, got 3");
  FileContents contents = ValidContents();
  contents.graph.parameters.pop_back();
  ExpectError(contents, "got no such initializer");
  contents = ValidContents();
  contents.parameter_type = 11;
  ExpectError(contents, "expected float32, got float64");
}

TEST(OnnxReader, RefusesShapesThatPromiseMoreThanTheFileHolds) {
  std::string bytes = WithoutChecksum(ValidContents());
  const std::string dims("\x08\x04\x08\x03\x10\x01\x42\x0atable.item", 18);  // [4, 3], float32
  const size_t at = bytes.find(dims);
  ASSERT_NE(at, std::string::npos);
  bytes[at + 1] = 0x7F;
  const std::string error = ErrorOf(bytes + ChecksumEntry(bytes));
  EXPECT_NE(error.find("expected 1524 bytes of float32 for shape [127, 3], got 48"), std::string::npos) << error;
}

TEST(OnnxReader, RefusesWrongVocabularies) {
  const auto edit = [](const std::function<void(FileContents&)>& change, const std::string& error) {
    FileContents contents = ValidContents();
    change(contents);
    ExpectError(contents, error);
  };
  edit([](auto& c) { c.rows["item"] = {1, 2}; }, "expected a row for each of 3 ids, got 2");
  edit([](auto& c) { c.rows["item"] = {1, 2, 4}; }, "expected rows from 0 to 3, got 4");
  edit([](auto& c) { c.rows["brand"] = {-1, 2, 3}; }, "expected rows from 0 to 3, got -1");
  edit([](auto& c) { c.default_row = 1; }, "attribute 'default_tensor': expected [0], got [1]");
  edit([](auto& c) { c.int64_keys["brand"] = {1, 2, 3}; }, "expected string, got int64");
}

TEST(OnnxReader, RefusesOtherVersions) {
  const auto edit = [](const std::string& key, const std::string& value, const std::string& error) {
    FileContents contents = ValidContents();
    contents.metadata[key] = value;
    ExpectError(contents, error);
  };
  edit("din_infer.format_version", "3", "format version: expected 1 or 2, got '3'; export the model again");
  edit("din_infer.ids", "rows", "exported with --inline");
  edit("note", "\xff", "metadata 'note': expected UTF-8");
  FileContents contents = ValidContents();
  contents.metadata.erase("din_infer.format_version");
  ExpectError(contents, "without the metadata entry din_infer.format_version");
  contents = ValidContents();
  contents.opsets[""] = "17";
  ExpectError(contents, "operator set '': expected version 18, got version 17");
  contents = ValidContents();
  contents.opsets["com.example"] = "1";
  ExpectError(contents, "operator set 'com.example': expected none");
}

TEST(OnnxReader, RefusesFilesThatDoNotEndWithTheirChecksum) {
  const std::string bytes = WithoutChecksum(ValidContents());
  const std::string entry = ChecksumEntry(bytes);
  const std::string digits = entry.substr(entry.size() - 8);
  const std::string changed = "the file has changed since it was exported: expected it to end with CRC-32 ";
  const auto expect = [](const std::string& file, const std::string& part) {
    EXPECT_NE(ErrorOf(file).find(part), std::string::npos) << ErrorOf(file);
  };
  EXPECT_EQ(ErrorOf(bytes + entry), "");
  expect(bytes, ", got none; export it again");
  std::string other = entry;
  other.back() = other.back() == '0' ? '1' : '0';
  expect(bytes + other, changed + Quote(digits) + ", got " + Quote(other.substr(other.size() - 8)));
  other = entry;
  other.replace(other.find("crc32"), 5, "crc33");
  expect(bytes + other, changed + Quote(digits) + ", got none");
  expect(entry + bytes, ", got " + Quote(digits));  // protobuf's parsers read entries in any place
}

TEST(OnnxReader, RefusesWhatIsNoModel) {
  EXPECT_NE(ErrorOf(""), "");
  EXPECT_NE(ErrorOf("not a model"), "");
  EXPECT_NE(ErrorOf(std::string(1000, '\0')), "");
  EXPECT_NE(ErrorOf(std::string(1000, '\xff')), "");
  EXPECT_THROW(ReadModelFile(std::filesystem::path("/nowhere/model.onnx")), ModelFileError);
  EXPECT_THROW(ReadModelFile(std::filesystem::temp_directory_path()), ModelFileError);
}

}  // namespace
}  // namespace din_infer
