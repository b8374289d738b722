#include "engine/arena.hpp"

#include <algorithm>

#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

namespace din_infer {

struct Arena::State {
  int threads;
  // TBB starts no more workers than there are processors, and prints a warning where an arena asks for more.
  tbb::task_arena arena{std::min(threads, tbb::info::default_concurrency())};
};

Arena::Arena(int threads) : state_(new State{threads}) {}

Arena::~Arena() = default;

void Arena::Run(void (*run)(void* context, int slot), void* context) {
  state_->arena.execute(
      [=] { tbb::parallel_for(0, state_->threads, [=](int slot) { run(context, slot); }, tbb::simple_partitioner()); });
}

}  // namespace din_infer
