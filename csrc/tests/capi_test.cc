// The C ABI on the golden model files, against the C++ interface, and everything that a caller can get wrong.
#include <gtest/gtest.h>

#include <limits>
#include <thread>
#include <utility>

#include "capi.hpp"
#include "din_infer/din_infer.h"
#include "engine/model.hpp"
#include "golden.hpp"

namespace din_infer {
namespace {

using testing::ExpectInputError;
using testing::ExpectRefused;
using testing::Fill;
using testing::GoldenPath;
using testing::Options;
using testing::Requests;

class CApi : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_EQ(din_infer_model_load(GoldenPath(GetParam(), ".onnx").c_str(), &c_model_), DIN_INFER_OK);
    ASSERT_EQ(din_infer_batch_create(&batch_), DIN_INFER_OK);
    const din_infer_scorer_options options = Options(2);
    ASSERT_EQ(din_infer_scorer_create(c_model_, &options, &scorer_), DIN_INFER_OK);
    Fill(requests_.batch, batch_);
    expected_ = testing::ScoresInCpp(model_, requests_.batch);
  }
  void TearDown() override {
    din_infer_model_free(c_model_);
    din_infer_batch_free(batch_);
    din_infer_scorer_free(scorer_);
  }
  std::vector<float> Score() {
    std::vector<float> scores(expected_.size(), std::numeric_limits<float>::quiet_NaN());
    EXPECT_EQ(din_infer_scorer_score(scorer_, batch_, scores.data(), Size(scores)), DIN_INFER_OK)
        << din_infer_last_error();
    return scores;
  }
  static int64_t Size(const std::vector<float>& values) { return static_cast<int64_t>(values.size()); }
  const char* history() const { return model_.parts().histories[0].schema->name.c_str(); }

  Model model_ = Model::load(GoldenPath(GetParam(), ".onnx"));
  Requests requests_{model_.parts().file.schema,
                     Json::parse(testing::ReadFile(GoldenPath(GetParam(), ".json")))["columns"]};
  std::vector<float> expected_;
  din_infer_model* c_model_ = nullptr;
  din_infer_batch* batch_ = nullptr;
  din_infer_scorer* scorer_ = nullptr;
};

TEST_P(CApi, GivesTheScoresOfCpp) {
  int64_t candidates = -1;
  EXPECT_EQ(din_infer_scorer_candidates(scorer_, batch_, &candidates), DIN_INFER_OK);
  EXPECT_EQ(candidates, Size(expected_));
  EXPECT_EQ(Score(), expected_);
  Fill(requests_.batch, batch_);  // again, in place of what is set
  din_infer_model_free(std::exchange(c_model_, nullptr));
  EXPECT_EQ(Score(), expected_);
}

TEST_P(CApi, ScoresWithAFileOfBytesToo) {
  const std::string bytes = testing::ReadFile(GoldenPath(GetParam(), ".onnx"));
  din_infer_scorer_free(std::exchange(scorer_, nullptr));
  din_infer_model_free(std::exchange(c_model_, nullptr));
  ASSERT_EQ(din_infer_model_load_bytes(bytes.data(), bytes.size(), "", &c_model_), DIN_INFER_OK);
  ASSERT_EQ(din_infer_scorer_create(c_model_, nullptr, &scorer_), DIN_INFER_OK);
  EXPECT_EQ(Score(), expected_);
}

