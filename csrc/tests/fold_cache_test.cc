#include "engine/fold_cache.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "engine/row_hash.hpp"

namespace din_infer {
namespace {

constexpr int64_t kDim = 3, kFolded = 5;

std::vector<float> Query(int id) { return {static_cast<float>(id), 0.5f, -1}; }
std::vector<float> Folded(int id) { return std::vector<float>(kFolded, 10.0f * static_cast<float>(id)); }

void Offer(FoldCache& cache, int id) {
  cache.Offer(Query(id).data(), HashRow(Query(id).data(), kDim), Folded(id).data());
}

FoldCache::Folded Find(const FoldCache& cache, int id) {
  return cache.Find(Query(id).data(), HashRow(Query(id).data(), kDim));
}

void ExpectFound(const FoldCache& cache, int id) {
  const FoldCache::Folded found = Find(cache, id);
  ASSERT_NE(found, nullptr) << id;
  EXPECT_EQ(std::vector<float>(found->folded.begin(), found->folded.end()), Folded(id));
}

TEST(FoldCache, KeepsAQueryThatComesAgain) {
  FoldCache cache(kDim, kFolded, 16);
  EXPECT_EQ(Find(cache, 1), nullptr);
  Offer(cache, 1);
  EXPECT_EQ(Find(cache, 1), nullptr);
  Offer(cache, 1);
  ExpectFound(cache, 1);
  EXPECT_EQ(Find(cache, 2), nullptr);
}

TEST(FoldCache, TellsQueriesApartWhoseHashesAreEqual) {
  FoldCache cache(kDim, kFolded, 16);
  for (int i = 0; i < 2; ++i) cache.Offer(Query(1).data(), 7, Folded(1).data());
  EXPECT_NE(cache.Find(Query(1).data(), 7), nullptr);
  EXPECT_EQ(cache.Find(Query(2).data(), 7), nullptr);
  for (int i = 0; i < 2; ++i) cache.Offer(Query(2).data(), 7, Folded(2).data());
  EXPECT_EQ(cache.Find(Query(2).data(), 7), nullptr);
}

TEST(FoldCache, StaysWithinItsCapacityAndKeepsWhatIsAskedFor) {
  FoldCache cache(kDim, kFolded, 64);
  const size_t empty = cache.bytes();
  Offer(cache, 0), Offer(cache, 0);
  const size_t one = cache.bytes() - empty;
  for (int id = 1; id < 1000; ++id) {
    Offer(cache, id), Offer(cache, id);
    ExpectFound(cache, 0);
  }
  EXPECT_LE(cache.bytes(), empty + 64 * one);
  EXPECT_GT(cache.bytes(), empty + 32 * one);
}

TEST(FoldCache, StaysWithinAnyCapacity) {
  for (const size_t capacity : {1, 3, 15, 16, 17, 40}) {
    FoldCache cache(kDim, kFolded, static_cast<int64_t>(capacity)), other(kDim, kFolded, 1);
    const size_t empty = cache.bytes(), other_empty = other.bytes();
    Offer(other, 0), Offer(other, 0);
    const size_t one = other.bytes() - other_empty;
    for (int id = 0; id < 500; ++id) Offer(cache, id), Offer(cache, id);
    EXPECT_LE(cache.bytes(), empty + capacity * one);
    EXPECT_GE(cache.bytes(), empty + (capacity + 1) / 2 * one);
  }
}

// How many of the queries [begin, end) in turn are found in the last of `rounds` rounds.
int FoundInTurn(FoldCache& cache, int begin, int end, int rounds) {
  int found = 0;
  for (int round = 0; round < rounds; ++round) {
    found = 0;
    for (int id = begin; id < end; ++id) {
      if (Find(cache, id) != nullptr) {
        ++found;
      } else {
        Offer(cache, id);
      }
    }
  }
  return found;
}

TEST(FoldCache, KeepsAllThatComeInTurnWhereThereIsRoom) {
  FoldCache cache(kDim, kFolded, 800);
  EXPECT_EQ(FoundInTurn(cache, 0, 500, 3), 500);
}

TEST(FoldCache, KeepsMostEntriesWhereMoreComeInTurn) {
  for (const int ids : {1000, 1500, 2000}) {
    FoldCache cache(kDim, kFolded, 800);
    EXPECT_GT(FoundInTurn(cache, 0, ids, 12), 700) << ids;
  }
}

TEST(FoldCache, ForgetsWhatIsNoLongerAskedFor) {
  FoldCache cache(kDim, kFolded, 800);
  FoundInTurn(cache, 0, 500, 3);
  EXPECT_GT(FoundInTurn(cache, 500, 1200, 12), 650);
}

TEST(FoldCache, AFoldInUseOutlivesItsPlace) {
  FoldCache cache(kDim, kFolded, 1);
  Offer(cache, 0), Offer(cache, 0);
  const FoldCache::Folded held = Find(cache, 0);
  for (int id = 1; id < 500; ++id) Offer(cache, id), Offer(cache, id);
  EXPECT_EQ(Find(cache, 0), nullptr);
  EXPECT_EQ(std::vector<float>(held->folded.begin(), held->folded.end()), Folded(0));
}

TEST(FoldCache, WithoutCapacityKeepsNothing) {
  FoldCache cache(kDim, kFolded, 0);
  for (int i = 0; i < 3; ++i) Offer(cache, 1);
  EXPECT_EQ(Find(cache, 1), nullptr);
}

TEST(FoldCache, ServesManyThreads) {
  FoldCache cache(kDim, kFolded, 32);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&cache, t] {
      for (int i = 0; i < 5000; ++i) {
        const int id = (i * (t + 1)) % 60;
        const FoldCache::Folded found = Find(cache, id);
        if (found == nullptr) {
          Offer(cache, id);
        } else {
          ASSERT_EQ(found->folded[kFolded - 1], 10.0f * static_cast<float>(id));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace din_infer
