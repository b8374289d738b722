#include "engine/tower.hpp"

#include <algorithm>

namespace din_infer {
namespace {

// The columns of w [units, in] that read the user, at its start, and the context, at its end.
PackedAffine SharedPart(int64_t units, int64_t in, const float* w, const float* b, int64_t user, int64_t context) {
  FloatBuffer rows(static_cast<size_t>(units * (user + context)));
  float* to = rows.data();
  for (int64_t h = 0; h < units; ++h) {
    to = std::copy(w + h * in, w + h * in + user, to);
    to = std::copy(w + (h + 1) * in - context, w + (h + 1) * in, to);
  }
  return PackedAffine(user + context, units, rows.data(), user + context, b);
}

// A tile's logits in scratch memory; what follows them stays aligned.
int64_t Logits() { return (kernels::Kernels().tile + 15) / 16 * 16; }

}  // namespace

Tower::Tower(const LayerSemantics& semantics, int64_t user, int64_t own, int64_t context,
             const LayerParameters& parameters)
    : Tower(semantics, user, own, context, ScaledParameters(semantics, user + own + context, parameters, 1)) {}

Tower::Tower(const LayerSemantics& semantics, int64_t user, int64_t own, int64_t context,
             const ScaledParameters& scaled)
    : own_(own),
      units_(semantics.hidden.empty() ? 1 : semantics.hidden.front()),
      layers_(semantics, scaled, true),
      shared_(
          SharedPart(units_, user + own + context, scaled.view().weights[0], scaled.view().biases[0], user, context)),
      own_weights_(static_cast<size_t>(kernels::PanelsSize(own, units_))) {
  const int64_t in = user + own + context;
  kernels::Kernels().pack_weights(scaled.view().weights[0] + user, in, own, units_, own_weights_.data());
}

size_t Tower::scratch() const {
  const size_t tile = static_cast<size_t>(Logits() + kernels::Kernels().tile * own_);
  return std::max(static_cast<size_t>(shared_width()), tile + layers_.scratch());
}

size_t Tower::bytes() const { return layers_.bytes() + shared_.bytes() + own_weights_.size() * sizeof(float); }

int64_t Tower::Work() const { return own_ * units_ + layers_.Work(); }

void Tower::Bias(const float* shared, float* bias, float* scratch) const {
  kernels::Kernels().affine(shared_.view(), shared, shared_width(), 1, bias, bias_size(), scratch);
}

const float* Tower::Probabilities(const float* own, int64_t count, const float* bias, float* scratch) const {
  const kernels::KernelTable& kernel = kernels::Kernels();
  float* const tile = scratch + Logits();
  PackTiles(own, own_, count, own_, tile);
  kernel.run_layers(layers_.view(), own_, own_weights_.data(), bias, tile, count, tile + kernel.tile * own_, scratch);
  kernel.sigmoid(scratch);
  return scratch;
}

}  // namespace din_infer
