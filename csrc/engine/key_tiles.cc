#include "engine/key_tiles.hpp"

namespace din_infer {

void KeyTiles::Embed(const GroupColumns& behaviours, Range from, int64_t first, int64_t* unknown) const {
  for (int64_t t = from.begin; t < from.end; ++t) {
    keys_.Embed(behaviours, t, tiles_ + ColumnPlace(first + t - from.begin, dim_), kernels::Kernels().tile, unknown);
  }
}

void KeyTiles::Copy(const float* tiles, Range from, int64_t first) const {
  const int64_t tile = kernels::Kernels().tile;
  for (int64_t t = from.begin; t < from.end; ++t) {
    const float* key = tiles + ColumnPlace(t, dim_);
    float* to = tiles_ + ColumnPlace(first + t - from.begin, dim_);
    for (int64_t i = 0; i < dim_; ++i) to[i * tile] = key[i * tile];
  }
}

}  // namespace din_infer
