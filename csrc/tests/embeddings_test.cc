// Rows of the caller's own in place of ids, given or looked up by a function of the caller's: the golden requests
// again, with the rows that their ids have.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <stdexcept>

#include "capi.hpp"
#include "engine/candidate_plan.hpp"
#include "engine/model.hpp"
#include "engine/repeats.hpp"
#include "golden.hpp"

namespace din_infer {
namespace {

using testing::GoldenPath;
using testing::Requests;

// The rows that a table has for ids [ids.size, dim].
std::vector<float> RowsOf(const Model::Parts& parts, size_t index, Column ids) {
  const Table& table = parts.file.schema.tables[index];
  const auto& parameters = parts.file.parameters;
  const Parameter& stored = parameters.at("table." + table.name);
  const auto ranges = parameters.find("table." + table.name + ".range");
  const StoredTable rows = {stored.dtype, stored.data, ranges == parameters.end() ? nullptr : ranges->second.Floats()};
  ids.lists.clear();
  std::vector<float> values(static_cast<size_t>(ids.size * table.dim));
  int64_t unknown = 0;
  FeatureEmbedding::Table(&parts.rows[index], rows, table.dim, Many::kNo)
      .Embed(ids, {0, ids.size}, {values.data(), table.dim}, unknown);
  return values;
}

// A batch whose table-backed columns hold rows.
class Embedded {
 public:
  Embedded(const Model::Parts& parts, const Batch& ids) : batch(ids) {
    for (const Group* group : parts.file.schema.Groups()) {
      for (const Feature& feature : group->features) {
        if (feature.table == kDense) continue;
        Column& column = batch.columns.at(group->name + "." + feature.name);
        std::vector<float>& values = rows.emplace_back(RowsOf(parts, static_cast<size_t>(feature.table), column));
        Column embeddings = Column::embeddings(values.data(), column.size, parts.file.schema.Width(feature));
        embeddings.lists = column.lists;
        column = embeddings;
      }
    }
  }
  Embedded(const Embedded&) = delete;
  Embedded& operator=(const Embedded&) = delete;

  Batch batch;
  std::deque<std::vector<float>> rows;
};

// An embedding service that has a model's rows.
struct Service {
  explicit Service(const Model::Parts& model_parts) : parts(model_parts) {}

  void Write(const RowRequest& request) {
    ++calls;
    const auto& tables = parts.file.schema.tables;
    const auto table =
        std::find_if(tables.begin(), tables.end(), [&](const Table& each) { return each.name == request.table; });
    ASSERT_NE(table, tables.end());
    ASSERT_EQ(request.width, table->dim);
    ASSERT_GT(request.count, 0);
    const bool strings = request.string_offsets != nullptr;
    const std::vector<float> rows =
        RowsOf(parts, static_cast<size_t>(table - tables.begin()),
               strings ? Column::strings(request.characters, request.string_offsets, request.count)
                       : Column::int64s(request.int64_ids, request.count));
    ASSERT_TRUE(std::isnan(request.rows[0]) && std::isnan(request.rows[rows.size() - 1]));
    std::copy(rows.begin(), rows.end(), request.rows);
  }
  static int WriteInC(void* service, const din_infer_row_request* of) {
    static_cast<Service*>(service)->Write(
        {of->table, of->int64_ids, of->characters, of->string_offsets, of->count, of->width, of->rows});
    return 0;
  }

  // The batch with this service for all its ids, and how many of its columns have some.
  Batch Asked(Batch batch) {
    columns = 0;
    for (const Group* group : parts.file.schema.Groups()) {
      for (const Feature& feature : group->features) {
        const auto column = batch.columns.find(group->name + "." + feature.name);
        if (feature.table == kDense || column == batch.columns.end()) continue;
        column->second.row_lookup = [this](const RowRequest& request) { Write(request); };
        columns += column->second.size > 0;
      }
    }
    return batch;
  }

  const Model::Parts& parts;
  int calls = 0, columns = 0;
};

class Embeddings : public ::testing::TestWithParam<std::string> {
 protected:
  static std::vector<float> Unset(int64_t size) {
    return std::vector<float>(static_cast<size_t>(size), std::numeric_limits<float>::quiet_NaN());
  }

