// Scores a wave candidate by candidate. A behaviour's weight depends on its own features and the candidate's, not on
// the user, so it is computed once for all requests that have both; each request then gathers the weights of its
// behaviours and pools them. The bits are those of RequestPlan.
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

  // Finds what is distinct in a wave, and what scoring it would take. False where the candidates have too little in
  // common for the memory that the distinct ones may take.
  bool Prepare(Wave& wave, bool auto_fold, Parallel& parallel, PlanReport& report);

  // The wave that was prepared; scores [wave.Candidates()].
  void Score(const Wave& wave, Parallel& parallel, float* scores);

 private:
  // Candidates whose weights lie side by side: what one thread scores at a time.
  static constexpr int64_t kGroup = 16;

  struct Pair {
    int32_t request, candidate;
  };
  struct Tile {  // some of a request's candidates, at most as many as a tile has columns
    int64_t request;
    Range places;  // in by_request_
  };
  struct Keys {
    Distinct distinct;
    std::vector<int64_t> offsets;  // of each request's behaviours
    FloatBuffer tiles;             // the distinct ones
    FloatBuffer weights;           // [groups of a chunk][distinct][kGroup]
  };
  struct Scratch {
    NeededKeys needed;  // by the candidate at hand
    FloatBuffer queries, folded, unit, tile, scores, own, tower;
    std::vector<int32_t> waiting;  // keys in `tile`
  };

  void FindKeys(const Wave& wave, size_t history, Parallel& parallel);
  void SortPairs(const Wave& wave);
  void AddUnit(const Wave& wave, size_t history, bool auto_fold, Parallel& parallel, PlanReport& report);
  void FindNeeded(const Wave& wave, size_t history, int64_t candidate, Scratch& scratch) const;
  int64_t ChunkSize(int threads) const;
  void WeighGroup(const Wave& wave, size_t history, Range candidates, int64_t group, Scratch& scratch);
  void Weigh(size_t history, const float* folded, float* weights, Scratch& scratch) const;
  void FindTiles(const Wave& wave, Range chunk);
  void ScoreTile(const Wave& wave, const Tile& tile, Range chunk, Scratch& scratch, float* scores) const;
  // `place`: of the candidate in the chunk.
  void Pool(const Wave& wave, int64_t request, int64_t candidate, int64_t place, float* own, Scratch& scratch) const;

  const Model::Parts& parts_;
  Distinct candidates_;
  std::vector<Keys> keys_;       // one per history
  std::vector<int64_t> begins_;  // of a candidate's pairs in by_candidate_
  std::vector<Pair> by_candidate_;
  std::vector<int32_t> by_request_;  // each request's candidates, by number
  std::vector<int64_t> next_;        // of each request in by_request_: the first that is not scored yet
  std::vector<Tile> tiles_;
  std::vector<Scratch> scratch_;  // one per thread
};

}  // namespace din_infer
