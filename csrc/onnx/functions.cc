#include "onnx/functions.hpp"

#include <limits>

#include "onnx/builder.hpp"

namespace din_infer::onnx {
namespace {

std::string Indexed(const std::string& stem, size_t i) { return stem + "." + std::to_string(i); }

// [..., out] -> [..., out], elementwise. `i` is the layer's number.
std::string ActivationNodes(Builder& b, const LayerSemantics& layers, size_t i, const std::string& x) {
  const std::string h = Indexed("hidden", i);
  const std::string parameter = Indexed("activation", i);
  switch (layers.activation) {
    case Activation::kSigmoid:
      return b.Op("Sigmoid", h, {x});
    case Activation::kRelu:
      return b.Op("Relu", h, {x});
    case Activation::kTanh:
      return b.Op("Tanh", h, {x});
    case Activation::kPRelu:
      return b.Op("PRelu", h, {x, parameter + ".alpha"});
    case Activation::kBiSigmoid:  // 2 / (1 + exp(-x)) - 1 = tanh(x / 2), which keeps its digits around 0
      return b.Op("Tanh", h, {b.Op("Mul", h + ".half", {x, b.Float(h + ".factor", 0.5F)})});
    case Activation::kDice:
      break;
  }
  // p s + (1 - p) alpha s = s (alpha + (1 - alpha) p)
  const std::string variance = b.Op("Add", h + ".var_eps", {parameter + ".var", b.Float(h + ".eps", layers.eps)});
  const std::string deviation = b.Op("Sqrt", h + ".deviation", {variance});
  const std::string centred = b.Op("Sub", h + ".centred", {x, parameter + ".mean"});
  const std::string p = b.Op("Sigmoid", h + ".p", {b.Op("Div", h + ".standardised", {centred, deviation})});
  const std::string rest = b.Op("Sub", h + ".rest", {b.Float(h + ".one", 1), parameter + ".alpha"});
  const std::string slope = b.Op("Add", h + ".slope", {b.Op("Mul", h + ".gate", {p, rest}), parameter + ".alpha"});
  return b.Op("Mul", h, {x, slope});
}

// x [..., in] -> x W^T + b [..., out]
std::string LinearNodes(Builder& b, size_t i, const std::string& x) {
  const std::string z = Indexed("linear", i);
  const std::string weights =
      b.Op("Transpose", z + ".weights", {Indexed("weights", i)}, {{"perm", std::vector<int64_t>{1, 0}}});
  return b.Op("Add", z, {b.Op("MatMul", z + ".product", {x, weights}), Indexed("biases", i)});
}

// The layers after the first, whose output before its activation is `z`; the last one's output [..., 1] loses its last
// axis.
std::string RemainingLayers(Builder& b, const LayerSemantics& layers, std::string z) {
  for (size_t i = 0; i < layers.hidden.size(); ++i) {
    z = LinearNodes(b, i + 1, ActivationNodes(b, layers, i, z));
  }
  return b.Op("Squeeze", "output", {z, b.Ints("last_axis", {-1})});
}

// Columns [begin, end) of the first layer's weights [H, in].
std::string Columns(Builder& b, const std::string& output, int64_t begin, int64_t end) {
  const Names inputs = {"weights.0", b.Ints(output + "_begin", {begin}), b.Ints(output + "_end", {end}),
                        b.Ints(output + "_axis", {1})};
  return b.Op("Slice", output, inputs);
}

std::string Transposed(Builder& b, const std::string& output, const std::string& input, std::vector<int64_t> perm) {
  return b.Op("Transpose", output, {input}, {{"perm", std::move(perm)}});
}

// What the first layer is for a given query: z = k A(q) + b(q).
struct Fold {
  std::string matrix;  // [B, N, D, H]
  std::string bias;    // [B, N, H]
};

// A[i, h] = Wk[h, i] + sum_j q_j Wo[h, i * D + j],  b[h] = b1[h] + (Wq q)[h]
Fold FoldOuter(Builder& b, int64_t d, int64_t h) {
  const std::string outer =
      b.Op("Reshape", "w_outer_3d", {Columns(b, "w_outer", 2 * d, 2 * d + d * d), b.Ints("w_outer_shape", {h, d, d})});
  const std::string by_query = Transposed(b, "w_outer_by_query", outer, {2, 1, 0});  // [j, i, h]
  const std::string flat = b.Op("Reshape", "w_outer_flat", {by_query, b.Ints("w_outer_flat_shape", {d, d * h})});
  const std::string key = Transposed(b, "w_key_t", Columns(b, "w_key", 0, d), {1, 0});
  const std::string key_flat = b.Op("Reshape", "w_key_flat", {key, b.Ints("w_key_shape", {d * h})});
  const std::string sum = b.Op("Add", "fold_sum", {b.Op("MatMul", "fold_product", {"queries", flat}), key_flat});
  const std::string query = Transposed(b, "w_query_t", Columns(b, "w_query", d, 2 * d), {1, 0});
  return {b.Op("Reshape", "fold", {sum, b.Ints("fold_shape", {0, 0, d, h})}),
          b.Op("Add", "fold_bias", {b.Op("MatMul", "fold_bias_product", {"queries", query}), "biases.0"})};
}

// A[i, h] = Wk[h, i] - W(q-k)[h, i] + q_i W(q*k)[h, i],  b[h] = b1[h] + ((Wq + W(q-k)) q)[h]
Fold FoldHadamard(Builder& b, int64_t d) {
  const std::string query = Columns(b, "w_query", 0, d);
  const std::string key = Columns(b, "w_key", d, 2 * d);
  const std::string difference = Columns(b, "w_difference", 2 * d, 3 * d);
  const std::string product = Transposed(b, "w_product_t", Columns(b, "w_product", 3 * d, 4 * d), {1, 0});
  const std::string constant =
      Transposed(b, "fold_constant", b.Op("Sub", "w_key_difference", {key, difference}), {1, 0});
  const std::string scaled = b.Op("Mul", "fold_product", {b.Unsqueeze("queries_column", "queries", 3), product});
  const std::string linear = Transposed(b, "w_query_t", b.Op("Add", "w_query_difference", {query, difference}), {1, 0});
  return {b.Op("Add", "fold", {scaled, constant}),
          b.Op("Add", "fold_bias", {b.Op("MatMul", "fold_bias_product", {"queries", linear}), "biases.0"})};
}

// The length of one axis, [1].
std::string Length(Builder& b, const std::string& output, const std::string& input, int64_t axis) {
  return b.Op("Shape", output, {input}, {{"start", axis}, {"end", axis + 1}});
}

// keys [B, T, D] times A(q) of all candidates -> [B, T, N, H], as one product [B, T, D] x [B, D, N * H]: a broadcast
// one, [B, 1, T, D] x [B, N, D, H], is no faster and fails in ONNX Runtime 1.20 for N = 0. Every dynamic length is
// spelt out, because that runtime replaces one that it could infer by -1, which it then cannot infer where another is
// 0.
std::string FirstProduct(Builder& b, const std::string& keys, const Fold& fold, int64_t d, int64_t h) {
  const std::string requests = Length(b, "requests", "keys", 0);
  const std::string slots = Length(b, "slots", "keys", 1);
  const std::string candidates = Length(b, "candidates", "queries", 1);
  const std::string width = b.Ints("width", {h});
  const std::string columns = b.Op("Mul", "fold_columns", {candidates, width});
  const std::string wide_shape = b.Concat("fold_wide_shape", {requests, b.Ints("fold_rows", {d}), columns}, 0);
  const std::string by_key = Transposed(b, "fold_by_key", fold.matrix, {0, 2, 1, 3});
  const std::string product =
      b.Op("MatMul", "product_wide", {keys, b.Op("Reshape", "fold_wide", {by_key, wide_shape})});
  return b.Op("Reshape", "linear.0.product",
              {product, b.Concat("product_shape", {requests, slots, candidates, width}, 0)});
}

// Slots that hold a value: position < lengths, for lengths [...] and `size` slots -> [..., size].
std::string ValidSlots(Builder& b, const std::string& output, const std::string& size, const std::string& lengths) {
  const std::string positions = b.Op("Range", "positions", {b.Int("zero_int", 0), size, b.Int("one_int", 1)});
  return b.Op("Less", output, {positions, lengths});
}

// keys, with zeros in the slots that are not valid: 0 * NaN would be NaN.
std::string MaskedKeys(Builder& b) {
  return b.Op("Where", "valid_keys", {b.Unsqueeze("mask_column", "mask", 2), "keys", b.Float("zero", 0)});
}

Names ParameterNames(const LayerSemantics& layers) {
  Names names;
  for (const ParameterShape& parameter : LayerParameters(layers, 1)) names.push_back(parameter.name);
  return names;
}

Names Joined(Names first, const Names& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

Names TableInputs(DType table) {
  return table == DType::kInt8 ? Names{"table", "range", "rows"} : Names{"table", "rows"};
}

// rows [...] of a table -> float32 [..., d]
std::string GatheredRows(Builder& b, const std::string& output, DType table) {
  const Attributes along_rows = {{"axis", int64_t{0}}}, to_float32 = {{"to", int64_t{1}}};
  if (table == DType::kFloat32) return b.Op("Gather", output, {"table", "rows"}, along_rows);
  const std::string stored = b.Op("Gather", "stored", {"table", "rows"}, along_rows);
  if (table == DType::kFloat16) return b.Op("Cast", output, {stored}, to_float32);
  const std::string levels = b.Op("Cast", "levels", {stored}, to_float32);
  const std::string ranges = b.Op("Gather", "ranges", {"range", "rows"}, along_rows);
  const auto part = [&](const std::string& name, int64_t column) {
    return b.Op(
        "Slice", name,
        {ranges, b.Ints(name + "_begin", {column}), b.Ints(name + "_end", {column + 1}), b.Ints(name + "_axis", {-1})});
  };
  const std::string scaled = b.Op("Mul", "scaled", {levels, part("scale", 0)});
  return b.Op("Add", output, {scaled, part("offset", 1)});
}

}  // namespace

std::vector<ParameterShape> LayerParameters(const LayerSemantics& layers, int64_t width) {
  std::vector<ParameterShape> parameters;
  for (size_t i = 0; i <= layers.hidden.size(); ++i) {
    const bool last = i == layers.hidden.size();
    const int64_t out = last ? 1 : layers.hidden[i];
    parameters.push_back({Indexed("weights", i), {out, width}});
    parameters.push_back({Indexed("biases", i), {out}});
    const std::string activation = Indexed("activation", i);
    if (!last && layers.HasAlpha()) parameters.push_back({activation + ".alpha", {out}});
    if (!last && layers.activation == Activation::kDice) {
      parameters.push_back({activation + ".mean", {out}});
      parameters.push_back({activation + ".var", {out}});
    }
    width = out;
  }
  return parameters;
}

Function RowsFunction(const Table& spec, int table) {
  Function f{"", {"ids"}, {"rows"}, {}};
  Builder b(&f.nodes);
  switch (spec.ids) {
    case Ids::kVocabulary:
      b.Op("LabelEncoder", "rows", {"ids"},
           {{"keys_tensor", VocabularyData{table, VocabularyData::kKeys}},
            {"values_tensor", VocabularyData{table, VocabularyData::kRows}},
            {"default_tensor", VocabularyData{table, VocabularyData::kDefault}}},
           kMlDomain);
      break;
    case Ids::kHash:  // with fmod=0 the result has the divisor's sign: -3 mod 10 is 7
      b.Op("Mod", "rows", {"ids", b.Int("size", spec.size)}, {{"fmod", int64_t{0}}});
      break;
    case Ids::kIdentity: {
      const std::string zero = b.Int("zero", 0);
      const std::string positive = b.Op("GreaterOrEqual", "not_negative", {"ids", zero});
      const std::string small = b.Op("Less", "in_table", {"ids", b.Int("size", spec.size)});
      const std::string row = b.Op("Add", "row", {"ids", b.Int("one", 1)});
      b.Op("Where", "rows", {b.Op("And", "known", {positive, small}), row, zero});
      break;
    }
  }
  return f;
}

Function MaskFunction(int64_t max_length, bool keeps_tail) {
  Function f{"", {"values", "lengths"}, {"mask"}, {}};
  Builder b(&f.nodes);
  const std::string axis = b.Ints("first", {0});
  const std::string size = b.Op(
      "Squeeze", "slots", {b.Op("Shape", "shape", {"values"}, {{"start", int64_t{1}}, {"end", int64_t{2}}}), axis});
  const std::string lengths = b.Unsqueeze("lengths_column", "lengths", 1);
  if (max_length == 0) {
    ValidSlots(b, "mask", size, lengths);
    return f;
  }
  const std::string limit = b.Int("max_length", max_length);
  if (!keeps_tail) {
    ValidSlots(b, "mask", size, b.Op("Min", "kept", {lengths, limit}));
    return f;
  }
  const std::string valid = ValidSlots(b, "valid", size, lengths);
  const std::string start = b.Op("Sub", "start", {lengths, limit});
  b.Op("And", "mask", {valid, b.Op("GreaterOrEqual", "recent", {"positions", start})});
  return f;
}

Function EmbeddingFunction(DType table) {
  Function f{"", TableInputs(table), {"embedding"}, {}};
  Builder b(&f.nodes);
  GatheredRows(b, "embedding", table);
  return f;
}

Function EmbeddingBagFunction(Many many, int64_t axis, DType table) {
  Function f{"", Joined(TableInputs(table), {"lengths"}), {"bag"}, {}};
  Builder b(&f.nodes);
  const std::string shape = b.Op("Shape", "shape", {"rows"}, {{"start", int64_t{-1}}});
  const std::string size = b.Op("Squeeze", "slots", {shape, b.Ints("first", {0})});
  const std::string valid = ValidSlots(b, "valid", size, b.Unsqueeze("lengths_column", "lengths", -1));
  const std::string embeddings = GatheredRows(b, "embeddings", table);
  const std::string kept =
      b.Op("Where", "kept", {b.Unsqueeze("valid_column", valid, -1), embeddings, b.Float("zero", 0)});
  const Names inputs = {kept, b.Ints("bag_axis", {axis})};
  const Attributes drop_axis = {{"keepdims", int64_t{0}}};
  if (many == Many::kSum) {
    b.Op("ReduceSum", "bag", inputs, drop_axis);
    return f;
  }
  const std::string sum = b.Op("ReduceSum", "sum", inputs, drop_axis);
  const std::string count = b.Op("Max", "count", {"lengths_column", b.Int("at_least", 1)});
  const std::string divisor = b.Op("Cast", "divisor", {count}, {{"to", int64_t{1}}});
  b.Op("Div", "bag", {sum, divisor});
  return f;
}

Function StandardiseFunction() {
  Function f{"", {"values", "mean", "std"}, {"standardised"}, {}};
  Builder b(&f.nodes);
  const std::string score = b.Op("Div", "score", {b.Op("Sub", "centred", {"values", "mean"}), "std"});
  b.Unsqueeze("standardised", score, -1);
  return f;
}

Function EqualPoolingFunction(bool mean) {
  Function f{"", {"keys", "mask"}, {"interest"}, {}};
  Builder b(&f.nodes);
  const std::string keys = MaskedKeys(b);
  const std::string axis = b.Ints("time", {1});
  if (!mean) {
    b.Op("ReduceSum", "interest", {keys, axis}, {{"keepdims", int64_t{1}}});
    return f;
  }
  const std::string sum = b.Op("ReduceSum", "sum", {keys, axis}, {{"keepdims", int64_t{1}}});
  const std::string ones = b.Op("Cast", "ones", {"mask_column"}, {{"to", int64_t{1}}});
  const std::string count = b.Op("ReduceSum", "count", {ones, axis}, {{"keepdims", int64_t{1}}});
  b.Op("Div", "interest", {sum, b.Op("Max", "divisor", {count, b.Float("one", 1)})});
  return f;
}

Function ActivationUnitFunction(const UnitSemantics& unit, int64_t dim) {
  Function f{"", Joined({"keys", "mask", "queries"}, ParameterNames(unit)), {"interest"}, {}};
  Builder b(&f.nodes);
  const int64_t width = unit.hidden.empty() ? 1 : unit.hidden.front();
  const std::string keys = MaskedKeys(b);
  const Fold fold = unit.interaction == Interaction::kOuter ? FoldOuter(b, dim, width) : FoldHadamard(b, dim);
  const std::string z =
      b.Op("Add", "linear.0", {FirstProduct(b, keys, fold, dim, width), b.Unsqueeze("fold_bias_row", fold.bias, 1)});
  std::string scores = Transposed(b, "scores", RemainingLayers(b, unit, z), {0, 2, 1});  // [B, N, T]
  if (unit.scale) scores = b.Op("Mul", "scaled", {scores, b.Float("scale", *unit.scale)});
  const std::string mask = b.Unsqueeze("mask_row", "mask", 1);
  if (unit.softmax) {  // an empty history has equal weights here, and none below
    const std::string lowest = b.Float("lowest", std::numeric_limits<float>::lowest());
    scores =
        b.Op("Softmax", "shares", {b.Op("Where", "valid_scores", {mask, scores, lowest})}, {{"axis", int64_t{-1}}});
  }
  b.Op("MatMul", "interest", {b.Op("Where", "key_weights", {mask, scores, "zero"}), keys});
  return f;
}

Function TowerFunction(const LayerSemantics& tower) {
  Function f{"", Joined({"x"}, ParameterNames(tower)), {"output"}, {}};
  Builder b(&f.nodes);
  RemainingLayers(b, tower, LinearNodes(b, 0, "x"));
  return f;
}

}  // namespace din_infer::onnx
