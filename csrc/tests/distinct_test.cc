#include "engine/distinct.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace din_infer {
namespace {

// Request r has the rows r to r + 9, and 0 twice.
std::vector<int64_t> Items(int64_t request) {
  std::vector<int64_t> items = {0, 0};
  for (int64_t i = 0; i < 10; ++i) items.push_back(request + i);
  return items;
}

TEST(Distinct, FindsTheSameRowsAndKeepsOneLimitWhateverTheThreads) {
  constexpr int64_t kRequests = 200, kItems = 12, kDistinct = 209;
  std::vector<int64_t> offsets;
  for (int64_t r = 0; r <= kRequests; ++r) offsets.push_back(r * kItems);
  const auto row = [](int64_t request, int64_t item, int, float* out) {
    const int64_t value = Items(request)[static_cast<size_t>(item)];
    out[0] = static_cast<float>(value), out[1] = static_cast<float>(value % 7), out[2] = 1;
  };
  for (const int threads : {1, 2, 3, 16}) {
    Parallel parallel(threads);
    Distinct distinct(3, threads);
    EXPECT_FALSE(distinct.Find(offsets, row, kDistinct - 1, parallel));
    ASSERT_TRUE(distinct.Find(offsets, row, kDistinct, parallel));
    ASSERT_EQ(distinct.size(), kDistinct);
    EXPECT_EQ(distinct.Row(0)[0], 0);  // the most frequent
    EXPECT_EQ(distinct.Occurrences(0), 2 * kRequests + 1);
    for (int64_t r = 0; r < kRequests; ++r) {
      for (int64_t i = 0; i < kItems; ++i) {
        const float* found = distinct.Row(*distinct.Numbers(r * kItems + i));
        EXPECT_EQ(found[0], static_cast<float>(Items(r)[static_cast<size_t>(i)]));
      }
    }
  }
}

}  // namespace
}  // namespace din_infer
