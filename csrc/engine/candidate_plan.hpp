// Scores a wave candidate by candidate. A behaviour's weight depends on its own features and the candidate's, not on
// the user, so it is computed once for all requests that have both; each request then gathers the weights of its
// behaviours and pools them. Candidates that come too seldom for that are scored where they come, each over the whole
// history of its request. The bits are those of RequestPlan.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/distinct.hpp"
#include "engine/needed_keys.hpp"
#include "engine/wave.hpp"

namespace din_infer {

class CandidatePlan {
 public:
  CandidatePlan(const Model::Parts& parts, int threads);

  // Memory that a request takes at most in a wave, apart from distinct candidates.
  static int64_t Bytes(const Model::Parts& parts, const CheckedBatch& batch, int64_t request);

  // Finds what is distinct in a wave, which candidates share weights, and what scoring it would take: report.chosen is
  // what Score takes. False where the candidates have too little in common for the memory that the distinct ones may
  // take.
  bool Prepare(Wave& wave, bool auto_fold, Parallel& parallel, PlanReport& report);

  // Whether Score is the faster way to score the wave that was prepared.
  bool Pays(const PlanReport& report) const { return estimate_ < report.request; }

  // Of the distinct candidates those, the most frequent, that are weighed once for all their requests.
  int64_t shared() const { return shared_; }

  // The wave that was prepared; scores [wave.Candidates()].
  void Score(const Wave& wave, Parallel& parallel, float* scores);

  size_t Bytes() const {
    return BytesOfAll(offsets_, candidates_, keys_, begins_, by_candidate_, by_request_, next_, tiles_, work_,
                      scratch_);
  }

 private:
  // Candidates whose weights lie side by side: what one thread scores at a time.
  static constexpr int64_t kGroup = ActivationUnit::kGroup;

  struct Pair {
    int32_t request, candidate;
  };
  struct Tile {  // some of a request's candidates, at most as many as a tile has columns
    int64_t request;
    Range places;  // in by_request_
  };
  struct Work {  // multiply-adds of one candidate's activation units in all its requests
    int64_t shared = 0, alone = 0;
  };
  struct Keys {
    Distinct distinct;
    std::vector<int64_t> offsets;  // of each request's behaviours
    FloatBuffer tiles;             // the distinct ones
    FloatBuffer weights;           // [groups of a chunk][distinct][kGroup]

    size_t Bytes() const { return BytesOfAll(distinct, offsets, tiles, weights); }
  };
  struct Scratch {
    NeededKeys needed;  // by the candidate at hand
    FloatBuffer queries, folded, unit, tile, scores, own, tower;
    std::vector<int32_t> waiting;  // keys in `tile`

    size_t Bytes() const { return BytesOfAll(needed, queries, folded, unit, tile, scores, own, tower, waiting); }
  };

  void FindKeys(const Wave& wave, size_t history, Parallel& parallel);
  void SortPairs(const Wave& wave);
  void AddUnit(const Wave& wave, size_t history, bool auto_fold, Parallel& parallel, PlanReport& report);
  void FindShared(int64_t requests, int64_t chunk_size, PlanReport& report);
  int64_t TowerEstimate(int64_t requests, int64_t pairs) const;
  void FindNeeded(const Wave& wave, size_t history, int64_t candidate, Scratch& scratch) const;
  int64_t ChunkSize(int threads) const;
  void WeighGroup(const Wave& wave, size_t history, Range candidates, int64_t group, const Parallel& parallel,
                  int slot);
  void PrefetchNeeded(const Keys& keys, int64_t number, const NeededKeys& needed) const;
  void Weigh(size_t history, const float* folded, float* weights, Scratch& scratch) const;
  void FindTiles(const Wave& wave, Range chunk);
  float* OwnRows(Scratch& scratch) const;  // of a tile: what the tower reads of each candidate
  // Writes the pooled histories of a tile's candidates, which the chunk has the weights of, to their own rows.
  void PoolTile(const Wave& wave, const Tile& tile, Range chunk, Scratch& scratch) const;
  void PoolTileAlone(const Wave& wave, const Tile& tile, const Parallel& parallel, int slot);
  void ScoreTile(const Wave& wave, const Tile& tile, Scratch& scratch, float* scores) const;

  const Model::Parts& parts_;
  std::vector<int64_t> offsets_;  // of each request's candidates, or the catalogue's
  Distinct candidates_;
  std::vector<Keys> keys_;       // one per history
  std::vector<int64_t> begins_;  // of a candidate's pairs in by_candidate_
  std::vector<Pair> by_candidate_;
  std::vector<int32_t> by_request_;  // each request's candidates, by number
  std::vector<int64_t> next_;        // of each request in by_request_: the first that is not scored yet
  std::vector<Tile> tiles_;
  std::vector<Work> work_;        // by candidate
  int64_t shared_ = 0;            // candidates that share weights: the most frequent ones
  int64_t estimate_ = 0;          // what Score takes, in multiply-adds that gather nothing
  std::vector<Scratch> scratch_;  // one per thread
};

}  // namespace din_infer
