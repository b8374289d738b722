#include "merged_requests.hpp"

#include <algorithm>

namespace din_infer::examples {
namespace {

int64_t Size(const Column& column) {
  switch (column.values_case()) {
    case Column::kInt64S:
      return column.int64s().values_size();
    case Column::kFloats:
      return column.floats().values_size();
    default:
      return column.strings().values_size();
  }
}

bool HasPrefix(const std::string& name, const char* prefix) { return name.rfind(prefix, 0) == 0; }

}  // namespace

MergedRequests::Values::Values(const std::string& name, const Column& column)
    : type(column.values_case()),
      many(column.has_counts()),
      list(!HasPrefix(name, "user.") && !HasPrefix(name, "context.")) {
  int64s.reserve(1), floats.reserve(1);  // the library takes no null pointers
  Clear();
}

void MergedRequests::Values::Clear() {
  int64s.clear(), floats.clear(), characters.clear();
  for (std::vector<int64_t>* ends : {&characters_ends, &places_ends, &values_ends}) ends->assign(1, 0);
}

void MergedRequests::Values::Check(const std::string& name, const Column& column) const {
  const auto& counts = column.counts().values();
  const int64_t size = Size(column);
  int64_t left = size;
  for (const int64_t count : counts) {
    if (count < 0 || count > left) throw InputError(name + ": expected counts that add up to its values");
    left -= count;
  }
  if (many && left != 0) throw InputError(name + ": expected counts that add up to its values");
  if (!list && (many ? counts.size() : size) != 1) throw InputError(name + ": expected one value");
}

void MergedRequests::Values::Add(const Column& column) {
  int64s.insert(int64s.end(), column.int64s().values().begin(), column.int64s().values().end());
  floats.insert(floats.end(), column.floats().values().begin(), column.floats().values().end());
  for (const std::string& text : column.strings().values()) {
    characters += text;
    characters_ends.push_back(static_cast<int64_t>(characters.size()));
  }
  for (const int64_t count : column.counts().values()) values_ends.push_back(values_ends.back() + count);
  places_ends.push_back(places_ends.back() + (many ? column.counts().values_size() : Size(column)));
}

void MergedRequests::Values::View(din_infer::Column& view) const {
  if (type == Column::kInt64S) {
    view = din_infer::Column::int64s(int64s.data(), static_cast<int64_t>(int64s.size()));
  } else if (type == Column::kFloats) {
    view = din_infer::Column::floats(floats.data(), static_cast<int64_t>(floats.size()));
  } else {
    const auto size = static_cast<int64_t>(characters_ends.size()) - 1;
    view = din_infer::Column::strings(characters.data(), characters_ends.data(), size);
  }
  for (const std::vector<int64_t>* ends : {list ? &places_ends : nullptr, many ? &values_ends : nullptr}) {
    if (ends != nullptr) view.lists.push_back({ends->data(), static_cast<int64_t>(ends->size())});
  }
}

void MergedRequests::Clear() {
  batch_.requests = 0;
  for (auto& [name, values] : columns_) values.Clear();
}

bool MergedRequests::Fits(const Request& request) const {
  if (columns_.size() != request.columns().size()) return false;
  return std::all_of(request.columns().begin(), request.columns().end(), [&](const auto& given) {
    const auto found = columns_.find(given.first);
    return found != columns_.end() && found->second.Fits(given.second);
  });
}

bool MergedRequests::Add(const Request& request) {
  if (!Fits(request)) {
    if (batch_.requests > 0) return false;
    columns_.clear(), batch_.columns.clear();
    for (const auto& [name, column] : request.columns()) columns_.try_emplace(name, name, column);
  }
  for (const auto& [name, column] : request.columns()) columns_.at(name).Check(name, column);
  for (const auto& [name, column] : request.columns()) columns_.at(name).Add(column);
  ++batch_.requests;
  return true;
}

const Batch& MergedRequests::batch() {
  for (const auto& [name, values] : columns_) values.View(batch_.columns[name]);
  return batch_;
}

}  // namespace din_infer::examples
