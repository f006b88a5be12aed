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

using Clock = std::chrono::steady_clock;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Returns once ready(word). Whoever changes it does so sequentially consistent, then notifies: a notification looks for
// sleepers, and must not look before its change is seen. Spins for about 50 us, since neighbours arrive within
// microseconds in a training step, then sleeps: a team that spins longer burns a processor that the caller wants back.
// The yield is for the case that the one waited for needs our processor: more threads than processors, or one just
// woken on the waker's (waits of 50 us otherwise). It comes after a wait that balanced shares never see, since other
// processes take a yielded processor for a time slice: yielding every microsecond, the median wait took 17 us beside a
// compiler, not 0.1.
template <class Ready>
void wait_until(const std::atomic<std::uint32_t>& word, Ready ready) {
  const Clock::time_point start = Clock::now();
  for (Clock::duration waited{}; waited < std::chrono::microseconds(50); waited = Clock::now() - start) {
    if (waited > std::chrono::microseconds(10)) std::this_thread::yield();
    for (int i = 0; i < 32; ++i) {
      if (ready(word.load(std::memory_order_acquire))) return;
      pause();
    }
  }
  for (;;) {
    const std::uint32_t value = word.load(std::memory_order_acquire);
    if (ready(value)) return;
    word.wait(value, std::memory_order_acquire);
  }
}

// Threads of ours, each parked on its own word. They are detached and the team is never destroyed: at exit nobody waits
// for anybody.
//
// Every share of every phase is claimed before it is done, by its own worker, or by the caller once that worker has had
// the time to come and did not. So a call begins at once while its workers wake, goes on without one that lost its
// processor, and may be over before that one looks: what a late worker may read without a claim stays true, or is
// marked with the number of the call.
class NativeTeam {
 public:
  void run(int threads, int phases, const Task& task) {
    const int count = 1 + grow(threads - 1);
    const Call call{++calls_, phases, count};
    task_ = &task;
    for (int id = 1; id < count; ++id) members_[id - 1]->claims.store(call.claim(0), std::memory_order_release);
    done_.store(0);
    call_.store(call.packed(), std::memory_order_release);
    for (int id = 1; id < count; ++id) {
      members_[id - 1]->call.store(call.number);
      members_[id - 1]->call.notify_one();
    }
    const FlushSubnormals flush;
    for (int phase = 0; phase < phases; ++phase) {
      do_share(call, phase, 0);
      if (is_done(call, phase)) continue;
      for (int id = 1; id < count; ++id) {
        if (claim(*members_[id - 1], call, phase)) do_share(call, phase, id);
      }
      wait_until(done_, [&](std::uint32_t done) { return done >= call.shares(phase + 1); });
    }
  }

 private:
  struct Call {
    std::uint32_t number;
    int phases, count;

    std::uint64_t packed() const {
      return std::uint64_t{number} << 32 | static_cast<std::uint64_t>(phases) << 11 | static_cast<std::uint64_t>(count);
    }
    explicit Call(std::uint64_t packed)
        : number(static_cast<std::uint32_t>(packed >> 32)),
          phases(static_cast<int>(packed >> 11 & ((1 << 21) - 1))),
          count(static_cast<int>(packed & ((1 << 11) - 1))) {}
    Call(std::uint32_t number, int phases, int count) : number(number), phases(phases), count(count) {}
    std::uint32_t shares(int phases_before) const { return static_cast<std::uint32_t>(phases_before * count); }
    std::uint64_t claim(int phase) const { return std::uint64_t{number} << 32 | static_cast<std::uint64_t>(phase); }
  };
  static_assert(kMaxThreads < 1 << 11);
  struct alignas(64) Member {
    std::atomic<std::uint32_t> call{0};    // the last that wants this worker
    std::atomic<std::uint64_t> claims{0};  // of which call, of its shares which is the next to be claimed
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

  void serve(Member& me, int id) {
    for (std::uint32_t seen = 0;;) {
      wait_until(me.call, [&](std::uint32_t number) { return number != seen; });
      seen = me.call.load(std::memory_order_acquire);
      const Call call(call_.load(std::memory_order_acquire));
      const FlushSubnormals flush;
      for (int phase = 0; phase < call.phases && is_current(call); ++phase) {
        wait_until(done_, [&](std::uint32_t done) { return done >= call.shares(phase) || !is_current(call); });
        if (claim(me, call, phase)) do_share(call, phase, id);
      }
    }
  }

  bool is_current(const Call& call) const { return call_.load(std::memory_order_acquire) == call.packed(); }

  bool claim(Member& member, const Call& call, int phase) {
    std::uint64_t next = call.claim(phase);
    return member.claims.compare_exchange_strong(next, next + 1, std::memory_order_acq_rel);
  }

  void do_share(const Call& call, int phase, int id) {
    (*task_)(phase, {id, call.count});
    if (done_.fetch_add(1) + 1 == call.shares(phase + 1)) done_.notify_all();
  }

  // Whether the phase is done, now or within a microsecond, in which every thread that runs has claimed its share.
  bool is_done(const Call& call, int phase) const {
    const Clock::time_point start = Clock::now();
    do {
      for (int i = 0; i < 8; ++i) {
        if (done_.load(std::memory_order_acquire) >= call.shares(phase + 1)) return true;
        pause();
      }
    } while (Clock::now() - start < std::chrono::microseconds(1));
    return false;
  }

  std::vector<std::unique_ptr<Member>> members_;
  std::uint32_t calls_ = 0;
  const Task* task_ = nullptr;  // of the call in progress, for who holds a claim
  alignas(64) std::atomic<std::uint64_t> call_{0};
  alignas(64) std::atomic<std::uint32_t> done_{0};  // shares of the call in progress
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
void run_openmp(int threads, int phases, const Task& task) {
#pragma omp parallel num_threads(threads)
  {
    const FlushSubnormals flush;
    for (int phase = 0; phase < phases; ++phase) {
      task(phase, {omp_get_thread_num(), omp_get_num_threads()});
#pragma omp barrier
    }
  }
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

void run_team(int threads, int phases, Task task) {
  if (threads <= 1 || busy.exchange(true, std::memory_order_acquire)) {
    const FlushSubnormals flush;
    for (int phase = 0; phase < phases; ++phase) task(phase, {});
    return;
  }
  struct Release {
    ~Release() { busy.store(false, std::memory_order_release); }
  } release;
#if defined(_OPENMP)
  if (threading() == Threading::openmp) return run_openmp(threads, phases, task);
#endif
  if (native_team == nullptr) native_team = new NativeTeam;
  native_team->run(threads, phases, task);
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
