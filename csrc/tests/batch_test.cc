#include "engine/batch.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace din_infer {
namespace {

Schema MakeSchema() {
  Schema schema;
  schema.tables = {{"item", 2, Ids::kVocabulary, 0, DType::kInt64}, {"genre", 2, Ids::kVocabulary, 0, DType::kString}};
  schema.user.name = "user", schema.context.name = "context";
  schema.candidate = {"candidate", {{"item", 0, Many::kNo}, {"genre", 1, Many::kMean}, {"price", kDense, Many::kNo}}};
  History history;
  history.name = "clicks";
  history.features = {{"item", 0, Many::kNo}};
  schema.histories = {history};
  return schema;
}

// Two requests: candidates 2 and 1, behaviours 3 and 0.
class BatchTest : public ::testing::Test {
 protected:
  Batch Make() {
    Batch batch;
    batch.requests = 2;
    batch.columns["candidate.item"] = Column::int64s(items_, 3).list(candidates_, 3);
    batch.columns["candidate.genre"] = Column::strings("abc", genre_strings_, 3).list(candidates_, 3).list(genres_, 4);
    batch.columns["candidate.price"] = Column::floats(prices_, 3).list(candidates_, 3);
    batch.columns["clicks.item"] = Column::int64s(items_, 3).list(clicks_, 3);
    return batch;
  }

