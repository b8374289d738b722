// Protobuf fields of an untrusted file. protozero checks lengths; this checks that each field has the type that is
// read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <protozero/pbf_reader.hpp>

#include "base/errors.hpp"

namespace din_infer::onnx {

class Message {
 public:
  // `where` names the message in errors and must outlive it.
  Message(std::string_view bytes, const std::string& where) : reader_(bytes.data(), bytes.size()), where_(where) {}

  bool Next() { return reader_.next(); }
  uint32_t Tag() const { return reader_.tag(); }
  void Skip() { reader_.skip(); }

  std::string_view Bytes() {
    Expect(protozero::pbf_wire_type::length_delimited);
    const protozero::data_view view = reader_.get_view();
    return {view.data(), view.size()};
  }
  // A field that may occur once: for two, libraries disagree on whether they merge.
  std::string_view BytesOnce(bool* seen) {
    if (*seen) Fail("field " + std::to_string(Tag()) + " once", "it twice");
    *seen = true;
    return Bytes();
  }
  int64_t Int() {
    Expect(protozero::pbf_wire_type::varint);
    return reader_.get_int64();
  }
  float Float() {
    Expect(protozero::pbf_wire_type::fixed32);
    return reader_.get_float();
  }
  // One value, or several in packed form: a repeated field may mix both.
  void AppendInts(std::vector<int64_t>* values) {
    if (reader_.wire_type() == protozero::pbf_wire_type::varint) {
      values->push_back(reader_.get_int64());
      return;
    }
    Expect(protozero::pbf_wire_type::length_delimited);
    for (const int64_t value : reader_.get_packed_int64()) values->push_back(value);
  }
  void AppendFloats(std::vector<float>* values) {
    if (reader_.wire_type() == protozero::pbf_wire_type::fixed32) {
      values->push_back(reader_.get_float());
      return;
    }
    Expect(protozero::pbf_wire_type::length_delimited);
    for (const float value : reader_.get_packed_float()) values->push_back(value);
  }
  [[noreturn]] void Refuse(const std::string& what) {
    throw ModelFileError(where_ + ": expected what din_infer writes, got " + what + " (field " + std::to_string(Tag()) +
                         ")");
  }

 private:
  [[noreturn]] void Fail(const std::string& expected, const std::string& got) const {
    throw ModelFileError(where_ + ": expected " + expected + ", got " + got);
  }
  void Expect(protozero::pbf_wire_type type) const {
    if (reader_.wire_type() != type) {
      Fail("wire type " + std::to_string(static_cast<int>(type)) + " for field " + std::to_string(Tag()),
           std::to_string(static_cast<int>(reader_.wire_type())));
    }
  }

  protozero::pbf_reader reader_;
  const std::string& where_;
};

}  // namespace din_infer::onnx
