#include "engine/candidate_plan.hpp"

#include <algorithm>
#include <atomic>
#include <numeric>

namespace din_infer {
namespace {

using kernels::Kernels;

// Memory that the weights of a chunk of candidates may take.
constexpr int64_t kWeightBytes = int64_t{32} << 20;

// And the features of distinct candidates.
constexpr int64_t kCandidateBytes = int64_t{64} << 20;

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
  const std::vector<int64_t> offsets(wave.Offsets(), wave.Offsets() + requests + 1);
  const auto row = [&](int64_t request, int64_t item, int slot, float* out) {
    const int64_t candidate = wave.CandidatesOf(request).begin + item;
    wave.EmbedCandidates({candidate, candidate + 1}, slot, out, 0);
  };
  const int64_t limit = kCandidateBytes / (parts_.candidate.width() * static_cast<int64_t>(sizeof(float)));
  if (!candidates_.Find(offsets, row, limit, parallel)) return false;
  if (wave.SharedCandidates()) candidates_.Repeat(wave.Requests());
  SortPairs(wave);
  report = {};
  report.candidates = wave.Candidates();
  report.distinct_candidates = candidates_.size();
  report.request = report.candidate = wave.Candidates() * parts_.tower->Work();
  for (size_t h = 0; h < keys_.size(); ++h) {
    FindKeys(wave, h, parallel);
    AddUnit(wave, h, auto_fold, parallel, report);
  }
  return true;
}

void CandidatePlan::AddUnit(const Wave& wave, size_t history, bool auto_fold, Parallel& parallel, PlanReport& report) {
  const ActivationUnit& unit = *parts_.histories[history].unit;
  int64_t pairs = 0, folds = 0;
  for (int64_t r = 0; r < wave.Requests(); ++r) {
    const int64_t queries = wave.CandidatesOf(r).size(), keys = wave.Keys(history)[static_cast<size_t>(r)].count;
    pairs += queries * keys;
    folds += auto_fold ? std::min(queries, keys) : queries;
  }
  if (const auto& cache = parts_.histories[history].folds; cache != nullptr && !auto_fold) {
    // It holds the most frequent candidates, from their second visit on.
    for (int64_t c = 0; c < std::min(cache->capacity(), candidates_.size()); ++c) {
      folds -= std::max<int64_t>(candidates_.Occurrences(c) - 2, 0);
    }
  }
  std::atomic<int64_t> distinct{0};
  parallel.For((candidates_.size() + kGroup - 1) / kGroup, [&](int64_t group, int slot) {
    for (int64_t c = group * kGroup; c < std::min((group + 1) * kGroup, candidates_.size()); ++c) {
      FindNeeded(wave, history, c, scratch_[static_cast<size_t>(slot)]);
      distinct += scratch_[static_cast<size_t>(slot)].needed.size();
    }
  });
  report.pairs += pairs;
  report.distinct_pairs += distinct;
  report.request += folds * unit.FoldWork() + pairs * unit.PairWork();
  report.candidate += candidates_.size() * unit.FoldWork() + distinct * unit.ScoreWork() + pairs * unit.dim();
}

void CandidatePlan::FindKeys(const Wave& wave, size_t history, Parallel& parallel) {
  Keys& keys = keys_[history];
  const std::vector<PackedKeys>& packed = wave.Keys(history);
  const int64_t dim = parts_.histories[history].keys.width(), tile = Kernels().tile;
  keys.offsets.assign(1, 0);
  for (const PackedKeys& request : packed) keys.offsets.push_back(keys.offsets.back() + request.count);
  keys.distinct.Find(
      keys.offsets,
      [&](int64_t request, int64_t item, int, float* out) {
        const float* column = packed[static_cast<size_t>(request)].tiles + ColumnPlace(item, dim);
        for (int64_t i = 0; i < dim; ++i) out[i] = column[i * tile];
      },
      keys.offsets.back() + 1, parallel);
  const int64_t count = keys.distinct.size();
  float* tiles = Reserve(keys.tiles, static_cast<size_t>(WholeTiles(count) * dim));
  for (int64_t k = 0; k < count; ++k) PackColumn(keys.distinct.Row(k), dim, tiles, k);
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
  std::vector<int64_t> ends(begins_.begin(), begins_.end() - 1);
  for (int64_t r = 0; r < wave.Requests(); ++r) {
    const Range candidates = wave.CandidatesOf(r);
    for (int64_t c = candidates.begin; c < candidates.end; ++c) {
      const size_t place = static_cast<size_t>(ends[static_cast<size_t>(*candidates_.Numbers(c))]++);
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
  for (Range chunk{0, 0}; chunk.begin < candidates_.size(); chunk.begin = chunk.end) {
    chunk.end = std::min(chunk.begin + chunk_size, candidates_.size());
    const int64_t groups = (chunk.size() + kGroup - 1) / kGroup;
    parallel.For(groups * histories, [&](int64_t item, int slot) {
      const int64_t group = item / histories, first = chunk.begin + group * kGroup;
      WeighGroup(wave, static_cast<size_t>(item % histories), {first, std::min(first + kGroup, chunk.end)}, group,
                 scratch_[static_cast<size_t>(slot)]);
    });
    FindTiles(wave, chunk);
    parallel.For(static_cast<int64_t>(tiles_.size()), [&](int64_t item, int slot) {
      ScoreTile(wave, tiles_[static_cast<size_t>(item)], chunk, scratch_[static_cast<size_t>(slot)], scores);
    });
  }
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
void CandidatePlan::WeighGroup(const Wave& wave, size_t history, Range candidates, int64_t group, Scratch& scratch) {
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
  unit.Fold(queries, unit.dim(), candidates.size(), folded, scratch.unit.data());
  for (int64_t c = candidates.begin; c < candidates.end; ++c) {
    FindNeeded(wave, history, c, scratch);
    Weigh(history, folded + (c - candidates.begin) * unit.folded_size(), weights + (c - candidates.begin), scratch);
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
  for (const int64_t number : scratch.needed.Tiles()) {
    const int64_t first = number * tile, columns = std::min(tile, keys.distinct.size() - first);
    if (2 * scratch.needed.KeysIn(number) >= columns) {
      unit.Scores(folded, keys.tiles.data() + first * dim, columns, scratch.unit.data(), scores);
      for (int64_t c = 0; c < columns; ++c) weights[(first + c) * kGroup] = scores[c];
      continue;
    }
    for (int64_t key = first; key < first + columns; ++key) {
      if (!scratch.needed.Has(key)) continue;
      PackColumn(keys.distinct.Row(key), dim, gathered, static_cast<int64_t>(scratch.waiting.size()));
      scratch.waiting.push_back(static_cast<int32_t>(key));
      if (static_cast<int64_t>(scratch.waiting.size()) == tile) score_waiting();
    }
  }
  score_waiting();
}

void CandidatePlan::ScoreTile(const Wave& wave, const Tile& tile, Range chunk, Scratch& scratch, float* scores) const {
  const Tower& tower = *parts_.tower;
  float* own = Reserve(scratch.own, static_cast<size_t>(Kernels().tile * tower.own_width()));
  const int32_t* places = by_request_.data() + tile.places.begin;
  for (int64_t c = 0; c < tile.places.size(); ++c) {
    const int64_t number = *candidates_.Numbers(places[c]);
    Pool(wave, tile.request, number, number - chunk.begin, own + c * tower.own_width(), scratch);
  }
  const float* found = tower.Probabilities(own, tile.places.size(), wave.Bias(tile.request), scratch.tower);
  for (int64_t c = 0; c < tile.places.size(); ++c) scores[places[c]] = found[c];
}

// What the tower reads of one candidate: the histories pooled with its weights, and its own features.
void CandidatePlan::Pool(const Wave& wave, int64_t request, int64_t candidate, int64_t place, float* own,
                         Scratch& scratch) const {
  for (size_t h = 0; h < keys_.size(); ++h) {
    const Keys& keys = keys_[h];
    const ActivationUnit& unit = *parts_.histories[h].unit;
    const PackedKeys& packed = wave.Keys(h)[static_cast<size_t>(request)];
    const int32_t* numbers = keys.distinct.Numbers(keys.offsets[static_cast<size_t>(request)]);
    const float* weights = keys.weights.data() + place / kGroup * keys.distinct.size() * kGroup + place % kGroup;
    float* scores = Reserve(scratch.scores, static_cast<size_t>(WholeTiles(packed.count)));
    for (int64_t t = 0; t < packed.count; ++t) scores[t] = weights[numbers[t] * kGroup];
    unit.PoolScores(scores, packed, Reserve(scratch.unit, unit.scratch()), own + parts_.histories[h].own_begin);
  }
  const float* features = candidates_.Row(candidate);
  std::copy(features, features + parts_.candidate.width(), own + parts_.tower->own_width() - parts_.candidate.width());
}

}  // namespace din_infer
