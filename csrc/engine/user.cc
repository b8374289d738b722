#include "engine/user.hpp"

#include <algorithm>
#include <string>

#include "engine/key_tiles.hpp"
#include "engine/looked_up.hpp"

namespace din_infer {
namespace {

// The part of `all` within `kept`.
Range Within(Range all, Range kept) {
  const int64_t begin = std::max(all.begin, kept.begin);
  return {begin, std::max(begin, std::min(all.end, kept.end))};
}

void CheckOne(const Batch& batch) {
  if (batch.requests != 1) throw InputError("requests: expected 1, of a user, got " + std::to_string(batch.requests));
}

}  // namespace

void User::State::Prepare(const CheckedBatch& batch) {
  histories.resize(parts.histories.size());
  std::vector<int64_t> unknown(parts.unknown.size());
  float* embedded = Reserve(features, static_cast<size_t>(parts.user.width()));
  parts.user.Embed(batch.user, {0, 1}, {embedded, 0}, unknown.data());
  parts.CountUnknown(unknown);
  Append(batch);
}

void User::State::Append(const CheckedBatch& batch) {
  const Schema& schema = parts.file.schema;
  std::vector<int64_t> unknown(parts.unknown.size());
  std::vector<Keys> longer;
  size_t feature = schema.user.features.size() + schema.context.features.size() + schema.candidate.features.size();
  for (size_t h = 0; h < histories.size(); ++h) {
    longer.push_back(Longer(batch, h, unknown.data() + feature));
    feature += schema.histories[h].features.size();
  }
  histories.swap(longer);
  parts.CountUnknown(unknown);
}

User::State::Keys User::State::Longer(const CheckedBatch& batch, size_t history, int64_t* unknown) const {
  const Keys& before = histories[history];
  const HistoryPart& part = parts.histories[history];
  const Range given = batch.histories[history].Of(0);
  const bool behind = part.schema->oldest_first;
  const Range kept = Kept(*part.schema, {0, before.count + given.size()});
  const int64_t old_at = behind ? 0 : given.size(), new_at = behind ? before.count : 0;
  const Range old_ones = Within({old_at, old_at + before.count}, kept);
  const Range new_ones = Within({new_at, new_at + given.size()}, kept);

  Keys keys;
  keys.count = kept.size();
  float* memory = Reserve(keys.tiles, static_cast<size_t>(WholeTiles(keys.count) * part.keys.width()));
  const KeyTiles tiles(part.keys, memory);
  tiles.Copy(before.tiles.data(), {old_ones.begin - old_at, old_ones.end - old_at}, old_ones.begin - kept.begin);
  FloatBuffer scratch(static_cast<size_t>(KeyTiles::Scratch(part.keys.width())));
  tiles.Embed(batch.histories[history], {given.begin + new_ones.begin - new_at, given.begin + new_ones.end - new_at},
              new_ones.begin - kept.begin, scratch.data(), unknown);
  FillTiles(keys.count, part.keys.width(), memory);
  return keys;
}

size_t User::State::MemoryBytes() const {
  size_t bytes = sizeof(State) + features.capacity() * sizeof(float) + histories.capacity() * sizeof(Keys);
  for (const Keys& keys : histories) bytes += keys.tiles.capacity() * sizeof(float);
  return bytes;
}

User::User(Model model, const Batch& batch) : state_(std::make_unique<State>(std::move(model))) {
  CheckOne(batch);
  const Schema& schema = state_->parts.file.schema;
  CheckedBatch checked(schema, batch, BatchPart::kUser);
  LookedUpRows looked_up;
  looked_up.Replace(schema, checked);
  state_->Prepare(checked);
}

User::~User() = default;
User::User(const User& other) : state_(std::make_unique<State>(*other.state_)) {}
User::User(User&&) noexcept = default;

User& User::operator=(User other) noexcept {
  state_.swap(other.state_);
  return *this;
}

void User::append(const Batch& behaviours) {
  CheckOne(behaviours);
  const Schema& schema = state_->parts.file.schema;
  CheckedBatch checked(schema, behaviours, BatchPart::kBehaviours);
  LookedUpRows looked_up;
  looked_up.Replace(schema, checked);
  state_->Append(checked);
}

size_t User::memory_bytes() const { return state_->MemoryBytes(); }

}  // namespace din_infer
