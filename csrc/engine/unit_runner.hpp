// The activation unit over many requests at once, split over threads. How the work is split never changes a result.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/activation_unit.hpp"
#include "engine/batch.hpp"
#include "engine/parallel.hpp"

namespace din_infer {

// Some consecutive candidates of one request: what one thread does at a time.
struct CandidateGroup {
  int64_t request;
  Range candidates;
};

// All candidates of requests [0, requests), in groups of at most `size`.
void SplitCandidates(const int64_t* offsets, int64_t requests, int64_t size, std::vector<CandidateGroup>& groups);

// Each request's history and queries: its queries are rows [offsets[r], offsets[r + 1]) of `queries`, and the same rows
// of `interests` receive the pooled keys. Rows are query_stride and interest_stride floats apart.
struct UnitBatch {
  const std::vector<PackedKeys>& keys;
  const int64_t* offsets;
  const float* queries;
  int64_t query_stride;
  float* interests;
  int64_t interest_stride;

  int64_t Requests() const { return static_cast<int64_t>(keys.size()); }
};

class UnitRunner {
 public:
  void Run(const ActivationUnit& unit, const UnitBatch& batch, Parallel& parallel);

 private:
  struct Scratch {
    FloatBuffer folded, unit;
  };

  // Threads take groups of candidates, each with its whole history.
  void RunByCandidates(const ActivationUnit& unit, const UnitBatch& batch, Parallel& parallel);
  // Threads take blocks of one candidate's history: for candidates that are too few to share out.
  void RunByBlocks(const ActivationUnit& unit, const UnitBatch& batch, const CandidateGroup& candidate,
                   Parallel& parallel);

  std::vector<Scratch> scratch_;  // one per thread
  std::vector<CandidateGroup> groups_;
  std::vector<kernels::Partial> partials_;
  FloatBuffer block_interests_;
};

}  // namespace din_infer
