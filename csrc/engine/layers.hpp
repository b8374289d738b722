// Weights in the form that the kernels read, owned.
#pragma once

#include <cstdint>
#include <vector>

#include "base/buffer.hpp"
#include "base/semantics.hpp"
#include "kernels/kernels.hpp"

namespace din_infer {

// Parameters of hidden layers and their linear output, as torch.nn.Linear has them; shapes follow from LayerSemantics.
struct LayerParameters {
  std::vector<const float*> weights, biases;   // [out, in] and [out], the last for the output: [1, in] and [1]
  std::vector<const float*> alpha, mean, var;  // [out] per hidden layer, null where the activation has none
  std::vector<float> eps;                      // per hidden layer
};

// Parameters with the factors in them that kernels leave out: that of a sigmoid's exponent in its layer, and `scale` in
// the output. Weights of `in` inputs; what has no factor stays where it was.
class ScaledParameters {
 public:
  ScaledParameters(const LayerSemantics& semantics, int64_t in, const LayerParameters& unscaled, float scale);
  ScaledParameters(const ScaledParameters&) = delete;
  ScaledParameters& operator=(const ScaledParameters&) = delete;

  const LayerParameters& view() const { return view_; }

 private:
  const float* Times(double factor, const float* values, int64_t n);

  LayerParameters view_;
  std::vector<std::vector<float>> storage_;
};

// Rows rounded up to whole tiles.
int64_t WholeTiles(int64_t columns);

// Where a column of tiles [columns / tile][dim][tile] starts; its floats are a tile apart.
int64_t ColumnPlace(int64_t column, int64_t dim);

// Zeros for the columns of the last tile past `count` of them.
void FillTiles(int64_t count, int64_t dim, float* tiles);

// [count, dim] rows, `stride` apart, into tiles [count / tile][dim][tile]; columns past the last row become zero.
void PackTiles(const float* rows, int64_t stride, int64_t count, int64_t dim, float* tiles);

// y = constant + W x.
class PackedAffine {
 public:
  // weights [width, in], rows `row_stride` floats apart; constant [width].
  PackedAffine(int64_t in, int64_t width, const float* weights, int64_t row_stride, const float* constant);
  PackedAffine(PackedAffine&&) = default;

  const kernels::Affine& view() const { return view_; }
  size_t bytes() const { return (constant_.size() + linear_.size()) * sizeof(float); }

 private:
  FloatBuffer constant_, linear_;
  kernels::Affine view_;
};

// All layers but the first one's weights and bias, which the activation unit has per candidate and the tower per
// request.
class PackedLayers {
 public:
  PackedLayers(const LayerSemantics& semantics, const ScaledParameters& scaled, bool bounded = false);
  PackedLayers(PackedLayers&&) = default;  // view_ points into what is moved along; a copy's would not

  const kernels::Layers& view() const { return view_; }
  size_t scratch() const {  // floats
    return static_cast<size_t>(2 * kernels::WholeVectors(view_.widest) * kernels::Kernels().tile);
  }
  size_t bytes() const;
  int64_t Work() const;  // multiply-adds of a column past the first layer

 private:
  float* Allocate(int64_t n);  // in whole vectors
  const float* Keep(const float* values, int64_t n);

  std::vector<FloatBuffer> storage_;
  std::vector<kernels::Layer> hidden_;
  kernels::Layers view_;
};

}  // namespace din_infer
