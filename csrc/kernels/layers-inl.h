// Fully connected layers on a tile of columns. Included once per target.
#if defined(DIN_INFER_KERNELS_LAYERS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DIN_INFER_KERNELS_LAYERS_INL_H_
#undef DIN_INFER_KERNELS_LAYERS_INL_H_
#else
#define DIN_INFER_KERNELS_LAYERS_INL_H_
#endif

#include <algorithm>
#include <type_traits>

#include "hwy/cache_control.h"
#include "kernels/activations-inl.h"

HWY_BEFORE_NAMESPACE();
namespace din_infer::kernels::HWY_NAMESPACE {

// Accumulators of the product: kVectors of columns times kUnits, a power of two, of units. 3 x 4 fills the 16 registers
// of AVX2 with the three columns and one weight; AVX-512 and 64-bit Arm have 32 registers, and 3 x 8 with weights
// broadcast from memory. README.md says what follows from these two numbers.
inline constexpr int kVectors = 3;
inline constexpr int kUnits = HWY_MAX_BYTES == 64 || HWY_ARCH_ARM_A64 ? 8 : 4;

// Units of a panel, but for the last one, which has those that are left. At least a vector of units, which is what
// few_columns-inl.h loads.
inline constexpr int kPanel = std::max<int>(kUnits, HWY_LANES(float));
static_assert(kPanel % kUnits == 0, "products end where panels do");

// Units of a product of kV vectors. One vector needs as many as a panel has, or its chains wait for themselves.
template <int kV>
inline constexpr int kProductUnits = kV == 1 ? kPanel : kUnits;

HWY_INLINE int64_t TileColumns() { return kVectors * static_cast<int64_t>(hn::Lanes(D())); }

// body(std::integral_constant) with a count that the compiler knows, from 1 to kMost; nothing for 0.
template <int kMost, class Body>
HWY_INLINE void WithCount(int64_t count, const Body& body) {
  if (count == kMost) return body(std::integral_constant<int, kMost>());
  if constexpr (kMost > 1) WithCount<kMost - 1>(count, body);
}

// What a matrix in panels has of `unit`: input i's weight is at[i * width], those of the units behind it follow.
struct PanelUnit {
  const float* at;
  int64_t width;  // of the panel
  int64_t left;   // units in the panel from this one on

  PanelUnit(const float* panels, int64_t in, int64_t units, int64_t unit) {
    const int64_t first = unit / kPanel * kPanel;
    width = std::min<int64_t>(kPanel, units - first);
    left = first + width - unit;
    at = panels + first * in + (unit - first);
  }
};

// Where the chains of multiply-adds start: a bias per unit, zero, or a value per column.
struct FromBias {
  const float* bias;
  HWY_INLINE V operator()(int u, int64_t) const { return hn::Set(D(), bias[u]); }
  HWY_INLINE FromBias After(int units) const { return {bias + units}; }
};
struct FromZero {
  HWY_INLINE V operator()(int, int64_t) const { return hn::Zero(D()); }
  HWY_INLINE FromZero After(int) const { return {}; }
};
struct FromColumns {
  const float* columns;
  HWY_INLINE V operator()(int, int64_t column) const { return hn::Load(D(), columns + column); }
  HWY_INLINE FromColumns After(int) const { return *this; }
};

// out[u][v] = start(u, v) + sum_i x[i][v] * panel[i][u], i in order, for kU units of a panel of `width`; `out_stride`
// floats between units.
// Never inlined: gcc 12 would keep an accumulator of the AVX2 form in memory, next to an activation, and halve its
// speed.
template <int kU, int kV, class Start>
HWY_NOINLINE void Product(const float* HWY_RESTRICT x, int64_t in, const float* HWY_RESTRICT panel, int64_t width,
                          const Start& start, float* HWY_RESTRICT out, int64_t out_stride) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t stride = TileColumns();
  V acc[kU][kV];
#pragma GCC unroll 16
  for (int u = 0; u < kU; ++u) {
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) acc[u][v] = start(u, v * lanes);
  }
#pragma GCC unroll 4
  for (int64_t i = 0; i < in; ++i) {
    V column[kV];
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) column[v] = hn::Load(d, x + i * stride + v * lanes);
    if constexpr (std::is_same_v<Start, FromBias>) hwy::Prefetch(panel + (in + i) * width);  // of the next panel
#pragma GCC unroll 16
    for (int u = 0; u < kU; ++u) {
      const V weight = hn::Set(d, panel[i * width + u]);
#pragma GCC unroll 8
      for (int v = 0; v < kV; ++v) acc[u][v] = hn::MulAdd(column[v], weight, acc[u][v]);
    }
  }
#pragma GCC unroll 16
  for (int u = 0; u < kU; ++u) {
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) hn::Store(acc[u][v], d, out + u * out_stride + v * lanes);
  }
}

// The product for `units` units of a panel, kU at a time as far as they go.
template <int kV, int kU = kProductUnits<kV>, class Start>
HWY_INLINE void PanelProduct(const float* x, int64_t in, const float* panel, int64_t width, Start start, float* out,
                             int64_t out_stride, int64_t units) {
  for (; units >= kU; units -= kU) {
    Product<kU, kV>(x, in, panel, width, start, out, out_stride);
    panel += kU, out += kU * out_stride, start = start.After(kU);
  }
  if constexpr (kU > 1) PanelProduct<kV, kU / 2>(x, in, panel, width, start, out, out_stride, units);
}

