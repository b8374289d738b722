// What the C ABI's handles hold.
#pragma once

#include <optional>
#include <utility>

#include "din_infer/din_infer.h"
#include "din_infer/din_infer.hpp"

struct din_infer_model {
  din_infer::Model model;
};

struct din_infer_batch {
  din_infer::Batch batch;
};

// Of the caller's own, or lent by a registry.
struct din_infer_scorer {
  explicit din_infer_scorer(din_infer::Scorer made) : own(std::move(made)), scorer(*own) {}
  explicit din_infer_scorer(din_infer::ModelRegistry::Lease lent) : lease(std::move(lent)), scorer(**lease) {}

  std::optional<din_infer::Scorer> own;
  std::optional<din_infer::ModelRegistry::Lease> lease;
  din_infer::Scorer& scorer;
};

struct din_infer_user {
  din_infer::User user;
};

struct din_infer_model_registry {
  din_infer::ModelRegistry registry;
};

struct din_infer_activation_unit_runner {
  din_infer::ActivationUnitRunner runner;
};
