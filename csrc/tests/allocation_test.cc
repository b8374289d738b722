// Scoring allocates nothing once it is warm, gives back what it is told to, and reads no clock that it need not. A
// program of its own, as it replaces operator new and the clock.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <new>

#include "din_infer/din_infer.h"
#include "engine/candidate_plan.hpp"
#include "engine/key_side.hpp"
#include "engine/model.hpp"
#include "engine/repeats.hpp"
#include "engine/wave.hpp"
#include "executor.hpp"
#include "golden.hpp"
#include "reference.hpp"
#include "unit_params.hpp"

namespace {

std::atomic<int64_t> allocations{0}, live_bytes{0}, clock_reads{0};

void* Allocate(size_t size, size_t alignment) {
  ++allocations;
  void* memory = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  live_bytes += static_cast<int64_t>(malloc_usable_size(memory));
  return memory;
}

void Free(void* memory) {
  live_bytes -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace

// What the standard library's clocks read.
extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  ++clock_reads;
  return static_cast<int>(syscall(SYS_clock_gettime, clock, time));
}

void* operator new(size_t size) { return Allocate(size, alignof(std::max_align_t)); }
void* operator new[](size_t size) { return Allocate(size, alignof(std::max_align_t)); }
void* operator new(size_t size, std::align_val_t alignment) { return Allocate(size, static_cast<size_t>(alignment)); }
void* operator new[](size_t size, std::align_val_t alignment) { return Allocate(size, static_cast<size_t>(alignment)); }
void operator delete(void* memory) noexcept { Free(memory); }
void operator delete[](void* memory) noexcept { Free(memory); }
void operator delete(void* memory, size_t) noexcept { Free(memory); }
void operator delete[](void* memory, size_t) noexcept { Free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { Free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { Free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { Free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { Free(memory); }

namespace din_infer {
namespace {

// What the fourth call and those after it allocate: folds are remembered from their second visit on.
int64_t WarmAllocations(const std::function<void()>& call) {
  for (int i = 0; i < 3; ++i) call();
  const int64_t before = allocations;
  for (int i = 0; i < 10; ++i) call();
  return allocations - before;
}

class Allocations : public ::testing::TestWithParam<std::string> {
 protected:
  Model model_ = Model::load(testing::GoldenPath(GetParam(), ".onnx"));
  Json columns_ = Json::parse(testing::ReadFile(testing::GoldenPath(GetParam(), ".json")))["columns"];
  testing::Requests requests_{model_.parts().file.schema, columns_};
};

TEST_P(Allocations, NoneOfAScorer) {
  Scorer scorer(model_);
  std::vector<float> scores(static_cast<size_t>(scorer.candidates(requests_.batch)));
  EXPECT_EQ(WarmAllocations([&] { scorer.score(requests_.batch, scores.data()); }), 0);
}

TEST_P(Allocations, NoneOfAScorerThatChoosesItsPlan) {
  ScorerOptions options;
  options.plan = Plan::kAuto;
  Scorer scorer(model_, options);
  std::vector<float> scores(static_cast<size_t>(scorer.candidates(requests_.batch)));
  EXPECT_EQ(WarmAllocations([&] { scorer.score(requests_.batch, scores.data()); }), 0);
}

TEST_P(Allocations, NoneOfWhatTheChoiceIsMadeOf) {
  const Model::Parts& parts = model_.parts();
  if (parts.file.semantics.pooling != Pooling::kActivationUnit) GTEST_SKIP() << "a base model has no plans";
  const CheckedBatch batch(parts.file.schema, requests_.batch);
  DistinctEstimate estimate;
  Parallel parallel(1, {}, false);
  Wave wave(parts, 1);
  CandidatePlan plan(parts, 1);
  std::vector<float> scores(static_cast<size_t>(batch.Candidates()));
  EXPECT_EQ(WarmAllocations([&] {
              for (auto share : {RepeatedCandidates, RepeatedBehaviours, RepeatedInHistories}) {
                share(parts.file.schema, batch, {0, batch.requests}, estimate);
              }
              wave.Prepare(batch, {0, batch.requests}, parallel);
              PlanReport report;
              ASSERT_TRUE(plan.Prepare(wave, false, parallel, report));
              plan.Score(wave, parallel, scores.data());
            }),
            0);
}

TEST_P(Allocations, NoneOfAScorerThatLooksRowsUp) {
  Batch batch = requests_.batch;
  for (auto& [name, column] : batch.columns) {
    if (column.float_values != nullptr) continue;
    column.row_lookup = [](const RowRequest& of) { std::fill_n(of.rows, of.count * of.width, 0.5f); };
  }
  Scorer scorer(model_);
  std::vector<float> scores(static_cast<size_t>(scorer.candidates(batch)));
  EXPECT_EQ(WarmAllocations([&] { scorer.score(batch, scores.data()); }), 0);
}

TEST_P(Allocations, NoneOfAScorerWithAUser) {
  const Json columns =
      testing::OneRequest(Json::parse(testing::ReadFile(testing::GoldenPath(GetParam(), ".json")))["columns"], 3);
  const testing::Requests one(model_.parts().file.schema, columns);
  Batch of_user = one.batch, lists = one.batch;
  for (const auto& [name, column] : one.batch.columns) {
    const bool list = name.rfind("candidate.", 0) == 0 || name.rfind("context.", 0) == 0;
    (list ? of_user : lists).columns.erase(name);
  }
  const User user(model_, of_user);
  Scorer scorer(model_);
  std::vector<float> scores(static_cast<size_t>(scorer.candidates(user, lists)));
  EXPECT_EQ(WarmAllocations([&] { scorer.score(user, lists, scores.data()); }), 0);
}

TEST_P(Allocations, NoneOfARegistrysLease) {
  ModelRegistry registry(testing::GoldenPath(GetParam(), ".onnx"));
  std::vector<float> scores(static_cast<size_t>(registry.lease()->candidates(requests_.batch)));
  EXPECT_EQ(WarmAllocations([&] { registry.lease()->score(requests_.batch, scores.data()); }), 0);
}

TEST_P(Allocations, NoneInC) {
  din_infer_model* model = nullptr;
  din_infer_scorer* scorer = nullptr;
  din_infer_batch* batch = nullptr;
  ASSERT_EQ(din_infer_model_load(testing::GoldenPath(GetParam(), ".onnx").c_str(), &model), DIN_INFER_OK);
  ASSERT_EQ(din_infer_scorer_create(model, nullptr, &scorer), DIN_INFER_OK);
  ASSERT_EQ(din_infer_batch_create(&batch), DIN_INFER_OK);
  std::vector<float> scores(static_cast<size_t>(Scorer(model_).candidates(requests_.batch)));
  const auto score = [&] {
    din_infer_batch_set_requests(batch, requests_.batch.requests);
    for (const auto& [name, column] : requests_.batch.columns) {
      if (column.float_values != nullptr) {
        din_infer_batch_set_floats(batch, name.c_str(), column.float_values, column.size);
      } else if (column.string_offsets != nullptr) {
        din_infer_batch_set_strings(batch, name.c_str(), column.characters, column.string_offsets, column.size);
      } else {
        din_infer_batch_set_int64s(batch, name.c_str(), column.int64_values, column.size);
      }
      for (const Offsets& lists : column.lists) {
        din_infer_batch_add_lists(batch, name.c_str(), lists.data, lists.size);
      }
    }
    ASSERT_EQ(din_infer_scorer_score(scorer, batch, scores.data(), static_cast<int64_t>(scores.size())), DIN_INFER_OK);
  };
  EXPECT_EQ(WarmAllocations(score), 0);
  din_infer_batch_free(batch);
  din_infer_scorer_free(scorer);
  din_infer_model_free(model);
}

// Each request in turn has the long history: one place for each that grew to the longest it ever had would add up.
TEST_P(Allocations, OfAScorerDoNotGrowWithTheBatchesThatItHasSeen) {
  Json columns = Json::parse(testing::ReadFile(testing::GoldenPath(GetParam(), ".json")))["columns"];
  for (auto& [name, rows] : columns.items()) {
    const bool request =
        name.rfind("candidate.", 0) == 0 || name.rfind("user.", 0) == 0 || name.rfind("context.", 0) == 0;
    if (request) continue;
    const Json behaviours = rows[3];
    for (int i = 1; i < 50; ++i) rows[3].insert(rows[3].end(), behaviours.begin(), behaviours.end());
  }
  Scorer scorer(model_);
  std::vector<int64_t> held;
  for (size_t first = 0; first < columns.begin()->size(); ++first) {
    const testing::Requests requests(model_.parts().file.schema, columns);
    std::vector<float> scores(static_cast<size_t>(scorer.candidates(requests.batch)));
    scorer.score(requests.batch, scores.data());
    held.push_back(live_bytes);
    for (auto& [name, rows] : columns.items()) std::rotate(rows.begin(), rows.begin() + 1, rows.end());
  }
  EXPECT_LT(held.back(), held.front() + 4096);  // 2,000 behaviours take ten times as much
}

INSTANTIATE_TEST_SUITE_P(Golden, Allocations, ::testing::ValuesIn(testing::kGoldenModels), testing::GoldenName);

// Threads that take no memory of their own.
ScorerOptions OnTwoSlots(testing::Asked& asked, Plan plan) {
  ScorerOptions options;
  options.threads = 2, options.plan = plan, options.executor = {testing::Backwards, &asked};
  return options;
}

TEST_P(Allocations, NoneAndNoClockUnlessTimed) {
  testing::Asked asked;
  for (const bool timed : {false, true}) {
    ScorerOptions options = OnTwoSlots(asked, Plan::kRequest);
    options.timings = timed, options.max_scratch_bytes = size_t{1} << 30;
    Scorer scorer(model_, options);
    std::vector<float> scores(static_cast<size_t>(scorer.candidates(requests_.batch)));
    const int64_t before = clock_reads;
    EXPECT_EQ(WarmAllocations([&] { scorer.score(requests_.batch, scores.data()); }), 0);
    EXPECT_EQ(clock_reads > before, timed) << clock_reads - before;
  }
}

// No thread knows what it will get: one that had nothing to do in the first calls is as warm as the others.
TEST_P(Allocations, NoneOfAThreadThatWasIdle) {
  struct Turns {
    decltype(Executor::parallel_for) parallel_for;
    testing::Asked asked;
  } turns{testing::OneAfterTheOther, {}};
  ScorerOptions options;
  options.threads = 2, options.plan = Plan::kRequest;
  options.executor = {[](void* state, int64_t count, testing::Task task, void* context) {
                        Turns& of = *static_cast<Turns*>(state);
                        of.parallel_for(&of.asked, count, task, context);
                      },
                      &turns};
  Scorer scorer(model_, options);
  std::vector<float> scores(static_cast<size_t>(scorer.candidates(requests_.batch)));
  for (int i = 0; i < 3; ++i) scorer.score(requests_.batch, scores.data());
  turns.parallel_for = testing::Backwards;
  const int64_t before = allocations;
  scorer.score(requests_.batch, scores.data());
  EXPECT_EQ(allocations, before);
}

// One request is split among threads, several are shared out.
TEST_P(Allocations, NoneOfAScorerThatFoldsOnEitherSide) {
  Json columns = columns_;
  for (auto& [name, rows] : columns.items()) {
    if (name.rfind("candidate.", 0) != 0) continue;
    for (Json& row : rows) {
      for (int doubled = 0; doubled < 5; ++doubled) {
        const Json once = row;
        row.insert(row.end(), once.begin(), once.end());
      }
    }
  }
  const testing::Requests all(model_.parts().file.schema, columns);
  const testing::Requests one(model_.parts().file.schema, testing::OneRequest(columns, 3));
  testing::Asked asked;
  ScorerOptions options = OnTwoSlots(asked, Plan::kRequest);
  options.auto_fold = true;
  Scorer scorer(model_, options);
  std::vector<float> scores(static_cast<size_t>(scorer.candidates(all.batch)));
  EXPECT_EQ(WarmAllocations([&] {
              scorer.score(all.batch, scores.data());
              scorer.score(one.batch, scores.data());
            }),
            0);
}

TEST_P(Allocations, AreGivenBackByShrink) {
  const testing::Requests many(model_.parts().file.schema, testing::Repeated(columns_, 60));
  for (const Plan plan : {Plan::kRequest, Plan::kAuto}) {
    Scorer warm(model_);  // for folds, which the model keeps
    std::vector<float> expected(static_cast<size_t>(warm.candidates(many.batch))), scores(expected.size());
    for (int i = 0; i < 3; ++i) warm.score(many.batch, expected.data());
    testing::Asked asked;
    Scorer scorer(model_, OnTwoSlots(asked, plan));
    const int64_t fresh = live_bytes;
    for (int round = 0; round < 2; ++round) {
      EXPECT_EQ(scorer.scratch_bytes(), 0u);
      for (int i = 0; i < 3; ++i) scorer.score(many.batch, scores.data());
      EXPECT_EQ(scores, expected);
      if (plan == Plan::kAuto) scorer.explain_plan(many.batch);  // which uses more of it
      const auto grown = static_cast<double>(live_bytes - fresh);
      EXPECT_LE(static_cast<double>(scorer.scratch_bytes()), grown);
      EXPECT_GE(static_cast<double>(scorer.scratch_bytes()), 0.95 * grown);  // the allocator's rounding is not in it
      scorer.shrink();
      EXPECT_EQ(live_bytes, fresh);
    }
  }
}

TEST_P(Allocations, AreGivenBackAboveTheCap) {
  const testing::Requests many(model_.parts().file.schema, testing::Repeated(columns_, 60));
  Scorer scorer(model_);
  std::vector<float> few_scores(static_cast<size_t>(scorer.candidates(requests_.batch))), few_again(few_scores.size());
  std::vector<float> expected(static_cast<size_t>(scorer.candidates(many.batch))), scores(expected.size());
  for (int i = 0; i < 3; ++i) scorer.score(requests_.batch, few_scores.data());
  const size_t of_few = scorer.scratch_bytes();
  for (int i = 0; i < 3; ++i) scorer.score(many.batch, expected.data());
  EXPECT_GT(scorer.scratch_bytes(), of_few);
  ScorerOptions options;
  options.max_scratch_bytes = of_few;
  Scorer capped(model_, options);
  const int64_t fresh = live_bytes;
  capped.score(many.batch, scores.data());
  EXPECT_EQ(scores, expected);
  EXPECT_EQ(capped.scratch_bytes(), 0u);
  EXPECT_EQ(live_bytes, fresh);
  capped.score(requests_.batch, few_again.data());
  EXPECT_EQ(few_again, few_scores);
  EXPECT_GT(capped.scratch_bytes(), 0u);
  EXPECT_EQ(WarmAllocations([&] { capped.score(requests_.batch, few_again.data()); }), 0);
}

TEST_P(Allocations, AreGivenBackAboveTheCapWhereACallFails) {
  ScorerOptions options;
  options.threads = 2, options.max_scratch_bytes = 1;
  options.executor.parallel_for = [](void*, int64_t, testing::Task, void*) {};
  Scorer scorer(model_, options);
  std::vector<float> scores(static_cast<size_t>(scorer.candidates(requests_.batch)));
  EXPECT_THROW(scorer.score(requests_.batch, scores.data()), InputError);
  EXPECT_EQ(scorer.scratch_bytes(), 0u);
}

TEST(UnitAllocations, NoneOfARunner) {
  UnitSemantics semantics;
  semantics.hidden = {80, 40};
  testing::RandomUnit random(semantics, 16, 3);
  ActivationUnitRunner runner(testing::ParamsOf(random));
  const std::vector<float> keys = random.Normal(500 * 16, 1), queries = random.Normal(40 * 16, 1);
  const std::vector<int64_t> counts(500, 2);
  const int64_t key_offsets[] = {0, 400, 500}, query_offsets[] = {0, 10, 40};
  std::vector<float> interests(queries.size());
  EXPECT_EQ(WarmAllocations([&] {
              runner.run({keys.data(), 500, {key_offsets, 3}}, {queries.data(), 40, {query_offsets, 3}},
                         interests.data(), counts.data());
            }),
            0);
}

// One tile of candidates and two threads, which share its keys: many tasks in place of one for the tile.
TEST(UnitAllocations, NoneOfTheHistorysSide) {
  UnitSemantics semantics;
  semantics.hidden = {17, 9};
  testing::RandomUnit random(semantics, 7, 3);
  const ActivationUnit key_side = ActivationUnit::ForKeys(random.semantics(), 7, random.parameters());
  constexpr int64_t kKeys = 40;
  const int64_t columns = kernels::Kernels().tile;
  const std::vector<float> keys = random.Normal(kKeys * 7, 1), queries = random.Normal(columns * 7, 1);
  FloatBuffer tiles(static_cast<size_t>(WholeTiles(kKeys) * 7));
  PackTiles(keys.data(), 7, kKeys, 7, tiles.data());
  std::vector<float> interests(queries.size());
  testing::Asked asked;
  Parallel parallel(2, {testing::Backwards, &asked});
  KeySideRunner runner;
  const auto run = [&] {
    runner.Run(key_side, {tiles.data(), kKeys, nullptr}, queries.data(), 7, columns, interests.data(), 7, parallel);
  };
  EXPECT_EQ(WarmAllocations(run), 0);
  const int64_t before = asked.calls;
  run();
  EXPECT_EQ(asked.calls - before, 2) << "folds, and a tile's keys";
  KeySideRunner alone;
  Parallel one(1);
  alone.Run(key_side, {tiles.data(), kKeys, nullptr}, queries.data(), 7, columns, interests.data(), 7, one);
  EXPECT_GE(runner.Bytes(), alone.Bytes() + static_cast<size_t>(columns * kKeys) * sizeof(float));
}

TEST(UnitAllocations, AreCounted) {
  EXPECT_EQ(WarmAllocations([] { delete new int; }), 10);
}

}  // namespace
}  // namespace din_infer
