// How much memory containers hold.
#pragma once

#include <cstddef>
#include <deque>
#include <type_traits>
#include <vector>

namespace din_infer {

template <class T>
auto BytesOf(const T& item) -> decltype(item.Bytes()) {
  return item.Bytes();
}

// Of a vector's elements, and of what they hold in turn.
template <class T, class Allocator>
size_t BytesOf(const std::vector<T, Allocator>& items) {
  size_t bytes = items.capacity() * sizeof(T);
  if constexpr (!std::is_trivially_copyable_v<T>) {
    for (const T& item : items) bytes += BytesOf(item);
  }
  return bytes;
}

template <class T>
size_t BytesOf(const std::deque<T>& items) {
  size_t bytes = items.size() * sizeof(T);
  for (const T& item : items) bytes += BytesOf(item);
  return bytes;
}

template <class... T>
size_t BytesOfAll(const T&... items) {
  return (size_t{0} + ... + BytesOf(items));
}

}  // namespace din_infer