// Units whose sums are known before the first one's activation: while it waits for one exponential, the processor works
// on the next. 32 in place of 4 took 3% off a request with AVX2 on a Zen 4. With AVX-512 a product has 24 vectors,
// enough for that, and the fewer wait the sooner the next product starts: 8 in place of 32 took 1.5% off a tile on an
// Emerald Rapids and changed nothing on a Zen 4.
template <int kV>
inline constexpr int64_t kSweep = HWY_MAX_BYTES == 64 ? kProductUnits<kV> : 32;
static_assert(kSweep<1> % kProductUnits<1> == 0 && kSweep<2> % kUnits == 0, "a sweep takes whole products");

// A hidden layer keeps its units for the next one.
struct StoreRows {
  float* rows;

  HWY_INLINE float* Sums(float*, int64_t unit) const { return rows + unit * TileColumns(); }

  template <class Act, int kV>
  HWY_INLINE void Activate(const Layer& layer, int64_t unit, int64_t end, float* sums) const {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    for (; unit < end; ++unit, sums += TileColumns()) {
      const auto x = Each<kV>([&](int v) { return hn::Load(d, sums + v * lanes); });
      const auto y = Act::Apply(x, ColumnLanes{layer, unit});
#pragma GCC unroll 8
      for (int v = 0; v < kV; ++v) hn::Store(y[v], d, sums + v * lanes);
    }
  }
};

// The last hidden layer goes straight into the linear output.
struct AddToOutput {
  const float* weights;
  float* out;

  HWY_INLINE float* Sums(float* scratch, int64_t) const { return scratch; }

  template <class Act, int kV>
  HWY_INLINE void Activate(const Layer& layer, int64_t unit, int64_t end, const float* sums) const {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    auto total = Each<kV>([&](int v) { return hn::Load(d, out + v * lanes); });
    for (; unit < end; ++unit, sums += TileColumns()) {
      const V weight = hn::Set(d, weights[unit]);
      const auto x = Each<kV>([&](int v) { return hn::Load(d, sums + v * lanes); });
      const auto y = Act::Apply(x, ColumnLanes{layer, unit});
      total = Each<kV>([&](int v) { return hn::MulAdd(y[v], weight, total[v]); });
    }
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) hn::Store(total[v], d, out + v * lanes);
  }
};

template <class Act, int kV, class Sink>
HWY_NOINLINE void RunLayer(const Layer& layer, const float* x, const Sink& sink) {
  HWY_ALIGN float scratch[kSweep<kV> * kVectors * HWY_LANES(float)];
  for (int64_t first = 0; first < layer.out; first += kSweep<kV>) {
    const int64_t end = std::min(first + kSweep<kV>, layer.out);
    float* sums = sink.Sums(scratch, first);
    for (int64_t unit = first; unit < end;) {
      const PanelUnit panel(layer.weights, layer.in, layer.out, unit);
      const int64_t units = std::min(panel.left, end - unit);
      PanelProduct<kV>(x, layer.in, panel.at, panel.width, FromBias{layer.bias + unit},
                       sums + (unit - first) * TileColumns(), TileColumns(), units);
      unit += units;
    }
    sink.template Activate<Act, kV>(layer, first, end, sums);
  }
}

template <Powers kPowers, int kV, class Sink>
HWY_INLINE void RunLayer(const Layer& layer, const float* x, const Sink& sink) {
  WithActivation<kPowers>(layer.activation, [&](auto act) { RunLayer<decltype(act), kV>(layer, x, sink); });
}

template <Powers kPowers, int kV>
HWY_NOINLINE void RunAllLayers(const Layers& layers, int64_t in, const float* weights, const float* bias,
                               const float* x, float* scratch, float* out) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if (layers.count == 0) {
    return Product<1, kV>(x, in, weights, 1, FromBias{bias}, out, TileColumns());
  }
#pragma GCC unroll 8
  for (int v = 0; v < kV; ++v) hn::Store(hn::Set(d, layers.bias[0]), d, out + v * lanes);
  float* rows = scratch;
  float* next_rows = scratch + layers.widest * TileColumns();
  for (int64_t l = 0; l < layers.count; ++l) {
    Layer layer = layers.hidden[l];
    if (l == 0) layer.in = in, layer.weights = weights, layer.bias = bias;
    if (l + 1 == layers.count) {
      RunLayer<kPowers, kV>(layer, x, AddToOutput{layers.weights, out});
    } else {
      RunLayer<kPowers, kV>(layer, x, StoreRows{rows});
      x = rows;
      std::swap(rows, next_rows);
    }
  }
}

// Layers of a tile; first fast, and again where a result is NaN, for which a power out of range may be the reason. What
// was a number keeps its bits, so they do not depend on the tile's other columns.
template <int kV>
HWY_INLINE void RunLayers(const Layers& layers, int64_t in, const float* weights, const float* bias, const float* x,
                          float* scratch, float* out) {
  if (kFastPowers != Powers::kAll && !layers.bounded) {
    RunAllLayers<kFastPowers, kV>(layers, in, weights, bias, x, scratch, out);
    const D d;
    const auto results = Each<kV>([&](int v) { return hn::Load(d, out + v * static_cast<int64_t>(hn::Lanes(d))); });
    V sum = results[0];
    for (int v = 1; v < kV; ++v) sum = hn::Add(sum, results[v]);
    if (hn::AllFalse(d, hn::IsNaN(sum))) return;
  }
  RunAllLayers<Powers::kAll, kV>(layers, in, weights, bias, x, scratch, out);
}

}  // namespace din_infer::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
