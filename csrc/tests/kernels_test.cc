#include "kernels/kernels.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

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

// What a float16 number stands for.
double Float16(uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31);
  const double mantissa = bits & 1023;
  const double magnitude = exponent == 31  ? (mantissa == 0 ? INFINITY : NAN)
                           : exponent == 0 ? std::ldexp(mantissa, -24)
                                           : std::ldexp(1024 + mantissa, exponent - 25);
  return bits >> 15 == 0 ? magnitude : -magnitude;
}

TEST(Kernels, EveryFloat16IsConvertedExactly) {
  std::vector<uint16_t> values(1 << 16);
  std::iota(values.begin(), values.end(), uint16_t{0});
  std::vector<float> found(values.size());
  Kernels().from_float16(values.data(), static_cast<int64_t>(values.size()), found.data());
  for (size_t i = 0; i < values.size(); ++i) {
    const double expected = Float16(values[i]);
    ASSERT_EQ(std::signbit(found[i]), std::signbit(expected)) << i;
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(found[i])) << i;
    } else {
      ASSERT_EQ(found[i], expected) << i;
    }
  }
}

TEST(Kernels, EveryInt8LevelIsScaledAndMoved) {
  std::vector<int8_t> levels(256);
  std::iota(levels.begin(), levels.end(), std::numeric_limits<int8_t>::min());
  std::vector<float> found(levels.size());
  const float largest = std::numeric_limits<float>::max() / 128;
  for (const auto& [scale, offset] :
       {std::pair{0.0f, 0.0f}, {0.0f, 3.25f}, {1e-3f, -0.7f}, {0.1f, 1e6f}, {1e-45f, 0.0f}, {largest, 0.0f}}) {
    Kernels().from_int8(levels.data(), 256, scale, offset, found.data());
    for (size_t i = 0; i < levels.size(); ++i) {
      const double scaled = static_cast<double>(scale) * levels[i];
      // Two roundings on targets that have no fused multiply-add.
      const double tolerance = (std::abs(scaled) + std::abs(offset)) * 0x1p-23;
      ASSERT_NEAR(found[i], scaled + offset, tolerance) << scale << " * " << static_cast<int>(levels[i]);
    }
  }
}

// Of any number, at any place: with the bits of one by one, and nothing written behind.
TEST(Kernels, StoredNumbersMayLieAnywhere) {
  std::vector<uint16_t> halves(100);
  std::vector<int8_t> levels(100);
  for (size_t i = 0; i < 100; ++i) halves[i] = static_cast<uint16_t>(i * 577), levels[i] = static_cast<int8_t>(i * 7);
  for (int64_t place = 0; place < 5; ++place) {
    for (int64_t count = 0; count < 90; ++count) {
      std::vector<float> out(100, -1), one(1);
      for (const bool of_halves : {true, false}) {
        const auto convert = [&](int64_t at, int64_t many, float* to) {
          if (of_halves) return Kernels().from_float16(halves.data() + at, many, to);
          Kernels().from_int8(levels.data() + at, many, 0.3f, 0.1f, to);
        };
        convert(place, count, out.data() + place);
        for (int64_t i = 0; i < count; ++i) {
          convert(place + i, 1, one.data());
          ASSERT_EQ(std::memcmp(&out[static_cast<size_t>(place + i)], one.data(), sizeof(float)), 0) << count;
        }
        ASSERT_EQ(out[static_cast<size_t>(place + count)], -1) << count;
      }
    }
  }
}

TEST(Kernels, SigmoidOfNaNIsNaN) {
  FloatBuffer x(static_cast<size_t>(Kernels().tile), std::numeric_limits<float>::quiet_NaN());
  Kernels().sigmoid(x.data());
  for (float value : x) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace din_infer::kernels
