#include <algorithm>
#include <cstddef>

#include "capi/border.hpp"
#include "capi/handles.hpp"
#include "capi/scoring.hpp"
#include "engine/batch.hpp"

using din_infer::Batch;
using din_infer::InputError;
using din_infer::Scorer;
using din_infer::capi::At;
using din_infer::capi::Guard;
using din_infer::capi::Options;
using din_infer::capi::Score;
using din_infer::capi::Text;

namespace {

// Throws InputError unless the caller's array is one of `expected` floats; null is where that is 0.
void CheckSize(const char* name, const float* array, int64_t size, int64_t expected) {
  if (size != expected) {
    throw InputError(std::string(name) + ": expected a size of exactly " + std::to_string(expected) + " floats, got " +
                     std::to_string(size));
  }
  if (size > 0) At(array, name);
}

}  // namespace

namespace din_infer::capi {

ScorerOptions Options(const din_infer_scorer_options* given) {
  constexpr size_t kFirstVersion = offsetof(din_infer_scorer_options, executor) + sizeof(din_infer_executor);
  const din_infer_scorer_options known = Known(given, kFirstVersion);
  if ((known.flags & ~unsigned{DIN_INFER_AUTO_FOLD | DIN_INFER_AUTO_PLAN | DIN_INFER_TIMINGS}) != 0) {
    throw InputError(
        "flags: expected 0, DIN_INFER_AUTO_FOLD, DIN_INFER_AUTO_PLAN, DIN_INFER_TIMINGS or a sum of them, got " +
        std::to_string(known.flags));
  }
  ScorerOptions options;
  options.threads = Threads(known.threads);
  options.plan = (known.flags & DIN_INFER_AUTO_PLAN) != 0 ? Plan::kAuto : Plan::kRequest;
  options.auto_fold = (known.flags & DIN_INFER_AUTO_FOLD) != 0;
  options.executor = ExecutorOf(known.executor);
  options.timings = (known.flags & DIN_INFER_TIMINGS) != 0;
  options.max_scratch_bytes = known.max_scratch_bytes;
  return options;
}

void Score(Scorer& scorer, const Batch& batch, float* scores, int64_t size) {
  if (size != CandidatesIfItFits(batch)) {
    CheckSize("scores", scores, size, scorer.candidates(batch));  // which says more of a batch that does not fit
  }
  if (size > 0) At(scores, "scores");
  scorer.score(batch, scores);
}

void ScoreUser(Scorer& scorer, const User& user, const Batch& batch, float* scores, int64_t size) {
  if (size != CandidatesIfItFits(batch)) CheckSize("scores", scores, size, scorer.candidates(user, batch));
  if (size > 0) At(scores, "scores");
  scorer.score(user, batch, scores);
}

}  // namespace din_infer::capi

din_infer_status din_infer_scorer_create(const din_infer_model* model, const din_infer_scorer_options* options,
                                         din_infer_scorer** scorer) {
  return Guard([&] {
    auto& handle = At(scorer, "scorer");
    handle = new din_infer_scorer(Scorer(At(model, "model").model, Options(options)));
  });
}

void din_infer_scorer_free(din_infer_scorer* scorer) { delete scorer; }

din_infer_status din_infer_scorer_candidates(const din_infer_scorer* scorer, const din_infer_batch* batch,
                                             int64_t* candidates) {
  return Guard(
      [&] { At(candidates, "candidates") = At(scorer, "scorer").scorer.candidates(At(batch, "batch").batch); });
}

din_infer_status din_infer_scorer_candidates_user(const din_infer_scorer* scorer, const din_infer_user* user,
                                                  const din_infer_batch* batch, int64_t* candidates) {
  return Guard([&] {
    At(candidates, "candidates") =
        At(scorer, "scorer").scorer.candidates(At(user, "user").user, At(batch, "batch").batch);
  });
}

din_infer_status din_infer_scorer_score(din_infer_scorer* scorer, const din_infer_batch* batch, float* scores,
                                        int64_t size) {
  return Guard([&] { Score(At(scorer, "scorer").scorer, At(batch, "batch").batch, scores, size); });
}

din_infer_status din_infer_scorer_explain_plan(din_infer_scorer* scorer, const din_infer_batch* batch,
                                               din_infer_plan_report* report) {
  return Guard([&] {
    din_infer_plan_report& out = At(report, "report");
    const din_infer::PlanReport of = At(scorer, "scorer").scorer.explain_plan(At(batch, "batch").batch);
    out = {of.candidates, of.distinct_candidates, of.pairs, of.distinct_pairs, of.request, of.candidate, of.chosen};
  });
}

din_infer_status din_infer_scorer_timings(const din_infer_scorer* scorer, din_infer_timings* timings) {
  return Guard([&] {
    din_infer_timings& out = At(timings, "timings");
    const din_infer::Timings of = At(scorer, "scorer").scorer.timings();
    out = {of.total, of.look_up, of.fold, of.unit, of.tower};
  });
}

din_infer_status din_infer_scorer_scratch_bytes(const din_infer_scorer* scorer, size_t* bytes) {
  return Guard([&] { At(bytes, "bytes") = At(scorer, "scorer").scorer.scratch_bytes(); });
}

din_infer_status din_infer_scorer_shrink(din_infer_scorer* scorer) {
  return Guard([&] { At(scorer, "scorer").scorer.shrink(); });
}

din_infer_status din_infer_explain(const din_infer_model* model, const din_infer_batch* batch, const char* history,
                                   float* weights, int64_t size) {
  return Guard([&] {
    const auto result =
        din_infer::explain(At(model, "model").model, At(batch, "batch").batch, Text(history, "history"));
    CheckSize("weights", weights, size, static_cast<int64_t>(result.size()));
    std::copy(result.begin(), result.end(), weights);
  });
}
