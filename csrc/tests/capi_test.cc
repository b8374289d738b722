// The C ABI on the golden model files, against the C++ interface, and everything that a caller can get wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>

#include "din_infer/din_infer.h"
#include "engine/model.hpp"
#include "golden.hpp"
#include "reference.hpp"
#include "unit_params.hpp"

namespace din_infer {
namespace {

using testing::GoldenPath;
using testing::Requests;

void ExpectRefused(din_infer_status got, din_infer_status expected, const std::string& part) {
  EXPECT_EQ(got, expected);
  EXPECT_NE(std::string(din_infer_last_error()).find(part), std::string::npos) << din_infer_last_error();
}

void ExpectInputError(din_infer_status got, const std::string& part) {
  ExpectRefused(got, DIN_INFER_INPUT_ERROR, part);
}

// The columns of a C++ batch in a C one.
void Fill(const Batch& from, din_infer_batch* to) {
  ASSERT_EQ(din_infer_batch_set_requests(to, from.requests), DIN_INFER_OK);
  for (const auto& [name, column] : from.columns) {
    if (column.float_values != nullptr) {
      ASSERT_EQ(din_infer_batch_set_floats(to, name.c_str(), column.float_values, column.size), DIN_INFER_OK);
    } else if (column.string_offsets != nullptr) {
      ASSERT_EQ(din_infer_batch_set_strings(to, name.c_str(), column.characters, column.string_offsets, column.size),
                DIN_INFER_OK);
    } else {
      ASSERT_EQ(din_infer_batch_set_int64s(to, name.c_str(), column.int64_values, column.size), DIN_INFER_OK);
    }
    for (const Offsets& lists : column.lists) {
      ASSERT_EQ(din_infer_batch_add_lists(to, name.c_str(), lists.data, lists.size), DIN_INFER_OK);
    }
  }
}

class CApi : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_EQ(din_infer_model_load(GoldenPath(GetParam(), ".onnx").c_str(), &c_model_), DIN_INFER_OK);
    ASSERT_EQ(din_infer_batch_create(&batch_), DIN_INFER_OK);
    ASSERT_EQ(din_infer_scorer_create(c_model_, 2, 0, &scorer_), DIN_INFER_OK);
    Fill(requests_.batch, batch_);
    expected_.resize(static_cast<size_t>(Scorer(model_).candidates(requests_.batch)));
    Scorer(model_).score(requests_.batch, expected_.data());
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
  ASSERT_EQ(din_infer_scorer_create(c_model_, 1, 0, &scorer_), DIN_INFER_OK);
  EXPECT_EQ(Score(), expected_);
}

TEST_P(CApi, SaysWhatTheModelIs) {
  const char* value = nullptr;
  for (const auto& [key, text] : model_.metadata()) {
    EXPECT_EQ(din_infer_model_metadata(c_model_, key.c_str(), &value), DIN_INFER_OK);
    EXPECT_EQ(value, text);
  }
  EXPECT_EQ(din_infer_model_metadata(c_model_, "nothing", &value), DIN_INFER_OK);
  EXPECT_EQ(value, nullptr);
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

TEST_P(CApi, Explains) {
  const std::vector<float> expected = explain(model_, requests_.batch, history());
  std::vector<float> weights(expected.size());
  EXPECT_EQ(din_infer_explain(c_model_, batch_, history(), weights.data(), Size(weights)), DIN_INFER_OK);
  EXPECT_EQ(weights, expected);
  ExpectInputError(din_infer_explain(c_model_, batch_, history(), weights.data(), Size(weights) - 1),
                   "weights: expected room for " + std::to_string(weights.size()) + " floats");
  ExpectInputError(din_infer_explain(c_model_, batch_, "nothing", weights.data(), 0), "history: expected ");
}

TEST_P(CApi, ReplacesAModel) {
  const std::string path = GoldenPath(GetParam(), ".onnx");
  din_infer_model_registry* registry = nullptr;
  ASSERT_EQ(din_infer_model_registry_create(path.c_str(), 1, 0, &registry), DIN_INFER_OK) << din_infer_last_error();
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
  EXPECT_EQ(din_infer_model_registry_replace(registry, "/nonexistent/model.onnx"), DIN_INFER_OK);
  ExpectRefused(din_infer_model_registry_wait(registry), DIN_INFER_MODEL_FILE_ERROR, "/nonexistent/model.onnx");
  EXPECT_EQ(version(), 1);
  EXPECT_EQ(din_infer_model_registry_replace(registry, path.c_str()), DIN_INFER_OK);
  EXPECT_EQ(din_infer_model_registry_wait(registry), DIN_INFER_OK);
  EXPECT_EQ(version(), 2);
  EXPECT_EQ(score(), expected_);

  din_infer_model* model = nullptr;
  EXPECT_EQ(din_infer_model_registry_model(registry, &model), DIN_INFER_OK);
  din_infer_model_registry_free(std::exchange(registry, nullptr));
  din_infer_scorer_free(std::exchange(scorer_, nullptr));
  EXPECT_EQ(din_infer_scorer_create(model, 1, 0, &scorer_), DIN_INFER_OK);
  din_infer_model_free(model);
  EXPECT_EQ(Score(), expected_);

  ExpectInputError(din_infer_model_registry_create(path.c_str(), 0, 0, &registry), "threads: expected 1 to 1024");
  ExpectInputError(din_infer_model_registry_create(nullptr, 1, 0, &registry), "path: expected a pointer");
  ExpectInputError(din_infer_model_registry_replace(nullptr, path.c_str()), "registry: expected a pointer");
  ExpectRefused(din_infer_model_registry_create("/nonexistent/model.onnx", 1, 0, &registry), DIN_INFER_MODEL_FILE_ERROR,
                "/nonexistent/model.onnx");
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
        ExpectInputError(score(), name + ": expected ");
        int64_t candidates = -1;
        ExpectInputError(din_infer_scorer_candidates(scorer_, batch_, &candidates), name + ": expected ");
        EXPECT_EQ(candidates, -1);
      }
    }
  }
  Fill(requests_.batch, batch_);
  for (const int64_t requests : {int64_t{-1}, int64_t{0}, std::numeric_limits<int64_t>::max()}) {
    din_infer_batch_set_requests(batch_, requests);
    ExpectInputError(score(), "expected");
  }
  Fill(requests_.batch, batch_);
  const int64_t id = 1;
  din_infer_batch_set_int64s(batch_, "candidate.nothing", &id, 1);
  ExpectInputError(score(), "some are not in the schema");
}