// Every request and the second one's candidates, as a catalogue.
TEST_P(CApi, ScoresACatalogueUnderBothPlans) {
  Json columns = Json::parse(testing::ReadFile(GoldenPath(GetParam(), ".json")))["columns"], catalogue;
  for (const auto& [name, rows] : columns.items()) {
    const bool candidate = name.rfind("candidate.", 0) == 0;
    if (candidate) catalogue[name] = Json::array({rows[1]});
    for (Json& row : rows) row = candidate ? rows[1] : row;
  }
  const Requests written_out(model_.parts().file.schema, columns);
  for (const auto& [name, rows] : columns.items()) {
    if (catalogue.contains(name)) continue;
    catalogue[name] = rows;
  }
  const Requests once(model_.parts().file.schema, catalogue);
  Batch batch = once.batch;
  batch.requests = written_out.batch.requests;
  batch.shared_candidates = true;
  expected_ = testing::ScoresInCpp(model_, written_out.batch);
  Fill(batch, batch_);
  for (const unsigned flags : {0u, unsigned{DIN_INFER_AUTO_PLAN}}) {
    din_infer_scorer_free(std::exchange(scorer_, nullptr));
    const din_infer_scorer_options options = Options(2, flags);
    ASSERT_EQ(din_infer_scorer_create(c_model_, &options, &scorer_), DIN_INFER_OK);
    EXPECT_EQ(Score(), expected_) << flags;
  }
  din_infer_plan_report report{};
  ASSERT_EQ(din_infer_scorer_explain_plan(scorer_, batch_, &report), DIN_INFER_OK);
  const PlanReport of_cpp = Scorer(model_).explain_plan(batch);
  EXPECT_EQ(report.candidates, of_cpp.candidates);
  EXPECT_EQ(report.distinct_candidates, of_cpp.distinct_candidates);
  EXPECT_EQ(report.pairs, of_cpp.pairs);
  EXPECT_EQ(report.distinct_pairs, of_cpp.distinct_pairs);
  EXPECT_EQ(report.request, of_cpp.request);
  EXPECT_EQ(report.candidate, of_cpp.candidate);
  EXPECT_EQ(report.chosen, of_cpp.chosen);
  ExpectInputError(din_infer_scorer_explain_plan(scorer_, batch_, nullptr), "report: expected a pointer");
  din_infer_batch_set_requests(batch_, std::numeric_limits<int64_t>::max());
  ExpectInputError(din_infer_scorer_score(scorer_, batch_, expected_.data(), Size(expected_)), "expected");
  ASSERT_EQ(din_infer_batch_set_shared_candidates(batch_, 0), DIN_INFER_OK);
  din_infer_batch_set_requests(batch_, batch.requests);
  ExpectInputError(din_infer_scorer_score(scorer_, batch_, expected_.data(), Size(expected_)), "offsets, got 2");
}

TEST_P(CApi, SaysWhatTheModelIs) {
  const char* value = nullptr;
  for (const auto& [key, text] : model_.metadata()) {
    EXPECT_EQ(din_infer_model_metadata(c_model_, key.c_str(), &value), DIN_INFER_OK);
    EXPECT_EQ(value, text);
  }
  EXPECT_EQ(din_infer_model_metadata(c_model_, "nothing", &value), DIN_INFER_OK);
  EXPECT_EQ(value, nullptr);
  double error = 1;
  EXPECT_EQ(din_infer_model_certificate_error(c_model_, &error), DIN_INFER_OK);
  EXPECT_EQ(error, certificate_error(model_));
  ExpectInputError(din_infer_model_certificate_error(c_model_, nullptr), "error: expected a pointer");
  size_t bytes = 0;
  EXPECT_EQ(din_infer_model_memory_bytes(c_model_, &bytes), DIN_INFER_OK);
  EXPECT_EQ(bytes, model_.memory_bytes());
  Score();
  for (const auto& [column, count] : model_.unknown_ids()) {  // which scored the batch once, as this one did
    int64_t counted = -1;
    EXPECT_EQ(din_infer_model_unknown_ids(c_model_, column.c_str(), &counted), DIN_INFER_OK);
    EXPECT_EQ(counted, count) << column;
  }
  int64_t counted = -1;
  ExpectInputError(din_infer_model_unknown_ids(c_model_, "user.nothing", &counted), "column: expected one with ids");
  EXPECT_EQ(counted, -1);
}

TEST_P(CApi, CountsMultiplyAdds) {
  const auto counted = [&] {
    int64_t request = -1, done = -1;
    EXPECT_EQ(din_infer_model_multiply_adds(c_model_, &request, &done), DIN_INFER_OK);
    return std::pair(request, done);
  };
  EXPECT_EQ(counted(), (std::pair<int64_t, int64_t>(0, 0)));
  Score();
  const MultiplyAdds work = model_.multiply_adds();  // which scored the batch once, as this one did
  EXPECT_GT(work.request, 0);
  EXPECT_EQ(counted(), std::pair(work.request, work.done));
  int64_t untouched = -1;
  ExpectInputError(din_infer_model_multiply_adds(c_model_, &untouched, nullptr), "done: expected a pointer");
  EXPECT_EQ(untouched, -1);
}

