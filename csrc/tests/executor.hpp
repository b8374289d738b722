// Executors of the caller's, as different as the interface allows.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "din_infer/din_infer.hpp"

namespace din_infer::testing {

using Task = void (*)(void* context, int64_t index);

// What an executor was asked for; its state.
struct Asked {
  std::atomic<int64_t> calls{0}, most{0};

  void Note(int64_t count) {
    ++calls;
    for (int64_t before = most; count > before && !most.compare_exchange_weak(before, count);) continue;
  }
};

inline void OnThreads(void* state, int64_t count, Task task, void* context) {
  static_cast<Asked*>(state)->Note(count);
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < count; ++i) threads.emplace_back(task, context, i);
  for (std::thread& thread : threads) thread.join();
}

inline void OneAfterTheOther(void* state, int64_t count, Task task, void* context) {
  static_cast<Asked*>(state)->Note(count);
  for (int64_t i = 0; i < count; ++i) task(context, i);
}

inline void Backwards(void* state, int64_t count, Task task, void* context) {
  static_cast<Asked*>(state)->Note(count);
  for (int64_t i = count - 1; i >= 0; --i) task(context, i);
}

}  // namespace din_infer::testing
