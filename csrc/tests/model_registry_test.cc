// Models that change while threads score with them.
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/model.hpp"
#include "golden.hpp"
#include "onnx/model_file.hpp"

namespace din_infer {
namespace {

using testing::GoldenPath;
using testing::Requests;

// Whether a model file is mapped by this process, as it is while its model lives.
bool IsMapped(const std::string& path) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(path) != std::string::npos) return true;
  }
  return false;
}

// Two golden models with requests and scores of their own.
struct Golden {
  explicit Golden(const std::string& name)
      : path(GoldenPath(name, ".onnx")),
        model(Model::load(path)),
        requests(model.parts().file.schema, Json::parse(testing::ReadFile(GoldenPath(name, ".json")))["columns"]) {
    Scorer scorer(model);
    expected.resize(static_cast<size_t>(scorer.candidates(requests.batch)));
    scorer.score(requests.batch, expected.data());
  }

  bool Is(const Model& other) const { return other.metadata() == model.metadata(); }
  bool Scores(Scorer& scorer) const {
    std::vector<float> scores(expected.size());
    scorer.score(requests.batch, scores.data());
    return scores == expected;
  }

  std::string path;
  Model model;
  Requests requests;
  std::vector<float> expected;
};

class Registry : public ::testing::Test {
 protected:
  Registry() : folder_(std::filesystem::path(::testing::TempDir()) / ("registry" + std::to_string(getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~Registry() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name) const { return folder_ / name; }
  std::string Write(const std::string& name, const std::string& bytes) const {
    const std::string path = Path(name);
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  // The first golden model with `from` replaced by as many bytes.
  std::string WriteEdited(const std::string& name, const std::string& from, const std::string& to) const {
    std::string bytes = testing::ReadFile(one_.path);
    bytes.resize(bytes.size() - ChecksumEntry({}).size());
    const size_t at = bytes.find(from);
    EXPECT_NE(at, std::string::npos);
    bytes.replace(at, to.size(), to);
    return Write(name, bytes + ChecksumEntry(bytes));
  }

  bool Serves(ModelRegistry& registry, const Golden& golden) const {
    ModelRegistry::Lease lease = registry.lease();
    return golden.Is(lease.model()) && golden.Is(registry.model()) && golden.Scores(*lease);
  }

  void ExpectRefused(ModelRegistry& registry, const std::string& path, const std::string& part) const {
    registry.replace(path);
    EXPECT_FALSE(registry.wait());
    EXPECT_NE(registry.error().find(part), std::string::npos) << registry.error();
    EXPECT_NE(registry.error().find(path), std::string::npos) << registry.error();
    EXPECT_EQ(registry.version(), 1);
    EXPECT_TRUE(Serves(registry, one_));
  }

  std::filesystem::path folder_;
  Golden one_{"v1-outer-dice"}, other_{"v1-hadamard-softmax-strings"};
};

TEST_F(Registry, ReplacesItsModel) {
  ModelRegistry registry(one_.path);
  EXPECT_EQ(registry.version(), 1);
  EXPECT_TRUE(Serves(registry, one_));
  registry.replace(other_.path);
  EXPECT_TRUE(registry.wait()) << registry.error();
  EXPECT_EQ(registry.version(), 2);
  EXPECT_TRUE(Serves(registry, other_));
}

TEST_F(Registry, RefusesWhatDoesNotLoadOrDoesNotKeepItsCertificate) {
  ModelRegistry registry(one_.path);
  ExpectRefused(registry, Path("nothing.onnx"), "nothing.onnx");
  ExpectRefused(registry, Write("damaged.onnx", "not a model"), "expected an ONNX file");
  ExpectRefused(registry, WriteEdited("bare.onnx", "din_infer.certificate", "din_infer.certificat3"),
                "expected a certificate in the metadata, got none");
  ExpectRefused(registry, WriteEdited("wrong.onnx", "\"probabilities\": [0.", "\"probabilities\": [9."),
                "certificate: expected probabilities within 0.00001");
  ExpectRefused(registry, WriteEdited("text.onnx", "\"probabilities\": [0.", "\"probabilities\": {0."),
                "certificate: expected a JSON object");
  registry.replace(other_.path);
  EXPECT_TRUE(registry.loading() || registry.version() == 2);
  EXPECT_TRUE(registry.wait());
  EXPECT_EQ(registry.error(), "");
  EXPECT_THROW(ModelRegistry(Path("wrong.onnx")), ModelFileError);
}

TEST_F(Registry, CertificatesAreKept) {
  for (const std::string& name : testing::kGoldenModels) {
    EXPECT_LT(certificate_error(Model::load(GoldenPath(name, ".onnx"))), 1e-5) << name;
  }
  EXPECT_GT(
      certificate_error(Model::load(WriteEdited("wrong.onnx", "\"probabilities\": [0.", "\"probabilities\": [9."))), 8);
}

TEST_F(Registry, ALeaseKeepsItsVersionAndThenThatIsFreed) {
  const std::string path = Write("first.onnx", testing::ReadFile(one_.path));
  ModelRegistry registry(path);
  {
    ModelRegistry::Lease lease = registry.lease();
    registry.replace(other_.path);
    EXPECT_TRUE(registry.wait());
    EXPECT_TRUE(IsMapped(path));
    EXPECT_TRUE(one_.Is(lease.model()));
    EXPECT_TRUE(one_.Scores(*lease));
    EXPECT_TRUE(Serves(registry, other_));
  }
  for (int i = 0; i < 5000 && IsMapped(path); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_FALSE(IsMapped(path));
}

TEST_F(Registry, ALeaseOutlivesTheRegistry) {
  auto registry = std::make_unique<ModelRegistry>(one_.path);
  ModelRegistry::Lease lease = registry->lease();
  registry->replace(other_.path);
  registry->wait();
  registry.reset();
  EXPECT_TRUE(one_.Scores(*lease));
}

TEST_F(Registry, LeasesAreMovedAndGiveBackWhatTheyHad) {
  static_assert(std::is_nothrow_move_assignable_v<ModelRegistry::Lease>);
  const std::string path = Write("first.onnx", testing::ReadFile(one_.path));
  ModelRegistry registry(path);
  ModelRegistry::Lease lease = registry.lease();
  registry.replace(other_.path);
  ASSERT_TRUE(registry.wait());
  lease = registry.lease();
  EXPECT_TRUE(other_.Scores(*lease));
  for (int i = 0; i < 5000 && IsMapped(path); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_FALSE(IsMapped(path));
  ModelRegistry::Lease moved = std::move(lease);
  lease = std::move(moved);
  EXPECT_TRUE(other_.Scores(*lease));
  const Scorer* scorer = &*lease;
  moved = std::move(lease);
  {
    const ModelRegistry::Lease end = std::move(moved);
  }
  EXPECT_EQ(&*registry.lease(), scorer);
}

TEST_F(Registry, AreMoved) {
  static_assert(std::is_nothrow_move_assignable_v<ModelRegistry>);
  const std::string path = Write("first.onnx", testing::ReadFile(one_.path));
  std::vector<ModelRegistry> registries;
  for (const std::string& each : {path, one_.path}) registries.emplace_back(each);
  registries[1].replace(other_.path);  // perhaps loaded while it is moved
  registries.erase(registries.begin());
  EXPECT_FALSE(IsMapped(path));
  EXPECT_TRUE(registries[0].wait());
  EXPECT_FALSE(registries[0].loading());
  EXPECT_TRUE(Serves(registries[0], other_));
}

TEST_F(Registry, TheLastOfManyFilesServes) {
  ModelRegistry registry(one_.path);
  for (int i = 0; i < 20; ++i) registry.replace(i % 2 == 0 ? Path("nothing.onnx") : one_.path);
  registry.replace(other_.path);
  EXPECT_TRUE(registry.wait());
  EXPECT_TRUE(Serves(registry, other_));
}

TEST_F(Registry, ThreadsScoreWhileModelsChange) {
  ModelRegistry registry(one_.path);
  std::atomic<bool> done{false};
  std::vector<int> wrong(8, 0), scored(8, 0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      while (!done) {
        ModelRegistry::Lease lease = registry.lease();
        const Golden& golden = one_.Is(lease.model()) ? one_ : other_;
        wrong[t] += !golden.Scores(*lease);
        ++scored[t];
      }
    });
  }
  for (int swap = 0; swap < 20; ++swap) {
    registry.replace(swap % 2 == 0 ? other_.path : one_.path);
    EXPECT_TRUE(registry.wait()) << registry.error();
    if (swap % 4 == 0) registry.replace(Path("nothing.onnx"));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(8, 0));
  EXPECT_GT(*std::max_element(scored.begin(), scored.end()), 0);
}

}  // namespace
}  // namespace din_infer
