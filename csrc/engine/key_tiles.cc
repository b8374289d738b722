#include "engine/key_tiles.hpp"

#include <algorithm>

namespace din_infer {
namespace {

// Where key `t` starts; its floats are a tile apart.
int64_t Place(int64_t t, int64_t dim) {
  const int64_t tile = kernels::Kernels().tile;
  return t / tile * tile * dim + t % tile;
}

}  // namespace

void KeyTiles::Embed(const GroupColumns& behaviours, Range from, int64_t first, int64_t* unknown) const {
  for (int64_t t = from.begin; t < from.end; ++t) {
    keys_.Embed(behaviours, t, tiles_ + Place(first + t - from.begin, dim_), kernels::Kernels().tile, unknown);
  }
}

void KeyTiles::Copy(const float* tiles, Range from, int64_t first) const {
  const int64_t tile = kernels::Kernels().tile;
  for (int64_t t = from.begin; t < from.end; ++t) {
    const float* key = tiles + Place(t, dim_);
    float* to = tiles_ + Place(first + t - from.begin, dim_);
    for (int64_t i = 0; i < dim_; ++i) to[i * tile] = key[i * tile];
  }
}

void KeyTiles::Fill(int64_t count) const {
  const int64_t tile = kernels::Kernels().tile;
  for (int64_t t = count; t < WholeTiles(count); ++t) {
    float* to = tiles_ + Place(t, dim_);
    for (int64_t i = 0; i < dim_; ++i) to[i * tile] = 0;
  }
}

}  // namespace din_infer
