#include "onnx/parameters.hpp"

#include <algorithm>
#include <charconv>
#include <system_error>

#include "base/errors.hpp"
#include "base/quote.hpp"

namespace din_infer::onnx {
namespace {

namespace fs = std::filesystem;

bool Fits(const std::vector<int64_t>& expected, const std::vector<int64_t>& got) {
  return expected.size() == got.size() &&
         std::equal(expected.begin(), expected.end(), got.begin(),
                    [](int64_t e, int64_t g) { return e == g || (e == kAnyRows && g >= 1); });
}

uint64_t ParseUnsigned(std::string_view text, const std::string& where) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > INT64_MAX) {
    throw ModelFileError(where + ": expected a number of bytes, got " + Quote(text));
  }
  return value;
}

// Where `location` leads, symbolic links followed, if that is a file inside `folder`.
fs::path Inside(const fs::path& folder, std::string_view location, const std::string& where) {
  const fs::path relative{std::string(location)};
  const bool climbs = std::find(relative.begin(), relative.end(), fs::path("..")) != relative.end();
  if (location.empty() || location.find('\0') != std::string_view::npos || relative.is_absolute() || climbs) {
    throw ModelFileError(where + ": expected external data at a path inside the model's folder, got " +
                         Quote(location));
  }
  std::error_code error;
  const fs::path base = fs::canonical(folder.empty() ? fs::path(".") : folder, error);
  const fs::path target = error ? fs::path() : fs::canonical(base / relative, error);
  if (error) throw ModelFileError(where + ": external data " + Quote(location) + ": " + error.message());
  const auto [base_end, ignored] = std::mismatch(base.begin(), base.end(), target.begin(), target.end());
  if (base_end != base.end()) {
    throw ModelFileError(where + ": expected external data inside the model's folder, got " + Quote(location) +
                         ", which links out of it");
  }
  return target;
}

}  // namespace

ParameterReader::ParameterReader(const std::vector<ParameterShape>& expected, fs::path folder, Storage* storage)
    : folder_(std::move(folder)), storage_(storage) {
  for (const ParameterShape& parameter : expected) expected_.emplace(parameter.name, &parameter);
}

void ParameterReader::Add(std::string_view initializer) {
  Tensor tensor = ParseTensor(initializer, "initializer");
  const auto found = expected_.find(tensor.name);
  if (found == expected_.end())
    throw ModelFileError("initializer " + Quote(tensor.name) + ": the schema and semantics ask for none of that name");
  const std::string where = "parameter " + found->first;
  if (parameters_.count(found->first)) throw ModelFileError(where + ": expected it once, got it twice");
  const DType dtype = found->second->dtype;
  CheckType(dtype, tensor.dtype, where);
  if (!Fits(found->second->shape, tensor.dims)) {
    throw ModelFileError(where + ": expected shape " + ShapeText(found->second->shape) + ", got " +
                         ShapeText(tensor.dims));
  }
  const uint64_t bytes = BytesNeeded(tensor.dims, ItemBytes(dtype), where);
  const void* data = Data(&tensor, dtype, bytes, where);
  parameters_[found->first] = {std::move(tensor.dims), dtype, data, bytes};
}

std::map<std::string, Parameter> ParameterReader::Finish() {
  for (const auto& [name, shape] : expected_) {
    if (!parameters_.count(name))
      throw ModelFileError("parameter " + name + ": expected shape " + ShapeText(shape->shape) +
                           ", got no such initializer");
  }
  return std::move(parameters_);
}

const void* ParameterReader::Data(Tensor* tensor, DType dtype, uint64_t bytes, const std::string& where) {
  const int forms = (tensor->raw.empty() ? 0 : 1) + (tensor->floats.empty() ? 0 : 1) + (tensor->is_external ? 1 : 0);
  const uint64_t got = tensor->raw.size() + tensor->floats.size() * sizeof(float);
  const bool other_data =
      !tensor->ints.empty() || !tensor->strings.empty() || (dtype != DType::kFloat32 && !tensor->floats.empty());
  if (forms != 1 || other_data || (!tensor->is_external && got != bytes)) {
    throw ModelFileError(where + ": expected " + std::to_string(bytes) + " bytes of " + TypeName(dtype) +
                         " for shape " + ShapeText(tensor->dims) + ", got " + std::to_string(got));
  }
  if (tensor->is_external) return Aligned(ExternalData(*tensor, bytes, where), ItemBytes(dtype));
  if (tensor->raw.empty()) return Copy({reinterpret_cast<const char*>(tensor->floats.data()), bytes});
  const Mapping* const file = storage_->file.get();
  const void* const data = Aligned(tensor->raw, ItemBytes(dtype));
  if (data == tensor->raw.data() && file != nullptr) file->Populate(tensor->raw);
  return data;
}

std::string_view ParameterReader::ExternalData(const Tensor& tensor, uint64_t bytes, const std::string& where) {
  std::string_view location;
  uint64_t offset = 0, length = bytes;
  for (const auto& [key, value] : tensor.external) {
    if (key == "location") {
      location = value;
    } else if (key == "offset") {
      offset = ParseUnsigned(value, where + ": external data's offset");
    } else if (key == "length") {
      length = ParseUnsigned(value, where + ": external data's length");
    } else if (key != "checksum") {
      throw ModelFileError(where + ": external data has an unknown entry " + Quote(key));
    }
  }
  if (length != bytes) {
    throw ModelFileError(where + ": expected " + std::to_string(bytes) + " bytes of external data for shape " +
                         ShapeText(tensor.dims) + ", got " + std::to_string(length));
  }
  const fs::path path = Inside(folder_, location, where);
  std::unique_ptr<Mapping>& mapping = storage_->external[path];
  if (!mapping) {
    mapping = std::make_unique<Mapping>(path, offset + length);
    mapping->ReadAtRandom();
  }
  if (mapping->bytes().size() < offset + length) {
    throw ModelFileError(where + ": expected " + std::to_string(offset + length) + " bytes in " + Quote(location) +
                         ", got " + std::to_string(mapping->bytes().size()));
  }
  return mapping->bytes().substr(offset, bytes);
}

const void* ParameterReader::Aligned(std::string_view data, uint64_t item) {
  return reinterpret_cast<uintptr_t>(data.data()) % item == 0 ? data.data() : Copy(data);
}

const void* ParameterReader::Copy(std::string_view data) {
  auto& copy = storage_->copies.emplace_back();
  copy.reserve(data.size());
  storage_->Read(data, true, [&](std::string_view piece) { copy.insert(copy.end(), piece.begin(), piece.end()); });
  return copy.data();
}

}  // namespace din_infer::onnx