  std::vector<float> ByRequest(const Batch& batch, int threads = 1) const {
    Scorer scorer(model_, {threads});
    std::vector<float> scores = Unset(scorer.candidates(batch));
    scorer.score(batch, scores.data());
    return scores;
  }

  // Plan::kAuto would not, as the golden models are small.
  std::vector<float> ByCandidate(const Batch& batch, int threads = 1) const {
    const CheckedBatch checked = CheckBatch(schema_, batch);
    Parallel parallel(threads);
    Wave wave(model_.parts(), threads);
    CandidatePlan plan(model_.parts(), threads);
    PlanReport report;
    wave.Prepare(checked, {0, checked.requests}, parallel);
    EXPECT_TRUE(plan.Prepare(wave, false, parallel, report));
    std::vector<float> scores = Unset(checked.Candidates());
    plan.Score(wave, parallel, scores.data());
    wave.CountUnknown();
    return scores;
  }
  bool HasUnit() const { return model_.parts().histories.front().unit.has_value(); }

  static bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  }

  Model model_ = Model::load(GoldenPath(GetParam(), ".onnx"));
  const Schema& schema_ = model_.parts().file.schema;
  const Json golden_ = Json::parse(testing::ReadFile(GoldenPath(GetParam(), ".json")));
  Requests requests_{schema_, testing::Repeated(golden_["columns"], 12)};  // which have much in common
  Embedded embedded_{model_.parts(), requests_.batch};
};

TEST_P(Embeddings, GiveTheBitsOfIdsAndNothingUnknown) {
  const std::vector<float> expected = ByRequest(requests_.batch);
  const auto unknown = model_.unknown_ids();
  for (int threads : {1, 3}) {
    EXPECT_TRUE(SameBits(ByRequest(embedded_.batch, threads), expected)) << threads;
    if (HasUnit()) {
      EXPECT_TRUE(SameBits(ByCandidate(embedded_.batch, threads), expected)) << threads;
    }
  }
  EXPECT_EQ(model_.unknown_ids(), unknown);
  for (const History& history : schema_.histories) {
    EXPECT_EQ(explain(model_, embedded_.batch, history.name), explain(model_, requests_.batch, history.name));
  }
}

TEST_P(Embeddings, StandBesideIds) {
  const std::vector<float> expected = ByRequest(requests_.batch);
  for (const auto& [name, column] : embedded_.batch.columns) {
    Batch batch = requests_.batch;
    batch.columns[name] = column;
    EXPECT_TRUE(SameBits(ByRequest(batch), expected)) << name;
    if (HasUnit()) {
      EXPECT_TRUE(SameBits(ByCandidate(batch), expected)) << name;
    }
  }
}

TEST_P(Embeddings, AreTakenByThePlanAsIdsAre) {
  const PlanReport of_ids = Scorer(model_).explain_plan(requests_.batch);
  const PlanReport report = Scorer(model_).explain_plan(embedded_.batch);
  EXPECT_EQ(report.distinct_candidates, of_ids.distinct_candidates);
  EXPECT_EQ(report.distinct_pairs, of_ids.distinct_pairs);
  EXPECT_EQ(report.chosen, of_ids.chosen);
  const auto repeated = [&](auto share, const Batch& batch) {
    const CheckedBatch checked = CheckBatch(schema_, batch);
    DistinctEstimate scratch;
    return share(schema_, checked, {0, checked.requests}, scratch);
  };
  EXPECT_GT(repeated(RepeatedBehaviours, requests_.batch), 0.5);
  EXPECT_NEAR(repeated(RepeatedBehaviours, embedded_.batch), repeated(RepeatedBehaviours, requests_.batch), 0.05);
  EXPECT_NEAR(repeated(RepeatedCandidates, embedded_.batch), repeated(RepeatedCandidates, requests_.batch), 0.05);
  // Unknown ids differ, and have one embedding.
  EXPECT_GE(repeated(RepeatedInHistories, embedded_.batch), repeated(RepeatedInHistories, requests_.batch) - 0.05);
}

TEST_P(Embeddings, KeepNumbersThatAreNotFiniteInTheirRow) {
  std::vector<float> expected = ByRequest(requests_.batch);
  for (auto& [name, column] : embedded_.batch.columns) {
    if (name.rfind("candidate.", 0) != 0 || column.embedding_values == nullptr || column.lists.size() != 1) continue;
    const size_t spoilt = expected.size() / 3;
    const_cast<float*>(column.embedding_values)[static_cast<int64_t>(spoilt) * column.embedding_width] =
        std::numeric_limits<float>::quiet_NaN();
    std::vector<std::vector<float>> by_plan{ByRequest(embedded_.batch)};
    if (HasUnit()) by_plan.push_back(ByCandidate(embedded_.batch));
    for (std::vector<float>& scores : by_plan) {
      EXPECT_TRUE(std::isnan(scores[spoilt]));
      scores[spoilt] = expected[spoilt];
      EXPECT_TRUE(SameBits(scores, expected));
    }
    return;
  }
  FAIL() << "no candidate feature has one value of a table";
}

TEST_P(Embeddings, AreTakenInC) {
  const std::vector<float> expected = ByRequest(requests_.batch);
  const din_infer_scorer_options options = testing::Options(1, DIN_INFER_AUTO_PLAN);
  const testing::Handles c(GoldenPath(GetParam(), ".onnx"), &options);
  testing::Fill(embedded_.batch, c.batch);
  std::vector<float> scores(expected.size());
  const auto size = static_cast<int64_t>(scores.size());
  EXPECT_EQ(din_infer_scorer_score(c.scorer, c.batch, scores.data(), size), DIN_INFER_OK) << din_infer_last_error();
  EXPECT_TRUE(SameBits(scores, expected));
  const auto& [name, column] = *std::find_if(embedded_.batch.columns.begin(), embedded_.batch.columns.end(),
                                             [](const auto& c) { return c.second.embedding_values != nullptr; });
  din_infer_batch_set_embeddings(c.batch, name.c_str(), column.embedding_values, column.size,
                                 column.embedding_width + 1);
  testing::ExpectInputError(din_infer_scorer_score(c.scorer, c.batch, scores.data(), size),
                            name + ": expected embeddings of the table's width");
}

TEST_P(Embeddings, AreLookedUpOncePerColumn) {
  const std::vector<float> expected = ByRequest(requests_.batch);
  const auto unknown = model_.unknown_ids();
  Service service(model_.parts());
  const Batch batch = service.Asked(requests_.batch);
  for (const Plan plan : {Plan::kRequest, Plan::kAuto}) {
    for (int threads : {1, 3}) {
      Scorer scorer(model_, {threads, plan});
      std::vector<float> scores = Unset(scorer.candidates(batch));
      EXPECT_EQ(service.calls, 0);
      for (int call = 1; call <= 2; ++call) {
        scorer.score(batch, scores.data());
        EXPECT_TRUE(SameBits(scores, expected)) << threads;
        EXPECT_EQ(service.calls, call * service.columns);
      }
      service.calls = 0;
    }
  }
  EXPECT_EQ(model_.unknown_ids(), unknown);
  EXPECT_EQ(Scorer(model_).explain_plan(batch).distinct_pairs,
            Scorer(model_).explain_plan(requests_.batch).distinct_pairs);
  for (const History& history : schema_.histories) {
    EXPECT_EQ(explain(model_, batch, history.name), explain(model_, requests_.batch, history.name));
  }
}

TEST_P(Embeddings, AreLookedUpForUsers) {
  const Requests one(
      schema_, testing::OneRequest(Json::parse(testing::ReadFile(GoldenPath(GetParam(), ".json")))["columns"], 3));
  Batch of_user, behaviours, lists;
  of_user.requests = behaviours.requests = lists.requests = 1;
  for (const auto& [name, column] : one.batch.columns) {
    const bool list = name.rfind("candidate.", 0) == 0 || name.rfind("context.", 0) == 0;
    (list ? lists : of_user).columns[name] = column;
    if (!list && name.rfind("user.", 0) != 0) behaviours.columns[name] = column;
  }
  const auto score = [&](const Batch& prepared, const Batch& appended, const Batch& scored) {
    User user(model_, prepared);
    user.append(appended);
    Scorer scorer(model_);
    std::vector<float> scores = Unset(scorer.candidates(user, scored));
    scorer.score(user, scored, scores.data());
    return scores;
  };
  Service service(model_.parts());
  const std::vector<float> expected = score(of_user, behaviours, lists);
  EXPECT_TRUE(SameBits(score(service.Asked(of_user), service.Asked(behaviours), service.Asked(lists)), expected));
  EXPECT_GT(service.calls, 0);
}

TEST_P(Embeddings, AreNaNWhereNothingIsWrittenAndStayOutWhereAnExceptionIsThrown) {
  const std::vector<float> expected = ByRequest(requests_.batch);
  for (auto& [name, column] : requests_.batch.columns) {
    Batch batch = requests_.batch;
    if (embedded_.batch.columns.at(name).embedding_values == nullptr) {
      batch.columns[name] = Column(column).rows_from([](const RowRequest&) {});
      EXPECT_THROW(ByRequest(batch), InputError) << name;
      continue;
    }
    Scorer scorer(model_);
    std::vector<float> scores = Unset(scorer.candidates(batch));
    scorer.score(batch, scores.data());
    batch.columns[name] = Column(column).rows_from([](const RowRequest&) { throw std::domain_error("service"); });
    EXPECT_THROW(scorer.score(batch, scores.data()), std::domain_error) << name;
    batch.columns[name] = Column(column).rows_from([](const RowRequest&) {});
    scorer.score(batch, scores.data());
    EXPECT_FALSE(SameBits(scores, expected)) << name;
    scorer.score(requests_.batch, scores.data());
    EXPECT_TRUE(SameBits(scores, expected)) << name;
    batch.columns[name] = Column(embedded_.batch.columns.at(name)).rows_from([](const RowRequest&) {});
    EXPECT_THROW(ByRequest(batch), InputError) << name;
  }
}

TEST_P(Embeddings, AreLookedUpInC) {
  const std::vector<float> expected = ByRequest(requests_.batch);
  const testing::Handles c(GoldenPath(GetParam(), ".onnx"));
  Service service(model_.parts());
  std::string last;
  testing::Fill(requests_.batch, c.batch);
  for (const auto& [name, column] : service.Asked(requests_.batch).columns) {
    if (!column.row_lookup) continue;
    ASSERT_EQ(din_infer_batch_set_row_lookup(c.batch, name.c_str(), Service::WriteInC, &service), DIN_INFER_OK);
    last = name;
  }
  std::vector<float> scores = Unset(static_cast<int64_t>(expected.size()));
  const auto score = [&] {
    return din_infer_scorer_score(c.scorer, c.batch, scores.data(), static_cast<int64_t>(scores.size()));
  };
  EXPECT_EQ(score(), DIN_INFER_OK) << din_infer_last_error();
  EXPECT_TRUE(SameBits(scores, expected));
  EXPECT_EQ(service.calls, service.columns);
  const auto fail = [](void*, const din_infer_row_request*) { return 3; };
  ASSERT_EQ(din_infer_batch_set_row_lookup(c.batch, last.c_str(), fail, nullptr), DIN_INFER_OK);
  testing::ExpectRefused(score(), DIN_INFER_LOOKUP_ERROR, ": expected the row look-up to return 0, got 3");
  ASSERT_EQ(din_infer_batch_set_row_lookup(c.batch, last.c_str(), nullptr, nullptr), DIN_INFER_OK);
  EXPECT_EQ(score(), DIN_INFER_OK) << din_infer_last_error();
  EXPECT_TRUE(SameBits(scores, expected));
  testing::ExpectInputError(din_infer_batch_set_row_lookup(c.batch, "nothing", fail, nullptr),
                            "nothing: expected a column");
}

INSTANTIATE_TEST_SUITE_P(Golden, Embeddings, ::testing::ValuesIn(testing::kGoldenModels), testing::GoldenName);

}  // namespace
}  // namespace din_infer
