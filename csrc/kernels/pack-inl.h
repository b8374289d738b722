// Weights and rows of keys, into the order that layers-inl.h reads. Included once per target.
#if defined(DIN_INFER_KERNELS_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DIN_INFER_KERNELS_PACK_INL_H_
#undef DIN_INFER_KERNELS_PACK_INL_H_
#else
#define DIN_INFER_KERNELS_PACK_INL_H_
#endif

#include <algorithm>

#include "kernels/layers-inl.h"

HWY_BEFORE_NAMESPACE();
namespace din_infer::kernels::HWY_NAMESPACE {

void PackWeights(const float* w, int64_t stride, int64_t in, int64_t out, float* panels) {
  for (int64_t unit = 0; unit < out; unit += kPanel) {
    const int64_t width = std::min<int64_t>(kPanel, out - unit);
    for (int64_t i = 0; i < in; ++i) {
      for (int64_t u = 0; u < width; ++u) *panels++ = w[(unit + u) * stride + i];
    }
  }
}

#if HWY_TARGET == HWY_SCALAR
template <int64_t kKeys>
void PackFour(const float* rows, int64_t stride, float* columns);  // not for one key at a time
#else
// Blocks of four floats from rows that are four apart.
template <class DB>
HWY_INLINE hn::Vec<DB> LoadBlocks(DB d, const float* rows, int64_t stride) {
  if constexpr (hn::MaxLanes(d) == 4) {
    return hn::LoadU(d, rows);
  } else {
    const hn::Half<DB> half;
    const int64_t later = static_cast<int64_t>(hn::MaxLanes(half)) * stride;
    return hn::Combine(d, LoadBlocks(half, rows + later, stride), LoadBlocks(half, rows, stride));
  }
}

// Four columns of kKeys rows: each block of a vector has its own four rows, which change places with the columns.
template <int64_t kKeys>
HWY_INLINE void PackFour(const float* rows, int64_t stride, float* columns) {
  const hn::FixedTag<float, kKeys> d;
  const hn::Repartition<double, decltype(d)> pairs;
  const auto a = LoadBlocks(d, rows, stride), b = LoadBlocks(d, rows + stride, stride);
  const auto c = LoadBlocks(d, rows + 2 * stride, stride), e = LoadBlocks(d, rows + 3 * stride, stride);
  const auto ab = hn::BitCast(pairs, hn::InterleaveLower(d, a, b));
  const auto ce = hn::BitCast(pairs, hn::InterleaveLower(d, c, e));
  const auto more_ab = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
  const auto more_ce = hn::BitCast(pairs, hn::InterleaveUpper(d, c, e));
  const int64_t tile = TileColumns();
  hn::Store(hn::BitCast(d, hn::InterleaveLower(pairs, ab, ce)), d, columns);
  hn::Store(hn::BitCast(d, hn::InterleaveUpper(pairs, ab, ce)), d, columns + tile);
  hn::Store(hn::BitCast(d, hn::InterleaveLower(pairs, more_ab, more_ce)), d, columns + 2 * tile);
  hn::Store(hn::BitCast(d, hn::InterleaveUpper(pairs, more_ab, more_ce)), d, columns + 3 * tile);
}
#endif

// Packs kKeys of the `count` rows, or fewer where so many are not there or their column is no multiple, and returns how
// many.
template <int64_t kKeys>
HWY_INLINE int64_t PackKeys(const float* rows, int64_t stride, int64_t count, int64_t column, int64_t width,
                            float* columns) {
  if (count < kKeys || column % kKeys != 0) {
    if constexpr (kKeys > 1) return PackKeys<kKeys == 4 ? 1 : kKeys / 2>(rows, stride, count, column, width, columns);
  }
  const int64_t tile = TileColumns();
  int64_t i = 0;
  if constexpr (kKeys > 1) {
    for (; i + 4 <= width; i += 4) PackFour<kKeys>(rows + i, stride, columns + i * tile);
  }
  for (; i < width; ++i) {
    for (int64_t k = 0; k < kKeys; ++k) columns[i * tile + k] = rows[k * stride + i];
  }
  return kKeys;
}

void PackColumns(const float* rows, int64_t stride, int64_t count, int64_t width, float* tiles, int64_t first) {
  if (width == 0) return;  // tiles may be a null pointer
  const int64_t tile = TileColumns();
  for (int64_t c = 0; c < count;) {
    const int64_t column = first + c;
    float* to = tiles + column / tile * tile * width + column % tile;
    c += PackKeys<HWY_LANES(float)>(rows + c * stride, stride, count - c, column, width, to);
  }
}

}  // namespace din_infer::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
