// The only place that makes threads. A native call opens one team region; kernels hold no pragma and see a Worker.
#pragma once

#include <atomic>
#include <cstdint>

namespace ranvier {

// Waits in user space for about 50 us, then sleeps: neighbours arrive within microseconds in a training step, and a
// team that spins longer burns a processor that the caller wants back.
class Barrier {
 public:
  void wait(int count);  // until `count` threads wait

 private:
  alignas(64) std::atomic<std::uint32_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> generation_{0};
};

struct Worker {
  int id = 0;
  int count = 1;
  Barrier* barrier = nullptr;

  void sync() const {
    if (count > 1) barrier->wait(count);
  }
};

// A borrowed callable: no allocation, lives as long as the call.
class Task {
 public:
  template <class F>
  explicit Task(F& f)
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* object, Worker& worker) { (*static_cast<F*>(object))(worker); }) {}
  void operator()(Worker& worker) const { call_(object_, worker); }

 private:
  void* object_;
  void (*call_)(void*, Worker&);
};

// Runs task once on each of `threads` workers (worker 0 on the calling thread) and returns when all are done. Where
// the team is busy with another caller, the caller runs alone (count 1): results never depend on the count.
// Subnormals count as zero on every worker; the caller's floating-point mode is restored.
// The task must not throw.
void run_team(int threads, Task task);

template <class F>
void parallel(int threads, F&& f) {
  run_team(threads, Task(f));
}

// available_processors() unless RANVIER_NUM_THREADS or OMP_NUM_THREADS says.
int num_threads();
void set_num_threads(int threads);  // ValueError outside 1 to kMaxThreads
inline constexpr int kMaxThreads = 1024;

enum class Threading { openmp, native };
// RANVIER_THREADING=openmp|native (anything else: ValueError), native where it is not said, and always in the child of
// a fork.
Threading threading();
const char* threading_name();

// Sets flush-to-zero and denormals-are-zero for its scope.
class FlushSubnormals {
 public:
  FlushSubnormals();
  ~FlushSubnormals();
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  std::uint64_t saved_;
};

// The half-open share of worker `id` of `count` in n items, cut at multiples of `granule`.
struct Range {
  std::int64_t begin, end;
};
inline Range share(std::int64_t n, int id, int count, std::int64_t granule = 1) {
  if (count == 1) return {0, n};  // without two divisions, of which a tiny plan has one pair a step
  const std::int64_t blocks = (n + granule - 1) / granule;
  const auto cut = [&](std::int64_t i) {
    const std::int64_t at = blocks * i / count * granule;
    return at < n ? at : n;
  };
  return {cut(id), cut(id + 1)};
}

}  // namespace ranvier
