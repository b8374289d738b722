// Options, timings and scratch memory in C, and options of headers that are older or newer than the library.
#include <gtest/gtest.h>

#include <cstring>

#include "capi.hpp"
#include "capi/border.hpp"
#include "engine/model.hpp"
#include "executor.hpp"
#include "golden.hpp"

namespace din_infer {
namespace {

using testing::ExpectInputError;
using testing::GoldenPath;
using testing::Options;

class CApiOptions : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(din_infer_model_load(GoldenPath(kModel, ".onnx").c_str(), &c_model_), DIN_INFER_OK);
    ASSERT_EQ(din_infer_batch_create(&batch_), DIN_INFER_OK);
    testing::Fill(requests_.batch, batch_);
    expected_ = testing::ScoresInCpp(model_, requests_.batch);
  }
  void TearDown() override {
    din_infer_model_free(c_model_);
    din_infer_batch_free(batch_);
    din_infer_scorer_free(scorer_);
  }
  void Create(const din_infer_scorer_options& options) {
    din_infer_scorer_free(std::exchange(scorer_, nullptr));
    ASSERT_EQ(din_infer_scorer_create(c_model_, &options, &scorer_), DIN_INFER_OK) << din_infer_last_error();
  }
  din_infer_status Score() {
    scores_.assign(expected_.size(), -1);
    return din_infer_scorer_score(scorer_, batch_, scores_.data(), static_cast<int64_t>(scores_.size()));
  }
  size_t ScratchBytes() const {
    size_t bytes = SIZE_MAX;
    EXPECT_EQ(din_infer_scorer_scratch_bytes(scorer_, &bytes), DIN_INFER_OK);
    return bytes;
  }

  static constexpr const char* kModel = "v1-outer-dice";
  Model model_ = Model::load(GoldenPath(kModel, ".onnx"));
  testing::Requests requests_{model_.parts().file.schema,
                              Json::parse(testing::ReadFile(GoldenPath(kModel, ".json")))["columns"]};
  std::vector<float> expected_, scores_;
  din_infer_model* c_model_ = nullptr;
  din_infer_batch* batch_ = nullptr;
  din_infer_scorer* scorer_ = nullptr;
};

TEST_F(CApiOptions, RunOnTheCallersExecutor) {
  testing::Asked asked;
  din_infer_scorer_options options = Options(3);
  options.executor = {testing::OnThreads, &asked};
  Create(options);
  options = {};  // it has been copied
  ASSERT_EQ(Score(), DIN_INFER_OK);
  EXPECT_EQ(scores_, expected_);
  EXPECT_GT(asked.calls, 0);
  options = Options(2);
  options.executor.parallel_for = [](void*, int64_t, testing::Task, void*) {};
  Create(options);
  ExpectInputError(Score(), "parallel_for: expected it to return when all");

  options.executor = {testing::Backwards, &asked};
  asked.calls = 0;
  din_infer_model_registry* registry = nullptr;
  ASSERT_EQ(din_infer_model_registry_create(GoldenPath(kModel, ".onnx").c_str(), &options, &registry), DIN_INFER_OK);
  EXPECT_EQ(din_infer_model_registry_score(registry, batch_, scores_.data(), static_cast<int64_t>(scores_.size())),
            DIN_INFER_OK);
  EXPECT_EQ(scores_, expected_);
  EXPECT_GT(asked.calls, 0);
  din_infer_model_registry_free(registry);
}

TEST_F(CApiOptions, ARegistryLeasesScorersWithThem) {
  const din_infer_scorer_options options = Options(0, DIN_INFER_TIMINGS);
  const std::string path = GoldenPath(kModel, ".onnx");
  din_infer_model_registry* registry = nullptr;
  din_infer_scorer *first = nullptr, *second = nullptr;
  int64_t version = 0;
  din_infer_timings timings{};
  scores_.assign(expected_.size(), -1);
  const auto size = static_cast<int64_t>(scores_.size());
  ASSERT_EQ(din_infer_model_registry_create(path.c_str(), &options, &registry), DIN_INFER_OK);
  ASSERT_EQ(din_infer_model_registry_lease(registry, &version, &first), DIN_INFER_OK);
  EXPECT_EQ(version, 1);
  EXPECT_EQ(din_infer_scorer_score(first, batch_, scores_.data(), size), DIN_INFER_OK);
  EXPECT_EQ(scores_, expected_);
  EXPECT_EQ(din_infer_scorer_timings(first, &timings), DIN_INFER_OK);
  EXPECT_GT(timings.total, 0);
  EXPECT_EQ(din_infer_model_registry_replace(registry, path.c_str()), DIN_INFER_OK);
  EXPECT_EQ(din_infer_model_registry_wait(registry), DIN_INFER_OK);
  EXPECT_EQ(din_infer_model_registry_lease(registry, &version, &second), DIN_INFER_OK);
  EXPECT_EQ(version, 2);
  din_infer_scorer_free(second);
  EXPECT_EQ(din_infer_model_registry_lease(registry, nullptr, &second), DIN_INFER_OK);
  ExpectInputError(din_infer_model_registry_lease(registry, &version, nullptr), "scorer: expected a pointer, got null");
  ExpectInputError(din_infer_model_registry_lease(nullptr, &version, &second), "registry: expected a pointer");
  din_infer_scorer_free(first);  // which lets its version go
  din_infer_model_registry_free(registry);
  EXPECT_EQ(din_infer_scorer_score(second, batch_, scores_.data(), size), DIN_INFER_OK);  // it outlives the registry
  EXPECT_EQ(scores_, expected_);
  din_infer_scorer_free(second);
}

