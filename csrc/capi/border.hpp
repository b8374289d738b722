// The border of the C ABI: exceptions become statuses and this thread's last error; pointers are checked.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "din_infer/din_infer.h"
#include "din_infer/din_infer.hpp"

namespace din_infer::capi {

// A caller's row look-up has failed.
struct LookupError : Error {
  using Error::Error;
};

// Notes the exception that is being handled as this thread's last error.
din_infer_status NoteError() noexcept;

template <class Call>
din_infer_status Guard(const Call& call) noexcept {
  try {
    call();
    return DIN_INFER_OK;
  } catch (...) {
    return NoteError();
  }
}

// What a pointer argument points to. Throws InputError for null.
template <class T>
T& At(T* pointer, const char* name) {
  if (pointer == nullptr) throw InputError(std::string(name) + ": expected a pointer, got null");
  return *pointer;
}

// Throws InputError for null.
inline const char* Text(const char* text, const char* name) { return &At(text, name); }

// Throws InputError outside 1 to 1024; 0 is 1.
int Threads(int threads);

inline Executor ExecutorOf(const din_infer_executor& executor) { return {executor.parallel_for, executor.state}; }

// Options as this library knows them, of a caller whose header may be older, where what is missing is zero, or newer,
// where what is more has to be zero. All zero for null. `least`: bytes that the first version had. Throws InputError.
template <class Options>
Options Known(const Options* options, size_t least) {
  constexpr size_t kMost = 4096;  // a size that was not set may be any number
  Options known{};
  if (options == nullptr) return known;
  const size_t size = options->size;
  if (size < least || size > kMost) {
    throw InputError("options.size: expected that of the struct, " + std::to_string(sizeof(Options)) + ", got " +
                     std::to_string(size));
  }
  const auto* bytes = reinterpret_cast<const unsigned char*>(options);
  if (std::any_of(bytes + std::min(size, sizeof(Options)), bytes + size,
                  [](unsigned char byte) { return byte != 0; })) {
    throw InputError("options: expected zeros behind the " + std::to_string(sizeof(Options)) +
                     " bytes that this version of the library knows, got others");
  }
  std::memcpy(&known, options, std::min(size, sizeof(Options)));
  return known;
}

}  // namespace din_infer::capi
