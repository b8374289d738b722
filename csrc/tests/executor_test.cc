// Work on a caller's executor: the bits of the library's pool, and what becomes of an executor that breaks its promise.
#include "executor.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <new>
#include <thread>

#include "engine/model.hpp"
#include "engine/parallel.hpp"
#include "golden.hpp"
#include "reference.hpp"
#include "unit_params.hpp"

namespace din_infer {
namespace {

using testing::Asked;
using testing::GoldenPath;
using testing::Task;

constexpr decltype(Executor::parallel_for) kExecutors[] = {testing::OnThreads, testing::OneAfterTheOther,
                                                           testing::Backwards};

// An executor of any function.
struct Function {
  std::function<void(int64_t count, const std::function<void(int64_t)>& task)> run;

  Executor executor() { return {Call, this}; }

 private:
  static void Call(void* state, int64_t count, Task task, void* context) {
    static_cast<Function*>(state)->run(count, [=](int64_t index) { task(context, index); });
  }
};

std::string ErrorOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

class Executors : public ::testing::TestWithParam<std::string> {
 protected:
  std::vector<float> Score(Scorer& scorer) const {
    std::vector<float> scores(static_cast<size_t>(scorer.candidates(requests_.batch)),
                              std::numeric_limits<float>::quiet_NaN());
    scorer.score(requests_.batch, scores.data());
    return scores;
  }

