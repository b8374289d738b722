#include "engine/unit_runner.hpp"

#include <algorithm>
#include <iterator>

#include "engine/row_hash.hpp"

namespace din_infer {
namespace {

constexpr int64_t kGroup = ActivationUnit::kGroup;

// Threads finish together as the last candidates are shared out by blocks of keys: up to kGroup of the longest
// histories, where those have more than a block, or a fold takes kSharedFold multiply-adds, which threads share, too.
// (To meet once more costs some microseconds.) And all candidates with more than one in kShares of a thread's share of
// all pairs, where they have kManyBlocks.
constexpr int64_t kSharedFold = 100'000;
constexpr int64_t kShares = 2;
constexpr int64_t kManyBlocks = 8;

// The fewest candidates of a bundle. At the end a thread may wait for half a bundle, so they are small where a history
// takes long; but a query folded alone takes 2.5 times its share of four (on a Zen 4), one of two 1.25 times, and as
// much as scoring 40 keys. Where histories are shared out at last, that fills what `threads` wait on average, if
// bundles are no more than `share` candidates, one in kShares of a thread's share.
int64_t SmallestBundle(int64_t keys, bool shared_out, int64_t share, int64_t threads) {
  const int64_t filled = shared_out ? std::min<int64_t>({2 * kGroup / threads, share, 4}) : 0;
  return std::max<int64_t>(keys < 125 ? 4 : keys < 500 ? 2 : 1, filled);
}

// Requests that `pick` picks go from `from` to `to`, both in their order. Nothing is allocated once warm.
template <class Pick>
void Move(std::vector<CandidateGroup>& from, std::vector<CandidateGroup>& to, const Pick& pick) {
  to.clear();
  std::copy_if(from.begin(), from.end(), std::back_inserter(to), pick);
  from.erase(std::remove_if(from.begin(), from.end(), pick), from.end());
}

// Cuts candidates into bundles, those whose queries a thread folds together, and bundles into groups of one request.
// Large bundles first, then ever smaller ones, by the `pairs` that are left, so that threads finish together, and as
// many as threads where there are so many candidates. Powers of two and multiples of 4 keep the fold's product dense.
void SplitForThreads(const std::vector<CandidateGroup>& whole, const UnitBatch& batch, bool shared_out, int64_t pairs,
                     int64_t threads, std::vector<CandidateGroup>& groups, std::vector<Range>& bundles) {
  groups.clear();
  bundles.clear();
  int64_t candidates = 0;
  for (const CandidateGroup& request : whole) candidates += request.candidates.size();
  const int64_t all = pairs, even = std::max<int64_t>(candidates / threads, 1);
  const auto size = [&](int64_t length) {
    if (threads == 1 || length == 0) return kGroup;
    const auto share_of = [&](int64_t some) { return some / (kShares * threads * length); };
    const int64_t smallest = std::min(SmallestBundle(length, shared_out, share_of(all), threads), even);
    const int64_t share = std::clamp<int64_t>(share_of(pairs), smallest, kGroup);
    return share > 4 ? share / 4 * 4 : share == 3 ? 2 : share;
  };
  int64_t room = 0;  // in the last bundle
  for (const CandidateGroup& request : whole) {
    const int64_t length = batch.Keys(request.request).count;
    for (int64_t c = request.candidates.begin; c < request.candidates.end;) {
      if (room == 0) {
        room = size(length);
        bundles.push_back({static_cast<int64_t>(groups.size()), static_cast<int64_t>(groups.size())});
      }
      const int64_t end = std::min(c + room, request.candidates.end);
      groups.push_back({request.request, {c, end}});
      ++bundles.back().end;
      room -= end - c;
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

void UnitRunner::Run(const ActivationUnit& unit, const ActivationUnit* key_side, FoldCache* cache,
                     const UnitBatch& batch, Parallel& parallel) {
  WholeRequests(batch.offsets, batch.Requests(), whole_);
  if (key_side != nullptr) {
    const auto pays = [&](const CandidateGroup& request) {
      const UnitKeys& keys = batch.Keys(request.request);
      return keys.counts == nullptr && KeySidePays(unit, keys.count, request.candidates.size());
    };
    Move(whole_, key_side_, pays);
    RunByKeys(*key_side, batch, parallel);
  }
  ReserveScratch(unit, cache, parallel.threads());
  singles_.clear();  // of a call that an exception ended
  if (parallel.threads() == 1) {
    SplitForThreads(whole_, batch, false, 0, 1, groups_, bundles_);
    return RunByCandidates(unit, cache, batch, parallel);
  }
  const auto keys = [&](const CandidateGroup& request) { return batch.Keys(request.request).count; };
  const auto pairs = [&](const std::vector<CandidateGroup>& requests) {
    int64_t sum = 0;
    for (const CandidateGroup& request : requests) sum += request.candidates.size() * keys(request);
    return sum;
  };
  const int64_t share = pairs(whole_) / (kShares * parallel.threads());
  Move(whole_, long_, [&](const CandidateGroup& request) {
    return keys(request) > (kManyBlocks - 1) * kernels::kBlock && keys(request) > share;
  });
  bundles_.clear();
  for (const CandidateGroup& request : long_) {
    for (int64_t row = request.candidates.begin; row < request.candidates.end; ++row) {
      singles_.push_back({request.request, row, 0});
      if (static_cast<int64_t>(singles_.size()) == kGroup) RunByCandidates(unit, cache, batch, parallel);
    }
  }
  std::sort(whole_.begin(), whole_.end(), [&](const CandidateGroup& a, const CandidateGroup& b) {
    return keys(a) != keys(b) ? keys(a) > keys(b) : a.request < b.request;  // what takes long does not come last
  });
  const int64_t all = pairs(whole_);
  TakeSingles(unit, batch);
  SplitForThreads(whole_, batch, !singles_.empty(), all, parallel.threads(), groups_, bundles_);
  RunByCandidates(unit, cache, batch, parallel);
}

void UnitRunner::ReserveScratch(const ActivationUnit& unit, const FoldCache* cache, int threads) {
  const auto reserve = [&](Scratch& scratch) {
    Reserve(scratch.folded, static_cast<size_t>(kGroup * unit.folded_size()));
    Reserve(scratch.queries, static_cast<size_t>(kGroup * unit.dim()));
    scratch.folds.reserve(kGroup);  // here, as no thread knows which bundles it will get
    scratch.rows.reserve(kGroup);
    if (cache == nullptr) return;
    scratch.cached.reserve(kGroup);
    scratch.hashes.reserve(kGroup);
  };
  GrowTo(scratch_, static_cast<size_t>(threads));
  for (Scratch& scratch : scratch_) {
    reserve(scratch);
    Reserve(scratch.unit, unit.scratch());
  }
  if (threads > 1) reserve(singles_scratch_);
}

void UnitRunner::TakeSingles(const ActivationUnit& unit, const UnitBatch& batch) {
  const int64_t too_few = unit.FoldWork() < kSharedFold ? kernels::kBlock : 0;
  for (CandidateGroup& request : whole_) {
    if (batch.Keys(request.request).count <= too_few) break;
    Range& range = request.candidates;
    while (range.size() > 0 && static_cast<int64_t>(singles_.size()) < kGroup) {
      singles_.push_back({request.request, --range.end, 0});
    }
  }
}

void UnitRunner::RunByKeys(const ActivationUnit& key_side, const UnitBatch& batch, Parallel& parallel) {
  GrowTo(key_side_runners_, static_cast<size_t>(parallel.threads()));
  const auto run = [&](const CandidateGroup& request, KeySideRunner& runner, Parallel& inner) {
    const int64_t first = request.candidates.begin;
    runner.Run(key_side, batch.Keys(request.request), batch.queries + first * batch.query_stride, batch.query_stride,
               request.candidates.size(), batch.interests + first * batch.interest_stride, batch.interest_stride,
               inner);
  };
  const int64_t requests = static_cast<int64_t>(key_side_.size());
  if (requests < parallel.threads()) {
    for (const CandidateGroup& request : key_side_) run(request, key_side_runners_[0], parallel);
    return;
  }
  int64_t longest = 0;
  for (const CandidateGroup& request : key_side_) longest = std::max(longest, batch.Keys(request.request).count);
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
  int64_t missing = 0;
  {
    const StepTimer timer = parallel.Time(0, Step::kFold);
    const auto row = [&](size_t single) { return singles_[single].row; };
    missing = FindFolds(unit, cache, batch, singles_.size(), row, singles_scratch_);
  }
  const int64_t parts = missing > 0 ? parallel.threads() : 0;
  parallel.For(parts, [&](int64_t part, int slot) {
    const StepTimer timer = parallel.Time(slot, Step::kFold);
    unit.Fold(singles_scratch_.queries.data(), missing, singles_scratch_.folded.data(),
              scratch_[static_cast<size_t>(slot)].unit.data(), part, parts);
  });
  {
    const StepTimer timer = parallel.Time(0, Step::kFold);
    KeepFolds(unit, cache, singles_scratch_);
  }
  blocks_.clear();
  for (size_t s = 0; s < singles_.size(); ++s) {
    singles_[s].first_block = static_cast<int64_t>(blocks_.size());
    blocks_.insert(blocks_.end(), static_cast<size_t>(ActivationUnit::Blocks(batch.Keys(singles_[s].request))), s);
  }
  partials_.resize(blocks_.size());
  float* interests = Reserve(block_interests_, blocks_.size() * static_cast<size_t>(unit.dim()));
  const int64_t bundles = static_cast<int64_t>(bundles_.size());
  parallel.For(bundles + static_cast<int64_t>(blocks_.size()), [&](int64_t item, int slot) {
    if (item < bundles) return RunBundle(unit, cache, batch, bundles_[static_cast<size_t>(item)], slot, parallel);
    const StepTimer timer = parallel.Time(slot, Step::kUnit);
    const int64_t place = item - bundles;
    const size_t s = blocks_[static_cast<size_t>(place)];
    const Single& single = singles_[s];
    partials_[static_cast<size_t>(place)] =
        unit.PoolBlock(singles_scratch_.folds[s], batch.Keys(single.request), place - single.first_block,
                       scratch_[static_cast<size_t>(slot)].unit.data(), interests + place * unit.dim());
  });
  const StepTimer timer = parallel.Time(0, Step::kUnit);
  for (const Single& single : singles_) {
    unit.Join(partials_.data() + single.first_block, interests + single.first_block * unit.dim(),
              ActivationUnit::Blocks(batch.Keys(single.request)), batch.interests + single.row * batch.interest_stride);
  }
  singles_.clear();
}

void UnitRunner::RunBundle(const ActivationUnit& unit, FoldCache* cache, const UnitBatch& batch, Range bundle, int slot,
                           Parallel& parallel) {
  Scratch& scratch = scratch_[static_cast<size_t>(slot)];
  const auto each_group = [&](const auto& action) {
    for (int64_t g = bundle.begin; g < bundle.end; ++g) {
      const CandidateGroup& group = groups_[static_cast<size_t>(g)];
      action(batch.Keys(group.request), group.candidates);
    }
  };
  {
    const StepTimer timer = parallel.Time(slot, Step::kFold);
    scratch.rows.clear();
    each_group([&](const UnitKeys& keys, Range candidates) {
      for (int64_t row = candidates.begin; keys.count > 0 && row < candidates.end; ++row) scratch.rows.push_back(row);
    });
    const auto row = [&](size_t c) { return scratch.rows[c]; };
    const int64_t missing = FindFolds(unit, cache, batch, scratch.rows.size(), row, scratch);
    unit.Fold(scratch.queries.data(), missing, scratch.folded.data(), scratch.unit.data());
    KeepFolds(unit, cache, scratch);
  }
  const StepTimer timer = parallel.Time(slot, Step::kUnit);
  const float* const* folds = scratch.folds.data();
  each_group([&](const UnitKeys& keys, Range candidates) {
    unit.Pool(folds, candidates.size(), keys, scratch.unit.data(),
              batch.interests + candidates.begin * batch.interest_stride, batch.interest_stride);
    if (keys.count > 0) folds += candidates.size();  // none is read where there are no keys
  });
}

template <class Row>
int64_t UnitRunner::FindFolds(const ActivationUnit& unit, const FoldCache* cache, const UnitBatch& batch, size_t count,
                              const Row& row, Scratch& scratch) {
  scratch.folds.assign(count, nullptr);
  if (cache != nullptr) {
    scratch.cached.assign(count, nullptr);
    scratch.hashes.resize(count);
  }
  int64_t missing = 0;
  for (size_t c = 0; c < count; ++c) {
    const float* query = batch.queries + row(c) * batch.query_stride;
    if (cache != nullptr) {
      scratch.hashes[c] = HashRow(query, static_cast<size_t>(unit.dim()));
      scratch.cached[c] = cache->Find(query, scratch.hashes[c]);
      if (scratch.cached[c] != nullptr) scratch.folds[c] = scratch.cached[c]->folded.data();
    }
    if (scratch.folds[c] == nullptr) {
      std::copy(query, query + unit.dim(), scratch.queries.data() + missing++ * unit.dim());
    }
  }
  return missing;
}

void UnitRunner::KeepFolds(const ActivationUnit& unit, FoldCache* cache, Scratch& scratch) {
  const float *query = scratch.queries.data(), *folded = scratch.folded.data();
  for (size_t c = 0; c < scratch.folds.size(); ++c) {
    if (scratch.folds[c] != nullptr) continue;
    scratch.folds[c] = folded;
    if (cache != nullptr) cache->Offer(query, scratch.hashes[c], folded);
    query += unit.dim(), folded += unit.folded_size();
  }
}

}  // namespace din_infer
