#include "engine/arena.hpp"

#include <algorithm>

#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <vector>

namespace din_infer {
namespace {

// A child that is forked while TBB's workers go to sleep inherits locks that nobody will release, so TBB stays with the
// process that used it first.
bool TbbIsOurs() {
  static std::atomic<pid_t> owner{0};
  const pid_t self = getpid();
  pid_t none = 0;
  return owner.compare_exchange_strong(none, self) || none == self;
}

void RunOnNewThreads(int threads, void (*run)(void* context, int slot), void* context) {
  std::vector<std::future<void>> others;  // which wait when they are destroyed
  for (int slot = 1; slot < threads; ++slot) others.push_back(std::async(std::launch::async, run, context, slot));
  run(context, 0);
  for (std::future<void>& other : others) other.get();
}

}  // namespace

struct Arena::State {
  int threads;
  // TBB starts no more workers than there are processors, and prints a warning where an arena asks for more.
  tbb::task_arena arena{std::min(threads, tbb::info::default_concurrency())};
};

Arena::Arena(int threads) : state_(new State{threads}) {}

Arena::~Arena() {
  if (!TbbIsOurs()) state_.release();  // a parent's, which this process must not touch
}

void Arena::Run(void (*run)(void* context, int slot), void* context) {
  if (!TbbIsOurs()) return RunOnNewThreads(state_->threads, run, context);
  state_->arena.execute(
      [=] { tbb::parallel_for(0, state_->threads, [=](int slot) { run(context, slot); }, tbb::simple_partitioner()); });
}

}  // namespace din_infer
