#include "engine/request_plan.hpp"

#include <algorithm>

namespace din_infer {
namespace {

// The groups in parts of at most `size` candidates.
void SplitCandidates(const std::vector<CandidateGroup>& whole, int64_t size, std::vector<CandidateGroup>& groups) {
  groups.clear();
  for (const CandidateGroup& group : whole) {
    for (int64_t c = group.candidates.begin; c < group.candidates.end; c += size) {
      groups.push_back({group.request, {c, std::min(c + size, group.candidates.end)}});
    }
  }
}

}  // namespace

RequestPlan::RequestPlan(const Model::Parts& parts, bool auto_fold, int threads)
    : parts_(parts), auto_fold_(auto_fold), scratch_(static_cast<size_t>(threads)), queries_(parts.histories.size()) {}

void RequestPlan::Score(Wave& wave, Parallel& parallel, float* scores) {
  const int64_t own_width = parts_.tower->own_width();
  const size_t candidates = static_cast<size_t>(wave.Candidates());
  ReserveAll(scratch_, Scratch());
  Reserve(own_, candidates * static_cast<size_t>(own_width));
  for (size_t h = 0; h < queries_.size(); ++h) {
    Reserve(queries_[h], candidates * static_cast<size_t>(parts_.histories[h].keys.width()));
  }
  parallel.For(wave.Requests(), [&](int64_t request, int slot) {
    {
      const StepTimer timer = parallel.Time(slot, Step::kLookUp);
      EmbedCandidates(wave, request, slot);
    }
    const StepTimer timer = parallel.Time(slot, Step::kUnit);
    for (size_t h = 0; h < queries_.size(); ++h) {
      if (parts_.histories[h].unit.has_value()) continue;
      EqualPooling(wave, h, request, scratch_[static_cast<size_t>(slot)].data());
    }
  });
  for (size_t h = 0; h < queries_.size(); ++h) {
    const HistoryPart& part = parts_.histories[h];
    if (!part.unit.has_value()) continue;
    runner_.Run(
        *part.unit, auto_fold_ ? &*part.key_side : nullptr, part.folds.get(),
        {wave.Keys(h), wave.Offsets(), queries_[h].data(), part.keys.width(), own_.data() + part.own_begin, own_width},
        parallel);
  }
  WholeRequests(wave.Offsets(), wave.Requests(), whole_);
  SplitCandidates(whole_, kernels::Kernels().tile, groups_);
  parallel.For(static_cast<int64_t>(groups_.size()), [&](int64_t item, int slot) {
    const StepTimer timer = parallel.Time(slot, Step::kTower);
    RunTower(wave, groups_[static_cast<size_t>(item)], scratch_[static_cast<size_t>(slot)].data(), scores);
  });
}

void RequestPlan::EmbedCandidates(Wave& wave, int64_t request, int slot) {
  const Range candidates = wave.CandidatesOf(request);
  const int64_t own_width = parts_.tower->own_width();
  float* embedded = own_.data() + (candidates.begin + 1) * own_width - parts_.candidate.width();
  wave.EmbedCandidates(candidates, slot, embedded, own_width);
  for (int64_t c = candidates.begin; c < candidates.end; ++c, embedded += own_width) {
    for (size_t h = 0; h < queries_.size(); ++h) {
      const HistoryPart& part = parts_.histories[h];
      part.CopyQuery(embedded, queries_[h].data() + c * part.keys.width());
    }
  }
}

size_t RequestPlan::Scratch() const {
  int64_t pooling = 0;
  for (const HistoryPart& part : parts_.histories) {
    if (!part.unit.has_value()) pooling = std::max(pooling, kernels::kBlock + 2 * part.keys.width());
  }
  return std::max(static_cast<size_t>(pooling), parts_.tower->scratch());
}

// The base model: every behaviour weighs 1 (sum) or 1 / T (mean), so all candidates share the pooled vector.
void RequestPlan::EqualPooling(const Wave& wave, size_t history, int64_t request, float* scratch) {
  const UnitKeys& keys = wave.Keys(history)[static_cast<size_t>(request)];
  const int64_t dim = parts_.histories[history].keys.width();
  const kernels::KernelTable& kernel = kernels::Kernels();
  float* ones = scratch;
  float* pooled = ones + kernels::kBlock;
  float* block = pooled + dim;
  std::fill(pooled, pooled + dim, 0.0f);
  kernels::Partial total{};
  for (int64_t begin = 0; begin < keys.count; begin += kernels::kBlock) {
    const int64_t count = std::min(kernels::kBlock, keys.count - begin);
    std::fill(ones, ones + count, 1.0f);
    kernels::Partial partial{};
    kernel.pool({keys.tiles + begin * dim, dim, count, nullptr}, false, 1, ones, &partial, block);
    kernel.merge(dim, false, partial, block, &total, pooled);
  }
  if (parts_.file.semantics.pooling == Pooling::kMean && keys.count > 0) {
    for (int64_t i = 0; i < dim; ++i) pooled[i] /= static_cast<float>(keys.count);
  }
  const Range candidates = wave.CandidatesOf(request);
  for (int64_t c = candidates.begin; c < candidates.end; ++c) {
    std::copy(pooled, pooled + dim, own_.data() + c * parts_.tower->own_width() + parts_.histories[history].own_begin);
  }
}

void RequestPlan::RunTower(const Wave& wave, const CandidateGroup& group, float* scratch, float* scores) {
  const Tower& tower = *parts_.tower;
  const float* found = tower.Probabilities(own_.data() + group.candidates.begin * tower.own_width(),
                                           group.candidates.size(), wave.Bias(group.request), scratch);
  std::copy_n(found, group.candidates.size(), scores + group.candidates.begin);
}

}  // namespace din_infer
