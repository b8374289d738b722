// The MLP on top. What it reads of the user and the context is the same for all candidates of a request, so that share
// of the first layer is computed once, as the bias that the candidates' columns start from.
#pragma once

#include <cstdint>

#include "engine/layers.hpp"

namespace din_infer {

class Tower {
 public:
  // Inputs are [user, own, context], of these widths; `own` is what differs between candidates.
  Tower(const LayerSemantics& semantics, int64_t user, int64_t own, int64_t context, const LayerParameters& parameters);

  int64_t shared_width() const { return shared_.view().in; }
  int64_t own_width() const { return own_; }
  int64_t bias_size() const { return shared_.view().width; }
  size_t scratch() const;  // floats, for Bias and for Probabilities
  size_t bytes() const;
  int64_t Work() const;  // multiply-adds of one candidate

  // shared [shared_width]: user, then context -> bias [bias_size].
  void Bias(const float* shared, float* bias, float* scratch) const;

  // own: `count` <= tile rows [count, own_width] -> as many probabilities, which stand in `scratch`.
  const float* Probabilities(const float* own, int64_t count, const float* bias, float* scratch) const;

 private:
  Tower(const LayerSemantics& semantics, int64_t user, int64_t own, int64_t context, const ScaledParameters& scaled);

  int64_t own_, units_;
  PackedLayers layers_;
  PackedAffine shared_;
  FloatBuffer own_weights_;  // panels
};

}  // namespace din_infer
