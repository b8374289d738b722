// soak SECONDS THREADS SWAP_MILLISECONDS MIB [LONGEST] [PAUSE_MILLISECONDS]: threads score mixed requests, of 1 to
// LONGEST (50,000) behaviours, each thread with a pause after each, while the model that serves changes between two
// golden ones, every SWAP_MILLISECONDS where a swap does not take longer. Fails where a score has other bits than
// alone, or where resident memory, which is printed, grows by more than MIB after the first third. Under
// ThreadSanitizer many threads on few cores leave the loader no time to swap often, unless requests are short and there
// are pauses.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine/model.hpp"
#include "golden.hpp"

namespace din_infer {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kRequests = 24;

double ResidentMiB() {
  long pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

// One request of a golden model with its first history's behaviours repeated, and its scores.
struct Request {
  Request(const Model& model, Json columns, size_t length)
      : batch(model.parts().file.schema, Repeat(model, columns, length)) {
    Scorer scorer(model);
    expected.resize(static_cast<size_t>(scorer.candidates(batch.batch)));
    scorer.score(batch.batch, expected.data());
  }

  static Json Repeat(const Model& model, Json& columns, size_t length) {
    const History& history = model.parts().file.schema.histories[0];
    for (const Feature& feature : history.features) {
      Json& row = columns[history.name + "." + feature.name][0];
      Json longer = Json::array();
      for (size_t t = 0; t < length && !row.empty(); ++t) longer.push_back(row[t % row.size()]);
      row = longer;
    }
    return columns;
  }

  JsonBatch batch;
  std::vector<float> expected;
};

struct Version {
  Version(const std::string& name, double longest) : path(testing::GoldenPath(name, ".onnx")) {
    const Model model = Model::load(path);
    metadata = model.metadata();
    const Json columns = Json::parse(testing::ReadFile(testing::GoldenPath(name, ".json")))["columns"];
    std::mt19937 random(1);
    std::uniform_real_distribution<double> logarithm(0, std::log(longest));
    for (size_t i = 0; i < kRequests; ++i) {
      const double length = i == 0 ? longest : std::exp(logarithm(random));
      requests.push_back(
          std::make_unique<Request>(model, testing::OneRequest(columns, 3), static_cast<size_t>(length)));
    }
  }

  std::string path;
  std::map<std::string, std::string> metadata;
  std::vector<std::unique_ptr<Request>> requests;
};

struct Load {
  unsigned threads = 1;
  double longest = 50'000;
  std::chrono::milliseconds pause{0};
};

struct Soak {
  explicit Soak(const Load& given) : load(given) {}

  void Score(unsigned seed) {
    std::mt19937 random(seed);
    std::vector<float> scores;
    while (!done) {
      ScoreOne(random, scores);
      if (load.pause.count() > 0) std::this_thread::sleep_for(load.pause);
    }
  }

  void ScoreOne(std::mt19937& random, std::vector<float>& scores) {
    ModelRegistry::Lease lease = registry->lease();
    const Version& version = lease.model().metadata() == one.metadata ? one : other;
    const Request& request = *version.requests[random() % kRequests];
    scores.assign(request.expected.size(), -1);
    lease->score(request.batch.batch, scores.data());
    wrong += scores != request.expected;
    ++scored;
  }

  const Load load;
  Version one{"v1-outer-dice", load.longest}, other{"v1-hadamard-softmax-strings", load.longest};
  std::unique_ptr<ModelRegistry> registry = std::make_unique<ModelRegistry>(one.path);
  std::atomic<bool> done{false};
  std::atomic<int64_t> wrong{0}, scored{0};
};

int Run(double seconds, const Load& load, std::chrono::milliseconds swap_every, double growth) {
  Soak soak(load);
  std::vector<std::thread> workers;
  for (unsigned t = 0; t < load.threads; ++t) workers.emplace_back([&soak, t] { soak.Score(t); });
  const auto begin = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  auto next_swap = begin + swap_every;
  double early = 0, peak = 0;
  int64_t swaps = 0, refused = 0;
  for (double printed = 0; elapsed() < seconds;) {
    std::this_thread::sleep_until(next_swap);
    next_swap = std::max(next_swap, Clock::now() - swap_every) + swap_every;
    soak.registry->replace(++swaps % 2 == 1 ? soak.other.path : soak.one.path);
    refused += !soak.registry->wait();
    double& most = elapsed() < seconds / 3 ? early : peak;
    most = std::max(most, ResidentMiB());
    if (elapsed() - printed < seconds / 20) continue;
    printed = elapsed();
    std::printf("%7.1f s %9.1f MiB %10lld scored %6lld swaps\n", printed, ResidentMiB(),
                static_cast<long long>(soak.scored), static_cast<long long>(swaps));
    std::fflush(stdout);
  }
  soak.done = true;
  for (std::thread& worker : workers) worker.join();
  soak.registry.reset();
  std::printf("wrong %lld, refused %lld; MiB at most: %.1f in the first third, %.1f after; %.1f with no model\n",
              static_cast<long long>(soak.wrong), static_cast<long long>(refused), early, peak, ResidentMiB());
  return soak.wrong == 0 && refused == 0 && soak.scored > 0 && peak <= early + growth ? 0 : 1;
}

}  // namespace
}  // namespace din_infer

int main(int argc, char** argv) {
  if (argc < 5 || argc > 7) {
    std::fprintf(stderr, "expected SECONDS THREADS SWAP_MILLISECONDS MIB [LONGEST] [PAUSE_MILLISECONDS]\n");
    return 2;
  }
  din_infer::Load load;
  load.threads = static_cast<unsigned>(std::atoi(argv[2]));
  if (argc > 5) load.longest = std::atof(argv[5]);
  if (argc > 6) load.pause = std::chrono::milliseconds(std::atoi(argv[6]));
  return din_infer::Run(std::atof(argv[1]), load, std::chrono::milliseconds(std::atoi(argv[3])), std::atof(argv[4]));
}
