// What this machine can do at best, as JSON: fused multiply-adds that stay in registers, and the triad a = b + s c
// on arrays far larger than any cache. limits.py compiles it for the processor at hand and runs it.
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

  const std::size_t n = std::size_t{1} << 26;  // 256 MB an array
  std::vector<float> a(n), b(n, 1.5f), c(n, 2.5f);
  const double triad_seconds = best(threads, 20, [&](int id) {
    for (std::size_t i = n * id / threads; i < n * (id + 1) / threads; ++i) a[i] = b[i] + 3.0f * c[i];
  });
  sink = a[n / 2];

  std::printf("{\"fma_gflops\": %.1f, \"triad_gbytes_per_s\": %.1f}\n", flops / fma_seconds * 1e-9,
              3.0 * sizeof(float) * n / triad_seconds * 1e-9);
}
