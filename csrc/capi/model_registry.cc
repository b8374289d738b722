#include <utility>

#include "capi/border.hpp"
#include "capi/handles.hpp"
#include "capi/scoring.hpp"

using din_infer::ModelFileError;
using din_infer::ModelRegistry;
using din_infer::User;
using din_infer::capi::At;
using din_infer::capi::Guard;
using din_infer::capi::Options;
using din_infer::capi::Score;
using din_infer::capi::ScoreUser;
using din_infer::capi::Text;

namespace {

void ThrowRefusal(const ModelRegistry& registry) {
  if (const std::string error = registry.error(); !error.empty()) throw ModelFileError(error);
}

}  // namespace

din_infer_status din_infer_model_registry_create(const char* path, const din_infer_scorer_options* options,
                                                 din_infer_model_registry** registry) {
  return Guard([&] {
    auto& handle = At(registry, "registry");
    handle = new din_infer_model_registry{ModelRegistry(Text(path, "path"), Options(options))};
  });
}

void din_infer_model_registry_free(din_infer_model_registry* registry) { delete registry; }

din_infer_status din_infer_model_registry_score(din_infer_model_registry* registry, const din_infer_batch* batch,
                                                float* scores, int64_t size) {
  return Guard([&] { Score(*At(registry, "registry").registry.lease(), At(batch, "batch").batch, scores, size); });
}

din_infer_status din_infer_model_registry_lease(din_infer_model_registry* registry, int64_t* version,
                                                din_infer_scorer** scorer) {
  return Guard([&] {
    auto& handle = At(scorer, "scorer");
    ModelRegistry::Lease lease = At(registry, "registry").registry.lease();
    const int64_t number = lease.version();
    handle = new din_infer_scorer(std::move(lease));
    if (version != nullptr) *version = number;
  });
}

din_infer_status din_infer_model_registry_user(const din_infer_model_registry* registry, const din_infer_batch* batch,
                                               din_infer_user** user) {
  return Guard([&] {
    auto& handle = At(user, "user");
    handle = new din_infer_user{User(At(registry, "registry").registry.model(), At(batch, "batch").batch)};
  });
}

din_infer_status din_infer_model_registry_score_user(din_infer_model_registry* registry, const din_infer_user* user,
                                                     const din_infer_batch* batch, float* scores, int64_t size) {
  return Guard([&] {
    const ModelRegistry::Lease lease = At(registry, "registry").registry.lease();
    ScoreUser(*lease, At(user, "user").user, At(batch, "batch").batch, scores, size);
  });
}

din_infer_status din_infer_model_registry_model(const din_infer_model_registry* registry, din_infer_model** model) {
  return Guard([&] {
    auto& handle = At(model, "model");
    handle = new din_infer_model{At(registry, "registry").registry.model()};
  });
}

din_infer_status din_infer_model_registry_version(const din_infer_model_registry* registry, int64_t* version) {
  return Guard([&] { At(version, "version") = At(registry, "registry").registry.version(); });
}

din_infer_status din_infer_model_registry_replace(din_infer_model_registry* registry, const char* path) {
  return Guard([&] { At(registry, "registry").registry.replace(Text(path, "path")); });
}

din_infer_status din_infer_model_registry_wait(const din_infer_model_registry* registry) {
  return Guard([&] {
    const ModelRegistry& waited = At(registry, "registry").registry;
    waited.wait();
    ThrowRefusal(waited);
  });
}

din_infer_status din_infer_model_registry_loading(const din_infer_model_registry* registry, int* loading) {
  return Guard([&] { At(loading, "loading") = At(registry, "registry").registry.loading() ? 1 : 0; });
}

din_infer_status din_infer_model_registry_error(const din_infer_model_registry* registry) {
  return Guard([&] { ThrowRefusal(At(registry, "registry").registry); });
}
