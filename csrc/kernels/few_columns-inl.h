// Fully connected layers on a few columns. A vector of columns would be mostly empty, so here lanes are units; the
// chains of multiply-adds, and so the bits, are those of layers-inl.h. Included once per target.
#if defined(DIN_INFER_KERNELS_FEW_COLUMNS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DIN_INFER_KERNELS_FEW_COLUMNS_INL_H_
#undef DIN_INFER_KERNELS_FEW_COLUMNS_INL_H_
#else
#define DIN_INFER_KERNELS_FEW_COLUMNS_INL_H_
#endif

#include <type_traits>
#include <utility>

#include "kernels/layers-inl.h"

HWY_BEFORE_NAMESPACE();
namespace din_infer::kernels::HWY_NAMESPACE {

// Vectors of units side by side. With two columns that makes eight chains of multiply-adds, which hide their latency.
inline constexpr int kUnitVectors = 4;

// Up to so many columns this is faster than a vector of them: 9 of 16 lanes and 5 of 8 on a Zen 4. None where a vector
// is one lane.
HWY_INLINE int64_t FewColumns() { return static_cast<int64_t>(hn::Lanes(D())) / 2; }

// The space of a layer's units in a row.
HWY_INLINE int64_t RowUnits(int64_t units) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  return (units + lanes - 1) / lanes * lanes;
}

// Inputs of a layer: input i of column c is values[i * next_input + c * next_column].
struct Inputs {
  const float* values;
  int64_t next_input, next_column;
};

// out[c][p] = bias[p] + sum_i x[i][c] * weights(p, i), i in order, for kP vectors p of units; rows `next_row` apart.
template <int kC, int kP, class DU, class Weights>
HWY_NOINLINE void UnitProduct(DU d, const Inputs& x, int64_t in, const Weights weights, const float* bias,
                              float* HWY_RESTRICT out, int64_t next_row) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<DU> acc[kP][kC];
#pragma GCC unroll 4
  for (int p = 0; p < kP; ++p) {
#pragma GCC unroll 2
    for (int c = 0; c < kC; ++c) acc[p][c] = hn::LoadU(d, bias + p * lanes);
  }
  const float* values = x.values;
#pragma GCC unroll 2
  for (int64_t i = 0; i < in; ++i, values += x.next_input) {
    hn::Vec<DU> value[kC];
#pragma GCC unroll 2
    for (int c = 0; c < kC; ++c) value[c] = hn::Set(d, values[c * x.next_column]);
#pragma GCC unroll 4
    for (int p = 0; p < kP; ++p) {
      const hn::Vec<DU> weight = weights(p, i);
#pragma GCC unroll 2
      for (int c = 0; c < kC; ++c) acc[p][c] = hn::MulAdd(value[c], weight, acc[p][c]);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < kP; ++p) {
#pragma GCC unroll 2
    for (int c = 0; c < kC; ++c) hn::StoreU(acc[p][c], d, out + c * next_row + p * lanes);
  }
}

// Vectors of panels of kUnits, which with AVX are half a vector each. Where the last one is alone, it stands in both
// halves.
template <int kP>
struct WholePanels {
  const float *lower[kP], *upper[kP];

  WholePanels(const float* panels, int64_t in, int64_t vector, int64_t count) {
    for (int p = 0; p < kP; ++p) {
      const int64_t unit = (vector + p) * static_cast<int64_t>(hn::Lanes(D()));
      lower[p] = panels + unit / kUnits * kUnits * in + unit % kUnits;
      upper[p] = unit + kUnits < count * kUnits ? lower[p] + kUnits * in : lower[p];
    }
  }
  HWY_INLINE V operator()(int p, int64_t i) const {
#if HWY_MAX_BYTES > 16
    static_assert(HWY_LANES(float) == 2 * kUnits, "a vector takes two panels");
    const hn::Half<D> half;
    return hn::Combine(D(), hn::LoadU(half, upper[p] + i * kUnits), hn::LoadU(half, lower[p] + i * kUnits));
#else
    return hn::LoadU(D(), lower[p] + i * kUnits);
#endif
  }
};

