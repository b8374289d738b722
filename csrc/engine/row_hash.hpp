// A hash of a row of floats by its bits.
#pragma once

#include <cstdint>
#include <cstring>

namespace din_infer {

// Four independent chains of multiply and xor-shift over the bits, mixed at the end (as in splitmix64).
inline uint64_t HashRow(const float* row, size_t dim) {
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15;
  uint64_t chains[4] = {1, 2, 3, 4};
  for (size_t i = 0; i < dim; ++i) {
    uint32_t bits;
    std::memcpy(&bits, row + i, sizeof bits);
    uint64_t& chain = chains[i % 4];
    chain = (chain ^ bits) * kOdd;
    chain ^= chain >> 32;
  }
  uint64_t hash = 0;
  for (const uint64_t chain : chains) hash = (hash ^ chain) * kOdd, hash ^= hash >> 29;
  return hash;
}

}  // namespace din_infer
