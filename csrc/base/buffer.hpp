// Float storage aligned for the kernels.
#pragma once

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

// At least `n` floats; never shrinks, so that a warm buffer is not allocated again.
inline float* Reserve(FloatBuffer& buffer, size_t n) {
  if (buffer.size() < n) buffer.resize(n);
  return buffer.data();
}

}  // namespace din_infer
