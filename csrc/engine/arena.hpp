// oneTBB's threads. Apart from parallel.cc, so that a ThreadSanitizer build can leave this file out: TBB orders its
// work by means that the sanitizer does not see.
#pragma once

#include <memory>

namespace din_infer {

class Arena {
 public:
  explicit Arena(int threads);
  ~Arena();

  // run(context, slot) for each slot in [0, threads), at the same time where threads are free; returns when all are
  // done.
  void Run(void (*run)(void* context, int slot), void* context);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace din_infer
