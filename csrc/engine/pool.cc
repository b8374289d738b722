#include "engine/pool.hpp"

#include <hwy/cache_control.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>
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

// What a calling thread may run on. Workers may too, but while they are woken anywhere but on the caller's own
// processor. In virtual machines Linux wakes them there, as processors that have been idle for a while pass for busy:
// they would wait behind the call that they are to help until it ends, or until the scheduler moves them milliseconds
// later. DESIGN.md has the figures.
#if defined(__linux__)
class Processors {
 public:
  static Processors OfThisThread() {
    Processors result;
    if (sched_getaffinity(0, sizeof(cpu_set_t), &result.all_) != 0) CPU_ZERO(&result.all_);
    result.others_ = result.all_;
    CPU_CLR(static_cast<size_t>(sched_getcpu()), &result.others_);
    return result;
  }

  int Count() const {
    const int count = CPU_COUNT(&all_);
    return count > 0 ? count : static_cast<int>(std::thread::hardware_concurrency());
  }

  void AllowOthers(pthread_t thread) const { Allow(thread, others_); }
  void AllowAll(pthread_t thread) const { Allow(thread, all_); }

 private:
  void Allow(pthread_t thread, const cpu_set_t& set) const {
    if (CPU_COUNT(&others_) > 0) pthread_setaffinity_np(thread, sizeof(cpu_set_t), &set);
  }

  cpu_set_t all_{}, others_{};
};
#else
struct Processors {
  static Processors OfThisThread() { return {}; }
  int Count() const { return static_cast<int>(std::thread::hardware_concurrency()); }
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
  int64_t next = 1;             // the first index that nobody has taken
  std::atomic<int> helpers{0};  // workers that are in a task
  std::condition_variable helped{};
  Job* other = nullptr;
};

struct Worker {
  std::thread thread{};
  std::condition_variable wake{};
  bool called = false;
  Processors processors{};  // its caller's
  Worker* other_asleep = nullptr;
  Worker* other = nullptr;
};

// Everything is under the mutex but the tasks, and what spinning threads read. It is there before any code runs and has
// nothing to destroy, since threads may still score while a process exits.
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
      while (asleep_ != nullptr) Call({});
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
  // Offers all tasks but the first to workers.
  void Open(Job& job) {
    const std::lock_guard<std::mutex> lock(mutex_);
    job.other = std::exchange(jobs_, &job);
    free_ += job.count - job.next;
    ++changes_;
    if (stopped_ || looking_ >= free_) return;
    const Processors processors = Processors::OfThisThread();
    while (looking_ < free_) {
      if (asleep_ != nullptr) {
        Call(processors);
      } else if (count_ + 1 >= processors.Count() || !Start()) {
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
    free_ -= job.count - job.next;
    return std::exchange(job.next, job.count);
  }

  bool Start();

  void Call(const Processors& callers) {
    Worker& worker = *asleep_;
    asleep_ = worker.other_asleep;
    ++looking_;
    worker.called = true;
    worker.processors = callers;
    callers.AllowOthers(worker.thread.native_handle());
    worker.wake.notify_one();
  }

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
    --free_, --looking_, ++job.helpers;
    lock.unlock();
    job.task(job.context, index);
    lock.lock();
    ++looking_;
    if (--job.helpers == 0) job.helped.notify_one();  // under the mutex: then the job may be gone
  }

  void Sleep(Worker& self, std::unique_lock<std::mutex>& lock) {
    --looking_;
    self.called = false;
    self.other_asleep = std::exchange(asleep_, &self);
    self.wake.wait(lock, [&] { return self.called; });
    self.processors.AllowAll(pthread_self());
  }

  std::mutex mutex_;
  std::atomic<int64_t> changes_{0};  // to what workers look at: jobs that were opened, and the end
  Job* jobs_ = nullptr;              // of calls that go on, the latest first
  Worker* workers_ = nullptr;
  Worker* asleep_ = nullptr;  // the latest first, as its caches are the warmest
  int count_ = 0;             // of workers
  int64_t looking_ = 0;       // workers that look for a task, or have been called to
  int64_t free_ = 0;          // tasks that nobody has taken
  bool stopped_ = false;
};

Pool pool;

bool Pool::Start() {
  try {
    auto worker = std::make_unique<Worker>();
    worker->thread = std::thread([this, &self = *worker] { Work(self); });
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

}  // namespace

void RunOnPool(void*, int64_t count, void (*task)(void* context, int64_t index), void* context) {
  Job job{task, context, count};
  pool.Run(job);
}

}  // namespace din_infer
