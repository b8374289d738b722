// A model ready to score: what Scorer reads, immutable.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "din_infer/din_infer.hpp"
#include "engine/activation_unit.hpp"
#include "engine/embedding.hpp"
#include "engine/fold_cache.hpp"
#include "engine/tower.hpp"
#include "onnx/model_file.hpp"

namespace din_infer {

struct HistoryPart {
  const History* schema = nullptr;
  GroupEmbedding keys;
  int64_t own_begin = 0;       // of the pooled vector among what the tower reads of a candidate
  std::vector<int64_t> query;  // [D]: place in the candidate's embedding, or -1 for zero
  std::optional<ActivationUnit> unit,
      key_side;                      // folded on the candidate's and on the history's side; none in the base model
  std::unique_ptr<FoldCache> folds;  // of unit; none where a fold costs less than to remember it

  // The query [D] of a candidate's embedding.
  void CopyQuery(const float* embedded, float* out) const {
    for (const int64_t column : query) *out++ = column < 0 ? 0 : embedded[column];
  }
};

// Throws ModelFileError for numbers that no training gives and that would make every score NaN. Tables may hold NaN: it
// stays in the scores of its row.
void CheckParameters(const ModelFile& file);

struct Model::Parts {
  explicit Parts(ModelFile model_file);
  static Model Of(ModelFile model_file) { return Model(std::make_shared<Parts>(std::move(model_file))); }
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;

  size_t MemoryBytes() const;
  size_t HistoryIndex(const std::string& name) const;  // throws InputError

  ModelFile file;
  std::vector<RowMap> rows;  // one per table
  GroupEmbedding user, context, candidate;
  std::vector<HistoryPart> histories;
  std::optional<Tower> tower;

  // Ids that got a default row, in all scoring so far: per feature, group after group as Schema::Groups gives them.
  mutable std::vector<std::atomic<int64_t>> unknown;
  void CountUnknown(const std::vector<int64_t>& ids) const;  // adds as many, per feature

  mutable std::atomic<int64_t> work_request{0}, work_done{0};  // of Model::multiply_adds
};

}  // namespace din_infer
