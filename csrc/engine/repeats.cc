#include "engine/repeats.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string_view>

#include "engine/row_hash.hpp"

namespace din_infer {
namespace {

constexpr int64_t kBitsPerValue = 8;

// Requests whose histories are looked into.
constexpr int64_t kSample = 32;

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

// How many values of some ranges differ, at least: as by the feature whose single ids tell most of them apart. `each`
// hands the ranges to a function.
template <class Each>
int64_t Distinct(const Group& group, const GroupColumns& given, const Each& each, DistinctEstimate& scratch) {
  int64_t all = 0, most = 0;
  each([&](Range some) { all += some.size(); });
  for (size_t f = 0; f < group.features.size(); ++f) {
    if (group.features[f].table == kDense || group.features[f].many != Many::kNo) continue;
    scratch.Restart(all);
    each([&](Range some) { scratch.Add(*given.columns[f], some); });
    most = std::max(most, scratch.Count());
  }
  return most > 0 ? std::min(most, all) : all;
}

double Share(int64_t distinct, int64_t all) {
  return all > 0 ? 1 - static_cast<double>(distinct) / static_cast<double>(all) : 0;
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

double RepeatedCandidates(const Schema& schema, const CheckedBatch& batch, Range requests, DistinctEstimate& scratch) {
  const int64_t all = batch.FirstScore(requests.end) - batch.FirstScore(requests.begin);
  const Range lists = batch.candidate.shared ? Range{0, 1} : requests;
  const auto each = [&](const auto& add) {
    for (int64_t r = lists.begin; r < lists.end; ++r) add(batch.candidate.Of(r));
  };
  return Share(Distinct(schema.candidate, batch.candidate, each, scratch), all);
}

double RepeatedBehaviours(const Schema& schema, const CheckedBatch& batch, Range requests, DistinctEstimate& scratch) {
  int64_t all = 0, distinct = 0;
  for (size_t h = 0; h < schema.histories.size(); ++h) {
    const auto each = [&](const auto& add) {
      for (int64_t r = requests.begin; r < requests.end; ++r) add(Kept(schema.histories[h], batch.histories[h].Of(r)));
    };
    each([&](Range some) { all += some.size(); });
    distinct += Distinct(schema.histories[h], batch.histories[h], each, scratch);
  }
  return Share(distinct, all);
}

double RepeatedInHistories(const Schema& schema, const CheckedBatch& batch, Range requests, DistinctEstimate& scratch) {
  int64_t all = 0, distinct = 0;
  for (int64_t r = requests.begin; r < requests.end; r += 1 + requests.size() / kSample) {
    for (size_t h = 0; h < schema.histories.size(); ++h) {
      const Range kept = Kept(schema.histories[h], batch.histories[h].Of(r));
      const auto each = [&](const auto& add) { add(kept); };
      all += kept.size();
      distinct += Distinct(schema.histories[h], batch.histories[h], each, scratch);
    }
  }
  return Share(distinct, all);
}

}  // namespace din_infer
