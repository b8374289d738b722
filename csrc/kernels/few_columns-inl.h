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

// Accumulators: columns times vectors of units. Eight chains of multiply-adds hide their latency; AVX-512 has registers
// for twenty, which load each weight for four columns.
inline constexpr int kMostColumns = HWY_MAX_BYTES == 64 ? 4 : 2;
inline constexpr int kUnitVectors = HWY_MAX_BYTES == 64 ? 5 : 4;

// Up to so many columns this is faster than a vector of them: 12 of 16 lanes and 4 of 8 on a Zen 4. None where a vector
// is one lane.
HWY_INLINE int64_t FewColumns() {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  return HWY_MAX_BYTES == 64 ? lanes / 4 * 3 : lanes / 2;
}

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
#pragma GCC unroll 8
  for (int p = 0; p < kP; ++p) {
#pragma GCC unroll 8
    for (int c = 0; c < kC; ++c) acc[p][c] = hn::LoadU(d, bias + p * lanes);
  }
  const float* values = x.values;
#pragma GCC unroll 2
  for (int64_t i = 0; i < in; ++i, values += x.next_input) {
    hn::Vec<DU> value[kC];
#pragma GCC unroll 8
    for (int c = 0; c < kC; ++c) value[c] = hn::Set(d, values[c * x.next_column]);
#pragma GCC unroll 8
    for (int p = 0; p < kP; ++p) {
      const hn::Vec<DU> weight = weights(p, i);
#pragma GCC unroll 8
      for (int c = 0; c < kC; ++c) acc[p][c] = hn::MulAdd(value[c], weight, acc[p][c]);
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < kP; ++p) {
#pragma GCC unroll 8
    for (int c = 0; c < kC; ++c) hn::StoreU(acc[p][c], d, out + c * next_row + p * lanes);
  }
}

// Vectors of units of the panels of kUnits. With AVX2 a vector takes two panels; where the last one is alone, it stands
// in both halves. With AVX-512 half vectors take one each, which costs less than to join them.
using DPanel = std::conditional_t<HWY_MAX_BYTES == 64, hn::Half<D>, D>;

template <int kP>
struct WholePanels {
  const float *lower[kP], *upper[kP];

  WholePanels(const float* panels, int64_t in, int64_t vector, int64_t count) {
    for (int p = 0; p < kP; ++p) {
      const int64_t unit = (vector + p) * static_cast<int64_t>(hn::Lanes(DPanel()));
      lower[p] = panels + unit / kUnits * kUnits * in + unit % kUnits;
      upper[p] = unit + kUnits < count * kUnits ? lower[p] + kUnits * in : lower[p];
    }
  }
  HWY_INLINE auto operator()(int p, int64_t i) const {
#if HWY_MAX_BYTES == 32
    static_assert(HWY_LANES(float) == 2 * kUnits, "a vector takes two panels");
    const hn::Half<D> half;
    return hn::Combine(D(), hn::LoadU(half, upper[p] + i * kUnits), hn::LoadU(half, lower[p] + i * kUnits));
#else
    static_assert(kUnits % static_cast<int>(hn::MaxLanes(DPanel())) == 0, "a panel takes whole vectors");
    return hn::LoadU(DPanel(), lower[p] + i * kUnits);
#endif
  }
};

template <int kU>
struct NarrowPanel {
  const float* panel;
  HWY_INLINE auto operator()(int, int64_t i) const { return hn::LoadU(hn::CappedTag<float, kU>(), panel + i * kU); }
};

// `vectors` <= kP vectors of units.
template <int kC, int kP>
HWY_INLINE void WholePanelProduct(int64_t vectors, const Layer& layer, const Inputs& x, int64_t vector, int64_t panels,
                                  float* rows, int64_t next_row) {
  const int64_t unit = vector * static_cast<int64_t>(hn::Lanes(DPanel()));
  if (vectors == kP) {
    return UnitProduct<kC, kP>(DPanel(), x, layer.in, WholePanels<kP>(layer.weights, layer.in, vector, panels),
                               layer.bias + unit, rows + unit, next_row);
  }
  if constexpr (kP > 1) WholePanelProduct<kC, kP - 1>(vectors, layer, x, vector, panels, rows, next_row);
}

template <int kC>
HWY_NOINLINE void UnitSums(const Layer& layer, const Inputs& x, float* rows, int64_t next_row) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(DPanel()));
  const int64_t panels = layer.out / kUnits;
  const int64_t vectors = (panels * kUnits + lanes - 1) / lanes;
  const int64_t blocks = (vectors + kUnitVectors - 1) / kUnitVectors;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t vector = b * vectors / blocks;
    WholePanelProduct<kC, kUnitVectors>((b + 1) * vectors / blocks - vector, layer, x, vector, panels, rows, next_row);
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
    const Vectors<1> x{hn::Load(d, row + unit)};
    hn::Store(Act::Apply(x, UnitLanes{layer, unit})[0], d, row + unit);
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

// Columns [c, columns) of a tile, kC at a time as far as they go.
template <int kC>
HWY_INLINE void RunRemaining(const Layers& layers, int64_t in, const float* weights, const float* bias,
                             const float* tile, int64_t c, int64_t columns, float* scratch, float* out) {
  for (; c + kC <= columns; c += kC) {
    RunFewColumns<kC>(layers, in, weights, bias, {tile + c, TileColumns(), 1}, scratch, out + c);
  }
  if constexpr (kC > 1) RunRemaining<kC / 2>(layers, in, weights, bias, tile, c, columns, scratch, out);
}

}  // namespace din_infer::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
