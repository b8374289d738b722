// The bodies of the model-local functions: DIN's parts in ONNX's standard operators.
#pragma once

#include <string>

#include "base/semantics.hpp"
#include "onnx/graph.hpp"

namespace din_infer::onnx {

// ids int64 or string, any shape -> rows int64. `table` is the index of `spec` in the schema.
Function RowsFunction(const Table& spec, int table);

// (values [B, X, ...], lengths [B]) -> bool [B, X]: which of the X slots are valid, of them those that max_length
// keeps.
Function MaskFunction(int64_t max_length, bool keeps_tail);

// (table [rows, d], rows [...]) -> float32 [..., d]; of int8 tables (table, range [rows, 2], rows).
Function EmbeddingFunction(DType table);

// (table [rows, d], rows [..., G], lengths [...]) -> [..., d]: the sum or mean of the first `lengths` embeddings; of
// int8 tables (table, range, rows, lengths).
// `axis` is that of G, counted from the front: ONNX Runtime 1.20 gives wrong shapes for axes from the back that are
// empty.
Function EmbeddingBagFunction(Many many, int64_t axis, DType table);

// (values [...], mean [], std []) -> [..., 1]
Function StandardiseFunction();

// (keys [B, T, D], mask [B, T]) -> [B, 1, D]: the base model's pooling.
Function EqualPoolingFunction(bool mean);

// (keys [B, T, D], mask [B, T], queries [B, N, D], layers' parameters) -> [B, N, D], in the folded form.
Function ActivationUnitFunction(const UnitSemantics& unit, int64_t dim);

// (x [B, N, width], layers' parameters) -> logits [B, N]
Function TowerFunction(const LayerSemantics& tower);

// What follows the data among the inputs of the last two: weights.0, biases.0, activation.0.alpha, ... with shapes,
// where the first layer has `width` inputs. The names are those of the model file's parameters, less the prefix.
std::vector<ParameterShape> LayerParameters(const LayerSemantics& layers, int64_t width);

}  // namespace din_infer::onnx
