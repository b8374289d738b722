// Embedded columns against a look-up by hand in float64: tables of each type, odd widths, pooled or not.
#include "engine/embedding.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "onnx/tensor.hpp"

namespace din_infer {
namespace {

constexpr int64_t kRows = 40;

// A table of random numbers in a type's own form, at a place that is aligned for one byte alone where it is int8.
struct StoredRows {
  StoredRows(DType dtype, int64_t dim) : dim(dim), floats(kRows * dim), halves(kRows * dim), levels(kRows * dim + 1) {
    std::mt19937 random(static_cast<unsigned>(dim));
    std::normal_distribution<float> normal;
    for (float& value : floats) value = normal(random);
    // float16 of all exponents but those of infinity
    for (uint16_t& value : halves) value = static_cast<uint16_t>(random() % 0x7C00 | (random() % 2) << 15);
    for (int8_t& level : levels) level = static_cast<int8_t>(random());
    for (int64_t i = 0; i < 2 * kRows; ++i) ranges.push_back(normal(random));
    ranges[2 * 3] = 0;  // a row that is all the same
    ranges[2 * 4] = ranges[2 * 4 + 1] = 0;
    table = {dtype, floats.data(), nullptr};
    if (dtype == DType::kFloat16) table.rows = halves.data();
    if (dtype == DType::kInt8) table.rows = levels.data() + 1, table.ranges = ranges.data();
  }

  double At(int64_t row, int64_t column) const {
    const auto at = static_cast<size_t>(row * dim + column), range = static_cast<size_t>(2 * row);
    if (table.dtype == DType::kFloat32) return floats[at];
    if (table.dtype == DType::kInt8) return static_cast<double>(ranges[range]) * levels[at + 1] + ranges[range + 1];
    const int exponent = halves[at] >> 10 & 31, mantissa = halves[at] & 1023;
    const double magnitude = std::ldexp(exponent == 0 ? mantissa : 1024 + mantissa, std::max(exponent, 1) - 25);
    return halves[at] >> 15 == 0 ? magnitude : -magnitude;
  }

  int64_t dim;
  std::vector<float> floats;
  std::vector<uint16_t> halves;
  std::vector<int8_t> levels;
  std::vector<float> ranges;
  StoredTable table;
};

class Embedding : public ::testing::TestWithParam<DType> {
 protected:
  // Ids -1 and 39 are unknown: their row is 0.
  Embedding()
      : rows_(
            [] {
              Table table;
              table.ids = Ids::kIdentity;
              table.size = kRows - 1;
              return table;
            }(),
            Vocabulary()) {
    std::mt19937 random(1);
    for (size_t i = 0; i < 200; ++i) ids_.push_back(static_cast<int64_t>(random() % (kRows + 1)) - 1);
  }

  int64_t RowOf(int64_t value) const {
    const int64_t id = ids_[static_cast<size_t>(value)];
    return id < 0 || id >= kRows - 1 ? 0 : id + 1;
  }

  RowMap rows_;
  std::vector<int64_t> ids_;
};

TEST_P(Embedding, IsTheRowsOfItsIds) {
  for (const int64_t dim : {1, 2, 3, 7, 16, 17, 63, 64, 65, 130}) {
    const StoredRows stored(GetParam(), dim);
    const FeatureEmbedding feature = FeatureEmbedding::Table(&rows_, stored.table, dim, Many::kNo);
    const Column column = Column::int64s(ids_.data(), static_cast<int64_t>(ids_.size()));
    for (const Range at : {Range{0, 200}, Range{3, 4}, Range{5, 5}, Range{7, 72}}) {
      const int64_t step = dim + 3;
      std::vector<float> out(static_cast<size_t>(200 * step), -7.0f);
      int64_t unknown = 0, expected_unknown = 0, written = 0;
      feature.Embed(column, at, {out.data(), step}, unknown);
      for (int64_t p = 0; p < at.size(); ++p) {
        expected_unknown += RowOf(at.begin + p) == 0;
        for (int64_t i = 0; i < dim; ++i) {
          const double expected = stored.At(RowOf(at.begin + p), i);
          ASSERT_NEAR(out[static_cast<size_t>(p * step + i)], expected, 3e-7 * (128 + std::abs(expected)));
        }
      }
      for (const float value : out) written += value != -7.0f;
      EXPECT_EQ(written, at.size() * dim);
      EXPECT_EQ(unknown, expected_unknown);
    }
  }
}

TEST_P(Embedding, OfSeveralIdsIsTheirSumOrMean) {
  for (const int64_t dim : {1, 5, 64, 130}) {
    const StoredRows stored(GetParam(), dim);
    const std::vector<int64_t> offsets = {0, 0, 1, 4, 4, 100, 199, 200};
    Column column = Column::int64s(ids_.data(), static_cast<int64_t>(ids_.size()));
    column.lists.push_back({offsets.data(), static_cast<int64_t>(offsets.size())});
    for (const Many many : {Many::kSum, Many::kMean}) {
      const FeatureEmbedding feature = FeatureEmbedding::Table(&rows_, stored.table, dim, many);
      for (const Range at : {Range{0, 7}, Range{3, 4}, Range{4, 6}}) {
        std::vector<float> out(static_cast<size_t>(7 * dim), -7.0f);
        int64_t unknown = 0;
        feature.Embed(column, at, {out.data(), dim}, unknown);
        for (int64_t p = 0; p < at.size(); ++p) {
          const int64_t begin = offsets[static_cast<size_t>(at.begin + p)];
          const int64_t end = offsets[static_cast<size_t>(at.begin + p) + 1];
          for (int64_t i = 0; i < dim; ++i) {
            double sum = 0, magnitude = 128;
            for (int64_t v = begin; v < end; ++v) sum += stored.At(RowOf(v), i), magnitude += std::abs(sum);
            const double expected = many == Many::kMean && end > begin ? sum / static_cast<double>(end - begin) : sum;
            ASSERT_NEAR(out[static_cast<size_t>(p * dim + i)], expected, 3e-7 * magnitude);
          }
        }
      }
    }
  }
}

// Rows of the caller's are float32, whatever the model's are.
TEST_P(Embedding, OfTheCallerStandsAsItIs) {
  const int64_t dim = 3;
  const StoredRows stored(GetParam(), dim);
  const FeatureEmbedding feature = FeatureEmbedding::Table(&rows_, stored.table, dim, Many::kNo);
  const std::vector<float> given = {1, 2, 3, 4, 5, 6};
  std::vector<float> out(6);
  int64_t unknown = 0;
  feature.Embed(Column::embeddings(given.data(), 2, dim), {0, 2}, {out.data(), dim}, unknown);
  EXPECT_EQ(out, given);
}

INSTANTIATE_TEST_SUITE_P(DTypes, Embedding, ::testing::Values(DType::kFloat32, DType::kFloat16, DType::kInt8),
                         [](const auto& dtype) { return std::string(onnx::TypeName(dtype.param)); });

}  // namespace
}  // namespace din_infer
