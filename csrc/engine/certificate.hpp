// The parity certificate of a model file: edge-case requests with the probabilities that PyTorch gave at export.
#pragma once

#include <vector>

#include "din_infer/din_infer.hpp"
#include "engine/json_batch.hpp"

namespace din_infer {

class Certificate {
 public:
  // Throws ModelFileError where the model's metadata has none that is understood.
  explicit Certificate(const Model& model);

  // The largest difference of a probability that `scorer`, the model's, gives now.
  double Check(Scorer& scorer) const;

 private:
  std::unique_ptr<const JsonBatch> requests_;
  std::vector<float> expected_;
};

}  // namespace din_infer
