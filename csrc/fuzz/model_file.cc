// The model reader on damaged and hostile files: it reads them or throws ModelFileError. Inputs are model files.
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/errors.hpp"
#include "engine/model.hpp"
#include "fuzz/protobuf.hpp"

namespace {

// Almost no mutation would pass the checksum that exported files end with; a file without it is read all the same.
std::string_view WithoutChecksum(std::string_view file) {
  constexpr std::string_view kEntry(
      "\x72\x1b\x0a\x0f"
      "din_infer.crc32",
      19);
  constexpr size_t kSize = 29;
  if (file.size() < kSize || file.substr(file.size() - kSize, kEntry.size()) != kEntry) return file;
  return file.substr(0, file.size() - kSize);
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed) {
  std::mt19937 random(seed);
  const std::string mutated =
      din_infer::fuzz::Mutate(WithoutChecksum({reinterpret_cast<char*>(data), size}), max_size, random);
  if (mutated.size() > max_size) return size;
  mutated.copy(reinterpret_cast<char*>(data), mutated.size());
  return mutated.size();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    din_infer::Model::load_bytes(std::string(WithoutChecksum({reinterpret_cast<const char*>(data), size})),
                                 "/nonexistent");
  } catch (const din_infer::ModelFileError&) {
  }
  return 0;
}
