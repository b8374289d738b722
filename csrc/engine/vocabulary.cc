#include "engine/vocabulary.hpp"

namespace din_infer {

RowMap::RowMap(const Table& table, const Vocabulary& vocabulary) : ids_(table.ids), size_(table.size) {
  int64_rows_.reserve(vocabulary.int64_keys.size());
  string_rows_.reserve(vocabulary.string_keys.size());
  for (size_t i = 0; i < vocabulary.int64_keys.size(); ++i) int64_rows_[vocabulary.int64_keys[i]] = vocabulary.rows[i];
  for (size_t i = 0; i < vocabulary.string_keys.size(); ++i)
    string_rows_[vocabulary.string_keys[i]] = vocabulary.rows[i];
}

int64_t RowMap::Row(int64_t id) const {
  switch (ids_) {
    case Ids::kHash: {
      const int64_t rest = id % size_;
      return rest < 0 ? rest + size_ : rest;  // floor semantics: -3 mod 10 is 7
    }
    case Ids::kIdentity:
      return id >= 0 && id < size_ ? id + 1 : 0;
    case Ids::kVocabulary:
      break;
  }
  const auto found = int64_rows_.find(id);
  return found == int64_rows_.end() ? 0 : found->second;
}

int64_t RowMap::Row(std::string_view id) const {
  const auto found = string_rows_.find(id);
  return found == string_rows_.end() ? 0 : found->second;
}

size_t RowMap::bytes() const {
  constexpr size_t kNode =
      2 * sizeof(void*);  // of the standard library's hash map: a next pointer, and a bucket on average
  return int64_rows_.size() * (kNode + sizeof(*int64_rows_.begin())) +
         string_rows_.size() * (kNode + sizeof(size_t) + sizeof(*string_rows_.begin()));
}

}  // namespace din_infer
