#include <algorithm>
#include <utility>

#include "engine/batch.hpp"
#include "engine/model.hpp"
#include "engine/parallel.hpp"
#include "engine/unit_runner.hpp"

namespace din_infer {
namespace {

// Behaviours and candidates that are embedded before they are scored: bounds the memory of a call with many requests.
constexpr int64_t kWave = 1 << 15;

}  // namespace

struct Scorer::State {
  State(Model shared_model, const ScorerOptions& options)
      : model(std::move(shared_model)),
        parts(model.parts()),
        auto_fold(options.auto_fold),
        parallel(options.threads),
        scratch(static_cast<size_t>(parallel.threads())),
        unknown(scratch.size(), std::vector<int64_t>(parts.unknown.size())),
        histories(parts.histories.size()) {}

  void ScoreWave(const CheckedBatch& batch, Range requests, float* scores);
  void Prepare(const CheckedBatch& batch, int64_t request, size_t place, size_t slot);
  void PackHistory(const CheckedBatch& batch, size_t history, Range kept, size_t place, int64_t* unknown_ids);
  void CountUnknown();
  void EqualPooling(size_t history, size_t place, Range candidates, FloatBuffer& scratch);
  void RunTower(const CandidateGroup& group, FloatBuffer& scratch, float* scores);

  // Embedded requests of a wave.
  struct HistoryState {
    std::vector<FloatBuffer> tiles;  // one per request
    std::vector<PackedKeys> keys;
    FloatBuffer queries;  // [candidates, D]
    int64_t begin = 0;    // of the pooled vector in `own`
  };

