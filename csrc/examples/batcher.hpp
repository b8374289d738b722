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

  bool Add(const Call& call);  // false: too many wait already, in all or for it to be answered in time
  void Hurry();                // from here on nothing waits for others to share a call with

 private:
  void Work();
  // Whether it will be answered within half of the time that it has left, by what calls took lately: the other half is
  // for what nobody foresees, since a call that comes too late has cost as much. What is idle always tries.
  bool InTime(const Call& call) const;
  std::vector<Call> Take();  // the oldest ones, for one batch; none: the end
  static void DropGivenUp(std::vector<Call>& calls);
  void ScoreTogether(std::vector<Call>& calls, MergedRequests& merged, std::vector<float>& scores);
  void Score(const std::vector<Call>& calls, const Batch& batch, std::vector<float>& scores);
  void Done(size_t taken, size_t scored, std::chrono::nanoseconds took);

  ModelRegistry& registry_;
  const BatcherOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Call> waiting_;
  size_t scoring_ = 0;                // taken, and not done
  std::chrono::nanoseconds each_{0};  // what a call took lately
  bool hurrying_ = false, ending_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace din_infer::examples
