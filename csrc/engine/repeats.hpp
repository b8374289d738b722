// How often candidates and behaviours come again, estimated without embedding them.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/batch.hpp"

namespace din_infer {

// Estimates distinct values by linear counting (Whang, Vander-Zanden and Taylor 1990): each value sets a bit, and the
// bits that stay clear tell how many there are.
class DistinctEstimate {
 public:
  void Restart(int64_t values);                  // as many will come at most
  void Add(const Column& column, Range values);  // ids or embeddings
  int64_t Count() const;
  size_t Bytes() const { return seen_.capacity() / 8; }

 private:
  std::vector<bool> seen_;
};

// The share, 0 to 1, of these requests' candidates, and of their behaviours, that came before in one of them: at most,
// as far as single ids tell.
double RepeatedCandidates(const Schema& schema, const CheckedBatch& batch, Range requests, DistinctEstimate& scratch);
double RepeatedBehaviours(const Schema& schema, const CheckedBatch& batch, Range requests, DistinctEstimate& scratch);

// That of behaviours that came before in the same history, by a sample of the requests.
double RepeatedInHistories(const Schema& schema, const CheckedBatch& batch, Range requests, DistinctEstimate& scratch);

}  // namespace din_infer
