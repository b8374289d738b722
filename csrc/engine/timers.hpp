// Where the time of a call goes, thread by thread.
#pragma once

#include <array>
#include <chrono>
#include <utility>
#include <vector>

#include "din_infer/din_infer.hpp"

namespace din_infer {

enum class Step { kOther, kLookUp, kFold, kUnit, kTower, kCount };

// Of the threads of one scorer, each in a slot of its own.
class Timers {
 public:
  explicit Timers(int threads) : slots_(static_cast<size_t>(threads)) {}

  void Restart();        // when a call begins
  Timings Read() const;  // when it ends

 private:
  friend class StepTimer;
  using Clock = std::chrono::steady_clock;

  struct alignas(64) Slot {  // a cache line of its own
    Clock::time_point since;
    Step step = Step::kOther;
    std::array<Clock::duration, static_cast<size_t>(Step::kCount)> spent{};

    Step Switch(Step next) {
      const Clock::time_point now = Clock::now();
      spent[static_cast<size_t>(step)] += now - std::exchange(since, now);
      return std::exchange(step, next);
    }
  };

  Clock::time_point begin_;
  std::vector<Slot> slots_;
};

// While it lives, the time of the thread in `slot` is this step's, and not that of a timer around it. Without timers it
// is one comparison.
class StepTimer {
 public:
  StepTimer(Timers* timers, int slot, Step step)
      : slot_(timers == nullptr ? nullptr : &timers->slots_[static_cast<size_t>(slot)]) {
    if (slot_ != nullptr) around_ = slot_->Switch(step);
  }
  ~StepTimer() {
    if (slot_ != nullptr) slot_->Switch(around_);
  }
  StepTimer(const StepTimer&) = delete;
  StepTimer& operator=(const StepTimer&) = delete;

 private:
  Timers::Slot* slot_;
  Step around_ = Step::kOther;
};

}  // namespace din_infer