TEST_P(CApi, RefusesNullPointersAndRoomThatDoesNotFit) {
  std::vector<float> scores(expected_.size() + 1);
  ExpectInputError(din_infer_scorer_score(scorer_, batch_, scores.data(), Size(scores)),
                   "scores: expected room for " + std::to_string(expected_.size()) + " floats, got");
  ExpectInputError(din_infer_scorer_score(scorer_, batch_, nullptr, Size(expected_)), "scores: expected a pointer");
  ExpectInputError(din_infer_scorer_score(nullptr, batch_, scores.data(), 0), "scorer: expected a pointer, got null");
  ExpectInputError(din_infer_scorer_score(scorer_, nullptr, scores.data(), 0), "batch: expected a pointer, got null");
  ExpectInputError(din_infer_scorer_candidates(scorer_, batch_, nullptr), "candidates: expected a pointer");
  ExpectInputError(din_infer_scorer_create(nullptr, 1, 0, &scorer_), "model: expected a pointer");
  ExpectInputError(din_infer_scorer_create(c_model_, 1, 0, nullptr), "scorer: expected a pointer");
  din_infer_scorer* scorer = nullptr;
  for (int threads : {0, -1, 1025}) {
    ExpectInputError(din_infer_scorer_create(c_model_, threads, 0, &scorer), "threads: expected 1 to 1024, got ");
  }
  ExpectInputError(din_infer_scorer_create(c_model_, 1, 8, &scorer), "flags: expected 0 or DIN_INFER_AUTO_FOLD, got 8");
  EXPECT_EQ(scorer, nullptr);
  ExpectInputError(din_infer_model_metadata(c_model_, nullptr, nullptr), "key: expected a pointer");
  ExpectInputError(din_infer_model_memory_bytes(nullptr, nullptr), "model: expected a pointer");
  ExpectInputError(din_infer_batch_set_floats(batch_, nullptr, nullptr, 0), "name: expected a pointer");
  ExpectInputError(din_infer_batch_add_lists(batch_, "x", nullptr, 0), "x: expected a column that has been set");
  EXPECT_EQ(Score(), expected_);
}

