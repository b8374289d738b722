// The public activation unit on the caller's own embeddings.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <type_traits>

#include "engine/model.hpp"
#include "golden.hpp"
#include "reference.hpp"
#include "unit_params.hpp"

namespace din_infer {
namespace {

using testing::GoldenPath;
using testing::ParamsOf;
using testing::RandomUnit;

constexpr int64_t kDim = 7, kKeys = 800;
constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

UnitSemantics Dice() {
  UnitSemantics unit;
  unit.hidden = {17, 5};
  unit.activation = Activation::kDice;
  unit.softmax = true;
  unit.scale = 0.5f;
  return unit;
}

ActivationUnitRunnerOptions AutoFold() {
  ActivationUnitRunnerOptions options;
  options.auto_fold = true;
  return options;
}

// Four requests: 400, 0, 3 and 397 keys; 2, 1, 4 and 1 queries.
class RunnerTest : public ::testing::Test {
 protected:
  RunnerTest() {
    for (int64_t key = 0; key < kKeys; ++key) counts_.push_back(1 + key % 7);
  }

  std::vector<float> Run(ActivationUnitRunner& runner) {
    std::vector<float> interests(queries_.size(), kPoison);
    runner.run(keys(), queries(), interests.data(), counts_.data());
    return interests;
  }
  Rows keys() const { return {keys_.data(), kKeys, {key_offsets_.data(), 5}}; }
  Rows queries() const { return {queries_.data(), 8, {query_offsets_.data(), 5}}; }

