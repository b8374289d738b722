// A file mapped for reading.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace din_infer::onnx {

class Mapping {
 public:
  // Maps the file if it holds at least `min_size` bytes; checked before anything is mapped. Throws ModelFileError.
  // Truncating the file afterwards kills its readers: a new version replaces a file by rename.
  explicit Mapping(const std::filesystem::path& path, uint64_t min_size = 1);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::string_view bytes() const { return {data_, size_}; }

  // Rows here and there are read from now on: a page that is not in memory is read without those around it.
  void ReadAtRandom() const;

  // Has these bytes in this process's memory, where the system can do that, so that no request waits for one of them.
  void Populate(std::string_view bytes) const;

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
};

// Takes the pages that are all within `bytes` out of this process's memory. Those of a mapping come back from its file
// when they are read again; of what is in no file, nothing may be read again.
void Forget(std::string_view bytes);

}  // namespace din_infer::onnx
