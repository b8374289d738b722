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

HWY_INLINE int64_t TileColumns() { return kVectors * static_cast<int64_t>(hn::Lanes(D())); }

// Widest panel, a power of two up to kUnits, that fits into the units that are left.
HWY_INLINE int64_t PanelUnits(int64_t left) {
  int64_t units = kUnits;
  while (units > left) units /= 2;
  return units;
}

// Where the chains of multiply-adds start: a bias per unit, zero, or a value per column.
struct FromBias {
  const float* bias;
  HWY_INLINE V operator()(int u, int64_t) const { return hn::Set(D(), bias[u]); }
};
struct FromZero {
  HWY_INLINE V operator()(int, int64_t) const { return hn::Zero(D()); }
};
struct FromColumns {
  const float* columns;
  HWY_INLINE V operator()(int, int64_t column) const { return hn::Load(D(), columns + column); }
};

// out[u][v] = start(u, v) + sum_i x[i][v] * panel[i][u], i in order; `out_stride` floats between units.
// Never inlined: gcc 12 would keep an accumulator of the AVX2 form in memory, next to an activation, and halve its
// speed.
template <int kU, int kV, class Start>
HWY_NOINLINE void Product(const float* HWY_RESTRICT x, int64_t in, const float* HWY_RESTRICT panel, const Start& start,
                          float* HWY_RESTRICT out, int64_t out_stride) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t stride = TileColumns();
  V acc[kU][kV];
#pragma GCC unroll 8
  for (int u = 0; u < kU; ++u) {
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) acc[u][v] = start(u, v * lanes);
  }
#pragma GCC unroll 4
  for (int64_t i = 0; i < in; ++i) {
    V column[kV];
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) column[v] = hn::Load(d, x + i * stride + v * lanes);
    if constexpr (std::is_same_v<Start, FromBias>) hwy::Prefetch(panel + (in + i) * kU);  // of the next panel
#pragma GCC unroll 8
    for (int u = 0; u < kU; ++u) {
      const V weight = hn::Set(d, panel[i * kU + u]);
#pragma GCC unroll 8
      for (int v = 0; v < kV; ++v) acc[u][v] = hn::MulAdd(column[v], weight, acc[u][v]);
    }
  }
#pragma GCC unroll 8
  for (int u = 0; u < kU; ++u) {
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) hn::Store(acc[u][v], d, out + u * out_stride + v * lanes);
  }
}

// Units whose sums are known before the first one's activation: while it waits for one exponential, the processor works
// on the next. 32 in place of a panel of 4 took 3% off a request with AVX2 on a Zen 4. With AVX-512 a panel has 24
// vectors, enough for that, and the fewer wait the sooner the next product starts: 8 in place of 32 took 1.5% off a tile
// on an Emerald Rapids and changed nothing on a Zen 4.
inline constexpr int64_t kSweep = HWY_MAX_BYTES == 64 ? kUnits : 32;
static_assert(kSweep % kUnits == 0, "a sweep takes whole panels");

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

// The sums of `units` units from `unit` on, of which panels are kU wide as far as they go; returns how many.
template <int kU, int kV>
HWY_INLINE int64_t PanelSums(const Layer& layer, const float* x, int64_t unit, int64_t units, float* sums) {
  int64_t done = 0;
  for (; done + kU <= units; done += kU) {
    Product<kU, kV>(x, layer.in, layer.weights + (unit + done) * layer.in, FromBias{layer.bias + unit + done},
                    sums + done * TileColumns(), TileColumns());
  }
  return done;
}

template <class Act, int kV, class Sink>
HWY_NOINLINE void RunLayer(const Layer& layer, const float* x, const Sink& sink) {
  HWY_ALIGN float scratch[kSweep * kVectors * HWY_LANES(float)];
  for (int64_t first = 0; first < layer.out; first += kSweep) {
    const int64_t end = std::min(first + kSweep, layer.out);
    float* sums = sink.Sums(scratch, first);
    int64_t unit = first;
    const auto add = [&](auto panel) {
      unit += PanelSums<panel, kV>(layer, x, unit, end - unit, sums + (unit - first) * TileColumns());
    };
    add(std::integral_constant<int, kUnits>());
    if constexpr (kUnits > 4) add(std::integral_constant<int, 4>());
    add(std::integral_constant<int, 2>());
    add(std::integral_constant<int, 1>());
    sink.template Activate<Act, kV>(layer, first, end, sums);
  }
}

template <int kV, class Sink>
HWY_INLINE void RunLayer(const Layer& layer, const float* x, const Sink& sink) {
  WithActivation(layer.activation, [&](auto act) { RunLayer<decltype(act), kV>(layer, x, sink); });
}

template <int kV>
HWY_NOINLINE void RunLayers(const Layers& layers, int64_t in, const float* weights, const float* bias, const float* x,
                            float* scratch, float* out) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if (layers.count == 0) {
    return Product<1, kV>(x, in, weights, FromBias{bias}, out, TileColumns());
  }
#pragma GCC unroll 8
  for (int v = 0; v < kV; ++v) hn::Store(hn::Set(d, layers.bias[0]), d, out + v * lanes);
  float* rows = scratch;
  float* next_rows = scratch + layers.widest * TileColumns();
  for (int64_t l = 0; l < layers.count; ++l) {
    Layer layer = layers.hidden[l];
    if (l == 0) layer.in = in, layer.weights = weights, layer.bias = bias;
    if (l + 1 == layers.count) {
      RunLayer<kV>(layer, x, AddToOutput{layers.weights, out});
    } else {
      RunLayer<kV>(layer, x, StoreRows{rows});
      x = rows;
      std::swap(rows, next_rows);
    }
  }
}

}  // namespace din_infer::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
