// Work split over threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "din_infer/din_infer.hpp"

namespace din_infer {

class Arena;

// Runs items on up to `threads` threads, the library's with the calling one among them, or the caller's. With one
// thread, and for one item, that is the calling one.
class Parallel {
 public:
  explicit Parallel(int threads, const Executor& executor = {});  // throws InputError for more than 1024 or none
  ~Parallel();

  int threads() const { return threads_; }

  // body(item, slot) for each item in [0, items). Items are started in their order, so that small ones at the end even
  // out the load; calls that run at the same time have different slots in [0, threads). A body's exception is thrown
  // here.
  template <class Body>
  void For(int64_t items, const Body& body) {
    Run(items, std::cref(body));  // a copy of the body would be allocated
  }

 private:
  using Function = std::function<void(int64_t item, int slot)>;
  struct Job;
  struct Tasks;
  void Run(int64_t items, const Function& body);
  void RunOnExecutor(Job& job) const;

  int threads_;
  Executor executor_;
  std::unique_ptr<Arena> arena_;  // made when there is first something to share
};

}  // namespace din_infer
