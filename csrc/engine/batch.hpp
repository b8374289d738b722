// A batch checked against the schema, its columns in the schema's order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string>
#include <vector>

#include "base/schema.hpp"
#include "din_infer/din_infer.hpp"
#include "engine/range.hpp"

namespace din_infer {

// Values of a column, or floats of rows: no memory holds more, and sizes that are made of them do not overflow.
constexpr int64_t kMostValues = int64_t{1} << 40;

// Of a request's behaviours those that the model reads.
Range Kept(const History& history, Range all);

struct GroupColumns {
  explicit GroupColumns(std::pmr::memory_resource* memory) : columns(memory) {}

  std::pmr::vector<const Column*> columns;  // one per feature
  Offsets lists;                            // values of each request; none for user and context, which have one each
  bool shared = false;                      // the first list is every request's

  Range Of(int64_t request) const {
    if (shared) return {0, lists.data[1]};
    return lists.size == 0 ? Range{request, request + 1} : Range{lists.data[request], lists.data[request + 1]};
  }
};

// What a batch has columns of.
enum class BatchPart {
  kAll,
  kUser,        // users and histories
  kBehaviours,  // histories
  kCandidates,  // contexts and candidates
};

// Points into the batch that it was made of.
class CheckedBatch {
  std::array<std::byte, 4096> buffer_;  // for pointers to hundreds of columns, so that a call allocates nothing
  std::pmr::monotonic_buffer_resource memory_{buffer_.data(), buffer_.size()};

 public:
  // Throws InputError that names the column, what was expected and what came.
  CheckedBatch(const Schema& schema, const Batch& batch, BatchPart part = BatchPart::kAll);
  CheckedBatch(const CheckedBatch&) = delete;
  CheckedBatch& operator=(const CheckedBatch&) = delete;

  int64_t Candidates() const { return FirstScore(requests); }
  int64_t FirstScore(int64_t request) const {  // scores of the requests before this one
    return candidate.shared ? request * candidate.lists.data[1] : candidate.lists.data[request];
  }

  int64_t requests;
  GroupColumns user{&memory_}, context{&memory_}, candidate{&memory_};
  std::pmr::vector<GroupColumns> histories{&memory_};
};

inline CheckedBatch CheckBatch(const Schema& schema, const Batch& batch) { return CheckedBatch(schema, batch); }

// Scores of a batch that scoring will find to fit, from one of its columns; of others -1, or any number that is no
// larger than what that column has. To ask a Scorer would check the batch twice.
int64_t CandidatesIfItFits(const Batch& batch);

// Throws InputError unless there are lists + 1 offsets that start at 0, never go down, and end at `values`. `part`, of
// what `name` names, follows it in messages.
void CheckOffsets(const std::string& name, const char* part, const Offsets& offsets, int64_t lists, int64_t values);

}  // namespace din_infer
