#include "engine/unit_runner.hpp"

#include <algorithm>
#include <iterator>

#include "engine/row_hash.hpp"

namespace din_infer {
namespace {

// Candidates folded together: fewer read the fold's weights from cache more often, more leave L2.
constexpr int64_t kGroup = 16;

// Fewer candidates than this per thread, and histories longer than kManyBlocks, are shared out by blocks of keys.
constexpr int64_t kFewCandidates = 2;
constexpr int64_t kManyBlocks = 8;

// The fewest candidates of a group. At the end a thread waits for half a group, so groups are small where a history
// takes long; but a query folded alone takes 2.5 times its share of four, one of two 1.25 times, and as much as scoring
// 40 keys.
int64_t SmallestGroup(int64_t keys) { return keys < 125 ? 4 : keys < 500 ? 2 : 1; }

// Large groups first, then ever smaller ones, so that threads finish together. Powers of two and multiples of 4 keep
// the fold's product dense.
void SplitForThreads(const std::vector<CandidateGroup>& whole, const std::vector<PackedKeys>& keys, int64_t candidates,
                     int64_t threads, std::vector<CandidateGroup>& groups) {
  groups.clear();
  for (const CandidateGroup& request : whole) {
    const int64_t least = SmallestGroup(keys[static_cast<size_t>(request.request)].count);
    for (int64_t c = request.candidates.begin; c < request.candidates.end;) {
      int64_t share = std::clamp<int64_t>(candidates / (2 * threads), least, kGroup);
      if (share > 4) share = share / 4 * 4;
      if (share == 3) share = 2;
      const int64_t end = std::min(c + share, request.candidates.end);
      groups.push_back({request.request, {c, end}});
      candidates -= end - c;
      c = end;
    }
  }
}

}  // namespace

void WholeRequests(const int64_t* offsets, int64_t requests, std::vector<CandidateGroup>& groups) {
  groups.clear();
  for (int64_t r = 0; r < requests; ++r) groups.push_back({r, {offsets[r], offsets[r + 1]}});
}

void SplitCandidates(const std::vector<CandidateGroup>& whole, int64_t size, std::vector<CandidateGroup>& groups) {
  groups.clear();
  for (const CandidateGroup& group : whole) {
    for (int64_t c = group.candidates.begin; c < group.candidates.end; c += size) {
      groups.push_back({group.request, {c, std::min(c + size, group.candidates.end)}});
    }
  }
}

void UnitRunner::Run(const ActivationUnit& unit, const ActivationUnit* key_side, FoldCache* cache,
                     const UnitBatch& batch, Parallel& parallel) {
  WholeRequests(batch.offsets, batch.Requests(), whole_);
  key_side_.clear();
  if (key_side != nullptr) {
    const auto pays = [&](const CandidateGroup& request) {
      const PackedKeys& keys = batch.keys[static_cast<size_t>(request.request)];
      return keys.counts == nullptr && KeySidePays(unit, keys.count, request.candidates.size());
    };
    std::copy_if(whole_.begin(), whole_.end(), std::back_inserter(key_side_), pays);
    whole_.erase(std::remove_if(whole_.begin(), whole_.end(), pays), whole_.end());
    RunByKeys(*key_side, batch, parallel);
  }
  GrowTo(scratch_, static_cast<size_t>(parallel.threads()));
  for (Scratch& scratch : scratch_) {
    Reserve(scratch.folded, static_cast<size_t>(kGroup * unit.folded_size()));
    Reserve(scratch.unit, unit.scratch());
    scratch.folds.reserve(kGroup);  // here, as no thread knows which groups it will get
    if (cache == nullptr) continue;
    Reserve(scratch.queries, static_cast<size_t>(kGroup * unit.dim()));
    scratch.cached.reserve(kGroup);
    scratch.hashes.reserve(kGroup);
  }
  int64_t candidates = 0, blocks = 0;
  for (const CandidateGroup& request : whole_) {
    candidates += request.candidates.size();
    blocks = std::max(blocks, ActivationUnit::Blocks(batch.keys[static_cast<size_t>(request.request)]));
  }
  if (parallel.threads() == 1) {
    SplitCandidates(whole_, kGroup, groups_);
    return RunByCandidates(unit, cache, batch, parallel);
  }
  if (candidates >= kFewCandidates * parallel.threads() || blocks < kManyBlocks) {
    SplitForThreads(whole_, batch.keys, candidates, parallel.threads(), groups_);
    return RunByCandidates(unit, cache, batch, parallel);
  }
  SplitCandidates(whole_, 1, groups_);
  for (const CandidateGroup& group : groups_) RunByBlocks(unit, batch, group, parallel);
}

void UnitRunner::RunByKeys(const ActivationUnit& key_side, const UnitBatch& batch, Parallel& parallel) {
  GrowTo(key_side_runners_, static_cast<size_t>(parallel.threads()));
  const auto run = [&](const CandidateGroup& request, KeySideRunner& runner, Parallel& inner) {
    const int64_t first = request.candidates.begin;
    runner.Run(key_side, batch.keys[static_cast<size_t>(request.request)], batch.queries + first * batch.query_stride,
               batch.query_stride, request.candidates.size(), batch.interests + first * batch.interest_stride,
               batch.interest_stride, inner);
  };
  const int64_t requests = static_cast<int64_t>(key_side_.size());
  if (requests < parallel.threads()) {
    for (const CandidateGroup& request : key_side_) run(request, key_side_runners_[0], parallel);
    return;
  }
  int64_t longest = 0;
  for (const CandidateGroup& request : key_side_) {
    longest = std::max(longest, batch.keys[static_cast<size_t>(request.request)].count);
  }
  for (KeySideRunner& runner : key_side_runners_) {  // as nobody knows which requests it gets
    runner.Reserve(key_side, longest, 1);
  }
  parallel.For(requests, [&](int64_t item, int slot) {
    Parallel serial(parallel, slot);
    run(key_side_[static_cast<size_t>(item)], key_side_runners_[static_cast<size_t>(slot)], serial);
  });
}

void UnitRunner::RunByCandidates(const ActivationUnit& unit, FoldCache* cache, const UnitBatch& batch,
                                 Parallel& parallel) {
  parallel.For(static_cast<int64_t>(groups_.size()), [&](int64_t item, int slot) {
    const CandidateGroup& group = groups_[static_cast<size_t>(item)];
    const Range range = group.candidates;
    const PackedKeys& keys = batch.keys[static_cast<size_t>(group.request)];
    Scratch& scratch = scratch_[static_cast<size_t>(slot)];
    scratch.folds.assign(static_cast<size_t>(range.size()), nullptr);
    if (keys.count > 0) {
      const StepTimer timer = parallel.Time(slot, Step::kFold);
      Fold(unit, cache, batch, range, scratch);
    }
    const StepTimer timer = parallel.Time(slot, Step::kUnit);
    for (int64_t c = range.begin; c < range.end; ++c) {
      unit.Pool(scratch.folds[static_cast<size_t>(c - range.begin)], keys, scratch.unit.data(),
                batch.interests + c * batch.interest_stride);
    }
  });
}

void UnitRunner::Fold(const ActivationUnit& unit, FoldCache* cache, const UnitBatch& batch, Range candidates,
                      Scratch& scratch) {
  const float* queries = batch.queries + candidates.begin * batch.query_stride;
  float* folded = scratch.folded.data();
  const size_t count = static_cast<size_t>(candidates.size());
  if (cache == nullptr) {
    unit.Fold(queries, batch.query_stride, candidates.size(), folded, scratch.unit.data());
    for (size_t c = 0; c < count; ++c) scratch.folds[c] = folded + static_cast<int64_t>(c) * unit.folded_size();
    return;
  }
  scratch.cached.assign(count, nullptr);
  scratch.hashes.resize(count);
  int64_t missing = 0;
  float* next = scratch.queries.data();
  for (size_t c = 0; c < count; ++c) {
    const float* query = queries + static_cast<int64_t>(c) * batch.query_stride;
    scratch.hashes[c] = HashRow(query, static_cast<size_t>(unit.dim()));
    scratch.cached[c] = cache->Find(query, scratch.hashes[c]);
    scratch.folds[c] = scratch.cached[c] != nullptr ? scratch.cached[c]->folded.data() : nullptr;
    if (scratch.folds[c] == nullptr) std::copy(query, query + unit.dim(), next + missing++ * unit.dim());
  }
  unit.Fold(next, unit.dim(), missing, folded, scratch.unit.data());
  for (size_t c = 0; c < count; ++c) {
    if (scratch.folds[c] != nullptr) continue;
    scratch.folds[c] = folded;
    cache->Offer(queries + static_cast<int64_t>(c) * batch.query_stride, scratch.hashes[c], folded);
    folded += unit.folded_size();
  }
}

void UnitRunner::RunByBlocks(const ActivationUnit& unit, const UnitBatch& batch, const CandidateGroup& candidate,
                             Parallel& parallel) {
  const PackedKeys& keys = batch.keys[static_cast<size_t>(candidate.request)];
  const int64_t row = candidate.candidates.begin;
  const int64_t blocks = ActivationUnit::Blocks(keys);
  const float* folded = scratch_[0].folded.data();
  {
    const StepTimer timer = parallel.Time(0, Step::kFold);
    unit.Fold(batch.queries + row * batch.query_stride, batch.query_stride, 1, scratch_[0].folded.data(),
              scratch_[0].unit.data());
  }
  partials_.resize(static_cast<size_t>(blocks));
  float* interests = Reserve(block_interests_, static_cast<size_t>(blocks * unit.dim()));
  parallel.For(blocks, [&](int64_t block, int slot) {
    const StepTimer timer = parallel.Time(slot, Step::kUnit);
    partials_[static_cast<size_t>(block)] = unit.PoolBlock(
        folded, keys, block, scratch_[static_cast<size_t>(slot)].unit.data(), interests + block * unit.dim());
  });
  const StepTimer timer = parallel.Time(0, Step::kUnit);
  unit.Join(partials_.data(), interests, blocks, batch.interests + row * batch.interest_stride);
}

}  // namespace din_infer
