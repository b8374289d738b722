// The border of the C ABI: exceptions become statuses and this thread's last error; pointers are checked.
#pragma once

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

// Throws InputError outside 1 to 1024.
int Threads(int threads);

}  // namespace din_infer::capi
