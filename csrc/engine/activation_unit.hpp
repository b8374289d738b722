// The activation unit: weighs a history's keys by a query and adds them up, in one pass over tiles of keys.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/layers.hpp"
#include "engine/range.hpp"

namespace din_infer {

// A history's distinct keys: in tiles, packed once for all candidates of the request, or as rows, which are packed
// block by block where they are read, for the only candidate.
struct UnitKeys {
  const float* tiles = nullptr;
  int64_t count = 0;
  const float* counts = nullptr;  // [count], how often each key occurs; null: once
  const float* rows = nullptr;    // [count, dim], where there are no tiles
};

class ActivationUnit {
 public:
  // Queries that are folded and pooled together: fewer read the fold's weights and the keys from cache more often, more
  // leave L2.
  static constexpr int64_t kGroup = 16;

  ActivationUnit(const UnitSemantics& semantics, int64_t dim, const LayerParameters& parameters);

  int64_t dim() const { return dim_; }
  int64_t folded_size() const { return bias_at_ + WholeTiles(units_); }  // floats of one folded query
  size_t scratch() const;                                                // floats, for Fold and for Pool
  size_t bytes() const;

  // Specialises the first layer to each of `count` queries [count, dim]: folded [count, folded_size]. `parts` threads
  // do it together, each one of the parts.
  void Fold(const float* queries, int64_t count, float* folded, float* scratch, int64_t part = 0,
            int64_t parts = 1) const;

  // The user interests [queries, dim], `stride` floats apart, that the history's keys give under up to kGroup folded
  // queries; zeros for an empty history.
  void Pool(const float* const* folded, int64_t queries, const UnitKeys& keys, float* scratch, float* interests,
            int64_t stride) const;

  // The same where score(block, its range of keys, scores) writes a block's scores, [queries][kBlock].
  template <class Score>
  void PoolScored(int64_t queries, const UnitKeys& keys, const Score& score, float* scratch, float* interests,
                  int64_t stride) const;

  // Pool in parts: the results of blocks [0, Blocks(keys)), each [dim] floats and a Partial, in any order and on
  // any thread, then Join, which adds them up in their order. The bits are those of Pool.
  static int64_t Blocks(const UnitKeys& keys) { return (keys.count + kernels::kBlock - 1) / kernels::kBlock; }
  kernels::Partial PoolBlock(const float* folded, const UnitKeys& keys, int64_t block, float* scratch,
                             float* interest) const;
  void Join(const kernels::Partial* partials, const float* block_interests, int64_t blocks, float* interest) const;

  // The same unit with the sides swapped: it folds keys, [dim] each, and scores tiles of queries. For histories that
  // are shorter than there are candidates; the sums run in another order, so the bits differ.
  static ActivationUnit ForKeys(const UnitSemantics& semantics, int64_t dim, const LayerParameters& parameters);

  // s = scale * a of one folded row and `columns` of the other side, in a tile [dim][tile] -> scores [tile].
  void Scores(const float* folded, const float* tile, int64_t columns, float* scratch, float* scores) const;

  bool softmax() const { return softmax_; }
  int64_t FoldWork() const;                                // multiply-adds of one fold
  int64_t ScoreWork() const;                               // multiply-adds of the score of one pair of key and query
  int64_t PairWork() const { return ScoreWork() + dim_; }  // with its share of the pooling
  // Of `folds`, each paired with `others` of the other side.
  int64_t Work(int64_t folds, int64_t others) const { return folds * (FoldWork() + others * PairWork()); }

 private:
  ActivationUnit(const UnitSemantics& semantics, int64_t dim, const ScaledParameters& scaled);
  static Range BlockRange(const UnitKeys& keys, int64_t block) {
    return {block * kernels::kBlock, std::min((block + 1) * kernels::kBlock, keys.count)};
  }
  // With room for the tiles of kBlock rows.
  kernels::BlockKeys Block(const UnitKeys& keys, Range range, float* room) const;
  void ScoreBlock(const float* folded, const kernels::BlockKeys& block, float* scratch, float* scores) const;
  void Finish(const kernels::Partial& total, float* interest) const;  // divides by softmax's sum

  int64_t dim_, units_;  // units: of the first layer, 1 where it is the output
  bool softmax_;
  int64_t bias_at_;  // place of the biases in a folded query; they are the space that panels need at their end
  Interaction interaction_;
  PackedLayers layers_;
  PackedAffine fold_;              // outer: the whole folded query; hadamard: its biases
  FloatBuffer constant_, scaled_;  // hadamard: A = constant + q_i scaled, in panels
};

template <class Score>
void ActivationUnit::PoolScored(int64_t queries, const UnitKeys& keys, const Score& score, float* scratch,
                                float* interests, int64_t stride) const {
  float* room = scratch;
  float* scores = room + kernels::kBlock * dim_;
  float* block_interests = scores + kGroup * kernels::kBlock;
  kernels::Partial totals[kGroup], partials[kGroup];
  for (int64_t q = 0; q < queries; ++q) {
    totals[q] = {-INFINITY, 0};
    std::fill_n(interests + q * stride, dim_, 0.0f);
  }
  for (int64_t block = 0; block < Blocks(keys); ++block) {
    const Range range = BlockRange(keys, block);
    const kernels::BlockKeys block_keys = Block(keys, range, room);
    score(block_keys, range, scores);
    kernels::Kernels().pool(block_keys, softmax_, queries, scores, partials, block_interests);
    for (int64_t q = 0; q < queries; ++q) {
      kernels::Kernels().merge(dim_, softmax_, partials[q], block_interests + q * dim_, &totals[q],
                               interests + q * stride);
    }
  }
  for (int64_t q = 0; q < queries; ++q) Finish(totals[q], interests + q * stride);
}

}  // namespace din_infer
