// Where the time of a call went.
#include <gtest/gtest.h>

#include "engine/candidate_plan.hpp"
#include "engine/request_plan.hpp"
#include "executor.hpp"
#include "golden.hpp"

namespace din_infer {
namespace {

using testing::GoldenPath;

class TimingsTest : public ::testing::TestWithParam<std::string> {
 protected:
  bool HasUnits() const { return model_.parts().histories[0].unit.has_value(); }

  void ExpectAllParts(const Timings& timings, int threads) const {
    EXPECT_GT(timings.look_up, 0);
    EXPECT_EQ(timings.fold > 0, HasUnits());
    EXPECT_GT(timings.unit, 0);
    EXPECT_GT(timings.tower, 0);
    // Sums of whole nanoseconds, but for the last bit of each.
    EXPECT_LE(timings.look_up + timings.fold + timings.unit + timings.tower, threads * timings.total + 1e-12);
  }

  static bool Zero(const Timings& timings) {
    return timings.total == 0 && timings.look_up == 0 && timings.fold == 0 && timings.unit == 0 && timings.tower == 0;
  }

  Model model_ = Model::load(GoldenPath(GetParam(), ".onnx"));
  testing::Requests requests_{model_.parts().file.schema,
                              Json::parse(testing::ReadFile(GoldenPath(GetParam(), ".json")))["columns"]};
  std::vector<float> scores_ = std::vector<float>(static_cast<size_t>(Scorer(model_).candidates(requests_.batch)));
};

TEST_P(TimingsTest, AreOfTheLastCall) {
  for (const int threads : {1, 2, 5}) {
    for (const bool auto_fold : {false, true}) {
      for (const Plan plan : {Plan::kRequest, Plan::kAuto}) {
        ScorerOptions options{threads, plan, auto_fold};
        options.timings = true;
        Scorer scorer(model_, options);
        EXPECT_TRUE(Zero(scorer.timings()));
        for (int again = 0; again < 2; ++again) {
          scorer.score(requests_.batch, scores_.data());
          ExpectAllParts(scorer.timings(), threads);
        }
        Batch wrong = requests_.batch;
        wrong.columns.clear();
        EXPECT_THROW(scorer.score(wrong, scores_.data()), InputError);
        EXPECT_TRUE(Zero(scorer.timings()));
      }
    }
  }
}

TEST_P(TimingsTest, AreZerosWhereTheyAreOff) {
  Scorer scorer(model_, {2});
  scorer.score(requests_.batch, scores_.data());
  EXPECT_TRUE(Zero(scorer.timings()));
}

TEST_P(TimingsTest, AreOfUsersToo) {
  const Json columns =
      testing::OneRequest(Json::parse(testing::ReadFile(GoldenPath(GetParam(), ".json")))["columns"], 3);
  const testing::Requests one(model_.parts().file.schema, columns);
  Batch of_user = one.batch, lists = one.batch;
  for (const auto& [name, column] : one.batch.columns) {
    const bool list = name.rfind("candidate.", 0) == 0 || name.rfind("context.", 0) == 0;
    (list ? of_user : lists).columns.erase(name);
  }
  ScorerOptions options;
  options.timings = true;
  Scorer scorer(model_, options);
  scorer.score(User(model_, of_user), lists, scores_.data());
  ExpectAllParts(scorer.timings(), 1);
}

// On threads that run one after the other, what they do cannot take longer than the call.
TEST_P(TimingsTest, OfTasksInTurnAddUpToTheCall) {
  testing::Asked asked;
  ScorerOptions options;
  options.threads = 4, options.timings = true, options.executor = {testing::OneAfterTheOther, &asked};
  Scorer scorer(model_, options);
  scorer.score(requests_.batch, scores_.data());
  ExpectAllParts(scorer.timings(), 1);
}

// Golden batches are too small for Scorer to choose this plan.
TEST_P(TimingsTest, AreOfCandidateByCandidateToo) {
  if (!HasUnits()) GTEST_SKIP() << "a base model has no plans";
  const CheckedBatch batch(model_.parts().file.schema, requests_.batch);
  for (const int threads : {1, 3}) {
    Parallel parallel(threads, {}, true);
    Wave wave(model_.parts(), threads);
    CandidatePlan plan(model_.parts(), threads);
    parallel.timers()->Restart();
    wave.Prepare(batch, {0, batch.requests}, parallel);
    PlanReport report;
    ASSERT_TRUE(plan.Prepare(wave, false, parallel, report));
    plan.Score(wave, parallel, scores_.data());
    ExpectAllParts(parallel.timers()->Read(), threads);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, TimingsTest, ::testing::ValuesIn(testing::kGoldenModels), testing::GoldenName);

}  // namespace
}  // namespace din_infer
