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

// kAffineRows rows of x at a time are a panel: they stand where a layer has its units, and share each tile of W.
HWY_NOINLINE void RunAffine(const Affine& affine, const float* x, int64_t x_stride, int64_t count,
                            float* HWY_RESTRICT y, int64_t y_stride, float* HWY_RESTRICT scratch) {
  for (int64_t row = 0; row < count; row += kAffineRows) {
    const int64_t rows = std::min(kAffineRows, count - row);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < affine.in; ++j) scratch[j * rows + r] = x[(row + r) * x_stride + j];
    }
    for (int64_t column = 0; column < affine.width; column += TileColumns()) {
      PanelProduct<kVectors>(affine.linear + column * affine.in, affine.in, scratch, rows,
                             FromColumns{affine.constant + column}, y + row * y_stride + column, y_stride, rows);
    }
  }
}

HWY_NOINLINE void ScalePanels(int64_t in, int64_t units, const float* HWY_RESTRICT constant,
                              const float* HWY_RESTRICT scaled, const float* HWY_RESTRICT x, float* HWY_RESTRICT out) {
  for (int64_t unit = 0; unit < units; unit += kPanel) {
    const int64_t width = std::min<int64_t>(kPanel, units - unit);
    for (int64_t i = 0; i < in; ++i) {
      for (int64_t u = 0; u < width; ++u) *out++ = *constant++ + x[i] * *scaled++;
    }
  }
}

}  // namespace din_infer::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
