// Mutation of protobuf messages that keeps the lengths around a changed field right, so that it reaches the fields
// inside.
#pragma once

#include <random>
#include <string>
#include <string_view>

namespace din_infer::fuzz {

// `message` with one field, at any depth, changed, doubled, dropped or exchanged with another one.
std::string Mutate(std::string_view message, size_t max_size, std::mt19937& random);

}  // namespace din_infer::fuzz
