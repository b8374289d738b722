// Folded queries that come again. Popular candidates are in most requests, and a fold reads the candidate alone.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/buffer.hpp"

namespace din_infer {

// A bounded map from a query's bits to its folded form, for many threads at once. A query is admitted when it comes for
// the second time and there is room, or an entry that has not been asked for lately to take the place of. Nobody waits
// for a lock: to compute a fold again takes microseconds, and in a forked child the owner of a lock may not exist.
class FoldCache {
 public:
  // Of an entry that is new or asked for. More keep the popular ones among many that come again, fewer forget earlier
  // what is no longer popular.
  static constexpr int kLives = 2;

  struct Entry {
    uint64_t hash = 0;
    int lives = kLives;  // times that the hand passes it by
    FloatBuffer query, folded;
  };
  using Folded = std::shared_ptr<const Entry>;

  // At most `capacity` queries of `dim` floats, whose folded forms have `folded_size`.
  FoldCache(int64_t dim, int64_t folded_size, int64_t capacity);

  // The query's folded form, or null. `hash` is the query's HashRow, here and below.
  Folded Find(const float* query, uint64_t hash) const;

  // Keeps a copy of both if this query was offered before and there is a place for it.
  void Offer(const float* query, uint64_t hash, const float* folded);

  int64_t capacity() const { return static_cast<int64_t>(shard_count_ * shard_capacity_); }
  size_t bytes() const;  // of what is kept now

 private:
  static constexpr size_t kShards = 16;  // at most: few threads ask for the same one at the same time
  static constexpr size_t kBucket = 8;   // hashes of recent offers; there are as many buckets as places for entries
  using Lock = std::unique_lock<std::mutex>;
  struct Shard {
    mutable std::mutex mutex;
    std::unordered_map<uint64_t, size_t> places;  // by hash
    std::vector<std::shared_ptr<Entry>> entries;
    size_t hand = 0;  // the next to be considered for leaving
  };

  bool Offered(uint64_t hash);
  std::optional<size_t> Place(Shard& shard);

  size_t dim_, folded_size_, shard_count_, shard_capacity_;
  std::array<Shard, kShards> shards_;
  std::atomic<size_t> entries_{0};
  std::vector<std::atomic<uint64_t>> offered_;
};

}  // namespace din_infer
