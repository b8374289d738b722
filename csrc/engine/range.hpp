#pragma once

#include <cstdint>

namespace din_infer {

// Half-open.
struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

}  // namespace din_infer
