// The yardstick of the kernels: how many multiply-adds a core does when nothing else is in the way.
#pragma once

namespace din_infer::kernels {

// GFLOP/s of one core, with the target that Kernels() uses: independent chains of multiply-adds that never leave their
// registers, each counted as two operations. The best of several runs of about a millisecond.
// Throws InputError as Kernels() does.
double FmaPeakGflops();

}  // namespace din_infer::kernels
