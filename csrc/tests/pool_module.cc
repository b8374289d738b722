#include "engine/pool.hpp"

extern "C" __attribute__((visibility("default"))) void run_on_pool(int64_t count, void (*task)(void*, int64_t),
                                                                   void* context) {
  din_infer::RunOnPool(count, task, context);
}
