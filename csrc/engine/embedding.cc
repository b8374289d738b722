#include "engine/embedding.hpp"

#include <string_view>

namespace din_infer {

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

const float* FeatureEmbedding::Row(const Column& column, int64_t value, int64_t& unknown) const {
  if (column.embedding_values != nullptr) return column.embedding_values + value * width_;
  int64_t row = 0;
  if (column.string_offsets != nullptr) {
    const int64_t begin = column.string_offsets[value];
    const size_t length = static_cast<size_t>(column.string_offsets[value + 1] - begin);
    row = rows_->Row(std::string_view(column.characters + begin, length));
  } else {
    row = rows_->Row(column.int64_values[value]);
  }
  if (row == 0 && rows_->has_default()) ++unknown;
  return table_ + row * width_;
}

void FeatureEmbedding::Embed(const Column& column, int64_t at, float* out, int64_t stride, int64_t& unknown) const {
  if (rows_ == nullptr) {
    *out = (column.float_values[at] - mean_) / std_;
    return;
  }
  if (many_ == Many::kNo) {
    const float* row = Row(column, at, unknown);
    for (int64_t i = 0; i < width_; ++i) out[i * stride] = row[i];
    return;
  }
  const Offsets& values = column.lists.back();
  const int64_t begin = values.data[at], end = values.data[at + 1];
  for (int64_t i = 0; i < width_; ++i) out[i * stride] = 0;
  for (int64_t value = begin; value < end; ++value) {
    const float* row = Row(column, value, unknown);
    for (int64_t i = 0; i < width_; ++i) out[i * stride] += row[i];
  }
  if (many_ == Many::kMean && end > begin) {
    for (int64_t i = 0; i < width_; ++i) out[i * stride] /= static_cast<float>(end - begin);
  }
}

void GroupEmbedding::Add(const FeatureEmbedding& feature) {
  features_.push_back(feature);
  begin_.push_back(width_);
  width_ += feature.width();
}

void GroupEmbedding::Embed(const GroupColumns& group, int64_t at, float* out, int64_t stride, int64_t* unknown) const {
  for (size_t f = 0; f < features_.size(); ++f) {
    features_[f].Embed(*group.columns[f], at, out + begin_[f] * stride, stride, unknown[f]);
  }
}

}  // namespace din_infer
