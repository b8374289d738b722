// Rows that a caller's functions give, where tables would.
#pragma once

#include <deque>

#include "base/buffer.hpp"
#include "base/bytes.hpp"
#include "engine/batch.hpp"

namespace din_infer {

class LookedUpRows {
 public:
  // Asks for the rows of those columns of `batch` that have a row look-up, each column in one call, and has the batch
  // read them in place of ids. They are there until the next call.
  void Replace(const Schema& schema, CheckedBatch& batch);

  size_t Bytes() const { return BytesOf(rows_); }

 private:
  struct Rows {
    Column column;
    FloatBuffer values;

    size_t Bytes() const { return BytesOfAll(column.lists, values); }
  };

  const Column* Ask(const Table& table, const Column& ids, Rows& rows) const;

  std::deque<Rows> rows_;  // whose memory is used again; columns of batches point into it
};

}  // namespace din_infer
