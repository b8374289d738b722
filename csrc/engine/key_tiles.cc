#include "engine/key_tiles.hpp"

#include <algorithm>

namespace din_infer {

void KeyTiles::Embed(const GroupColumns& behaviours, Range from, int64_t first, float* scratch,
                     int64_t* unknown) const {
  const kernels::KernelTable& kernel = kernels::Kernels();
  while (from.begin < from.end) {  // tile by tile
    const int64_t end = std::min(from.end, from.begin + kernel.tile - first % kernel.tile), count = end - from.begin;
    keys_.Embed(behaviours, {from.begin, end}, {scratch, dim_}, unknown);
    kernel.pack_columns(scratch, dim_, count, dim_, tiles_, first);
    first += count;
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
