#include "engine/embedding.hpp"

#include <algorithm>
#include <numeric>

#include "kernels/kernels.hpp"
#include "onnx/tensor.hpp"

namespace din_infer {
namespace {

constexpr int64_t kBatch = 64;  // ids that are looked up before the first of their rows is read
constexpr int64_t kPiece = 64;  // numbers of a row that are converted at a time

}  // namespace

FeatureEmbedding FeatureEmbedding::Table(const RowMap* rows, const StoredTable& table, int64_t dim, Many many) {
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
    rows_->Rows(column.characters, column.string_offsets + first, count, rows);
  } else {
    rows_->Rows(column.int64_values + first, count, rows);
  }
  if (rows_->has_default()) unknown += std::count(rows, rows + count, 0);
}

// All of a batch's rows are on their way from memory before the first of them is read.
void FeatureEmbedding::Prefetch(const StoredTable& table, const int64_t* rows, int64_t count) const {
  constexpr int64_t kLine = 64;
  const int64_t bytes = width_ * static_cast<int64_t>(onnx::ItemBytes(table.dtype));
  const char* begin = static_cast<const char*>(table.rows);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(begin + rows[i] * bytes + at);
    if (table.ranges != nullptr) __builtin_prefetch(table.ranges + 2 * rows[i]);
  }
}

// use(which, floats) for a row, piece by piece.
template <typename Use>
void FeatureEmbedding::Read(const StoredTable& table, int64_t row, const Use& use) const {
  const int64_t at = row * width_;
  if (table.dtype == DType::kFloat32) return use(Range{0, width_}, static_cast<const float*>(table.rows) + at);
  const kernels::KernelTable& kernel = kernels::Kernels();
  alignas(kernels::kAlignment) float floats[kPiece];
  for (int64_t begin = 0; begin < width_; begin += kPiece) {
    const int64_t count = std::min(kPiece, width_ - begin);
    if (table.dtype == DType::kFloat16) {
      kernel.from_float16(static_cast<const uint16_t*>(table.rows) + at + begin, count, floats);
    } else {
      const float* range = table.ranges + 2 * row;
      kernel.from_int8(static_cast<const int8_t*>(table.rows) + at + begin, count, range[0], range[1], floats);
    }
    use(Range{begin, begin + count}, floats);
  }
}

// use(value, which, floats) for each of the values in turn, as Read gives their rows.
template <typename Use>
void FeatureEmbedding::EachRow(const Column& column, Range values, int64_t& unknown, const Use& use) const {
  const bool given = column.embedding_values != nullptr;
  const StoredTable table = given ? StoredTable{DType::kFloat32, column.embedding_values, nullptr} : table_;
  int64_t rows[kBatch];
  for (int64_t first = values.begin; first < values.end; first += kBatch) {
    const int64_t count = std::min(kBatch, values.end - first);
    FindRows(column, first, count, rows, unknown);
    Prefetch(table, rows, count);
    for (int64_t i = 0; i < count; ++i) {
      Read(table, rows[i], [&](Range which, const float* floats) { use(first + i, which, floats); });
    }
  }
}

void FeatureEmbedding::Embed(const Column& column, Range at, const EmbeddingPlaces& to, int64_t& unknown) const {
  if (rows_ == nullptr) {
    for (int64_t i = 0; i < at.size(); ++i) *to.Of(i) = (column.float_values[at.begin + i] - mean_) / std_;
  } else if (many_ == Many::kNo) {
    EachRow(column, at, unknown, [&](int64_t value, Range which, const float* floats) {
      std::copy_n(floats, which.size(), to.Of(value - at.begin) + which.begin);
    });
  } else {
    Pool(column, at, to, unknown);
  }
}

// The sum or mean of each position's rows.
void FeatureEmbedding::Pool(const Column& column, Range at, const EmbeddingPlaces& to, int64_t& unknown) const {
  const int64_t* offsets = column.lists.back().data + at.begin;
  const auto each_float = [&](int64_t position, Range which, const auto& change) {
    float* out = to.Of(position) + which.begin;
    for (int64_t i = 0; i < which.size(); ++i) change(out[i], i);
  };
  const Range whole = {0, width_};
  for (int64_t p = 0; p < at.size(); ++p) each_float(p, whole, [](float& out, int64_t) { out = 0; });
  int64_t position = 0;
  EachRow(column, {offsets[0], offsets[at.size()]}, unknown, [&](int64_t value, Range which, const float* floats) {
    while (value >= offsets[position + 1]) ++position;
    each_float(position, which, [&](float& out, int64_t i) { out += floats[i]; });
  });
  if (many_ != Many::kMean) return;
  for (int64_t p = 0; p < at.size(); ++p) {
    const auto count = static_cast<float>(offsets[p + 1] - offsets[p]);
    if (count > 0) each_float(p, whole, [&](float& out, int64_t) { out /= count; });
  }
}

void GroupEmbedding::Add(const FeatureEmbedding& feature) {
  features_.push_back(feature);
  begin_.push_back(width_);
  width_ += feature.width();
}

void GroupEmbedding::Embed(const GroupColumns& group, Range at, const EmbeddingPlaces& to, int64_t* unknown) const {
  for (size_t f = 0; f < features_.size(); ++f) {
    features_[f].Embed(*group.columns[f], at, {to.data + begin_[f], to.step}, unknown[f]);
  }
}

}  // namespace din_infer
