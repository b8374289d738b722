#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "base/bytes.hpp"
#include "engine/activation_unit_params.hpp"
#include "engine/batch.hpp"
#include "engine/key_tiles.hpp"
#include "engine/model.hpp"
#include "engine/parallel.hpp"
#include "engine/scratch_cap.hpp"
#include "engine/unit_runner.hpp"

namespace din_infer {
namespace {

// A call shares out folds and blocks of keys, and packing where that takes long.
constexpr int kTimesShared = 2;

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

void RefuseAutoFold(const ActivationUnitRunnerOptions& options) {
  if (options.auto_fold) throw InputError("auto_fold: expected it for the unit of a model alone, got it for another");
}

void CheckRows(const std::string& name, const Rows& rows, int64_t requests, int64_t dim) {
  if (rows.rows < 0) throw InputError(name + ": expected at least 0 rows, got " + std::to_string(rows.rows));
  if (const int64_t most = kMostValues / dim; rows.rows > most) {
    throw InputError(name + ": expected at most " + std::to_string(most) + " rows, got " + std::to_string(rows.rows));
  }
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
  State(SharedUnit shared_unit, const ActivationUnitRunnerOptions& options)
      : shared(std::move(shared_unit)),
        parallel(options.threads, options.executor),
        max_scratch_bytes(options.max_scratch_bytes) {}

  // Keys of one request that one thread packs at a time, the first of which is key `first` of the request.
  struct Stretch {
    float* tiles;  // of the request's keys
    Range rows;
    int64_t first;
  };

  // Memory that a call leaves for the next one.
  struct Scratch {
    size_t Bytes() const { return BytesOfAll(runner, tiles, counts, keys, stretches); }

    UnitRunner runner;
    FloatBuffer tiles, counts;  // of all requests
    std::vector<UnitKeys> keys;
    std::vector<Stretch> stretches;
  };

  size_t ScratchBytes() const { return scratch.Bytes(); }
  void Shrink() { scratch = {}; }

  // Each request's keys, and the stretches of what is to be packed, having made room for it: what several candidates
  // read.
  void FindKeys(const Rows& rows, const int64_t* counts, const int64_t* candidates);
  void Pack(const Rows& rows, const Stretch& stretch);
  int64_t Work(const int64_t* candidates) const;  // multiply-adds

  SharedUnit shared;
  Parallel parallel;
  const size_t max_scratch_bytes;
  Scratch scratch;
};

void ActivationUnitRunner::State::FindKeys(const Rows& rows, const int64_t* key_counts, const int64_t* candidates) {
  const int64_t *offsets = rows.offsets.data, dim = shared.unit->dim();
  std::vector<UnitKeys>& keys = scratch.keys;
  keys.resize(static_cast<size_t>(rows.offsets.size - 1));
  if (key_counts != nullptr) {
    std::copy(key_counts, key_counts + rows.rows, Reserve(scratch.counts, static_cast<size_t>(rows.rows)));
  }
  for (size_t r = 0; r < keys.size(); ++r) {
    keys[r] = {nullptr, offsets[r + 1] - offsets[r]};
    if (key_counts != nullptr) keys[r].counts = scratch.counts.data() + offsets[r];
    if (candidates[r + 1] - candidates[r] <= 1) keys[r].rows = rows.values + offsets[r] * dim;
  }
  scratch.stretches.clear();
  MakeRoom(dim, scratch.tiles, keys, [&](size_t request, Range some, float* place) {
    const int64_t begin = offsets[request];
    scratch.stretches.push_back({place, {begin + some.begin, begin + some.end}, some.begin});
  });
}

void ActivationUnitRunner::State::Pack(const Rows& rows, const Stretch& stretch) {
  const int64_t dim = shared.unit->dim();
  kernels::Kernels().pack_columns(rows.values + stretch.rows.begin * dim, dim, stretch.rows.size(), dim, stretch.tiles,
                                  stretch.first);
}

int64_t ActivationUnitRunner::State::Work(const int64_t* candidates) const {
  int64_t work = 0;
  for (size_t r = 0; r < scratch.keys.size(); ++r) {
    work += shared.unit->Work(candidates[r + 1] - candidates[r], scratch.keys[r].count);
  }
  return work;
}

ActivationUnitRunner::ActivationUnitRunner(const ActivationUnitParams& params,
                                           const ActivationUnitRunnerOptions& options)
    : state_(std::make_unique<State>(SharedUnit{std::make_shared<const ActivationUnit>(PackUnit(params))}, options)) {
  RefuseAutoFold(options);
}

ActivationUnitRunner::ActivationUnitRunner(const Model& model, const std::string& history,
                                           const ActivationUnitRunnerOptions& options)
    : state_(std::make_unique<State>(UnitOf(model, history, options.auto_fold), options)) {}

ActivationUnitRunner::ActivationUnitRunner(const ActivationUnitRunner& other,
                                           const ActivationUnitRunnerOptions& options)
    : state_(std::make_unique<State>(other.state_->shared, options)) {
  RefuseAutoFold(options);
}

ActivationUnitRunner::~ActivationUnitRunner() = default;
ActivationUnitRunner::ActivationUnitRunner(ActivationUnitRunner&&) noexcept = default;
ActivationUnitRunner& ActivationUnitRunner::operator=(ActivationUnitRunner&&) noexcept = default;

int64_t ActivationUnitRunner::dim() const { return state_->shared.unit->dim(); }

void ActivationUnitRunner::run(const Rows& keys, const Rows& queries, float* interests, const int64_t* counts) {
  if (keys.offsets.size < 1) {
    throw InputError("keys.offsets: expected at least 1 offset, got " + std::to_string(keys.offsets.size));
  }
  const int64_t requests = keys.offsets.size - 1;
  CheckRows("keys", keys, requests, dim());
  CheckRows("queries", queries, requests, dim());
  CheckCounts(counts, keys.rows);
  if (queries.rows == 0) return;
  if (interests == nullptr) throw InputError("interests: expected memory for the result, got a null pointer");
  State& state = *state_;
  const ScratchCap call(state, state.max_scratch_bytes);
  State::Scratch& scratch = state.scratch;
  state.FindKeys(keys, counts, queries.offsets.data);
  Parallel threads = state.parallel.ForCall(state.Work(queries.offsets.data), kTimesShared);
  threads.For(static_cast<int64_t>(scratch.stretches.size()),
              [&](int64_t item, int) { state.Pack(keys, scratch.stretches[static_cast<size_t>(item)]); });
  scratch.runner.Run(*state.shared.unit, state.shared.key_side, state.shared.folds,
                     {scratch.keys, queries.offsets.data, queries.values, dim(), interests, dim()}, threads);
}

size_t ActivationUnitRunner::scratch_bytes() const { return state_->ScratchBytes(); }

void ActivationUnitRunner::shrink() { state_->Shrink(); }

}  // namespace din_infer
