#include "kernels/kernels.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/buffer.hpp"

namespace din_infer::kernels {
namespace {

TEST(Kernels, TheTargetInUseIsOneThatRunsHere) {
  const auto targets = Targets();
  EXPECT_NE(std::find(targets.begin(), targets.end(), Kernels().target), targets.end());
  EXPECT_EQ(kBlock % Kernels().tile, 0);
}

// Every exponent and both signs, with about a thousand values each. Absolute error: what the weights that it becomes
// see.
TEST(Kernels, SigmoidIsAccurateOverAllExponents) {
  FloatBuffer x(static_cast<size_t>(Kernels().tile));
  double worst = 0;
  for (uint32_t bits = 0; bits < 0x7f800000u; bits += 1021 * 7) {
    for (uint32_t sign : {0u, 0x80000000u}) {
      const uint32_t pattern = bits | sign;
      float value;
      std::memcpy(&value, &pattern, sizeof(value));
      std::fill(x.begin(), x.end(), value);
      Kernels().sigmoid(x.data());
      const double expected = 1 / (1 + std::exp(-static_cast<double>(value)));
      worst = std::max(worst, std::abs(x[0] - expected));
      ASSERT_NEAR(x[0], expected, 1.2e-7) << value;
      ASSERT_NEAR(x[0], expected, 1e-5 * expected + 1.2e-38) << value;  // 2^-126 stands for all that is smaller
    }
  }
  RecordProperty("worst_absolute_error", std::to_string(worst * 1e9) + "e-9");
}

TEST(Kernels, SigmoidOfNaNIsNaN) {
  FloatBuffer x(static_cast<size_t>(Kernels().tile), std::numeric_limits<float>::quiet_NaN());
  Kernels().sigmoid(x.data());
  for (float value : x) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace din_infer::kernels
