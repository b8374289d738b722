#include "kernels/kernels.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cfenv>
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

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Finite numbers of every exponent and both signs, about a thousand each.
std::vector<float> AllExponents() {
  std::vector<float> values;
  for (uint32_t bits = 0; bits < 0x7f800000u; bits += 1021 * 7) {
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    values.insert(values.end(), {value, -value});
  }
  return values;
}

// The spacing of floats at a number.
double Ulp(double number) { return std::ldexp(1, std::ilogb(std::max(std::abs(number), 0x1p-126)) - 23); }

// An activation alone, with Dice's parameters; `columns` at a time.
class OneUnit {
 public:
  explicit OneUnit(Activation activation, float alpha = 0, float mean = 0, double var = 1)
      : alpha_(kWidestVector, alpha),
        rest_(kWidestVector, 1 - alpha),
        mean_(kWidestVector, mean),
        power_(kWidestVector, static_cast<float>(kSigmoidPower / std::sqrt(var))) {
    if (activation == Activation::kSigmoid) weight_.assign(kWidestVector, static_cast<float>(kSigmoidPower));
    layer_ = {1, 1, weight_.data(), zero_.data(), activation, alpha_.data(), mean_.data(), power_.data(), rest_.data()};
  }

  std::vector<float> operator()(const std::vector<float>& x, size_t columns) const {
    const Layers layers{&layer_, 1, 1, one_.data(), zero_.data()};
    const size_t tile = static_cast<size_t>(Kernels().tile);
    FloatBuffer column(tile), out(tile), scratch(2 * kWidestVector * tile);
    std::vector<float> y;
    for (size_t i = 0; i < x.size(); i += columns) {
      const size_t count = std::min(columns, x.size() - i);
      std::copy_n(x.begin() + static_cast<int64_t>(i), count, column.begin());
      Kernels().run_layers(layers, 1, weight_.data(), zero_.data(), column.data(), static_cast<int64_t>(count),
                           scratch.data(), out.data());
      y.insert(y.end(), out.begin(), out.begin() + static_cast<int64_t>(count));
    }
    return y;
  }
  std::vector<float> operator()(const std::vector<float>& x) const {
    return (*this)(x, static_cast<size_t>(Kernels().tile));
  }

 private:
  FloatBuffer one_ = FloatBuffer(kWidestVector, 1), zero_ = FloatBuffer(kWidestVector), weight_ = one_;
  FloatBuffer alpha_, rest_, mean_, power_;
  Layer layer_;
};

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Absolute error: what the weights that it becomes see. It is 2 ulp of numbers from 1/2 to 1.
TEST(Kernels, SigmoidIsAccurateOverAllExponents) {
  const std::vector<float> x = AllExponents(), y = OneUnit(Activation::kSigmoid)(x);
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = Sigmoid(x[i]);
    ASSERT_NEAR(y[i], expected, 1.2e-7) << x[i];
    ASSERT_NEAR(y[i], expected, 1e-5 * expected + 1.2e-38) << x[i];  // 2^-126 stands for all that is smaller
  }
  FloatBuffer probabilities(x.begin(), x.begin() + Kernels().tile);
  Kernels().sigmoid(probabilities.data());
  EXPECT_TRUE(std::equal(probabilities.begin(), probabilities.end(), y.begin()));
}

TEST(Kernels, TanhIsWithin3UlpOverAllExponents) {
  const std::vector<float> x = AllExponents();
  for (const auto& [activation, factor] : {std::pair{Activation::kTanh, 1.0}, {Activation::kBiSigmoid, 0.5}}) {
    const std::vector<float> y = OneUnit(activation)(x);
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = std::tanh(factor * x[i]);
      ASSERT_NEAR(y[i], expected, 3 * Ulp(expected)) << x[i];
    }
  }
}

TEST(Kernels, DiceIsAccurateOverAllExponents) {
  const std::vector<float> x = AllExponents();
  for (const auto& [alpha, mean, var] : {std::array{0.0f, 0.0f, 1.0f},
                                         {0.3f, 0.5f, 2.0f},
                                         {-0.25f, 0.0f, 1e-8f},
                                         {1.5f, -100.0f, 1e-4f},
                                         {0.1f, 1e6f, 1.0f},
                                         {0.1f, 1.0f, 1e30f}}) {
    const std::vector<float> y = OneUnit(Activation::kDice, alpha, mean, var)(x);
    for (size_t i = 0; i < x.size(); ++i) {
      const double s = x[i], p = Sigmoid((s - mean) / std::sqrt(static_cast<double>(var)));
      const double expected = p * s + (1 - p) * alpha * s;
      if (std::abs(expected) > std::numeric_limits<float>::max()) continue;
      const double summands = (std::abs(alpha) + std::abs(1 - alpha)) * std::abs(s);
      ASSERT_NEAR(y[i], expected, 0x1p-22 * summands + 0x1p-149) << s << " with alpha " << alpha << ", mean " << mean;
    }
  }
}

