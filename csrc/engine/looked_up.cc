#include "engine/looked_up.hpp"

#include <algorithm>
#include <limits>

namespace din_infer {

void LookedUpRows::Replace(const Schema& schema, CheckedBatch& batch) {
  size_t used = 0;
  const auto replace = [&](const Group& group, GroupColumns& given) {
    for (size_t f = 0; f < given.columns.size(); ++f) {
      const Column*& column = given.columns[f];
      if (!column->row_lookup) continue;
      if (used == rows_.size()) rows_.emplace_back();
      column = Ask(schema.tables[static_cast<size_t>(group.features[f].table)], *column, rows_[used++]);
    }
  };
  replace(schema.user, batch.user);
  replace(schema.context, batch.context);
  replace(schema.candidate, batch.candidate);
  for (size_t h = 0; h < batch.histories.size(); ++h) replace(schema.histories[h], batch.histories[h]);
}

const Column* LookedUpRows::Ask(const Table& table, const Column& ids, Rows& rows) const {
  const auto count = static_cast<size_t>(ids.size * table.dim);
  float* values = Reserve(rows.values, count);
  std::fill_n(values, count, std::numeric_limits<float>::quiet_NaN());
  if (ids.size > 0) {
    ids.row_lookup(
        {table.name.c_str(), ids.int64_values, ids.characters, ids.string_offsets, ids.size, table.dim, values});
  }
  rows.column.embedding_values = values, rows.column.embedding_width = table.dim, rows.column.size = ids.size;
  rows.column.lists.assign(ids.lists.begin(), ids.lists.end());
  return &rows.column;
}

}  // namespace din_infer
