#include "engine/batch.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace din_infer {
namespace {

const char* Name(DType type) { return type == DType::kInt64 ? "int64" : type == DType::kString ? "string" : "float32"; }

DType Type(const Column& column) {
  if (column.float_values != nullptr) return DType::kFloat32;
  return column.string_offsets != nullptr ? DType::kString : DType::kInt64;
}

// Offsets must start at 0, never go down, and end at `values`.
void CheckOffsets(const std::string& name, const Offsets& offsets, int64_t lists, int64_t values) {
  if (offsets.size < 1 || offsets.size - 1 != lists) {  // lists + 1 may overflow
    throw InputError(name + ": expected " + std::to_string(static_cast<uint64_t>(lists) + 1) + " offsets, got " +
                     std::to_string(offsets.size));
  }
  if (offsets.data == nullptr)
    throw InputError(name + ": expected " + std::to_string(offsets.size) + " offsets, got a null pointer");
  if (offsets.data[0] != 0)
    throw InputError(name + ": expected offsets from 0, got " + std::to_string(offsets.data[0]));
  for (int64_t i = 0; i < lists; ++i) {
    if (offsets.data[i + 1] < offsets.data[i]) {
      throw InputError(name + ": expected offsets that do not go down, got " + std::to_string(offsets.data[i]) +
                       " then " + std::to_string(offsets.data[i + 1]) + " at " + std::to_string(i + 1));
    }
  }
  if (offsets.data[lists] != values) {
    throw InputError(name + ": expected offsets that end at the number of values, " + std::to_string(values) +
                     ", got " + std::to_string(offsets.data[lists]));
  }
}

void CheckValues(const std::string& name, const Column& column, DType expected) {
  if (column.size < 0) throw InputError(name + ": expected a size of at least 0, got " + std::to_string(column.size));
  const auto refuse_null = [&](int64_t size, const char* what, auto... pointers) {
    if (size > 0 && ((pointers == nullptr) && ...))
      throw InputError(name + ": expected " + std::to_string(size) + " " + what + ", got a null pointer");
  };
  refuse_null(column.size, "values", column.int64_values, column.float_values, column.string_offsets);
  if (column.size > 0 && Type(column) != expected) {
    throw InputError(name + ": expected " + Name(expected) + ", got " + Name(Type(column)));
  }
  if (expected == DType::kString && column.size > 0) {
    CheckOffsets(name + ": strings", {column.string_offsets, column.size + 1}, column.size,
                 column.string_offsets[column.size]);
    refuse_null(column.string_offsets[column.size], "bytes", column.characters);
  }
  for (int64_t i = 0; expected == DType::kFloat32 && i < column.size; ++i) {
    if (!std::isfinite(column.float_values[i])) {
      throw InputError(name + ": expected finite numbers, got " + std::to_string(column.float_values[i]) + " at " +
                       std::to_string(i));
    }
  }
}

void CheckLists(const std::string& name, const Column& column, size_t levels, int64_t requests) {
  if (column.lists.size() != levels) {
    throw InputError(name + ": expected " + std::to_string(levels) + " levels of lists, got " +
                     std::to_string(column.lists.size()));
  }
  int64_t lists = requests;
  for (size_t level = 0; level < levels; ++level) {
    const Offsets& offsets = column.lists[level];
    const bool innermost = level + 1 == levels;
    const int64_t inside = innermost ? column.size : column.lists[level + 1].size - 1;
    CheckOffsets(name, offsets, lists, inside);
    lists = inside;
  }
  if (levels == 0 && column.size != requests) {
    throw InputError(name + ": expected one value per request, " + std::to_string(requests) + ", got " +
                     std::to_string(column.size));
  }
}

GroupColumns CheckGroup(const Schema& schema, const Group& group, bool listed, const Batch& batch) {
  GroupColumns result;
  std::string first;
  for (const Feature& feature : group.features) {
    const std::string name = group.name + "." + feature.name;
    const auto found = batch.columns.find(name);
    if (found == batch.columns.end()) throw InputError(name + ": expected a column of this name, got none");
    const Column& column = found->second;
    CheckValues(name, column, schema.Type(feature));
    CheckLists(name, column, static_cast<size_t>(listed) + static_cast<size_t>(feature.many != Many::kNo),
               batch.requests);
    if (listed && result.columns.empty()) {
      result.lists = column.lists[0];
      first = name;
    }
    if (listed && !std::equal(result.lists.data, result.lists.data + result.lists.size, column.lists[0].data)) {
      throw InputError(name + ": expected lists as long as those of " + first + ", got others");
    }
    result.columns.push_back(&column);
  }
  return result;
}

}  // namespace

Range Kept(const History& history, Range all) {
  if (history.max_length == 0 || all.size() <= history.max_length) return all;
  return history.keeps_tail() ? Range{all.end - history.max_length, all.end}
                              : Range{all.begin, all.begin + history.max_length};
}

CheckedBatch CheckBatch(const Schema& schema, const Batch& batch) {
  if (batch.requests < 0) {
    throw InputError("requests: expected a number of at least 0, got " + std::to_string(batch.requests));
  }
  CheckedBatch checked;
  checked.requests = batch.requests;
  checked.user = CheckGroup(schema, schema.user, false, batch);
  checked.context = CheckGroup(schema, schema.context, false, batch);
  checked.candidate = CheckGroup(schema, schema.candidate, true, batch);
  size_t known = checked.user.columns.size() + checked.context.columns.size() + checked.candidate.columns.size();
  for (const History& history : schema.histories) {
    checked.histories.push_back(CheckGroup(schema, history, true, batch));
    known += checked.histories.back().columns.size();
  }
  if (batch.columns.size() != known) {
    throw InputError("expected " + std::to_string(known) + " columns, got " + std::to_string(batch.columns.size()) +
                     ": some are not in the schema");
  }
  return checked;
}

Column Column::int64s(const int64_t* values, int64_t size) {
  Column column;
  column.int64_values = values, column.size = size;
  return column;
}

Column Column::floats(const float* values, int64_t size) {
  Column column;
  column.float_values = values, column.size = size;
  return column;
}

Column Column::strings(const char* characters, const int64_t* offsets, int64_t size) {
  Column column;
  column.characters = characters, column.string_offsets = offsets, column.size = size;
  return column;
}

Column&& Column::list(const int64_t* offsets, int64_t size) && {
  lists.push_back({offsets, size});
  return std::move(*this);
}

}  // namespace din_infer
