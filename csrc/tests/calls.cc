// calls MODEL REQUESTS SECONDS: how long the library takes for each request of a file of JSON, {"requests":
// [{"columns": {name: [...]}}]}, one call each. Prints JSON, for each request the median microseconds and the scores.
// benchmarks/calls.py has Python score the same ones.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <vector>

#include "engine/json_batch.hpp"
#include "engine/model.hpp"

namespace din_infer {
namespace {

using Clock = std::chrono::steady_clock;

Json Time(Scorer& scorer, const Batch& batch, double seconds) {
  std::vector<float> scores(static_cast<size_t>(scorer.candidates(batch)));
  std::vector<double> microseconds;
  const auto elapsed = [](Clock::time_point since) {
    return std::chrono::duration<double>(Clock::now() - since).count();
  };
  scorer.score(batch, scores.data());
  for (const auto begin = Clock::now(); elapsed(begin) < seconds || microseconds.size() < 5;) {
    const auto call = Clock::now();
    scorer.score(batch, scores.data());
    microseconds.push_back(elapsed(call) * 1e6);
  }
  std::sort(microseconds.begin(), microseconds.end());
  return {{"microseconds", microseconds[microseconds.size() / 2]}, {"scores", scores}};
}

int Run(const char* path, const char* requests, double seconds) {
  const Model model = Model::load(path);
  Scorer scorer(model);
  std::ifstream file(requests);
  Json results = Json::array();
  const Json json = Json::parse(file);
  for (const Json& request : Member(json, "requests")) {
    const JsonBatch batch(model.parts().file.schema, Member(request, "columns"));
    results.push_back(Time(scorer, batch.batch, seconds));
  }
  std::printf("%s\n", results.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace din_infer

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "expected MODEL REQUESTS SECONDS\n");
    return 2;
  }
  return din_infer::Run(argv[1], argv[2], std::atof(argv[3]));
}
