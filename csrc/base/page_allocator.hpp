// Memory that goes back to the system when it is freed.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

namespace din_infer {

// For what is as large as a model: pages of its own, which munmap gives back. The allocator would take tables of up to
// 32 MiB from a heap of the thread that loads them, where about one time in ten a freed model of 20 MiB stayed.
template <class T>
struct PageAllocator {
  static constexpr size_t kLarge = size_t{128} << 10;  // bytes; less comes from the heap
  using value_type = T;

  PageAllocator() = default;
  template <class U>
  PageAllocator(const PageAllocator<U>&) {}

  T* allocate(size_t n) {
    if (n > static_cast<size_t>(PTRDIFF_MAX) / sizeof(T)) throw std::bad_alloc();
    if (n * sizeof(T) < kLarge) return static_cast<T*>(::operator new(n * sizeof(T)));
    void* const pages = mmap(nullptr, n * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    return static_cast<T*>(pages);
  }
  void deallocate(T* p, size_t n) {
    if (n * sizeof(T) < kLarge) return ::operator delete(p);
    munmap(p, n * sizeof(T));
  }
  bool operator==(const PageAllocator&) const { return true; }
  bool operator!=(const PageAllocator&) const { return false; }
};

}  // namespace din_infer
