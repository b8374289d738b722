// The one generator of graphs: the exporter writes what it gives, the reader compares a file with it.
#pragma once

#include "base/semantics.hpp"
#include "onnx/graph.hpp"

namespace din_infer::onnx {

// With `raw_ids` the graph maps raw ids to rows; without, its id inputs are row numbers (int64). `table_dtype` is how
// embedding tables are stored; int8 ones have a second parameter `table.<name>.range` [rows, 2], scale and offset.
// Throws ModelFileError where names of the schema collide in the graph.
Graph ExpectedGraph(const Schema& schema, const Semantics& semantics, bool raw_ids,
                    DType table_dtype = DType::kFloat32);

}  // namespace din_infer::onnx