  Model model;
  const Model::Parts& parts;
  bool auto_fold;
  Parallel parallel;
  std::vector<FloatBuffer> scratch;           // one per thread
  std::vector<std::vector<int64_t>> unknown;  // ids per thread and feature, until they are added to the model's
  UnitRunner runner;
  std::vector<int64_t> offsets;  // of the wave's candidates
  std::vector<HistoryState> histories;
  FloatBuffer own;     // [candidates, tower.own_width()]: pooled histories, candidate
  FloatBuffer biases;  // [requests, tower.bias_size()]
  std::vector<CandidateGroup> whole, groups;
};

void Scorer::State::ScoreWave(const CheckedBatch& batch, Range requests, float* scores) {
  const size_t count = static_cast<size_t>(requests.size());
  offsets.assign(1, 0);
  for (int64_t r = requests.begin; r < requests.end; ++r)
    offsets.push_back(offsets.back() + batch.candidate.Of(r).size());
  const size_t candidates = static_cast<size_t>(offsets.back());
  Reserve(own, candidates * static_cast<size_t>(parts.tower->own_width()));
  Reserve(biases, count * static_cast<size_t>(parts.tower->bias_size()));
  int64_t pooled = 0;
  for (size_t h = 0; h < histories.size(); ++h) {
    histories[h].keys.assign(count, {});
    if (histories[h].tiles.size() < count) histories[h].tiles.resize(count);
    histories[h].begin = pooled;
    pooled += parts.histories[h].keys.width();
    Reserve(histories[h].queries, candidates * static_cast<size_t>(parts.histories[h].keys.width()));
  }
  parallel.For(requests.size(), [&](int64_t place, int slot) {
    Prepare(batch, requests.begin + place, static_cast<size_t>(place), static_cast<size_t>(slot));
  });
  for (size_t h = 0; h < histories.size(); ++h) {
    if (!parts.histories[h].unit.has_value()) continue;
    const HistoryPart& part = parts.histories[h];
    runner.Run(*part.unit, auto_fold ? &*part.key_side : nullptr, part.folds.get(),
               {histories[h].keys, offsets.data(), histories[h].queries.data(), parts.histories[h].keys.width(),
                own.data() + histories[h].begin, parts.tower->own_width()},
               parallel);
  }
  WholeRequests(offsets.data(), requests.size(), whole);
  SplitCandidates(whole, kernels::Kernels().tile, groups);
  parallel.For(static_cast<int64_t>(groups.size()), [&](int64_t item, int slot) {
    RunTower(groups[static_cast<size_t>(item)], scratch[static_cast<size_t>(slot)], scores);
  });
}

void Scorer::State::Prepare(const CheckedBatch& batch, int64_t request, size_t place, size_t slot) {
  const Tower& tower = *parts.tower;
  FloatBuffer& buffer = scratch[slot];
  int64_t* unknown_ids = unknown[slot].data();  // moves on, group by group
  const int64_t shared = tower.shared_width();
  float* shared_values = Reserve(buffer, static_cast<size_t>(shared) + tower.scratch() + 16);
  parts.user.Embed(batch.user, request, shared_values, 1, unknown_ids);
  unknown_ids += batch.user.columns.size();
  parts.context.Embed(batch.context, request, shared_values + parts.user.width(), 1, unknown_ids);
  unknown_ids += batch.context.columns.size();
  tower.Bias(shared_values, biases.data() + static_cast<int64_t>(place) * tower.bias_size(), shared_values + shared);

  const Range wave{offsets[place], offsets[place + 1]};
  const Range given = batch.candidate.Of(request);
  const int64_t candidate_at = tower.own_width() - parts.candidate.width();
  for (int64_t c = 0; c < wave.size(); ++c) {
    float* embedded = own.data() + (wave.begin + c) * tower.own_width() + candidate_at;
    parts.candidate.Embed(batch.candidate, given.begin + c, embedded, 1, unknown_ids);
    for (size_t h = 0; h < histories.size(); ++h) {
      const HistoryPart& part = parts.histories[h];
      part.CopyQuery(embedded, histories[h].queries.data() + (wave.begin + c) * part.keys.width());
    }
  }
  unknown_ids += batch.candidate.columns.size();
  for (size_t h = 0; h < histories.size(); ++h) {
    PackHistory(batch, h, Kept(*parts.histories[h].schema, batch.histories[h].Of(request)), place, unknown_ids);
    unknown_ids += batch.histories[h].columns.size();
    if (!parts.histories[h].unit.has_value()) EqualPooling(h, place, wave, buffer);
  }
}

void Scorer::State::PackHistory(const CheckedBatch& batch, size_t history, Range kept, size_t place,
                                int64_t* unknown_ids) {
  const int64_t tile = kernels::Kernels().tile;
  const GroupEmbedding& keys = parts.histories[history].keys;
  FloatBuffer& buffer = histories[history].tiles[place];
  const size_t size = static_cast<size_t>(WholeTiles(kept.size()) * keys.width());
  float* tiles = Reserve(buffer, size);
  for (int64_t t = 0; t < kept.size(); ++t) {
    keys.Embed(batch.histories[history], kept.begin + t, tiles + t / tile * tile * keys.width() + t % tile, tile,
               unknown_ids);
  }
  if (const int64_t used = kept.size() % tile; used != 0) {
    float* last = tiles + kept.size() / tile * tile * keys.width();
    for (int64_t i = 0; i < keys.width(); ++i) std::fill(last + i * tile + used, last + (i + 1) * tile, 0.0f);
  }
  histories[history].keys[place] = {tiles, kept.size(), nullptr};
}

void Scorer::State::CountUnknown() {
  for (std::vector<int64_t>& counts : unknown) {
    for (size_t f = 0; f < counts.size(); ++f) {
      if (counts[f] != 0) parts.unknown[f].fetch_add(std::exchange(counts[f], 0), std::memory_order_relaxed);
    }
  }
}

// The base model: every behaviour weighs 1 (sum) or 1 / T (mean), so all candidates share the pooled vector.
void Scorer::State::EqualPooling(size_t history, size_t place, Range candidates, FloatBuffer& buffer) {
  const PackedKeys& keys = histories[history].keys[place];
  const int64_t dim = parts.histories[history].keys.width();
  const kernels::KernelTable& kernel = kernels::Kernels();
  float* ones = Reserve(buffer, static_cast<size_t>(kernels::kBlock + 2 * dim));
  float* pooled = ones + kernels::kBlock;
  float* block = pooled + dim;
  std::fill(pooled, pooled + dim, 0.0f);
  kernels::Partial total{};
  for (int64_t begin = 0; begin < keys.count; begin += kernels::kBlock) {
    const int64_t count = std::min(kernels::kBlock, keys.count - begin);
    std::fill(ones, ones + count, 1.0f);
    const kernels::Partial partial = kernel.pool(keys.tiles + begin * dim, dim, count, nullptr, false, ones, block);
    kernel.merge(dim, false, partial, block, &total, pooled);
  }
  if (parts.file.semantics.pooling == Pooling::kMean && keys.count > 0) {
    for (int64_t i = 0; i < dim; ++i) pooled[i] /= static_cast<float>(keys.count);
  }
  for (int64_t c = candidates.begin; c < candidates.end; ++c) {
    std::copy(pooled, pooled + dim, own.data() + c * parts.tower->own_width() + histories[history].begin);
  }
}

void Scorer::State::RunTower(const CandidateGroup& group, FloatBuffer& buffer, float* scores) {
  const Tower& tower = *parts.tower;
  const int64_t tile = kernels::Kernels().tile;
  float* logits = Reserve(buffer, static_cast<size_t>(WholeTiles(tile)) + 16 + tower.scratch());
  float* tower_scratch = logits + (tile + 15) / 16 * 16;
  tower.Logits(own.data() + group.candidates.begin * tower.own_width(), group.candidates.size(),
               biases.data() + group.request * tower.bias_size(), tower_scratch, logits);
  kernels::Kernels().sigmoid(logits);
  std::copy(logits, logits + group.candidates.size(), scores + group.candidates.begin);
}

Scorer::Scorer(Model model, ScorerOptions options) : state_(std::make_unique<State>(std::move(model), options)) {}

Scorer::~Scorer() = default;
Scorer::Scorer(Scorer&&) noexcept = default;

int64_t Scorer::candidates(const Batch& batch) const {
  return CheckBatch(state_->parts.file.schema, batch).Candidates();
}

void Scorer::score(const Batch& batch, float* scores) {
  const CheckedBatch checked = CheckBatch(state_->parts.file.schema, batch);
  Range wave;
  while (wave.end < checked.requests) {
    wave.begin = wave.end;
    for (int64_t size = 0; wave.end < checked.requests && size < kWave; ++wave.end) {
      size += checked.candidate.Of(wave.end).size();
      for (const GroupColumns& history : checked.histories) size += history.Of(wave.end).size();
    }
    state_->ScoreWave(checked, wave, scores + checked.candidate.Of(wave.begin).begin);
    state_->CountUnknown();
  }
}

}  // namespace din_infer
