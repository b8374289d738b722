#include "engine/wave.hpp"

#include <algorithm>

#include "engine/key_tiles.hpp"

namespace din_infer {
Wave::Wave(const Model::Parts& parts, int threads)
    : parts_(parts),
      histories_(parts.histories.size()),
      scratch_(static_cast<size_t>(threads)),
      unknown_(scratch_.size(), std::vector<int64_t>(parts.unknown.size())),
      counted_before_(unknown_) {
  const Schema& schema = parts.file.schema;
  size_t at = schema.user.features.size() + schema.context.features.size() + schema.candidate.features.size();
  for (size_t h = 0; h < histories_.size(); ++h) {
    histories_[h].unknown_at = at;
    at += schema.histories[h].features.size();
  }
}

void Wave::Prepare(const CheckedBatch& batch, Range requests, Parallel& parallel, const User::State* user) {
  batch_ = &batch;
  user_ = user;
  requests_ = requests;
  offsets_.assign(1, 0);
  for (int64_t r = requests.begin; r < requests.end; ++r) {
    offsets_.push_back(offsets_.back() + batch.candidate.Of(r).size());
  }
  const size_t count = static_cast<size_t>(requests.size());
  const Tower& tower = *parts_.tower;
  Reserve(biases_, count * static_cast<size_t>(tower.bias_size()));
  size_t scratch = static_cast<size_t>(tower.shared_width()) + tower.scratch();
  for (const HistoryPart& part : parts_.histories) {
    scratch = std::max(scratch, static_cast<size_t>(KeyTiles::Scratch(part.keys.width())));
  }
  ReserveAll(scratch_, scratch);
  stretches_.clear();
  for (size_t h = 0; h < histories_.size(); ++h) {
    histories_[h].keys.assign(count, user == nullptr ? UnitKeys{} : user->histories[h].Packed());
    if (user == nullptr) FindStretches(h);
  }
  const int64_t stretches = static_cast<int64_t>(stretches_.size());
  parallel.For(requests.size() + stretches, [&](int64_t item, int slot) {
    if (item < stretches) {
      const StepTimer timer = parallel.Time(slot, Step::kLookUp);
      return Embed(stretches_[static_cast<size_t>(item)], slot);
    }
    const int64_t request = item - stretches;
    float* shared = nullptr;
    {
      const StepTimer timer = parallel.Time(slot, Step::kLookUp);
      shared = EmbedRequest(request, slot);
    }
    const StepTimer timer = parallel.Time(slot, Step::kTower);
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
    return parts_.candidate.Embed(batch_->candidate, given, {out, step}, unknown.data() + before);
  }
  if (candidates.size() == 0) return;
  const int64_t catalogue = batch_->candidate.Of(0).size(), item = candidates.begin % catalogue;
  const bool first = requests_.begin == 0 && candidates.begin < catalogue;
  parts_.candidate.Embed(batch_->candidate, {item, item + candidates.size()}, {out, step},
                         first ? unknown.data() + before : counted_before_[static_cast<size_t>(slot)].data());
}

float* Wave::EmbedRequest(int64_t request, int slot) {
  const int64_t row = requests_.begin + request;
  int64_t* unknown_ids = unknown_[static_cast<size_t>(slot)].data();  // moves on, group by group
  float* values = scratch_[static_cast<size_t>(slot)].data();
  if (user_ != nullptr) {
    std::copy_n(user_->features.data(), parts_.user.width(), values);
  } else {
    parts_.user.Embed(batch_->user, {row, row + 1}, {values, 0}, unknown_ids);
  }
  unknown_ids += parts_.file.schema.user.features.size();
  parts_.context.Embed(batch_->context, {row, row + 1}, {values + parts_.user.width(), 0}, unknown_ids);
  return values;
}

void Wave::FindStretches(size_t history) {
  const HistoryPart& part = parts_.histories[history];
  const auto kept = [&](size_t request) {
    return Kept(*part.schema, batch_->histories[history].Of(requests_.begin + static_cast<int64_t>(request)));
  };
  History& own = histories_[history];
  for (size_t r = 0; r < own.keys.size(); ++r) own.keys[r].count = kept(r).size();
  MakeRoom(part.keys.width(), own.tiles, own.keys, [&](size_t request, Range keys, float* tiles) {
    const int64_t begin = kept(request).begin;
    stretches_.push_back({history, tiles, {begin + keys.begin, begin + keys.end}, keys.begin});
  });
}

void Wave::Embed(const Stretch& stretch, int slot) {
  const KeyTiles tiles(parts_.histories[stretch.history].keys, stretch.tiles);
  tiles.Embed(batch_->histories[stretch.history], stretch.behaviours, stretch.first,
              scratch_[static_cast<size_t>(slot)].data(),
              unknown_[static_cast<size_t>(slot)].data() + histories_[stretch.history].unknown_at);
}

void Wave::CountUnknown() {
  for (const std::vector<int64_t>& ids : unknown_) parts_.CountUnknown(ids);
  ForgetUnknown();
}

void Wave::ForgetUnknown() {
  for (std::vector<int64_t>& counts : unknown_) std::fill(counts.begin(), counts.end(), 0);
}

}  // namespace din_infer
