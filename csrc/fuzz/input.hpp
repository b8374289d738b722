// The bytes that a fuzzer chose.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace din_infer::fuzz {

// Bytes of the input, zeros past its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }

  template <typename T>
  T Take() {
    T value{};
    const size_t size = std::min(sizeof(T), size_);
    if (size > 0) std::memcpy(&value, data_, size);
    data_ += size, size_ -= size;
    return value;
  }
  int64_t Below(int64_t limit) { return limit == 0 ? 0 : Take<uint8_t>() % limit; }

 private:
  const uint8_t* data_;
  size_t size_;
};

}  // namespace din_infer::fuzz
