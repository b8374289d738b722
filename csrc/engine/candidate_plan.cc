#include "engine/candidate_plan.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <numeric>

namespace din_infer {
namespace {

using kernels::Kernels;

// Memory that the weights of a chunk of candidates may take.
constexpr int64_t kWeightBytes = int64_t{32} << 20;

// And the features of distinct candidates, in each thread's set of them.
constexpr int64_t kCandidateBytes = int64_t{64} << 20;

constexpr int64_t kCacheLine = 64 / sizeof(float);

// To bring keys together, scatter weights and gather them costs a quarter of the multiply-adds.
int64_t WithGathering(int64_t multiply_adds) { return multiply_adds + multiply_adds / 4; }

}  // namespace

CandidatePlan::CandidatePlan(const Model::Parts& parts, int threads)
    : parts_(parts), candidates_(parts.candidate.width(), threads), scratch_(static_cast<size_t>(threads)) {
  for (const HistoryPart& part : parts.histories) keys_.push_back({Distinct(part.keys.width(), threads), {}, {}, {}});
}

int64_t CandidatePlan::Bytes(const Model::Parts& parts, const CheckedBatch& batch, int64_t request) {
  constexpr int64_t kFloat = sizeof(float);
  int64_t bytes = batch.candidate.Of(request).size() * static_cast<int64_t>(2 * sizeof(int32_t) + sizeof(Pair)) +
                  parts.tower->bias_size() * kFloat;
  for (size_t h = 0; h < parts.histories.size(); ++h) {
    const int64_t keys = Kept(*parts.histories[h].schema, batch.histories[h].Of(request)).size();
    // The request's tiles; a distinct row, and its tile.
    bytes += (WholeTiles(keys) + 2 * keys) * parts.histories[h].keys.width() * kFloat;
  }
  return bytes;
}

bool CandidatePlan::Prepare(Wave& wave, bool auto_fold, Parallel& parallel, PlanReport& report) {
  // A catalogue is looked at once.
  const int64_t requests = wave.SharedCandidates() ? 1 : wave.Requests();
  offsets_.assign(wave.Offsets(), wave.Offsets() + requests + 1);
  const auto row = [&](int64_t request, int64_t item, int slot, float* out) {
    const StepTimer timer = parallel.Time(slot, Step::kLookUp);
    const int64_t candidate = wave.CandidatesOf(request).begin + item;
    wave.EmbedCandidates({candidate, candidate + 1}, slot, out, 0);
  };
  const int64_t limit = kCandidateBytes / (parts_.candidate.width() * static_cast<int64_t>(sizeof(float)));
  if (!candidates_.Find(offsets_, std::cref(row), limit, parallel)) return false;
  if (wave.SharedCandidates()) candidates_.Repeat(wave.Requests());
  SortPairs(wave);
  report = {};
  report.candidates = wave.Candidates();
  report.distinct_candidates = candidates_.size();
  report.request = wave.Candidates() * parts_.tower->Work();
  work_.assign(static_cast<size_t>(candidates_.size()), {});
  for (size_t h = 0; h < keys_.size(); ++h) {
    FindKeys(wave, h, parallel);
    AddUnit(wave, h, auto_fold, parallel, report);
  }
  FindShared(wave.Requests(), ChunkSize(parallel.threads()), report);
  return true;
}

void CandidatePlan::AddUnit(const Wave& wave, size_t history, bool auto_fold, Parallel& parallel, PlanReport& report) {
  const ActivationUnit& unit = *parts_.histories[history].unit;
  const FoldCache* cache = parts_.histories[history].folds.get();
  const int64_t kept = cache == nullptr || auto_fold ? 0 : cache->capacity();  // the most frequent ones
  const auto folds_alone = [&](int64_t c) {
    const int64_t occurrences = candidates_.Occurrences(c);
    return c < kept ? std::min<int64_t>(occurrences, 2) : occurrences;
  };
  int64_t pairs = 0, folds = 0;
  for (int64_t r = 0; r < wave.Requests(); ++r) {
    const int64_t queries = wave.CandidatesOf(r).size(), keys = wave.Keys(history)[static_cast<size_t>(r)].count;
    pairs += queries * keys;
    if (auto_fold) folds += std::min(queries, keys);
  }
  if (!auto_fold) {
    for (int64_t c = 0; c < candidates_.size(); ++c) folds += folds_alone(c);
  }
  std::atomic<int64_t> distinct{0};
  const std::vector<UnitKeys>& packed = wave.Keys(history);
  parallel.For((candidates_.size() + kGroup - 1) / kGroup, [&](int64_t group, int slot) {
    NeededKeys& needed = scratch_[static_cast<size_t>(slot)].needed;
    for (int64_t c = group * kGroup; c < std::min((group + 1) * kGroup, candidates_.size()); ++c) {
      FindNeeded(wave, history, c, scratch_[static_cast<size_t>(slot)]);
      distinct += needed.size();
      int64_t met = 0;
      for (int64_t p = begins_[static_cast<size_t>(c)]; p < begins_[static_cast<size_t>(c) + 1]; ++p) {
        met += packed[static_cast<size_t>(by_candidate_[static_cast<size_t>(p)].request)].count;
      }
      Work& work = work_[static_cast<size_t>(c)];
      work.shared += unit.FoldWork() + needed.size() * unit.ScoreWork() + met * unit.dim();
      work.alone += folds_alone(c) * unit.FoldWork() + met * unit.PairWork();
    }
  });
  report.pairs += pairs;
  report.distinct_pairs += distinct;
  report.request += folds * unit.FoldWork() + pairs * unit.PairWork();
}

// The candidates that share weights are the most frequent ones, as many as make the estimate least.
void CandidatePlan::FindShared(int64_t requests, int64_t chunk_size, PlanReport& report) {
  Work all, before;
  for (const Work& work : work_) all.shared += work.shared, all.alone += work.alone;
  report.candidate = report.candidates * parts_.tower->Work() + all.shared;
  report.chosen = report.candidates * parts_.tower->Work() + all.alone;
  estimate_ = report.chosen;
  shared_ = 0;
  int64_t pairs = 0, in_chunk = 0, towers = 0;  // of candidates up to here, and of whole chunks of them
  for (int64_t c = 0; c < candidates_.size(); ++c) {
    if (c % chunk_size == 0) towers += TowerEstimate(requests, in_chunk), in_chunk = 0;
    pairs += candidates_.Occurrences(c), in_chunk += candidates_.Occurrences(c);
    before.shared += work_[static_cast<size_t>(c)].shared, before.alone += work_[static_cast<size_t>(c)].alone;
    const int64_t alone = all.alone - before.alone;
    const int64_t estimate = WithGathering(before.shared) + towers + TowerEstimate(requests, in_chunk) + alone +
                             (report.candidates - pairs) * parts_.tower->Work();
    if (estimate >= estimate_) continue;
    estimate_ = estimate;
    report.chosen = before.shared + alone + report.candidates * parts_.tower->Work();
    shared_ = c + 1;
  }
}

// A tower takes a vector of candidates in the time of one, and those of a chunk are spread over all requests.
int64_t CandidatePlan::TowerEstimate(int64_t requests, int64_t pairs) const {
  const int64_t lanes = Kernels().lanes;
  return lanes * std::min(pairs, requests + pairs / lanes) * parts_.tower->Work();
}

void CandidatePlan::FindKeys(const Wave& wave, size_t history, Parallel& parallel) {
  Keys& keys = keys_[history];
  const std::vector<UnitKeys>& packed = wave.Keys(history);
  const int64_t dim = parts_.histories[history].keys.width(), tile = Kernels().tile;
  keys.offsets.assign(1, 0);
  for (const UnitKeys& request : packed) keys.offsets.push_back(keys.offsets.back() + request.count);
  const auto row = [&](int64_t request, int64_t item, int, float* out) {
    const float* column = packed[static_cast<size_t>(request)].tiles + ColumnPlace(item, dim);
    for (int64_t i = 0; i < dim; ++i) out[i] = column[i * tile];
  };
  keys.distinct.Find(keys.offsets, std::cref(row), keys.offsets.back() + 1, parallel);
  const int64_t count = keys.distinct.size();
  float* tiles = Reserve(keys.tiles, static_cast<size_t>(WholeTiles(count) * dim));
  for (int64_t k = 0; k < count; ++k) Kernels().pack_columns(keys.distinct.Row(k), dim, 1, dim, tiles, k);
  FillTiles(count, dim, tiles);
}

// Pairs of request and candidate by candidate, and from there by request with the candidates in the same order.
void CandidatePlan::SortPairs(const Wave& wave) {
  begins_.assign(static_cast<size_t>(candidates_.size()) + 1, 0);
  for (int64_t n = 0; n < candidates_.size(); ++n) {
    begins_[static_cast<size_t>(n) + 1] = begins_[static_cast<size_t>(n)] + candidates_.Occurrences(n);
  }
  by_candidate_.resize(static_cast<size_t>(wave.Candidates()));
  by_request_.resize(by_candidate_.size());
  next_.assign(begins_.begin(), begins_.end() - 1);  // of each candidate
  for (int64_t r = 0; r < wave.Requests(); ++r) {
    const Range candidates = wave.CandidatesOf(r);
    for (int64_t c = candidates.begin; c < candidates.end; ++c) {
      const size_t place = static_cast<size_t>(next_[static_cast<size_t>(*candidates_.Numbers(c))]++);
      by_candidate_[place] = {static_cast<int32_t>(r), static_cast<int32_t>(c)};
    }
  }
  next_.assign(wave.Offsets(), wave.Offsets() + wave.Requests());
  for (const Pair& pair : by_candidate_) {
    by_request_[static_cast<size_t>(next_[static_cast<size_t>(pair.request)]++)] = pair.candidate;
  }
}

// Finds the keys that meet the candidate in some request: scratch.needed.
void CandidatePlan::FindNeeded(const Wave& wave, size_t history, int64_t candidate, Scratch& scratch) const {
  const Keys& keys = keys_[history];
  const auto begin = by_candidate_.begin() + begins_[static_cast<size_t>(candidate)];
  const auto end = by_candidate_.begin() + begins_[static_cast<size_t>(candidate) + 1];
  int64_t requests = 1;
  for (auto pair = begin + 1; pair < end; ++pair) requests += pair->request != (pair - 1)->request;
  scratch.needed.Clear(keys.distinct.size(), Kernels().tile);
  if (requests == wave.Requests()) {
    for (int64_t key = 0; key < keys.distinct.size(); ++key) scratch.needed.Add(key);
    return;
  }
  for (auto pair = begin; pair < end; ++pair) {
    const size_t request = static_cast<size_t>(pair->request);
    const int32_t* numbers = keys.distinct.Numbers(keys.offsets[request]);
    for (int64_t t = 0; t < keys.offsets[request + 1] - keys.offsets[request]; ++t) scratch.needed.Add(numbers[t]);
  }
}

void CandidatePlan::Score(const Wave& wave, Parallel& parallel, float* scores) {
  next_.assign(wave.Offsets(), wave.Offsets() + wave.Requests());
  const int64_t chunk_size = ChunkSize(parallel.threads());
  const int64_t histories = static_cast<int64_t>(keys_.size());
  for (Keys& keys : keys_) Reserve(keys.weights, static_cast<size_t>(chunk_size * keys.distinct.size()));
  for (Range chunk{0, 0}; chunk.begin < shared_; chunk.begin = chunk.end) {
    chunk.end = std::min(chunk.begin + chunk_size, shared_);
    const int64_t groups = (chunk.size() + kGroup - 1) / kGroup;
    parallel.For(groups * histories, [&](int64_t item, int slot) {
      const int64_t group = item / histories, first = chunk.begin + group * kGroup;
      WeighGroup(wave, static_cast<size_t>(item % histories), {first, std::min(first + kGroup, chunk.end)}, group,
                 parallel, slot);
    });
    FindTiles(wave, chunk);
    parallel.For(static_cast<int64_t>(tiles_.size()), [&](int64_t item, int slot) {
      const Tile& tile = tiles_[static_cast<size_t>(item)];
      {
        const StepTimer timer = parallel.Time(slot, Step::kUnit);
        PoolTile(wave, tile, chunk, scratch_[static_cast<size_t>(slot)]);
      }
      const StepTimer timer = parallel.Time(slot, Step::kTower);
      ScoreTile(wave, tile, scratch_[static_cast<size_t>(slot)], scores);
    });
  }
  FindTiles(wave, {shared_, candidates_.size()});
  parallel.For(static_cast<int64_t>(tiles_.size()), [&](int64_t item, int slot) {
    const Tile& tile = tiles_[static_cast<size_t>(item)];
    PoolTileAlone(wave, tile, parallel, slot);
    const StepTimer timer = parallel.Time(slot, Step::kTower);
    ScoreTile(wave, tile, scratch_[static_cast<size_t>(slot)], scores);
  });
}

// The candidates of the chunk in each request, tile by tile.
void CandidatePlan::FindTiles(const Wave& wave, Range chunk) {
  const int64_t most = Kernels().tile;
  tiles_.clear();
  for (int64_t r = 0; r < wave.Requests(); ++r) {
    const int64_t last = wave.CandidatesOf(r).end;
    int64_t& next = next_[static_cast<size_t>(r)];
    const auto in_chunk = [&] {
      return next < last && *candidates_.Numbers(by_request_[static_cast<size_t>(next)]) < chunk.end;
    };
    while (in_chunk()) {
      const int64_t first = next;
      do ++next;
      while (next < first + most && in_chunk());
      tiles_.push_back({r, {first, next}});
    }
  }
}

// As many candidates as their weights have room for, and enough groups for all threads.
int64_t CandidatePlan::ChunkSize(int threads) const {
  int64_t keys = 1;
  for (const Keys& history : keys_) keys += history.distinct.size();
  const int64_t groups = kWeightBytes / (keys * kGroup * static_cast<int64_t>(sizeof(float)));
  return kGroup * std::clamp<int64_t>(groups, 1, 4 * std::max(threads, 3));
}

// The weights of all needed keys for at most kGroup candidates.
void CandidatePlan::WeighGroup(const Wave& wave, size_t history, Range candidates, int64_t group,
                               const Parallel& parallel, int slot) {
  const StepTimer timer = parallel.Time(slot, Step::kUnit);
  Scratch& scratch = scratch_[static_cast<size_t>(slot)];
  const HistoryPart& part = parts_.histories[history];
  const ActivationUnit& unit = *part.unit;
  Keys& keys = keys_[history];
  float* queries = Reserve(scratch.queries, static_cast<size_t>(kGroup * unit.dim()));
  float* folded = Reserve(scratch.folded, static_cast<size_t>(kGroup * unit.folded_size()));
  float* weights = keys.weights.data() + group * keys.distinct.size() * kGroup;
  Reserve(scratch.unit, unit.scratch());
  for (int64_t c = candidates.begin; c < candidates.end; ++c) {
    part.CopyQuery(candidates_.Row(c), queries + (c - candidates.begin) * unit.dim());
  }
  {
    const StepTimer fold = parallel.Time(slot, Step::kFold);
    unit.Fold(queries, candidates.size(), folded, scratch.unit.data());
  }
  for (int64_t c = candidates.begin; c < candidates.end; ++c) {
    FindNeeded(wave, history, c, scratch);
    Weigh(history, folded + (c - candidates.begin) * unit.folded_size(), weights + (c - candidates.begin), scratch);
  }
}

// The keys to be brought together are spread over more memory than caches hold.
void CandidatePlan::PrefetchNeeded(const Keys& keys, int64_t number, const NeededKeys& needed) const {
  const int64_t tile = Kernels().tile, first = number * tile, last = std::min(first + tile, keys.distinct.size());
  if (2 * needed.KeysIn(number) >= last - first) return;
  for (int64_t key = first; key < last; ++key) {
    if (!needed.Has(key)) continue;
    const float* row = keys.distinct.Row(key);
    for (int64_t i = 0; i < keys.distinct.dim(); i += kCacheLine) __builtin_prefetch(row + i);
  }
}

// One candidate's weights of the keys in scratch.needed, kGroup floats apart. Tiles of which at least half is needed
// are scored where they are; the other needed keys are brought together first.
void CandidatePlan::Weigh(size_t history, const float* folded, float* weights, Scratch& scratch) const {
  const ActivationUnit& unit = *parts_.histories[history].unit;
  const Keys& keys = keys_[history];
  const int64_t dim = unit.dim(), tile = Kernels().tile;
  float* scores = Reserve(scratch.scores, static_cast<size_t>(tile));
  float* gathered = Reserve(scratch.tile, static_cast<size_t>(dim * tile));
  scratch.waiting.clear();
  const auto score_waiting = [&] {
    if (scratch.waiting.empty()) return;
    unit.Scores(folded, gathered, static_cast<int64_t>(scratch.waiting.size()), scratch.unit.data(), scores);
    for (size_t w = 0; w < scratch.waiting.size(); ++w) weights[scratch.waiting[w] * kGroup] = scores[w];
    scratch.waiting.clear();
  };
  const std::vector<int64_t>& tiles = scratch.needed.Tiles();
  for (size_t at = 0; at < tiles.size(); ++at) {
    if (at + 1 < tiles.size()) PrefetchNeeded(keys, tiles[at + 1], scratch.needed);
    const int64_t number = tiles[at], first = number * tile, columns = std::min(tile, keys.distinct.size() - first);
    if (2 * scratch.needed.KeysIn(number) >= columns) {
      unit.Scores(folded, keys.tiles.data() + first * dim, columns, scratch.unit.data(), scores);
      for (int64_t c = 0; c < columns; ++c) weights[(first + c) * kGroup] = scores[c];
      continue;
    }
    for (int64_t key = first; key < first + columns; ++key) {
      if (!scratch.needed.Has(key)) continue;
      const int64_t column = static_cast<int64_t>(scratch.waiting.size());
      Kernels().pack_columns(keys.distinct.Row(key), dim, 1, dim, gathered, column);
      scratch.waiting.push_back(static_cast<int32_t>(key));
      if (static_cast<int64_t>(scratch.waiting.size()) == tile) score_waiting();
    }
  }
  score_waiting();
}

float* CandidatePlan::OwnRows(Scratch& scratch) const {
  return Reserve(scratch.own, static_cast<size_t>(Kernels().tile * parts_.tower->own_width()));
}

void CandidatePlan::PoolTile(const Wave& wave, const Tile& tile, Range chunk, Scratch& scratch) const {
  const int64_t own_width = parts_.tower->own_width();
  float* own = OwnRows(scratch);
  for (size_t h = 0; h < keys_.size(); ++h) {
    const Keys& keys = keys_[h];
    const HistoryPart& part = parts_.histories[h];
    const UnitKeys& packed = wave.Keys(h)[static_cast<size_t>(tile.request)];
    const int32_t* numbers = keys.distinct.Numbers(keys.offsets[static_cast<size_t>(tile.request)]);
    for (int64_t first = 0; first < tile.places.size(); first += kGroup) {
      const int64_t count = std::min(kGroup, tile.places.size() - first);
      const int32_t* places = by_request_.data() + tile.places.begin + first;
      const auto gather = [&](const kernels::BlockKeys&, Range range, float* scores) {
        for (int64_t c = 0; c < count; ++c, scores += kernels::kBlock) {
          const int64_t place = *candidates_.Numbers(places[c]) - chunk.begin;
          const float* weights = keys.weights.data() + place / kGroup * keys.distinct.size() * kGroup + place % kGroup;
          for (int64_t t = range.begin; t < range.end; ++t) scores[t - range.begin] = weights[numbers[t] * kGroup];
        }
      };
      part.unit->PoolScored(count, packed, gather, Reserve(scratch.unit, part.unit->scratch()),
                            own + first * own_width + part.own_begin, own_width);
    }
  }
}

void CandidatePlan::PoolTileAlone(const Wave& wave, const Tile& tile, const Parallel& parallel, int slot) {
  const StepTimer timer = parallel.Time(slot, Step::kUnit);
  Scratch& scratch = scratch_[static_cast<size_t>(slot)];
  const int64_t own_width = parts_.tower->own_width();
  float* own = OwnRows(scratch);
  for (const HistoryPart& part : parts_.histories) {
    const ActivationUnit& unit = *part.unit;
    const size_t history = static_cast<size_t>(&part - parts_.histories.data());
    const UnitKeys& packed = wave.Keys(history)[static_cast<size_t>(tile.request)];
    float* queries = Reserve(scratch.queries, static_cast<size_t>(kGroup * unit.dim()));
    float* folded = Reserve(scratch.folded, static_cast<size_t>(kGroup * unit.folded_size()));
    Reserve(scratch.unit, unit.scratch());
    for (int64_t first = 0; first < tile.places.size(); first += kGroup) {
      const int64_t count = std::min(kGroup, tile.places.size() - first);
      const int32_t* places = by_request_.data() + tile.places.begin + first;
      for (int64_t c = 0; c < count; ++c) {
        part.CopyQuery(candidates_.Row(*candidates_.Numbers(places[c])), queries + c * unit.dim());
      }
      {
        const StepTimer fold = parallel.Time(slot, Step::kFold);
        unit.Fold(queries, count, folded, scratch.unit.data());
      }
      std::array<const float*, kGroup> folds;
      for (int64_t c = 0; c < count; ++c) folds[static_cast<size_t>(c)] = folded + c * unit.folded_size();
      unit.Pool(folds.data(), count, packed, scratch.unit.data(), own + first * own_width + part.own_begin, own_width);
    }
  }
}

// A tile whose histories are pooled.
void CandidatePlan::ScoreTile(const Wave& wave, const Tile& tile, Scratch& scratch, float* scores) const {
  const Tower& tower = *parts_.tower;
  const int64_t width = parts_.candidate.width();
  const int32_t* places = by_request_.data() + tile.places.begin;
  float* own = OwnRows(scratch);
  for (int64_t c = 0; c < tile.places.size(); ++c) {
    const float* features = candidates_.Row(*candidates_.Numbers(places[c]));
    std::copy(features, features + width, own + (c + 1) * tower.own_width() - width);
  }
  const float* found =
      tower.Probabilities(own, tile.places.size(), wave.Bias(tile.request), Reserve(scratch.tower, tower.scratch()));
  for (int64_t c = 0; c < tile.places.size(); ++c) scores[places[c]] = found[c];
}

}  // namespace din_infer
