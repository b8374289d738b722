// The activation unit with the fold on the history's side: T folds in place of N, and lanes are candidates. It is
// faster where histories are shorter than the list of candidates, and adds up in another order than the candidate's
// side.
#pragma once

#include <cstdint>

#include "base/bytes.hpp"
#include "engine/activation_unit.hpp"
#include "engine/batch.hpp"
#include "engine/parallel.hpp"

namespace din_infer {

// Longer histories would need much memory for their folded keys.
inline constexpr int64_t kKeySideLongest = 192;

// Whether the history's side takes clearly fewer multiply-adds for a history of `keys` and `queries` candidates.
bool KeySidePays(const ActivationUnit& unit, int64_t keys, int64_t queries);

class KeySideRunner {
 public:
  // Has memory for a history of so many keys and so many threads.
  void Reserve(const ActivationUnit& unit, int64_t keys, int threads);

  // One request: queries [count, dim] and interests, rows query_stride and interest_stride floats apart.
  // `unit` is ActivationUnit::ForKeys, the keys are in tiles and without counts, and there is at least one query and
  // one key.
  void Run(const ActivationUnit& unit, const UnitKeys& keys, const float* queries, int64_t query_stride, int64_t count,
           float* interests, int64_t interest_stride, Parallel& parallel);

  size_t Bytes() const { return BytesOfAll(rows_, folded_, panels_, scores_, scratch_); }

 private:
  struct Scratch {
    FloatBuffer unit, tile, scores, sums;

    size_t Bytes() const { return BytesOfAll(unit, tile, scores, sums); }
  };
  // A tile of candidates: their scores for some keys, [keys][tile]; what those of all keys give.
  void ScoreTile(const ActivationUnit& unit, Range keys, const float* queries, int64_t query_stride, int64_t columns,
                 Scratch& scratch, float* scores) const;
  void PoolTile(const ActivationUnit& unit, int64_t keys, float* scores, int64_t columns, float* interests,
                int64_t interest_stride, Scratch& scratch) const;

  FloatBuffer rows_, folded_, panels_;  // of the history: keys [T, dim], folded keys, keys in panels
  FloatBuffer scores_;                  // of all tiles, where threads share them
  std::vector<Scratch> scratch_;        // one per thread
};

}  // namespace din_infer
