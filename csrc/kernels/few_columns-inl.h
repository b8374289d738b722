// Fully connected layers on a few columns. A vector of columns would be mostly empty, so here lanes are units; the
// chains of multiply-adds, and so the bits, are those of layers-inl.h. Included once per target.
#if defined(DIN_INFER_KERNELS_FEW_COLUMNS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DIN_INFER_KERNELS_FEW_COLUMNS_INL_H_
#undef DIN_INFER_KERNELS_FEW_COLUMNS_INL_H_
#else
#define DIN_INFER_KERNELS_FEW_COLUMNS_INL_H_
#endif

#include <utility>

#include "kernels/layers-inl.h"

HWY_BEFORE_NAMESPACE();
namespace din_infer::kernels::HWY_NAMESPACE {

// Accumulators: columns times vectors of units. Eight chains of multiply-adds hide their latency; AVX-512 has registers
// for twenty, which load each weight for four columns, the other targets for twelve.
inline constexpr int kMostColumns = HWY_MAX_BYTES == 64 ? 4 : 3;
template <int kC>
inline constexpr int kUnitVectors = HWY_MAX_BYTES == 64 || kC < 3 ? 5 : 4;

// Up to so many columns behind `vectors` whole ones this is faster than one more vector: on a Zen 4 12 of 16 lanes, on
// an Emerald Rapids 8 of 16 (12 take as long), on a Zen 3 7 of 8 alone and 4 behind others, to which one more adds less
// than it takes alone. None where a vector is one lane.
HWY_INLINE int64_t FewColumns(int64_t vectors) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  return HWY_MAX_BYTES == 64 || (HWY_MAX_BYTES == 32 && vectors == 0) ? lanes / 4 * 3 : lanes / 2;
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

// rows[c][u] = bias[u] + sum_i x[i][c] * weights[i][u], i in order, for kP vectors of units from `unit` on. Where the
// last panel is narrower than a vector, there are weights of the next input in lanes that nothing reads, and for the
// last input what lies behind the panels.
template <int kC, int kP>
HWY_NOINLINE void UnitProduct(const Layer& layer, const Inputs& x, int64_t unit, float* HWY_RESTRICT rows,
                              int64_t next_row) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const float* weights[kP];
  int64_t next[kP];
  V acc[kP][kC];
#pragma GCC unroll 8
  for (int p = 0; p < kP; ++p) {
    const PanelUnit panel(layer.weights, layer.in, layer.out, unit + p * lanes);
    weights[p] = panel.at, next[p] = panel.width;
#pragma GCC unroll 8
    for (int c = 0; c < kC; ++c) acc[p][c] = hn::LoadU(d, layer.bias + unit + p * lanes);
  }
  const float* values = x.values;
#pragma GCC unroll 2
  for (int64_t i = 0; i < layer.in; ++i, values += x.next_input) {
    V value[kC];
#pragma GCC unroll 8
    for (int c = 0; c < kC; ++c) value[c] = hn::Set(d, values[c * x.next_column]);
#pragma GCC unroll 8
    for (int p = 0; p < kP; ++p) {
      const V weight = hn::LoadU(d, weights[p]);
      weights[p] += next[p];
#pragma GCC unroll 8
      for (int c = 0; c < kC; ++c) acc[p][c] = hn::MulAdd(value[c], weight, acc[p][c]);
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < kP; ++p) {
#pragma GCC unroll 8
    for (int c = 0; c < kC; ++c) hn::Store(acc[p][c], d, rows + c * next_row + unit + p * lanes);
  }
}

template <int kC>
HWY_NOINLINE void UnitSums(const Layer& layer, const Inputs& x, float* rows, int64_t next_row) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  const int64_t vectors = (layer.out + lanes - 1) / lanes;
  const int64_t blocks = (vectors + kUnitVectors<kC> - 1) / kUnitVectors<kC>;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t vector = b * vectors / blocks;
    WithCount<kUnitVectors<kC>>((b + 1) * vectors / blocks - vector,
                                [&](auto p) { UnitProduct<kC, p()>(layer, x, vector * lanes, rows, next_row); });
  }
}

template <class Act, int kC>
HWY_NOINLINE void ActivateUnits(const Layer& layer, float* rows, int64_t next_row) {
  const D d;
  for (int64_t unit = 0; unit < layer.out; unit += static_cast<int64_t>(hn::Lanes(d))) {
    const auto x = Each<kC>([&](int c) { return hn::Load(d, rows + c * next_row + unit); });
    const auto y = Act::Apply(x, UnitLanes{layer, unit});
#pragma GCC unroll 8
    for (int c = 0; c < kC; ++c) hn::Store(y[c], d, rows + c * next_row + unit);
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
    WithActivation<Powers::kAll>(layer.activation,
                                 [&](auto act) { ActivateUnits<decltype(act), kC>(layer, rows, next_row); });
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

// Columns [c, columns) of a tile, in as few rounds as there can be, of about equally many.
HWY_INLINE void RunRemaining(const Layers& layers, int64_t in, const float* weights, const float* bias,
                             const float* tile, int64_t c, int64_t columns, float* scratch, float* out) {
  for (int64_t rounds = (columns - c + kMostColumns - 1) / kMostColumns; rounds > 0; --rounds) {
    const int64_t some = (columns - c + rounds - 1) / rounds;
    WithCount<kMostColumns>(some, [&](auto k) {
      RunFewColumns<k()>(layers, in, weights, bias, {tile + c, TileColumns(), 1}, scratch, out + c);
    });
    c += some;
  }
}

}  // namespace din_infer::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
