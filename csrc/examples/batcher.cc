#include "batcher.hpp"

#include <algorithm>
#include <functional>
#include <utility>

namespace din_infer::examples {
namespace {

// The status of the exception that is being handled.
grpc::Status StatusOfError() {
  try {
    throw;
  } catch (const InputError& error) {
    return {grpc::StatusCode::INVALID_ARGUMENT, error.what()};
  } catch (const std::exception& error) {
    return {grpc::StatusCode::INTERNAL, error.what()};
  }
}

}  // namespace

Batcher::Batcher(ModelRegistry& registry, const BatcherOptions& options) : registry_(registry), options_(options) {
  for (int worker = 0; worker < options.workers; ++worker) workers_.emplace_back([this] { Work(); });
}

Batcher::~Batcher() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

bool Batcher::Add(const Call& call) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (waiting_.size() >= options_.queue || !InTime(call)) return false;
    waiting_.push_back(call);
  }
  changed_.notify_one();
  return true;
}

bool Batcher::InTime(const Call& call) const {
  const auto before = static_cast<int64_t>(waiting_.size() + scoring_);
  const auto left = call.context->deadline() - std::chrono::system_clock::now();
  return before == 0 || each_ * (before + 1) / options_.workers < left / 2;
}

void Batcher::Hurry() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    hurrying_ = true;
  }
  changed_.notify_all();
}

std::vector<Call> Batcher::Take() {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto full = [this] { return ending_ || hurrying_ || waiting_.size() >= options_.batch; };
  do {
    changed_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
    if (!full()) changed_.wait_until(lock, waiting_.front().arrival + options_.wait, full);
  } while (waiting_.empty() && !ending_);  // another worker may have been faster
  const auto end = waiting_.begin() + static_cast<std::ptrdiff_t>(std::min(waiting_.size(), options_.batch));
  std::vector<Call> calls(waiting_.begin(), end);
  waiting_.erase(waiting_.begin(), end);
  scoring_ += calls.size();
  return calls;
}

void Batcher::Done(size_t taken, size_t scored, std::chrono::nanoseconds took) {
  const std::lock_guard<std::mutex> lock(mutex_);
  scoring_ -= taken;
  if (scored > 0) each_ += (took / static_cast<int64_t>(scored) - each_) / (each_.count() == 0 ? 1 : 8);
}

void Batcher::Work() {
  MergedRequests merged;
  std::vector<float> scores;
  for (std::vector<Call> calls = Take(); !calls.empty(); calls = Take()) {
    const auto begin = std::chrono::steady_clock::now();
    const size_t taken = calls.size();
    DropGivenUp(calls);
    const size_t scored = calls.size();
    while (!calls.empty()) ScoreTogether(calls, merged, scores);
    Done(taken, scored, std::chrono::steady_clock::now() - begin);
  }
}

// Nobody waits for what has been cancelled, or is past its deadline.
void Batcher::DropGivenUp(std::vector<Call>& calls) {
  const auto given_up = [](const Call& call) { return call.context->IsCancelled(); };
  const auto dropped = std::stable_partition(calls.begin(), calls.end(), std::not_fn(given_up));
  std::for_each(dropped, calls.end(), [](const Call& call) { call.reactor->Finish(grpc::Status::CANCELLED); });
  calls.erase(dropped, calls.end());
}

// Scores those calls that go into one batch with the first, and takes them out.
void Batcher::ScoreTogether(std::vector<Call>& calls, MergedRequests& merged, std::vector<float>& scores) {
  std::vector<Call> others, together;
  merged.Clear();
  for (const Call& call : calls) {
    try {
      (merged.Add(*call.request) ? together : others).push_back(call);
    } catch (...) {
      call.reactor->Finish(StatusOfError());
    }
  }
  calls = std::move(others);
  if (together.empty()) return;
  try {
    Score(together, merged.batch(), scores);
  } catch (...) {
    if (together.size() == 1) return together[0].reactor->Finish(StatusOfError());
    for (const Call& call : together) {  // one that does not fit the model spoils no other
      std::vector<Call> alone{call};
      ScoreTogether(alone, merged, scores);
    }
  }
}

void Batcher::Score(const std::vector<Call>& calls, const Batch& batch, std::vector<float>& scores) {
  const ModelRegistry::Lease lease = registry_.lease();
  scores.resize(static_cast<size_t>(lease->candidates(batch)));
  lease->score(batch, scores.data());
  const Offsets& candidates = batch.columns.lower_bound("candidate.")->second.lists[0];
  for (size_t c = 0; c < calls.size(); ++c) {
    calls[c].reply->mutable_scores()->Add(scores.begin() + candidates.data[c], scores.begin() + candidates.data[c + 1]);
    calls[c].reply->set_model_version(lease.version());
    calls[c].reactor->Finish(grpc::Status::OK);
  }
}

}  // namespace din_infer::examples
