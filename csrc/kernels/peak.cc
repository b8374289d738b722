#include "kernels/peak.hpp"

#include <cstdint>

#include "kernels/kernels.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/peak.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace din_infer::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Chains, in groups small enough for compilers to unroll both loops over them and so to keep all in registers. They are
// more than latency times units, which is 8 on x86 and 16 on the widest Arm cores.
constexpr int kGroup = 6;
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr int kGroups = 4;
#else
constexpr int kGroups = 2;
#endif

// x = x * factor + step, `repeats` times in each lane of each chain. Returns a sum of all, so that none is left out;
// *operations is what was counted.
double RunChains(int64_t repeats, float factor, float step, int64_t* operations) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const V multiplier = hn::Set(d, factor), addend = hn::Set(d, step);
  V chains[kGroups][kGroup];
  for (auto& group : chains) {
    for (V& chain : group) chain = addend;
  }
  for (int64_t i = 0; i < repeats; ++i) {
    for (auto& group : chains) {
      for (V& chain : group) chain = hn::MulAdd(chain, multiplier, addend);
    }
  }
  V sum = hn::Zero(d);
  for (const auto& group : chains) {
    for (const V& chain : group) sum = hn::Add(sum, chain);
  }
  *operations = 2 * repeats * kGroups * kGroup * static_cast<int64_t>(hn::Lanes(d));
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

}  // namespace din_infer::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace din_infer::kernels {

HWY_EXPORT(RunChains);

double FmaOperations(std::chrono::steady_clock::time_point until) {
  Kernels();                           // chooses the target
  constexpr int64_t kRepeats = 2'000;  // about ten microseconds
  // Read at run time, or the compiler works the chains out. They settle near 2, far from slow subnormal numbers.
  volatile float factor = 0.5f, step = 1.0f;
  volatile double sink = 0;
  double done = 0;
  while (std::chrono::steady_clock::now() < until) {
    int64_t operations = 0;
    sink = HWY_DYNAMIC_DISPATCH(RunChains)(kRepeats, factor, step, &operations);
    done += static_cast<double>(operations);
  }
  static_cast<void>(sink);
  return done;
}

}  // namespace din_infer::kernels
#endif  // HWY_ONCE
