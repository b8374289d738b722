#include "onnx/model_file.hpp"

#include <algorithm>

#include "base/crc32.hpp"
#include "base/errors.hpp"
#include "base/json.hpp"
#include "base/quote.hpp"
#include "onnx/compare.hpp"
#include "onnx/expected_graph.hpp"
#include "onnx/parameters.hpp"
#include "onnx/wire.hpp"

namespace din_infer {
namespace {

using namespace onnx;

constexpr char kFloat32Version[] = "1";                  // with tables of float32 alone
constexpr char kFormatVersion[] = "2";                   // says how its tables are stored
constexpr uint64_t kMaxBytes = (uint64_t{1} << 31) - 1;  // protobuf's own limit
constexpr char kCrcKey[] = "din_infer.crc32";

using Metadata = std::map<std::string, std::string>;

// A ModelProto's parts, not yet looked into.
struct ModelView {
  int64_t ir_version = 0;
  std::string_view graph;
  std::vector<std::string_view> opset_imports, functions;
  Metadata metadata;
};

void AddMetadata(std::string_view bytes, Metadata* metadata) {
  const std::string where = "metadata";
  Message message(bytes, where);
  std::string_view key, value;
  while (message.Next()) {
    switch (message.Tag()) {
      case 1:
        key = message.Bytes();
        break;
      case 2:
        value = message.Bytes();
        break;
      default:
        message.Skip();
    }
  }
  if (!IsUtf8(key) || !IsUtf8(value))
    throw ModelFileError("metadata " + Quote(key) + ": expected UTF-8, got " + Quote(value));
  if (!metadata->emplace(key, value).second)
    throw ModelFileError("metadata " + Quote(key) + ": expected it once, got it twice");
}

ModelView ParseModel(std::string_view bytes) {
  const std::string where = "model";
  Message message(bytes, where);
  ModelView model;
  bool has_graph = false;
  while (message.Next()) {
    switch (message.Tag()) {
      case 1:
        model.ir_version = message.Int();
        break;
      case 7:
        model.graph = message.BytesOnce(&has_graph);
        break;
      case 8:
        model.opset_imports.push_back(message.Bytes());
        break;
      case 14:
        AddMetadata(message.Bytes(), &model.metadata);
        break;
      case 20:
        message.Refuse("training information");
        break;
      case 25:
        model.functions.push_back(message.Bytes());
        break;
      default:
        message.Skip();
    }
  }
  if (!has_graph) throw ModelFileError("expected an ONNX model, got one without a graph");
  return model;
}

// The entry of ChecksumEntry.
std::string CrcEntry(uint32_t crc) {
  char digits[9];
  std::snprintf(digits, sizeof(digits), "%08x", crc);
  const std::string key = kCrcKey;
  std::string entry = {'\x0a', static_cast<char>(key.size())};
  entry += key + '\x12' + '\x08' + digits;
  return std::string{'\x72', static_cast<char>(entry.size())} + entry;
}

void CheckCrc(std::string_view bytes, const Storage& storage, const Metadata& metadata) {
  const size_t size = CrcEntry(0).size();
  const std::string_view end = bytes.substr(bytes.size() - std::min(size, bytes.size()));
  uint32_t crc = 0;
  const bool of_file = storage.file != nullptr;
  storage.Read(bytes.substr(0, bytes.size() - end.size()), of_file,
               [&](std::string_view piece) { crc = Crc32(piece, crc); });
  if (const std::string expected = CrcEntry(crc); end != expected) {
    const auto stored = metadata.find(kCrcKey);
    throw ModelFileError("the file has changed since it was exported: expected it to end with CRC-32 " +
                         Quote(expected.substr(size - 8)) + ", got " +
                         (stored == metadata.end() ? "none" : Quote(stored->second)) + "; export it again");
  }
}

const std::string& Get(const Metadata& metadata, const std::string& key) {
  const auto found = metadata.find(key);
  if (found == metadata.end())
    throw ModelFileError("expected a model exported by din_infer, got one without the metadata entry " + key);
  return found->second;
}

void CheckVersion(const ModelView& model) {
  const std::string& version = Get(model.metadata, "din_infer.format_version");
  if (version != kFloat32Version && version != kFormatVersion) {
    throw ModelFileError(std::string("format version: expected 1 or ") + kFormatVersion + ", got " + Quote(version) +
                         "; export the model again with the din_infer that loads it");
  }
  if (const auto ids = model.metadata.find("din_infer.ids"); ids != model.metadata.end() && ids->second != "raw") {
    throw ModelFileError("expected a model that reads raw ids, got ids " + Quote(ids->second) +
                         ": it was exported with --inline, for other runtimes");
  }
  constexpr int64_t kFirstWithFunctions = 8;
  if (model.ir_version < kFirstWithFunctions) {
    throw ModelFileError("IR version: expected at least " + std::to_string(kFirstWithFunctions) + ", got " +
                         std::to_string(model.ir_version));
  }
}

DType TableDType(const Metadata& metadata) {
  const auto declared = metadata.find("din_infer.table_dtype");
  if (Get(metadata, "din_infer.format_version") != kFloat32Version) {
    return ParseTableDType(Get(metadata, "din_infer.table_dtype"));
  }
  if (declared != metadata.end())
    throw ModelFileError("format version 1: expected no metadata entry din_infer.table_dtype, got " +
                         Quote(declared->second));
  return DType::kFloat32;
}

// Each row of an int8 table has a scale and an offset.
void CheckRanges(const ModelFile& file) {
  for (const Table& table : file.schema.tables) {
    const std::string name = "parameter table." + table.name;
    const int64_t rows = file.parameters.at("table." + table.name).shape[0];
    const int64_t ranges = file.parameters.at("table." + table.name + ".range").shape[0];
    if (rows != ranges)
      throw ModelFileError(name + ".range: expected " + std::to_string(rows) + " rows, got " + std::to_string(ranges));
  }
}

void CheckOpsets(const std::vector<std::string_view>& imports, bool with_functions, const std::string& where) {
  std::map<std::string, int64_t> expected = {{"", kOpset}, {kMlDomain, kMlOpset}};
  if (with_functions) expected[kDomain] = kDomainVersion;
  for (const std::string_view bytes : imports) {
    Message message(bytes, where);
    std::string domain;
    int64_t version = 0;
    while (message.Next()) {
      switch (message.Tag()) {
        case 1:
          domain = message.Bytes();
          break;
        case 2:
          version = message.Int();
          break;
        default:
          message.Skip();
      }
    }
    const auto found = expected.find(domain);
    if (found == expected.end() || found->second != version) {
      throw ModelFileError(where + ": operator set " + Quote(domain) + ": expected " +
                           (found == expected.end() ? "none" : "version " + std::to_string(found->second)) +
                           ", got version " + std::to_string(version));
    }
    expected.erase(found);
  }
  if (!expected.empty())
    throw ModelFileError(where + ": expected the operator set " + Quote(expected.begin()->first) + ", got none");
}

void CheckFunction(const Function& expected, std::string_view bytes, const Schema& schema,
                   std::vector<Vocabulary>* vocabularies) {
  const std::string where = "function " + expected.name;
  Message message(bytes, where);
  std::string_view name, domain, overload;
  std::vector<std::string_view> inputs, outputs, opset_imports;
  NodeChecker nodes(where, expected.nodes, schema, vocabularies);
  while (message.Next()) {
    switch (message.Tag()) {
      case 1:
        name = message.Bytes();
        break;
      case 4:
        inputs.push_back(message.Bytes());
        break;
      case 5:
        outputs.push_back(message.Bytes());
        break;
      case 7:
        nodes.Add(message.Bytes());
        break;
      case 9:
        opset_imports.push_back(message.Bytes());
        break;
      case 10:
        domain = message.Bytes();
        break;
      case 13:
        overload = message.Bytes();
        break;
      case 6:   // attribute
      case 11:  // attribute_proto
        message.Refuse("a function's attribute");
      default:
        message.Skip();
    }
  }
  CheckText(expected.name, name, where + ": name");
  CheckText(kDomain, domain, where + ": domain");
  CheckText("", overload, where + ": overload");
  CheckList(expected.inputs, inputs, where + ": inputs");
  CheckList(expected.outputs, outputs, where + ": outputs");
  CheckOpsets(opset_imports, false, where);
  nodes.Finish();
}

void CheckFunctions(const Graph& expected, const std::vector<std::string_view>& functions, ModelFile* file) {
  if (functions.size() != expected.functions.size()) {
    throw ModelFileError("expected " + std::to_string(expected.functions.size()) + " model-local functions, got " +
                         std::to_string(functions.size()));
  }
  for (size_t i = 0; i < functions.size(); ++i)
    CheckFunction(expected.functions[i], functions[i], file->schema, &file->vocabularies);
}

// Inputs or outputs, one by one.
class ValueChecker {
 public:
  ValueChecker(std::string kind, const std::vector<Value>& expected) : kind_(std::move(kind)), expected_(expected) {}
  void Add(std::string_view value) {
    if (next_ == expected_.size()) Fail("more");
    CheckValue(expected_[next_], value, "graph " + kind_ + " " + std::to_string(next_));
    ++next_;
  }
  void Finish() const {
    if (next_ != expected_.size()) Fail(std::to_string(next_));
  }

