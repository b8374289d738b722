// Affine maps of a few rows, which fold queries into first layers. Included once per target.
#if defined(DIN_INFER_KERNELS_AFFINE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DIN_INFER_KERNELS_AFFINE_INL_H_
#undef DIN_INFER_KERNELS_AFFINE_INL_H_
#else
#define DIN_INFER_KERNELS_AFFINE_INL_H_
#endif

#include "kernels/layers-inl.h"

HWY_BEFORE_NAMESPACE();
namespace din_infer::kernels::HWY_NAMESPACE {

// kU rows of x, given as a panel [in][kU]: they stand where a layer has its units.
template <int kU>
HWY_INLINE void AffinePanel(const Affine& affine, const float* panel, float* y, int64_t y_stride) {
  for (int64_t column = 0; column < affine.width; column += TileColumns()) {
    Product<kU, kVectors>(affine.linear + column * affine.in, affine.in, panel, FromColumns{affine.constant + column},
                          y + column, y_stride);
  }
}

HWY_NOINLINE void RunAffine(const Affine& affine, const float* x, int64_t x_stride, int64_t count,
                            float* HWY_RESTRICT y, int64_t y_stride, float* HWY_RESTRICT scratch) {
  for (int64_t row = 0; row < count;) {
    const int64_t rows = PanelUnits(count - row);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < affine.in; ++j) scratch[j * rows + r] = x[(row + r) * x_stride + j];
    }
    if (rows == 8) AffinePanel<8>(affine, scratch, y, y_stride);
    if (rows == 4) AffinePanel<4>(affine, scratch, y, y_stride);
    if (rows == 2) AffinePanel<2>(affine, scratch, y, y_stride);
    if (rows == 1) AffinePanel<1>(affine, scratch, y, y_stride);
    row += rows;
    y += rows * y_stride;
  }
}

HWY_NOINLINE void ScalePanels(int64_t in, int64_t units, const float* HWY_RESTRICT constant,
                              const float* HWY_RESTRICT scaled, const float* HWY_RESTRICT x, float* HWY_RESTRICT out) {
  for (int64_t unit = 0; unit < units;) {
    const int64_t width = PanelUnits(units - unit);
    for (int64_t i = 0; i < in; ++i) {
      for (int64_t u = 0; u < width; ++u) *out++ = *constant++ + x[i] * *scaled++;
    }
    unit += width;
  }
}

}  // namespace din_infer::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
