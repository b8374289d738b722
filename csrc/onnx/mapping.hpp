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

  // Bytes of the file that are no longer read need not be in this process's memory.
  void Forget(const char* data, uint64_t bytes) const;

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace din_infer::onnx
