// Which rows are the same, among those of many requests.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/bytes.hpp"
#include "engine/parallel.hpp"

namespace din_infer {

// Rows of `dim` floats, each kept once: those with the same bits are the same.
class RowSet {
 public:
  explicit RowSet(int64_t dim) : dim_(static_cast<size_t>(dim)) {}

  int32_t Insert(const float* row);  // its place
  int64_t size() const { return static_cast<int64_t>(hashes_.size()); }
  const float* Row(int64_t place) const { return rows_.data() + static_cast<size_t>(place) * dim_; }
  void Clear();
  size_t Bytes() const { return BytesOfAll(rows_, hashes_, table_); }

 private:
  void Grow();

  size_t dim_;
  std::vector<float> rows_;
  std::vector<uint64_t> hashes_;
  std::vector<int32_t> table_;  // by hash, linear probing; -1: free
};

// The distinct rows of a wave's items, be they candidates or behaviours. Numbered by how often they occur, the most
// frequent first.
class Distinct {
 public:
  Distinct(int64_t dim, int threads);

  // Item i of request r is offsets[r] + i; row(request, item, slot, out) writes its row [dim]. False, and nothing
  // known, where more than `limit` are distinct, whatever the threads. Each thread keeps at most `limit` rows and those
  // of one request.
  // A std::function of a std::cref allocates nothing.
  using RowOf = std::function<void(int64_t request, int64_t item, int slot, float* out)>;
  bool Find(const std::vector<int64_t>& offsets, const RowOf& row, int64_t limit, Parallel& parallel);

  // The same items in each of so many requests.
  void Repeat(int64_t requests);

  int64_t size() const { return static_cast<int64_t>(places_.size()); }
  int64_t dim() const { return static_cast<int64_t>(rows_[0].size()); }
  const float* Row(int64_t number) const { return sets_[0].Row(places_[static_cast<size_t>(number)]); }
  const int32_t* Numbers(int64_t item) const { return numbers_.data() + item; }  // from this item on
  int64_t Occurrences(int64_t number) const { return occurrences_[static_cast<size_t>(number)]; }
  size_t Bytes() const {
    return BytesOfAll(sets_, rows_, slots_, numbers_, places_, occurrences_, moved_, counts_, order_);
  }

 private:
  bool Merge(const std::vector<int64_t>& offsets, int64_t limit);
  void Number();

  std::vector<RowSet> sets_;              // one per thread, merged into the first
  std::vector<std::vector<float>> rows_;  // one per thread: [dim]
  std::vector<int> slots_;                // by request
  std::vector<int32_t> numbers_;          // by item
  std::vector<int32_t> places_;           // by number, in sets_[0]
  std::vector<int64_t> occurrences_;      // by number

  std::vector<std::vector<int32_t>> moved_;  // one per thread: by place in its set, that in sets_[0]
  std::vector<int64_t> counts_;              // by place in sets_[0]
  std::vector<int32_t> order_;               // by place in sets_[0]: of its first occurrence, then its number
};

}  // namespace din_infer