TEST_P(CApi, Explains) {
  const std::vector<float> expected = explain(model_, requests_.batch, history());
  std::vector<float> weights(expected.size());
  EXPECT_EQ(din_infer_explain(c_model_, batch_, history(), weights.data(), Size(weights)), DIN_INFER_OK);
  EXPECT_EQ(weights, expected);
  ExpectInputError(din_infer_explain(c_model_, batch_, history(), weights.data(), Size(weights) - 1),
                   "weights: expected a size of exactly " + std::to_string(weights.size()) + " floats");
  ExpectInputError(din_infer_explain(c_model_, batch_, "nothing", weights.data(), 0), "history: expected ");
}

TEST_P(CApi, ReplacesAModel) {
  const std::string path = GoldenPath(GetParam(), ".onnx");
  din_infer_model_registry* registry = nullptr;
  ASSERT_EQ(din_infer_model_registry_create(path.c_str(), nullptr, &registry), DIN_INFER_OK) << din_infer_last_error();
  const auto score = [&] {
    std::vector<float> scores(expected_.size(), -1);
    EXPECT_EQ(din_infer_model_registry_score(registry, batch_, scores.data(), Size(scores)), DIN_INFER_OK);
    return scores;
  };
  const auto version = [&] {
    int64_t number = -1;
    EXPECT_EQ(din_infer_model_registry_version(registry, &number), DIN_INFER_OK);
    return number;
  };
  EXPECT_EQ(score(), expected_);
  EXPECT_EQ(version(), 1);
  const auto loading = [&] {
    int is = -1;
    EXPECT_EQ(din_infer_model_registry_loading(registry, &is), DIN_INFER_OK);
    return is;
  };
  EXPECT_EQ(din_infer_model_registry_error(registry), DIN_INFER_OK);
  EXPECT_EQ(loading(), 0);
  EXPECT_EQ(din_infer_model_registry_replace(registry, "/nonexistent/model.onnx"), DIN_INFER_OK);
  ExpectRefused(din_infer_model_registry_wait(registry), DIN_INFER_MODEL_FILE_ERROR, "/nonexistent/model.onnx");
  EXPECT_EQ(loading(), 0);
  ExpectInputError(din_infer_model_registry_error(nullptr), "registry: expected a pointer");  // another last error
  ExpectRefused(din_infer_model_registry_error(registry), DIN_INFER_MODEL_FILE_ERROR, "/nonexistent/model.onnx");
  ExpectInputError(din_infer_model_registry_loading(registry, nullptr), "loading: expected a pointer");
  ExpectInputError(din_infer_model_registry_loading(nullptr, nullptr), "registry: expected a pointer");
  EXPECT_EQ(version(), 1);
  EXPECT_EQ(din_infer_model_registry_replace(registry, path.c_str()), DIN_INFER_OK);
  EXPECT_EQ(din_infer_model_registry_wait(registry), DIN_INFER_OK);
  EXPECT_EQ(din_infer_model_registry_error(registry), DIN_INFER_OK);
  EXPECT_EQ(version(), 2);
  EXPECT_EQ(score(), expected_);

  din_infer_model* model = nullptr;
  EXPECT_EQ(din_infer_model_registry_model(registry, &model), DIN_INFER_OK);
  din_infer_model_registry_free(std::exchange(registry, nullptr));
  din_infer_scorer_free(std::exchange(scorer_, nullptr));
  EXPECT_EQ(din_infer_scorer_create(model, nullptr, &scorer_), DIN_INFER_OK);
  din_infer_model_free(model);
  EXPECT_EQ(Score(), expected_);

  const din_infer_scorer_options no_threads = Options(-1);
  ExpectInputError(din_infer_model_registry_create(path.c_str(), &no_threads, &registry),
                   "threads: expected 1 to 1024");
  ExpectInputError(din_infer_model_registry_create(nullptr, nullptr, &registry), "path: expected a pointer");
  ExpectInputError(din_infer_model_registry_replace(nullptr, path.c_str()), "registry: expected a pointer");
  ExpectRefused(din_infer_model_registry_create("/nonexistent/model.onnx", nullptr, &registry),
                DIN_INFER_MODEL_FILE_ERROR, "/nonexistent/model.onnx");
  EXPECT_EQ(registry, nullptr);
}

