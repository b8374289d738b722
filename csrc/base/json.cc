#include "base/json.hpp"

#include <algorithm>
#include <cmath>

#include "base/quote.hpp"

namespace din_infer {
namespace {

// Generous for thousands of columns, and small enough that whatever is derived from the text stays small.
constexpr size_t kMaxBytes = 1 << 18;

}  // namespace

Json ParseJsonObject(std::string_view text, const std::string& what) {
  if (text.size() > kMaxBytes) {
    throw ModelFileError(what + ": expected at most " + std::to_string(kMaxBytes) + " bytes, got " +
                         std::to_string(text.size()));
  }
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) throw ModelFileError(what + ": expected JSON, got " + Quote(text));
  if (!json.is_object()) JsonError(what, "a JSON object", json);
  return json;
}

void JsonError(const std::string& where, const std::string& expected, const Json& got) {
  const std::string text = got.is_null() ? "nothing" : got.dump(-1, ' ', false, Json::error_handler_t::replace);
  throw ModelFileError(where + ": expected " + expected + ", got " + Shorten(text));
}

const Json& AsObject(const Json& json, const std::string& where, std::initializer_list<std::string_view> known) {
  if (!json.is_object()) JsonError(where, "a JSON object", json);
  for (const auto& item : json.items()) {
    const std::string& key = item.key();
    const bool is_known = known.size() == 0 || std::find(known.begin(), known.end(), key) != known.end();
    if (key.empty() || !is_known) throw ModelFileError(where + ": unknown key " + Quote(key));
  }
  return json;
}

int64_t AsInteger(const Json& json, const std::string& where, int64_t min, int64_t max) {
  const bool fits = json.is_number_integer() && !(json.is_number_unsigned() && json.get<uint64_t>() > INT64_MAX);
  const int64_t value = fits ? json.get<int64_t>() : 0;
  if (!fits || value < min || value > max) {
    JsonError(where, "an integer from " + std::to_string(min) + " to " + std::to_string(max), json);
  }
  return value;
}

float AsFloat(const Json& json, const std::string& where) {
  const double value = json.is_number() ? json.get<double>() : NAN;
  if (!(std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max()))) {
    JsonError(where, "a finite float32", json);
  }
  return static_cast<float>(value);
}

bool IsUtf8(std::string_view text) {
  try {
    Json(text).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

const Json& Member(const Json& object, const std::string& key) {
  static const Json null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

}  // namespace din_infer
