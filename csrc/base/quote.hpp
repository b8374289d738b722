// Text that comes from a file, made fit for an error message.
#pragma once

#include <string>
#include <string_view>

namespace din_infer {

// The text's beginning where it is long.
inline std::string Shorten(std::string_view text) {
  constexpr size_t kMax = 200;
  return text.size() <= kMax ? std::string(text) : std::string(text.substr(0, kMax)) + "...";
}

// In single quotes; bytes that are not printable ASCII become \xNN, so the result is valid UTF-8 whatever the file
// holds.
inline std::string Quote(std::string_view text) {
  std::string quoted = "'";
  for (const char c : Shorten(text)) {
    if (c >= ' ' && c <= '~') {
      quoted += c;
    } else {
      constexpr char kDigits[] = "0123456789abcdef";
      const auto byte = static_cast<unsigned char>(c);
      quoted += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    }
  }
  return quoted + "'";
}

}  // namespace din_infer