TEST_P(CApi, RefusesABatchThatDoesNotFit) {
  std::vector<float> scores(expected_.size());
  const auto score = [&] { return din_infer_scorer_score(scorer_, batch_, scores.data(), Size(scores)); };
  for (const auto& [name, column] : requests_.batch.columns) {
    if (column.lists.empty()) continue;
    const std::vector<int64_t> offsets(column.lists[0].data, column.lists[0].data + column.lists[0].size);
    for (const int64_t wrong : {int64_t{-7}, std::numeric_limits<int64_t>::max()}) {
      for (size_t place : {size_t{0}, offsets.size() / 2, offsets.size() - 1}) {
        std::vector<int64_t> spoilt = offsets;
        spoilt[place] = wrong;
        Batch batch = requests_.batch;
        batch.columns[name].lists[0].data = spoilt.data();
        Fill(batch, batch_);
        ExpectInputError(score(), name + ": ");
        int64_t candidates = -1;
        ExpectInputError(din_infer_scorer_candidates(scorer_, batch_, &candidates), name + ": ");
        EXPECT_EQ(candidates, -1);
      }
    }
  }
  Fill(requests_.batch, batch_);
  for (const int64_t requests : {int64_t{0}, std::numeric_limits<int64_t>::max()}) {
    EXPECT_EQ(din_infer_batch_set_requests(batch_, requests), DIN_INFER_OK);
    ExpectInputError(score(), "expected");
  }
  Fill(requests_.batch, batch_);
  const int64_t id = 1;
  din_infer_batch_set_int64s(batch_, "candidate.nothing", &id, 1);
  ExpectInputError(score(), "not in the schema, are 'candidate.nothing'");
}

TEST_P(CApi, RefusesNullPointersAndRoomThatDoesNotFit) {
  std::vector<float> scores(expected_.size() + 1);
  ExpectInputError(din_infer_scorer_score(scorer_, batch_, scores.data(), Size(scores)),
                   "scores: expected a size of exactly " + std::to_string(expected_.size()) + " floats, got");
  ExpectInputError(din_infer_scorer_score(scorer_, batch_, nullptr, Size(expected_)), "scores: expected a pointer");
  ExpectInputError(din_infer_scorer_score(nullptr, batch_, scores.data(), 0), "scorer: expected a pointer, got null");
  ExpectInputError(din_infer_scorer_score(scorer_, nullptr, scores.data(), 0), "batch: expected a pointer, got null");
  ExpectInputError(din_infer_scorer_candidates(scorer_, batch_, nullptr), "candidates: expected a pointer");
  ExpectInputError(din_infer_scorer_create(nullptr, nullptr, &scorer_), "model: expected a pointer");
  ExpectInputError(din_infer_scorer_create(c_model_, nullptr, nullptr), "scorer: expected a pointer");
  din_infer_scorer* scorer = nullptr;
  for (int threads : {std::numeric_limits<int>::min(), -1, 1025, std::numeric_limits<int>::max()}) {
    const din_infer_scorer_options options = Options(threads, DIN_INFER_TIMINGS);
    ExpectInputError(din_infer_scorer_create(c_model_, &options, &scorer), "threads: expected 1 to 1024, got ");
  }
  const din_infer_scorer_options unknown = Options(1, 8);
  ExpectInputError(din_infer_scorer_create(c_model_, &unknown, &scorer), "DIN_INFER_TIMINGS or a sum of them, got 8");
  EXPECT_EQ(scorer, nullptr);
  ExpectInputError(din_infer_model_metadata(c_model_, nullptr, nullptr), "key: expected a pointer");
  ExpectInputError(din_infer_model_memory_bytes(nullptr, nullptr), "model: expected a pointer");
  ExpectInputError(din_infer_batch_set_floats(batch_, nullptr, nullptr, 0), "name: expected a pointer");
  ExpectInputError(din_infer_batch_add_lists(batch_, "x", nullptr, 0), "x: expected a column that has been set");
  EXPECT_EQ(Score(), expected_);
}

