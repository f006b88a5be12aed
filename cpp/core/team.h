// The only place that makes threads. A native call opens one team region; kernels hold no pragma and see a Worker.
#pragma once

#include <cstdint>

namespace ranvier {

struct Worker {
  int id = 0;
  int count = 1;
  int part = 0;  // of a step that has several
};

// A borrowed callable: no allocation, lives as long as the call.
class Task {
 public:
  template <class F>
  explicit Task(F& f)
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* object, int phase, const Worker& worker) { (*static_cast<F*>(object))(phase, worker); }) {}
  void operator()(int phase, const Worker& worker) const { call_(object_, phase, worker); }

 private:
  void* object_;
  void (*call_)(void*, int, const Worker&);
};

// Runs task once a phase as each of `threads` workers (worker 0 on the calling thread), all of a phase before any of
// the next, and returns when all is done. A worker whose thread does not come, asleep or put off its processor, is done
// for: what the caller waits for is work begun, never a thread. Where the team is busy with another caller, the caller
// runs alone (count 1): results never depend on the count.
// Subnormals count as zero on every worker; the caller's floating-point mode is restored.
// The task must not throw, and no worker may wait for another.
void run_team(int threads, int phases, Task task);

template <class F>
void parallel(int threads, int phases, F&& f) {
  run_team(threads, phases, Task(f));
}
template <class F>
void parallel(int threads, F&& f) {
  parallel(threads, 1, [&](int, const Worker& worker) { f(worker); });
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
