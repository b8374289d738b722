// Scratch memory that a call leaves for the next one, and how much of it may stay.
#pragma once

#include <cstddef>

namespace din_infer {

// Ends a call, whether it throws or not: frees owner.ScratchBytes() with owner.Shrink() where they are more than
// `most`; 0: all may stay.
template <class Owner>
class ScratchCap {
 public:
  ScratchCap(Owner& owner, size_t most) : owner_(owner), most_(most) {}
  ~ScratchCap() {
    if (most_ != 0 && owner_.ScratchBytes() > most_) owner_.Shrink();
  }
  ScratchCap(const ScratchCap&) = delete;
  ScratchCap& operator=(const ScratchCap&) = delete;

 private:
  Owner& owner_;
  const size_t most_;
};

}  // namespace din_infer
