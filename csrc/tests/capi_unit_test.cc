// The activation unit alone through the C ABI, against the C++ interface.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "capi.hpp"
#include "engine/model.hpp"
#include "executor.hpp"
#include "golden.hpp"
#include "reference.hpp"
#include "unit_params.hpp"

namespace din_infer {
namespace {

using testing::ExpectInputError;
using testing::GoldenPath;

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
                                                   static_cast<int64_t>(layers_.size()), nullptr, runner);
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
  testing::Asked asked;
  din_infer_activation_unit_runner_options options{};
  options.size = sizeof(options), options.threads = 2, options.executor = {testing::Backwards, &asked};
  ASSERT_EQ(din_infer_activation_unit_runner_share(runner, &options, &shared), DIN_INFER_OK);
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
  EXPECT_GT(asked.calls, 0);

  for (const int64_t size : {0, 3, 11, 13, -12}) {
    ExpectInputError(
        din_infer_activation_unit_runner_run(shared, &c_keys_, &c_queries_, counts, interests.data(), size),
        "interests: expected room for 3 x 4 floats, got " + std::to_string(size));
  }
  ExpectInputError(din_infer_activation_unit_runner_run(shared, nullptr, &c_queries_, counts, interests.data(), 12),
                   "keys: expected a pointer");
  ExpectInputError(din_infer_activation_unit_runner_run(shared, &c_keys_, &c_queries_, counts, nullptr, 12),
                   "interests: expected memory");
  size_t bytes = 0;
  EXPECT_EQ(din_infer_activation_unit_runner_scratch_bytes(shared, &bytes), DIN_INFER_OK);
  EXPECT_GT(bytes, sizeof(float) * 4);
  EXPECT_EQ(din_infer_activation_unit_runner_shrink(shared), DIN_INFER_OK);
  EXPECT_EQ(din_infer_activation_unit_runner_scratch_bytes(shared, &bytes), DIN_INFER_OK);
  EXPECT_EQ(bytes, 0U);
  din_infer_activation_unit_runner* capped = nullptr;
  options.max_scratch_bytes = 1;
  ASSERT_EQ(din_infer_activation_unit_runner_share(shared, &options, &capped), DIN_INFER_OK);
  EXPECT_EQ(din_infer_activation_unit_runner_run(capped, &c_keys_, &c_queries_, counts, interests.data(), 12),
            DIN_INFER_OK);
  EXPECT_EQ(interests, expected);
  EXPECT_EQ(din_infer_activation_unit_runner_scratch_bytes(capped, &bytes), DIN_INFER_OK);
  EXPECT_EQ(bytes, 0U);
  din_infer_activation_unit_runner_free(capped);
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
  din_infer_activation_unit_runner_options options{};
  options.size = sizeof(options), options.flags = DIN_INFER_AUTO_FOLD;
  EXPECT_EQ(din_infer_activation_unit_runner_of_model(model, history.c_str(), &options, &runner), DIN_INFER_OK);
  int64_t dim = 0;
  EXPECT_EQ(din_infer_activation_unit_runner_dim(runner, &dim), DIN_INFER_OK);
  EXPECT_EQ(dim, cpp.parts().histories[0].unit->dim());
  din_infer_activation_unit_runner_free(std::exchange(runner, nullptr));
  ExpectInputError(din_infer_activation_unit_runner_of_model(model, "nothing", &options, &runner),
                   "history: expected ");
  EXPECT_EQ(runner, nullptr);
  options.flags |= DIN_INFER_TIMINGS;
  ExpectInputError(din_infer_activation_unit_runner_of_model(model, history.c_str(), &options, &runner),
                   "flags: expected 0 or DIN_INFER_AUTO_FOLD, got 5");
  options.flags = DIN_INFER_AUTO_FOLD;
  ExpectInputError(din_infer_activation_unit_runner_create("outer", "dice", "none", nullptr, layers_.data(),
                                                           static_cast<int64_t>(layers_.size()), &options, &runner),
                   "flags: expected 0, got 1");
  options.size = 8;
  ExpectInputError(din_infer_activation_unit_runner_of_model(model, history.c_str(), &options, &runner),
                   "options.size: expected that of the struct");
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
  for (const int64_t count : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::max()}) {
    ExpectInputError(din_infer_activation_unit_runner_create("outer", "dice", "none", nullptr, layers_.data(), count,
                                                             nullptr, &runner),
                     "layer_count: expected 1 to 1024, got " + std::to_string(count));
  }
  ExpectInputError(
      din_infer_activation_unit_runner_create("outer", "dice", "none", nullptr, nullptr, 1, nullptr, &runner),
      "layers: expected a pointer");
  EXPECT_EQ(runner, nullptr);
}

}  // namespace
}  // namespace din_infer
