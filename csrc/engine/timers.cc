#include "engine/timers.hpp"

namespace din_infer {

void Timers::Restart() {
  begin_ = Clock::now();
  for (Slot& slot : slots_) slot = {};
}

Timings Timers::Read() const {
  Timings timings;
  const auto seconds = [](Clock::duration time) { return std::chrono::duration<double>(time).count(); };
  timings.total = seconds(Clock::now() - begin_);
  for (const Slot& slot : slots_) {
    const auto spent = [&](Step step) { return seconds(slot.spent[static_cast<size_t>(step)]); };
    timings.look_up += spent(Step::kLookUp);
    timings.fold += spent(Step::kFold);
    timings.unit += spent(Step::kUnit);
    timings.tower += spent(Step::kTower);
  }
  return timings;
}

}  // namespace din_infer