  void ExpectRefused(const Batch& batch, const std::string& part) {
    try {
      CheckBatch(schema_, batch);
      FAIL() << "expected an InputError with " << part;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }

  Schema schema_ = MakeSchema();
  int64_t items_[3] = {1, 2, 3};
  float prices_[3] = {1, 2, 3};
  int64_t candidates_[3] = {0, 2, 3}, clicks_[3] = {0, 3, 3};
  int64_t genres_[4] = {0, 2, 2, 3}, genre_strings_[4] = {0, 1, 2, 3};
};

TEST_F(BatchTest, TakesAValidBatch) {
  const Batch batch = Make();
  const CheckedBatch checked = CheckBatch(schema_, batch);
  EXPECT_EQ(checked.Candidates(), 3);
  EXPECT_EQ(checked.histories[0].Of(1).size(), 0);
  EXPECT_EQ(checked.candidate.columns.size(), 3u);
}

TEST_F(BatchTest, RefusesOffsetsThatDoNotFit) {
  Batch batch = Make();
  int64_t down[] = {0, 4, 3};
  batch.columns["clicks.item"].lists[0].data = down;
  ExpectRefused(batch, "clicks.item: expected offsets that do not go down, got 4 then 3");
  int64_t past[] = {0, 3, 5};
  batch.columns["clicks.item"].lists[0].data = past;
  ExpectRefused(batch, "end at the number of values, 3, got 5");
  int64_t late[] = {1, 3, 3};
  batch.columns["clicks.item"].lists[0].data = late;
  ExpectRefused(batch, "expected offsets from 0, got 1");
  batch.columns["clicks.item"].lists[0].size = 2;
  ExpectRefused(batch, "expected 3 offsets, got 2");
}

TEST_F(BatchTest, RefusesColumnsThatDoNotAgree) {
  Batch batch = Make();
  int64_t other[] = {0, 1, 3};
  batch.columns["candidate.price"].lists[0].data = other;
  ExpectRefused(batch, "candidate.price: expected lists as long as those of candidate.item");
}

TEST_F(BatchTest, RefusesMissingUnknownAndMistypedColumns) {
  Batch batch = Make();
  batch.columns.erase("clicks.item");
  ExpectRefused(batch, "clicks.item: expected a column of this name");
  batch = Make();
  batch.columns["clicks.colour"] = batch.columns["clicks.item"];
  ExpectRefused(batch, "expected 4 columns, got 5: not in the schema, are 'clicks.colour'");
  batch = Make();
  batch.columns["clicks.item"] = Column::floats(prices_, 3).list(clicks_, 3);
  ExpectRefused(batch, "clicks.item: expected int64, got float32");
  batch.columns["clicks.item"] = Column::int64s(items_, 3);
  ExpectRefused(batch, "clicks.item: expected 1 levels of lists, got 0");
}

// Sizes that are made of them would overflow before anything is read.
TEST_F(BatchTest, RefusesMoreValuesThanThereCanBe) {
  Batch batch = Make();
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  const int64_t ends[] = {0, 3, kMost};
  batch.columns["clicks.item"] = Column::int64s(items_, kMost).list(ends, 3);
  ExpectRefused(batch, "clicks.item: expected at most 549755813888 values, got 9223372036854775807");
  batch = Make();
  batch.columns["candidate.genre"].lists[1].size = std::numeric_limits<int64_t>::min();
  ExpectRefused(batch, "candidate.genre: outer lists: expected offsets that end at the number of values, 0, got 3");
}

TEST_F(BatchTest, CountsNoCandidatesOfACatalogueForLessThanNoRequests) {
  Batch batch = Make();
  const int64_t all[] = {0, 3};
  batch.columns["candidate.genre"].lists[0] = batch.columns["candidate.item"].lists[0] = {all, 2};
  batch.shared_candidates = true;
  EXPECT_EQ(CandidatesIfItFits(batch), 3 * batch.requests);
  for (const int64_t requests : {int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
    batch.requests = requests;
    EXPECT_EQ(CandidatesIfItFits(batch), -1);
  }
}

TEST_F(BatchTest, RefusesNullPointers) {
  Batch batch = Make();
  batch.columns["clicks.item"].int64_values = nullptr;
  ExpectRefused(batch, "clicks.item: expected values, got a null pointer");
  batch = Make();
  batch.columns["clicks.item"].lists[0].data = nullptr;
  ExpectRefused(batch, "clicks.item: expected offsets, got a null pointer");
  batch = Make();
  batch.columns["candidate.genre"].characters = nullptr;
  ExpectRefused(batch, "candidate.genre: expected characters, got a null pointer");
  batch = Make();
  batch.columns["candidate.genre"].string_offsets = nullptr;
  ExpectRefused(batch, "candidate.genre: expected string, got characters without offsets");
}

TEST_F(BatchTest, LevelsOfListsAreAddedOneByOne) {
  Batch batch = Make();
  Column column = Column::embeddings(nullptr, 3, 2);
  for (const Offsets& level : batch.columns["candidate.genre"].lists) {
    column = std::move(column).list(level.data, level.size);
  }
  EXPECT_EQ(column.lists.size(), 2u);
}

TEST_F(BatchTest, TakesEmbeddingsInPlaceOfIds) {
  Batch batch = Make();
  const float rows[6] = {1, 2, std::numeric_limits<float>::quiet_NaN(), 4, 5, 6};
  batch.columns["candidate.item"] = Column::embeddings(rows, 3, 2).list(candidates_, 3);
  batch.columns["candidate.genre"] = Column::embeddings(rows, 3, 2).list(candidates_, 3).list(genres_, 4);
  batch.columns["clicks.item"] = Column::embeddings(rows, 3, 2).list(clicks_, 3);
  EXPECT_EQ(CheckBatch(schema_, batch).Candidates(), 3);
  batch.columns["candidate.genre"].lists.pop_back();
  ExpectRefused(batch, "candidate.genre: expected 2 levels of lists, got 1");
}

TEST_F(BatchTest, RefusesEmbeddingsThatDoNotFit) {
  Batch batch = Make();
  const float rows[6] = {};
  for (const int64_t width : {int64_t{1}, int64_t{3}, int64_t{-1}}) {
    batch.columns["clicks.item"] = Column::embeddings(rows, 3, width).list(clicks_, 3);
    ExpectRefused(batch, "clicks.item: expected embeddings of the table's width, 2, got " + std::to_string(width));
  }
  batch.columns["clicks.item"] = Column::embeddings(rows, 2, 2).list(clicks_, 3);
  ExpectRefused(batch, "clicks.item: expected offsets that end at the number of values, 2, got 3");
  batch.columns["clicks.item"] = Column::embeddings(nullptr, 3, 2).list(clicks_, 3);
  ExpectRefused(batch, "clicks.item: expected embeddings, got a null pointer");
  batch = Make();
  batch.columns["candidate.price"] = Column::embeddings(rows, 3, 1).list(candidates_, 3);
  ExpectRefused(batch, "candidate.price: expected float32, got embeddings");
}

TEST_F(BatchTest, RefusesNumbersThatAreNotFinite) {
  Batch batch = Make();
  prices_[1] = std::numeric_limits<float>::infinity();
  ExpectRefused(batch, "candidate.price: expected finite numbers, got inf at 1");
}

}  // namespace
}  // namespace din_infer
