#include "capi/border.hpp"
#include "capi/handles.hpp"

#include <string_view>

using din_infer::Column;
using din_infer::InputError;
using din_infer::capi::At;
using din_infer::capi::Guard;
using din_infer::capi::LookupError;
using din_infer::capi::Text;

namespace {

// Here, since a call that scores is far from where the mistake is.
void CheckView(const char* column, const char* what, const void* begin, int64_t size, int64_t least) {
  if (size < least) {
    throw InputError(std::string(column) + ": expected at least " + std::to_string(least) + " " + what + ", got " +
                     std::to_string(size));
  }
  if (size > 0 && begin == nullptr) {
    throw InputError(std::string(column) + ": expected " + what + ", got a null pointer");
  }
}

// Sets a column's values, which begin at `begin`, in place, so that what is set a second time allocates nothing.
void Set(din_infer_batch* batch, const char* name, const void* begin, Column&& values) {
  auto& columns = At(batch, "batch").batch.columns;
  const std::string_view key = Text(name, "name");
  CheckView(name, "values", begin, values.size, 0);
  auto found = columns.find(key);
  if (found == columns.end()) found = columns.emplace(std::string(key), Column()).first;
  Column& column = found->second;
  values.lists.swap(column.lists);  // for its memory
  column = std::move(values);
  column.lists.clear();
}

Column& Find(din_infer_batch* batch, const char* name) {
  auto& columns = At(batch, "batch").batch.columns;
  const auto found = columns.find(std::string_view(Text(name, "name")));
  if (found == columns.end()) throw InputError(std::string(name) + ": expected a column that has been set, got none");
  return found->second;
}

// Small enough for a std::function to hold without allocating.
struct CallersLookup {
  din_infer_row_lookup lookup;
  void* context;

  void operator()(const din_infer::RowRequest& of) const {
    const din_infer_row_request request{of.table, of.int64_ids, of.characters, of.string_offsets,
                                        of.count, of.width,     of.rows};
    if (const int failed = lookup(context, &request); failed != 0) {
      throw LookupError("table " + std::string(of.table) + ": expected the row look-up to return 0, got " +
                        std::to_string(failed));
    }
  }
};

}  // namespace

din_infer_status din_infer_batch_create(din_infer_batch** batch) {
  return Guard([&] {
    auto& handle = At(batch, "batch");
    handle = new din_infer_batch{};
  });
}

void din_infer_batch_free(din_infer_batch* batch) { delete batch; }

din_infer_status din_infer_batch_set_requests(din_infer_batch* batch, int64_t requests) {
  return Guard([&] {
    int64_t& number = At(batch, "batch").batch.requests;
    if (requests < 0) throw InputError("requests: expected a number of at least 0, got " + std::to_string(requests));
    number = requests;
  });
}

din_infer_status din_infer_batch_set_shared_candidates(din_infer_batch* batch, int shared) {
  return Guard([&] { At(batch, "batch").batch.shared_candidates = shared != 0; });
}

din_infer_status din_infer_batch_set_int64s(din_infer_batch* batch, const char* name, const int64_t* values,
                                            int64_t size) {
  return Guard([&] { Set(batch, name, values, Column::int64s(values, size)); });
}

din_infer_status din_infer_batch_set_floats(din_infer_batch* batch, const char* name, const float* values,
                                            int64_t size) {
  return Guard([&] { Set(batch, name, values, Column::floats(values, size)); });
}

din_infer_status din_infer_batch_set_strings(din_infer_batch* batch, const char* name, const char* characters,
                                             const int64_t* offsets, int64_t size) {
  return Guard([&] { Set(batch, name, offsets, Column::strings(characters, offsets, size)); });
}

din_infer_status din_infer_batch_set_embeddings(din_infer_batch* batch, const char* name, const float* rows,
                                                int64_t size, int64_t width) {
  return Guard([&] {
    if (width < 1) throw InputError("width: expected at least 1, got " + std::to_string(width));
    Set(batch, name, rows, Column::embeddings(rows, size, width));
  });
}

din_infer_status din_infer_batch_set_row_lookup(din_infer_batch* batch, const char* name, din_infer_row_lookup lookup,
                                                void* context) {
  return Guard([&] {
    Column& column = Find(batch, name);
    if (lookup == nullptr) {
      column.row_lookup = nullptr;
    } else {
      column.row_lookup = CallersLookup{lookup, context};
    }
  });
}

din_infer_status din_infer_batch_add_lists(din_infer_batch* batch, const char* name, const int64_t* offsets,
                                           int64_t size) {
  return Guard([&] {
    Column& column = Find(batch, name);
    CheckView(name, "offsets", offsets, size, 1);
    column.lists.push_back({offsets, size});
  });
}
