#include "engine/key_side.hpp"

#include <algorithm>

namespace din_infer {

using kernels::Kernels;

namespace {

// Tasks of each thread, so that threads finish together.
constexpr int64_t kTasks = 2;

// Keys that a tile of candidates is scored for at a time, at least: to pack it takes a tenth of what one key does.
constexpr int64_t kFewestKeys = 4;

}  // namespace

bool KeySidePays(const ActivationUnit& unit, int64_t keys, int64_t queries) {
  if (keys == 0 || keys > kKeySideLongest) return false;
  const int64_t candidate_side = unit.Work(queries, WholeTiles(keys));
  const int64_t key_side = unit.Work(keys, WholeTiles(queries));
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

void KeySideRunner::Run(const ActivationUnit& unit, const UnitKeys& keys, const float* queries, int64_t query_stride,
                        int64_t count, float* interests, int64_t interest_stride, Parallel& parallel) {
  const int64_t dim = unit.dim(), tile = Kernels().tile;
  Reserve(unit, keys.count, parallel.threads());
  float *rows = rows_.data(), *transposed = panels_.data() + keys.count * dim;
  for (int64_t t = 0; t < keys.count; ++t) {
    const float* column = keys.tiles + ColumnPlace(t, dim);
    for (int64_t i = 0; i < dim; ++i) rows[t * dim + i] = transposed[i * keys.count + t] = column[i * tile];
  }
  Kernels().pack_weights(transposed, keys.count, keys.count, dim, panels_.data());
  const int64_t tasks = parallel.threads() == 1 ? 1 : kTasks * parallel.threads();
  parallel.For(tasks, [&](int64_t part, int slot) {
    const StepTimer timer = parallel.Time(slot, Step::kFold);
    unit.Fold(rows, keys.count, folded_.data(), scratch_[static_cast<size_t>(slot)].unit.data(), part, tasks);
  });
  const int64_t tiles = (count + tile - 1) / tile;
  const auto score = [&](int64_t item, Range some, Scratch& scratch, float* scores) {
    const int64_t first = item * tile;
    ScoreTile(unit, some, queries + first * query_stride, query_stride, std::min(tile, count - first), scratch, scores);
  };
  const auto pool = [&](int64_t item, float* scores, Scratch& scratch) {
    const int64_t first = item * tile;
    PoolTile(unit, keys.count, scores, std::min(tile, count - first), interests + first * interest_stride,
             interest_stride, scratch);
  };
  if (tiles >= tasks || keys.count < 2 * kFewestKeys) {
    parallel.For(tiles, [&](int64_t item, int slot) {
      const StepTimer timer = parallel.Time(slot, Step::kUnit);
      Scratch& scratch = scratch_[static_cast<size_t>(slot)];
      score(item, {0, keys.count}, scratch, scratch.scores.data());
      pool(item, scratch.scores.data(), scratch);
    });
    return;
  }
  const int64_t parts = std::min((tasks + tiles - 1) / tiles, keys.count / kFewestKeys);
  float* scores = din_infer::Reserve(scores_, static_cast<size_t>(tiles * keys.count * tile));
  parallel.For(tiles * parts, [&](int64_t item, int slot) {
    const StepTimer timer = parallel.Time(slot, Step::kUnit);
    const int64_t part = item % parts, in_order = item / parts;
    const Range some{part * keys.count / parts, (part + 1) * keys.count / parts};
    score(in_order, some, scratch_[static_cast<size_t>(slot)], scores + (in_order * keys.count + some.begin) * tile);
  });
  parallel.For(tiles, [&](int64_t item, int slot) {
    const StepTimer timer = parallel.Time(slot, Step::kUnit);
    pool(item, scores + item * keys.count * tile, scratch_[static_cast<size_t>(slot)]);
  });
}

void KeySideRunner::ScoreTile(const ActivationUnit& unit, Range keys, const float* queries, int64_t query_stride,
                              int64_t columns, Scratch& scratch, float* scores) const {
  PackTiles(queries, query_stride, columns, unit.dim(), scratch.tile.data());
  for (int64_t t = keys.begin; t < keys.end; ++t, scores += Kernels().tile) {
    unit.Scores(folded_.data() + t * unit.folded_size(), scratch.tile.data(), columns, scratch.unit.data(), scores);
  }
}

void KeySideRunner::PoolTile(const ActivationUnit& unit, int64_t keys, float* scores, int64_t columns, float* interests,
                             int64_t interest_stride, Scratch& scratch) const {
  const int64_t dim = unit.dim(), tile = Kernels().tile;
  float* sums = scratch.sums.data();
  if (unit.softmax()) Kernels().softmax_columns(scores, keys);
  Kernels().weighted_sums(panels_.data(), keys, dim, scores, sums);
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t i = 0; i < dim; ++i) interests[c * interest_stride + i] = sums[i * tile + c];
  }
}

}  // namespace din_infer
