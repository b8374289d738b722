#include "engine/parallel.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <string>

#include "base/errors.hpp"
#include "engine/pool.hpp"

namespace din_infer {

int64_t least_work_to_wake = 750'000;

namespace {

constexpr int kMostThreads = 1024;  // each takes scratch memory

}  // namespace

// What the threads share of one call.
struct Parallel::Job {
  std::atomic<int64_t> next{0};
  int64_t items;
  const Function& body;

  void Work(int slot) {
    for (int64_t item = next++; item < items; item = next++) body(item, slot);
  }
};

// A job that is split into as many tasks as there are slots, since an executor says nothing of its threads. Tasks take
// items until none is left, so it does not matter how many run at a time.
struct Parallel::Tasks {
  Job& job;
  const int64_t count;
  std::array<std::atomic<uint64_t>, kMostThreads / 64> begun{};  // a bit each: a slot's scratch is for one at a time
  std::atomic<int64_t> done{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error = nullptr;  // the first: nothing may be thrown through a caller's code

  static void Run(void* context, int64_t index) noexcept {
    Tasks& tasks = *static_cast<Tasks*>(context);
    try {
      tasks.Begin(index);
      tasks.job.Work(static_cast<int>(index));
    } catch (...) {
      if (!tasks.failed.exchange(true)) tasks.error = std::current_exception();
    }
    ++tasks.done;
  }

 private:
  void Begin(int64_t index) {
    if (index < 0 || index >= count) throw Wrong(std::to_string(index));
    const uint64_t bit = uint64_t{1} << index % 64;
    if ((begun[static_cast<size_t>(index / 64)].fetch_or(bit) & bit) != 0)
      throw Wrong(std::to_string(index) + " again");
  }

  InputError Wrong(const std::string& got) const {
    return InputError("parallel_for: expected each index from 0 to " + std::to_string(count - 1) + " once, got " + got);
  }
};

Parallel::Parallel(int threads, const Executor& executor, bool timed) : threads_(threads), executor_(executor) {
  if (threads < 1 || threads > kMostThreads) {
    throw InputError("threads: expected 1 to " + std::to_string(kMostThreads) + ", got " + std::to_string(threads));
  }
  if (!timed) return;
  own_timers_ = std::make_unique<Timers>(threads);
  timers_ = own_timers_.get();
}

Parallel::Parallel(const Parallel& outer, int slot) : threads_(1), timers_(outer.timers_), slot_(outer.slot_ + slot) {}

Parallel Parallel::ForCall(int64_t work, int times) const {
  Parallel call(*this, 0);
  call.threads_ = threads_;
  call.executor_ = executor_;
  if (threads_ > 1) call.wakes_ = work - work / threads_ >= times * least_work_to_wake || RanOnPoolJustNow();
  return call;
}

void Parallel::Run(int64_t items, const Function& body) {
  if (threads_ == 1 || items < 2) {
    for (int64_t item = 0; item < items; ++item) body(item, 0);
    return;
  }
  Job job{{0}, items, body};
  Tasks tasks{job, std::min<int64_t>(threads_, items)};
  if (executor_.parallel_for == nullptr) {
    RunOnPool(tasks.count, &Tasks::Run, &tasks, wakes_);
  } else {
    executor_.parallel_for(executor_.state, tasks.count, &Tasks::Run, &tasks);
  }
  if (tasks.error != nullptr) std::rethrow_exception(tasks.error);
  if (tasks.done != tasks.count) {
    throw InputError("parallel_for: expected it to return when all " + std::to_string(tasks.count) +
                     " calls have, got " + std::to_string(tasks.done));
  }
}

}  // namespace din_infer
