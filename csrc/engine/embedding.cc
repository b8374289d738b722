#include "engine/embedding.hpp"

#include <algorithm>
#include <numeric>

namespace din_infer {
namespace {

constexpr int64_t kBatch = 64;  // ids that are looked up before the first of their rows is read

}  // namespace

FeatureEmbedding FeatureEmbedding::Table(const RowMap* rows, const float* table, int64_t dim, Many many) {
  FeatureEmbedding feature;
  feature.rows_ = rows, feature.table_ = table, feature.width_ = dim, feature.many_ = many;
  return feature;
}

FeatureEmbedding FeatureEmbedding::Dense(float mean, float std) {
  FeatureEmbedding feature;
  feature.mean_ = mean, feature.std_ = std;
  return feature;
}

// The rows of the values from `first` on.
void FeatureEmbedding::FindRows(const Column& column, int64_t first, int64_t count, int64_t* rows,
                                int64_t& unknown) const {
  if (column.embedding_values != nullptr) return std::iota(rows, rows + count, first);
  if (column.string_offsets != nullptr) {
    const int64_t* offsets = column.string_offsets + first;
    for (int64_t i = 0; i < count; ++i) {
      rows[i] = rows_->Row({column.characters + offsets[i], static_cast<size_t>(offsets[i + 1] - offsets[i])});
    }
  } else {
    for (int64_t i = 0; i < count; ++i) rows[i] = rows_->Row(column.int64_values[first + i]);
  }
  if (rows_->has_default()) unknown += std::count(rows, rows + count, 0);
}

// use(value, row [width]) for each of the values in turn.
template <typename Use>
void FeatureEmbedding::EachRow(const Column& column, Range values, int64_t& unknown, const Use& use) const {
  const float* table = column.embedding_values != nullptr ? column.embedding_values : table_;
  int64_t rows[kBatch];
  for (int64_t first = values.begin; first < values.end; first += kBatch) {
    const int64_t count = std::min(kBatch, values.end - first);
    FindRows(column, first, count, rows, unknown);
    for (int64_t i = 0; i < count; ++i) use(first + i, table + rows[i] * width_);
  }
}

void FeatureEmbedding::Embed(const Column& column, Range at, const EmbeddingPlaces& to, int64_t& unknown) const {
  if (rows_ == nullptr) {
    for (int64_t i = 0; i < at.size(); ++i) *to.Of(i) = (column.float_values[at.begin + i] - mean_) / std_;
  } else if (many_ == Many::kNo) {
    EachRow(column, at, unknown, [&](int64_t value, const float* row) {
      float* out = to.Of(value - at.begin);
      for (int64_t i = 0; i < width_; ++i) out[i * to.stride] = row[i];
    });
  } else {
    Pool(column, at, to, unknown);
  }
}

// The sum or mean of each position's rows.
void FeatureEmbedding::Pool(const Column& column, Range at, const EmbeddingPlaces& to, int64_t& unknown) const {
  const int64_t* offsets = column.lists.back().data + at.begin;
  const auto each_float = [&](int64_t position, const auto& change) {
    float* out = to.Of(position);
    for (int64_t i = 0; i < width_; ++i) change(out[i * to.stride], i);
  };
  for (int64_t p = 0; p < at.size(); ++p) each_float(p, [](float& out, int64_t) { out = 0; });
  int64_t position = 0;
  EachRow(column, {offsets[0], offsets[at.size()]}, unknown, [&](int64_t value, const float* row) {
    while (value >= offsets[position + 1]) ++position;
    each_float(position, [&](float& out, int64_t i) { out += row[i]; });
  });
  if (many_ != Many::kMean) return;
  for (int64_t p = 0; p < at.size(); ++p) {
    const auto count = static_cast<float>(offsets[p + 1] - offsets[p]);
    if (count > 0) each_float(p, [&](float& out, int64_t) { out /= count; });
  }
}

void GroupEmbedding::Add(const FeatureEmbedding& feature) {
  features_.push_back(feature);
  begin_.push_back(width_);
  width_ += feature.width();
}

void GroupEmbedding::Embed(const GroupColumns& group, Range at, const EmbeddingPlaces& to, int64_t* unknown) const {
  for (size_t f = 0; f < features_.size(); ++f) {
    features_[f].Embed(*group.columns[f], at, {to.data + begin_[f] * to.stride, to.step, to.stride}, unknown[f]);
  }
}

}  // namespace din_infer
