// memory FOLDER MAPPED_MIB HOT SWAPPED_MIB: what a model takes of main memory. First one whose tables, MAPPED_MIB in a
// file of their own, are mapped, while requests read HOT rows of them; then one of SWAPPED_MIB that is loaded from
// bytes; then a registry's while it swaps models of SWAPPED_MIB, and once all of it is gone. Writes its files to
// FOLDER, the large one with holes in place of zeros. Fails where rows that nobody asked for are resident, bytes are
// there twice, a swap takes more than two models, or memory stays.
#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "base/schema.hpp"
#include "base/semantics.hpp"
#include "din_infer/din_infer.hpp"
#include "onnx/expected_graph.hpp"
#include "onnx/model_file.hpp"
#include "onnx_writer.hpp"

namespace din_infer {
namespace {

constexpr double kMiB = 1 << 20;
constexpr int64_t kDim = 64, kCandidates = 50, kBehaviours = 200;
constexpr char kTables[] = "tables.data";

constexpr char kSemantics[] = R"({"pooling": "activation_unit", "units": {"clicks": {"hidden": [80, 40],
  "activation": "sigmoid", "interaction": "hadamard", "normalize": "none", "scale": null, "eps": null}},
  "tower": {"hidden": [200, 80], "activation": "relu", "eps": null}})";

std::string Schema(int64_t rows) {
  return R"({"version": 1, "request": {"key": "request_id"}, "label": "label",
    "tables": {"item": {"dim": )" +
         std::to_string(kDim) + R"(, "ids": "hash", "size": )" + std::to_string(rows) +
         R"(}}, "user": {}, "context": {}, "candidate": {"item": {"table": "item"}},
    "histories": {"clicks": {"features": {"item": {"table": "item"}}, "order": "oldest_first"}}})";
}

// What /proc/self/<file> says under `key`, in MiB: of the process, or of the mappings of files named `mapped`.
double Said(const char* file, const std::string& key, const std::string& mapped = "") {
  std::ifstream lines(std::string("/proc/self/") + file);
  double kib = 0;
  bool counts = mapped.empty();
  for (std::string line; std::getline(lines, line);) {
    if (!mapped.empty() && line.find('-') < line.find(' ')) counts = line.find(mapped) != std::string::npos;
    if (counts && line.rfind(key + ":", 0) == 0) kib += std::atof(line.c_str() + key.size() + 1);
  }
  return kib * 1024 / kMiB;
}

double Resident() { return Said("status", "VmRSS"); }
double Peak() { return Said("status", "VmHWM"); }
void ForgetPeak() { std::ofstream("/proc/self/clear_refs") << 5; }

void Print(const char* when) {
  std::printf("%-52s %8.1f MiB resident, %8.1f of it of files\n", when, Resident(), Said("status", "RssFile"));
}

