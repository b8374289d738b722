// Runs all tests on the instruction set that DIN_INFER_TARGET names; exits with 77 where this machine does not have it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "engine/parallel.hpp"
#include "kernels/kernels.hpp"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const auto targets = din_infer::kernels::Targets();
  const char* forced = std::getenv("DIN_INFER_TARGET");
  if (forced != nullptr && std::find(targets.begin(), targets.end(), forced) == targets.end()) {
    std::printf("%s does not run here\n", forced);
    return 77;
  }
  if (forced != nullptr && din_infer::kernels::Kernels().target != std::string(forced)) {
    std::printf("expected target %s, got %s\n", forced, din_infer::kernels::Kernels().target);
    return 1;
  }
  din_infer::least_work_to_wake = 0;
  return RUN_ALL_TESTS();
}
