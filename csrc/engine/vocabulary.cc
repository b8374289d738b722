#include "engine/vocabulary.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <string>
#include <type_traits>

#include "base/errors.hpp"

namespace din_infer {
namespace {

constexpr int64_t kBatch = 32;  // ids whose slots are fetched at a time: a core has 10 to 20 reads under way

using Uint128 = unsigned __int128;

// With a seed that is known, a model file could hold ids that all collide, and would load forever.
uint64_t Seed() {
  std::random_device random;
  return uint64_t{random()} << 32 | random();
}

// Both halves of the product, as in wyhash (W. Yi, public domain); so are the constants.
uint64_t Mix(uint64_t a, uint64_t b) {
  const Uint128 product = static_cast<Uint128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

constexpr uint64_t kInner = 0xA0761D6478BD642F, kLast = 0xE7037ED1A0B428DB;

template <typename Number>
uint64_t Read(const char* bytes) {
  Number number;
  std::memcpy(&number, bytes, sizeof number);
  return number;
}

// Fewer than 8 bytes, some of them twice. A copy into a zeroed word would be read back before its bytes are stored, and
// so wait for all stores before it: three times as long to fill a map.
uint64_t Short(std::string_view id) {
  const char* end = id.data() + id.size();
  if (id.size() >= 4) return Read<uint32_t>(id.data()) | Read<uint32_t>(end - 4) << 32;
  if (id.empty()) return 0;
  return Read<uint8_t>(id.data()) | Read<uint8_t>(id.data() + id.size() / 2) << 8 | Read<uint8_t>(end - 1) << 16;
}

}  // namespace

uint64_t Int64Slot::Hash(Key id, uint64_t seed) { return Mix(static_cast<uint64_t>(id) ^ seed, kLast ^ seed); }

uint64_t StringSlot::Hash(Key id, uint64_t seed) {
  uint64_t hash = seed ^ id.size();
  if (id.size() < 8) return Mix(hash ^ Short(id), kLast ^ seed);
  for (size_t at = 0; at + 8 < id.size(); at += 8) hash = Mix(hash ^ Read<uint64_t>(id.data() + at), kInner ^ seed);
  return Mix(hash ^ Read<uint64_t>(id.data() + id.size() - 8), kLast ^ seed);
}

template <typename Slot>
IdMap<Slot>::IdMap(size_t ids) : seed_(Seed()), slots_(2 * ids + 1) {}

// Where probing starts: the upper bits, spread over the slots.
template <typename Slot>
size_t IdMap<Slot>::First(uint64_t hash) const {
  return static_cast<size_t>(static_cast<Uint128>(hash) * slots_.size() >> 64);
}

template <typename Slot>
bool IdMap<Slot>::Insert(Key id, int64_t row) {
  const uint64_t hash = Slot::Hash(id, seed_);
  size_t at = First(hash);
  for (; !slots_[at].Free(); at = After(at)) {
    if (slots_[at].Is(id, hash)) return false;
  }
  slots_[at] = Slot::Of(id, hash, row);
  return true;
}

template <typename Slot>
template <typename IdOf>
void IdMap<Slot>::Rows(const IdOf& id, int64_t count, int64_t* rows) const {
  std::array<uint64_t, kBatch> hashes;
  std::array<size_t, kBatch> at;
  for (int64_t first = 0; first < count; first += kBatch) {
    const size_t batch = static_cast<size_t>(std::min(kBatch, count - first));
    const auto id_of = [&](size_t i) { return id(first + static_cast<int64_t>(i)); };
    for (size_t i = 0; i < batch; ++i) {
      hashes[i] = Slot::Hash(id_of(i), seed_);
      at[i] = First(hashes[i]);
      __builtin_prefetch(&slots_[at[i]]);
    }
    if constexpr (std::is_same_v<Slot, StringSlot>) {  // the characters are elsewhere again
      for (size_t i = 0; i < batch; ++i) {
        while (!slots_[at[i]].Free() && !slots_[at[i]].MayBe(id_of(i), hashes[i])) at[i] = After(at[i]);
        __builtin_prefetch(slots_[at[i]].data);
      }
    }
    for (size_t i = 0; i < batch; ++i) {
      while (!slots_[at[i]].Free() && !slots_[at[i]].Is(id_of(i), hashes[i])) at[i] = After(at[i]);
      rows[first + static_cast<int64_t>(i)] = slots_[at[i]].Free() ? 0 : slots_[at[i]].row;
    }
  }
}

RowMap::RowMap(const Table& table, const Vocabulary& vocabulary)
    : ids_(table.ids),
      size_(table.size),
      int64s_(vocabulary.int64_keys.size()),
      strings_(vocabulary.string_keys.size()) {
  const auto fill = [&](const auto& keys, auto& map) {
    for (size_t i = 0; i < keys.size(); ++i) {
      if (map.Insert(keys[i], vocabulary.rows[i])) continue;
      throw ModelFileError("vocabulary of table " + table.name + ": expected different ids, got one twice, at " +
                           std::to_string(i));
    }
  };
  fill(vocabulary.int64_keys, int64s_);
  fill(vocabulary.string_keys, strings_);
}

void RowMap::Rows(const int64_t* ids, int64_t count, int64_t* rows) const {
  if (ids_ == Ids::kVocabulary) return int64s_.Rows([&](int64_t i) { return ids[i]; }, count, rows);
  if (ids_ == Ids::kIdentity) {
    for (int64_t i = 0; i < count; ++i) rows[i] = ids[i] >= 0 && ids[i] < size_ ? ids[i] + 1 : 0;
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t rest = ids[i] % size_;
    rows[i] = rest < 0 ? rest + size_ : rest;  // floor semantics: -3 mod 10 is 7
  }
}

void RowMap::Rows(const char* characters, const int64_t* offsets, int64_t count, int64_t* rows) const {
  strings_.Rows(
      [&](int64_t i) {
        return std::string_view(characters + offsets[i], static_cast<size_t>(offsets[i + 1] - offsets[i]));
      },
      count, rows);
}

}  // namespace din_infer