// With AVX-512 a power out of range makes a tile run again. Alone, a column is scored with units as lanes.
TEST(Kernels, PowersOutOfRangeHaveTheirBitsAndLeaveThoseBesideThem) {
  const size_t tile = static_cast<size_t>(Kernels().tile);
  std::vector<float> usual(tile);
  for (size_t i = 0; i < tile; ++i) usual[i] = -87.336f + 3.2f * static_cast<float>(i);
  for (Activation activation : {Activation::kSigmoid, Activation::kDice}) {
    const OneUnit unit(activation);
    const std::vector<float> expected = unit(usual);
    for (int rounding : {FE_TONEAREST, FE_DOWNWARD}) {
      for (float number : {-87.4f, -200.0f, -1e30f}) {
        for (size_t at = 0; at < tile; at += 7) {
          std::vector<float> beside = usual;
          beside[at] = number;
          std::fesetround(rounding);
          std::vector<float> found = unit(beside), around = unit(usual);
          const float alone = unit({number}, 1)[0];
          std::fesetround(FE_TONEAREST);
          EXPECT_EQ(found[at], alone) << number << " at " << at;
          found[at] = around[at];
          EXPECT_EQ(found, around) << number << " at " << at;
          if (rounding == FE_TONEAREST) {
            EXPECT_EQ(found, expected);
          }
        }
      }
    }
  }
}

// In the softmax, relative to the largest score: a first one of 0.
TEST(Kernels, ExpIsWithin2UlpOverAllExponents) {
  std::vector<float> x = AllExponents();
  x.erase(std::remove_if(x.begin(), x.end(), [](float value) { return value > 0; }), x.end());
  FloatBuffer scores(kBlock), tiles(kBlock), interest(1);
  for (size_t i = 0; i < x.size(); i += kBlock - 1) {
    const size_t count = std::min<size_t>(kBlock - 1, x.size() - i);
    scores[0] = 0;
    std::copy_n(x.begin() + static_cast<int64_t>(i), count, scores.begin() + 1);
    Partial partial{};
    Kernels().pool({tiles.data(), 1, static_cast<int64_t>(count + 1), nullptr}, true, 1, scores.data(), &partial,
                   interest.data());
    for (size_t t = 0; t < count; ++t) {
      const double expected = std::exp(std::max<double>(x[i + t], -87));  // e^-87 stands for all that is smaller
      ASSERT_NEAR(scores[t + 1], expected, 2 * Ulp(expected)) << x[i + t];
    }
  }
}

// Alone, too, where units are lanes.
TEST(Kernels, NaNStaysNaNAndInfinityHasItsLimitInEveryActivation) {
  const auto expect = [](Activation activation, float at_most, float at_least) {
    for (const size_t columns : {size_t{1}, static_cast<size_t>(Kernels().tile)}) {
      std::vector<float> x(columns, kNaN);
      const OneUnit unit(activation, 0.25f);
      for (const float y : unit(x, columns)) EXPECT_TRUE(std::isnan(y)) << static_cast<int>(activation);
      std::fill(x.begin(), x.end(), -kInfinity);
      for (const float y : unit(x, columns)) EXPECT_FLOAT_EQ(y, at_most) << static_cast<int>(activation);
      std::fill(x.begin(), x.end(), kInfinity);
      for (const float y : unit(x, columns)) EXPECT_EQ(y, at_least) << static_cast<int>(activation);
    }
  };
  expect(Activation::kSigmoid, std::exp2(-0x1.f7fffep6f), 1);  // its power's bound
  expect(Activation::kTanh, -1, 1);
  expect(Activation::kBiSigmoid, -1, 1);
  expect(Activation::kRelu, 0, kInfinity);
  expect(Activation::kPRelu, -kInfinity, kInfinity);
  expect(Activation::kDice, -kInfinity, kInfinity);
}

// Columns that are packed by vectors and fours where they can be; nothing is written beside them.
TEST(Kernels, RowsBecomeColumnsFromAnyPlaceOn) {
  const int64_t tile = Kernels().tile;
  for (const int64_t width : {0, 1, 3, 4, 7, 8, 17}) {
    for (const int64_t first : {int64_t{0}, int64_t{1}, int64_t{4}, tile / 3, tile - 1, tile, tile + 2}) {
      for (const int64_t count :
           {int64_t{0}, int64_t{1}, int64_t{3}, int64_t{4}, int64_t{6}, tile / 3, tile / 3 + 5, tile, 2 * tile + 5}) {
        const int64_t stride = width + 1, columns = (first + count + tile) / tile * tile;
        std::vector<float> rows(static_cast<size_t>(count * stride + 1));
        std::iota(rows.begin(), rows.end(), 1.0f);
        FloatBuffer tiles(static_cast<size_t>(columns * width + 1), -1.0f), expected = tiles;
        for (int64_t c = 0; c < count; ++c) {
          for (int64_t i = 0; i < width; ++i) {
            const int64_t at = (first + c) / tile * tile * width + i * tile + (first + c) % tile;
            expected[static_cast<size_t>(at)] = rows[static_cast<size_t>(1 + c * stride + i)];
          }
        }
        Kernels().pack_columns(rows.data() + 1, stride, count, width, tiles.data(), first);
        ASSERT_EQ(tiles, expected) << "width " << width << ", first " << first << ", count " << count;
      }
    }
  }
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

}  // namespace
}  // namespace din_infer::kernels
