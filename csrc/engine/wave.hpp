// Requests of a batch made ready for scoring: everything they read besides their candidates, embedded.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.hpp"
#include "engine/batch.hpp"
#include "engine/model.hpp"
#include "engine/parallel.hpp"
#include "engine/user.hpp"

namespace din_infer {

class Wave {
 public:
  Wave(const Model::Parts& parts, int threads);

  // `requests` of `batch`, which must outlive their scoring. Requests are numbered from 0 from here on. With `user`,
  // which must too, they are all that user's, whose keys are read where they are, and `batch` has the rest.
  void Prepare(const CheckedBatch& batch, Range requests, Parallel& parallel, const User::State* user = nullptr);

  int64_t Requests() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  int64_t Candidates() const { return offsets_.back(); }
  const int64_t* Offsets() const { return offsets_.data(); }  // [Requests() + 1], of the wave's candidates
  Range CandidatesOf(int64_t request) const {
    return {offsets_[static_cast<size_t>(request)], offsets_[static_cast<size_t>(request) + 1]};
  }
  const std::vector<UnitKeys>& Keys(size_t history) const { return histories_[history].keys; }
  const float* Bias(int64_t request) const;  // of the tower: its share of user and context

  // Whether every request has all candidates of the first.
  bool SharedCandidates() const { return batch_->candidate.shared; }

  // All features of candidates of one request, parts.candidate.width() floats each, `step` floats from one to the next.
  // Counts their unknown ids for the thread in `slot`, those of shared candidates once in a batch.
  void EmbedCandidates(Range candidates, int slot, float* out, int64_t step);

  // Adds the unknown ids seen since the last call to the model's, or drops them.
  void CountUnknown();
  void ForgetUnknown();

  size_t Bytes() const {
    return BytesOfAll(offsets_, histories_, stretches_, biases_, scratch_, unknown_, counted_before_);
  }

 private:
  struct History {
    FloatBuffer tiles;  // of all requests, but for a user's
    std::vector<UnitKeys> keys;
    size_t unknown_at;  // of its first feature among a thread's counts

    size_t Bytes() const { return BytesOfAll(tiles, keys); }
  };
  // Behaviours of one request that one thread embeds at a time, the first of which becomes key `first`.
  struct Stretch {
    size_t history;
    float* tiles;  // of the request's keys
    Range behaviours;
    int64_t first;
  };

  // User and context; returns what the tower reads of them, in the slot's scratch memory.
  float* EmbedRequest(int64_t request, int slot);
  void FindStretches(size_t history);  // of what is to be embedded, having made room for it
  void Embed(const Stretch& stretch, int slot);

  const Model::Parts& parts_;
  const CheckedBatch* batch_ = nullptr;
  const User::State* user_ = nullptr;
  Range requests_;
  std::vector<int64_t> offsets_;
  std::vector<History> histories_;
  std::vector<Stretch> stretches_;
  FloatBuffer biases_;                         // [requests, tower.bias_size()]
  std::vector<FloatBuffer> scratch_;           // one per thread
  std::vector<std::vector<int64_t>> unknown_;  // ids per thread and feature
  std::vector<std::vector<int64_t>> counted_before_;
};

}  // namespace din_infer
