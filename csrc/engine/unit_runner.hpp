// The activation unit over many requests at once, split over threads. How the work is split never changes a result.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.hpp"
#include "engine/activation_unit.hpp"
#include "engine/batch.hpp"
#include "engine/fold_cache.hpp"
#include "engine/key_side.hpp"
#include "engine/parallel.hpp"

namespace din_infer {

// Some consecutive candidates of one request.
struct CandidateGroup {
  int64_t request;
  Range candidates;
};

// All candidates of requests [0, requests), a group each.
void WholeRequests(const int64_t* offsets, int64_t requests, std::vector<CandidateGroup>& groups);

// Each request's history and queries: its queries are rows [offsets[r], offsets[r + 1]) of `queries`, and the same rows
// of `interests` receive the pooled keys. Rows are query_stride and interest_stride floats apart.
struct UnitBatch {
  const std::vector<UnitKeys>& keys;
  const int64_t* offsets;
  const float* queries;
  int64_t query_stride;
  float* interests;
  int64_t interest_stride;

  int64_t Requests() const { return static_cast<int64_t>(keys.size()); }
  const UnitKeys& Keys(int64_t request) const { return keys[static_cast<size_t>(request)]; }
};

class UnitRunner {
 public:
  // With `key_side`, the unit of ActivationUnit::ForKeys, the requests for which that pays are folded on the history's
  // side. With `cache`, the unit's, folds of queries that were seen before are taken from there.
  void Run(const ActivationUnit& unit, const ActivationUnit* key_side, FoldCache* cache, const UnitBatch& batch,
           Parallel& parallel);

  size_t Bytes() const {
    return BytesOfAll(scratch_, singles_scratch_, groups_, bundles_, singles_, blocks_, whole_, long_, key_side_,
                      key_side_runners_, partials_, block_interests_);
  }

 private:
  struct Scratch {
    FloatBuffer folded, unit, queries;
    std::vector<FoldCache::Folded> cached;
    std::vector<uint64_t> hashes;
    std::vector<int64_t> rows;        // of the candidates of a bundle that have keys
    std::vector<const float*> folds;  // one for each of them

    size_t Bytes() const {
      return cached.capacity() * sizeof(FoldCache::Folded) + BytesOfAll(folded, unit, queries, hashes, rows, folds);
    }
  };

  // A candidate whose history is shared out, and the first of its blocks among those of all singles.
  struct Single {
    int64_t request, row, first_block;
  };

  void ReserveScratch(const ActivationUnit& unit, const FoldCache* cache, int threads);
  // Moves candidates of the longest histories from whole_, which has them in that order, to singles_.
  void TakeSingles(const ActivationUnit& unit, const UnitBatch& batch);
  // Threads take requests, or where those are fewer than threads, tiles of candidates or keys of a tile.
  void RunByKeys(const ActivationUnit& key_side, const UnitBatch& batch, Parallel& parallel);
  // Threads take bundles_ of candidates, each with its whole history, and at last blocks of the singles' histories, so
  // that they finish together. Leaves no singles.
  void RunByCandidates(const ActivationUnit& unit, FoldCache* cache, const UnitBatch& batch, Parallel& parallel);
  void RunBundle(const ActivationUnit& unit, FoldCache* cache, const UnitBatch& batch, Range bundle, int slot,
                 Parallel& parallel);
  // scratch.folds of the candidates in rows row(0) to row(count - 1) of the batch, as far as the cache has them.
  // Returns how many are missing, whose queries are in scratch.queries then.
  template <class Row>
  static int64_t FindFolds(const ActivationUnit& unit, const FoldCache* cache, const UnitBatch& batch, size_t count,
                           const Row& row, Scratch& scratch);
  // The others, once they are in scratch.folded.
  static void KeepFolds(const ActivationUnit& unit, FoldCache* cache, Scratch& scratch);

  std::vector<Scratch> scratch_;  // one per thread
  Scratch singles_scratch_;
  std::vector<CandidateGroup> groups_;
  std::vector<Range> bundles_;  // of groups_, kGroup candidates at most: a thread folds their queries together
  std::vector<Single> singles_;
  std::vector<size_t> blocks_;                   // of all singles, in their order: which one's
  std::vector<CandidateGroup> whole_;            // requests on the candidate's side
  std::vector<CandidateGroup> long_;             // those of them whose candidates are all singles
  std::vector<CandidateGroup> key_side_;         // and on the history's
  std::vector<KeySideRunner> key_side_runners_;  // one per thread
  std::vector<kernels::Partial> partials_;
  FloatBuffer block_interests_;
};

}  // namespace din_infer
