#include "engine/activation_unit.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "engine/unit_runner.hpp"
#include "reference.hpp"

namespace din_infer {
namespace {

using testing::RandomUnit;

constexpr Activation kActivations[] = {Activation::kSigmoid, Activation::kRelu, Activation::kPRelu,
                                       Activation::kTanh,    Activation::kDice, Activation::kBiSigmoid};

UnitSemantics Unit(std::vector<int64_t> hidden, Activation activation, Interaction interaction, bool softmax) {
  UnitSemantics unit;
  unit.hidden = std::move(hidden);
  unit.activation = activation;
  unit.interaction = interaction;
  unit.softmax = softmax;
  return unit;
}

// [count, dim] rows in tiles, with everything past the last row poisoned before.
FloatBuffer Tiles(const std::vector<float>& rows, int64_t dim) {
  const int64_t count = static_cast<int64_t>(rows.size()) / dim;
  FloatBuffer tiles(static_cast<size_t>(WholeTiles(count) * dim), std::numeric_limits<float>::quiet_NaN());
  PackTiles(rows.data(), dim, count, dim, tiles.data());
  return tiles;
}

std::vector<float> PoolAll(const RandomUnit& random, const std::vector<float>& keys, const std::vector<float>& queries,
                           const std::vector<float>& counts, int threads = 1, bool auto_fold = false,
                           FoldCache* cache = nullptr) {
  const ActivationUnit unit(random.semantics(), random.dim(), random.parameters());
  const FloatBuffer tiles = Tiles(keys, random.dim());
  const UnitKeys packed{tiles.data(), static_cast<int64_t>(keys.size()) / random.dim(),
                        counts.empty() ? nullptr : counts.data()};
  const int64_t offsets[] = {0, static_cast<int64_t>(queries.size()) / random.dim()};
  std::vector<float> interests(queries.size(), std::numeric_limits<float>::quiet_NaN());
  Parallel parallel(threads);
  const std::vector<UnitKeys> histories = {packed};
  const ActivationUnit key_side = ActivationUnit::ForKeys(random.semantics(), random.dim(), random.parameters());
  UnitRunner().Run(unit, auto_fold ? &key_side : nullptr, cache,
                   {histories, offsets, queries.data(), random.dim(), interests.data(), random.dim()}, parallel);
  return interests;
}

void ExpectAccurate(const UnitSemantics& semantics, int64_t dim, int64_t length, bool counted, int64_t candidates = 3,
                    int threads = 1) {
  RandomUnit random(semantics, dim, 7);
  const std::vector<float> keys = random.Normal(length * dim, 1);
  const std::vector<float> queries = random.Normal(candidates * dim, 1);
  std::vector<float> counts;
  for (int64_t t = 0; counted && t < length; ++t) counts.push_back(static_cast<float>(1 + t % 3));
  const std::vector<float> interests = PoolAll(random, keys, queries, counts, threads, candidates > 3);
  for (int64_t q = 0; q < candidates; ++q) {
    const auto expected = random.Pool(keys, queries.data() + q * dim, counts);
    const auto bound = random.Bound(keys, queries.data() + q * dim, counts);
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_NEAR(interests[static_cast<size_t>(q * dim) + i], expected[i], bound[i])
          << "D " << dim << " T " << length << " query " << q << " element " << i;
    }
  }
}

TEST(ActivationUnit, AgreesWithTheUnfoldedReferenceForEveryActivation) {
  for (Activation activation : kActivations) {
    for (Interaction interaction : {Interaction::kOuter, Interaction::kHadamard}) {
      for (bool softmax : {false, true}) {
        SCOPED_TRACE(static_cast<int>(activation));
        ExpectAccurate(Unit({17, 9, 5}, activation, interaction, softmax), 7, 40, false);
        ExpectAccurate(Unit({36}, activation, interaction, softmax), 16, 31, true);
      }
    }
  }
}

TEST(ActivationUnit, AgreesWithTheReferenceForEveryShape) {
  for (int64_t dim : {1, 4, 7, 36, 64}) {
    for (int64_t length : {0, 1, 2, 31, 100, 500}) {
      ExpectAccurate(Unit({80, 40}, Activation::kSigmoid, Interaction::kHadamard, false), dim, length, length % 2 == 1);
      ExpectAccurate(Unit({}, Activation::kSigmoid, Interaction::kOuter, length % 2 == 1), dim, length, false);
    }
  }
  ExpectAccurate(Unit({36, 11}, Activation::kDice, Interaction::kOuter, true), 36, 400, true);
}

TEST(ActivationUnit, FoldsManyWideQueriesWithoutHiddenLayers) {
  ExpectAccurate(Unit({}, Activation::kSigmoid, Interaction::kOuter, false), 64, 40, false, 17);
}

TEST(ActivationUnit, AWeightThatTheSigmoidsFactorWouldTakePastFloatsStaysFinite) {
  const UnitSemantics semantics = Unit({1}, Activation::kSigmoid, Interaction::kHadamard, false);
  RandomUnit random(semantics, 1, 7);
  LayerParameters parameters = random.parameters();
  const float huge[] = {0, 3e38f, 0, 0};  // of q, k, q - k and q * k
  parameters.weights[0] = huge;
  const ActivationUnit unit(semantics, 1, parameters);
  FloatBuffer folded(static_cast<size_t>(unit.folded_size())), scratch(unit.scratch());
  FloatBuffer tile(static_cast<size_t>(kernels::Kernels().tile)), scores(tile.size());
  const float query = 0;
  unit.Fold(&query, 1, folded.data(), scratch.data());
  unit.Scores(folded.data(), tile.data(), 1, scratch.data(), scores.data());
  EXPECT_TRUE(std::isfinite(scores[0])) << scores[0];
}

TEST(ActivationUnit, TheHistorysSideAgreesWithTheReference) {
  for (Activation activation : kActivations) {
    for (Interaction interaction : {Interaction::kOuter, Interaction::kHadamard}) {
      const UnitSemantics unit = Unit({17, 9, 5}, activation, interaction, activation == Activation::kDice);
      ASSERT_TRUE(KeySidePays(ActivationUnit(unit, 7, RandomUnit(unit, 7, 7).parameters()), 3, 120));
      ExpectAccurate(unit, 7, 3, false, 120);
    }
  }
  UnitSemantics unit = Unit({36}, Activation::kDice, Interaction::kOuter, true);
  unit.scale = 0.5f;
  for (int64_t length : {1, 2, 31, 50}) ExpectAccurate(unit, 33, length, false, 200, 2);
  ExpectAccurate(Unit({}, Activation::kRelu, Interaction::kHadamard, false), 5, 9, false, 100);
}

// Threads share the tiles of candidates, or where those are few, each tile's keys.
TEST(ActivationUnit, TheHistorysSideHasTheSameBitsOnAnyNumberOfThreads) {
  constexpr int64_t kDim = 7;
  for (Interaction interaction : {Interaction::kOuter, Interaction::kHadamard}) {
    for (bool softmax : {false, true}) {
      RandomUnit random(Unit({17, 9}, Activation::kSigmoid, interaction, softmax), kDim, 3);
      const ActivationUnit unit(random.semantics(), kDim, random.parameters());
      for (const auto& [length, candidates] : {std::pair{1, 200}, {7, 190}, {8, 130}, {16, 250}, {16, 2000}}) {
        ASSERT_TRUE(KeySidePays(unit, length, candidates)) << length;
        const std::vector<float> keys = random.Normal(length * kDim, 1), queries = random.Normal(candidates * kDim, 1);
        const std::vector<float> expected = PoolAll(random, keys, queries, {}, 1, true);
        for (int threads : {2, 3, 16}) {
          EXPECT_EQ(PoolAll(random, keys, queries, {}, threads, true), expected) << threads << " threads, " << length;
        }
      }
    }
  }
}

TEST(ActivationUnit, ScaleMultipliesTheWeight) {
  UnitSemantics semantics = Unit({5}, Activation::kTanh, Interaction::kOuter, true);
  semantics.scale = 0.25f;
  ExpectAccurate(semantics, 6, 50, false);
  semantics.hidden.clear();
  ExpectAccurate(semantics, 6, 50, false);
}

// Scores of several hundreds: without its maximum taken off, the softmax of such is that of equal ones, or NaN.
TEST(ActivationUnit, TheSoftmaxOfLargeScoresAgreesWithTheReferenceOnBothSides) {
  UnitSemantics unit = Unit({17, 9, 5}, Activation::kTanh, Interaction::kOuter, true);
  unit.scale = 300.0f;
  ExpectAccurate(unit, 7, 40, false);
  ASSERT_TRUE(KeySidePays(ActivationUnit(unit, 7, RandomUnit(unit, 7, 7).parameters()), 3, 120));
  ExpectAccurate(unit, 7, 3, false, 120);
}

TEST(ActivationUnit, SameBitsAloneInABatchAndOnAnyNumberOfThreads) {
  RandomUnit random(Unit({36, 11}, Activation::kDice, Interaction::kOuter, false), 19, 3);
  const std::vector<float> keys = random.Normal(333 * 19, 1);
  const std::vector<float> queries = random.Normal(53 * 19, 1);
  const std::vector<float> together = PoolAll(random, keys, queries, {});
  EXPECT_EQ(together, PoolAll(random, keys, queries, {}, 2));
  for (size_t q = 0; q < 53; ++q) {
    const auto begin = queries.begin() + static_cast<int64_t>(q) * 19;
    const std::vector<float> alone = PoolAll(random, keys, {begin, begin + 19}, {});
    EXPECT_EQ(0, std::memcmp(alone.data(), together.data() + q * 19, 19 * sizeof(float))) << q;
  }
}

TEST(ActivationUnit, SameBitsWhereThreadsShareOneLongHistory) {
  for (bool softmax : {false, true}) {
    RandomUnit random(Unit({12}, Activation::kSigmoid, Interaction::kHadamard, softmax), 5, 3);
    const std::vector<float> keys = random.Normal(5000 * 5, 1);
    const std::vector<float> query = random.Normal(5, 1);
    EXPECT_EQ(PoolAll(random, keys, query, {}), PoolAll(random, keys, query, {}, 3));
  }
}

// With 16 threads the 19 candidates with 9,000 keys are more than threads share at a time; with fewer, the last few
// are.
TEST(ActivationUnit, SameBitsWhereThreadsShareTheLongHistoriesOfABatch) {
  constexpr int64_t kDim = 5;
  for (Interaction interaction : {Interaction::kOuter, Interaction::kHadamard}) {
    for (bool softmax : {false, true}) {
      RandomUnit random(Unit({12}, Activation::kSigmoid, interaction, softmax), kDim, 3);
      const ActivationUnit unit(random.semantics(), kDim, random.parameters());
      const std::vector<int64_t> lengths = {20, 9000, 0, 3000, 9000, 17, 2000, 193, 500},
                                 candidates = {3, 1, 2, 0, 18, 40, 1, 25, 3};
      std::vector<FloatBuffer> tiles;
      std::vector<UnitKeys> histories;
      std::vector<int64_t> offsets = {0};
      for (size_t r = 0; r < lengths.size(); ++r) {
        tiles.push_back(Tiles(random.Normal(lengths[r] * kDim, 1), kDim));
        histories.push_back({tiles.back().data(), lengths[r], nullptr});
        offsets.push_back(offsets.back() + candidates[r]);
      }
      const std::vector<float> queries = random.Normal(offsets.back() * kDim, 1);
      UnitRunner runner;
      FoldCache cache(kDim, unit.folded_size(), 40);  // fewer than there are queries, so that some always miss
      const auto run = [&](int threads, FoldCache* folds) {
        std::vector<float> interests(queries.size(), std::numeric_limits<float>::quiet_NaN());
        Parallel parallel(threads);
        runner.Run(unit, nullptr, folds, {histories, offsets.data(), queries.data(), kDim, interests.data(), kDim},
                   parallel);
        return interests;
      };
      const std::vector<float> expected = run(1, nullptr);
      for (int threads : {2, 3, 8, 16}) {
        EXPECT_EQ(run(threads, nullptr), expected) << threads;
        for (int call = 0; call < 3; ++call) EXPECT_EQ(run(threads, &cache), expected) << threads;
      }
    }
  }
}

// Queries of several requests are folded together.
TEST(ActivationUnit, SameBitsWhereRequestsHaveFewCandidates) {
  constexpr int64_t kDim = 5, kRequests = 60;
  for (Interaction interaction : {Interaction::kOuter, Interaction::kHadamard}) {
    RandomUnit random(Unit({12}, Activation::kSigmoid, interaction, interaction == Interaction::kOuter), kDim, 3);
    const ActivationUnit unit(random.semantics(), kDim, random.parameters());
    std::vector<FloatBuffer> tiles;
    std::vector<UnitKeys> histories;
    std::vector<int64_t> offsets = {0};
    std::vector<float> queries, expected;
    for (int64_t r = 0; r < kRequests; ++r) {
      const int64_t length = r * 37 % 61, candidates = r * 7 % 4 + (r == 20 ? 30 : 0);
      const std::vector<float> keys = random.Normal(length * kDim, 1), own = random.Normal(candidates * kDim, 1);
      const std::vector<float> alone = PoolAll(random, keys, own, {});
      tiles.push_back(Tiles(keys, kDim));
      histories.push_back({tiles.back().data(), length, nullptr});
      offsets.push_back(offsets.back() + candidates);
      queries.insert(queries.end(), own.begin(), own.end());
      expected.insert(expected.end(), alone.begin(), alone.end());
    }
    FoldCache cache(kDim, unit.folded_size(), 20);
    for (int threads : {1, 2, 5}) {
      for (FoldCache* folds : {static_cast<FoldCache*>(nullptr), &cache, &cache, &cache}) {
        std::vector<float> interests(queries.size(), std::numeric_limits<float>::quiet_NaN());
        Parallel parallel(threads);
        UnitRunner().Run(unit, nullptr, folds,
                         {histories, offsets.data(), queries.data(), kDim, interests.data(), kDim}, parallel);
        EXPECT_EQ(interests, expected) << threads;
      }
    }
  }
}

TEST(ActivationUnit, SameBitsWithFoldsThatWereSeenBefore) {
  for (Interaction interaction : {Interaction::kOuter, Interaction::kHadamard}) {
    RandomUnit random(Unit({36, 11}, Activation::kDice, interaction, false), 19, 3);
    const ActivationUnit unit(random.semantics(), 19, random.parameters());
    const std::vector<float> keys = random.Normal(60 * 19, 1);
    const std::vector<float> queries = random.Normal(53 * 19, 1);
    const std::vector<float> cold = PoolAll(random, keys, queries, {});
    FoldCache cache(19, unit.folded_size(), 40);  // fewer than there are queries, so that some always miss
    for (int call = 0; call < 4; ++call) {
      EXPECT_EQ(PoolAll(random, keys, queries, {}, 1 + call % 2, false, &cache), cold) << call;
    }
    EXPECT_GT(cache.bytes(), static_cast<size_t>(unit.folded_size()) * 30 * sizeof(float));
  }
}

TEST(ActivationUnit, NaNStaysInItsRequestAndItsCandidate) {
  RandomUnit random(Unit({8}, Activation::kSigmoid, Interaction::kOuter, false), 5, 3);
  std::vector<float> keys = random.Normal(30 * 5, 1);
  std::vector<float> queries = random.Normal(10 * 5, 1);
  const std::vector<float> clean = PoolAll(random, keys, queries, {});
  queries[4 * 5 + 2] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> poisoned = PoolAll(random, keys, queries, {});
  for (size_t i = 0; i < clean.size(); ++i) {
    if (i / 5 == 4) {
      EXPECT_TRUE(std::isnan(poisoned[i])) << i;
    } else {
      EXPECT_EQ(poisoned[i], clean[i]) << i;
    }
  }
  keys[3] = std::numeric_limits<float>::quiet_NaN();
  for (float value : PoolAll(random, keys, queries, {})) EXPECT_TRUE(std::isnan(value));
}

TEST(ActivationUnit, AnEmptyHistoryGivesZeros) {
  for (bool softmax : {false, true}) {
    RandomUnit random(Unit({8}, Activation::kRelu, Interaction::kOuter, softmax), 5, 3);
    for (float value : PoolAll(random, {}, random.Normal(10, 1), {})) EXPECT_EQ(value, 0.0f);
  }
}

TEST(ActivationUnit, AnInterestHasTheSameBitsBesideAnyOthers) {
  for (bool softmax : {false, true}) {
    for (int64_t dim : {1, 7, 16}) {
      for (int64_t length : {1, 50, 250}) {
        RandomUnit random(Unit({5}, Activation::kSigmoid, Interaction::kOuter, softmax), dim, 3);
        const FloatBuffer tiles = Tiles(random.Normal(length * dim, 1), dim);
        const std::vector<float> queries = random.Normal(ActivationUnit::kGroup * dim, 1);
        const ActivationUnit unit(random.semantics(), dim, random.parameters());
        FloatBuffer folded(static_cast<size_t>(ActivationUnit::kGroup * unit.folded_size())), scratch(unit.scratch());
        unit.Fold(queries.data(), ActivationUnit::kGroup, folded.data(), scratch.data());
        std::vector<const float*> folds;
        for (int64_t q = 0; q < ActivationUnit::kGroup; ++q) folds.push_back(folded.data() + q * unit.folded_size());
        std::vector<float> counts(static_cast<size_t>(length), 1);
        for (int64_t t = 0; t < length; t += 3) counts[static_cast<size_t>(t)] = 2;
        for (const float* often : {static_cast<const float*>(nullptr), static_cast<const float*>(counts.data())}) {
          const UnitKeys keys{tiles.data(), length, often};
          const auto pool = [&](int64_t first, int64_t count) {
            const int64_t stride = dim + 1;
            std::vector<float> rows(static_cast<size_t>(count * stride)), interests;
            unit.Pool(folds.data() + first, count, keys, scratch.data(), rows.data(), stride);
            for (auto row = rows.begin(); row != rows.end(); row += stride) {
              EXPECT_EQ(row[dim], 0.0f);
              interests.insert(interests.end(), row, row + dim);
            }
            return interests;
          };
          std::vector<float> alone;
          for (int64_t q = 0; q < ActivationUnit::kGroup; ++q) {
            const std::vector<float> one = pool(q, 1);
            alone.insert(alone.end(), one.begin(), one.end());
          }
          for (int64_t count = 1; count <= ActivationUnit::kGroup; ++count) {
            ASSERT_EQ(pool(0, count), std::vector<float>(alone.begin(), alone.begin() + count * dim))
                << count << " queries, dim " << dim << ", length " << length;
          }
        }
      }
    }
  }
}

// A tile is scored in vectors of columns, and the last few columns in vectors of units.
TEST(ActivationUnit, AKeysScoreHasTheSameBitsInAnyPlaceOfAnyTile) {
  const int64_t tile = kernels::Kernels().tile;
  for (const std::vector<int64_t>& hidden :
       {std::vector<int64_t>{}, {1}, {3}, {8}, {36}, {47}, {80, 40}, {200, 80}, {5, 24, 7}}) {
    for (Activation activation : kActivations) {
      for (int64_t dim : {1, 6, 64}) {
        RandomUnit random(Unit(hidden, activation, Interaction::kHadamard, false), dim, 3);
        const ActivationUnit unit(random.semantics(), dim, random.parameters());
        std::vector<float> keys = random.Normal(tile * dim, 1);
        const std::vector<float> query = random.Normal(dim, 1);
        for (int64_t i = 0; i < dim; ++i) keys[static_cast<size_t>(tile / 2 * dim + i)] *= 1e4f;  // far out
        FloatBuffer folded(static_cast<size_t>(unit.folded_size())), scratch(unit.scratch());
        unit.Fold(query.data(), 1, folded.data(), scratch.data());
        const auto scores = [&](int64_t first, int64_t columns) {
          const FloatBuffer tiles = Tiles({keys.begin() + first * dim, keys.begin() + (first + columns) * dim}, dim);
          std::fill(scratch.begin(), scratch.end(), std::numeric_limits<float>::quiet_NaN());
          FloatBuffer found(static_cast<size_t>(tile));
          unit.Scores(folded.data(), tiles.data(), columns, scratch.data(), found.data());
          return std::vector<float>(found.begin(), found.begin() + columns);
        };
        const std::vector<float> all = scores(0, tile);
        for (int64_t columns = 1; columns < tile; ++columns) {
          const int64_t first = columns % 5 % (tile - columns + 1);
          ASSERT_EQ(scores(first, columns), std::vector<float>(all.begin() + first, all.begin() + first + columns))
              << "hidden layers: " << hidden.size() << ", activation " << static_cast<int>(activation) << ", dim "
              << dim << ", columns " << columns;
        }
      }
    }
  }
}

}  // namespace
}  // namespace din_infer
