// What scorers and registries of the C ABI do alike.
#pragma once

#include "din_infer/din_infer.h"
#include "din_infer/din_infer.hpp"

namespace din_infer::capi {

// Throws InputError for threads outside 1 to 1024, for flags that there are not, and as Known does.
ScorerOptions Options(const din_infer_scorer_options* options);

// Scores into the caller's `size` floats. Throws InputError unless that is the number of candidates.
void Score(Scorer& scorer, const Batch& batch, float* scores, int64_t size);
void ScoreUser(Scorer& scorer, const User& user, const Batch& batch, float* scores, int64_t size);

}  // namespace din_infer::capi