TEST_F(CApiOptions, TakeTimings) {
  din_infer_timings timings{};
  Create(Options(0, DIN_INFER_TIMINGS));
  EXPECT_EQ(din_infer_scorer_timings(scorer_, &timings), DIN_INFER_OK);
  EXPECT_EQ(timings.total, 0);
  ASSERT_EQ(Score(), DIN_INFER_OK);
  EXPECT_EQ(din_infer_scorer_timings(scorer_, &timings), DIN_INFER_OK);
  for (const double part : {timings.look_up, timings.fold, timings.unit, timings.tower}) {
    EXPECT_GT(part, 0);
    EXPECT_LT(part, timings.total);
  }
  Create(Options(1));
  ASSERT_EQ(Score(), DIN_INFER_OK);
  EXPECT_EQ(din_infer_scorer_timings(scorer_, &timings), DIN_INFER_OK);
  EXPECT_EQ(timings.total, 0);
  ExpectInputError(din_infer_scorer_timings(scorer_, nullptr), "timings: expected a pointer");
  ExpectInputError(din_infer_scorer_timings(nullptr, &timings), "scorer: expected a pointer");
}

TEST_F(CApiOptions, CapScratchMemory) {
  Create(Options(1));
  EXPECT_EQ(ScratchBytes(), 0u);
  ASSERT_EQ(Score(), DIN_INFER_OK);
  EXPECT_GT(ScratchBytes(), 0u);
  EXPECT_EQ(din_infer_scorer_shrink(scorer_), DIN_INFER_OK);
  EXPECT_EQ(ScratchBytes(), 0u);
  din_infer_scorer_options options = Options(1);
  options.max_scratch_bytes = 1;
  Create(options);
  ASSERT_EQ(Score(), DIN_INFER_OK);
  EXPECT_EQ(scores_, expected_);
  EXPECT_EQ(ScratchBytes(), 0u);
  ExpectInputError(din_infer_scorer_shrink(nullptr), "scorer: expected a pointer");
  ExpectInputError(din_infer_scorer_scratch_bytes(scorer_, nullptr), "bytes: expected a pointer");
}

TEST_F(CApiOptions, OfASizeThatCannotBeAreRefused) {
  din_infer_scorer_options options = Options(2);
  for (const size_t size : {size_t{0}, size_t{8}, sizeof(options) - 1, size_t{4097}, SIZE_MAX}) {
    options.size = size;
    ExpectInputError(din_infer_scorer_create(c_model_, &options, &scorer_),
                     "options.size: expected that of the struct, " + std::to_string(sizeof(options)) + ", got " +
                         std::to_string(size));
  }
  EXPECT_EQ(scorer_, nullptr);
}

// As a later header would have it.
struct Newer {
  din_infer_scorer_options known;
  int64_t more[3];
};

TEST_F(CApiOptions, OfANewerHeaderAreTakenWhereWhatIsMoreIsZero) {
  Newer newer{Options(2), {}};
  newer.known.size = sizeof(newer);
  Create(newer.known);
  ASSERT_EQ(Score(), DIN_INFER_OK);
  EXPECT_EQ(scores_, expected_);
  din_infer_scorer* scorer = nullptr;
  for (int64_t& field : newer.more) {
    field = int64_t{1} << 56;
    ExpectInputError(din_infer_scorer_create(c_model_, &newer.known, &scorer), "options: expected zeros behind the");
    field = 0;
  }
  EXPECT_EQ(scorer, nullptr);
}

TEST(KnownOptions, OfAnOlderHeaderHaveZerosForWhatIsMissing) {
  struct Grown {
    size_t size;
    int64_t first, second;
  };
  Grown given{};
  std::memset(&given, 0xFF, sizeof(given));  // what is behind an older struct may be anything
  given.size = offsetof(Grown, second), given.first = 7;
  const Grown known = capi::Known(&given, offsetof(Grown, second));
  EXPECT_EQ(known.first, 7);
  EXPECT_EQ(known.second, 0);
  EXPECT_THROW(capi::Known(&given, sizeof(Grown)), InputError);
  EXPECT_EQ(capi::Known<Grown>(nullptr, sizeof(Grown)).first, 0);
}

}  // namespace
}  // namespace din_infer
