#include "fuzz/protobuf.hpp"

#include <cstdint>
#include <utility>
#include <vector>

#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace din_infer::fuzz {
namespace {

constexpr size_t kGrowth = 64;

std::string Bytes(std::string_view bytes, size_t max_size) {
  std::string mutated(bytes);
  mutated.resize(bytes.size() + kGrowth);
  const size_t most = std::min(mutated.size(), std::max<size_t>(max_size, 1));
  mutated.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(mutated.data()), std::min(bytes.size(), most), most));
  return mutated;
}

struct Field {
  std::string_view whole;    // with its key
  std::string_view payload;  // of length-delimited fields
  uint32_t tag = 0;
  bool delimited = false;
};

// Empty where the bytes are no protobuf message.
std::vector<Field> Fields(std::string_view message) {
  std::vector<Field> fields;
  try {
    protozero::pbf_reader reader(message.data(), message.size());
    const char* begin = message.data();
    while (reader.next()) {
      Field field;
      field.tag = reader.tag();
      field.delimited = reader.wire_type() == protozero::pbf_wire_type::length_delimited;
      if (field.delimited) {
        const auto view = reader.get_view();
        field.payload = {view.data(), view.size()};
      } else {
        reader.skip();
      }
      const char* end = message.data() + message.size() - reader.length();
      field.whole = {begin, static_cast<size_t>(end - begin)};
      begin = end;
      fields.push_back(field);
    }
  } catch (const protozero::exception&) {
    return {};
  }
  return fields;
}

std::string Encoded(uint32_t tag, std::string_view payload) {
  std::string bytes;
  protozero::pbf_writer(bytes).add_bytes(tag, payload.data(), payload.size());
  return bytes;
}

}  // namespace

std::string Mutate(std::string_view message, size_t max_size, std::mt19937& random) {
  const std::vector<Field> fields = Fields(message);
  if (fields.empty() || random() % 8 == 0) return Bytes(message, max_size);
  const size_t chosen = random() % fields.size();
  const Field& field = fields[chosen];
  std::string replacement;
  const unsigned action = random() % 16;
  if (action == 0) {
    replacement = std::string(field.whole) + std::string(field.whole);
  } else if (action == 1) {
    replacement = fields[random() % fields.size()].whole;
  } else if (action > 2) {  // and 2 drops it
    replacement =
        field.delimited ? Encoded(field.tag, Mutate(field.payload, max_size, random)) : Bytes(field.whole, max_size);
  }
  const size_t begin = static_cast<size_t>(field.whole.data() - message.data());
  std::string mutated(message.substr(0, begin));
  mutated += replacement;
  mutated += message.substr(begin + field.whole.size());
  return mutated;
}

}  // namespace din_infer::fuzz
