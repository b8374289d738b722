#include "engine/parallel.hpp"

#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <atomic>

namespace din_infer {

struct Parallel::Arena {
  explicit Arena(int threads) : arena(threads) {}
  tbb::task_arena arena;
};

Parallel::Parallel(int threads) : threads_(std::max(threads, 1)) {}

Parallel::~Parallel() = default;

void Parallel::For(int64_t items, const std::function<void(int64_t item, int slot)>& body) {
  if (threads_ == 1 || items < 2) {
    for (int64_t item = 0; item < items; ++item) body(item, 0);
    return;
  }
  if (arena_ == nullptr) arena_ = std::make_unique<Arena>(threads_);
  std::atomic<int64_t> next{0};
  arena_->arena.execute([&] {
    tbb::parallel_for(
        0, threads_,
        [&](int slot) {
          for (int64_t item = next++; item < items; item = next++) body(item, slot);
        },
        tbb::simple_partitioner());
  });
}

}  // namespace din_infer
