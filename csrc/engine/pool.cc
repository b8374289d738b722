#include "engine/pool.hpp"

#include <hwy/cache_control.h>
#include <pthread.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace din_infer {
namespace {

// Turns that a thread waits awake. A worker without work: 20 us on a Zen 4, half of what it takes to wake a thread. A
// caller whose helpers do their last item, which takes about as long as its own: 200 us. If it slept, it would be woken
// late, and now and then on its helper's processor, where both would go on.
constexpr int kWorkerSpins = 1000;
constexpr int kCallerSpins = 10'000;
constexpr std::chrono::microseconds kJustNow{20};

// Sleeping workers that a thread calls before it turns to its task, 2 to 4 us for each; those that it called call more.
constexpr int kCalls = 4;

// A worker that began on the processor of the thread that called it, or this late, waited behind a call that it was to
// help, until that ended or the scheduler moved it. In some virtual machines Linux wakes threads there, as processors
// that have been idle for a while pass for busy. For its next kCallsApart calls it is woken anywhere but there, which
// costs its caller and itself microseconds. DESIGN.md has the figures.
constexpr std::chrono::milliseconds kLate{1};
constexpr int kCallsApart = 1000;

// What a calling thread may run on, and so its workers.
#if defined(__linux__)
class Processors {
 public:
  static Processors OfThisThread() {
    Processors result;
    if (sched_getaffinity(0, sizeof(cpu_set_t), &result.all_) != 0) CPU_ZERO(&result.all_);
    result.others_ = result.all_;
    return result.CalledFromHere();
  }

  Processors CalledFromHere() const {
    Processors result = *this;
    result.from_ = sched_getcpu();
    CPU_CLR(static_cast<size_t>(result.from_), &result.others_);
    return result;
  }

  bool operator!=(const Processors& other) const { return !CPU_EQUAL(&all_, &other.all_); }

  int Count() const {
    const int count = CPU_COUNT(&all_);
    return count > 0 ? count : static_cast<int>(std::thread::hardware_concurrency());
  }

  bool ThisThreadIsBesideItsCaller() const { return sched_getcpu() == from_; }
  void AllowOthers(pthread_t thread) const { Allow(thread, others_); }
  void AllowAll(pthread_t thread) const { Allow(thread, all_); }

 private:
  static void Allow(pthread_t thread, const cpu_set_t& set) {
    if (CPU_COUNT(&set) > 0) pthread_setaffinity_np(thread, sizeof(cpu_set_t), &set);
  }

  cpu_set_t all_{}, others_{};  // `others_`: without those of the call's thread and of the one that called the worker
  int from_ = -1;
};
#else
struct Processors {
  static Processors OfThisThread() { return {}; }
  Processors CalledFromHere() const { return {}; }
  bool operator!=(const Processors&) const { return false; }
  int Count() const { return static_cast<int>(std::thread::hardware_concurrency()); }
  bool ThisThreadIsBesideItsCaller() const { return false; }
  void AllowOthers(pthread_t) const {}
  void AllowAll(pthread_t) const {}
};
#endif

template <class Condition>
void SpinWhile(int spins, const Condition& waiting) {
  for (int i = 0; i < spins && waiting(); ++i) hwy::Pause();
}

struct Job {
  void (*task)(void* context, int64_t index);
  void* context;
  int64_t count;
  bool wake;
  Processors processors = Processors::OfThisThread();
  int64_t next = 1;             // the first index that nobody has taken
  std::atomic<int> helpers{0};  // workers that are in a task
  std::condition_variable helped{};
  Job* other = nullptr;
};

class Worker {
 public:
  explicit Worker(const Processors& creators) : processors_(creators) {}

  void Call(const Processors& callers) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (apart_ > 0) {
      callers.AllowOthers(thread.native_handle());
    } else if (callers != processors_) {
      callers.AllowAll(thread.native_handle());
    }
    processors_ = callers;
    called_ = true, called_at_ = Clock::now();
    wake_.notify_one();  // under the mutex: then the worker may be gone
  }

  void WaitForCall() {
    std::unique_lock<std::mutex> lock(mutex_);
    wake_.wait(lock, [&] { return called_; });
    called_ = false;
    if (apart_ > 0) {
      --apart_;
      processors_.AllowAll(pthread_self());
    } else if (processors_.ThisThreadIsBesideItsCaller() || Clock::now() - called_at_ > kLate) {
      apart_ = kCallsApart;
    }
  }

  std::thread thread{};
  Worker* other_asleep = nullptr;
  Worker* other = nullptr;

 private:
  using Clock = std::chrono::steady_clock;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool called_ = false;
  Clock::time_point called_at_;
  Processors processors_;  // its caller's
  int apart_ = 0;          // calls for which it is to wake elsewhere
};

// Workers that were asleep: this thread is to call them.
class Called {
 public:
  explicit Called(const Processors& callers) : callers_(callers) {}

  const Processors& callers() const { return callers_; }
  bool Full() const { return count_ == workers_.size(); }
  void Add(Worker* worker) { workers_[count_++] = worker; }
  void Call() {
    if (count_ == 0) return;
    const Processors callers = callers_.CalledFromHere();
    for (size_t i = 0; i < count_; ++i) workers_[i]->Call(callers);
  }

 private:
  const Processors& callers_;
  std::array<Worker*, kCalls> workers_{};
  size_t count_ = 0;
};