  Model model_ = Model::load(GoldenPath(GetParam(), ".onnx"));
  testing::Requests requests_{model_.parts().file.schema,
                              Json::parse(testing::ReadFile(GoldenPath(GetParam(), ".json")))["columns"]};
};

TEST_P(Executors, GiveTheBitsOfThePool) {
  Scorer alone(model_);
  const std::vector<float> expected = Score(alone);
  for (const auto parallel_for : kExecutors) {
    for (const int threads : {1, 2, 7}) {
      for (const Plan plan : {Plan::kRequest, Plan::kAuto}) {
        Asked asked;
        Scorer scorer(model_, {threads, plan, false, {parallel_for, &asked}});
        for (int again = 0; again < 2; ++again) EXPECT_EQ(Score(scorer), expected);
        EXPECT_EQ(asked.calls > 0, threads > 1);
        EXPECT_LE(asked.most, threads);
      }
    }
  }
}

TEST_P(Executors, ServeManyThreadsAtOnce) {
  Scorer alone(model_);
  const std::vector<float> expected = Score(alone);
  Asked asked;
  ScorerOptions options;
  options.threads = 3, options.executor = {testing::OnThreads, &asked};
  ModelRegistry registry(GoldenPath(GetParam(), ".onnx"), options);
  std::vector<int> same(4, 0);
  std::vector<std::thread> threads;
  for (int& count : same) {
    threads.emplace_back([&] {
      for (int round = 0; round < 3; ++round) count += Score(*registry.lease()) == expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(same, std::vector<int>(4, 3));
}

TEST_P(Executors, ThatBreakTheirPromiseAreRefusedAndTheScorerGoesOn) {
  Function function;
  ScorerOptions options;
  options.threads = 4, options.executor = function.executor();
  Scorer scorer(model_, options);
  Scorer alone(model_);
  const auto in_order = [](int64_t count, const auto& task) {
    for (int64_t i = 0; i < count; ++i) task(i);
  };
  const auto error = [&](decltype(Function::run) run) {
    function.run = std::move(run);
    const std::string said = ErrorOf([&] { Score(scorer); });
    function.run = in_order;
    EXPECT_EQ(Score(scorer), Score(alone));
    return said;
  };
  EXPECT_EQ(error(in_order), "");
  const std::string once = "parallel_for: expected each index from 0 to ";
  const auto twice = error([&](int64_t count, const auto& task) { in_order(count, task), task(1); });
  EXPECT_EQ(twice.substr(0, once.size()), once);
  EXPECT_NE(twice.find(" once, got 1 again"), std::string::npos) << twice;
  for (const int64_t other : {int64_t{-1}, int64_t{1025}, std::numeric_limits<int64_t>::min()}) {
    const auto wrong = error([&](int64_t count, const auto& task) { in_order(count, task), task(other); });
    EXPECT_NE(wrong.find(" once, got " + std::to_string(other)), std::string::npos) << wrong;
  }
  const auto fewer = error([&](int64_t count, const auto& task) { in_order(count - 1, task); });
  EXPECT_NE(fewer.find("expected it to return when all"), std::string::npos) << fewer;
  EXPECT_NE(error([](int64_t, const auto&) {}).find("got 0"), std::string::npos);
  function.run = [](int64_t, const auto&) { throw std::bad_alloc(); };
  EXPECT_THROW(Score(scorer), std::bad_alloc);
}

INSTANTIATE_TEST_SUITE_P(Golden, Executors, ::testing::ValuesIn(testing::kGoldenModels), testing::GoldenName);

TEST(ExecutorOfARunner, GivesTheBitsOfThePool) {
  UnitSemantics unit;
  unit.hidden = {12, 5};
  testing::RandomUnit random(unit, 6, 3);
  const ActivationUnitParams params = testing::ParamsOf(random);
  const std::vector<float> keys = random.Normal(5000 * 6, 1), queries = random.Normal(9 * 6, 1);
  // Many candidates, and then one whose history is shared out by blocks.
  for (const int64_t first : {int64_t{8}, int64_t{1}}) {
    const int64_t key_offsets[] = {0, 4900, 5000}, query_offsets[] = {0, first, first + 1};
    const auto interests = [&](ActivationUnitRunner runner) {
      std::vector<float> out(static_cast<size_t>(first + 1) * 6, std::numeric_limits<float>::quiet_NaN());
      runner.run({keys.data(), 5000, {key_offsets, 3}}, {queries.data(), first + 1, {query_offsets, 3}}, out.data());
      return out;
    };
    const std::vector<float> expected = interests(ActivationUnitRunner(params));
    EXPECT_EQ(interests(ActivationUnitRunner(params, {4})), expected);
    for (const auto parallel_for : kExecutors) {
      Asked asked;
      const ActivationUnitRunnerOptions options{4, false, {parallel_for, &asked}};
      EXPECT_EQ(interests(ActivationUnitRunner(params, options)), expected);
      EXPECT_GT(asked.calls, 0);
      EXPECT_EQ(interests(ActivationUnitRunner(ActivationUnitRunner(params), options)), expected);
    }
  }
}

TEST(ParallelOnAnExecutor, RunsEachItemOnceInASlotOfItsOwn) {
  for (const auto parallel_for : kExecutors) {
    Asked asked;
    Parallel parallel(4, {parallel_for, &asked});
    for (const int64_t items : {0, 1, 2, 3, 100}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(items)), busy(4);
      parallel.For(items, [&](int64_t item, int slot) {
        EXPECT_EQ(busy[static_cast<size_t>(slot)]++, 0);
        ++runs[static_cast<size_t>(item)];
        --busy[static_cast<size_t>(slot)];
      });
      for (const std::atomic<int>& run : runs) EXPECT_EQ(run, 1);
    }
    EXPECT_EQ(asked.calls, 3);  // not for fewer than two
    EXPECT_EQ(asked.most, 4);
  }
}

TEST(ParallelOnAnExecutor, ThrowsWhatAnItemThrows) {
  for (const auto parallel_for : kExecutors) {
    Asked asked;
    Parallel parallel(3, {parallel_for, &asked});
    EXPECT_EQ(ErrorOf([&] {
                parallel.For(50, [](int64_t item, int) {
                  if (item % 20 == 13) throw InputError("thirteen");
                });
              }),
              "thirteen");
  }
}

}  // namespace
}  // namespace din_infer
