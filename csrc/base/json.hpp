// Reading JSON of a model file: every member's type is checked, and errors name its place.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/errors.hpp"

namespace din_infer {

using Json = nlohmann::ordered_json;  // the order of features is the order of embeddings

// `what` names the text in errors. Throws ModelFileError for anything but one JSON object.
Json ParseJsonObject(std::string_view text, const std::string& what);

[[noreturn]] void JsonError(const std::string& where, const std::string& expected, const Json& got);

// `json` itself if it is an object whose keys are non-empty and among `known` (any where `known` is empty).
const Json& AsObject(const Json& json, const std::string& where, std::initializer_list<std::string_view> known = {});
int64_t AsInteger(const Json& json, const std::string& where, int64_t min, int64_t max);
float AsFloat(const Json& json, const std::string& where);  // finite as float32

// Whether the text is valid UTF-8.
bool IsUtf8(std::string_view text);

// The member, or null where it is absent.
const Json& Member(const Json& object, const std::string& key);

// The value that belongs to the string `json`; null counts as `absent`.
template <typename T, typename Choices = std::initializer_list<std::pair<std::string_view, T>>>
T AsChoice(const Json& json, const std::string& where, const Choices& choices, std::string_view absent = {}) {
  const std::string_view name = json.is_string() ? std::string_view(json.get_ref<const std::string&>()) : absent;
  std::string expected;
  for (const auto& [choice, value] : choices) {
    if ((json.is_string() || json.is_null()) && !name.empty() && choice == name) return value;
    expected += (expected.empty() ? "" : " | ") + std::string(choice);
  }
  JsonError(where, expected, json);
}

}  // namespace din_infer
