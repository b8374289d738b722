#include <memory>
#include <string>
#include <utility>

#include "engine/activation_unit_params.hpp"
#include "engine/batch.hpp"
#include "engine/model.hpp"
#include "engine/parallel.hpp"
#include "engine/unit_runner.hpp"

namespace din_infer {
namespace {

// A unit that runners share, with what keeps it alive.
struct SharedUnit {
  std::shared_ptr<const ActivationUnit> unit;
  const ActivationUnit* key_side = nullptr;
  FoldCache* folds = nullptr;
};

SharedUnit UnitOf(const Model& model, const std::string& history, bool auto_fold) {
  const Model::Parts& parts = model.parts();
  const HistoryPart& part = parts.histories[parts.HistoryIndex(history)];
  if (!part.unit.has_value()) throw InputError("model: expected one with activation units, got a base model");
  const auto owner = std::make_shared<const Model>(model);
  return {{owner, &*part.unit}, auto_fold ? &*part.key_side : nullptr, part.folds.get()};
}

void CheckRows(const std::string& name, const Rows& rows, int64_t requests) {
  if (rows.rows < 0) throw InputError(name + ": expected at least 0 rows, got " + std::to_string(rows.rows));
  if (rows.rows > 0 && rows.values == nullptr) throw InputError(name + ": expected values, got a null pointer");
  CheckOffsets(name, ".offsets", rows.offsets, requests, rows.rows);
}

void CheckCounts(const int64_t* counts, int64_t size) {
  for (int64_t i = 0; counts != nullptr && i < size; ++i) {
    if (counts[i] >= 1) continue;
    throw InputError("counts: expected at least 1, got " + std::to_string(counts[i]) + " at " + std::to_string(i));
  }
}

}  // namespace

struct ActivationUnitRunner::State {
  State(SharedUnit shared_unit, int threads, const Executor& executor)
      : shared(std::move(shared_unit)), parallel(threads, executor) {}

  void Pack(const Rows& rows, const int64_t* counts, int64_t request);

  SharedUnit shared;
  Parallel parallel;
  UnitRunner runner;
  std::vector<FloatBuffer> tiles, counts;  // one per request
  std::vector<PackedKeys> keys;
};

void ActivationUnitRunner::State::Pack(const Rows& rows, const int64_t* key_counts, int64_t request) {
  const size_t place = static_cast<size_t>(request);
  const int64_t dim = shared.unit->dim();
  const int64_t begin = rows.offsets.data[request], size = rows.offsets.data[request + 1] - begin;
  float* packed = Reserve(tiles[place], static_cast<size_t>(WholeTiles(size) * dim));
  if (size > 0) PackTiles(rows.values + begin * dim, dim, size, dim, packed);
  if (key_counts != nullptr) counts[place].assign(key_counts + begin, key_counts + begin + size);
  keys[place] = {packed, size, key_counts == nullptr ? nullptr : counts[place].data()};
}

ActivationUnitRunner::ActivationUnitRunner(const ActivationUnitParams& params, int threads, Executor executor)
    : state_(std::make_unique<State>(SharedUnit{std::make_shared<const ActivationUnit>(PackUnit(params))}, threads,
                                     executor)) {}

ActivationUnitRunner::ActivationUnitRunner(const Model& model, const std::string& history, int threads, bool auto_fold,
                                           Executor executor)
    : state_(std::make_unique<State>(UnitOf(model, history, auto_fold), threads, executor)) {}

ActivationUnitRunner::ActivationUnitRunner(const ActivationUnitRunner& other, int threads, Executor executor)
    : state_(std::make_unique<State>(other.state_->shared, threads, executor)) {}

ActivationUnitRunner::~ActivationUnitRunner() = default;
ActivationUnitRunner::ActivationUnitRunner(ActivationUnitRunner&&) noexcept = default;

int64_t ActivationUnitRunner::dim() const { return state_->shared.unit->dim(); }

void ActivationUnitRunner::run(const Rows& keys, const Rows& queries, float* interests, const int64_t* counts) {
  const int64_t requests = keys.offsets.size - 1;
  CheckRows("keys", keys, requests);
  CheckRows("queries", queries, requests);
  CheckCounts(counts, keys.rows);
  if (queries.rows == 0) return;
  if (interests == nullptr) throw InputError("interests: expected memory for the result, got a null pointer");
  State& state = *state_;
  state.keys.resize(static_cast<size_t>(requests));
  if (state.tiles.size() < state.keys.size()) {
    state.tiles.resize(state.keys.size());
    state.counts.resize(state.keys.size());
  }
  state.parallel.For(requests, [&](int64_t request, int) { state.Pack(keys, counts, request); });
  state.runner.Run(*state.shared.unit, state.shared.key_side, state.shared.folds,
                   {state.keys, queries.offsets.data, queries.values, dim(), interests, dim()}, state.parallel);
}

}  // namespace din_infer
