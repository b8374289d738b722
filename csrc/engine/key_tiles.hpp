// A history's keys as the activation unit reads them: tiles [dim][tile], the last one filled up with zeros.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/activation_unit.hpp"
#include "engine/batch.hpp"
#include "engine/embedding.hpp"

namespace din_infer {

// Tiles of keys that a thread fills at a time: some microseconds.
inline constexpr int64_t kStretchTiles = 8;

// Room in `tiles` for the keys [dim] of all requests that have no rows, of which `packed` has the counts and gets the
// places. One piece of memory: of pieces of their own each would grow to the longest history it ever held.
// each(request, keys, tiles of the request) is called for what one thread is to fill at a time.
template <class Each>
void MakeRoom(int64_t dim, FloatBuffer& tiles, std::vector<UnitKeys>& packed, const Each& each) {
  size_t size = 0;
  for (const UnitKeys& keys : packed) {
    if (keys.rows == nullptr) size += static_cast<size_t>(WholeTiles(keys.count) * dim);
  }
  if (tiles.size() < size) FloatBuffer().swap(tiles);  // before there is more, not beside it
  float* place = Reserve(tiles, size);
  const int64_t step = kStretchTiles * kernels::Kernels().tile;
  for (size_t request = 0; request < packed.size(); ++request) {
    UnitKeys& keys = packed[request];
    if (keys.rows != nullptr) continue;
    FillTiles(keys.count, dim, place);
    keys.tiles = place;
    for (int64_t first = 0; first < keys.count; first += step) {
      each(request, Range{first, std::min(first + step, keys.count)}, place);
    }
    place += WholeTiles(keys.count) * dim;
  }
}

// Keys in tiles that the caller has made room for: WholeTiles(count) * dim floats.
class KeyTiles {
 public:
  KeyTiles(const GroupEmbedding& keys, float* tiles) : keys_(keys), dim_(keys.width()), tiles_(tiles) {}

  // Floats that Embed works with: a tile of keys, as rows.
  static int64_t Scratch(int64_t dim) { return kernels::Kernels().tile * dim; }

  // Behaviours `from` become the keys from `first` on. `unknown` has a count per feature.
  void Embed(const GroupColumns& behaviours, Range from, int64_t first, float* scratch, int64_t* unknown) const;

  // So do the keys `from` of other tiles.
  void Copy(const float* tiles, Range from, int64_t first) const;

 private:
  const GroupEmbedding& keys_;
  int64_t dim_;
  float* tiles_;
};

}  // namespace din_infer
