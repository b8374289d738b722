// The keys that one candidate meets, by the tile that they are in. Many candidates meet few keys of many, so nothing
// here takes time in proportion to all of them.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.hpp"

namespace din_infer {

class NeededKeys {
 public:
  // None of `keys` keys, in tiles of `tile`.
  void Clear(int64_t keys, int64_t tile) {
    if (static_cast<size_t>(keys) > marks_.size() || tile != tile_ || mark_ == UINT32_MAX) {
      marks_.assign(static_cast<size_t>(keys), 0);
      counts_.assign(static_cast<size_t>((keys + tile - 1) / tile), {});
      tile_ = tile, mark_ = 0;
    }
    ++mark_;
    tiles_.clear();
    size_ = 0;
  }

  void Add(int64_t key) {
    uint32_t& mark = marks_[static_cast<size_t>(key)];
    if (mark == mark_) return;
    mark = mark_;
    ++size_;
    Count& count = counts_[static_cast<size_t>(key / tile_)];
    if (count.mark != mark_) {
      count = {mark_, 0};
      tiles_.push_back(key / tile_);
    }
    ++count.keys;
  }

  int64_t size() const { return size_; }
  bool Has(int64_t key) const { return marks_[static_cast<size_t>(key)] == mark_; }
  const std::vector<int64_t>& Tiles() const { return tiles_; }  // that hold at least one
  size_t Bytes() const { return BytesOfAll(marks_, counts_, tiles_); }
  int64_t KeysIn(int64_t tile) const { return counts_[static_cast<size_t>(tile)].keys; }

 private:
  struct Count {
    uint32_t mark = 0;
    int32_t keys = 0;
  };

  int64_t tile_ = 0, size_ = 0;
  uint32_t mark_ = 0;            // of the candidate at hand; what has another mark is not its
  std::vector<uint32_t> marks_;  // by key
  std::vector<Count> counts_;    // by tile
  std::vector<int64_t> tiles_;
};

}  // namespace din_infer
