// Work split over threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "din_infer/din_infer.hpp"
#include "engine/timers.hpp"

namespace din_infer {

// Multiply-adds that other threads have to take from a call's own, each time that it shares some out, for it to wake
// them: fewer take no longer than that, 20 to 60 us in a virtual machine. Calls that follow each other find them awake.
// Tests, whose calls are small, lower it.
extern int64_t least_work_to_wake;

// Runs items on up to `threads` threads, the library's with the calling one among them, or the caller's. With one
// thread, and for one item, that is the calling one.
class Parallel {
 public:
  // Throws InputError for more than 1024 threads or none.
  explicit Parallel(int threads, const Executor& executor = {}, bool timed = false);
  // The thread in one slot of another one's.
  Parallel(const Parallel& outer, int slot);

  // The same threads for a call of `work` multiply-adds, which shares them out `times` times.
  Parallel ForCall(int64_t work, int times) const;

  int threads() const { return threads_; }

  // body(item, slot) for each item in [0, items). Items are started in their order, so that small ones at the end even
  // out the load; calls that run at the same time have different slots in [0, threads). A body's exception is thrown
  // here.
  template <class Body>
  void For(int64_t items, const Body& body) {
    Run(items, std::cref(body));  // a copy of the body would be allocated
  }

  // What the thread in `slot` does while the result lives.
  StepTimer Time(int slot, Step step) const { return {timers_, slot_ + slot, step}; }
  Timers* timers() const { return timers_; }  // null where nothing is timed

 private:
  using Function = std::function<void(int64_t item, int slot)>;
  struct Job;
  struct Tasks;
  void Run(int64_t items, const Function& body);

  int threads_;
  Executor executor_;  // without a function: the library's threads
  bool wakes_ = true;
  std::unique_ptr<Timers> own_timers_;
  Timers* timers_ = nullptr;
  int slot_ = 0;
};

}  // namespace din_infer
