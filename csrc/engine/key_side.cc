#include "engine/key_side.hpp"

#include <algorithm>

namespace din_infer {

using kernels::Kernels;

bool KeySidePays(const ActivationUnit& unit, int64_t keys, int64_t queries) {
  if (keys == 0 || keys > kKeySideLongest) return false;
  const int64_t candidate_side = queries * (unit.FoldWork() + WholeTiles(keys) * unit.PairWork());
  const int64_t key_side = keys * (unit.FoldWork() + WholeTiles(queries) * unit.PairWork());
  return key_side < candidate_side - candidate_side / 10;
}

void KeySideRunner::Reserve(const ActivationUnit& unit, int64_t keys, int threads) {
  const int64_t dim = unit.dim(), tile = Kernels().tile;
  din_infer::Reserve(rows_, static_cast<size_t>(keys * dim));
  din_infer::Reserve(panels_, static_cast<size_t>(2 * keys * dim));
  din_infer::Reserve(folded_, static_cast<size_t>(keys * unit.folded_size()));
  GrowTo(scratch_, static_cast<size_t>(threads));
  for (Scratch& scratch : scratch_) {
    din_infer::Reserve(scratch.unit, unit.scratch());
    din_infer::Reserve(scratch.tile, static_cast<size_t>(dim * tile));
    din_infer::Reserve(scratch.scores, static_cast<size_t>(keys * tile));
    din_infer::Reserve(scratch.sums, static_cast<size_t>(dim * tile));
  }
}

void KeySideRunner::Run(const ActivationUnit& unit, const PackedKeys& keys, const float* queries, int64_t query_stride,
                        int64_t count, float* interests, int64_t interest_stride, Parallel& parallel) {
  const int64_t dim = unit.dim(), tile = Kernels().tile;
  Reserve(unit, keys.count, parallel.threads());
  float *rows = rows_.data(), *folded = folded_.data(), *transposed = panels_.data() + keys.count * dim;
  for (int64_t t = 0; t < keys.count; ++t) {
    const float* column = keys.tiles + ColumnPlace(t, dim);
    for (int64_t i = 0; i < dim; ++i) rows[t * dim + i] = transposed[i * keys.count + t] = column[i * tile];
  }
  Kernels().pack_weights(transposed, keys.count, keys.count, dim, panels_.data());
  constexpr int64_t kGroup = ActivationUnit::kGroup;
  parallel.For((keys.count + kGroup - 1) / kGroup, [&](int64_t group, int slot) {
    const int64_t first = group * kGroup;
    const StepTimer timer = parallel.Time(slot, Step::kFold);
    unit.Fold(rows + first * dim, std::min(kGroup, keys.count - first), folded + first * unit.folded_size(),
              scratch_[static_cast<size_t>(slot)].unit.data());
  });
  parallel.For((count + tile - 1) / tile, [&](int64_t item, int slot) {
    const int64_t first = item * tile;
    const StepTimer timer = parallel.Time(slot, Step::kUnit);
    RunTile(unit, keys.count, queries + first * query_stride, query_stride, std::min(tile, count - first),
            interests + first * interest_stride, interest_stride, scratch_[static_cast<size_t>(slot)]);
  });
}

void KeySideRunner::RunTile(const ActivationUnit& unit, int64_t keys, const float* queries, int64_t query_stride,
                            int64_t columns, float* interests, int64_t interest_stride, Scratch& scratch) const {
  const int64_t dim = unit.dim(), tile = Kernels().tile;
  float* scores = scratch.scores.data();
  float* sums = scratch.sums.data();
  PackTiles(queries, query_stride, columns, dim, scratch.tile.data());
  for (int64_t t = 0; t < keys; ++t) {
    unit.Scores(folded_.data() + t * unit.folded_size(), scratch.tile.data(), columns, scratch.unit.data(),
                scores + t * tile);
  }
  if (unit.softmax()) Kernels().softmax_columns(scores, keys);
  Kernels().weighted_sums(panels_.data(), keys, dim, scores, sums);
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t i = 0; i < dim; ++i) interests[c * interest_stride + i] = sums[i * tile + c];
  }
}

}  // namespace din_infer
