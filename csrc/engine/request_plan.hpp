// Scores a wave request by request: each candidate's query is folded and run over the history of its request.
#pragma once

#include <vector>

#include "engine/unit_runner.hpp"
#include "engine/wave.hpp"

namespace din_infer {

class RequestPlan {
 public:
  RequestPlan(const Model::Parts& parts, bool auto_fold, int threads);

  // scores [wave.Candidates()].
  void Score(Wave& wave, Parallel& parallel, float* scores);

  size_t Bytes() const { return BytesOfAll(runner_, scratch_, queries_, own_, whole_, groups_); }

 private:
  void EmbedCandidates(Wave& wave, int64_t request, int slot);
  size_t Scratch() const;  // floats, for EqualPooling and for RunTower
  void EqualPooling(const Wave& wave, size_t history, int64_t request, float* scratch);
  void RunTower(const Wave& wave, const CandidateGroup& group, float* scratch, float* scores);

  const Model::Parts& parts_;
  bool auto_fold_;
  UnitRunner runner_;
  std::vector<FloatBuffer> scratch_;  // one per thread
  std::vector<FloatBuffer> queries_;  // one per history: [candidates, D]
  FloatBuffer own_;                   // [candidates, tower.own_width()]: pooled histories, candidate
  std::vector<CandidateGroup> whole_, groups_;
};

}  // namespace din_infer
