// The library's own threads, which all calls of a process share.
#pragma once

#include <cstdint>

namespace din_infer {

// As an Executor's parallel_for, for tasks that share their work: once task(context, 0), which the calling thread runs,
// has returned, nothing may be left but to call the others for form's sake. Workers start when there is first something
// to share, one fewer than there are processors at most, spin for a moment when they are done, and then sleep; `wake`
// says whether any is woken or started for this. Starts none after a fork until the child shares something itself, and
// none once the process or the library's unloading has begun to end them: then the calling thread runs all tasks.
void RunOnPool(int64_t count, void (*task)(void* context, int64_t index), void* context, bool wake = true);

// Whether RunOnPool returned to this thread no longer ago than workers wait awake.
bool RanOnPoolJustNow();

}  // namespace din_infer
