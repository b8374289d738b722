// The kernels, one table of functions for each instruction set. They never allocate, spawn threads or throw.
//
// Lanes are columns: a *tile* holds `tile` columns (keys in the activation unit, candidates in the tower) of a [width,
// columns] matrix, as [width][tile] floats. Weights are *panels* of a few units, [width][units] each, units in order.
// So a product is broadcast-weight times vector-of-columns, no width needs padding, and no sum runs across lanes before
// pooling.
//
// Every output element is one chain of fused multiply-adds in a fixed order, whatever the tile or panel it falls in:
// that is what makes a score independent of its neighbours.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/semantics.hpp"

namespace din_infer::kernels {

// Keys whose weighted sum is one partial result. A multiple of every target's tile, so that its value does not depend
// on them.
inline constexpr int64_t kBlock = 192;

// Buffers given to kernels start at a multiple of this many bytes.
inline constexpr int64_t kAlignment = 64;

// Floats of the widest vector. Arrays with a value per unit are read in whole vectors, so their space is a multiple.
inline constexpr int64_t kWidestVector = 16;
inline constexpr int64_t WholeVectors(int64_t n) { return (n + kWidestVector - 1) / kWidestVector * kWidestVector; }

// Space for in * out weights in panels: the last input's are read as a whole vector, too.
inline constexpr int64_t PanelsSize(int64_t in, int64_t out) { return in * out + kWidestVector - 1; }

// Rows that are mapped together by `affine`.
inline constexpr int64_t kAffineRows = 16;

// sigmoid(x) = 1 / (1 + 2^(kSigmoidPower x)): -log2(e). Weights and biases of layers with a sigmoid have it in them.
inline constexpr double kSigmoidPower = -1.4426950408889634;

// A hidden layer.
struct Layer {
  int64_t in = 0, out = 0;
  const float* weights = nullptr;  // panels of pack_weights, PanelsSize(in, out) floats
  const float* bias = nullptr;     // [out]
  Activation activation = Activation::kSigmoid;
  const float* alpha = nullptr;  // [out], of prelu and dice
  const float* mean = nullptr;   // [out], of dice
  const float* power = nullptr;  // [out], of dice: kSigmoidPower / sqrt(var + eps)
  const float* rest = nullptr;   // [out], of dice: 1 - alpha
};

// Hidden layers and one linear output.
struct Layers {
  const Layer* hidden = nullptr;
  int64_t count = 0;               // hidden layers
  int64_t widest = 0;              // largest `out` among them
  const float* weights = nullptr;  // [last hidden width]
  const float* bias = nullptr;     // [1]
  // Sigmoids bound their powers at once, for sums that are often far out, as a tower's of dense features. Else a tile
  // with such a sum runs twice.
  bool bounded = false;
};

// y = constant + W x, for y of `width` values. Here lanes are values of y, so W is in tiles of them: [width /
// tile][in][tile].
struct Affine {
  int64_t in = 0, width = 0;        // width is a multiple of the target's tile
  const float* constant = nullptr;  // [width]
  const float* linear = nullptr;    // tiles, in * width floats
};

// Keys of a block: tiles, how many (up to kBlock), and how often each occurs (null: once).
struct BlockKeys {
  const float* tiles;
  int64_t dim, count;
  const float* counts;  // [count], at any place
};

// Softmax needs a partial result's maximum and sum of exponentials; without it they are unused.
struct Partial {
  float max, sum;
};

struct KernelTable {
  const char* target;
  int64_t tile;   // columns of a tile
  int64_t lanes;  // floats of a vector

  // w [out, in] with rows `stride` floats apart -> the first in * out floats of panels.
  void (*pack_weights)(const float* w, int64_t stride, int64_t in, int64_t out, float* panels);

  // Rows [count, width], `stride` floats apart, become columns from `first` on of tiles [columns / tile][width][tile].
  void (*pack_columns)(const float* rows, int64_t stride, int64_t count, int64_t width, float* tiles, int64_t first);

  // y = constant + W x for `count` rows x [count, in] and y [count, width], `x_stride` and `y_stride` floats apart.
  // scratch: in floats for each of up to kAffineRows rows.
  void (*affine)(const Affine& affine, const float* x, int64_t x_stride, int64_t count, float* y, int64_t y_stride,
                 float* scratch);

  // out = constant + x_i * scaled, where i is the row of a panel that an element is in: panels of [in, units] in all
  // three.
  void (*scale_panels)(int64_t in, int64_t units, const float* constant, const float* scaled, const float* x,
                       float* out);

  // One tile of columns through all layers, the first with weights (PanelsSize) and bias (WholeVectors) of its own;
  // `columns` <= tile outputs are meant. scratch: 2 * WholeVectors(widest) * tile floats. Writes whole vectors to out
  // [tile].
  void (*run_layers)(const Layers& layers, int64_t in, const float* weights, const float* bias,
                     const float* columns_tile, int64_t columns, float* scratch, float* out);

  // For each of `queries`: weights a block's keys by its row of scores [queries][kBlock], which is overwritten, and
  // adds them up into its row of interests [queries][dim] and its one of partials [queries].
  void (*pool)(const BlockKeys& keys, bool softmax, int64_t queries, float* scores, Partial* partials,
               float* interests);

  // Adds a later block's result to that of all earlier ones.
  void (*merge)(int64_t dim, bool softmax, const Partial& later, const float* later_interest, Partial* total,
                float* interest);

  // The softmax of each column of scores [count][tile], over its rows, in place.
  void (*softmax_columns)(float* scores, int64_t count);

  // sums [width][tile]: row i is sum_t x[t][i] * weights[t], for weights [count][tile] and x [count, width] in panels
  // of pack_weights (in: count, out: width).
  void (*weighted_sums)(const float* panels, int64_t count, int64_t width, const float* weights, float* sums);

  // values [tile] in place: 1 / (1 + exp(-x)).
  void (*sigmoid)(float* values);

  // `count` numbers at any place, out too: float16 as floats, exactly; levels * scale + offset.
  void (*from_float16)(const uint16_t* values, int64_t count, float* out);
  void (*from_int8)(const int8_t* levels, int64_t count, float scale, float offset, float* out);
};

// The table of the best target that this machine runs, or of the one that the environment variable DIN_INFER_TARGET
// names. Chosen once. Throws InputError where that name is not among Targets().
const KernelTable& Kernels();

// Names of the targets that are compiled in and run here, best first.
std::vector<std::string_view> Targets();

}  // namespace din_infer::kernels
