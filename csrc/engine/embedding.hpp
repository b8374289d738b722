// From a column's values to embedded features.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/batch.hpp"
#include "engine/vocabulary.hpp"

namespace din_infer {

// Where positions one after another are embedded, `step` floats apart.
struct EmbeddingPlaces {
  float* data;
  int64_t step;

  float* Of(int64_t position) const { return data + position * step; }
};

// The rows of an embedding table: float32, float16, or int8 with a scale and an offset for each row.
struct StoredTable {
  DType dtype = DType::kFloat32;
  const void* rows = nullptr;
  const float* ranges = nullptr;  // [rows][2], of int8
};

// One feature of a schema: rows of a table or of the caller's, pooled where it is multi-valued, or a standardised
// number.
class FeatureEmbedding {
 public:
  static FeatureEmbedding Table(const RowMap* rows, const StoredTable& table, int64_t dim, Many many);
  static FeatureEmbedding Dense(float mean, float std);

  int64_t width() const { return width_; }

  // Embeds the column's positions `at`, width() floats each. Adds to `unknown` the ids that got the default row.
  void Embed(const Column& column, Range at, const EmbeddingPlaces& to, int64_t& unknown) const;

 private:
  void FindRows(const Column& column, int64_t first, int64_t count, int64_t* rows, int64_t& unknown) const;
  void Prefetch(const StoredTable& table, const int64_t* rows, int64_t count) const;
  template <typename Use>
  void Read(const StoredTable& table, int64_t row, const Use& use) const;
  template <typename Use>
  void EachRow(const Column& column, Range values, int64_t& unknown, const Use& use) const;
  void Pool(const Column& column, Range at, const EmbeddingPlaces& to, int64_t& unknown) const;

  const RowMap* rows_ = nullptr;
  StoredTable table_;
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
  void Embed(const GroupColumns& group, Range at, const EmbeddingPlaces& to, int64_t* unknown) const;

 private:
  std::vector<FeatureEmbedding> features_;
  std::vector<int64_t> begin_;
  int64_t width_ = 0;
};

}  // namespace din_infer
