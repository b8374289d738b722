// A batch checked against the schema, its columns in the schema's order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/schema.hpp"
#include "din_infer/din_infer.hpp"

namespace din_infer {

// Half-open range.
struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

// Of a request's behaviours those that the model reads.
Range Kept(const History& history, Range all);

struct GroupColumns {
  std::vector<const Column*> columns;  // one per feature
  Offsets lists;                       // values of each request; none for user and context, which have one each

  Range Of(int64_t request) const {
    return lists.size == 0 ? Range{request, request + 1} : Range{lists.data[request], lists.data[request + 1]};
  }
};

struct CheckedBatch {
  int64_t requests = 0;
  GroupColumns user, context, candidate;
  std::vector<GroupColumns> histories;

  int64_t Candidates() const { return candidate.lists.data[requests]; }
};

// Throws InputError unless there are lists + 1 offsets that start at 0, never go down, and end at `values`.
void CheckOffsets(const std::string& name, const Offsets& offsets, int64_t lists, int64_t values);

// Throws InputError that names the column, what was expected and what came. The result points into `batch`.
CheckedBatch CheckBatch(const Schema& schema, const Batch& batch);

}  // namespace din_infer
