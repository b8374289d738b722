#include "engine/layers.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace din_infer {

using kernels::Kernels;

ScaledParameters::ScaledParameters(const LayerSemantics& semantics, int64_t in, const LayerParameters& unscaled,
                                   float scale)
    : view_(unscaled) {
  const size_t hidden = semantics.hidden.size();
  for (size_t l = 0; l <= hidden; ++l) {
    const int64_t out = l < hidden ? semantics.hidden[l] : 1;
    const bool sigmoid = l < hidden && semantics.activation == Activation::kSigmoid;
    const double factor = l == hidden ? scale : sigmoid ? kernels::kSigmoidPower : 1;
    if (factor != 1) {
      view_.weights[l] = Times(factor, view_.weights[l], in * out);
      view_.biases[l] = Times(factor, view_.biases[l], out);
    }
    in = out;
  }
}

const float* ScaledParameters::Times(double factor, const float* values, int64_t n) {
  constexpr double kLargest = std::numeric_limits<float>::max();  // weights are finite and stay so
  std::vector<float>& scaled = storage_.emplace_back(values, values + n);
  for (float& value : scaled) value = static_cast<float>(std::clamp(factor * value, -kLargest, kLargest));
  return scaled.data();
}

int64_t WholeTiles(int64_t columns) { return (columns + Kernels().tile - 1) / Kernels().tile * Kernels().tile; }

int64_t ColumnPlace(int64_t column, int64_t dim) {
  const int64_t tile = Kernels().tile;
  return column / tile * tile * dim + column % tile;
}

void FillTiles(int64_t count, int64_t dim, float* tiles) {
  const int64_t tile = Kernels().tile, used = count % tile;
  if (used == 0) return;
  float* last = tiles + (count - used) * dim;
  for (int64_t i = 0; i < dim; ++i) std::fill(last + i * tile + used, last + (i + 1) * tile, 0.0f);
}

void PackTiles(const float* rows, int64_t stride, int64_t count, int64_t dim, float* tiles) {
  Kernels().pack_columns(rows, stride, count, dim, tiles, 0);
  FillTiles(count, dim, tiles);
}

PackedAffine::PackedAffine(int64_t in, int64_t width, const float* weights, int64_t row_stride, const float* constant)
    : constant_(static_cast<size_t>(WholeTiles(width))), linear_(static_cast<size_t>(in * WholeTiles(width))) {
  std::copy(constant, constant + width, constant_.begin());
  PackTiles(weights, row_stride, width, in, linear_.data());
  view_ = {in, WholeTiles(width), constant_.data(), linear_.data()};
}

PackedLayers::PackedLayers(const LayerSemantics& semantics, const ScaledParameters& scaled, bool bounded) {
  const LayerParameters& parameters = scaled.view();
  const size_t count = semantics.hidden.size();
  for (size_t l = 0; l < count; ++l) {
    kernels::Layer layer;
    layer.in = l == 0 ? 0 : semantics.hidden[l - 1];  // the first layer's is the caller's
    layer.out = semantics.hidden[l];
    layer.activation = semantics.activation;
    if (l > 0) {
      FloatBuffer& packed = storage_.emplace_back(static_cast<size_t>(kernels::PanelsSize(layer.in, layer.out)));
      Kernels().pack_weights(parameters.weights[l], layer.in, layer.in, layer.out, packed.data());
      layer.weights = packed.data();
      layer.bias = Keep(parameters.biases[l], layer.out);
    }
    if (semantics.HasAlpha()) layer.alpha = Keep(parameters.alpha[l], layer.out);
    if (semantics.activation == Activation::kDice) {
      layer.mean = Keep(parameters.mean[l], layer.out);
      float *power = Allocate(layer.out), *rest = Allocate(layer.out);
      for (int64_t u = 0; u < layer.out; ++u) {
        const double std = std::sqrt(static_cast<double>(parameters.var[l][u]) + parameters.eps[l]);
        power[u] = static_cast<float>(kernels::kSigmoidPower / std);
        rest[u] = 1 - layer.alpha[u];
      }
      layer.power = power, layer.rest = rest;
    }
    view_.widest = std::max(view_.widest, layer.out);
    hidden_.push_back(layer);
  }
  view_.bounded = bounded;
  view_.hidden = hidden_.data();
  view_.count = static_cast<int64_t>(count);
  if (count > 0) {
    view_.weights = Keep(parameters.weights[count], semantics.hidden.back());
    view_.bias = Keep(parameters.biases[count], 1);
  }
}

const float* PackedLayers::Keep(const float* values, int64_t n) {
  float* kept = Allocate(n);
  std::copy(values, values + n, kept);
  return kept;
}

float* PackedLayers::Allocate(int64_t n) {
  return storage_.emplace_back(static_cast<size_t>(kernels::WholeVectors(n))).data();
}

size_t PackedLayers::bytes() const {
  size_t floats = 0;
  for (const FloatBuffer& buffer : storage_) floats += buffer.size();
  return floats * sizeof(float);
}

int64_t PackedLayers::Work() const {
  int64_t work = view_.count > 0 ? view_.hidden[view_.count - 1].out : 0;
  for (int64_t l = 1; l < view_.count; ++l) work += view_.hidden[l].in * view_.hidden[l].out;
  return work;
}

}  // namespace din_infer
