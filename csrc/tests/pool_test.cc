#include "engine/pool.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "engine/parallel.hpp"

namespace din_infer {
namespace {

using std::chrono::milliseconds;
using Task = void (*)(void* context, int64_t index);

int64_t Processors() {
  cpu_set_t allowed;
  return sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
}

std::ptrdiff_t Threads() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
}

// The kernel lists a thread for a moment after it was joined. ThreadSanitizer has one of its own, which comes and goes.
void ExpectThreads([[maybe_unused]] std::ptrdiff_t count) {
#ifndef __SANITIZE_THREAD__
  for (int wait = 0; wait < 200 && Threads() != count; ++wait) std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(Threads(), count);
#endif
}

template <class Body>
void RunAll(int64_t count, const Body& body) {
  const Task task = [](void* context, int64_t index) { (*static_cast<const Body*>(context))(index); };
  RunOnPool(count, task, const_cast<Body*>(&body));
}

// Has as many threads at once in a task as there are processors, so that workers take part.
template <class Run, class Body>
void RunTogether(const Run& run, const Body& body) {
  const int64_t count = Processors();
  std::atomic<int64_t> there{0};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  run(count, [&](int64_t index) {
    ++there;
    while (there < count && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    body(index);
  });
  EXPECT_EQ(there, count);
  EXPECT_LT(std::chrono::steady_clock::now(), deadline) << "a worker did not come";
}

template <class Body>
void RunTogether(const Body& body) {
  RunTogether([](int64_t count, const auto& task) { RunAll(count, task); }, body);
}

TEST(Pool, CallsEachIndexOnceForManyCallersAtOnce) {
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 8; ++caller) {
    callers.emplace_back([caller] {
      for (int64_t round = 0; round < 300; ++round) {
        const int64_t count = 2 + (round * 7 + caller) % 40;
        std::vector<int64_t> calls(static_cast<size_t>(count));  // plain, as what tasks write the caller has to see
        RunAll(count, [&](int64_t index) { calls[static_cast<size_t>(index)] += index + 1; });
        for (int64_t index = 0; index < count; ++index) EXPECT_EQ(calls[static_cast<size_t>(index)], index + 1);
        if (round % 50 == caller) std::this_thread::sleep_for(milliseconds(1));  // until workers sleep
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(Pool, RunsCallsInsideOfTasks) {
  std::atomic<int64_t> calls{0};
  RunTogether([&](int64_t) { RunAll(5, [&](int64_t) { RunAll(3, [&](int64_t) { ++calls; }); }); });
  EXPECT_EQ(calls, Processors() * 15);
}

TEST(Pool, StartsNoMoreWorkersThanProcessorsHaveRoomFor) {
  RunTogether([](int64_t) {});
  std::this_thread::sleep_for(milliseconds(50));  // until threads of other tests are gone
  const std::ptrdiff_t before = Threads();
  for (const int64_t count : {2, 3, 64, 1000}) RunAll(count, [](int64_t) {});
  ExpectThreads(before);
}

TEST(Pool, WorkersRunWhereTheirCallerMay) {
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  for (int round = 0; round < 20; ++round) {
    RunTogether([&](int64_t) {
      cpu_set_t own;
      EXPECT_EQ(sched_getaffinity(0, sizeof(own), &own), 0);
      EXPECT_TRUE(CPU_EQUAL(&own, &allowed)) << CPU_COUNT(&own) << " processors of " << CPU_COUNT(&allowed);
    });
    std::this_thread::sleep_for(milliseconds(2));  // until workers sleep
  }
}

void Allow(pid_t thread, const cpu_set_t& set) { ASSERT_EQ(sched_setaffinity(thread, sizeof(set), &set), 0); }

// What a worker may run on tells: the pool does not touch it but to let a worker wake elsewhere.
TEST(Pool, WorkersThatWokeBesideTheirCallerWakeElsewhereTheNextTime) {
  if (Processors() < 2) GTEST_SKIP() << "one processor";
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  std::vector<pid_t> threads(static_cast<size_t>(Processors()));
  std::vector<int> may(threads.size());
  const auto run = [&] {
    RunTogether([&](int64_t index) {
      threads[static_cast<size_t>(index)] = gettid();
      cpu_set_t own;
      EXPECT_EQ(sched_getaffinity(0, sizeof(own), &own), 0);
      may[static_cast<size_t>(index)] = CPU_COUNT(&own);
    });
    std::this_thread::sleep_for(milliseconds(2));  // until workers sleep
  };
  const auto run_beside = [&] {  // workers may wake on the caller's processor only
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(static_cast<size_t>(sched_getcpu()), &here);
    for (size_t i = 1; i < threads.size(); ++i) Allow(threads[i], here);
    run();
  };
  run();
  run_beside();
  run_beside();
  EXPECT_GT(*std::max_element(may.begin() + 1, may.end()), 1) << "workers that woke late were left where they were";
  for (size_t i = 1; i < threads.size(); ++i) Allow(threads[i], allowed);
}

TEST(Pool, SleepsWhileNothingIsToBeDone) {
  RunTogether([](int64_t) {});
  std::this_thread::sleep_for(milliseconds(5));
  const std::clock_t before = std::clock();  // of the whole process
  std::this_thread::sleep_for(milliseconds(200));
  EXPECT_LT(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC, 0.05);
}

TEST(Pool, ThrowsWhatAnItemThrowsAndGoesOn) {
  Parallel parallel(3);
  for (int round = 0; round < 50; ++round) {
    EXPECT_THROW(parallel.For(50,
                              [](int64_t item, int) {
                                if (item % 20 == 13) throw std::runtime_error("thirteen");
                              }),
                 std::runtime_error);
    std::atomic<int64_t> sum{0};
    parallel.For(50, [&](int64_t item, int) { sum += item; });
    EXPECT_EQ(sum, 49 * 25);
  }
}

#ifndef __SANITIZE_THREAD__  // which gives up where a forked child starts a thread
TEST(Pool, WorksInChildrenForkedWhileOthersCall) {
  std::atomic<bool> done{false};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&] {
      while (!done) RunAll(4, [](int64_t) {});
    });
  }
  for (int round = 0; round < 100; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      RunTogether([](int64_t) {});
      _exit(::testing::Test::HasFailure() || Threads() != Processors());
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  done = true;
  for (std::thread& caller : callers) caller.join();
}
#endif

#ifndef __SANITIZE_THREAD__  // which has a thread of its own
// In a process of its own, which has no worker yet: to start one is to wake one.
TEST(Pool, IsNotWokenForALittleWorkUnlessCallsFollowEachOther) {
  if (Processors() == 1) GTEST_SKIP() << "needs two processors";
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto run = [] {
    least_work_to_wake = 100;
    const Parallel two(2);
    const auto call = [&](int64_t work) {
      std::atomic<int> done{0};
      two.ForCall(work, 1).For(2, [&](int64_t, int) { ++done; });
      return done == 2;
    };
    const auto before = Threads();
    const auto started = [&] { return Threads() - before; };
    for (int pause = 0; pause < 3; ++pause) {
      std::this_thread::sleep_for(milliseconds(1));
      if (!call(198) || started() != 0) std::exit(1);
    }
    for (int time = 0; time < 1000 && started() == 0; ++time) {
      call(198), call(198);
    }
    std::exit(started() == 1 ? 7 : 2);
  };
  EXPECT_EXIT(run(), ::testing::ExitedWithCode(7), "");
  const auto run_more = [] {
    least_work_to_wake = 100;
    const auto before = Threads();
    Parallel(2).ForCall(200, 1).For(2, [](int64_t, int) {});
    std::exit(Threads() - before == 1 ? 7 : 1);
  };
  EXPECT_EXIT(run_more(), ::testing::ExitedWithCode(7), "");
}
#endif

TEST(Pool, LetsTheProcessExitWhileOthersCall) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto exit_while_others_call = [] {
    for (int caller = 0; caller < 3; ++caller) {
      std::thread([] {
        for (;;) RunAll(4, [](int64_t) {});
      }).detach();
    }
    RunTogether([](int64_t) {});
    std::exit(7);
  };
  for (int round = 0; round < 3; ++round) EXPECT_EXIT(exit_while_others_call(), ::testing::ExitedWithCode(7), "");
}

TEST(Pool, EndsItsThreadsBeforeItsLibraryIsUnloaded) {
  std::this_thread::sleep_for(milliseconds(50));  // until threads of other tests are gone
  const std::ptrdiff_t before = Threads();
  for (int round = 0; round < 20; ++round) {
    void* const library = dlopen(DIN_INFER_POOL_MODULE, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << dlerror();
    const auto run = reinterpret_cast<void (*)(int64_t, Task, void*)>(dlsym(library, "run_on_pool"));
    ASSERT_NE(run, nullptr);
    const auto run_all = [run](int64_t count, const auto& body) {
      using Body = std::remove_reference_t<decltype(body)>;
      run(
          count, [](void* context, int64_t index) { (*static_cast<Body*>(context))(index); },
          const_cast<std::remove_const_t<Body>*>(&body));
    };
    RunTogether(run_all, [&](int64_t) { ExpectThreads(before + Processors() - 1); });
    if (round % 2 == 0) std::this_thread::sleep_for(milliseconds(1));  // until workers sleep
    ASSERT_EQ(dlclose(library), 0);
    ExpectThreads(before);
    EXPECT_EQ(dlopen(DIN_INFER_POOL_MODULE, RTLD_NOW | RTLD_NOLOAD), nullptr);
  }
}

}  // namespace
}  // namespace din_infer
