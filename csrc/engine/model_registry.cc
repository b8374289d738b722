#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "engine/certificate.hpp"
#include "engine/model.hpp"
#include "onnx/model_file.hpp"

namespace din_infer {
namespace {

// Of a probability; what `din-infer validate` allows.
constexpr double kTolerance = 1e-5;

// Has the allocator give freed memory back, which a process that swaps models for months would keep otherwise, in a
// heap of each thread that has loaded one. What is as large as a model is not there: see PageAllocator.
void TrimHeap() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

// Reads a file with what processor time others leave. A thread that runs ends its time slice before one that waits gets
// its core, even on Linux and from a thread like this, so it sleeps after 0.1 ms of reading too. With two cores half
// busy, a swap of 512 MiB made the p99 of requests 2.4 times as long; either alone left 1.6 times. In a thread of its
// own: those that a pool starts would be as slow as the one that has them started.
ModelFile ReadAside(const std::string& path) {
  const auto read = [&path] {
#ifdef __linux__
    static_cast<void>(nice(10));  // of this thread alone, unlike in POSIX
#endif
    return ReadModelFile(path, [] { std::this_thread::sleep_for(std::chrono::microseconds(100)); });
  };
  return std::async(std::launch::async, read).get();
}

// How often the old version is looked at until its leases are back.
constexpr std::chrono::milliseconds kPoll{1};

}  // namespace

// A model with its idle scorers. The registry and leases share it: when the last of them lets go, all of it is freed.
struct ModelRegistry::Version {
  Version(Model loaded, const ScorerOptions& scorer_options) : model(std::move(loaded)), options(scorer_options) {}

  std::unique_ptr<Scorer> Take() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!idle.empty()) {
        std::unique_ptr<Scorer> scorer = std::move(idle.back());
        idle.pop_back();
        return scorer;
      }
    }
    auto scorer = std::make_unique<Scorer>(model, options);
    const std::lock_guard<std::mutex> lock(mutex);
    idle.reserve(scorers + 1);  // giving a scorer back, in a destructor, must not need memory
    ++scorers;
    return scorer;
  }

  void Return(std::unique_ptr<Scorer> scorer) {
    const std::lock_guard<std::mutex> lock(mutex);
    idle.push_back(std::move(scorer));
  }

  size_t Scorers() {
    const std::lock_guard<std::mutex> lock(mutex);
    return scorers;
  }

  const Model model;
  const ScorerOptions options;
  std::mutex mutex;
  std::vector<std::unique_ptr<Scorer>> idle;
  size_t scorers = 0;  // idle or leased
  int64_t number = 1;  // set before anybody else sees it
};

struct ModelRegistry::State {
  // A version whose `scorers` scorers have scored the certificate, which warms them up. Throws ModelFileError.
  std::shared_ptr<Version> Make(Model model, size_t scorers) const {
    auto version = std::make_shared<Version>(std::move(model), options);
    const Certificate certificate(version->model);
    for (version->scorers = scorers; version->idle.size() < scorers;) {
      auto scorer = std::make_unique<Scorer>(version->model, options);
      if (const double error = certificate.Check(*scorer); error > kTolerance) {
        throw ModelFileError("certificate: expected probabilities within " + std::to_string(kTolerance) + ", got " +
                             std::to_string(error));
      }
      version->idle.push_back(std::move(scorer));
    }
    return version;
  }

  void LoadWanted();

  ScorerOptions options;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::shared_ptr<Version> current;
  std::optional<std::string> wanted;  // path that is loaded next
  bool loading = false;               // something is wanted or being loaded
  bool running = false;               // the loader has not ended
  bool stopping = false;
  std::string error;
  std::thread loader;
};

// The loader's thread: loads what is wanted until nothing is. The lock is held but while it loads and frees.
void ModelRegistry::State::LoadWanted() {
  std::unique_lock<std::mutex> lock(mutex);
  while (wanted.has_value() && !stopping) {
    const std::string path = *std::exchange(wanted, std::nullopt);
    const size_t scorers = std::max<size_t>(current->Scorers(), 1);
    std::shared_ptr<Version> replaced;
    std::string refusal;
    lock.unlock();
    try {
      replaced = Make(Model::Parts::Of(ReadAside(path)), scorers);
    } catch (const std::exception& exception) {
      refusal = exception.what();
      if (refusal.find(path) == std::string::npos) refusal = path + ": " + refusal;
    }
    lock.lock();
    error = refusal;
    if (replaced != nullptr) {
      replaced->number = current->number + 1;
      current.swap(replaced);
    }
    loading = wanted.has_value();
    changed.notify_all();
    while (replaced != nullptr && replaced.use_count() > 1 && !stopping) changed.wait_for(lock, kPoll);
    lock.unlock();
    replaced.reset();  // here, where nobody waits for a score
    TrimHeap();
    lock.lock();
  }
  running = false;
}

ModelRegistry::ModelRegistry(const std::string& path, ScorerOptions options) : state_(std::make_unique<State>()) {
  state_->options = options;
  state_->current = state_->Make(Model::load(path), 1);
}

ModelRegistry::ModelRegistry(ModelRegistry&&) noexcept = default;

ModelRegistry& ModelRegistry::operator=(ModelRegistry&& other) noexcept {
  ModelRegistry taken(std::move(other));
  state_.swap(taken.state_);
  return *this;
}

ModelRegistry::~ModelRegistry() {
  if (state_ == nullptr) return;  // moved from
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->stopping = true;
    state_->changed.notify_all();
  }
  if (state_->loader.joinable()) state_->loader.join();
  state_.reset();
  TrimHeap();
}

ModelRegistry::Lease ModelRegistry::lease() {
  std::shared_ptr<Version> version;
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    version = state_->current;
  }
  std::unique_ptr<Scorer> scorer = version->Take();
  return Lease(std::move(version), std::move(scorer));
}

Model ModelRegistry::model() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->current->model;
}

int64_t ModelRegistry::version() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->current->number;
}

bool ModelRegistry::loading() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->loading;
}

std::string ModelRegistry::error() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->error;
}

void ModelRegistry::replace(const std::string& path) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  if (!state_->running) {
    if (state_->loader.joinable()) state_->loader.join();  // it has ended
    state_->loader = std::thread([state = state_.get()] { state->LoadWanted(); });
    state_->running = true;
  }
  state_->wanted = path;
  state_->loading = true;
}

bool ModelRegistry::wait() const {
  std::unique_lock<std::mutex> lock(state_->mutex);
  state_->changed.wait(lock, [this] { return !state_->loading; });
  return state_->error.empty();
}

ModelRegistry::Lease::Lease(std::shared_ptr<Version> version, std::unique_ptr<Scorer> scorer)
    : version_(std::move(version)), scorer_(std::move(scorer)) {}

ModelRegistry::Lease::Lease(Lease&&) noexcept = default;

ModelRegistry::Lease& ModelRegistry::Lease::operator=(Lease&& other) noexcept {
  Lease taken(std::move(other));
  version_.swap(taken.version_);
  scorer_.swap(taken.scorer_);
  return *this;
}

ModelRegistry::Lease::~Lease() {
  if (scorer_ != nullptr) version_->Return(std::move(scorer_));
}

const Model& ModelRegistry::Lease::model() const { return version_->model; }
int64_t ModelRegistry::Lease::version() const { return version_->number; }

}  // namespace din_infer
