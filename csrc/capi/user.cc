#include "capi/border.hpp"
#include "capi/handles.hpp"
#include "capi/scoring.hpp"

using din_infer::User;
using din_infer::capi::At;
using din_infer::capi::Guard;

din_infer_status din_infer_user_create(const din_infer_model* model, const din_infer_batch* batch,
                                       din_infer_user** user) {
  return Guard([&] {
    auto& handle = At(user, "user");
    handle = new din_infer_user{User(At(model, "model").model, At(batch, "batch").batch)};
  });
}

din_infer_status din_infer_user_copy(const din_infer_user* user, din_infer_user** copy) {
  return Guard([&] {
    auto& handle = At(copy, "copy");
    handle = new din_infer_user{At(user, "user").user};
  });
}

void din_infer_user_free(din_infer_user* user) { delete user; }

din_infer_status din_infer_user_append(din_infer_user* user, const din_infer_batch* behaviours) {
  return Guard([&] { At(user, "user").user.append(At(behaviours, "behaviours").batch); });
}

din_infer_status din_infer_user_memory_bytes(const din_infer_user* user, size_t* bytes) {
  return Guard([&] { At(bytes, "bytes") = At(user, "user").user.memory_bytes(); });
}

din_infer_status din_infer_scorer_score_user(din_infer_scorer* scorer, const din_infer_user* user,
                                             const din_infer_batch* batch, float* scores, int64_t size) {
  return Guard([&] {
    din_infer::capi::ScoreUser(At(scorer, "scorer").scorer, At(user, "user").user, At(batch, "batch").batch, scores,
                               size);
  });
}
