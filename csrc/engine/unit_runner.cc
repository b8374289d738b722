#include "engine/unit_runner.hpp"

#include <algorithm>

namespace din_infer {

void SplitCandidates(const int64_t* offsets, int64_t requests, int64_t size, std::vector<CandidateGroup>& groups) {
  groups.clear();
  for (int64_t r = 0; r < requests; ++r) {
    for (int64_t c = offsets[r]; c < offsets[r + 1]; c += size) {
      groups.push_back({r, {c, std::min(c + size, offsets[r + 1])}});
    }
  }
}

void UnitRunner::Run(const ActivationUnit& unit, const std::vector<PackedKeys>& keys, const int64_t* offsets,
                     const float* queries, int64_t query_stride, float* interests, int64_t interest_stride,
                     Parallel& parallel) {
  scratch_.resize(static_cast<size_t>(parallel.threads()));
  SplitCandidates(offsets, static_cast<int64_t>(keys.size()), kGroup, groups_);
  parallel.For(static_cast<int64_t>(groups_.size()), [&](int64_t item, int slot) {
    const CandidateGroup& group = groups_[static_cast<size_t>(item)];
    const Range range = group.candidates;
    const PackedKeys& history = keys[static_cast<size_t>(group.request)];
    Scratch& scratch = scratch_[static_cast<size_t>(slot)];
    float* folded = Reserve(scratch.folded, static_cast<size_t>(kGroup * unit.folded_size()));
    float* unit_scratch = Reserve(scratch.unit, unit.scratch());
    if (history.count > 0) unit.Fold(queries + range.begin * query_stride, query_stride, range.size(), folded, unit_scratch);
    for (int64_t c = range.begin; c < range.end; ++c) {
      unit.Pool(folded + (c - range.begin) * unit.folded_size(), history, unit_scratch, interests + c * interest_stride);
    }
  });
}

}  // namespace din_infer
