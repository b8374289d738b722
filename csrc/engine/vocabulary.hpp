// Raw ids to rows of an embedding table.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/page_allocator.hpp"
#include "base/schema.hpp"
#include "onnx/model_file.hpp"

namespace din_infer {

// A flat hash map with linear probing, filled once. Half of its slots are free, so a look-up reads one cache line of
// them, and the lines of several ids are fetched before the first is read. What a Slot has: see Int64Slot.
template <typename Slot>
class IdMap {
 public:
  using Key = typename Slot::Key;

  explicit IdMap(size_t ids);

  // For at most as many ids as were announced; false where the id is there already.
  bool Insert(Key id, int64_t row);

  // rows[i] = the row of id(i), or 0.
  template <typename IdOf>
  void Rows(const IdOf& id, int64_t count, int64_t* rows) const;

  // visit(slot) for each id, in no order.
  template <typename Visit>
  void ForEach(const Visit& visit) const {
    for (const Slot& slot : slots_) {
      if (!slot.Free()) visit(slot);
    }
  }

  size_t bytes() const { return slots_.size() * sizeof(Slot); }

 private:
  size_t First(uint64_t hash) const;
  size_t After(size_t slot) const { return slot + 1 == slots_.size() ? 0 : slot + 1; }

  uint64_t seed_;
  std::vector<Slot, PageAllocator<Slot>> slots_;
};

struct Int64Slot {
  using Key = int64_t;

  static uint64_t Hash(Key id, uint64_t seed);
  static Int64Slot Of(Key id, uint64_t, int64_t row) { return {id, row}; }
  bool Free() const { return row < 0; }
  bool Is(Key key, uint64_t) const { return id == key; }

  int64_t id = 0, row = -1;
};

struct StringSlot {
  using Key = std::string_view;

  static uint64_t Hash(Key id, uint64_t seed);
  static StringSlot Of(Key id, uint64_t hash, int64_t row) {
    return {id.data(), static_cast<uint32_t>(id.size()), static_cast<uint32_t>(hash), row};
  }
  bool Free() const { return row < 0; }
  bool MayBe(Key key, uint64_t hash) const { return tag == static_cast<uint32_t>(hash) && size == key.size(); }
  bool Is(Key key, uint64_t hash) const { return MayBe(key, hash) && Key(data, size) == key; }

  const char* data = nullptr;
  uint32_t size = 0, tag = 0;  // of the hash the bits that do not say where probing starts
  int64_t row = -1;
};

class RowMap {
 public:
  // The vocabulary's strings must outlive the map. Throws ModelFileError for an id that is there twice.
  RowMap(const Table& table, const Vocabulary& vocabulary);

  // The row of each of `count` ids, of an int64 table and of a string table; ids are characters [offsets[i],
  // offsets[i + 1]).
  void Rows(const int64_t* ids, int64_t count, int64_t* rows) const;
  void Rows(const char* characters, const int64_t* offsets, int64_t count, int64_t* rows) const;

  // The int64 ids of a vocabulary; another table has none.
  const IdMap<Int64Slot>& int64s() const { return int64s_; }

  bool has_default() const { return ids_ != Ids::kHash; }  // whether row 0 stands for ids that are unknown
  size_t bytes() const { return int64s_.bytes() + strings_.bytes(); }

 private:
  Ids ids_;
  int64_t size_;
  IdMap<Int64Slot> int64s_;
  IdMap<StringSlot> strings_;
};

}  // namespace din_infer
