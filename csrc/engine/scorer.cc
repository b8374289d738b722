#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "base/bytes.hpp"
#include "engine/batch.hpp"
#include "engine/candidate_plan.hpp"
#include "engine/looked_up.hpp"
#include "engine/model.hpp"
#include "engine/parallel.hpp"
#include "engine/repeats.hpp"
#include "engine/request_plan.hpp"
#include "engine/scratch_cap.hpp"
#include "engine/wave.hpp"

namespace din_infer {
namespace {

// What is embedded before it is scored bounds the memory of a call with many requests. Request by request, a few for
// each thread are better than many, as they stay in its cache; candidate by candidate, the more requests, the more is
// shared.
constexpr int64_t kThreadWaveRows = 1 << 13, kRequestWaveRows = 1 << 15;
constexpr int64_t kCandidateWaveBytes = int64_t{128} << 20;

// To find what is distinct costs as much per row (a candidate or a behaviour) as a tenth of these multiply-adds to more
// than half of them, the more the faster kernels are. So it is done where this share comes again, of candidates and of
// behaviours, since a pair comes again no more often than either; or of the behaviours of a history.
constexpr int64_t kRowWork = 40'000;
constexpr double kRepeatedShare = 0.25;

// To embed a row takes about as long as these multiply-adds.
constexpr int64_t kEmbeddingWork = 1'000;

// Fewer have hardly a pair in common, and their folds come from the cache.
constexpr int64_t kFewRequests = 8;

void CheckScores(const float* scores, const CheckedBatch& batch) {
  if (scores != nullptr || batch.Candidates() == 0) return;
  throw InputError("scores: expected memory for " + std::to_string(batch.Candidates()) + " floats, got a null pointer");
}

}  // namespace

struct Scorer::State {
  State(Model shared_model, const ScorerOptions& given)
      : model(std::move(shared_model)),
        parts(model.parts()),
        options(given),
        parallel(options.threads, options.executor, options.timings) {}

  // Memory that a call leaves for the next one.
  struct Scratch {
    Scratch(const Model::Parts& parts, bool auto_fold, int threads)
        : wave(parts, threads), by_request(parts, auto_fold, threads), by_candidate(parts, threads) {}
    size_t Bytes() const { return sizeof(*this) + BytesOfAll(looked_up, repeats, wave, by_request, by_candidate); }

    LookedUpRows looked_up;
    DistinctEstimate repeats;
    Wave wave;
    RequestPlan by_request;
    CandidatePlan by_candidate;
  };

  size_t ScratchBytes() const { return scratch == nullptr ? 0 : scratch->Bytes(); }
  void Shrink() { scratch.reset(); }

  // What each call with scratch memory begins with, and holds until it ends.
  [[nodiscard]] ScratchCap<State> BeginCall() {
    if (scratch == nullptr) scratch = std::make_unique<Scratch>(parts, options.auto_fold, parallel.threads());
    return {*this, options.max_scratch_bytes};
  }

  // Runs `score`, and takes its times.
  template <class Work>
  void Timed(const Work& score) {
    timings = {};
    if (parallel.timers() != nullptr) parallel.timers()->Restart();
    const ScratchCap call = BeginCall();
    score();
    if (parallel.timers() != nullptr) timings = parallel.timers()->Read();
  }

  void LookUp(CheckedBatch& batch) {
    const StepTimer timer = parallel.Time(0, Step::kLookUp);
    scratch->looked_up.Replace(parts.file.schema, batch);
  }

  void Score(const CheckedBatch& batch, float* scores);
  void ScoreByRequest(const CheckedBatch& batch, Range requests, float* scores, Parallel& threads,
                      const User::State* user = nullptr);
  PlanReport Report(const CheckedBatch& batch);

  CheckedBatch ListsOf(const User& user, const Batch& batch) const;
  Range NextCandidateWave(const CheckedBatch& batch, int64_t begin) const;
  struct Size {
    int64_t rows = 0, work = 0;  // candidates and behaviours to embed; multiply-adds request by request
    int64_t pooled = 0;          // floats that are pooled with equal weights
  };
  Size SizeOf(const CheckedBatch& batch, Range requests, const User::State* user = nullptr) const;
  Parallel ThreadsFor(const Size& size) const;
  bool MayShare(const CheckedBatch& batch, Range requests, const Size& size) const;
  void CountWork(int64_t request, int64_t done) const;
  bool PrepareByCandidate(const CheckedBatch& batch, Range requests, Parallel& threads, PlanReport& report);

