// Float storage aligned for the kernels.
#pragma once

#include <algorithm>
#include <cstddef>
#include <new>
#include <vector>

namespace din_infer {

template <class T>
struct AlignedAllocator {
  static constexpr std::align_val_t kAlign{64};
  using value_type = T;

  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}

  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), kAlign)); }
  void deallocate(T* p, size_t) { ::operator delete(p, kAlign); }
  bool operator==(const AlignedAllocator&) const { return true; }
  bool operator!=(const AlignedAllocator&) const { return false; }
};

using FloatBuffer = std::vector<float, AlignedAllocator<float>>;

// At least `n` floats; never shrinks, so that a warm buffer is not allocated again. One float even where n is 0:
// callers add offsets to the pointer, which a null pointer does not allow.
inline float* Reserve(FloatBuffer& buffer, size_t n) {
  if (buffer.empty() || buffer.size() < n) buffer.resize(std::max<size_t>(n, 1));
  return buffer.data();
}

// At least `n` floats for each thread, before any starts: none knows what it will get.
inline void ReserveAll(std::vector<FloatBuffer>& buffers, size_t n) {
  for (FloatBuffer& buffer : buffers) Reserve(buffer, n);
}

// At least `n` elements: those that fewer threads do not need keep their memory for when there are more again.
template <class T>
void GrowTo(std::vector<T>& elements, size_t n) {
  if (elements.size() < n) elements.resize(n);
}

}  // namespace din_infer
