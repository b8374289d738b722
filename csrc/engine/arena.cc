#include "engine/arena.hpp"

#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

namespace din_infer {

struct Arena::State {
  int threads;
  tbb::task_arena arena{threads};
};

Arena::Arena(int threads) : state_(new State{threads}) {}

Arena::~Arena() = default;

void Arena::Run(void (*run)(void* context, int slot), void* context) {
  state_->arena.execute(
      [=] { tbb::parallel_for(0, state_->threads, [=](int slot) { run(context, slot); }, tbb::simple_partitioner()); });
}

}  // namespace din_infer