// Everything is under the mutex but the tasks, calls of workers, and what spinning threads read. It is there before any
// code runs and has nothing to destroy, since threads may still score while a process exits.
class Pool {
 public:
  void Run(Job& job) {
    Open(job);
    job.task(job.context, 0);
    for (int64_t index = Close(job); index < job.count; ++index) job.task(job.context, index);
    SpinWhile(kCallerSpins, [&] { return job.helpers > 0; });
    std::unique_lock<std::mutex> lock(mutex_);
    job.helped.wait(lock, [&] { return job.helpers == 0; });
  }

  void Stop() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopped_ = true;
      ++changes_;
      const Processors processors = Processors::OfThisThread();
      for (; asleep_ != nullptr; asleep_ = asleep_->other_asleep) asleep_->Call(processors);
    }
    while (workers_ != nullptr) {
      const std::unique_ptr<Worker> worker(workers_);
      worker->thread.join();
      workers_ = worker->other;
    }
  }

  // A child has none of the threads. While its parent forks, nobody else changes anything.
  void BeforeFork() { mutex_.lock(); }
  void AfterFork() { mutex_.unlock(); }
  void AfterForkInChild() {
    jobs_ = nullptr, workers_ = asleep_ = nullptr;
    count_ = 0, looking_ = free_ = 0;
    mutex_.unlock();
  }

 private:
  // Offers all tasks but the first to workers, or to those that are awake.
  void Open(Job& job) {
    Called called(job.processors);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      job.other = std::exchange(jobs_, &job);
      ++changes_;
      if (job.wake) {
        free_ += job.count - job.next;
        FindHelp(called);
      }
    }
    called.Call();
  }

  // For the tasks that nobody has taken and that workers are woken for, as far as nobody looks for them.
  void FindHelp(Called& called) {
    if (stopped_) return;
    while (looking_ < free_ && !called.Full()) {
      if (asleep_ != nullptr) {
        called.Add(asleep_);
        asleep_ = asleep_->other_asleep;
        ++looking_;
      } else if (count_ + 1 >= called.callers().Count() || !Start(called.callers())) {
        break;
      }
    }
  }

  // Takes what is left back, and returns the first index of it.
  int64_t Close(Job& job) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Job** place = &jobs_;
    while (*place != &job) place = &(*place)->other;
    *place = job.other;
    if (job.wake) free_ -= job.count - job.next;
    return std::exchange(job.next, job.count);
  }

  bool Start(const Processors& creators);

  void Work(Worker& self) {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stopped_) {
      if (Job* const job = Find(); job != nullptr) {
        Help(*job, lock);
        continue;
      }
      const int64_t seen = changes_;
      lock.unlock();
      SpinWhile(kWorkerSpins, [&] { return changes_ == seen; });
      lock.lock();
      if (changes_ == seen) Sleep(self, lock);
    }
  }

  Job* Find() const {
    Job* job = jobs_;
    while (job != nullptr && job->next == job->count) job = job->other;
    return job;
  }

  void Help(Job& job, std::unique_lock<std::mutex>& lock) {
    const int64_t index = job.next++;
    if (job.wake) --free_;
    --looking_, ++job.helpers;
    Called called(job.processors);
    FindHelp(called);
    lock.unlock();
    called.Call();
    job.task(job.context, index);
    lock.lock();
    ++looking_;
    if (--job.helpers == 0) job.helped.notify_one();  // under the mutex: then the job may be gone
  }

  void Sleep(Worker& self, std::unique_lock<std::mutex>& lock) {
    --looking_;
    self.other_asleep = std::exchange(asleep_, &self);
    lock.unlock();
    self.WaitForCall();
    lock.lock();
  }

  std::mutex mutex_;
  std::atomic<int64_t> changes_{0};  // to what workers look at: jobs that were opened, and the end
  Job* jobs_ = nullptr;              // of calls that go on, the latest first
  Worker* workers_ = nullptr;
  Worker* asleep_ = nullptr;  // the latest first, as its caches are the warmest
  int count_ = 0;             // of workers
  int64_t looking_ = 0;       // workers that look for a task, or have been called to
  int64_t free_ = 0;          // tasks that nobody has taken, of jobs that wake
  bool stopped_ = false;
};

Pool pool;

bool Pool::Start(const Processors& creators) {
  try {
    auto worker = std::make_unique<Worker>(creators);
    worker->thread = std::thread([this, &self = *worker] { Work(self); });
    creators.AllowAll(worker->thread.native_handle());
    worker->other = workers_;
    workers_ = worker.release();
  } catch (const std::exception&) {
    return false;  // no memory or no thread left: then there is less help
  }
  ++count_, ++looking_;
  return true;
}

struct Registered {
  Registered() {
    pthread_atfork([] { pool.BeforeFork(); }, [] { pool.AfterFork(); }, [] { pool.AfterForkInChild(); });
  }
  ~Registered() { pool.Stop(); }
} registered;

thread_local std::chrono::steady_clock::time_point ran_at;

}  // namespace

void RunOnPool(int64_t count, void (*task)(void* context, int64_t index), void* context, bool wake) {
  Job job{task, context, count, wake};
  pool.Run(job);
  ran_at = std::chrono::steady_clock::now();
}

bool RanOnPoolJustNow() { return std::chrono::steady_clock::now() - ran_at < kJustNow; }

}  // namespace din_infer
