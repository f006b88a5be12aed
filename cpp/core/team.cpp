#include "core/team.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/processors.h"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ranvier {
namespace {

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Returns once word differs from old. Whoever changes it does so sequentially consistent, then notifies: a notification
// looks for sleepers, and must not look before its change is seen. The yield is for the case that the one waited for
// needs our processor: more threads than processors, or one just woken on the waker's (barriers of 50 us otherwise). It
// comes after a wait that balanced shares never see, since other processes take a yielded processor for a time slice:
// yielding every microsecond, the median exit from a barrier took 17 us beside a compiler, not 0.1.
void wait_for_change(const std::atomic<std::uint32_t>& word, std::uint32_t old) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  for (Clock::duration waited{}; waited < std::chrono::microseconds(50); waited = Clock::now() - start) {
    if (waited > std::chrono::microseconds(10)) std::this_thread::yield();
    for (int i = 0; i < 32; ++i) {
      if (word.load(std::memory_order_acquire) != old) return;
      pause();
    }
  }
  word.wait(old, std::memory_order_acquire);
}

void run_worker(const Task& task, Worker worker) {
  const FlushSubnormals flush;
  task(worker);
}

// Threads of ours, each parked on its own word. They are detached and the team is never destroyed: at exit nobody waits
// for anybody.
class NativeTeam {
 public:
  void run(int threads, Task task) {
    const int count = 1 + grow(threads - 1);
    task_ = &task;
    count_ = count;
    for (int id = 1; id < count; ++id) {
      members_[id - 1]->calls.fetch_add(1);
      members_[id - 1]->calls.notify_one();
    }
    run_worker(task, {0, count, &barrier_});
    barrier_.wait(count);
  }

 private:
  struct alignas(64) Member {
    std::atomic<std::uint32_t> calls{0};
  };

  // How many of `wanted` members there are; a machine that refuses more threads gets a smaller team.
  int grow(int wanted) {
    while (static_cast<int>(members_.size()) < wanted) {
      members_.push_back(std::make_unique<Member>());
      try {
        std::thread(&NativeTeam::serve, this, std::ref(*members_.back()), static_cast<int>(members_.size())).detach();
      } catch (const std::system_error&) {
        members_.pop_back();
        break;
      }
    }
    return std::min(wanted, static_cast<int>(members_.size()));
  }

  void serve(const Member& member, int id) {
    for (std::uint32_t done = 0;; ++done) {
      wait_for_change(member.calls, done);
      const int count = count_;
      run_worker(*task_, {id, count, &barrier_});
      barrier_.wait(count);
    }
  }

  Barrier barrier_;
  std::vector<std::unique_ptr<Member>> members_;
  // Of the call in progress: written before the members' words, left alone until all have passed the last barrier.
  const Task* task_ = nullptr;
  int count_ = 0;
};

std::atomic<bool> busy{false};
std::atomic<bool> forked{false};
NativeTeam* native_team = nullptr;  // guarded by busy
std::atomic<int> chosen_threads{0};

// Only the thread that forked lives on in the child. Its team, and OpenMP's, are memories of threads.
void after_fork_in_child() {
  busy = false;
  forked = true;
  native_team = nullptr;
}
// At load: another library may have started OpenMP's threads before we did.
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, after_fork_in_child);

#if defined(_OPENMP)
void run_openmp(int threads, const Task& task) {
  static Barrier barrier;
#pragma omp parallel num_threads(threads)
  run_worker(task, {omp_get_thread_num(), omp_get_num_threads(), &barrier});
}
#endif

Threading configured_threading() {
#if defined(_OPENMP)
  constexpr bool kHasOpenMP = true;
#else
  constexpr bool kHasOpenMP = false;
#endif
  // Native unless asked otherwise, since OpenMP's waiting cannot be tamed from inside a library (libgomp reads its
  // policy when it is loaded). Two threads, native against OpenMP: a region 0.1 and 0.46 us, the first after 20 ms of
  // idling 22 us and 7.7 ms, processor time of an isolated call 0.1 and 10.7 ms; on a machine shared with other work,
  // a 16 us training step took 27 to 58 us and 0.5 to 20 ms.
  const char* value = std::getenv("RANVIER_THREADING");
  const std::string name = value == nullptr || *value == 0 ? "native" : value;
  if (name == "native") return Threading::native;
  if (name != "openmp") throw ValueError(concat("RANVIER_THREADING: expected openmp or native, got ", name));
  if (!kHasOpenMP) throw ValueError("RANVIER_THREADING=openmp: this build has no OpenMP, only native");
  return Threading::openmp;
}

int configured_threads() {
  if (const char* value = std::getenv("RANVIER_NUM_THREADS"); value != nullptr && *value != 0) {
    char* end = nullptr;
    const long threads = std::strtol(value, &end, 10);
    if (*end != 0 || threads < 1 || threads > kMaxThreads) {
      throw ValueError(concat("RANVIER_NUM_THREADS: expected 1 to ", kMaxThreads, ", got ", value));
    }
    return static_cast<int>(threads);
  }
  // A list has one number a nesting level; ours is the first. What OpenMP would not understand counts for nothing.
  if (const char* value = std::getenv("OMP_NUM_THREADS"); value != nullptr) {
    const long threads = std::strtol(value, nullptr, 10);
    if (threads >= 1) return static_cast<int>(std::min<long>(threads, kMaxThreads));
  }
  return available_processors();
}

}  // namespace

void Barrier::wait(int count) {
  const std::uint32_t generation = generation_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<std::uint32_t>(count)) {
    arrived_.store(0, std::memory_order_relaxed);
    generation_.store(generation + 1);
    generation_.notify_all();
  } else {
    wait_for_change(generation_, generation);
  }
}

void run_team(int threads, Task task) {
  if (threads <= 1 || busy.exchange(true, std::memory_order_acquire)) return run_worker(task, {});
  struct Release {
    ~Release() { busy.store(false, std::memory_order_release); }
  } release;
#if defined(_OPENMP)
  if (threading() == Threading::openmp) return run_openmp(threads, task);
#endif
  if (native_team == nullptr) native_team = new NativeTeam;
  native_team->run(threads, task);
}

int num_threads() {
  static const int configured = configured_threads();
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
  return chosen > 0 ? chosen : configured;
}

void set_num_threads(int threads) {
  if (threads < 1 || threads > kMaxThreads) {
    throw ValueError(concat("set_num_threads: expected 1 to ", kMaxThreads, ", got ", threads));
  }
  chosen_threads.store(threads, std::memory_order_relaxed);
}

Threading threading() {
  static const Threading configured = configured_threading();
  return forked.load(std::memory_order_relaxed) ? Threading::native : configured;
}

const char* threading_name() { return threading() == Threading::openmp ? "openmp" : "native"; }

#if defined(__x86_64__)
FlushSubnormals::FlushSubnormals() : saved_(_mm_getcsr()) {
  _mm_setcsr(static_cast<unsigned>(saved_) | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON);
}
FlushSubnormals::~FlushSubnormals() { _mm_setcsr(static_cast<unsigned>(saved_)); }
#elif defined(__aarch64__)
FlushSubnormals::FlushSubnormals() {
  asm volatile("mrs %0, fpcr" : "=r"(saved_));
  constexpr std::uint64_t kFlushToZero = std::uint64_t{1} << 24;
  asm volatile("msr fpcr, %0" : : "r"(saved_ | kFlushToZero));
}
FlushSubnormals::~FlushSubnormals() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }
#endif

}  // namespace ranvier
