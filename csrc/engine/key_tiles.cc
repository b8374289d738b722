#include "engine/key_tiles.hpp"

#include <algorithm>

namespace din_infer {

void KeyTiles::Embed(const GroupColumns& behaviours, Range from, int64_t first, int64_t* unknown) const {
  const int64_t tile = kernels::Kernels().tile;
  while (from.begin < from.end) {  // tile by tile
    const int64_t end = std::min(from.end, from.begin + tile - first % tile);
    keys_.Embed(behaviours, {from.begin, end}, {tiles_ + ColumnPlace(first, dim_), 1, tile}, unknown);
    first += end - from.begin;
    from.begin = end;
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
