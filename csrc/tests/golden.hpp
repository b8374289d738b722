// The golden model files, whose requests and scores lie beside them as JSON.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/json.hpp"
#include "engine/json_batch.hpp"

namespace din_infer::testing {

extern const std::vector<std::string> kGoldenModels;

// A golden model as part of a test's name.
std::string GoldenName(const ::testing::TestParamInfo<std::string>& model);

std::string GoldenPath(const std::string& model, const std::string& suffix);
std::string ReadFile(const std::string& path);

using Requests = JsonBatch;

// Request `request` of `columns` alone.
Json OneRequest(const Json& columns, size_t request);

// The requests of `columns`, `times` over.
Json Repeated(Json columns, size_t times);

}  // namespace din_infer::testing
