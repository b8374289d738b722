// The activation unit: weighs a history's keys by a query and adds them up, in one pass over tiles of keys.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/layers.hpp"

namespace din_infer {

// A history's distinct keys in tiles, packed once per request for all its candidates.
struct PackedKeys {
  const float* tiles = nullptr;
  int64_t count = 0;
  const float* counts = nullptr;  // [count], how often each key occurs; null: once
};

class ActivationUnit {
 public:
  ActivationUnit(const UnitSemantics& semantics, int64_t dim, const LayerParameters& parameters);

  int64_t dim() const { return dim_; }
  int64_t folded_size() const { return bias_at_ + WholeTiles(units_); }  // floats of one folded query
  size_t scratch() const;                                                // floats, for Fold and for Pool
  size_t bytes() const;

  // Specialises the first layer to each of `count` queries [count, dim]: folded [count, folded_size]. `parts` threads
  // do it together, each one of the parts.
  void Fold(const float* queries, int64_t count, float* folded, float* scratch, int64_t part = 0,
            int64_t parts = 1) const;

  // The user interest [dim] that the history's keys give under one folded query; zeros for an empty history.
  void Pool(const float* folded, const PackedKeys& keys, float* scratch, float* interest) const;

  // The same where the keys' scores [whole tiles] are known; they are overwritten.
  void PoolScores(float* scores, const PackedKeys& keys, float* scratch, float* interest) const;

  // Pool in parts: the results of blocks [0, Blocks(keys)), each [dim] floats and a Partial, in any order and on
  // any thread, then Join, which adds them up in their order. The bits are those of Pool.
  static int64_t Blocks(const PackedKeys& keys) { return (keys.count + kernels::kBlock - 1) / kernels::kBlock; }
  kernels::Partial PoolBlock(const float* folded, const PackedKeys& keys, int64_t block, float* scratch,
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

 private:
  ActivationUnit(const UnitSemantics& semantics, int64_t dim, const ScaledParameters& scaled);
  kernels::Partial PoolScoredBlock(float* scores, const PackedKeys& keys, int64_t block, float* interest) const;
  template <class PoolOne>  // (block, interest) -> Partial
  void PoolBlocks(const PackedKeys& keys, const PoolOne& pool_one, float* block_interest, float* interest) const;
  void Finish(const kernels::Partial& total, float* interest) const;  // divides by softmax's sum

  int64_t dim_, units_;  // units: of the first layer, 1 where it is the output
  bool softmax_;
  int64_t bias_at_;  // place of the biases in a folded query; they are the space that panels need at their end
  Interaction interaction_;
  PackedLayers layers_;
  PackedAffine fold_;              // outer: the whole folded query; hadamard: its biases
  FloatBuffer constant_, scaled_;  // hadamard: A = constant + q_i scaled, in panels
};

}  // namespace din_infer
