#include <algorithm>
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

  // Keys of one request that one thread packs at a time, the first of which is key `first` of the request.
  struct Stretch {
    size_t request;
    Range rows;
    int64_t first;
  };

  void MakeRoom(const Rows& rows, bool counted, size_t request);
  void Pack(const Rows& rows, const int64_t* counts, const Stretch& stretch);

  SharedUnit shared;
  Parallel parallel;
  UnitRunner runner;
  std::vector<FloatBuffer> tiles, counts;  // one per request
  std::vector<PackedKeys> keys;
  std::vector<Stretch> stretches;
};

void ActivationUnitRunner::State::MakeRoom(const Rows& rows, bool counted, size_t request) {
  const int64_t dim = shared.unit->dim();
  const int64_t begin = rows.offsets.data[request], end = rows.offsets.data[request + 1], size = end - begin;
  float* packed = Reserve(tiles[request], static_cast<size_t>(WholeTiles(size) * dim));
  FillTiles(size, dim, packed);
  keys[request] = {packed, size, counted ? Reserve(counts[request], static_cast<size_t>(size)) : nullptr};
  const int64_t step = kStretchTiles * kernels::Kernels().tile;
  for (int64_t first = 0; first < size; first += step) {
    stretches.push_back({request, {begin + first, std::min(begin + first + step, end)}, first});
  }
}

void ActivationUnitRunner::State::Pack(const Rows& rows, const int64_t* key_counts, const Stretch& stretch) {
  const int64_t dim = shared.unit->dim();
  float* packed = tiles[stretch.request].data();
  for (int64_t row = stretch.rows.begin; row < stretch.rows.end; ++row) {
    PackColumn(rows.values + row * dim, dim, packed, stretch.first + row - stretch.rows.begin);
  }
  if (key_counts == nullptr) return;
  std::copy(key_counts + stretch.rows.begin, key_counts + stretch.rows.end,
            counts[stretch.request].begin() + stretch.first);
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
  state.stretches.clear();
  for (size_t r = 0; r < state.keys.size(); ++r) state.MakeRoom(keys, counts != nullptr, r);
  state.parallel.For(static_cast<int64_t>(state.stretches.size()),
                     [&](int64_t item, int) { state.Pack(keys, counts, state.stretches[static_cast<size_t>(item)]); });
  state.runner.Run(*state.shared.unit, state.shared.key_side, state.shared.folds,
                   {state.keys, queries.offsets.data, queries.values, dim(), interests, dim()}, state.parallel);
}

}  // namespace din_infer
