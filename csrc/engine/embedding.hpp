// From a column's values to embedded features.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/batch.hpp"
#include "engine/vocabulary.hpp"

namespace din_infer {

// One feature of a schema: rows of a table or of the caller's, pooled where it is multi-valued, or a standardised
// number.
class FeatureEmbedding {
 public:
  static FeatureEmbedding Table(const RowMap* rows, const float* table, int64_t dim, Many many);
  static FeatureEmbedding Dense(float mean, float std);

  int64_t width() const { return width_; }

  // Embeds the column's position `at`: width() floats, `stride` apart. Adds to `unknown` the ids that got the default
  // row.
  void Embed(const Column& column, int64_t at, float* out, int64_t stride, int64_t& unknown) const;

 private:
  const float* Row(const Column& column, int64_t value, int64_t& unknown) const;

  const RowMap* rows_ = nullptr;
  const float* table_ = nullptr;
  int64_t width_ = 1;
  Many many_ = Many::kNo;
  float mean_ = 0, std_ = 1;
};

// All features of a group, side by side.
class GroupEmbedding {
 public:
  void Add(const FeatureEmbedding& feature);

  int64_t width() const { return width_; }
  int64_t Begin(size_t feature) const { return begin_[feature]; }  // where a feature's floats start

  // `unknown` has a count per feature.
  void Embed(const GroupColumns& group, int64_t at, float* out, int64_t stride, int64_t* unknown) const;

 private:
  std::vector<FeatureEmbedding> features_;
  std::vector<int64_t> begin_;
  int64_t width_ = 0;
};

}  // namespace din_infer
