#include "engine/certificate.hpp"

#include <algorithm>
#include <cmath>

#include "engine/model.hpp"

namespace din_infer {
namespace {

Json Parse(const Model& model) {
  const auto found = model.metadata().find("din_infer.certificate");
  if (found == model.metadata().end()) throw ModelFileError("expected a certificate in the metadata, got none");
  Json json = Json::parse(found->second, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) throw ModelFileError("certificate: expected a JSON object");
  return json;
}

}  // namespace

Certificate::Certificate(const Model& model) {
  const Json json = Parse(model);
  const Json& requests = Member(json, "requests");
  if (!requests.is_array()) JsonError("certificate: requests", "a list", requests);
  Json columns = Json::object();
  for (const Json& request : requests) {
    const std::string where = "certificate: request " + std::to_string(&request - &requests[0]);
    AsObject(request, where);
    for (const auto& [name, value] : AsObject(Member(request, "columns"), where + ": columns").items()) {
      columns[name].push_back(value);
    }
    const Json& probabilities = Member(request, "probabilities");
    if (!probabilities.is_array()) JsonError(where + ": probabilities", "a list", probabilities);
    for (const Json& probability : probabilities) expected_.push_back(AsFloat(probability, where));
  }
  requests_ = std::make_unique<const JsonBatch>(model.parts().file.schema, columns);
}

double Certificate::Check(Scorer& scorer) const {
  std::vector<float> scores;
  try {
    scores.resize(static_cast<size_t>(scorer.candidates(requests_->batch)));
    scorer.score(requests_->batch, scores.data());
  } catch (const InputError& error) {
    throw ModelFileError(std::string("certificate: ") + error.what());
  }
  if (scores.size() != expected_.size()) {
    throw ModelFileError("certificate: expected " + std::to_string(scores.size()) + " probabilities, got " +
                         std::to_string(expected_.size()));
  }
  double worst = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double difference = std::abs(static_cast<double>(scores[i]) - expected_[i]);
    worst = std::max(worst, std::isnan(difference) ? 1.0 : difference);
  }
  return worst;
}

double certificate_error(const Model& model) {
  Scorer scorer(model);
  return Certificate(model).Check(scorer);
}

}  // namespace din_infer
