#include "kernels/peak.hpp"

#include <gtest/gtest.h>

namespace din_infer::kernels {
namespace {

// No core has done less for decades, none does more for years to come: guards against chains that the compiler left
// out.
TEST(Peak, IsWhatACoreCanDo) {
  const double gflops = FmaGflops(0.01);
  EXPECT_GT(gflops, 0.05);
  EXPECT_LT(gflops, 2000);
}

}  // namespace
}  // namespace din_infer::kernels