 private:
  [[noreturn]] void Fail(const std::string& got) const {
    throw ModelFileError("graph: expected " + std::to_string(expected_.size()) + " " + kind_ + "s, got " + got);
  }
  std::string kind_;
  const std::vector<Value>& expected_;
  size_t next_ = 0;
};

void CheckGraph(const Graph& expected, std::string_view graph, const std::filesystem::path& folder, Storage* storage,
                ModelFile* file) {
  const std::string where = "graph";
  Message message(graph, where);
  NodeChecker nodes(where, expected.nodes, file->schema, &file->vocabularies);
  ValueChecker inputs("input", expected.inputs), outputs("output", expected.outputs);
  ParameterReader parameters(expected.parameters, folder, storage);
  while (message.Next()) {
    switch (message.Tag()) {
      case 1:
        nodes.Add(message.Bytes());
        break;
      case 5:
        parameters.Add(message.Bytes());
        break;
      case 11:
        inputs.Add(message.Bytes());
        break;
      case 12:
        outputs.Add(message.Bytes());
        break;
      case 14:
        message.Refuse("a quantisation annotation");
        break;
      case 15:
        message.Refuse("a sparse initializer");
        break;
      default:
        message.Skip();
    }
  }
  nodes.Finish();
  inputs.Finish();
  outputs.Finish();
  file->parameters = parameters.Finish();
}

void CheckVocabulary(const Vocabulary& vocabulary, int64_t rows, const std::string& where) {
  const size_t keys = vocabulary.int64_keys.size() + vocabulary.string_keys.size();
  if (keys != vocabulary.rows.size()) {
    throw ModelFileError(where + ": expected a row for each of " + std::to_string(keys) + " ids, got " +
                         std::to_string(vocabulary.rows.size()));
  }
  for (const int64_t row : vocabulary.rows) {
    if (row < 0 || row >= rows)
      throw ModelFileError(where + ": expected rows from 0 to " + std::to_string(rows - 1) + ", got " +
                           std::to_string(row));
  }
}

void ReadInto(std::string_view bytes, const std::filesystem::path& folder, Storage* storage, ModelFile* file) {
  if (bytes.size() > kMaxBytes)
    throw ModelFileError("expected at most 2 GB, which is protobuf's limit, got " + std::to_string(bytes.size()) +
                         " bytes");
  ModelView model = ParseModel(bytes);
  CheckVersion(model);
  CheckCrc(bytes, *storage, model.metadata);
  file->schema = ParseSchema(Get(model.metadata, "din_infer.schema"));
  file->semantics = ParseSemantics(Get(model.metadata, "din_infer.semantics"), file->schema);
  file->table_dtype = TableDType(model.metadata);
  file->metadata = std::move(model.metadata);
  file->vocabularies.resize(file->schema.tables.size());
  const Graph expected = ExpectedGraph(file->schema, file->semantics, /*raw_ids=*/true, file->table_dtype);
  CheckOpsets(model.opset_imports, true, "model");
  CheckFunctions(expected, model.functions, file);
  CheckGraph(expected, model.graph, folder, storage, file);
  if (file->table_dtype == DType::kInt8) CheckRanges(*file);
  for (size_t i = 0; i < file->vocabularies.size(); ++i) {
    const std::string& name = file->schema.tables[i].name;
    CheckVocabulary(file->vocabularies[i], file->parameters.at("table." + name).shape[0],
                    "vocabulary of table " + name);
  }
}

ModelFile Read(std::string_view bytes, const std::filesystem::path& folder, std::shared_ptr<Storage> storage) {
  ModelFile file;
  try {
    ReadInto(bytes, folder, storage.get(), &file);
  } catch (const protozero::exception& error) {
    throw ModelFileError(std::string("expected an ONNX file, got none, or a damaged one: ") + error.what());
  }
  file.storage = std::move(storage);
  return file;
}

}  // namespace

std::string ChecksumEntry(std::string_view bytes) { return CrcEntry(Crc32(bytes)); }

ModelFile ReadModelFile(const std::filesystem::path& path, const std::function<void()>& pause) {
  auto storage = std::make_shared<Storage>();
  storage->pause = pause;
  storage->file = std::make_unique<Mapping>(path);
  const std::string_view bytes = storage->file->bytes();
  try {
    return Read(bytes, path.parent_path(), std::move(storage));
  } catch (const ModelFileError& error) {
    throw ModelFileError(path.string() + ": " + error.what());
  }
}

ModelFile ReadModelFile(std::string bytes, const std::filesystem::path& folder) {
  auto storage = std::make_shared<Storage>();
  storage->bytes = std::move(bytes);
  const std::string_view view = storage->bytes;
  return Read(view, folder, std::move(storage));
}

}  // namespace din_infer
