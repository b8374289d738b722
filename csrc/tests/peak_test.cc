#include "kernels/peak.hpp"

#include <gtest/gtest.h>

namespace din_infer::kernels {
namespace {

using Clock = std::chrono::steady_clock;

// No core has done less for decades, none does more for years to come: guards against chains that the compiler left
// out.
TEST(Peak, IsWhatACoreCanDo) {
  const double gflops = FmaOperations(Clock::now() + std::chrono::milliseconds(10)) / 0.01 / 1e9;
  EXPECT_GT(gflops, 0.05);
  EXPECT_LT(gflops, 2000);
}

TEST(Peak, IsNothingWhereTheTimeIsOver) { EXPECT_EQ(FmaOperations(Clock::now()), 0); }

}  // namespace
}  // namespace din_infer::kernels
