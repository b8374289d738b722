#include "engine/batch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include "base/quote.hpp"

namespace din_infer {
namespace {

std::string_view Name(DType type) {
  return type == DType::kInt64 ? "int64" : type == DType::kString ? "string" : "float32";
}

bool HoldsEmbeddings(const Column& column) { return column.embedding_values != nullptr || column.embedding_width != 0; }

std::string_view Held(const Column& column) {
  if (HoldsEmbeddings(column)) return "embeddings";
  if (column.float_values != nullptr) return Name(DType::kFloat32);
  if (column.string_offsets == nullptr && column.characters != nullptr) return "characters without offsets";
  return Name(column.string_offsets != nullptr ? DType::kString : DType::kInt64);
}

void CheckStrings(const std::string& name, const Column& column) {
  CheckOffsets(name, ": strings", {column.string_offsets, column.size + 1}, column.size,
               column.string_offsets[column.size]);
  if (column.characters == nullptr && column.string_offsets[column.size] > 0) {
    throw InputError(name + ": expected characters, got a null pointer");
  }
}

void CheckFinite(const std::string& name, const Column& column) {
  for (int64_t i = 0; i < column.size; ++i) {
    if (!std::isfinite(column.float_values[i])) {
      throw InputError(name + ": expected finite numbers, got " + std::to_string(column.float_values[i]) + " at " +
                       std::to_string(i));
    }
  }
}

void CheckRowLookup(const std::string& name, const Column& column, const Feature& feature) {
  if (feature.table == kDense) throw InputError(name + ": expected no row look-up of a dense feature, got one");
  if (HoldsEmbeddings(column)) throw InputError(name + ": expected ids for the row look-up, got embeddings");
}

// Any number will do: like a table's, it stays in its row.
void CheckEmbeddings(const std::string& name, const Column& column, int64_t width) {
  if (column.embedding_width != width) {
    throw InputError(name + ": expected embeddings of the table's width, " + std::to_string(width) + ", got " +
                     std::to_string(column.embedding_width));
  }
  if (column.size > 0 && column.embedding_values == nullptr) {
    throw InputError(name + ": expected embeddings, got a null pointer");
  }
}

void CheckValues(const std::string& name, const Column& column, const Schema& schema, const Feature& feature) {
  if (column.size < 0) throw InputError(name + ": expected a size of at least 0, got " + std::to_string(column.size));
  if (const int64_t most = kMostValues / schema.Width(feature); column.size > most) {
    throw InputError(name + ": expected at most " + std::to_string(most) + " values, got " +
                     std::to_string(column.size));
  }
  if (column.row_lookup) CheckRowLookup(name, column, feature);
  if (HoldsEmbeddings(column) && feature.table != kDense) return CheckEmbeddings(name, column, schema.Width(feature));
  if (column.size == 0) return;
  if (const std::string_view expected = Name(schema.Type(feature)); Held(column) != expected) {
    throw InputError(name + ": expected " + std::string(expected) + ", got " + std::string(Held(column)));
  }
  switch (schema.Type(feature)) {
    case DType::kInt64:
      if (column.int64_values == nullptr) throw InputError(name + ": expected values, got a null pointer");
      return;
    case DType::kString:
      return CheckStrings(name, column);
    case DType::kFloat32:
      return CheckFinite(name, column);
    case DType::kFloat16:
    case DType::kInt8:
      return;  // of tables, never of columns
  }
}

// Of a caller's offsets, whose size may be any number.
int64_t NumberOfLists(const Offsets& offsets) { return std::max<int64_t>(offsets.size, 1) - 1; }

void CheckLists(const std::string& name, const Column& column, size_t levels, int64_t requests) {
  if (column.lists.size() != levels) {
    throw InputError(name + ": expected " + std::to_string(levels) + " levels of lists, got " +
                     std::to_string(column.lists.size()));
  }
  int64_t lists = requests;
  for (size_t level = 0; level < levels; ++level) {
    const Offsets& offsets = column.lists[level];
    const bool innermost = level + 1 == levels;
    const int64_t inside = innermost ? column.size : NumberOfLists(column.lists[level + 1]);
    CheckOffsets(name, levels == 1 ? "" : innermost ? ": inner lists" : ": outer lists", offsets, lists, inside);
    lists = inside;
  }
  if (levels == 0 && column.size != requests) {
    throw InputError(name + ": expected one value per request, " + std::to_string(requests) + ", got " +
                     std::to_string(column.size));
  }
}

const std::string& ColumnName(const Group& group, const Feature& feature) {
  thread_local std::string name;  // whose memory is used again
  name.assign(group.name).append(1, '.').append(feature.name);
  return name;
}

void CheckGroup(const Schema& schema, const Group& group, bool listed, int64_t requests, const Batch& batch,
                GroupColumns* checked) {
  checked->columns.reserve(group.features.size());
  for (const Feature& feature : group.features) {
    const std::string& name = ColumnName(group, feature);
    const auto found = batch.columns.find(name);
    if (found == batch.columns.end()) throw InputError(name + ": expected a column of this name, got none");
    const Column& column = found->second;
    CheckValues(name, column, schema, feature);
    CheckLists(name, column, static_cast<size_t>(listed) + static_cast<size_t>(feature.many != Many::kNo), requests);
    if (listed && checked->columns.empty()) checked->lists = column.lists[0];
    const Offsets& lists = checked->lists;
    if (listed && !std::equal(lists.data, lists.data + lists.size, column.lists[0].data)) {
      throw InputError(name + ": expected lists as long as those of " + group.name + "." + group.features[0].name +
                       ", got others");
    }
    checked->columns.push_back(&column);
  }
}

// Nothing else bounds the requests of a catalogue where there are no other columns.
void CheckCatalogue(const GroupColumns& candidate, int64_t requests) {
  if (!candidate.shared || candidate.Of(0).size() == 0) return;
  const int64_t most = std::numeric_limits<int64_t>::max() / candidate.Of(0).size();
  if (requests > most) {
    throw InputError("requests: expected at most " + std::to_string(most) + " of a catalogue of " +
                     std::to_string(candidate.Of(0).size()) + ", got " + std::to_string(requests));
  }
}

const char* OfPart(BatchPart part) {
  switch (part) {
    case BatchPart::kUser:
      return " of user and histories";
    case BatchPart::kBehaviours:
      return " of histories";
    case BatchPart::kCandidates:
      return " of context and candidates";
    case BatchPart::kAll:
      break;
  }
  return "";
}

// Names, in quotes, of the columns that no group has.
std::string Unknown(const Batch& batch, const std::vector<const GroupColumns*>& groups) {
  std::string names;
  for (const auto& [name, column] : batch.columns) {
    const bool known = std::any_of(groups.begin(), groups.end(), [at = &column](const GroupColumns* group) {
      return std::find(group->columns.begin(), group->columns.end(), at) != group->columns.end();
    });
    if (!known) names += (names.empty() ? "" : ", ") + Quote(name);
  }
  return names;
}

}  // namespace

void CheckOffsets(const std::string& name, const char* part, const Offsets& offsets, int64_t lists, int64_t values) {
  if (offsets.size < 1 || offsets.size - 1 != lists) {  // lists + 1 may overflow
    throw InputError(name + part + ": expected " + std::to_string(static_cast<uint64_t>(lists) + 1) + " offsets, got " +
                     std::to_string(offsets.size));
  }
  if (offsets.data == nullptr) throw InputError(name + part + ": expected offsets, got a null pointer");
  if (offsets.data[0] != 0)
    throw InputError(name + part + ": expected offsets from 0, got " + std::to_string(offsets.data[0]));
  for (int64_t i = 0; i < lists; ++i) {
    if (offsets.data[i + 1] < offsets.data[i]) {
      throw InputError(name + part + ": expected offsets that do not go down, got " + std::to_string(offsets.data[i]) +
                       " then " + std::to_string(offsets.data[i + 1]) + " at " + std::to_string(i + 1));
    }
  }
  if (offsets.data[lists] != values) {
    throw InputError(name + part + ": expected offsets that end at the number of values, " + std::to_string(values) +
                     ", got " + std::to_string(offsets.data[lists]));
  }
}

int64_t CandidatesIfItFits(const Batch& batch) {
  constexpr std::string_view kGroup = "candidate.";
  if (batch.requests < 0) return -1;
  const auto found = batch.columns.lower_bound(kGroup);
  if (found == batch.columns.end() || found->first.compare(0, kGroup.size(), kGroup) != 0) return -1;
  const auto& [name, column] = *found;
  const int64_t lists = batch.shared_candidates ? 1 : batch.requests;
  if (column.lists.empty() || column.lists[0].data == nullptr) return -1;
  if (column.lists[0].size < 1 || column.lists[0].size - 1 != lists) return -1;
  const int64_t candidates = column.lists[0].data[lists];
  const int64_t values = column.lists.size() == 1 ? column.size : NumberOfLists(column.lists[1]);
  if (candidates < 0 || candidates != values) return -1;
  if (!batch.shared_candidates || candidates == 0) return candidates;
  return batch.requests <= std::numeric_limits<int64_t>::max() / candidates ? batch.requests * candidates : -1;
}

Range Kept(const History& history, Range all) {
  if (history.max_length == 0 || all.size() <= history.max_length) return all;
  return history.keeps_tail() ? Range{all.end - history.max_length, all.end}
                              : Range{all.begin, all.begin + history.max_length};
}

CheckedBatch::CheckedBatch(const Schema& schema, const Batch& batch, BatchPart part) : requests(batch.requests) {
  if (requests < 0) throw InputError("requests: expected a number of at least 0, got " + std::to_string(requests));
  const bool all = part == BatchPart::kAll;
  if (all || part == BatchPart::kUser) CheckGroup(schema, schema.user, false, requests, batch, &user);
  if (all || part == BatchPart::kCandidates) {
    CheckGroup(schema, schema.context, false, requests, batch, &context);
    CheckGroup(schema, schema.candidate, true, batch.shared_candidates ? 1 : requests, batch, &candidate);
    candidate.shared = batch.shared_candidates;
    CheckCatalogue(candidate, requests);
  }
  size_t known = user.columns.size() + context.columns.size() + candidate.columns.size();
  histories.reserve(schema.histories.size());
  for (const History& history : schema.histories) {
    if (part == BatchPart::kCandidates) break;
    CheckGroup(schema, history, true, requests, batch, &histories.emplace_back(&memory_));
    known += history.features.size();
  }
  if (batch.columns.size() != known) {
    std::vector<const GroupColumns*> groups{&user, &context, &candidate};
    for (const GroupColumns& history : histories) groups.push_back(&history);
    throw InputError("expected " + std::to_string(known) + " columns" + OfPart(part) + ", got " +
                     std::to_string(batch.columns.size()) + ": not in the schema" + (all ? "" : ", or not read here") +
                     ", are " + Shorten(Unknown(batch, groups)));
  }
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

Column Column::embeddings(const float* rows, int64_t size, int64_t width) {
  Column column;
  column.embedding_values = rows, column.embedding_width = width, column.size = size;
  return column;
}

Column Column::list(const int64_t* offsets, int64_t size) && {
  lists.push_back({offsets, size});
  return std::move(*this);
}

Column Column::rows_from(RowLookup lookup) && {
  row_lookup = std::move(lookup);
  return std::move(*this);
}

}  // namespace din_infer
