// What this machine can do at best, as JSON: fused multiply-adds that stay in registers, and the rates of four passes
// over arrays of given sizes. limits.py compiles it for the processor at hand and runs it.
#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
typedef float Vector __attribute__((vector_size(kBytes)));
constexpr int kLanes = kBytes / sizeof(float);
constexpr int kChains = 12;  // covers the latency of two FMA units and fits 16 registers

volatile float sink;

void multiply_add(long rounds, float seed) {
  Vector chain[kChains];
  Vector factor, term;
  for (int lane = 0; lane < kLanes; ++lane) {
    factor[lane] = 0.999f - 0.001f * lane;  // not zeros: a processor clocks higher on those
    term[lane] = seed + 0.1f * lane;
    for (int i = 0; i < kChains; ++i) chain[i][lane] = seed * i;
  }
  for (long round = 0; round < rounds; ++round)
    for (int i = 0; i < kChains; ++i) chain[i] = chain[i] * factor + term;
  float sum = 0;
  for (int i = 0; i < kChains; ++i)
    for (int lane = 0; lane < kLanes; ++lane) sum += chain[i][lane];
  sink = sum;
}

// The passes, n vectors each. Not inlined, so that none of many repeated calls is dropped.
__attribute__((noipa)) void read(Vector*, const Vector* b, const Vector*, std::size_t n) {
  Vector sum[8] = {};  // more loads in flight than one chain of additions would keep
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j) sum[j] += b[i + j];
  for (; i < n; ++i) sum[0] += b[i];
  for (int j = 1; j < 8; ++j) sum[0] += sum[j];
  sink = sum[0][0];
}

__attribute__((noipa)) void copy(Vector* a, const Vector* b, const Vector*, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) a[i] = b[i];
}

__attribute__((noipa)) void triad(Vector* a, const Vector* b, const Vector* c, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) a[i] = b[i] + 3.0f * c[i];
}

__attribute__((noipa)) void update(Vector* a, const Vector* b, const Vector*, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) a[i] = a[i] * 0.5f + b[i];  // stays finite however often it runs
}

struct Pass {
  const char* name;
  void (*run)(Vector*, const Vector*, const Vector*, std::size_t);
  int arrays;   // that it touches
  int streams;  // an array read and written is two
};
constexpr Pass kPasses[] = {
    {"read", read, 1, 1}, {"copy", copy, 2, 2}, {"triad", triad, 3, 3}, {"update", update, 2, 3}};

// Seconds of the fastest of `tries`, all threads starting together.
template <typename Work>
double best(int threads, int tries, Work work) {
  double fastest = 1e30;
  for (int t = 0; t < tries; ++t) {
    using Clock = std::chrono::steady_clock;
    Clock::time_point begin;
    std::barrier start(threads, [&]() noexcept { begin = Clock::now(); });
    std::vector<std::thread> team;
    for (int id = 0; id < threads; ++id)
      team.emplace_back([&, id] {
        start.arrive_and_wait();
        work(id);
      });
    for (std::thread& member : team) member.join();
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (seconds < fastest) fastest = seconds;
  }
  return fastest;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;

  // Many short tries: the best of them meets a moment in which nobody else wants a core.
  const long rounds = 2'000'000;
  const double fma_seconds = best(threads, 50, [&](int id) { multiply_add(rounds, 0.5f + id); });
  const double flops = 2.0 * rounds * kChains * kLanes * threads;

  std::printf("{\"fma_gflops\": %.1f, \"rates\": {", flops / fma_seconds * 1e-9);

  std::size_t most = 0;
  for (int i = 2; i < argc; ++i) most = std::max<std::size_t>(most, std::atoll(argv[i]));
  // Filled, as untouched memory is one page of zeros. A single array may be all of it.
  const std::size_t room = most / sizeof(Vector) + 1;
  std::vector<Vector> a(room / 2), b(room), c(room / 3);
  for (std::vector<Vector>* array : {&a, &b, &c})
    for (Vector& vector : *array) vector = vector * 0.0f + 1.5f;

  for (int i = 2; i < argc; ++i) {
    const long long bytes = std::atoll(argv[i]);
    std::printf("%s\"%lld\": {", i > 2 ? ", " : "", bytes);
    for (const Pass& pass : kPasses) {
      const std::size_t n = bytes / sizeof(Vector) / pass.arrays;
      const long repeats =
          std::max(1LL, (1LL << 28) / bytes);  // some milliseconds, so that starting threads is nothing
      const double seconds = best(threads, 20, [&](int id) {
        const std::size_t first = n * id / threads, count = n * (id + 1) / threads - first;
        for (long r = 0; r < repeats; ++r) pass.run(&a[first], &b[first], &c[first], count);
      });
      std::printf("%s\"%s\": %.1f", &pass > kPasses ? ", " : "", pass.name,
                  double(pass.streams) * n * sizeof(Vector) * repeats / seconds * 1e-9);
    }
    std::printf("}");
  }
  std::printf("}}\n");
}
