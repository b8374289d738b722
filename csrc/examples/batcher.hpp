// Requests wait here until a thread scores them, those that wait together in one call.
#pragma once

#include <din_infer/din_infer.hpp>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "merged_requests.hpp"

namespace din_infer::examples {

struct Call {
  const Request* request;
  Reply* reply;
  grpc::CallbackServerContext* context;
  grpc::ServerUnaryReactor* reactor;
  std::chrono::steady_clock::time_point arrival;
};

struct BatcherOptions {
  int workers;                     // threads that score
  size_t queue;                    // requests that may wait: the admission limit
  size_t batch;                    // requests in one call at most; 1 for no micro-batching
  std::chrono::microseconds wait;  // after its arrival a request waits no longer for others to share a call with
};

class Batcher {
 public:
  Batcher(ModelRegistry& registry, const BatcherOptions& options);
  ~Batcher();  // scores what waits, then ends

  bool Add(const Call& call);  // false: too many wait already
  void Hurry();                // from here on nothing waits for others to share a call with

 private:
  void Work();
  // Those of the oldest calls that one batch can answer in time; none: the end. A call that cannot be answered before
  // its deadline is taken out into `late`: to score it would make those behind it late too.
  std::vector<Call> Take(std::vector<Call>& late);
  void ScoreTogether(std::vector<Call>& calls, MergedRequests& merged, std::vector<float>& scores);
  void Score(const std::vector<Call>& calls, const Batch& batch, std::vector<float>& scores);
  void Learn(std::chrono::nanoseconds took, size_t calls);

  ModelRegistry& registry_;
  const BatcherOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Call> waiting_;
  std::chrono::nanoseconds each_{0};  // what a call took lately
  bool hurrying_ = false, ending_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace din_infer::examples
