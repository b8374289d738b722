// Numbers of embedding tables as floats.
#include "hwy/highway.h"

#if defined(DIN_INFER_KERNELS_STORED_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DIN_INFER_KERNELS_STORED_INL_H_
#undef DIN_INFER_KERNELS_STORED_INL_H_
#else
#define DIN_INFER_KERNELS_STORED_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace din_infer::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Highway's own conversion takes infinity and NaN for numbers where there is no instruction for it.
template <class DF>
HWY_INLINE hn::Vec<DF> LoadFloat16(DF d, const uint16_t* values) {
  const auto stored = hn::LoadU(hn::Rebind<uint16_t, DF>(), values);
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, DF>(), stored));
#else
  const hn::RebindToUnsigned<DF> du;
  const hn::RebindToSigned<DF> di;
  const auto bits = hn::PromoteTo(du, stored);
  const auto magnitude = hn::And(bits, hn::Set(du, 0x7FFF));
  const auto moved = hn::ShiftLeft<13>(magnitude);
  // Exponents are 112 apart. A product is exact for subnormal numbers, too.
  const auto finite = hn::Mul(hn::BitCast(d, moved), hn::Set(d, 0x1p112f));
  const auto special = hn::BitCast(d, hn::Or(moved, hn::Set(du, 0x7F800000)));
  const auto is_special = hn::RebindMask(d, hn::Gt(hn::BitCast(di, magnitude), hn::Set(di, 0x7BFF)));
  const auto sign = hn::BitCast(d, hn::ShiftLeft<16>(hn::And(bits, hn::Set(du, 0x8000))));
  return hn::Or(hn::IfThenElse(is_special, special, finite), sign);
#endif
}

template <class DF>
HWY_INLINE hn::Vec<DF> LoadInt8(DF d, const int8_t* levels) {
  const auto stored = hn::LoadU(hn::Rebind<int8_t, DF>(), levels);
  return hn::ConvertTo(d, hn::PromoteTo(hn::RebindToSigned<DF>(), stored));
}

// write(tag, i) for whole vectors from i on, then for single lanes.
template <class Write>
HWY_INLINE void ForEachVector(int64_t count, const Write& write) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) write(d, i);
  for (; i < count; ++i) write(hn::CappedTag<float, 1>(), i);
}

void FromFloat16(const uint16_t* values, int64_t count, float* out) {
  ForEachVector(count, [&](auto d, int64_t i) HWY_ATTR { hn::StoreU(LoadFloat16(d, values + i), d, out + i); });
}

void FromInt8(const int8_t* levels, int64_t count, float scale, float offset, float* out) {
  ForEachVector(count, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::MulAdd(LoadInt8(d, levels + i), hn::Set(d, scale), hn::Set(d, offset)), d, out + i);
  });
}

}  // namespace din_infer::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // DIN_INFER_KERNELS_STORED_INL_H_
