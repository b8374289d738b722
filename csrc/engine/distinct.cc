#include "engine/distinct.hpp"

#include <algorithm>
#include <cstring>

#include "engine/row_hash.hpp"

namespace din_infer {

int32_t RowSet::Insert(const float* row) {
  if (2 * (hashes_.size() + 1) > table_.size()) Grow();
  const uint64_t hash = HashRow(row, dim_);
  const size_t mask = table_.size() - 1;
  size_t at = hash & mask;
  for (; table_[at] >= 0; at = (at + 1) & mask) {
    const int32_t place = table_[at];
    if (hashes_[static_cast<size_t>(place)] == hash && std::memcmp(Row(place), row, dim_ * sizeof(float)) == 0) {
      return place;
    }
  }
  const int32_t place = static_cast<int32_t>(hashes_.size());
  table_[at] = place;
  hashes_.push_back(hash);
  rows_.insert(rows_.end(), row, row + dim_);
  return place;
}

void RowSet::Clear() {
  rows_.clear();
  hashes_.clear();
  std::fill(table_.begin(), table_.end(), -1);
}

void RowSet::Grow() {
  table_.assign(std::max<size_t>(64, 2 * table_.size()), -1);
  const size_t mask = table_.size() - 1;
  for (size_t place = 0; place < hashes_.size(); ++place) {
    size_t at = hashes_[place] & mask;
    while (table_[at] >= 0) at = (at + 1) & mask;
    table_[at] = static_cast<int32_t>(place);
  }
}

Distinct::Distinct(int64_t dim, int threads)
    : sets_(static_cast<size_t>(threads), RowSet(dim)),
      rows_(sets_.size(), std::vector<float>(static_cast<size_t>(dim))) {}

bool Distinct::Find(const std::vector<int64_t>& offsets, const RowOf& row, int64_t limit, Parallel& parallel) {
  for (RowSet& set : sets_) set.Clear();
  slots_.resize(offsets.size() - 1);
  numbers_.resize(static_cast<size_t>(offsets.back()));
  parallel.For(static_cast<int64_t>(slots_.size()), [&](int64_t request, int slot) {
    const size_t r = static_cast<size_t>(request), s = static_cast<size_t>(slot);
    slots_[r] = slot;
    if (sets_[s].size() > limit) return;
    for (int64_t item = offsets[r]; item < offsets[r + 1]; ++item) {
      row(request, item - offsets[r], slot, rows_[s].data());
      numbers_[static_cast<size_t>(item)] = sets_[s].Insert(rows_[s].data());
    }
  });
  for (const RowSet& set : sets_) {
    if (set.size() > limit) return false;
  }
  if (!Merge(offsets, limit)) return false;
  Number();
  return true;
}

void Distinct::Repeat(int64_t requests) {
  const size_t items = numbers_.size();
  numbers_.resize(items * static_cast<size_t>(requests));
  for (size_t from = 0; from + items < numbers_.size(); from += items) {
    std::copy_n(numbers_.begin() + static_cast<int64_t>(from), items,
                numbers_.begin() + static_cast<int64_t>(from + items));
  }
  for (int64_t& count : occurrences_) count *= requests;
}

// Places in each thread's set become places in the first. False as in Find.
bool Distinct::Merge(const std::vector<int64_t>& offsets, int64_t limit) {
  moved_.resize(sets_.size());
  for (size_t s = 1; s < sets_.size(); ++s) {
    moved_[s].clear();
    for (int64_t place = 0; place < sets_[s].size(); ++place) {
      moved_[s].push_back(sets_[0].Insert(sets_[s].Row(place)));
      if (sets_[0].size() > limit) return false;
    }
  }
  for (size_t r = 0; r < slots_.size(); ++r) {
    const size_t slot = static_cast<size_t>(slots_[r]);
    if (slot == 0) continue;
    for (int64_t item = offsets[r]; item < offsets[r + 1]; ++item) {
      int32_t& place = numbers_[static_cast<size_t>(item)];
      place = moved_[slot][static_cast<size_t>(place)];
    }
  }
  return true;
}

// Equally frequent rows are numbered as they first occur, so the numbers do not depend on the threads that found them.
void Distinct::Number() {
  counts_.assign(static_cast<size_t>(sets_[0].size()), 0);
  order_.resize(counts_.size());
  places_.clear();
  for (const int32_t place : numbers_) {
    if (counts_[static_cast<size_t>(place)]++ > 0) continue;
    order_[static_cast<size_t>(place)] = static_cast<int32_t>(places_.size());
    places_.push_back(place);
  }
  const auto occurs = [&](int32_t place) { return counts_[static_cast<size_t>(place)]; };
  std::sort(places_.begin(), places_.end(), [&](int32_t a, int32_t b) {
    return occurs(a) != occurs(b) ? occurs(a) > occurs(b)
                                  : order_[static_cast<size_t>(a)] < order_[static_cast<size_t>(b)];
  });
  occurrences_.resize(counts_.size());
  std::transform(places_.begin(), places_.end(), occurrences_.begin(), occurs);
  for (size_t n = 0; n < places_.size(); ++n) order_[static_cast<size_t>(places_[n])] = static_cast<int32_t>(n);
  for (int32_t& item : numbers_) item = order_[static_cast<size_t>(item)];
}

}  // namespace din_infer
