#include "engine/unit_runner.hpp"

#include <algorithm>

namespace din_infer {
namespace {

// Candidates folded together: fewer read the fold's weights from cache more often, more leave L2.
constexpr int64_t kGroup = 16;

// Fewer candidates than this per thread, and histories longer than kManyBlocks, are shared out by blocks of keys.
constexpr int64_t kFewCandidates = 2;
constexpr int64_t kManyBlocks = 8;

// Large groups first, then ever smaller ones, so that threads finish together. Multiples of 4 keep the fold's product
// dense.
void SplitForThreads(const int64_t* offsets, int64_t requests, int64_t threads, std::vector<CandidateGroup>& groups) {
  groups.clear();
  for (int64_t r = 0; r < requests; ++r) {
    for (int64_t c = offsets[r]; c < offsets[r + 1];) {
      const int64_t share = (offsets[requests] - c) / (2 * threads) / 4 * 4;
      const int64_t end = std::min(c + std::clamp<int64_t>(share, 4, kGroup), offsets[r + 1]);
      groups.push_back({r, {c, end}});
      c = end;
    }
  }
}

}  // namespace

void SplitCandidates(const int64_t* offsets, int64_t requests, int64_t size, std::vector<CandidateGroup>& groups) {
  groups.clear();
  for (int64_t r = 0; r < requests; ++r) {
    for (int64_t c = offsets[r]; c < offsets[r + 1]; c += size) {
      groups.push_back({r, {c, std::min(c + size, offsets[r + 1])}});
    }
  }
}

void UnitRunner::Run(const ActivationUnit& unit, const UnitBatch& batch, Parallel& parallel) {
  scratch_.resize(static_cast<size_t>(parallel.threads()));
  for (Scratch& scratch : scratch_) {
    Reserve(scratch.folded, static_cast<size_t>(kGroup * unit.folded_size()));
    Reserve(scratch.unit, unit.scratch());
  }
  const int64_t candidates = batch.offsets[batch.Requests()];
  int64_t blocks = 0;
  for (const PackedKeys& keys : batch.keys) blocks = std::max(blocks, ActivationUnit::Blocks(keys));
  if (parallel.threads() == 1 || candidates >= kFewCandidates * parallel.threads() || blocks < kManyBlocks) {
    return RunByCandidates(unit, batch, parallel);
  }
  SplitCandidates(batch.offsets, batch.Requests(), 1, groups_);
  for (const CandidateGroup& group : groups_) RunByBlocks(unit, batch, group, parallel);
}

void UnitRunner::RunByCandidates(const ActivationUnit& unit, const UnitBatch& batch, Parallel& parallel) {
  SplitForThreads(batch.offsets, batch.Requests(), parallel.threads(), groups_);
  parallel.For(static_cast<int64_t>(groups_.size()), [&](int64_t item, int slot) {
    const CandidateGroup& group = groups_[static_cast<size_t>(item)];
    const Range range = group.candidates;
    const PackedKeys& keys = batch.keys[static_cast<size_t>(group.request)];
    Scratch& scratch = scratch_[static_cast<size_t>(slot)];
    if (keys.count > 0) {
      unit.Fold(batch.queries + range.begin * batch.query_stride, batch.query_stride, range.size(),
                scratch.folded.data(), scratch.unit.data());
    }
    for (int64_t c = range.begin; c < range.end; ++c) {
      unit.Pool(scratch.folded.data() + (c - range.begin) * unit.folded_size(), keys, scratch.unit.data(),
                batch.interests + c * batch.interest_stride);
    }
  });
}

void UnitRunner::RunByBlocks(const ActivationUnit& unit, const UnitBatch& batch, const CandidateGroup& candidate,
                             Parallel& parallel) {
  const PackedKeys& keys = batch.keys[static_cast<size_t>(candidate.request)];
  const int64_t row = candidate.candidates.begin;
  const int64_t blocks = ActivationUnit::Blocks(keys);
  const float* folded = scratch_[0].folded.data();
  unit.Fold(batch.queries + row * batch.query_stride, batch.query_stride, 1, scratch_[0].folded.data(),
            scratch_[0].unit.data());
  partials_.resize(static_cast<size_t>(blocks));
  float* interests = Reserve(block_interests_, static_cast<size_t>(blocks * unit.dim()));
  parallel.For(blocks, [&](int64_t block, int slot) {
    partials_[static_cast<size_t>(block)] = unit.PoolBlock(
        folded, keys, block, scratch_[static_cast<size_t>(slot)].unit.data(), interests + block * unit.dim());
  });
  unit.Join(partials_.data(), interests, blocks, batch.interests + row * batch.interest_stride);
}

}  // namespace din_infer
