#include "kernels/kernels.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#include "base/errors.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/affine-inl.h"
#include "kernels/few_columns-inl.h"
#include "kernels/layers-inl.h"
#include "kernels/pack-inl.h"
#include "kernels/stored-inl.h"

HWY_BEFORE_NAMESPACE();
namespace din_infer::kernels::HWY_NAMESPACE {

void RunTile(const Layers& layers, int64_t in, const float* weights, const float* bias, const float* tile,
             int64_t columns, float* scratch, float* out) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  int64_t vectors = columns / lanes;
  if (layers.count == 0 || columns % lanes > FewColumns(vectors)) vectors = (columns + lanes - 1) / lanes;
  WithCount<kVectors>(vectors, [&](auto v) { RunLayers<v()>(layers, in, weights, bias, tile, scratch, out); });
  const int64_t whole = std::min(vectors * lanes, columns);
  if (whole < columns) hn::Store(hn::Zero(D()), D(), out + whole);
  RunRemaining(layers, in, weights, bias, tile, whole, columns, scratch, out);
}

// Turns scores into softmax weights relative to their maximum, [0, count).
HWY_INLINE Partial ExpScores(int64_t count, const float* counts, float* scores) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V max = hn::Set(d, -INFINITY);
  for (int64_t t = 0; t < count; t += lanes) {
    const V score =
        hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(count - t)), hn::Load(d, scores + t), hn::Set(d, -INFINITY));
    max = hn::Max(max, score);
    hn::Store(score, d, scores + t);
  }
  const V max_everywhere = hn::MaxOfLanes(d, max);
  for (int64_t t = 0; t < count; t += lanes) {
    hn::Store(Exp(hn::Sub(hn::Load(d, scores + t), max_everywhere)), d, scores + t);
  }
  float sum = 0;
  for (int64_t t = 0; t < count; ++t) {
    if (counts != nullptr) scores[t] *= counts[t];
    sum += scores[t];
  }
  return {hn::GetLane(max_everywhere), sum};
}

// Rows of keys, and queries, that are pooled side by side: each score is loaded once for all rows, each key for all
// queries.
inline constexpr int kRows = 4;
inline constexpr int kQueries = HWY_MAX_BYTES == 64 || HWY_ARCH_ARM_A64 ? 4 : 2;

// interests[q][i] = sum of scores[q][t] * row i of the keys, for kQ queries and kR rows from i on.
template <int kQ, int kR>
HWY_INLINE void PoolRows(const BlockKeys& keys, int64_t i, const float* scores, float* interests) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t tile = TileColumns();
  const float* rows = keys.tiles + i * tile;
  Vectors<kR> sums[kQ];
#pragma GCC unroll 8
  for (int q = 0; q < kQ; ++q) sums[q] = Each<kR>([&](int) { return hn::Zero(d); });
  for (int64_t t = 0; t < keys.count; t += tile, rows += keys.dim * tile) {
    const int64_t end = std::min(tile, keys.count - t);
    for (int64_t c = 0; c < end; c += lanes) {
      const auto row = Each<kR>([&](int r) { return hn::Load(d, rows + r * tile + c); });
#pragma GCC unroll 8
      for (int q = 0; q < kQ; ++q) {
        const V score = hn::Load(d, scores + q * kBlock + t + c);
        sums[q] = Each<kR>([&](int r) { return hn::MulAdd(row[r], score, sums[q][r]); });
      }
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < kQ; ++q) {
#pragma GCC unroll 8
    for (int r = 0; r < kR; ++r) interests[q * keys.dim + i + r] = hn::GetLane(hn::SumOfLanes(d, sums[q][r]));
  }
}

// kQ queries at a time as far as they go.
template <int kQ>
HWY_INLINE void PoolQueries(const BlockKeys& keys, int64_t queries, const float* scores, float* interests) {
  for (; queries >= kQ; queries -= kQ, scores += kQ * kBlock, interests += kQ * keys.dim) {
    int64_t i = 0;
    for (; i + kRows <= keys.dim; i += kRows) PoolRows<kQ, kRows>(keys, i, scores, interests);
    for (; i < keys.dim; ++i) PoolRows<kQ, 1>(keys, i, scores, interests);
  }
  if constexpr (kQ > 1) PoolQueries<kQ / 2>(keys, queries, scores, interests);
}

