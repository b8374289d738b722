#include <algorithm>
#include <cmath>
#include <string>

#include "engine/batch.hpp"
#include "engine/key_tiles.hpp"
#include "engine/looked_up.hpp"
#include "engine/model.hpp"

namespace din_infer {
namespace {

// Writes the weights of one history's behaviours, request by request.
class Weigher {
 public:
  Weigher(const Model::Parts& parts, size_t history)
      : parts_(parts), part_(parts.histories[history]), history_(history) {
    if (part_.unit.has_value()) {
      folded_.resize(static_cast<size_t>(part_.unit->folded_size()));
      scratch_.resize(part_.unit->scratch());
    }
  }

  // weights [candidates, behaviours given], which are zeros.
  void Weigh(const CheckedBatch& batch, int64_t request, float* weights) {
    const GroupColumns& behaviours = batch.histories[history_];
    const Range given = behaviours.Of(request), kept = Kept(*part_.schema, given);
    const Range candidates = batch.candidate.Of(request);
    if (kept.size() == 0 || candidates.size() == 0) return;
    if (part_.unit.has_value()) Pack(behaviours, kept);
    weights += kept.begin - given.begin;
    for (int64_t c = candidates.begin; c < candidates.end; ++c, weights += given.size()) {
      if (part_.unit.has_value()) {
        WeighOne(batch, c, kept.size(), weights);
      } else {
        const bool mean = parts_.file.semantics.pooling == Pooling::kMean;
        std::fill(weights, weights + kept.size(), mean ? 1.0f / static_cast<float>(kept.size()) : 1.0f);
      }
    }
  }

 private:
  void Pack(const GroupColumns& behaviours, Range kept) {
    const int64_t dim = part_.keys.width();
    unknown_.assign(behaviours.columns.size(), 0);
    float* tiles = Reserve(tiles_, static_cast<size_t>(WholeTiles(kept.size()) * dim));
    float* scratch = Reserve(rows_, static_cast<size_t>(KeyTiles::Scratch(dim)));
    KeyTiles(part_.keys, tiles).Embed(behaviours, kept, 0, scratch, unknown_.data());
    FillTiles(kept.size(), dim, tiles);
    Reserve(scores_, static_cast<size_t>(WholeTiles(kept.size())));
  }

  void WeighOne(const CheckedBatch& batch, int64_t candidate, int64_t count, float* weights) {
    const ActivationUnit& unit = *part_.unit;
    const int64_t dim = part_.keys.width(), tile = kernels::Kernels().tile;
    unknown_.assign(batch.candidate.columns.size(), 0);
    float* embedded = Reserve(rows_, static_cast<size_t>(parts_.candidate.width() + dim));
    float* query = embedded + parts_.candidate.width();
    parts_.candidate.Embed(batch.candidate, {candidate, candidate + 1}, {embedded, 0}, unknown_.data());
    part_.CopyQuery(embedded, query);
    unit.Fold(query, 1, folded_.data(), scratch_.data());
    for (int64_t t = 0; t < count; t += tile) {
      unit.Scores(folded_.data(), tiles_.data() + t * dim, std::min(tile, count - t), scratch_.data(),
                  scores_.data() + t);
    }
    std::copy(scores_.data(), scores_.data() + count, weights);
    if (unit.softmax()) Softmax(weights, count);
  }

  static void Softmax(float* weights, int64_t count) {
    const float most = *std::max_element(weights, weights + count);
    double sum = 0;
    for (int64_t t = 0; t < count; ++t) sum += std::exp(static_cast<double>(weights[t]) - most);
    for (int64_t t = 0; t < count; ++t) {
      weights[t] = static_cast<float>(std::exp(static_cast<double>(weights[t]) - most) / sum);
    }
  }

  const Model::Parts& parts_;
  const HistoryPart& part_;
  size_t history_;
  FloatBuffer rows_, tiles_, folded_, scratch_, scores_;
  std::vector<int64_t> unknown_;  // counted by nobody: explaining is not scoring
};

}  // namespace

std::vector<float> explain(const Model& model, const Batch& batch, const std::string& history) {
  const Model::Parts& parts = model.parts();
  CheckedBatch checked(parts.file.schema, batch);
  const size_t index = parts.HistoryIndex(history);
  LookedUpRows looked_up;
  looked_up.Replace(parts.file.schema, checked);
  const auto size = [&](int64_t r) { return checked.candidate.Of(r).size() * checked.histories[index].Of(r).size(); };
  int64_t total = 0;
  for (int64_t r = 0; r < checked.requests; ++r) total += size(r);
  std::vector<float> weights(static_cast<size_t>(total));
  Weigher weigher(parts, index);
  float* out = weights.data();
  for (int64_t r = 0; r < checked.requests; out += size(r), ++r) weigher.Weigh(checked, r, out);
  return weights;
}

}  // namespace din_infer
