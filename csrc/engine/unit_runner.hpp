// The activation unit over many requests at once, split over threads.
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

// Candidates folded together. A fold of more reads its weights from cache less often, and takes longer to start pooling.
inline constexpr int64_t kGroup = 16;

// All candidates of requests [0, requests) in groups of at most `size`; the groups do not change any score.
void SplitCandidates(const int64_t* offsets, int64_t requests, int64_t size, std::vector<CandidateGroup>& groups);

class UnitRunner {
 public:
  // keys[r] is request r's history; its queries are rows [offsets[r], offsets[r + 1]) of `queries`, and the same rows of
  // `interests` receive the pooled keys. Rows are query_stride and interest_stride floats apart.
  void Run(const ActivationUnit& unit, const std::vector<PackedKeys>& keys, const int64_t* offsets,
           const float* queries, int64_t query_stride, float* interests, int64_t interest_stride, Parallel& parallel);

 private:
  struct Scratch {
    FloatBuffer folded, unit;
  };
  std::vector<Scratch> scratch_;  // one per thread
  std::vector<CandidateGroup> groups_;
};

}  // namespace din_infer
