// The yardstick of the kernels: how many multiply-adds a core does when nothing else is in the way.
#pragma once

namespace din_infer::kernels {

// GFLOP/s of the core that the calling thread is on, over `seconds` or a little more, with the target that Kernels()
// uses: independent chains of multiply-adds that never leave their registers, each counted as two operations.
// Throws InputError as Kernels() does.
double FmaGflops(double seconds);

}  // namespace din_infer::kernels
