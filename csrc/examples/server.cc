// A ranking server: one user and any number of candidates a request, micro-batches, an admission limit, and a new model
// whenever the file is replaced, by a rename. SIGTERM ends it once the running requests are answered.
#include <absl/flags/flag.h>
#include <absl/flags/parse.h>
#include <absl/flags/usage.h>
#include <absl/flags/usage_config.h>
#include <absl/strings/match.h>
#include <din_infer/din_infer.hpp>
#include <grpcpp/grpcpp.h>
#include <sys/stat.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <exception>
#include <memory>
#include <string>
#include <tuple>

#include "batcher.hpp"
#include "scoring.grpc.pb.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:50051", "address; of port 0 a free one is taken, and printed");
ABSL_FLAG(int, workers, 2, "threads that score");
ABSL_FLAG(int, queue, 256, "requests that may wait; more are answered \"overloaded\"");
ABSL_FLAG(int, batch, 16, "requests that are scored in one call at most; 1 for no micro-batching");
ABSL_FLAG(int, wait_us, 500, "microseconds that a request waits at most for others to be scored with");

namespace din_infer::examples {
namespace {

constexpr size_t kMostScratch = size_t{64} << 20;   // bytes that a worker keeps from one batch to the next
constexpr size_t kMostOfCalls = size_t{128} << 20;  // bytes of all clients' calls that gRPC holds

class Service final : public Scoring::CallbackService {
 public:
  explicit Service(Batcher& batcher) : batcher_(batcher) {}

  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context, const Request* request, Reply* reply) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    if (!batcher_.Add({request, reply, context, reactor, std::chrono::steady_clock::now()})) {
      reactor->Finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "overloaded"});
    }
    return reactor;
  }

 private:
  Batcher& batcher_;
};

// Has the registry load the model file when another one has its name.
class Watcher {
 public:
  explicit Watcher(std::string path) : path_(std::move(path)), seen_(Look()) {}

  void Check(ModelRegistry& registry) {
    if (const Identity now = Look(); now != seen_) {
      seen_ = now, loading_ = true;
      registry.replace(path_);
    }
    if (!loading_ || registry.loading()) return;
    loading_ = false;
    if (const std::string error = registry.error(); !error.empty()) {
      std::printf("refused: %s\n", error.c_str());
    } else {
      std::printf("version %lld serves\n", static_cast<long long>(registry.version()));
    }
    std::fflush(stdout);
  }

 private:
  using Identity = std::tuple<dev_t, ino_t, off_t, time_t, long>;

  Identity Look() const {
    struct stat file{};
    if (stat(path_.c_str(), &file) != 0) return seen_;  // between two files: it is looked at again
    return {file.st_dev, file.st_ino, file.st_size, file.st_mtim.tv_sec, file.st_mtim.tv_nsec};
  }

  const std::string path_;
  Identity seen_{};
  bool loading_ = false;
};

int Serve(const std::string& path) {
  sigset_t end;
  sigemptyset(&end);
  for (const int signal : {SIGINT, SIGTERM}) sigaddset(&end, signal);
  pthread_sigmask(SIG_BLOCK, &end, nullptr);  // here and in all threads that are started from here on

  Watcher watcher(path);
  ScorerOptions options;
  options.max_scratch_bytes = kMostScratch;
  ModelRegistry registry(path, options);
  Batcher batcher(registry, {absl::GetFlag(FLAGS_workers), static_cast<size_t>(absl::GetFlag(FLAGS_queue)),
                             static_cast<size_t>(absl::GetFlag(FLAGS_batch)),
                             std::chrono::microseconds(absl::GetFlag(FLAGS_wait_us))});
  Service service(batcher);
  // Calls that gRPC has taken and nobody has seen yet are memory too: what exceeds this waits at the client.
  const int calls = absl::GetFlag(FLAGS_queue) + absl::GetFlag(FLAGS_workers) * absl::GetFlag(FLAGS_batch);
  const std::string address = absl::GetFlag(FLAGS_listen);
  int port = 0;
  grpc::ServerBuilder builder;
  builder.SetResourceQuota(grpc::ResourceQuota("calls").Resize(kMostOfCalls));
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);                 // a second server on the port is an error
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 2 * calls);  // of each client
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    std::fprintf(stderr, "cannot listen on %s\n", address.c_str());
    return 1;
  }
  std::printf("listening on %s:%d\n", address.substr(0, address.rfind(':')).c_str(), port);
  std::fflush(stdout);

  constexpr timespec kPause{0, 200'000'000};
  while (sigtimedwait(&end, nullptr, &kPause) < 0) watcher.Check(registry);
  batcher.Hurry();
  server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(10));  // waits for the calls that are there
  return 0;
}

}  // namespace
}  // namespace din_infer::examples

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("din_infer_server [FLAGS] MODEL.onnx");
  absl::FlagsUsageConfig help;
  help.contains_help_flags = [](absl::string_view file) { return absl::EndsWith(file, "server.cc"); };
  absl::SetFlagsUsageConfig(help);
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  const auto within = [](const absl::Flag<int>& flag, int least, int most) {
    return absl::GetFlag(flag) >= least && absl::GetFlag(flag) <= most;
  };
  if (arguments.size() != 2 || !within(FLAGS_workers, 1, 1024) || !within(FLAGS_queue, 1, 1 << 20) ||
      !within(FLAGS_batch, 1, 4096) || absl::GetFlag(FLAGS_wait_us) < 0) {
    std::fprintf(stderr,
                 "expected one model file, 1 to 1024 workers, 1 to 1048576 requests in the queue, 1 to 4096 in a "
                 "batch, and a wait of 0 us or more\n");
    return 2;
  }
  try {
    return din_infer::examples::Serve(arguments[1]);
  } catch (const std::exception& error) {  // the library's, and threads that the system refuses
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
