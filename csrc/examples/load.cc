// Open-loop load: requests are sent at the times of a Poisson process, whether earlier ones are answered or not, and
// each is timed from when it was to be sent. So a server that falls behind cannot slow its clients down, and shows it.
#include <absl/flags/flag.h>
#include <absl/flags/parse.h>
#include <absl/flags/usage.h>
#include <absl/flags/usage_config.h>
#include <absl/strings/match.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "scoring.grpc.pb.h"

ABSL_FLAG(std::string, server, "127.0.0.1:50051", "address");
ABSL_FLAG(std::vector<std::string>, rates, {"100"}, "requests a second, one run for each");
ABSL_FLAG(double, seconds, 10, "of each run");
ABSL_FLAG(int, deadline_ms, 2000, "milliseconds after which a request is given up");
ABSL_FLAG(unsigned, seed, 1, "of the Poisson process");
ABSL_FLAG(bool, json, false, "print the runs as JSON");
ABSL_FLAG(bool, print, false,
          "send each request once, all at the same time, and print the replies as JSON, a line each");

namespace din_infer::examples {
namespace {

using Clock = std::chrono::steady_clock;

struct Sent {
  grpc::ClientContext context;
  Reply reply;
  grpc::Status status;
  double milliseconds = 0;
};

// Calls that are under way.
class Client {
 public:
  Client()
      : stub_(Scoring::NewStub(grpc::CreateChannel(absl::GetFlag(FLAGS_server), grpc::InsecureChannelCredentials()))) {}

  void Send(const Request& request, Clock::time_point due, Sent& sent) {
    sent.context.set_wait_for_ready(true);
    sent.context.set_deadline(std::chrono::system_clock::now() +
                              std::chrono::milliseconds(absl::GetFlag(FLAGS_deadline_ms)));
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ++running_;
    }
    stub_->async()->Score(&sent.context, &request, &sent.reply, [this, due, &sent](grpc::Status status) {
      sent.milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - due).count();
      sent.status = std::move(status);
      const std::lock_guard<std::mutex> lock(mutex_);
      if (--running_ == 0) done_.notify_all();
    });
  }

  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return running_ == 0; });
  }

 private:
  std::unique_ptr<Scoring::Stub> stub_;
  std::mutex mutex_;
  std::condition_variable done_;
  int64_t running_ = 0;
};

// Nearest rank: the smallest number that `share` of all do not exceed.
double Quantile(const std::vector<double>& sorted, double share) {
  if (sorted.empty()) return std::nan("");
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::max<size_t>(rank, 1) - 1];
}

struct Run {
  Run(double offered_rate, const std::vector<std::unique_ptr<Sent>>& all) : rate(offered_rate) {
    for (const std::unique_ptr<Sent>& sent : all) {
      if (sent->status.ok()) {
        milliseconds.push_back(sent->milliseconds);
        versions = std::max(versions, sent->reply.model_version());
      } else if (sent->status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
        ++overloaded;
      } else {
        ++failed;
        error = sent->status.error_message();
      }
    }
    std::sort(milliseconds.begin(), milliseconds.end());
  }

  void Print(bool json, double seconds) const {
    const char* format =
        json ? R"({"offered_per_s": %g, "answered_per_s": %.1f, "ok": %zu, "overloaded": %lld, "failed": %lld, )"
               R"("p50_ms": %.3f, "p99_ms": %.3f, "p99_9_ms": %.3f, "max_ms": %.3f, "model_version": %lld})"
             : "%8g %9.1f %8zu %10lld %7lld %9.3f %9.3f %9.3f %9.3f %8lld\n";
    std::printf(format, rate, static_cast<double>(milliseconds.size()) / seconds, milliseconds.size(),
                static_cast<long long>(overloaded), static_cast<long long>(failed), Quantile(milliseconds, 0.5),
                Quantile(milliseconds, 0.99), Quantile(milliseconds, 0.999), Quantile(milliseconds, 1),
                static_cast<long long>(versions));
    std::fflush(stdout);
    if (failed > 0) std::fprintf(stderr, "%lld failed: %s\n", static_cast<long long>(failed), error.c_str());
  }

  double rate;
  std::vector<double> milliseconds;
  int64_t overloaded = 0, failed = 0, versions = 0;
  std::string error;
};

Run Offer(const std::vector<Request>& requests, double rate, double seconds) {
  std::mt19937_64 random(absl::GetFlag(FLAGS_seed));
  std::exponential_distribution<double> gap(rate);
  std::vector<std::unique_ptr<Sent>> all;
  Client client;
  const Clock::time_point begin = Clock::now();
  for (double at = gap(random); at < seconds; at += gap(random)) {
    const auto due = begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(at));
    std::this_thread::sleep_until(due);
    client.Send(requests[random() % requests.size()], due, *all.emplace_back(std::make_unique<Sent>()));
  }
  client.Wait();
  return Run(rate, all);
}

void Print(const std::vector<Request>& requests) {
  Client client;
  std::vector<Sent> all(requests.size());
  for (size_t i = 0; i < all.size(); ++i) client.Send(requests[i], Clock::now(), all[i]);
  client.Wait();
  for (const Sent& sent : all) {
    std::string line = "{\"error\": " + std::to_string(sent.status.error_code()) + "}";
    if (!sent.status.ok()) std::fprintf(stderr, "%s\n", sent.status.error_message().c_str());
    if (sent.status.ok() && !google::protobuf::util::MessageToJsonString(sent.reply, &(line = "")).ok()) std::abort();
    std::printf("%s\n", line.c_str());
  }
}

}  // namespace
}  // namespace din_infer::examples

int main(int argc, char** argv) {
  using namespace din_infer::examples;
  absl::SetProgramUsageMessage(
      "din_infer_load [FLAGS] REQUESTS, a file with a Request of scoring.proto as JSON a line");
  absl::FlagsUsageConfig help;
  help.contains_help_flags = [](absl::string_view file) { return absl::EndsWith(file, "load.cc"); };
  absl::SetFlagsUsageConfig(help);
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  std::vector<Request> requests;
  std::ifstream file(arguments.size() == 2 ? arguments[1] : "");
  for (std::string line; std::getline(file, line);) {
    const auto status = google::protobuf::util::JsonStringToMessage(line, &requests.emplace_back());
    if (!status.ok()) return std::fprintf(stderr, "%s\n", status.ToString().c_str()), 2;
  }
  if (requests.empty()) return std::fprintf(stderr, "expected a file with requests\n"), 2;
  if (absl::GetFlag(FLAGS_print)) return Print(requests), 0;

  const bool json = absl::GetFlag(FLAGS_json);
  const double seconds = absl::GetFlag(FLAGS_seconds);
  if (!json)
    std::printf(" offered  answered       ok overloaded  failed    p50 ms    p99 ms  p99.9 ms    max ms  version\n");
  const char* separator = "[";
  for (const std::string& text : absl::GetFlag(FLAGS_rates)) {
    const double rate = std::atof(text.c_str());
    if (!(rate > 0)) return std::fprintf(stderr, "rates: expected numbers above 0, got %s\n", text.c_str()), 2;
    if (json) std::printf("%s", std::exchange(separator, ",\n "));
    Offer(requests, rate, seconds).Print(json, seconds);
  }
  if (json) std::printf("]\n");
  return 0;
}
