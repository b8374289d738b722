// Both plans on the golden model files, with many requests that share candidates and behaviours.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "engine/candidate_plan.hpp"
#include "engine/distinct.hpp"
#include "engine/repeats.hpp"
#include "engine/request_plan.hpp"
#include "golden.hpp"

namespace din_infer {
namespace {

using testing::GoldenPath;
using testing::Requests;

// By name: the list is made before main() can say that a target is not there.
std::vector<std::string> WithUnits() {
  std::vector<std::string> names;
  for (const std::string& name : testing::kGoldenModels) {
    if (name.rfind("v1-base", 0) != 0) names.push_back(name);
  }
  return names;
}

class Plans : public ::testing::TestWithParam<std::string> {
 protected:
  // Request i has the histories of golden request i % n and the candidates of another one, `repeat` times over.
  Json Mixed(size_t requests, size_t repeat) const {
    const Json& golden = golden_["columns"];
    Json columns;
    for (const auto& [name, rows] : golden.items()) {
      for (size_t i = 0; i < requests; ++i) {
        const bool candidate = name.rfind("candidate.", 0) == 0;
        const Json& row = rows[candidate ? (i * i + i / rows.size()) % rows.size() : i % rows.size()];
        Json repeated = row;
        for (size_t r = 1; candidate && r < repeat; ++r) repeated.insert(repeated.end(), row.begin(), row.end());
        columns[name].push_back(candidate ? repeated : row);
      }
    }
    return columns;
  }

  std::vector<float> ByRequest(const CheckedBatch& batch) const {
    Parallel parallel(1);
    Wave wave(parts_, 1);
    wave.Prepare(batch, {0, batch.requests}, parallel);
    std::vector<float> scores = Unset(batch);
    RequestPlan(parts_, false, 1).Score(wave, parallel, scores.data());
    wave.CountUnknown();
    return scores;
  }

  static std::vector<float> Unset(const CheckedBatch& batch) {
    return std::vector<float>(static_cast<size_t>(batch.Candidates()), std::numeric_limits<float>::quiet_NaN());
  }

