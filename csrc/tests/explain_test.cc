// The weights behind a score, on the golden model files; tests/test_explain.py compares them with the definitions.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/model.hpp"
#include "golden.hpp"

namespace din_infer {
namespace {

using testing::GoldenPath;
using testing::Requests;

class Explained : public ::testing::TestWithParam<std::string> {
 protected:
  Model model_ = Model::load(GoldenPath(GetParam(), ".onnx"));
  Requests requests_{model_.parts().file.schema,
                     Json::parse(testing::ReadFile(GoldenPath(GetParam(), ".json")))["columns"]};
};

TEST_P(Explained, GivesEachPairAWeightAndCountsNoId) {
  const CheckedBatch checked = CheckBatch(model_.parts().file.schema, requests_.batch);
  for (size_t h = 0; h < checked.histories.size(); ++h) {
    const HistoryPart& part = model_.parts().histories[h];
    const std::vector<float> weights = explain(model_, requests_.batch, part.schema->name);
    size_t at = 0;
    for (int64_t r = 0; r < checked.requests; ++r) {
      const Range given = checked.histories[h].Of(r), kept = Kept(*part.schema, given);
      for (int64_t c = 0; c < checked.candidate.Of(r).size(); ++c) {
        double sum = 0;
        for (int64_t t = given.begin; t < given.end; ++t, ++at) {
          ASSERT_LT(at, weights.size());
          EXPECT_TRUE(std::isfinite(weights[at]));
          if (t < kept.begin || t >= kept.end) {
            EXPECT_EQ(weights[at], 0.0f);
          }
          sum += weights[at];
        }
        const bool average = part.unit.has_value() ? part.unit->softmax() : true;  // the golden base model has the mean
        if (average && kept.size() > 0) {
          EXPECT_NEAR(sum, 1.0, 1e-5);
        }
      }
    }
    EXPECT_EQ(at, weights.size());
  }
  for (const auto& [name, count] : model_.unknown_ids()) EXPECT_EQ(count, 0) << name;
}

TEST_P(Explained, GivesNothingWhereThereAreNoCandidates) {
  Json columns = Json::parse(testing::ReadFile(GoldenPath(GetParam(), ".json")))["columns"];
  for (auto& [name, rows] : columns.items()) {
    if (name.rfind("candidate.", 0) != 0) continue;
    for (Json& row : rows) row = Json::array();
  }
  const Requests none(model_.parts().file.schema, columns);
  for (const HistoryPart& part : model_.parts().histories) {
    EXPECT_TRUE(explain(model_, none.batch, part.schema->name).empty());
  }
}

TEST_P(Explained, RefusesAHistoryThatTheModelLacks) {
  EXPECT_THROW(explain(model_, requests_.batch, "candidate"), InputError);
}

INSTANTIATE_TEST_SUITE_P(Golden, Explained, ::testing::ValuesIn(testing::kGoldenModels));

}  // namespace
}  // namespace din_infer
