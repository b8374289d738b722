#include "capi/border.hpp"
#include "capi/handles.hpp"

using din_infer::InputError;
using din_infer::Model;
using din_infer::capi::At;
using din_infer::capi::Guard;
using din_infer::capi::Text;

din_infer_status din_infer_model_load(const char* path, din_infer_model** model) {
  return Guard([&] {
    auto& handle = At(model, "model");
    handle = new din_infer_model{Model::load(Text(path, "path"))};
  });
}

din_infer_status din_infer_model_load_bytes(const void* bytes, size_t size, const char* folder,
                                            din_infer_model** model) {
  return Guard([&] {
    auto& handle = At(model, "model");
    const char* begin = size == 0 ? "" : Text(static_cast<const char*>(bytes), "bytes");
    handle = new din_infer_model{Model::load_bytes({begin, size}, Text(folder, "folder"))};
  });
}

void din_infer_model_free(din_infer_model* model) { delete model; }

din_infer_status din_infer_model_metadata(const din_infer_model* model, const char* key, const char** value) {
  return Guard([&] {
    const auto& metadata = At(model, "model").model.metadata();
    const auto found = metadata.find(Text(key, "key"));
    At(value, "value") = found == metadata.end() ? nullptr : found->second.c_str();
  });
}

din_infer_status din_infer_model_certificate_error(const din_infer_model* model, double* error) {
  return Guard([&] {
    double& out = At(error, "error");
    out = din_infer::certificate_error(At(model, "model").model);
  });
}

din_infer_status din_infer_model_memory_bytes(const din_infer_model* model, size_t* bytes) {
  return Guard([&] { At(bytes, "bytes") = At(model, "model").model.memory_bytes(); });
}

din_infer_status din_infer_model_unknown_ids(const din_infer_model* model, const char* column, int64_t* count) {
  return Guard([&] {
    const auto counts = At(model, "model").model.unknown_ids();
    const auto found = counts.find(Text(column, "column"));
    if (found == counts.end()) throw InputError("column: expected one with ids, got " + std::string(column));
    At(count, "count") = found->second;
  });
}

din_infer_status din_infer_model_multiply_adds(const din_infer_model* model, int64_t* request, int64_t* done) {
  return Guard([&] {
    const din_infer::MultiplyAdds work = At(model, "model").model.multiply_adds();
    int64_t &to_request = At(request, "request"), &to_done = At(done, "done");
    to_request = work.request;
    to_done = work.done;
  });
}
