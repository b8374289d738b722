// A history's keys as the activation unit reads them: tiles [dim][tile], the last one filled up with zeros.
#pragma once

#include <cstdint>

#include "engine/activation_unit.hpp"
#include "engine/batch.hpp"
#include "engine/embedding.hpp"

namespace din_infer {

// Keys in tiles that the caller has made room for: WholeTiles(count) * dim floats.
class KeyTiles {
 public:
  KeyTiles(const GroupEmbedding& keys, float* tiles) : keys_(keys), dim_(keys.width()), tiles_(tiles) {}

  // Behaviours `from` become the keys from `first` on. `unknown` has a count per feature.
  void Embed(const GroupColumns& behaviours, Range from, int64_t first, int64_t* unknown) const;

  // So do the keys `from` of other tiles.
  void Copy(const float* tiles, Range from, int64_t first) const;

 private:
  const GroupEmbedding& keys_;
  int64_t dim_;
  float* tiles_;
};

}  // namespace din_infer
