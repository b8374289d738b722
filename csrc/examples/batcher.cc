#include "batcher.hpp"

#include <algorithm>
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
    if (waiting_.size() >= options_.queue) return false;
    waiting_.push_back(call);
  }
  changed_.notify_one();
  return true;
}

void Batcher::Hurry() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    hurrying_ = true;
  }
  changed_.notify_all();
}

std::vector<Call> Batcher::Take(std::vector<Call>& late) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto full = [this] { return ending_ || hurrying_ || waiting_.size() >= options_.batch; };
  do {
    changed_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
    if (!full()) changed_.wait_until(lock, waiting_.front().arrival + options_.wait, full);
  } while (waiting_.empty() && !ending_);  // another worker may have been faster
  const auto now = std::chrono::system_clock::now();
  std::vector<Call> calls;
  for (auto left = std::chrono::nanoseconds::max(); !waiting_.empty() && calls.size() < options_.batch;) {
    const Call& call = waiting_.front();
    left = std::min<std::chrono::nanoseconds>(left, call.context->deadline() - now);
    if (left < each_ * static_cast<int64_t>(calls.size() + 1)) {
      if (!calls.empty()) break;
      each_ -= each_ / 64;  // one slow batch is not for ever
      left = left.max();
      late.push_back(call);
    } else {
      calls.push_back(call);
    }
    waiting_.pop_front();
  }
  return calls;
}

void Batcher::Learn(std::chrono::nanoseconds took, size_t calls) {
  const std::lock_guard<std::mutex> lock(mutex_);
  each_ += (took / static_cast<int64_t>(calls) - each_) / 8;
}

void Batcher::Work() {
  MergedRequests merged;
  std::vector<float> scores;
  for (std::vector<Call> late, calls = Take(late); !calls.empty() || !late.empty(); calls = Take(late)) {
    for (const Call& call : late) call.reactor->Finish({grpc::StatusCode::DEADLINE_EXCEEDED, "too late to be scored"});
    late.clear();
    const auto begin = std::chrono::steady_clock::now();
    const size_t taken = calls.size();
    while (!calls.empty()) ScoreTogether(calls, merged, scores);
    if (taken > 0) Learn(std::chrono::steady_clock::now() - begin, taken);
  }
}

// Scores those calls that go into one batch with the first, and takes them out.
void Batcher::ScoreTogether(std::vector<Call>& calls, MergedRequests& merged, std::vector<float>& scores) {
  std::vector<Call> others, together;
  merged.Clear();
  for (const Call& call : calls) {
    try {
      if (call.context->IsCancelled()) {  // or past its deadline: nobody waits for the scores
        call.reactor->Finish(grpc::Status::CANCELLED);
      } else {
        (merged.Add(*call.request) ? together : others).push_back(call);
      }
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
