#include "capi/border.hpp"

#include <exception>
#include <new>
#include <stdexcept>

namespace din_infer::capi {
namespace {

// A message that fits without allocating: there may be no memory left.
struct LastError {
  char text[1024] = "";

  void operator=(const char* message) {
    size_t size = 0;
    for (; size + 1 < sizeof(text) && message[size] != '\0'; ++size) text[size] = message[size];
    text[size] = '\0';
  }
};

thread_local LastError last_error;

}  // namespace

din_infer_status NoteError() noexcept {
  try {
    throw;
  } catch (const StaleUserError& error) {
    last_error = error.what();
    return DIN_INFER_STALE_USER;
  } catch (const InputError& error) {
    last_error = error.what();
    return DIN_INFER_INPUT_ERROR;
  } catch (const ModelFileError& error) {
    last_error = error.what();
    return DIN_INFER_MODEL_FILE_ERROR;
  } catch (const LookupError& error) {
    last_error = error.what();
    return DIN_INFER_LOOKUP_ERROR;
  } catch (const std::bad_alloc&) {
    last_error = "out of memory";
    return DIN_INFER_OUT_OF_MEMORY;
  } catch (const std::length_error&) {
    last_error = "out of memory: a size that no memory can have";
    return DIN_INFER_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    last_error = error.what();
    return DIN_INFER_INTERNAL_ERROR;
  } catch (...) {
    last_error = "an exception of unknown type";
    return DIN_INFER_INTERNAL_ERROR;
  }
}

int Threads(int threads) {
  constexpr int kMost = 1024;
  if (threads == 0) return 1;
  if (threads < 1 || threads > kMost) {
    throw InputError("threads: expected 1 to " + std::to_string(kMost) + ", got " + std::to_string(threads));
  }
  return threads;
}

}  // namespace din_infer::capi

const char* din_infer_version(void) { return din_infer::version(); }

const char* din_infer_last_error(void) { return din_infer::capi::last_error.text; }

din_infer_status din_infer_target(const char** target) {
  return din_infer::capi::Guard([&] { din_infer::capi::At(target, "target") = din_infer::target(); });
}
