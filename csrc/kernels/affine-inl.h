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

// out = constant + map of a tile of columns, for kU rows of x, given as a panel [in][kU]: they stand where a layer has
// its units.
template <int kU>
HWY_INLINE void AffineTile(const Affine& affine, int64_t column, const float* panel, float* y, int64_t y_stride) {
  Product<kU, kVectors>(affine.linear + column * affine.in, affine.in, panel, FromColumns{affine.constant + column},
                        y + column, y_stride);
}

HWY_NOINLINE void RunAffine(const Affine& affine, const float* x, int64_t x_stride, int64_t count,
                            float* HWY_RESTRICT y, int64_t y_stride, float* HWY_RESTRICT scratch) {
  for (int64_t first = 0; first < count; first += kAffineRows) {
    const int64_t end = std::min(first + kAffineRows, count);
    const auto each_panel = [&](const auto& body) {
      float* panel = scratch;
      for (int64_t row = first; row < end;) {
        const int64_t rows = PanelUnits(end - row);
        body(row, rows, panel);
        panel += rows * affine.in;
        row += rows;
      }
    };
    each_panel([&](int64_t row, int64_t rows, float* panel) {
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t j = 0; j < affine.in; ++j) panel[j * rows + r] = x[(row + r) * x_stride + j];
      }
    });
    for (int64_t column = 0; column < affine.width; column += TileColumns()) {
      each_panel([&](int64_t row, int64_t rows, const float* panel) {
        float* out = y + row * y_stride;
        if (rows == 8) AffineTile<8>(affine, column, panel, out, y_stride);
        if (rows == 4) AffineTile<4>(affine, column, panel, out, y_stride);
        if (rows == 2) AffineTile<2>(affine, column, panel, out, y_stride);
        if (rows == 1) AffineTile<1>(affine, column, panel, out, y_stride);
      });
    }
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
