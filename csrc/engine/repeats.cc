#include "engine/repeats.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string_view>

#include "engine/row_hash.hpp"

namespace din_infer {
namespace {

constexpr int64_t kBitsPerValue = 8;

// As splitmix64 ends.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

uint64_t Hash(const Column& column, int64_t value) {
  if (column.embedding_values != nullptr) {
    return Mix(
        HashRow(column.embedding_values + value * column.embedding_width, static_cast<size_t>(column.embedding_width)));
  }
  if (column.string_offsets == nullptr) return Mix(static_cast<uint64_t>(column.int64_values[value]));
  const int64_t begin = column.string_offsets[value];
  const size_t length = static_cast<size_t>(column.string_offsets[value + 1] - begin);
  return Mix(std::hash<std::string_view>()({column.characters + begin, length}));
}

}  // namespace

void DistinctEstimate::Restart(int64_t values) {
  seen_.assign(static_cast<size_t>(kBitsPerValue * values + 64), false);
}

void DistinctEstimate::Add(const Column& column, Range values) {
  for (int64_t value = values.begin; value < values.end; ++value) {
    // The upper bits, spread over the map.
    seen_[static_cast<size_t>((Hash(column, value) >> 32) * seen_.size() >> 32)] = true;
  }
}

int64_t DistinctEstimate::Count() const {
  const double bits = static_cast<double>(seen_.size());
  const double clear = static_cast<double>(std::count(seen_.begin(), seen_.end(), false));
  return static_cast<int64_t>(std::lround(bits * std::log(bits / std::max(clear, 1.0))));
}

double RepeatedShare(const Schema& schema, const CheckedBatch& batch, Range requests, DistinctEstimate& scratch) {
  int64_t all = 0, distinct = 0;
  for (size_t h = 0; h < schema.histories.size(); ++h) {
    const History& history = schema.histories[h];
    int64_t behaviours = 0, most = 0;
    for (int64_t r = requests.begin; r < requests.end; ++r)
      behaviours += Kept(history, batch.histories[h].Of(r)).size();
    for (size_t f = 0; f < history.features.size(); ++f) {
      if (history.features[f].table == kDense || history.features[f].many != Many::kNo) continue;
      scratch.Restart(behaviours);
      for (int64_t r = requests.begin; r < requests.end; ++r) {
        scratch.Add(*batch.histories[h].columns[f], Kept(history, batch.histories[h].Of(r)));
      }
      most = std::max(most, scratch.Count());
    }
    all += behaviours;
    distinct += most > 0 ? std::min(most, behaviours) : behaviours;
  }
  return all > 0 ? 1 - static_cast<double>(distinct) / static_cast<double>(all) : 0;
}

}  // namespace din_infer
