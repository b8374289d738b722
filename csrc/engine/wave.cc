#include "engine/wave.hpp"

#include <algorithm>

#include "engine/key_tiles.hpp"

namespace din_infer {

Wave::Wave(const Model::Parts& parts, int threads)
    : parts_(parts),
      histories_(parts.histories.size()),
      scratch_(static_cast<size_t>(threads)),
      unknown_(scratch_.size(), std::vector<int64_t>(parts.unknown.size())),
      counted_before_(unknown_) {}

void Wave::Prepare(const CheckedBatch& batch, Range requests, Parallel& parallel, const User::State* user) {
  batch_ = &batch;
  user_ = user;
  requests_ = requests;
  offsets_.assign(1, 0);
  for (int64_t r = requests.begin; r < requests.end; ++r) {
    offsets_.push_back(offsets_.back() + batch.candidate.Of(r).size());
  }
  const size_t count = static_cast<size_t>(requests.size());
  Reserve(biases_, count * static_cast<size_t>(parts_.tower->bias_size()));
  for (History& history : histories_) {
    history.keys.assign(count, {});
    if (history.tiles.size() < count) history.tiles.resize(count);
  }
  parallel.For(requests.size(), [&](int64_t request, int slot) {
    float* shared = nullptr;
    {
      const StepTimer timer = parallel.Time(slot, Step::kLookUp);
      shared = EmbedRequest(request, slot);
    }
    const StepTimer timer = parallel.Time(slot, Step::kTower);
    const Tower& tower = *parts_.tower;
    tower.Bias(shared, biases_.data() + request * tower.bias_size(), shared + tower.shared_width());
  });
}

const float* Wave::Bias(int64_t request) const { return biases_.data() + request * parts_.tower->bias_size(); }

void Wave::EmbedCandidates(Range candidates, int slot, float* out, int64_t step) {
  const size_t before = parts_.file.schema.user.features.size() + batch_->context.columns.size();
  std::vector<int64_t>& unknown = unknown_[static_cast<size_t>(slot)];
  if (!SharedCandidates()) {
    const int64_t before_wave = batch_->candidate.Of(requests_.begin).begin;
    const Range given = {before_wave + candidates.begin, before_wave + candidates.end};
    return parts_.candidate.Embed(batch_->candidate, given, {out, step, 1}, unknown.data() + before);
  }
  if (candidates.size() == 0) return;
  const int64_t catalogue = batch_->candidate.Of(0).size(), item = candidates.begin % catalogue;
  const bool first = requests_.begin == 0 && candidates.begin < catalogue;
  parts_.candidate.Embed(batch_->candidate, {item, item + candidates.size()}, {out, step, 1},
                         first ? unknown.data() + before : counted_before_[static_cast<size_t>(slot)].data());
}

float* Wave::EmbedRequest(int64_t request, int slot) {
  const Tower& tower = *parts_.tower;
  const int64_t row = requests_.begin + request;
  int64_t* unknown_ids = unknown_[static_cast<size_t>(slot)].data();  // moves on, group by group
  float* values =
      Reserve(scratch_[static_cast<size_t>(slot)], static_cast<size_t>(tower.shared_width()) + tower.scratch() + 16);
  if (user_ != nullptr) {
    std::copy_n(user_->features.data(), parts_.user.width(), values);
  } else {
    parts_.user.Embed(batch_->user, {row, row + 1}, {values, 0, 1}, unknown_ids);
  }
  unknown_ids += parts_.file.schema.user.features.size();
  parts_.context.Embed(batch_->context, {row, row + 1}, {values + parts_.user.width(), 0, 1}, unknown_ids);
  unknown_ids += batch_->context.columns.size() + batch_->candidate.columns.size();
  for (size_t h = 0; h < histories_.size(); ++h) {
    if (user_ != nullptr) {
      histories_[h].keys[static_cast<size_t>(request)] = user_->histories[h].Packed();
      continue;
    }
    const GroupColumns& columns = batch_->histories[h];
    PackHistory(h, Kept(*parts_.histories[h].schema, columns.Of(row)), static_cast<size_t>(request), unknown_ids);
    unknown_ids += columns.columns.size();
  }
  return values;
}

void Wave::PackHistory(size_t history, Range kept, size_t request, int64_t* unknown_ids) {
  const GroupEmbedding& keys = parts_.histories[history].keys;
  float* memory =
      Reserve(histories_[history].tiles[request], static_cast<size_t>(WholeTiles(kept.size()) * keys.width()));
  const KeyTiles tiles(keys, memory);
  tiles.Embed(batch_->histories[history], kept, 0, unknown_ids);
  FillTiles(kept.size(), keys.width(), memory);
  histories_[history].keys[request] = {memory, kept.size(), nullptr};
}

void Wave::CountUnknown() {
  for (const std::vector<int64_t>& ids : unknown_) parts_.CountUnknown(ids);
  ForgetUnknown();
}

void Wave::ForgetUnknown() {
  for (std::vector<int64_t>& counts : unknown_) std::fill(counts.begin(), counts.end(), 0);
}

}  // namespace din_infer
