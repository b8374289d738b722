// Request decoding: batches that a caller got wrong are refused with InputError, and all others are scored, with the
// same bits twice. An input chooses a golden model, lengths and values of a valid batch, then what to spoil in it.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "engine/model.hpp"
#include "fuzz/fuzzed_batch.hpp"
#include "fuzz/input.hpp"
#include "golden.hpp"

namespace din_infer {
namespace {

using fuzz::FuzzedBatch;
using fuzz::Input;
using testing::GoldenPath;
using testing::kGoldenModels;

struct Golden {
  explicit Golden(const std::string& name)
      : file(ReadModelFile(GoldenPath(name, ".onnx"))), model(Model::load(GoldenPath(name, ".onnx"))), scorer(model) {}
  ModelFile file;  // whose vocabularies a model does not keep
  Model model;
  Scorer scorer;
};

std::vector<float> Score(Scorer& scorer, const Batch& batch) {
  std::vector<float> scores(static_cast<size_t>(scorer.candidates(batch)));
  scorer.score(batch, scores.data());
  return scores;
}

void Run(Golden& golden, Input& input) {
  FuzzedBatch fuzzed(golden.file, input);
  while (!input.empty() && !fuzzed.batch.columns.empty()) fuzzed.Spoil();
  try {
    const std::vector<float> scores = Score(golden.scorer, fuzzed.batch);
    const std::vector<float> again = Score(golden.scorer, fuzzed.batch);
    if (!scores.empty() && std::memcmp(scores.data(), again.data(), scores.size() * sizeof(float)) != 0) std::abort();
  } catch (const InputError&) {
    if (!fuzzed.spoilt) std::abort();
  }
}

}  // namespace
}  // namespace din_infer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static std::array<din_infer::Golden, 3> models{din_infer::Golden(din_infer::kGoldenModels[0]),
                                                 din_infer::Golden(din_infer::kGoldenModels[1]),
                                                 din_infer::Golden(din_infer::kGoldenModels[2])};
  din_infer::fuzz::Input input(data, size);
  din_infer::Run(models[input.Take<uint8_t>() % models.size()], input);
  return 0;
}