TEST_P(CApi, RefusesViewsThatCannotBeAndKeepsWhatWasSet) {
  constexpr int64_t kLeast = std::numeric_limits<int64_t>::min(), kMost = std::numeric_limits<int64_t>::max();
  for (const auto& [key, column] : requests_.batch.columns) {
    const char* name = key.c_str();
    const int64_t value = 0;
    const float number = 0;
    for (const int64_t size : {int64_t{-1}, kLeast}) {
      const std::string refusal = key + ": expected at least 0 values, got " + std::to_string(size);
      ExpectInputError(din_infer_batch_set_int64s(batch_, name, &value, size), refusal);
      ExpectInputError(din_infer_batch_set_floats(batch_, name, &number, size), refusal);
      ExpectInputError(din_infer_batch_set_strings(batch_, name, "", &value, size), refusal);
      ExpectInputError(din_infer_batch_set_embeddings(batch_, name, &number, size, 1), refusal);
      ExpectInputError(din_infer_batch_set_embeddings(batch_, name, &number, 1, size),
                       "width: expected at least 1, got");
      ExpectInputError(din_infer_batch_add_lists(batch_, name, &value, size), ": expected at least 1 offsets, got");
      ExpectInputError(din_infer_batch_set_requests(batch_, size), "requests: expected a number of at least 0, got");
    }
    ExpectInputError(din_infer_batch_add_lists(batch_, name, &value, 0), key + ": expected at least 1 offsets, got 0");
    ExpectInputError(din_infer_batch_set_embeddings(batch_, name, &number, 1, 0), "width: expected at least 1, got 0");
    for (const int64_t size : {int64_t{1}, kMost}) {
      ExpectInputError(din_infer_batch_set_int64s(batch_, name, nullptr, size), key + ": expected values, got a null");
      ExpectInputError(din_infer_batch_set_floats(batch_, name, nullptr, size), key + ": expected values, got a null");
      ExpectInputError(din_infer_batch_set_strings(batch_, name, "", nullptr, size), key + ": expected values, got");
      ExpectInputError(din_infer_batch_set_embeddings(batch_, name, nullptr, size, kMost), key + ": expected values");
      ExpectInputError(din_infer_batch_add_lists(batch_, name, nullptr, size), key + ": expected offsets, got a null");
    }
  }
  EXPECT_EQ(Score(), expected_);
}

INSTANTIATE_TEST_SUITE_P(Golden, CApi, ::testing::ValuesIn(testing::kGoldenModels), testing::GoldenName);

TEST(CApiErrors, ModelFiles) {
  din_infer_model* model = nullptr;
  ExpectRefused(din_infer_model_load("/nonexistent/model.onnx", &model), DIN_INFER_MODEL_FILE_ERROR, "/nonexistent/");
  ExpectRefused(din_infer_model_load_bytes("onnx", 4, "", &model), DIN_INFER_MODEL_FILE_ERROR, "");
  ExpectRefused(din_infer_model_load_bytes(nullptr, 0, "", &model), DIN_INFER_MODEL_FILE_ERROR, "");
  ExpectInputError(din_infer_model_load_bytes(nullptr, 4, "", &model), "bytes: expected a pointer");
  ExpectRefused(din_infer_model_load_bytes("onnx", std::numeric_limits<size_t>::max(), "", &model),
                DIN_INFER_OUT_OF_MEMORY, "a size that no memory can have");
  ExpectInputError(din_infer_model_load_bytes("onnx", 4, nullptr, &model), "folder: expected a pointer");
  ExpectInputError(din_infer_model_load(nullptr, &model), "path: expected a pointer");
  ExpectInputError(din_infer_model_load("model.onnx", nullptr), "model: expected a pointer");
  EXPECT_EQ(model, nullptr);
}

TEST(CApiErrors, FreeingNullDoesNothing) {
  din_infer_model_free(nullptr);
  din_infer_batch_free(nullptr);
  din_infer_scorer_free(nullptr);
  din_infer_model_registry_free(nullptr);
  din_infer_activation_unit_runner_free(nullptr);
}

TEST(CApiErrors, AreEachThreadsOwn) {
  din_infer_model* model = nullptr;
  ExpectInputError(din_infer_model_load(nullptr, &model), "path");
  std::thread([] { EXPECT_STREQ(din_infer_last_error(), ""); }).join();
  const std::string longer(5000, 'x');
  EXPECT_EQ(din_infer_model_load(longer.c_str(), &model), DIN_INFER_MODEL_FILE_ERROR);
  EXPECT_GT(std::string(din_infer_last_error()).size(), 500u);
}

TEST(CApiErrors, VersionAndTarget) {
  EXPECT_STREQ(din_infer_version(), version());
  const char* name = nullptr;
  EXPECT_EQ(din_infer_target(&name), DIN_INFER_OK);
  EXPECT_STREQ(name, target());
  ExpectInputError(din_infer_target(nullptr), "target: expected a pointer");
}

}  // namespace
}  // namespace din_infer
