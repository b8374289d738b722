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
#include "onnx/model_file.hpp"

namespace {

using din_infer::ChecksumEntry;

// Almost no mutation would pass the checksum that files end with: inputs are without it, and it is made for each.
std::string_view WithoutChecksum(std::string_view file) {
  const size_t size = ChecksumEntry({}).size();
  if (file.size() < size) return file;
  const std::string_view content = file.substr(0, file.size() - size);
  return file.substr(content.size()) == ChecksumEntry(content) ? content : file;
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
    const std::string file(WithoutChecksum({reinterpret_cast<const char*>(data), size}));
    din_infer::Model::load_bytes(file + ChecksumEntry(file), "/nonexistent");
  } catch (const din_infer::ModelFileError&) {
  }
  return 0;
}
