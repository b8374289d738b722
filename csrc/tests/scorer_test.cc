// The whole engine on the golden model files: so the sanitizers see all of it, with every way of sharing work.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <thread>

#include "base/errors.hpp"
#include "engine/model.hpp"
#include "golden.hpp"

namespace din_infer {
namespace {

using testing::GoldenPath;
using testing::OneRequest;
using testing::Requests;

std::vector<float> Score(Scorer& scorer, const Batch& batch) {
  std::vector<float> scores(static_cast<size_t>(scorer.candidates(batch)), std::numeric_limits<float>::quiet_NaN());
  scorer.score(batch, scores.data());
  return scores;
}

std::vector<float> Score(const Model& model, const Batch& batch, int threads) {
  Scorer scorer(model, {threads});
  return Score(scorer, batch);
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class GoldenModel : public ::testing::TestWithParam<std::string> {
 protected:
  const Schema& schema() const { return model_.parts().file.schema; }
  std::unique_ptr<Requests> Make(const Json& columns) const { return std::make_unique<Requests>(schema(), columns); }

  Model model_ = Model::load(GoldenPath(GetParam(), ".onnx"));
  Json golden_ = Json::parse(testing::ReadFile(GoldenPath(GetParam(), ".json")));
  std::unique_ptr<Requests> requests_ = Make(golden_["columns"]);
};

TEST_P(GoldenModel, GivesItsScoresOnAnyNumberOfThreads) {
  const auto expected = golden_["scores"].get<std::vector<double>>();
  const std::vector<float> scores = Score(model_, requests_->batch, 1);
  ASSERT_EQ(scores.size(), expected.size());
  for (size_t i = 0; i < scores.size(); ++i) EXPECT_NEAR(scores[i], expected[i], 1e-6) << i;
  for (int threads : {2, 3, 8}) EXPECT_TRUE(SameBits(Score(model_, requests_->batch, threads), scores)) << threads;
}

TEST_P(GoldenModel, RefusesNoMemoryForScores) {
  Scorer scorer(model_);
  try {
    scorer.score(requests_->batch, nullptr);
    FAIL() << "expected an InputError";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("scores: expected memory for "), std::string::npos) << error.what();
  }
}

TEST_P(GoldenModel, GivesTheSameBitsForARequestAlone) {
  const std::vector<float> together = Score(model_, requests_->batch, 1);
  Scorer scorer(model_);
  std::vector<float> alone;
  for (size_t r = 0; r < static_cast<size_t>(requests_->batch.requests); ++r) {
    const auto scores = Score(scorer, Make(OneRequest(golden_["columns"], r))->batch);
    alone.insert(alone.end(), scores.begin(), scores.end());
  }
  EXPECT_TRUE(SameBits(alone, together));
}

// More candidates and behaviours than are embedded before they are scored.
TEST_P(GoldenModel, GivesTheSameBitsInManyWaves) {
  constexpr size_t kTimes = 400;
  const std::vector<float> once = Score(model_, requests_->batch, 1);
  std::vector<float> expected;
  for (size_t time = 0; time < kTimes; ++time) expected.insert(expected.end(), once.begin(), once.end());
  const auto requests = Make(testing::Repeated(golden_["columns"], kTimes));
  for (int threads : {1, 2}) EXPECT_TRUE(SameBits(Score(model_, requests->batch, threads), expected)) << threads;
}

// One candidate and a history long enough to be shared out by blocks of keys.
TEST_P(GoldenModel, GivesTheSameBitsForOneLongHistory) {
  Json columns = OneRequest(golden_["columns"], 4);
  for (const History& history : schema().histories) {
    for (const Feature& feature : history.features) {
      Json& row = columns[history.name + "." + feature.name][0];
      Json longer = Json::array();
      const Json& many = golden_["columns"][history.name + "." + feature.name][3];
      for (size_t t = 0; t < 3001; ++t) longer.push_back(many[t % many.size()]);
      row = longer;
    }
  }
  const auto requests = Make(columns);
  const std::vector<float> scores = Score(model_, requests->batch, 1);
  for (int threads : {2, 4}) EXPECT_TRUE(SameBits(Score(model_, requests->batch, threads), scores)) << threads;
}

TEST_P(GoldenModel, ManyThreadsScoreAtOnce) {
  const std::vector<float> expected = Score(model_, requests_->batch, 1);
  std::vector<std::thread> threads;
  std::vector<int> same(8, 0);
  for (size_t t = 0; t < same.size(); ++t) {
    threads.emplace_back([&, t] {
      Scorer scorer(model_, {1 + static_cast<int>(t) % 4});
      for (int round = 0; round < 5; ++round) same[t] += SameBits(Score(scorer, requests_->batch), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(same, std::vector<int>(8, 5));
}

TEST_P(GoldenModel, ScoresNothingWhereThereIsNothing) {
  Json columns = golden_["columns"];
  for (auto& [name, rows] : columns.items()) rows = Json::array();
  for (int threads : {1, 2}) EXPECT_TRUE(Score(model_, Make(columns)->batch, threads).empty());
  columns = golden_["columns"];
  for (auto& [name, rows] : columns.items()) {
    for (Json& row : rows) row = name.rfind("candidate.", 0) == 0 ? Json::array() : row;
  }
  for (int threads : {1, 2}) EXPECT_TRUE(Score(model_, Make(columns)->batch, threads).empty());
}

TEST_P(GoldenModel, RefusesBadInputAndScoresOn) {
  Scorer scorer(model_, {2});
  const std::vector<float> expected = Score(scorer, requests_->batch);
  const auto refused = [&](const Batch& batch) {
    std::vector<float> scores(expected.size());
    EXPECT_THROW(scorer.score(batch, scores.data()), InputError);
    EXPECT_TRUE(SameBits(Score(scorer, requests_->batch), expected));
  };
  for (const auto& [name, column] : requests_->batch.columns) {
    Batch batch = requests_->batch;
    batch.columns.erase(name);
    refused(batch);
    for (size_t level = 0; level < column.lists.size(); ++level) {
      const Offsets& offsets = column.lists[level];
      for (const int64_t wrong :
           {int64_t{-1}, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()}) {
        std::vector<int64_t> edited(offsets.data, offsets.data + offsets.size);
        edited[edited.size() / 2] = wrong;
        batch = requests_->batch;
        batch.columns[name].lists[level].data = edited.data();
        refused(batch);
      }
      batch = requests_->batch;
      --batch.columns[name].lists[level].size;
      refused(batch);
    }
    batch = requests_->batch;
    batch.columns[name].lists.push_back({});
    refused(batch);
  }
  Batch batch = requests_->batch;
  for (const int64_t wrong : {int64_t{-1}, batch.requests + 1, std::numeric_limits<int64_t>::max()}) {
    batch.requests = wrong;
    refused(batch);
  }
}

TEST(Scorer, TakesFromOneToAThousandThreads) {
  const Model model = Model::load(GoldenPath("v1-outer-dice", ".onnx"));
  for (const int threads : {-1, 0, 1025, 1'000'000, std::numeric_limits<int>::max()})
    EXPECT_THROW(Scorer(model, {threads}), InputError) << threads;
  EXPECT_NO_THROW(Scorer(model, {1024}));
}

INSTANTIATE_TEST_SUITE_P(All, GoldenModel, ::testing::ValuesIn(testing::kGoldenModels), testing::GoldenName);

}  // namespace
}  // namespace din_infer