  Model model_ = Model::load(GoldenPath(GetParam(), ".onnx"));
  const Model::Parts& parts_ = model_.parts();
  Json golden_ = Json::parse(testing::ReadFile(GoldenPath(GetParam(), ".json")));
};

TEST_P(Plans, GiveTheSameBitsOnAnyNumberOfThreads) {
  for (const auto& [requests, repeat] : std::map<size_t, size_t>{{1, 1}, {2, 90}, {40, 1}, {150, 7}}) {
    const Requests mixed(parts_.file.schema, Mixed(requests, repeat));
    const CheckedBatch batch = CheckBatch(parts_.file.schema, mixed.batch);
    const std::vector<float> expected = ByRequest(batch);
    for (int threads : {1, 2, 5}) {
      Parallel parallel(threads);
      Wave wave(parts_, threads);
      CandidatePlan plan(parts_, threads);
      for (int again = 0; again < 2; ++again) {
        std::vector<float> scores = Unset(batch);
        wave.Prepare(batch, {0, batch.requests}, parallel);
        PlanReport report;
        ASSERT_TRUE(plan.Prepare(wave, false, parallel, report));
        plan.Score(wave, parallel, scores.data());
        EXPECT_EQ(std::memcmp(scores.data(), expected.data(), scores.size() * sizeof(float)), 0)
            << requests << " requests, " << threads << " threads";
      }
    }
  }
}

TEST_P(Plans, AreLookedAtByTheSharesOfWhatComesAgain) {
  const Json alone = testing::OneRequest(golden_["columns"], 0);
  Json often;
  for (const auto& [name, rows] : alone.items()) {
    for (int i = 0; i < 10; ++i) often[name].push_back(rows[0]);
  }
  const auto repeated = [&](auto share, const Json& columns) {
    const Requests requests(parts_.file.schema, columns);
    const CheckedBatch batch = CheckBatch(parts_.file.schema, requests.batch);
    EXPECT_GT(batch.Candidates(), 1);
    DistinctEstimate scratch;
    return share(parts_.file.schema, batch, {0, batch.requests}, scratch);
  };
  for (auto share : {RepeatedCandidates, RepeatedBehaviours}) {
    EXPECT_NEAR(1 - repeated(share, often), (1 - repeated(share, alone)) / 10, 0.03);
  }
  EXPECT_DOUBLE_EQ(repeated(RepeatedInHistories, often), repeated(RepeatedInHistories, alone));
  EXPECT_LT(repeated(RepeatedInHistories, alone), 0.9);
}

// Some candidates in many requests and each of the others in one.
TEST_P(Plans, GiveTheSameBitsWhereCandidatesComeOftenAndSeldom) {
  Json columns = Mixed(150, 7);
  const auto dense = [](const Feature& feature) { return feature.table == kDense; };
  const auto& features = parts_.file.schema.candidate.features;
  const auto feature = std::find_if(features.begin(), features.end(), dense);
  if (feature == features.end()) GTEST_SKIP() << "candidates are told apart by a dense feature here";
  double next = 0;
  for (Json& request : columns["candidate." + feature->name]) {
    for (size_t c = 0; c < request.size() / 2; ++c) request[c] = ++next / 1024;
  }
  const Requests mixed(parts_.file.schema, columns);
  const CheckedBatch batch = CheckBatch(parts_.file.schema, mixed.batch);
  const std::vector<float> expected = ByRequest(batch);
  for (int threads : {1, 3}) {
    Parallel parallel(threads);
    Wave wave(parts_, threads);
    CandidatePlan plan(parts_, threads);
    std::vector<float> scores = Unset(batch);
    wave.Prepare(batch, {0, batch.requests}, parallel);
    PlanReport report;
    ASSERT_TRUE(plan.Prepare(wave, false, parallel, report));
    EXPECT_GT(plan.shared(), 0);
    EXPECT_LT(plan.shared(), report.distinct_candidates);
    EXPECT_LT(report.chosen, report.request);
    plan.Score(wave, parallel, scores.data());
    EXPECT_EQ(std::memcmp(scores.data(), expected.data(), scores.size() * sizeof(float)), 0) << threads << " threads";
  }
}

TEST_P(Plans, ScoreAPartOfABatch) {
  const Requests mixed(parts_.file.schema, Mixed(30, 2));
  const CheckedBatch batch = CheckBatch(parts_.file.schema, mixed.batch);
  const std::vector<float> expected = ByRequest(batch);
  Parallel parallel(2);
  Wave wave(parts_, 2);
  CandidatePlan plan(parts_, 2);
  std::vector<float> scores = Unset(batch);
  for (const Range part : {Range{0, 11}, Range{11, 12}, Range{12, 30}}) {
    wave.Prepare(batch, part, parallel);
    PlanReport report;
    ASSERT_TRUE(plan.Prepare(wave, false, parallel, report));
    plan.Score(wave, parallel, scores.data() + batch.candidate.Of(part.begin).begin);
  }
  EXPECT_EQ(std::memcmp(scores.data(), expected.data(), scores.size() * sizeof(float)), 0);
}

TEST_P(Plans, CountTheSameUnknownIds) {
  const Requests mixed(parts_.file.schema, Mixed(20, 3));
  const CheckedBatch batch = CheckBatch(parts_.file.schema, mixed.batch);
  ByRequest(batch);
  const auto expected = model_.unknown_ids();
  const Model other = Model::load(GoldenPath(GetParam(), ".onnx"));
  Parallel parallel(2);
  Wave wave(other.parts(), 2);
  CandidatePlan plan(other.parts(), 2);
  PlanReport report;
  wave.Prepare(batch, {0, batch.requests}, parallel);
  ASSERT_TRUE(plan.Prepare(wave, false, parallel, report));
  wave.CountUnknown();
  EXPECT_EQ(other.unknown_ids(), expected);
}

// What the report says, counted one pair at a time.
TEST_P(Plans, ReportWhatIsDistinct) {
  const Requests mixed(parts_.file.schema, Mixed(25, 2));
  const CheckedBatch batch = CheckBatch(parts_.file.schema, mixed.batch);
  using Row = std::vector<float>;
  std::set<Row> candidates;
  std::vector<std::set<std::pair<Row, Row>>> pairs(parts_.histories.size());
  int64_t all = 0;
  std::vector<int64_t> unknown(64);
  for (int64_t r = 0; r < batch.requests; ++r) {
    for (int64_t c = batch.candidate.Of(r).begin; c < batch.candidate.Of(r).end; ++c) {
      Row candidate(static_cast<size_t>(parts_.candidate.width()));
      parts_.candidate.Embed(batch.candidate, {c, c + 1}, {candidate.data(), 0}, unknown.data());
      candidates.insert(candidate);
      for (size_t h = 0; h < pairs.size(); ++h) {
        const Range kept = Kept(*parts_.histories[h].schema, batch.histories[h].Of(r));
        all += kept.size();
        for (int64_t t = kept.begin; t < kept.end; ++t) {
          Row key(static_cast<size_t>(parts_.histories[h].keys.width()));
          parts_.histories[h].keys.Embed(batch.histories[h], {t, t + 1}, {key.data(), 0}, unknown.data());
          pairs[h].emplace(candidate, key);
        }
      }
    }
  }
  Parallel parallel(2);
  Wave wave(parts_, 2);
  PlanReport report;
  wave.Prepare(batch, {0, batch.requests}, parallel);
  ASSERT_TRUE(CandidatePlan(parts_, 2).Prepare(wave, false, parallel, report));
  EXPECT_EQ(report.candidates, batch.Candidates());
  EXPECT_EQ(report.distinct_candidates, static_cast<int64_t>(candidates.size()));
  EXPECT_EQ(report.pairs, all);
  int64_t distinct = 0;
  for (const auto& of_history : pairs) distinct += static_cast<int64_t>(of_history.size());
  EXPECT_EQ(report.distinct_pairs, distinct);
  EXPECT_LT(report.distinct_pairs, report.pairs);
}

INSTANTIATE_TEST_SUITE_P(Golden, Plans, ::testing::ValuesIn(WithUnits()), testing::GoldenName);

TEST(Distinct, NumbersRowsByHowOftenTheyOccur) {
  const float kNaN = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::vector<float>> rows{{0, 1}, {2, 3}, {kNaN, 0}, {2, 3}, {kNaN, 0}, {2, 3}, {-0.0f, 1}};
  const std::vector<int64_t> offsets{0, 3, 3, 7};
  for (int threads : {1, 3}) {
    Parallel parallel(threads);
    Distinct distinct(2, threads);
    const auto row = [&](int64_t request, int64_t item, int, float* out) {
      const auto& from = rows[static_cast<size_t>(offsets[static_cast<size_t>(request)] + item)];
      std::copy(from.begin(), from.end(), out);
    };
    ASSERT_TRUE(distinct.Find(offsets, row, 4, parallel));
    ASSERT_EQ(distinct.size(), 4);
    EXPECT_EQ(distinct.Row(0)[0], 2);
    EXPECT_EQ(distinct.Occurrences(0), 3);
    EXPECT_EQ(distinct.Occurrences(1), 2);
    for (int64_t i = 0; i < 7; ++i) {
      EXPECT_EQ(std::memcmp(distinct.Row(*distinct.Numbers(i)), rows[static_cast<size_t>(i)].data(), 8), 0) << i;
    }
    EXPECT_FALSE(distinct.Find(offsets, row, 1, parallel));
    ASSERT_TRUE(distinct.Find(offsets, row, 4, parallel));
  }
}

TEST(DistinctEstimate, IsCloseToTheCount) {
  DistinctEstimate estimate;
  for (const int64_t distinct : {0, 1, 10, 1000, 50'000}) {
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < 50'000; ++i) ids.push_back(distinct == 0 ? 0 : (i % distinct) * 1'000'003 - 5);
    if (distinct == 0) ids.clear();
    const int64_t size = static_cast<int64_t>(ids.size());
    estimate.Restart(size);
    estimate.Add(Column::int64s(ids.data(), size), {0, size});
    EXPECT_NEAR(static_cast<double>(estimate.Count()), static_cast<double>(distinct),
                1 + 0.02 * static_cast<double>(distinct));
  }
  const std::string text = "onetwoonethree";
  const std::vector<int64_t> offsets{0, 3, 6, 9, 14};
  estimate.Restart(4);
  estimate.Add(Column::strings(text.data(), offsets.data(), 4), {0, 4});
  EXPECT_EQ(estimate.Count(), 3);
}

}  // namespace
}  // namespace din_infer