void Pool(const BlockKeys& keys, bool softmax, int64_t queries, float* scores, Partial* partials, float* interests) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  const int64_t whole = (keys.count + lanes - 1) / lanes * lanes;
  for (int64_t q = 0; q < queries; ++q) {
    float* own = scores + q * kBlock;
    partials[q] = {0, 0};
    if (softmax) {
      partials[q] = ExpScores(keys.count, keys.counts, own);
    } else if (keys.counts != nullptr) {
      for (int64_t t = 0; t < keys.count; ++t) own[t] *= keys.counts[t];
    }
    std::fill(own + keys.count, own + whole, 0.0f);  // columns past the last key hold zeros
  }
  PoolQueries<kQueries>(keys, queries, scores, interests);
}

void Merge(int64_t dim, bool softmax, const Partial& later, const float* later_interest, Partial* total,
           float* interest) {
  float keep = 1, add = 1;
  if (softmax) {
    const D d;
    const float max = std::max(total->max, later.max);
    keep = hn::GetLane(Exp(hn::Set(d, total->max - max)));
    add = hn::GetLane(Exp(hn::Set(d, later.max - max)));
    *total = {max, total->sum * keep + later.sum * add};
  }
  for (int64_t i = 0; i < dim; ++i) interest[i] = interest[i] * keep + later_interest[i] * add;
}

void SoftmaxColumns(float* scores, int64_t count) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t tile = TileColumns();
  for (float* column = scores; column < scores + tile; column += lanes) {
    V max = hn::Set(d, -INFINITY), sum = hn::Zero(d);
    for (int64_t t = 0; t < count; ++t) max = hn::Max(max, hn::Load(d, column + t * tile));
    for (int64_t t = 0; t < count; ++t) {
      const V power = Exp(hn::Sub(hn::Load(d, column + t * tile), max));
      hn::Store(power, d, column + t * tile);
      sum = hn::Add(sum, power);
    }
    for (int64_t t = 0; t < count; ++t) {
      hn::Store(hn::Div(hn::Load(d, column + t * tile), sum), d, column + t * tile);
    }
  }
}

void WeightedSums(const float* panels, int64_t count, int64_t width, const float* weights, float* sums) {
  const int64_t tile = TileColumns();
  for (int64_t i = 0; i < width; i += kPanel) {
    const PanelUnit panel(panels, count, width, i);
    PanelProduct<kVectors>(weights, count, panel.at, panel.width, FromZero{}, sums + i * tile, tile, panel.width);
  }
}

void SigmoidTile(float* values) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < TileColumns(); i += lanes) {
    const V t = hn::Mul(hn::Load(d, values + i), hn::Set(d, static_cast<float>(kSigmoidPower)));
    hn::Store(OneOverOnePlusPower<Powers::kAll>(Vectors<1>{t})[0], d, values + i);
  }
}

const KernelTable& GetTable() {
  static const KernelTable table{hwy::TargetName(HWY_TARGET),
                                 TileColumns(),
                                 static_cast<int64_t>(hn::Lanes(D())),
                                 PackWeights,
                                 PackColumns,
                                 RunAffine,
                                 ScalePanels,
                                 RunTile,
                                 Pool,
                                 Merge,
                                 SoftmaxColumns,
                                 WeightedSums,
                                 SigmoidTile,
                                 FromFloat16,
                                 FromInt8};
  return table;
}

}  // namespace din_infer::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace din_infer::kernels {

HWY_EXPORT(GetTable);

namespace {

const KernelTable& Choose() {
  const std::vector<int64_t> runnable = hwy::SupportedAndGeneratedTargets();  // best first
  int64_t chosen = runnable.front();
  const char* forced = std::getenv("DIN_INFER_TARGET");
  if (forced != nullptr && *forced != '\0') {
    std::string known;
    chosen = 0;
    for (int64_t target : runnable) {
      known += (known.empty() ? "" : ", ") + std::string(hwy::TargetName(target));
      if (forced == std::string_view(hwy::TargetName(target))) chosen = target;
    }
    if (chosen == 0) throw InputError("DIN_INFER_TARGET: expected one of " + known + ", got " + forced);
  }
  hwy::GetChosenTarget().Update(chosen);
  return HWY_DYNAMIC_DISPATCH(GetTable)();
}

}  // namespace

const KernelTable& Kernels() {
  static const KernelTable& table = Choose();
  return table;
}

std::vector<std::string_view> Targets() {
  std::vector<std::string_view> names;
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) names.emplace_back(hwy::TargetName(target));
  return names;
}

}  // namespace din_infer::kernels
#endif  // HWY_ONCE
