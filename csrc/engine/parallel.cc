#include "engine/parallel.hpp"

#include <atomic>
#include <string>

#include "base/errors.hpp"
#include "engine/arena.hpp"

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
// TBB clears memory of its own that other threads had before, ordered by means that the sanitizer does not see.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_suppressions() {
  return "called_from_lib:libtbb.so\n";
}
#else  // only ThreadSanitizer needs to be told what TBB orders
#define __tsan_acquire(address)
#define __tsan_release(address)
#endif

namespace din_infer {

// What the threads share of one call.
struct Parallel::Job {
  std::atomic<int64_t> next{0};
  int64_t items;
  const Function& body;

  static void Run(void* context, int slot) {
    __tsan_acquire(context);
    Job& job = *static_cast<Job*>(context);
    for (int64_t item = job.next++; item < job.items; item = job.next++) job.body(item, slot);
    __tsan_release(context);
  }
};

Parallel::Parallel(int threads) : threads_(threads) {
  constexpr int kMostThreads = 1024;  // each takes scratch memory
  if (threads < 1 || threads > kMostThreads) {
    throw InputError("threads: expected 1 to " + std::to_string(kMostThreads) + ", got " + std::to_string(threads));
  }
}

Parallel::~Parallel() = default;

void Parallel::Run(int64_t items, const Function& body) {
  if (threads_ == 1 || items < 2) {
    for (int64_t item = 0; item < items; ++item) body(item, 0);
    return;
  }
  if (arena_ == nullptr) arena_ = std::make_unique<Arena>(threads_);
  Job job{{0}, items, body};
  __tsan_release(&job);
  arena_->Run(&Job::Run, &job);
  __tsan_acquire(&job);
}

}  // namespace din_infer
