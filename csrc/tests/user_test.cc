// Users that are prepared once, against requests that have everything. The golden models have histories in both orders,
// with and without max_length, which keep the latest or the oldest.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <thread>
#include <type_traits>
#include <utility>

#include "capi.hpp"
#include "engine/model.hpp"
#include "golden.hpp"

namespace din_infer {
namespace {

using testing::GoldenPath;
using testing::OneRequest;
using testing::Requests;

bool IsList(const std::string& name) { return name.rfind("candidate.", 0) == 0 || name.rfind("context.", 0) == 0; }
bool IsUser(const std::string& name) { return name.rfind("user.", 0) == 0; }

// The columns of a batch that are for lists of candidates, for a user, or for a user's new behaviours.
template <class Keep>
Batch Only(const Batch& batch, const Keep& keep) {
  Batch part;
  part.requests = batch.requests;
  for (const auto& [name, column] : batch.columns) {
    if (keep(name)) part.columns[name] = column;
  }
  return part;
}
Batch Lists(const Batch& batch) { return Only(batch, IsList); }
Batch OfUser(const Batch& batch) {
  return Only(batch, [](const std::string& name) { return !IsList(name); });
}
Batch Behaviours(const Batch& batch) {
  return Only(batch, [](const std::string& name) { return !IsList(name) && !IsUser(name); });
}

class Users : public ::testing::TestWithParam<std::string> {
 protected:
  const Schema& schema() const { return model_.parts().file.schema; }
  size_t GoldenRequests() const { return golden_.begin()->size(); }

  // All golden lists of candidates, with the user of request `r`, whose histories have `length` behaviours.
  Json OneUser(size_t r, size_t length) const {
    Json columns = golden_;
    for (auto& [name, rows] : columns.items()) {
      if (IsList(name)) continue;
      Json row = rows[r];
      if (!IsUser(name)) {
        const Json& many = golden_[name][3];
        row = Json::array();
        for (size_t t = 0; t < length; ++t) row.push_back(many[(t + r) % many.size()]);
      }
      for (Json& each : rows) each = row;
    }
    return columns;
  }

  // Those of the columns' behaviours that are the [begin, end) oldest ones.
  Json Part(const Json& columns, size_t begin, size_t end) const {
    Json part = OneRequest(columns, 0);
    for (const History& history : schema().histories) {
      for (const Feature& feature : history.features) {
        Json& row = part[history.name + "." + feature.name][0];
        const Json all = row;
        const size_t first = history.oldest_first ? begin : all.size() - end;
        row = Json::array();
        for (size_t t = first; t < first + end - begin; ++t) row.push_back(all[t]);
      }
    }
    return part;
  }

  std::vector<float> Score(const Batch& batch) const {
    Scorer scorer(model_);
    std::vector<float> scores(static_cast<size_t>(scorer.candidates(batch)));
    scorer.score(batch, scores.data());
    return scores;
  }
  std::vector<float> Score(const User& user, const Batch& lists, ScorerOptions options = {}) const {
    Scorer scorer(model_, options);
    std::vector<float> scores(static_cast<size_t>(scorer.candidates(user, lists)), -1);
    scorer.score(user, lists, scores.data());
    return scores;
  }