template <int kU>
struct NarrowPanel {
  const float* panel;
  HWY_INLINE auto operator()(int, int64_t i) const { return hn::LoadU(hn::CappedTag<float, kU>(), panel + i * kU); }
};

template <int kC, int kP>
HWY_INLINE void WholePanelProduct(const Layer& layer, const Inputs& x, int64_t vector, int64_t panels, float* rows,
                                  int64_t next_row) {
  const int64_t unit = vector * static_cast<int64_t>(hn::Lanes(D()));
  UnitProduct<kC, kP>(D(), x, layer.in, WholePanels<kP>(layer.weights, layer.in, vector, panels), layer.bias + unit,
                      rows + unit, next_row);
}

template <int kC>
HWY_NOINLINE void UnitSums(const Layer& layer, const Inputs& x, float* rows, int64_t next_row) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  const int64_t panels = layer.out / kUnits;
  const int64_t vectors = (panels * kUnits + lanes - 1) / lanes;
  const int64_t blocks = (vectors + kUnitVectors - 1) / kUnitVectors;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t vector = b * vectors / blocks;
    switch ((b + 1) * vectors / blocks - vector) {
      case 1:
        WholePanelProduct<kC, 1>(layer, x, vector, panels, rows, next_row);
        break;
      case 2:
        WholePanelProduct<kC, 2>(layer, x, vector, panels, rows, next_row);
        break;
      case 3:
        WholePanelProduct<kC, 3>(layer, x, vector, panels, rows, next_row);
        break;
      default:
        WholePanelProduct<kC, 4>(layer, x, vector, panels, rows, next_row);
    }
  }
  int64_t unit = panels * kUnits;
  const auto narrow = [&](auto width) {
    constexpr int kU = width;
    if (layer.out - unit < kU) return;
    UnitProduct<kC, 1>(hn::CappedTag<float, kU>(), x, layer.in, NarrowPanel<kU>{layer.weights + unit * layer.in},
                       layer.bias + unit, rows + unit, next_row);
    unit += kU;
  };
  if constexpr (kUnits > 4) narrow(std::integral_constant<int, 4>());
  narrow(std::integral_constant<int, 2>());
  narrow(std::integral_constant<int, 1>());
}

template <class Act>
HWY_NOINLINE void ActivateUnits(const Layer& layer, float* row) {
  const D d;
  for (int64_t unit = 0; unit < layer.out; unit += static_cast<int64_t>(hn::Lanes(d))) {
    hn::Store(Act::Apply(hn::Load(d, row + unit), UnitLanes{layer, unit}), d, row + unit);
  }
}

template <int kC>
HWY_NOINLINE void RunFewColumns(const Layers& layers, int64_t in, const float* weights, const float* bias, Inputs x,
                                float* scratch, float* out) {
  const int64_t next_row = RowUnits(layers.widest);
  float* rows = scratch;
  float* next_rows = scratch + kC * next_row;
  for (int64_t l = 0; l < layers.count; ++l) {
    Layer layer = layers.hidden[l];
    if (l == 0) layer.in = in, layer.weights = weights, layer.bias = bias;
    UnitSums<kC>(layer, x, rows, next_row);
    WithActivation(layer.activation, [&](auto act) {
      for (int c = 0; c < kC; ++c) ActivateUnits<decltype(act)>(layer, rows + c * next_row);
    });
    x = {rows, 1, next_row};
    std::swap(rows, next_rows);
  }
  const hn::CappedTag<float, 1> d;
  hn::Vec<decltype(d)> total[kC];
  for (int c = 0; c < kC; ++c) total[c] = hn::Set(d, layers.bias[0]);
  for (int64_t u = 0; u < layers.hidden[layers.count - 1].out; ++u) {
    for (int c = 0; c < kC; ++c) {
      total[c] = hn::MulAdd(hn::Set(d, x.values[c * next_row + u]), hn::Set(d, layers.weights[u]), total[c]);
    }
  }
  for (int c = 0; c < kC; ++c) out[c] = hn::GetLane(total[c]);
}

}  // namespace din_infer::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
