#include "engine/fold_cache.hpp"

#include <algorithm>
#include <cstring>

namespace din_infer {

FoldCache::FoldCache(int64_t dim, int64_t folded_size, int64_t capacity)
    : dim_(static_cast<size_t>(dim)),
      folded_size_(static_cast<size_t>(folded_size)),
      shard_count_(std::clamp<size_t>(static_cast<size_t>(capacity), 1, kShards)),
      shard_capacity_(static_cast<size_t>(capacity) / shard_count_) {}

FoldCache::Folded FoldCache::Find(const float* query, uint64_t hash) const {
  const Shard& shard = shards_[hash % shard_count_];
  Folded found;
  {
    const Lock lock(shard.mutex, std::try_to_lock);
    if (!lock) return nullptr;
    const auto place = shard.places.find(hash);
    if (place == shard.places.end()) return nullptr;
    const std::shared_ptr<Entry>& entry = shard.entries[place->second];
    entry->asked.store(true, std::memory_order_relaxed);
    found = entry;
  }
  return std::memcmp(found->query.data(), query, dim_ * sizeof(float)) == 0 ? found : nullptr;
}

void FoldCache::Offer(const float* query, uint64_t hash, const float* folded) {
  if (shard_capacity_ == 0 || !Offered(hash)) return;
  const auto entry = std::make_shared<Entry>();
  entry->hash = hash;
  entry->query.assign(query, query + dim_);
  entry->folded.assign(folded, folded + folded_size_);
  Shard& shard = shards_[hash % shard_count_];
  const Lock lock(shard.mutex, std::try_to_lock);
  if (!lock || shard.places.count(hash) != 0) return;
  const size_t place = Place(shard);
  shard.entries[place] = entry;
  shard.places.emplace(hash, place);
}

// Remembers the hash in the place of another one; says whether it was there.
bool FoldCache::Offered(uint64_t hash) {
  return offered_[hash / kShards % kOffered].exchange(hash, std::memory_order_relaxed) == hash;
}

// A free place, or that of the first entry after the hand that was not asked for since the hand last passed.
size_t FoldCache::Place(Shard& shard) {
  if (shard.entries.size() < shard_capacity_) {
    shard.entries.emplace_back();
    ++entries_;
    return shard.entries.size() - 1;
  }
  while (shard.entries[shard.hand]->asked.exchange(false, std::memory_order_relaxed)) {
    shard.hand = (shard.hand + 1) % shard_capacity_;
  }
  const size_t place = shard.hand;
  shard.places.erase(shard.entries[place]->hash);
  shard.hand = (place + 1) % shard_capacity_;
  return place;
}

size_t FoldCache::bytes() const {
  return entries_ * (sizeof(Entry) + (dim_ + folded_size_) * sizeof(float)) + sizeof(*this);
}

}  // namespace din_infer