// One user with `candidates` of so many ids.
struct Request {
  Request(const std::vector<int64_t>& ids, int64_t behaviours) : items(ids) {
    const auto candidates = static_cast<int64_t>(items.size()) - behaviours;
    ends[1] = behaviours, lists[1] = candidates;
    batch.requests = 1;
    batch.columns["clicks.item"] = Column::int64s(items.data(), behaviours).list(ends, 2);
    batch.columns["candidate.item"] = Column::int64s(items.data() + behaviours, candidates).list(lists, 2);
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  std::vector<int64_t> items;
  int64_t ends[2] = {}, lists[2] = {};
  Batch batch;
};

testing::FileContents Contents(double mib, bool external) {
  testing::FileContents contents;
  const auto rows = static_cast<int64_t>(mib * kMiB / (kDim * sizeof(float)));
  const std::string schema = Schema(rows);
  contents.metadata = {
      {"din_infer.format_version", "1"}, {"din_infer.schema", schema}, {"din_infer.semantics", kSemantics}};
  const auto parsed = ParseSchema(schema);
  contents.graph = onnx::ExpectedGraph(parsed, ParseSemantics(kSemantics, parsed), true, DType::kFloat32);
  contents.opsets = {{"", std::to_string(onnx::kOpset)},
                     {onnx::kMlDomain, std::to_string(onnx::kMlOpset)},
                     {onnx::kDomain, std::to_string(onnx::kDomainVersion)}};
  if (external) contents.external["table.item"] = {{"location", kTables}};
  return contents;
}

void WriteFile(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// A model that a registry takes: its certificate is one request with the score that it gives.
void WriteCertified(const std::filesystem::path& path, double mib) {
  testing::FileContents contents = Contents(mib, false);
  WriteFile(path, testing::Write(contents));
  const Request request({1, 2, 3}, 2);
  float score = 0;
  Scorer(Model::load(path)).score(request.batch, &score);
  const Json columns = {{"clicks.item", {1, 2}}, {"candidate.item", {3}}};
  contents.metadata["din_infer.certificate"] =
      Json({{"requests", Json::array({{{"columns", columns}, {"probabilities", {score}}}})}}).dump();
  WriteFile(path, testing::Write(contents));
}

// Whether only rows that were asked for are resident, each with the pages that it lies in.
bool Mapped(const std::filesystem::path& folder, double mib, int64_t hot) {
  std::ofstream(folder / kTables).close();
  std::filesystem::resize_file(folder / kTables, static_cast<uintmax_t>(mib * kMiB));
  WriteFile(folder / "mapped.onnx", testing::Write(Contents(mib, true)));
  Print("before");
  const Model model = Model::load(folder / "mapped.onnx");
  Print("with the model loaded");
  std::mt19937_64 random(1);
  std::vector<int64_t> rows(static_cast<size_t>(hot));
  for (int64_t& row : rows) row = static_cast<int64_t>(random() >> 1);
  Scorer scorer(model);
  std::vector<float> scores(kCandidates);
  for (int call = 0; call < 200; ++call) {
    std::vector<int64_t> items(kBehaviours + kCandidates);
    for (int64_t& item : items) item = rows[random() % rows.size()];
    const Request request(items, kBehaviours);
    scorer.score(request.batch, scores.data());
  }
  Print("after 200 requests");
  const double resident = Said("smaps", "Rss", kTables);
  std::printf(
      "of the tables, by smaps: %.1f MiB mapped, %.1f resident, Pss %.1f, for %lld rows of %zu bytes, %.1f MiB\n",
      Said("smaps", "Size", kTables), resident, Said("smaps", "Pss", kTables), static_cast<long long>(hot),
      kDim * sizeof(float), static_cast<double>(hot * kDim) * sizeof(float) / kMiB);
  std::printf("anonymous: %.1f MiB\n", Said("status", "RssAnon"));
  return resident > 0 && resident <= static_cast<double>(hot) * 4 * 4096 / kMiB;
}

// Whether a file's bytes are there once, while they are loaded and then, wherever its table begins.
bool LoadsBytes(double mib) {
  testing::FileContents contents = Contents(mib, false);
  contents.with_crc = false;
  const std::string written = testing::Write(contents);
  bool fits = true;
  for (size_t shift = 0; shift < sizeof(float); ++shift) {
    std::string bytes = std::string{'\x12', static_cast<char>(shift)} + std::string(shift, '-');  // who produced it
    bytes.reserve(written.size() + 100);
    bytes += written;
    bytes += ChecksumEntry(bytes);
    const double before = Resident(), spare = 4;
    ForgetPeak();
    const Model model = Model::load_bytes(std::move(bytes), "");
    std::printf("%-52s %8.1f MiB more at most, %8.1f then\n", "bytes, loaded", Peak() - before, Resident() - before);
    fits &= Peak() - before <= spare;
  }
  return fits;
}

// Whether two versions are all there is during a swap, and none is left.
bool Swaps(const std::filesystem::path& folder, double mib) {
  const double before = Resident(), spare = 8;
  Print("before the registry");
  WriteCertified(folder / "one.onnx", mib);
  malloc_trim(0);  // what writing took
  std::filesystem::copy_file(folder / "one.onnx", folder / "other.onnx");
  bool fits = true;
  {
    ModelRegistry registry(folder / "one.onnx");
    Print("with its first model");
    ForgetPeak();
    for (int swap = 0; swap < 4; ++swap) {
      registry.replace(folder / (swap % 2 == 0 ? "other.onnx" : "one.onnx"));
      fits &= registry.wait();
    }
    std::printf("%-52s %8.1f MiB resident\n", "at most during 4 swaps", Peak());
    fits &= Peak() - before <= 2 * mib + spare;
  }
  Print("once it is gone");
  return fits && Resident() - before <= spare;
}

int Run(const std::filesystem::path& folder, double mapped, int64_t hot, double swapped) {
  std::filesystem::create_directories(folder);
  const bool rows = Mapped(folder, mapped, hot);
  Print("with the model released");
  const bool bytes = LoadsBytes(swapped);
  const bool swaps = Swaps(folder, swapped);
  for (const char* name : {kTables, "mapped.onnx", "one.onnx", "other.onnx"}) std::filesystem::remove(folder / name);
  if (!rows) std::printf("rows that nobody asked for are resident\n");
  if (!bytes) std::printf("bytes are there twice\n");
  if (!swaps) std::printf("swaps take more than two models, were refused, or left memory behind\n");
  return rows && bytes && swaps ? 0 : 1;
}

}  // namespace
}  // namespace din_infer

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "expected FOLDER MAPPED_MIB HOT SWAPPED_MIB\n");
    return 2;
  }
  return din_infer::Run(argv[1], std::atof(argv[2]), std::atoll(argv[3]), std::atof(argv[4]));
}