  Model model_ = Model::load(GoldenPath(GetParam(), ".onnx"));
  Json golden_ = Json::parse(testing::ReadFile(GoldenPath(GetParam(), ".json")))["columns"];
};

TEST_P(Users, HaveTheScoresOfWholeRequests) {
  for (size_t length : {0, 1, 7, 50}) {
    const Json columns = OneUser(length % GoldenRequests(), length);
    const Requests whole(schema(), columns), one(schema(), OneRequest(columns, 0));
    const User user(model_, OfUser(one.batch));
    const std::vector<float> expected = Score(whole.batch);
    for (const Plan plan : {Plan::kRequest, Plan::kAuto}) {
      for (int threads : {1, 3}) EXPECT_EQ(Score(user, Lists(whole.batch), {threads, plan}), expected) << length;
    }
    EXPECT_EQ(Score(user, Lists(one.batch)), Score(one.batch)) << length;
  }
}

TEST_P(Users, HaveACatalogue) {
  const Json columns = OneUser(1, 20);
  const Requests one(schema(), OneRequest(columns, 0));
  Batch lists = Lists(one.batch);
  lists.shared_candidates = true;
  const User user(model_, OfUser(one.batch));
  EXPECT_EQ(Score(user, lists), Score(one.batch));
  ASSERT_GT(Score(one.batch).size(), 1u);
  lists.requests = std::numeric_limits<int64_t>::max();
  EXPECT_THROW(Score(user, lists), InputError);
}

// Where there is no context, no column tells how many requests there are.
TEST_P(Users, HaveAnEmptyCatalogue) {
  Json columns = OneRequest(OneUser(1, 20), 0);
  for (auto& [name, rows] : columns.items()) {
    if (name.rfind("candidate.", 0) == 0) rows[0] = Json::array();
  }
  const Requests one(schema(), columns);
  Batch lists = Lists(one.batch);
  lists.shared_candidates = true;
  if (schema().context.features.empty()) lists.requests = std::numeric_limits<int64_t>::max();
  EXPECT_TRUE(Score(User(model_, OfUser(one.batch)), lists).empty());
}

TEST_P(Users, HaveWhatIsAppendedWhereRequestsHaveIt) {
  constexpr size_t kLength = 40;
  const Json columns = OneUser(2, kLength);
  for (size_t step : {1, 3, 17, 40}) {
    User user(model_, OfUser(Requests(schema(), Part(columns, 0, 0)).batch));
    for (size_t length = 0; length < kLength;) {
      const size_t longer = std::min(length + step, kLength);
      user.append(Behaviours(Requests(schema(), Part(columns, length, longer)).batch));
      length = longer;
      const Requests whole(schema(), Part(columns, 0, length));
      ASSERT_EQ(Score(user, Lists(whole.batch)), Score(whole.batch)) << length << " behaviours, by " << step;
    }
    const Requests all(schema(), Part(columns, 0, kLength));
    EXPECT_EQ(user.memory_bytes(), User(model_, OfUser(all.batch)).memory_bytes());
  }
}

TEST_P(Users, SayTheirMemory) {
  const auto bytes = [&](size_t length) {
    return User(model_, OfUser(Requests(schema(), Part(OneUser(0, length), 0, length)).batch)).memory_bytes();
  };
  size_t kept = 0, tiles = 0;
  for (const History& history : schema().histories) {
    const int64_t keys = Kept(history, {0, 1000}).size();
    kept += static_cast<size_t>(keys * schema().Width(history)) * sizeof(float);
    tiles += static_cast<size_t>(WholeTiles(keys) * schema().Width(history)) * sizeof(float);
  }
  EXPECT_GE(bytes(1000), kept);
  EXPECT_LE(bytes(1000), tiles + 1024);
  EXPECT_LT(bytes(0), 1024u);
}

TEST_P(Users, CountUnknownIdsOnce) {
  const Requests one(schema(), OneRequest(OneUser(0, 9), 0));
  const Model other = Model::load(GoldenPath(GetParam(), ".onnx"));
  Scorer scorer(other);
  std::vector<float> scores(static_cast<size_t>(scorer.candidates(one.batch)));
  scorer.score(one.batch, scores.data());
  const User user(model_, OfUser(one.batch));
  Score(user, Lists(one.batch));
  EXPECT_EQ(model_.unknown_ids(), other.unknown_ids());
  const auto before = model_.unknown_ids();
  Score(user, Lists(one.batch));
  for (const auto& [name, count] : model_.unknown_ids()) {
    if (IsList(name)) continue;
    EXPECT_EQ(count, before.at(name)) << name;
  }
}

TEST_P(Users, RefuseWhatDoesNotFitAndStayAsTheyAre) {
  const Json columns = OneUser(0, 9);
  const Requests whole(schema(), columns), one(schema(), OneRequest(columns, 0));
  User user(model_, OfUser(one.batch));
  const std::vector<float> expected = Score(one.batch);
  EXPECT_THROW(User(model_, one.batch), InputError);
  EXPECT_THROW(User(model_, OfUser(whole.batch)), InputError);
  EXPECT_THROW(User(model_, Lists(one.batch)), InputError);
  EXPECT_THROW(user.append(one.batch), InputError);
  EXPECT_THROW(user.append(Lists(one.batch)), InputError);
  Batch bad = Behaviours(one.batch);
  --bad.columns.rbegin()->second.lists[0].size;
  EXPECT_THROW(user.append(bad), InputError);
  EXPECT_THROW(Score(user, one.batch), InputError);
  EXPECT_THROW(Score(user, OfUser(one.batch)), InputError);
  const User of_other(Model::load(GoldenPath(GetParam(), ".onnx")), OfUser(one.batch));
  EXPECT_THROW(Score(of_other, Lists(one.batch)), StaleUserError);
  EXPECT_EQ(Score(user, Lists(one.batch)), expected);
}

TEST_P(Users, AreCopied) {
  const Json columns = OneUser(1, 12);
  const Requests begin(schema(), Part(columns, 0, 5)), end(schema(), Part(columns, 5, 12)), whole(schema(), columns);
  const User first(model_, OfUser(begin.batch));
  const std::vector<float> before = Score(first, Lists(whole.batch));
  User copy(first), other(first);
  copy.append(Behaviours(end.batch));
  EXPECT_EQ(Score(copy, Lists(whole.batch)), Score(whole.batch));
  EXPECT_EQ(Score(first, Lists(whole.batch)), before);
  other = copy;
  EXPECT_EQ(Score(other, Lists(whole.batch)), Score(whole.batch));
  EXPECT_EQ(other.memory_bytes(), copy.memory_bytes());
}

TEST_P(Users, AreMoved) {
  static_assert(std::is_nothrow_move_constructible_v<User> && std::is_nothrow_move_assignable_v<User>);
  const Requests few(schema(), OneRequest(OneUser(0, 3), 0)), many(schema(), OneRequest(OneUser(1, 9), 0));
  std::map<int, User> users;
  users.emplace(7, User(model_, OfUser(few.batch)));
  users.at(7) = User(model_, OfUser(many.batch));
  EXPECT_EQ(Score(users.at(7), Lists(many.batch)), Score(many.batch));
  std::vector<User> cache;
  for (const Requests* each : {&few, &many}) cache.emplace_back(model_, OfUser(each->batch));
  User moved = std::move(cache[0]);
  cache[0] = std::move(moved);
  EXPECT_EQ(Score(cache[0], Lists(few.batch)), Score(few.batch));
  cache.erase(cache.begin());
  EXPECT_EQ(Score(cache[0], Lists(many.batch)), Score(many.batch));
}

TEST_P(Users, AreScoredByManyThreadsAtOnce) {
  const Json columns = OneUser(0, 30);
  const Requests whole(schema(), columns), one(schema(), OneRequest(columns, 0));
  const User user(model_, OfUser(one.batch));
  const std::vector<float> expected = Score(whole.batch);
  std::vector<int> same(4, 0);
  std::vector<std::thread> threads;
  for (int& count : same) {
    threads.emplace_back([&] {
      for (int round = 0; round < 5; ++round) count += Score(user, Lists(whole.batch)) == expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(same, std::vector<int>(4, 5));
}

TEST_P(Users, AreTheSameInC) {
  const Json columns = OneUser(1, 12);
  const Requests begin(schema(), Part(columns, 0, 5)), end(schema(), Part(columns, 5, 12)), whole(schema(), columns);
  std::vector<float> expected = Score(whole.batch), scores(expected.size());
  const auto size = static_cast<int64_t>(scores.size());
  din_infer_model* model = nullptr;
  din_infer_scorer* scorer = nullptr;
  din_infer_batch *of_user = nullptr, *behaviours = nullptr, *lists = nullptr;
  din_infer_user* user = nullptr;
  ASSERT_EQ(din_infer_model_load(GoldenPath(GetParam(), ".onnx").c_str(), &model), DIN_INFER_OK);
  ASSERT_EQ(din_infer_scorer_create(model, nullptr, &scorer), DIN_INFER_OK);
  for (din_infer_batch** batch : {&of_user, &behaviours, &lists}) {
    ASSERT_EQ(din_infer_batch_create(batch), DIN_INFER_OK);
  }
  testing::Fill(OfUser(begin.batch), of_user);
  testing::Fill(Behaviours(end.batch), behaviours);
  testing::Fill(Lists(whole.batch), lists);
  ASSERT_EQ(din_infer_user_create(model, of_user, &user), DIN_INFER_OK) << din_infer_last_error();
  EXPECT_EQ(din_infer_user_append(user, behaviours), DIN_INFER_OK) << din_infer_last_error();
  EXPECT_EQ(din_infer_scorer_score_user(scorer, user, lists, scores.data(), size), DIN_INFER_OK);
  EXPECT_EQ(scores, expected);
  size_t bytes = 0;
  EXPECT_EQ(din_infer_user_memory_bytes(user, &bytes), DIN_INFER_OK);
  EXPECT_GT(bytes, 0u);

  int64_t candidates = -1;
  EXPECT_EQ(din_infer_scorer_candidates_user(scorer, user, lists, &candidates), DIN_INFER_OK);
  EXPECT_EQ(candidates, size);
  candidates = -1;
  testing::ExpectInputError(din_infer_scorer_candidates_user(scorer, user, of_user, &candidates), "expected");
  testing::ExpectInputError(din_infer_scorer_candidates_user(scorer, nullptr, lists, &candidates), "user: expected");
  testing::ExpectInputError(din_infer_scorer_candidates_user(scorer, user, lists, nullptr), "candidates: expected");
  EXPECT_EQ(candidates, -1);
  din_infer_user* copy = nullptr;
  EXPECT_EQ(din_infer_user_copy(user, &copy), DIN_INFER_OK);
  EXPECT_EQ(din_infer_scorer_score_user(scorer, copy, lists, scores.data(), size), DIN_INFER_OK);
  EXPECT_EQ(scores, expected);
  testing::ExpectInputError(din_infer_user_copy(nullptr, &copy), "user: expected a pointer");
  testing::ExpectInputError(din_infer_user_copy(user, nullptr), "copy: expected a pointer");
  din_infer_user_free(copy);
  testing::ExpectInputError(din_infer_scorer_score_user(scorer, user, lists, scores.data(), size - 1),
                            "scores: expected a size of exactly " + std::to_string(size) + " floats");
  testing::ExpectInputError(din_infer_scorer_score_user(scorer, nullptr, lists, scores.data(), size), "user: expected");
  testing::ExpectInputError(din_infer_user_append(user, lists), "requests: expected 1, of a user");
  testing::ExpectInputError(din_infer_user_create(nullptr, of_user, &user), "model: expected a pointer");
  din_infer_user_free(user);
  din_infer_user_free(nullptr);
  for (din_infer_batch* batch : {of_user, behaviours, lists}) din_infer_batch_free(batch);
  din_infer_scorer_free(scorer);
  din_infer_model_free(model);
}

TEST_P(Users, AreOfTheirVersionInARegistry) {
  const std::string path = GoldenPath(GetParam(), ".onnx");
  const Json columns = OneUser(1, 12);
  const Requests one(schema(), OneRequest(columns, 0)), whole(schema(), columns);
  const std::vector<float> expected = Score(whole.batch);
  din_infer_model_registry* registry = nullptr;
  din_infer_batch *of_user = nullptr, *lists = nullptr;
  ASSERT_EQ(din_infer_model_registry_create(path.c_str(), nullptr, &registry), DIN_INFER_OK) << din_infer_last_error();
  for (din_infer_batch** batch : {&of_user, &lists}) ASSERT_EQ(din_infer_batch_create(batch), DIN_INFER_OK);
  testing::Fill(OfUser(one.batch), of_user);
  testing::Fill(Lists(whole.batch), lists);
  din_infer_user *user = nullptr, *newer = nullptr;
  std::vector<float> scores(expected.size(), -1);
  const auto score = [&](const din_infer_user* with) {
    std::fill(scores.begin(), scores.end(), -1.0f);
    return din_infer_model_registry_score_user(registry, with, lists, scores.data(),
                                               static_cast<int64_t>(scores.size()));
  };
  ASSERT_EQ(din_infer_model_registry_user(registry, of_user, &user), DIN_INFER_OK) << din_infer_last_error();
  EXPECT_EQ(score(user), DIN_INFER_OK) << din_infer_last_error();
  EXPECT_EQ(scores, expected);

  ASSERT_EQ(din_infer_model_registry_replace(registry, path.c_str()), DIN_INFER_OK);
  ASSERT_EQ(din_infer_model_registry_wait(registry), DIN_INFER_OK);
  testing::ExpectRefused(score(user), DIN_INFER_STALE_USER, "user: expected one of the scorer's model");
  EXPECT_EQ(scores, std::vector<float>(scores.size(), -1));
  din_infer_scorer* leased = nullptr;
  int64_t candidates = -1;
  ASSERT_EQ(din_infer_model_registry_lease(registry, nullptr, &leased), DIN_INFER_OK);
  testing::ExpectRefused(din_infer_scorer_candidates_user(leased, user, lists, &candidates), DIN_INFER_STALE_USER,
                         "user: expected one of the scorer's model");
  din_infer_scorer_free(leased);
  ASSERT_EQ(din_infer_model_registry_user(registry, of_user, &newer), DIN_INFER_OK);
  EXPECT_EQ(score(newer), DIN_INFER_OK) << din_infer_last_error();
  EXPECT_EQ(scores, expected);

  testing::ExpectInputError(score(nullptr), "user: expected a pointer");
  testing::ExpectInputError(din_infer_model_registry_user(registry, lists, &newer), "requests: expected 1");
  testing::ExpectInputError(din_infer_model_registry_user(nullptr, of_user, &newer), "registry: expected a pointer");
  testing::ExpectInputError(din_infer_model_registry_user(registry, of_user, nullptr), "user: expected a pointer");
  din_infer_model_registry_free(registry);
  for (din_infer_user* each : {user, newer}) din_infer_user_free(each);
  for (din_infer_batch* batch : {of_user, lists}) din_infer_batch_free(batch);
}

INSTANTIATE_TEST_SUITE_P(Golden, Users, ::testing::ValuesIn(testing::kGoldenModels), testing::GoldenName);

}  // namespace
}  // namespace din_infer
