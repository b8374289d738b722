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
      seen_ = now;
      registry.replace(path_);
    }
    if (registry.version() != version_) {
      version_ = registry.version();
      std::printf("version %lld serves\n", static_cast<long long>(version_));
    }
    if (const std::string error = registry.error(); error != error_) {
      error_ = error;
      if (!error.empty()) std::printf("refused: %s\n", error.c_str());
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
  int64_t version_ = 1;
  std::string error_;
};

int Serve(const std::string& path) {
  sigset_t end;
  sigemptyset(&end);
  for (const int signal : {SIGINT, SIGTERM}) sigaddset(&end, signal);
  pthread_sigmask(SIG_BLOCK, &end, nullptr);  // here and in all threads that are started from here on

  Watcher watcher(path);
  ModelRegistry registry(path);
  Batcher batcher(registry, {absl::GetFlag(FLAGS_workers), static_cast<size_t>(absl::GetFlag(FLAGS_queue)),
                             static_cast<size_t>(absl::GetFlag(FLAGS_batch)),
                             std::chrono::microseconds(absl::GetFlag(FLAGS_wait_us))});
  Service service(batcher);
  // Calls that gRPC has taken and nobody has seen yet are memory too: what exceeds this waits at the client.
  const int calls = absl::GetFlag(FLAGS_queue) + absl::GetFlag(FLAGS_workers) * absl::GetFlag(FLAGS_batch);
  const std::string address = absl::GetFlag(FLAGS_listen);
  int port = 0;
  grpc::ServerBuilder builder;
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
  const bool fits = arguments.size() == 2 && absl::GetFlag(FLAGS_workers) > 0 && absl::GetFlag(FLAGS_queue) > 0 &&
                    absl::GetFlag(FLAGS_batch) > 0 && absl::GetFlag(FLAGS_wait_us) >= 0;
  if (!fits) {
    std::fprintf(stderr, "expected one model file, and at least 1 worker, 1 request in queue and batch, 0 wait_us\n");
    return 2;
  }
  try {
    return din_infer::examples::Serve(arguments[1]);
  } catch (const din_infer::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
