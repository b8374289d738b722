#include "engine/unit_runner.hpp"

#include <algorithm>
#include <iterator>

#include "engine/row_hash.hpp"

namespace din_infer {
namespace {

// Candidates folded together: fewer read the fold's weights from cache more often, more leave L2.
constexpr int64_t kGroup = 16;

// A candidate with more than one in kShares of a thread's share of all pairs would keep the others waiting at the end:
// its history is shared out by blocks of keys, where it has kManyBlocks of them.
constexpr int64_t kShares = 2;
constexpr int64_t kManyBlocks = 8;

// The fewest candidates of a group. At the end a thread waits for half a group, so groups are small where a history
// takes long; but a query folded alone takes 2.5 times its share of four (on a Zen 4), one of two 1.25 times, and as
// much as scoring 40 keys.
int64_t SmallestGroup(int64_t keys) { return keys < 125 ? 4 : keys < 500 ? 2 : 1; }

// Requests that `pick` picks go from `from` to `to`, both in their order. Nothing is allocated once warm.
template <class Pick>
void Move(std::vector<CandidateGroup>& from, std::vector<CandidateGroup>& to, const Pick& pick) {
  to.clear();
  std::copy_if(from.begin(), from.end(), std::back_inserter(to), pick);
  from.erase(std::remove_if(from.begin(), from.end(), pick), from.end());
}

// Large groups first, then ever smaller ones, by the `pairs` that are left, so that threads finish together. Powers of
// two and multiples of 4 keep the fold's product dense.
void SplitForThreads(const std::vector<CandidateGroup>& whole, const std::vector<PackedKeys>& keys, int64_t pairs,
                     int64_t threads, std::vector<CandidateGroup>& groups) {
  groups.clear();
  for (const CandidateGroup& request : whole) {
    const int64_t length = keys[static_cast<size_t>(request.request)].count;
    for (int64_t c = request.candidates.begin; c < request.candidates.end;) {
      int64_t share = length == 0 ? kGroup : pairs / (2 * threads * length);
      share = std::clamp<int64_t>(share, SmallestGroup(length), kGroup);
      if (share > 4) share = share / 4 * 4;
      if (share == 3) share = 2;
      const int64_t end = std::min(c + share, request.candidates.end);
      groups.push_back({request.request, {c, end}});
      pairs -= (end - c) * length;
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
  if (key_side != nullptr) {
    const auto pays = [&](const CandidateGroup& request) {
      const PackedKeys& keys = batch.keys[static_cast<size_t>(request.request)];
      return keys.counts == nullptr && KeySidePays(unit, keys.count, request.candidates.size());
    };
    Move(whole_, key_side_, pays);
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
  if (parallel.threads() == 1) {
    SplitCandidates(whole_, kGroup, groups_);
    return RunByCandidates(unit, cache, batch, parallel);
  }
  const auto keys = [&](const CandidateGroup& request) {
    return batch.keys[static_cast<size_t>(request.request)].count;
  };
  const auto pairs = [&](const std::vector<CandidateGroup>& requests) {
    int64_t sum = 0;
    for (const CandidateGroup& request : requests) sum += request.candidates.size() * keys(request);
    return sum;
  };
  const int64_t share = pairs(whole_) / (kShares * parallel.threads());
  Move(whole_, long_, [&](const CandidateGroup& request) {
    return keys(request) > (kManyBlocks - 1) * kernels::kBlock && keys(request) > share;
  });
  SplitCandidates(long_, 1, groups_);
  for (const CandidateGroup& group : groups_) RunByBlocks(unit, batch, group, parallel);
  std::sort(whole_.begin(), whole_.end(), [&](const CandidateGroup& a, const CandidateGroup& b) {
    return keys(a) != keys(b) ? keys(a) > keys(b) : a.request < b.request;  // what takes long does not come last
  });
  SplitForThreads(whole_, batch.keys, pairs(whole_), parallel.threads(), groups_);
  RunByCandidates(unit, cache, batch, parallel);
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
