#include "engine/activation_unit.hpp"

#include <algorithm>
#include <cmath>

namespace din_infer {
namespace {

using kernels::kBlock;
using kernels::Kernels;

int64_t FirstUnits(const UnitSemantics& semantics) { return semantics.hidden.empty() ? 1 : semantics.hidden.front(); }

// Columns of panels, as pack_weights orders the elements of a [in, units] matrix: element p is (input[p], unit[p]).
struct PanelOrder {
  PanelOrder(int64_t in, int64_t units) : input(static_cast<size_t>(in * units)), unit(input.size()) {
    std::vector<float> index(input.size()), packed(input.size());
    const auto pack = [&](std::vector<int64_t>& order, auto value) {
      for (int64_t u = 0; u < units; ++u) {
        for (int64_t i = 0; i < in; ++i) index[static_cast<size_t>(u * in + i)] = static_cast<float>(value(i, u));
      }
      Kernels().pack_weights(index.data(), in, in, units, packed.data());
      std::copy(packed.begin(), packed.end(), order.begin());
    };
    pack(input, [](int64_t i, int64_t) { return i; });
    pack(unit, [](int64_t, int64_t u) { return u; });
  }

  std::vector<int64_t> input, unit;
};

// Rows of the affine map q -> folded query: x = [k, q, vec(k (x) q)], so row p = (i, h) of W is Wo[h, i * D + .] and
// the constant Wk[h, i]; the biases' rows are Wq[h, .] and b1[h].
PackedAffine OuterFold(int64_t dim, int64_t units, int64_t bias_at, const float* w, const float* b) {
  const int64_t in = 2 * dim + dim * dim;
  const int64_t size = bias_at + WholeTiles(units);
  FloatBuffer rows(static_cast<size_t>(size * dim)), constant(static_cast<size_t>(size));
  const PanelOrder order(dim, units);
  for (size_t p = 0; p < order.input.size(); ++p) {
    const float* unit = w + order.unit[p] * in;
    constant[p] = unit[order.input[p]];
    const float* product = unit + 2 * dim + order.input[p] * dim;
    std::copy(product, product + dim, rows.begin() + static_cast<int64_t>(p) * dim);
  }
  for (int64_t h = 0; h < units; ++h) {
    constant[static_cast<size_t>(bias_at + h)] = b[h];
    std::copy(w + h * in + dim, w + h * in + 2 * dim, rows.begin() + (bias_at + h) * dim);
  }
  return PackedAffine(dim, size, rows.data(), dim, constant.data());
}

// x = [q, k, q - k, q * k]: the biases are b1 + (Wq + W(q-k)) q.
PackedAffine HadamardBiases(int64_t dim, int64_t units, const float* w, const float* b) {
  FloatBuffer rows(static_cast<size_t>(units * dim));
  for (int64_t h = 0; h < units; ++h) {
    const float* unit = w + h * 4 * dim;
    for (int64_t j = 0; j < dim; ++j) rows[static_cast<size_t>(h * dim + j)] = unit[j] + unit[2 * dim + j];
  }
  return PackedAffine(dim, units, rows.data(), dim, b);
}

}  // namespace

// The declared scale multiplies the weight a, so it goes into the output layer.
ActivationUnit::ActivationUnit(const UnitSemantics& semantics, int64_t dim, const LayerParameters& parameters)
    : ActivationUnit(semantics, dim,
                     ScaledParameters(semantics, semantics.InputWidth(dim), parameters, semantics.scale.value_or(1))) {}

ActivationUnit::ActivationUnit(const UnitSemantics& semantics, int64_t dim, const ScaledParameters& scaled)
    : dim_(dim),
      units_(FirstUnits(semantics)),
      softmax_(semantics.softmax),
      bias_at_(WholeTiles(dim * units_)),
      interaction_(semantics.interaction),
      layers_(semantics, scaled),
      fold_(interaction_ == Interaction::kOuter
                ? OuterFold(dim, units_, bias_at_, scaled.view().weights[0], scaled.view().biases[0])
                : HadamardBiases(dim, units_, scaled.view().weights[0], scaled.view().biases[0])) {
  if (interaction_ == Interaction::kOuter) return;
  const float* w = scaled.view().weights[0];
  const int64_t in = 4 * dim;
  FloatBuffer differences(static_cast<size_t>(units_ * dim));
  for (int64_t h = 0; h < units_; ++h) {
    for (int64_t i = 0; i < dim; ++i) {
      differences[static_cast<size_t>(h * dim + i)] = w[h * in + dim + i] - w[h * in + 2 * dim + i];
    }
  }
  constant_.resize(differences.size());
  scaled_.resize(differences.size());
  Kernels().pack_weights(differences.data(), dim, dim, units_, constant_.data());
  Kernels().pack_weights(w + 3 * dim, in, dim, units_, scaled_.data());
}

size_t ActivationUnit::scratch() const {
  const size_t fold = static_cast<size_t>(kernels::kAffineRows * dim_);
  // Tiles of a block, its scores and what they give, for each query, and the layers'.
  const size_t pool = static_cast<size_t>(kBlock * dim_ + kGroup * (kBlock + dim_)) + layers_.scratch();
  return std::max(fold, pool);
}

size_t ActivationUnit::bytes() const {
  return layers_.bytes() + fold_.bytes() + (constant_.size() + scaled_.size()) * sizeof(float);
}

void ActivationUnit::Fold(const float* queries, int64_t count, float* folded, float* scratch, int64_t part,
                          int64_t parts) const {
  if (interaction_ == Interaction::kOuter) {
    const kernels::Affine& all = fold_.view();
    const int64_t tile = Kernels().tile, tiles = all.width / tile;
    const int64_t begin = part * tiles / parts * tile, end = (part + 1) * tiles / parts * tile;
    const kernels::Affine some{all.in, end - begin, all.constant + begin, all.linear + begin * all.in};
    Kernels().affine(some, queries, dim_, count, folded + begin, folded_size(), scratch);
    return;
  }
  const int64_t begin = part * count / parts, some = (part + 1) * count / parts - begin;
  queries += begin * dim_, folded += begin * folded_size();
  Kernels().affine(fold_.view(), queries, dim_, some, folded + bias_at_, folded_size(), scratch);
  for (int64_t q = 0; q < some; ++q) {
    Kernels().scale_panels(dim_, units_, constant_.data(), scaled_.data(), queries + q * dim_,
                           folded + q * folded_size());
  }
}

void ActivationUnit::Scores(const float* folded, const float* tile, int64_t columns, float* scratch,
                            float* scores) const {
  Kernels().run_layers(layers_.view(), dim_, folded, folded + bias_at_, tile, columns, scratch, scores);
}

int64_t ActivationUnit::FoldWork() const {
  return interaction_ == Interaction::kOuter ? dim_ * (dim_ + 1) * units_ : 2 * dim_ * units_;
}

int64_t ActivationUnit::ScoreWork() const { return dim_ * units_ + layers_.Work(); }

// x = [k, q, vec(k (x) q)]: k's and q's columns change places, and the product's become (j, i).
// x = [q, k, q - k, q * k]: likewise, and the difference changes its sign.
ActivationUnit ActivationUnit::ForKeys(const UnitSemantics& semantics, int64_t dim, const LayerParameters& parameters) {
  const bool outer = semantics.interaction == Interaction::kOuter;
  const int64_t in = semantics.InputWidth(dim);
  std::vector<float> swapped(static_cast<size_t>(in * FirstUnits(semantics)));
  for (int64_t h = 0; h < FirstUnits(semantics); ++h) {
    const float* from = parameters.weights[0] + h * in;
    float* to = swapped.data() + h * in;
    std::copy(from, from + dim, to + dim);
    std::copy(from + dim, from + 2 * dim, to);
    from += 2 * dim, to += 2 * dim;
    for (int64_t i = 0; i < dim; ++i) {
      if (!outer) to[i] = -from[i], to[dim + i] = from[dim + i];
      for (int64_t j = 0; outer && j < dim; ++j) to[j * dim + i] = from[i * dim + j];
    }
  }
  LayerParameters other = parameters;
  other.weights[0] = swapped.data();
  return ActivationUnit(semantics, dim, other);
}

kernels::BlockKeys ActivationUnit::Block(const UnitKeys& keys, Range range, float* room) const {
  const int64_t place = range.begin * dim_;
  if (keys.rows != nullptr) PackTiles(keys.rows + place, dim_, range.size(), dim_, room);
  return {keys.rows != nullptr ? room : keys.tiles + place, dim_, range.size(),
          keys.counts == nullptr ? nullptr : keys.counts + range.begin};
}

void ActivationUnit::ScoreBlock(const float* folded, const kernels::BlockKeys& block, float* scratch,
                                float* scores) const {
  const int64_t tile = Kernels().tile;
  for (int64_t t = 0; t < block.count; t += tile) {
    Scores(folded, block.tiles + t * dim_, std::min(tile, block.count - t), scratch, scores + t);
  }
}

kernels::Partial ActivationUnit::PoolBlock(const float* folded, const UnitKeys& keys, int64_t block, float* scratch,
                                           float* interest) const {
  float* scores = scratch + kBlock * dim_;
  const kernels::BlockKeys block_keys = Block(keys, BlockRange(keys, block), scratch);
  kernels::Partial partial{};
  ScoreBlock(folded, block_keys, scores + kBlock, scores);
  Kernels().pool(block_keys, softmax_, 1, scores, &partial, interest);
  return partial;
}

void ActivationUnit::Join(const kernels::Partial* partials, const float* block_interests, int64_t blocks,
                          float* interest) const {
  kernels::Partial total{-INFINITY, 0};
  std::fill(interest, interest + dim_, 0.0f);
  for (int64_t block = 0; block < blocks; ++block) {
    Kernels().merge(dim_, softmax_, partials[block], block_interests + block * dim_, &total, interest);
  }
  Finish(total, interest);
}

void ActivationUnit::Pool(const float* const* folded, int64_t queries, const UnitKeys& keys, float* scratch,
                          float* interests, int64_t stride) const {
  float* layers_scratch = scratch + kBlock * dim_ + kGroup * (kBlock + dim_);
  const auto score = [&](const kernels::BlockKeys& block, Range, float* scores) {
    for (int64_t q = 0; q < queries; ++q) ScoreBlock(folded[q], block, layers_scratch, scores + q * kBlock);
  };
  PoolScored(queries, keys, score, scratch, interests, stride);
}

void ActivationUnit::Finish(const kernels::Partial& total, float* interest) const {
  if (!softmax_ || total.max == -INFINITY) return;
  for (int64_t i = 0; i < dim_; ++i) interest[i] /= total.sum;
}

}  // namespace din_infer