  Model model;
  const Model::Parts& parts;
  ScorerOptions options;
  Timings timings;  // of the last call
  Parallel parallel;
  std::unique_ptr<Scratch> scratch;  // made by the first call, and by one after it was freed
};

void Scorer::State::Score(const CheckedBatch& batch, float* scores) {
  if (options.plan == Plan::kRequest) {
    const Size size = SizeOf(batch, {0, batch.requests});
    CountWork(size.work, size.work);
    Parallel threads = ThreadsFor(size);
    return ScoreByRequest(batch, {0, batch.requests}, scores, threads);
  }
  Wave& wave = scratch->wave;
  CandidatePlan& by_candidate = scratch->by_candidate;
  Range requests;
  while (requests.end < batch.requests) {
    requests = NextCandidateWave(batch, requests.end);
    const Size size = SizeOf(batch, requests);
    Parallel threads = ThreadsFor(size);
    PlanReport report;
    if (MayShare(batch, requests, size) && PrepareByCandidate(batch, requests, threads, report) &&
        by_candidate.Pays(report)) {
      by_candidate.Score(wave, threads, scores + batch.FirstScore(requests.begin));
      wave.CountUnknown();
      CountWork(report.request, report.chosen);
    } else {
      CountWork(size.work, size.work);
      wave.ForgetUnknown();  // they are counted when they are scored
      ScoreByRequest(batch, requests, scores, threads);
    }
  }
}

void Scorer::State::ScoreByRequest(const CheckedBatch& batch, Range requests, float* scores, Parallel& threads,
                                   const User::State* user) {
  Wave& wave = scratch->wave;
  const int64_t enough = std::min(threads.threads() * kThreadWaveRows, kRequestWaveRows);
  for (Range next{requests.begin, requests.begin}; next.begin < requests.end; next.begin = next.end) {
    for (int64_t rows = 0; next.end < requests.end && rows < enough; ++next.end) {
      rows += batch.candidate.Of(next.end).size();
      for (const GroupColumns& history : batch.histories) rows += history.Of(next.end).size();
    }
    wave.Prepare(batch, next, threads, user);
    scratch->by_request.Score(wave, threads, scores + batch.FirstScore(next.begin));
    wave.CountUnknown();
  }
}

CheckedBatch Scorer::State::ListsOf(const User& user, const Batch& batch) const {
  if (&user.state().parts != &parts)
    throw StaleUserError("user: expected one of the scorer's model, got another model's");
  return CheckedBatch(parts.file.schema, batch, BatchPart::kCandidates);
}

Range Scorer::State::NextCandidateWave(const CheckedBatch& batch, int64_t begin) const {
  Range wave_requests{begin, begin};
  for (int64_t bytes = 0; wave_requests.end < batch.requests && bytes < kCandidateWaveBytes; ++wave_requests.end) {
    bytes += CandidatePlan::Bytes(parts, batch, wave_requests.end);
  }
  return wave_requests;
}

Scorer::State::Size Scorer::State::SizeOf(const CheckedBatch& batch, Range requests, const User::State* user) const {
  Size size;
  for (int64_t r = requests.begin; r < requests.end; ++r) {
    const int64_t queries = batch.candidate.Of(r).size();
    size.rows += queries;
    size.work += queries * parts.tower->Work();
    for (size_t h = 0; h < parts.histories.size(); ++h) {
      const int64_t keys = user != nullptr ? user->histories[h].count
                                           : Kept(*parts.histories[h].schema, batch.histories[h].Of(r)).size();
      if (user == nullptr) size.rows += keys;
      const auto& unit = parts.histories[h].unit;
      if (unit.has_value()) {
        size.work += unit->Work(queries, keys);
      } else {
        size.pooled += keys * parts.histories[h].keys.width();
      }
    }
  }
  return size;
}

// Embedding and the tower are shared out, and each history's folds and blocks of keys.
Parallel Scorer::State::ThreadsFor(const Size& size) const {
  const int times = 2 + 2 * static_cast<int>(parts.histories.size());
  return parallel.ForCall(size.work + size.pooled + size.rows * kEmbeddingWork, times);
}

bool Scorer::State::MayShare(const CheckedBatch& batch, Range requests, const Size& size) const {
  if (parts.file.semantics.pooling != Pooling::kActivationUnit || size.work < size.rows * kRowWork) return false;
  const auto repeated = [&](auto share) {
    return share(parts.file.schema, batch, requests, scratch->repeats) >= kRepeatedShare;
  };
  return repeated(RepeatedInHistories) ||
         (requests.size() >= kFewRequests && repeated(RepeatedCandidates) && repeated(RepeatedBehaviours));
}

void Scorer::State::CountWork(int64_t request, int64_t done) const {
  parts.work_request.fetch_add(request, std::memory_order_relaxed);
  parts.work_done.fetch_add(done, std::memory_order_relaxed);
}

bool Scorer::State::PrepareByCandidate(const CheckedBatch& batch, Range requests, Parallel& threads,
                                       PlanReport& report) {
  scratch->wave.Prepare(batch, requests, threads);
  return scratch->by_candidate.Prepare(scratch->wave, options.auto_fold, threads, report);
}

PlanReport Scorer::State::Report(const CheckedBatch& batch) {
  PlanReport total;
  if (parts.file.semantics.pooling != Pooling::kActivationUnit) return total;
  Range requests;
  while (requests.end < batch.requests) {
    requests = NextCandidateWave(batch, requests.end);
    PlanReport report;
    const bool shared = PrepareByCandidate(batch, requests, parallel, report) &&
                        MayShare(batch, requests, SizeOf(batch, requests)) && scratch->by_candidate.Pays(report);
    scratch->wave.ForgetUnknown();
    total.candidates += report.candidates;
    total.distinct_candidates += report.distinct_candidates;
    total.pairs += report.pairs;
    total.distinct_pairs += report.distinct_pairs;
    total.request += report.request;
    total.candidate += report.candidate;
    total.chosen += shared ? report.chosen : report.request;
  }
  return total;
}

Scorer::Scorer(Model model, ScorerOptions options) : state_(std::make_unique<State>(std::move(model), options)) {}

Scorer::~Scorer() = default;
Scorer::Scorer(Scorer&&) noexcept = default;
Scorer& Scorer::operator=(Scorer&&) noexcept = default;

int64_t Scorer::candidates(const Batch& batch) const {
  return CheckBatch(state_->parts.file.schema, batch).Candidates();
}

void Scorer::score(const Batch& batch, float* scores) {
  state_->Timed([&] {
    CheckedBatch checked(state_->parts.file.schema, batch);
    CheckScores(scores, checked);
    state_->LookUp(checked);
    state_->Score(checked, scores);
  });
}

int64_t Scorer::candidates(const User& user, const Batch& batch) const {
  return state_->ListsOf(user, batch).Candidates();
}

void Scorer::score(const User& user, const Batch& batch, float* scores) {
  state_->Timed([&] {
    CheckedBatch lists = state_->ListsOf(user, batch);
    if (lists.Candidates() == 0) return;  // of however many requests
    CheckScores(scores, lists);
    state_->LookUp(lists);
    const Range requests{0, lists.requests};
    Parallel threads = state_->ThreadsFor(state_->SizeOf(lists, requests, &user.state()));
    state_->ScoreByRequest(lists, requests, scores, threads, &user.state());
  });
}

PlanReport Scorer::explain_plan(const Batch& batch) {
  const ScratchCap call = state_->BeginCall();
  CheckedBatch checked(state_->parts.file.schema, batch);
  state_->LookUp(checked);
  return state_->Report(checked);
}

Timings Scorer::timings() const { return state_->timings; }

size_t Scorer::scratch_bytes() const { return state_->ScratchBytes(); }

void Scorer::shrink() { state_->Shrink(); }

}  // namespace din_infer