  void ExpectRefused(const std::function<void(ActivationUnitRunner&)>& run, const std::string& part) {
    ActivationUnitRunner runner(params_);
    try {
      run(runner);
      FAIL() << "expected an InputError with " << part;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }

  RandomUnit random_{Dice(), kDim, 7};
  ActivationUnitParams params_ = ParamsOf(random_);
  // One history of several blocks for two candidates, one for a candidate alone.
  std::vector<int64_t> key_offsets_ = {0, 400, 400, 403, kKeys}, query_offsets_ = {0, 2, 3, 7, 8};
  std::vector<int64_t> counts_;
  std::vector<float> keys_ = random_.Normal(kKeys * kDim, 1), queries_ = random_.Normal(8 * kDim, 1);
};

TEST_F(RunnerTest, AgreesWithTheReference) {
  ActivationUnitRunner runner(params_);
  EXPECT_EQ(runner.dim(), kDim);
  const std::vector<float> interests = Run(runner);
  for (size_t r = 0; r < 4; ++r) {
    const std::vector<float> keys(keys_.begin() + key_offsets_[r] * kDim, keys_.begin() + key_offsets_[r + 1] * kDim);
    const std::vector<float> counts(counts_.begin() + key_offsets_[r], counts_.begin() + key_offsets_[r + 1]);
    for (int64_t q = query_offsets_[r]; q < query_offsets_[r + 1]; ++q) {
      const auto expected = random_.Pool(keys, queries_.data() + q * kDim, counts);
      const auto bound = random_.Bound(keys, queries_.data() + q * kDim, counts);
      for (size_t i = 0; i < kDim; ++i) {
        EXPECT_NEAR(interests[static_cast<size_t>(q * kDim) + i], expected[i], bound[i]) << q;
      }
    }
  }
}

TEST_F(RunnerTest, GivesTheSameBitsAgainOnThreadsAndFromASharedUnit) {
  ActivationUnitRunner runner(params_), threads(params_, {3}), shared(runner, {2});
  const std::vector<float> expected = Run(runner);
  for (ActivationUnitRunner* other : {&runner, &threads, &shared}) EXPECT_EQ(Run(*other), expected);
}

// Its keys are packed where they are read.
TEST_F(RunnerTest, GivesACandidateAloneTheBitsThatItHasBesideAnother) {
  const int64_t keys = key_offsets_[1], key_offsets[] = {0, keys}, query_offsets[] = {0, 1};
  for (const int threads : {1, 3}) {
    ActivationUnitRunner runner(params_, {threads});
    const std::vector<float> expected = Run(runner);
    std::vector<float> interest(kDim, kPoison);
    runner.run({keys_.data(), keys, {key_offsets, 2}}, {queries_.data(), 1, {query_offsets, 2}}, interest.data(),
               counts_.data());
    EXPECT_EQ(interest, std::vector<float>(expected.begin(), expected.begin() + kDim)) << threads;
  }
}

TEST_F(RunnerTest, GivesTheSameBitsAfterItsScratchMemoryIsFreed) {
  ActivationUnitRunner runner(params_, {2});
  EXPECT_EQ(runner.scratch_bytes(), 0U);
  const std::vector<float> expected = Run(runner);
  const size_t bytes = runner.scratch_bytes();
  EXPECT_GT(bytes, keys_.size() * sizeof(float));
  runner.shrink();
  EXPECT_EQ(runner.scratch_bytes(), 0U);
  EXPECT_EQ(Run(runner), expected);
  EXPECT_EQ(runner.scratch_bytes(), bytes);
}

TEST_F(RunnerTest, KeepsNoMoreScratchMemoryThanItMay) {
  ActivationUnitRunner runner(params_);
  const std::vector<float> expected = Run(runner);
  for (const size_t least : {size_t{0}, size_t{1}}) {
    ActivationUnitRunnerOptions options;
    options.max_scratch_bytes = runner.scratch_bytes() - least;
    ActivationUnitRunner capped(runner, options);
    for (int call = 0; call < 2; ++call) {
      EXPECT_EQ(Run(capped), expected);
      EXPECT_EQ(capped.scratch_bytes(), least == 0 ? runner.scratch_bytes() : 0);
    }
  }
}

TEST_F(RunnerTest, KeepsNoMoreScratchMemoryThanItMayWhereACallFails) {
  ActivationUnitRunnerOptions options;
  options.threads = 2, options.max_scratch_bytes = 1;
  options.executor.parallel_for = [](void*, int64_t, void (*)(void*, int64_t), void*) {};
  ActivationUnitRunner runner(params_, options);
  EXPECT_THROW(Run(runner), InputError);
  EXPECT_EQ(runner.scratch_bytes(), 0U);
}

TEST_F(RunnerTest, IsMoved) {
  static_assert(std::is_nothrow_move_assignable_v<ActivationUnitRunner>);
  std::vector<ActivationUnitRunner> runners;
  for (const int threads : {1, 2}) runners.emplace_back(params_, ActivationUnitRunnerOptions{threads});
  const std::vector<float> expected = Run(runners[1]);
  runners.erase(runners.begin());
  EXPECT_EQ(Run(runners[0]), expected);
}

TEST_F(RunnerTest, TheSharedUnitOutlivesItsFirstRunner) {
  auto first = std::make_unique<ActivationUnitRunner>(params_);
  const std::vector<float> expected = Run(*first);
  ActivationUnitRunner shared(*first, {});
  first.reset();
  EXPECT_EQ(Run(shared), expected);
}

TEST_F(RunnerTest, RunsTheUnitOfAModelsHistory) {
  auto model = std::make_unique<Model>(Model::load(GoldenPath("v1-outer-dice", ".onnx")));
  const Model::Parts& parts = model->parts();
  const std::string history = parts.histories[0].schema->name;
  const ActivationUnit& unit = *parts.histories[0].unit;
  const int64_t dim = unit.dim();
  const std::vector<float> keys = random_.Normal(20 * dim, 1), query = random_.Normal(dim, 1);

  FloatBuffer tiles(static_cast<size_t>(WholeTiles(20) * dim)), folded(static_cast<size_t>(unit.folded_size()));
  FloatBuffer scratch(unit.scratch());
  PackTiles(keys.data(), dim, 20, dim, tiles.data());
  unit.Fold(query.data(), 1, folded.data(), scratch.data());
  std::vector<float> expected(static_cast<size_t>(dim)), interest(expected.size(), kPoison);
  const float* folds[] = {folded.data()};
  unit.Pool(folds, 1, {tiles.data(), 20, nullptr}, scratch.data(), expected.data(), dim);

  ActivationUnitRunner runner(*model, history);
  model.reset();
  const int64_t key_offsets[] = {0, 20}, query_offsets[] = {0, 1};
  runner.run({keys.data(), 20, {key_offsets, 2}}, {query.data(), 1, {query_offsets, 2}}, interest.data());
  EXPECT_EQ(interest, expected);
}

TEST_F(RunnerTest, FoldsOnTheSideThatIsFasterWhereAsked) {
  const Model model = Model::load(GoldenPath("v1-outer-dice", ".onnx"));
  const std::string history = model.parts().histories[0].schema->name;
  ActivationUnitRunner by_query(model, history), faster(model, history, AutoFold());
  const int64_t dim = by_query.dim(), candidates = 300;
  const std::vector<float> keys = random_.Normal(5 * dim, 1), queries = random_.Normal(candidates * dim, 1);
  const int64_t key_offsets[] = {0, 5}, query_offsets[] = {0, candidates};
  const auto run = [&](ActivationUnitRunner& runner) {
    std::vector<float> interests(queries.size(), kPoison);
    runner.run({keys.data(), 5, {key_offsets, 2}}, {queries.data(), candidates, {query_offsets, 2}}, interests.data());
    return interests;
  };
  const std::vector<float> expected = run(by_query), interests = run(faster);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(interests[i], expected[i], 1e-4) << i;
  EXPECT_NE(interests, expected);  // the sums run in another order
  ActivationUnitRunner shared(faster, {2});
  EXPECT_EQ(run(shared), interests);
  EXPECT_THROW(ActivationUnitRunner(params_, AutoFold()), InputError);
  EXPECT_THROW(ActivationUnitRunner(by_query, AutoFold()), InputError);
}

TEST_F(RunnerTest, RefusesModelsWithoutThatUnit) {
  const Model din = Model::load(GoldenPath("v1-outer-dice", ".onnx"));
  EXPECT_THROW(ActivationUnitRunner(din, "nothing"), InputError);
  const Model base = Model::load(GoldenPath("v1-base-mean", ".onnx"));
  EXPECT_THROW(ActivationUnitRunner(base, base.parts().histories[0].schema->name), InputError);
}

TEST_F(RunnerTest, RefusesArraysThatDoNotFit) {
  std::vector<float> out(queries_.size());
  using Runner = ActivationUnitRunner;
  const auto refused = [&](Rows keys, Rows queries, const std::string& part) {
    ExpectRefused([&](Runner& runner) { runner.run(keys, queries, out.data()); }, part);
  };
  Rows keys = this->keys(), queries = this->queries();
  refused({nullptr, kKeys, keys.offsets}, queries, "keys: expected values, got a null pointer");
  refused({keys.values, kKeys, {nullptr, 5}}, queries, "keys.offsets: expected offsets, got a null pointer");
  refused({keys.values, -1, keys.offsets}, queries, "keys: expected at least 0 rows, got -1");
  refused({keys.values, 44, keys.offsets}, queries,
          "keys.offsets: expected offsets that end at the number of values, 44");
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  const int64_t ends[] = {0, 5, 5, 5, kMost};
  refused({keys.values, kMost, {ends, 5}}, queries, "keys: expected at most ");
  refused(keys, {queries.values, kMost, {ends, 5}}, "queries: expected at most ");
  refused({}, queries, "keys.offsets: expected at least 1 offset, got 0");
  refused(keys, {queries.values, 7, {query_offsets_.data(), 4}}, "queries.offsets: expected 5 offsets, got 4");
  const int64_t down[] = {0, 5, 3, 3, 8};
  refused(keys, {queries.values, 8, {down, 5}}, "queries.offsets: expected offsets that do not go down, got 5 then 3");
  ExpectRefused([&](Runner& runner) { runner.run(keys, queries, nullptr); }, "interests: expected memory");
  counts_[3] = 0;
  ExpectRefused([&](Runner& runner) { runner.run(keys, queries, out.data(), counts_.data()); },
                "counts: expected at least 1, got 0 at 3");
}

TEST_F(RunnerTest, RunsNoRequestsAndNoQueries) {
  ActivationUnitRunner runner(params_);
  const int64_t none[] = {0, 0, 0, 0, 0};
  runner.run({nullptr, 0, {none, 1}}, {nullptr, 0, {none, 1}}, nullptr);
  runner.run(keys(), {nullptr, 0, {none, 5}}, nullptr);
  std::vector<float> interests(queries_.size(), kPoison);
  runner.run({nullptr, 0, {none, 5}}, queries(), interests.data());
  EXPECT_EQ(interests, std::vector<float>(queries_.size(), 0.0f));
}

TEST_F(RunnerTest, RefusesParametersThatDoNotFit) {
  const auto refused = [&](const std::function<void(ActivationUnitParams&)>& spoil, const std::string& part) {
    ActivationUnitParams params = params_;
    spoil(params);
    ExpectRefused([&](ActivationUnitRunner&) { ActivationUnitRunner{params}; }, part);
  };
  const float bad[17] = {1, kPoison};
  refused([](auto& p) { p.interaction = "inner"; }, "interaction: expected outer | hadamard, got 'inner'");
  refused([](auto& p) { p.activation = ""; }, "activation: expected sigmoid | relu");
  refused([](auto& p) { p.normalize = "l2"; }, "normalize: expected none | softmax, got 'l2'");
  refused([](auto& p) { p.scale = kPoison; }, "scale: expected a finite number, got nan");
  refused([](auto& p) { p.layers.clear(); }, "layers: expected at least one, got none");
  refused([](auto& p) { p.layers.pop_back(); }, "layers[1].outputs: expected 1 of the last layer, got 5");
  refused([](auto& p) { p.layers[0].outputs = 0; }, "layers[0].outputs: expected 1 to 1048576, got 0");
  refused([](auto& p) { p.layers[0].inputs = -63; },
          "layers[0].inputs: expected 2D + D*D for outer with D from 1 to 65536, got -63");
  refused([](auto& p) { p.layers[1].inputs = 16; }, "layers[1].inputs: expected 17, got 16");
  refused([](auto& p) { p.layers[0].weights.size -= 17; }, "layers[0].weights: expected 17 x 63 floats, got 1054");
  refused([](auto& p) { p.layers[0].weights.data = nullptr; },
          "layers[0].weights: expected floats, got a null pointer");
  refused([](auto& p) { p.layers[0].biases.size = 1; }, "layers[0].biases: expected 17 floats, got 1");
  refused([&](auto& p) { p.layers[0].biases.data = bad; }, "layers[0].biases: expected finite numbers, got nan at 1");
  refused([](auto& p) { p.layers[0].alpha.size = 2; }, "layers[0].alpha: expected 17 floats, got 2");
  refused([](auto& p) { p.layers[1].var = {}; }, "layers[1].var: expected 5 floats, got 0");
  refused([](auto& p) { p.layers[0].eps = -9; }, "layers[0]: expected var >= 0 and var + eps > 0, got ");
  refused([](auto& p) { p.layers[2].mean = p.layers[1].mean; }, "layers[2].mean: expected none here, got 5");
  refused([](auto& p) { p.activation = "relu"; }, "layers[0].alpha: expected none here, got 17");
  refused([](auto& p) { p.layers[0].inputs = 62, p.layers[0].weights.size = 17 * 62; },
          "layers[0].inputs: expected 2D + D*D for outer with D from 1 to 65536, got 62");
  const int64_t wide = int64_t{1} << 48;  // of a size that fits, to be refused before any weight is read
  refused([=](auto& p) { p.layers[0].inputs = wide - 1, p.layers[0].weights.size = 17 * (wide - 1); },
          "with D from 1 to 65536, got 281474976710655");
}

TEST_F(RunnerTest, OneAlphaIsThatOfEveryUnit) {
  const std::vector<float> alphas(17, 0.25f);
  for (UnitLayer& layer : params_.layers) {
    if (layer.alpha.size > 0) layer.alpha = {alphas.data(), layer.outputs};
  }
  ActivationUnitRunner each(params_);
  for (UnitLayer& layer : params_.layers) layer.alpha.size = std::min<int64_t>(layer.alpha.size, 1);
  ActivationUnitRunner one(params_);
  EXPECT_EQ(Run(one), Run(each));
}

}  // namespace
}  // namespace din_infer
