// Scoring allocates nothing once it is warm. A program of its own, as it replaces operator new.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <new>

#include "din_infer/din_infer.h"
#include "engine/model.hpp"
#include "golden.hpp"
#include "reference.hpp"
#include "unit_params.hpp"

namespace {

std::atomic<int64_t> allocations{0};

void* Allocate(size_t size, size_t alignment) {
  ++allocations;
  void* memory = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(size_t size) { return Allocate(size, alignof(std::max_align_t)); }
void* operator new[](size_t size) { return Allocate(size, alignof(std::max_align_t)); }
void* operator new(size_t size, std::align_val_t alignment) { return Allocate(size, static_cast<size_t>(alignment)); }
void* operator new[](size_t size, std::align_val_t alignment) { return Allocate(size, static_cast<size_t>(alignment)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

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
  testing::Requests requests_{model_.parts().file.schema,
                              Json::parse(testing::ReadFile(testing::GoldenPath(GetParam(), ".json")))["columns"]};
};

TEST_P(Allocations, NoneOfAScorer) {
  Scorer scorer(model_);
  std::vector<float> scores(static_cast<size_t>(scorer.candidates(requests_.batch)));
  EXPECT_EQ(WarmAllocations([&] { scorer.score(requests_.batch, scores.data()); }), 0);
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
  ASSERT_EQ(din_infer_scorer_create(model, 1, 0, &scorer), DIN_INFER_OK);
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

INSTANTIATE_TEST_SUITE_P(Golden, Allocations, ::testing::ValuesIn(testing::kGoldenModels), testing::GoldenName);

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

TEST(UnitAllocations, AreCounted) {
  EXPECT_EQ(WarmAllocations([] { delete new int; }), 10);
}

}  // namespace
}  // namespace din_infer