INSTANTIATE_TEST_SUITE_P(Golden, CApi, ::testing::ValuesIn(testing::kGoldenModels), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(CApiErrors, ModelFiles) {
  din_infer_model* model = nullptr;
  ExpectRefused(din_infer_model_load("/nonexistent/model.onnx", &model), DIN_INFER_MODEL_FILE_ERROR, "/nonexistent/");
  ExpectRefused(din_infer_model_load_bytes("onnx", 4, "", &model), DIN_INFER_MODEL_FILE_ERROR, "");
  ExpectRefused(din_infer_model_load_bytes(nullptr, 0, "", &model), DIN_INFER_MODEL_FILE_ERROR, "");
  ExpectInputError(din_infer_model_load_bytes(nullptr, 4, "", &model), "bytes: expected a pointer");
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

// A unit of one hidden layer, two requests with 3 and 0 keys, one and two queries.
class CApiUnit : public ::testing::Test {
 protected:
  CApiUnit() {
    UnitSemantics unit;
    unit.hidden = {9};
    unit.activation = Activation::kDice;
    random_ = std::make_unique<testing::RandomUnit>(unit, 4, 3);
    params_ = testing::ParamsOf(*random_);
    for (const UnitLayer& l : params_.layers) {
      const auto view = [](const FloatView& v) { return din_infer_float_view{v.data, v.size}; };
      layers_.push_back(
          {l.outputs, l.inputs, view(l.weights), view(l.biases), view(l.alpha), view(l.mean), view(l.var), l.eps});
    }
    keys_ = random_->Normal(12, 1), queries_ = random_->Normal(12, 1);
    c_keys_ = {keys_.data(), 3, key_offsets_, 3}, c_queries_ = {queries_.data(), 3, query_offsets_, 3};
  }

  din_infer_status Create(din_infer_activation_unit_runner** runner, const char* interaction = "outer",
                          const float* scale = nullptr) {
    return din_infer_activation_unit_runner_create(interaction, "dice", "none", scale, layers_.data(),
                                                   static_cast<int64_t>(layers_.size()), 1, runner);
  }

  std::unique_ptr<testing::RandomUnit> random_;
  ActivationUnitParams params_;
  std::vector<din_infer_unit_layer> layers_;
  std::vector<float> keys_, queries_;
  int64_t key_offsets_[3] = {0, 3, 3}, query_offsets_[3] = {0, 1, 3};
  din_infer_rows c_keys_{}, c_queries_{};
};

TEST_F(CApiUnit, GivesTheInterestsOfCpp) {
  const float scale = 0.25f;
  din_infer_activation_unit_runner *runner = nullptr, *shared = nullptr;
  ASSERT_EQ(Create(&runner, "outer", &scale), DIN_INFER_OK) << din_infer_last_error();
  ASSERT_EQ(din_infer_activation_unit_runner_share(runner, 2, &shared), DIN_INFER_OK);
  int64_t dim = 0;
  EXPECT_EQ(din_infer_activation_unit_runner_dim(runner, &dim), DIN_INFER_OK);
  EXPECT_EQ(dim, 4);

  params_.scale = scale;
  std::vector<float> expected(12), interests(12);
  const int64_t counts[] = {1, 2, 3};
  ActivationUnitRunner(params_).run({keys_.data(), 3, {key_offsets_, 3}}, {queries_.data(), 3, {query_offsets_, 3}},
                                    expected.data(), counts);
  EXPECT_TRUE(std::any_of(expected.begin(), expected.end(), [](float value) { return value != 0; }));
  EXPECT_EQ(din_infer_activation_unit_runner_run(runner, &c_keys_, &c_queries_, counts, interests.data(), 12),
            DIN_INFER_OK);
  EXPECT_EQ(interests, expected);
  din_infer_activation_unit_runner_free(runner);
  std::fill(interests.begin(), interests.end(), 7.0f);
  EXPECT_EQ(din_infer_activation_unit_runner_run(shared, &c_keys_, &c_queries_, counts, interests.data(), 12),
            DIN_INFER_OK);
  EXPECT_EQ(interests, expected);

  for (const int64_t size : {0, 3, 11, 13, -12}) {
    ExpectInputError(
        din_infer_activation_unit_runner_run(shared, &c_keys_, &c_queries_, counts, interests.data(), size),
        "interests: expected room for 3 x 4 floats, got " + std::to_string(size));
  }
  ExpectInputError(din_infer_activation_unit_runner_run(shared, nullptr, &c_queries_, counts, interests.data(), 12),
                   "keys: expected a pointer");
  ExpectInputError(din_infer_activation_unit_runner_run(shared, &c_keys_, &c_queries_, counts, nullptr, 12),
                   "interests: expected memory");
  c_keys_.offsets_size = 2;
  ExpectInputError(din_infer_activation_unit_runner_run(shared, &c_keys_, &c_queries_, counts, interests.data(), 12),
                   "queries.offsets: expected 2 offsets, got 3");
  din_infer_activation_unit_runner_free(shared);
}

TEST_F(CApiUnit, RunsTheUnitOfAModel) {
  din_infer_model* model = nullptr;
  ASSERT_EQ(din_infer_model_load(GoldenPath("v1-outer-dice", ".onnx").c_str(), &model), DIN_INFER_OK);
  din_infer_activation_unit_runner* runner = nullptr;
  const Model cpp = Model::load(GoldenPath("v1-outer-dice", ".onnx"));
  const std::string history = cpp.parts().histories[0].schema->name;
  EXPECT_EQ(din_infer_activation_unit_runner_of_model(model, history.c_str(), 1, &runner), DIN_INFER_OK);
  int64_t dim = 0;
  EXPECT_EQ(din_infer_activation_unit_runner_dim(runner, &dim), DIN_INFER_OK);
  EXPECT_EQ(dim, cpp.parts().histories[0].unit->dim());
  din_infer_activation_unit_runner_free(std::exchange(runner, nullptr));
  ExpectInputError(din_infer_activation_unit_runner_of_model(model, "nothing", 1, &runner), "history: expected ");
  EXPECT_EQ(runner, nullptr);
  din_infer_model_free(model);
}

TEST_F(CApiUnit, RefusesParametersThatDoNotFit) {
  din_infer_activation_unit_runner* runner = nullptr;
  ExpectInputError(Create(&runner, "inner"), "interaction: expected outer | hadamard, got 'inner'");
  ExpectInputError(Create(&runner, nullptr), "interaction: expected a pointer");
  ExpectInputError(Create(nullptr), "runner: expected a pointer");
  const float nan = std::nanf("");
  ExpectInputError(Create(&runner, "outer", &nan), "scale: expected a finite number");
  layers_[0].weights.size--;
  ExpectInputError(Create(&runner), "layers[0].weights: expected 9 x 24 floats, got 215");
  layers_.clear();
  ExpectInputError(Create(&runner), "layers: expected at least one");
  ExpectInputError(din_infer_activation_unit_runner_create("outer", "dice", "none", nullptr, nullptr, 1, 1, &runner),
                   "layers: expected a pointer");
  EXPECT_EQ(runner, nullptr);
}

}  // namespace
}  // namespace din_infer
