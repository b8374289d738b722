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

// Every exponent and both signs, with a few thousand values each.
TEST(Kernels, SigmoidIsAccurateOverAllExponents) {
  FloatBuffer x(static_cast<size_t>(Kernels().tile));
  double worst = 0;
  for (uint32_t bits = 0; bits < 0x7f800000u; bits += 1021 * 7) {
    for (uint32_t sign : {0u, 0x80000000u}) {
      const uint32_t pattern = bits | sign;
      float value;
      std::memcpy(&value, &pattern, sizeof(value));
      std::fill(x.begin(), x.end(), value);
      Kernels().sigmoid(x.data(), Kernels().tile);
      const double expected = 1 / (1 + std::exp(-static_cast<double>(value)));
      const double ulp = std::max(std::ldexp(1.0, std::ilogb(std::max(expected, 1e-37)) - 23), 1e-44);
      ASSERT_NEAR(x[0], expected, 3 * ulp + 1.7e-38) << value;  // e^-87 stands for all that is smaller
      worst = std::max(worst, (std::abs(x[0] - expected) - 1.7e-38) / ulp);
    }
  }
  RecordProperty("worst_ulp", std::to_string(worst));
}

TEST(Kernels, SigmoidOfNaNIsNaN) {
  FloatBuffer x(static_cast<size_t>(Kernels().tile), std::numeric_limits<float>::quiet_NaN());
  Kernels().sigmoid(x.data(), Kernels().tile);
  for (float value : x) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace din_infer::kernels
