#include "engine/fold_cache.hpp"

#include <algorithm>
#include <cstring>

namespace din_infer {

FoldCache::FoldCache(int64_t dim, int64_t folded_size, int64_t capacity)
    : dim_(static_cast<size_t>(dim)),
      folded_size_(static_cast<size_t>(folded_size)),
      shard_count_(std::clamp<size_t>(static_cast<size_t>(capacity), 1, kShards)),
      shard_capacity_(static_cast<size_t>(capacity) / shard_count_),
      offered_(shard_count_ * shard_capacity_ * kBucket) {}

FoldCache::Folded FoldCache::Find(const float* query, uint64_t hash) const {
  const Shard& shard = shards_[hash % shard_count_];
  Folded found;
  {
    const Lock lock(shard.mutex, std::try_to_lock);
    if (!lock) return nullptr;
    const auto place = shard.places.find(hash);
    if (place == shard.places.end()) return nullptr;
    const std::shared_ptr<Entry>& entry = shard.entries[place->second];
    entry->lives = kLives;
    found = entry;
  }
  return std::memcmp(found->query.data(), query, dim_ * sizeof(float)) == 0 ? found : nullptr;
}

void FoldCache::Offer(const float* query, uint64_t hash, const float* folded) {
  if (shard_capacity_ == 0 || !Offered(hash)) return;
  Shard& shard = shards_[hash % shard_count_];
  const Lock lock(shard.mutex, std::try_to_lock);
  if (!lock || shard.places.count(hash) != 0) return;
  const std::optional<size_t> place = Place(shard);
  if (!place.has_value()) return;
  const auto entry = std::make_shared<Entry>();
  entry->hash = hash;
  entry->query.assign(query, query + dim_);
  entry->folded.assign(folded, folded + folded_size_);
  if (*place == shard.entries.size()) {
    shard.entries.push_back(entry);
    ++entries_;
  } else {
    shard.places.erase(shard.entries[*place]->hash);
    shard.entries[*place] = entry;
  }
  shard.places.emplace(hash, *place);
}

// Puts the hash first in its bucket, whose last one makes room unless it was there; says whether it was. Of threads
// that do so at once one may lose its hash.
bool FoldCache::Offered(uint64_t hash) {
  const size_t bucket = hash / kShards % (offered_.size() / kBucket) * kBucket;
  uint64_t moved = hash;
  for (size_t i = 0; i < kBucket; ++i) {
    const uint64_t there = offered_[bucket + i].load(std::memory_order_relaxed);
    offered_[bucket + i].store(moved, std::memory_order_relaxed);
    if (there == hash) return true;
    moved = there;
  }
  return false;
}

// A free place, or that of the entry at the hand if it has no lives left. The hand takes one step for a newcomer, which
// is turned away where the entry lives on: queries in turn, more than there is room for, leave most entries alone.
std::optional<size_t> FoldCache::Place(Shard& shard) {
  if (shard.entries.size() < shard_capacity_) return shard.entries.size();
  const size_t place = shard.hand;
  shard.hand = (place + 1) % shard_capacity_;
  if (shard.entries[place]->lives-- > 0) return std::nullopt;
  return place;
}

size_t FoldCache::bytes() const {
  return entries_ * (sizeof(Entry) + (dim_ + folded_size_) * sizeof(float)) + offered_.size() * sizeof(uint64_t) +
         sizeof(*this);
}

}  // namespace din_infer
