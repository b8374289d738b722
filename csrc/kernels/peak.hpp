// The yardstick of the kernels: how many multiply-adds a core does when nothing else is in the way.
#pragma once

#include <chrono>

namespace din_infer::kernels {

// Operations that the calling thread does until then, or a few microseconds more, with the target that Kernels() uses:
// independent chains of multiply-adds that never leave their registers, each counted as two.
// Throws InputError as Kernels() does.
double FmaOperations(std::chrono::steady_clock::time_point until);

}  // namespace din_infer::kernels
