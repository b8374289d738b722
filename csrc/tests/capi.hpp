// What tests of the C ABI share.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "din_infer/din_infer.h"
#include "din_infer/din_infer.hpp"

namespace din_infer::testing {

inline void ExpectRefused(din_infer_status got, din_infer_status expected, const std::string& part) {
  EXPECT_EQ(got, expected);
  EXPECT_NE(std::string(din_infer_last_error()).find(part), std::string::npos) << din_infer_last_error();
}

inline void ExpectInputError(din_infer_status got, const std::string& part) {
  ExpectRefused(got, DIN_INFER_INPUT_ERROR, part);
}

inline din_infer_scorer_options Options(int threads, unsigned flags = 0) {
  din_infer_scorer_options options{};
  options.size = sizeof(options), options.threads = threads, options.flags = flags;
  return options;
}

// What the C ABI has to give.
inline std::vector<float> ScoresInCpp(const Model& model, const Batch& batch) {
  Scorer scorer(model);
  std::vector<float> scores(static_cast<size_t>(scorer.candidates(batch)));
  scorer.score(batch, scores.data());
  return scores;
}

// A model, a scorer of it, and an empty batch.
struct Handles {
  explicit Handles(const std::string& path, const din_infer_scorer_options* options = nullptr) {
    EXPECT_EQ(din_infer_model_load(path.c_str(), &model), DIN_INFER_OK) << din_infer_last_error();
    EXPECT_EQ(din_infer_scorer_create(model, options, &scorer), DIN_INFER_OK) << din_infer_last_error();
    EXPECT_EQ(din_infer_batch_create(&batch), DIN_INFER_OK) << din_infer_last_error();
  }
  Handles(const Handles&) = delete;
  Handles& operator=(const Handles&) = delete;
  ~Handles() {
    din_infer_batch_free(batch);
    din_infer_scorer_free(scorer);
    din_infer_model_free(model);
  }

  din_infer_model* model = nullptr;
  din_infer_scorer* scorer = nullptr;
  din_infer_batch* batch = nullptr;
};

// The columns of a C++ batch in a C one.
inline void Fill(const Batch& from, din_infer_batch* to) {
  ASSERT_EQ(din_infer_batch_set_requests(to, from.requests), DIN_INFER_OK);
  ASSERT_EQ(din_infer_batch_set_shared_candidates(to, from.shared_candidates ? 1 : 0), DIN_INFER_OK);
  for (const auto& [name, column] : from.columns) {
    if (column.embedding_values != nullptr) {
      ASSERT_EQ(din_infer_batch_set_embeddings(to, name.c_str(), column.embedding_values, column.size,
                                               column.embedding_width),
                DIN_INFER_OK);
    } else if (column.float_values != nullptr) {
      ASSERT_EQ(din_infer_batch_set_floats(to, name.c_str(), column.float_values, column.size), DIN_INFER_OK);
    } else if (column.string_offsets != nullptr) {
      ASSERT_EQ(din_infer_batch_set_strings(to, name.c_str(), column.characters, column.string_offsets, column.size),
                DIN_INFER_OK);
    } else {
      ASSERT_EQ(din_infer_batch_set_int64s(to, name.c_str(), column.int64_values, column.size), DIN_INFER_OK);
    }
    for (const Offsets& lists : column.lists) {
      ASSERT_EQ(din_infer_batch_add_lists(to, name.c_str(), lists.data, lists.size), DIN_INFER_OK);
    }
  }
}

}  // namespace din_infer::testing
