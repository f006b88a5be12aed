// core/ and the choice of an instruction set. No argument: every test. The tests that need a fresh process (an
// environment of their own) are run by this program calling itself.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/philox.h"
#include "core/processors.h"
#include "core/team.h"
#include "cpu/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

using namespace ranvier;

namespace {

int failures = 0;
std::string self;                                     // this program
const std::string kEmulator = RANVIER_TEST_EMULATOR;  // the command before it, where this machine cannot run it

void check(bool ok, const char* what, int line) {
  if (ok) return;
  std::fprintf(stderr, "test_core.cpp:%d: %s\n", line, what);
  ++failures;
}
#define CHECK(condition) check(condition, #condition, __LINE__)

template <class Error, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing thrown";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// The known answers of the generator's authors (Random123, kat_vectors, philox4x32 10).
void test_philox() {
  CHECK((philox({0, 0}, {0, 0, 0, 0}) == PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t ones = 0xffffffff;
  CHECK(
      (philox({ones, ones}, {ones, ones, ones, ones}) == PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  CHECK((philox({0xa4093822, 0x299f31d0}, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}) ==
         PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

void test_share() {
  for (std::int64_t n : {0, 1, 5, 16, 17, 1000}) {
    for (int count : {1, 2, 3, 7}) {
      for (std::int64_t granule : {1, 6, 16}) {
        std::int64_t end = 0;
        for (int id = 0; id < count; ++id) {
          const Range range = share(n, id, count, granule);
          CHECK(range.begin == end && range.begin <= range.end);
          CHECK(range.end == n || range.end % granule == 0);
          CHECK(range.end - range.begin <= (n / granule / count + 2) * granule);
          end = range.end;
        }
        CHECK(end == n);
      }
    }
  }
}

// Every worker adds to the sum of all the others' previous round: wrong at once if a phase begins too early. With
// pauses the workers sleep, come in the middle or when all is over.
void test_team(int rounds, std::chrono::microseconds pause) {
  constexpr int kSteps = 5;
  for (int threads : {1, 2, 3, 7}) {
    std::vector<std::int64_t> value(7), next(7);
    std::vector<int> shares(7);
    for (int round = 0; round < rounds; ++round) {
      std::this_thread::sleep_for(pause);
      std::fill(value.begin(), value.end(), 1);
      parallel(threads, 2 * kSteps, [&](int phase, const Worker& worker) {
        if (worker.id == 0) CHECK(worker.count == threads);
        ++shares[worker.id];
        if (phase % 2 == 0) {
          next[worker.id] = std::accumulate(value.begin(), value.begin() + worker.count, std::int64_t{0});
        } else {
          value[worker.id] = next[worker.id];
        }
      });
      for (int i = 0; i < threads; ++i) CHECK(value[i] == std::int64_t(std::pow(threads, kSteps)));
    }
    for (int i = 0; i < 7; ++i) CHECK(shares[i] == (i < threads ? 2 * kSteps * rounds : 0));
  }
}

// A caller does not wait for a worker that sleeps: it does its share.
void test_sleeping_worker() {
  std::atomic<int> by_caller{0};
  for (int call = 0; call < 50; ++call) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const auto caller = std::this_thread::get_id();
    parallel(2, [&](const Worker& worker) { by_caller += worker.id == 1 && std::this_thread::get_id() == caller; });
  }
  CHECK(by_caller > 0 || threading() == Threading::openmp);
}

void test_busy_team() {
  std::atomic<int> inner{0};
  parallel(
      2, [&](const Worker&) { parallel(2, [&](const Worker& alone) { inner += alone.count == 1 && alone.id == 0; }); });
  CHECK(inner == 2);

  // Callers on threads of their own: each gets the team or runs alone, and each gets all its work done.
  std::array<std::thread, 3> callers;
  std::atomic<int> done{0};
  for (std::thread& caller : callers) {
    caller = std::thread([&] {
      for (int i = 0; i < 200; ++i) {
        std::vector<int> items(100);
        std::atomic<int> seen{0}, workers{0};
        parallel(3, 2, [&](int phase, const Worker& worker) {
          workers = worker.count;
          const Range range = share(100, worker.id, worker.count);
          if (phase == 0) {
            for (std::int64_t item = range.begin; item < range.end; ++item) ++items[item];
          } else {
            seen += items == std::vector<int>(100, 1);
          }
        });
        done += seen == workers;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(done == 600);
}

// Not folded by the compiler, which knows no flush mode.
float product_of(float a, float b) {
  volatile float x = a, y = b;
  return x * y;
}

void test_subnormals() {
  constexpr float tiny = std::numeric_limits<float>::min();
  CHECK(product_of(tiny, 0.5f) != 0);
  for (int threads : {1, 3}) {
    std::atomic<int> flushed{0};
    parallel(threads, [&](const Worker&) {
      flushed += product_of(tiny, 0.5f) == 0 && product_of(std::numeric_limits<float>::denorm_min(), 1e30f) == 0;
    });
    CHECK(flushed == threads);
    CHECK(product_of(tiny, 0.5f) != 0);
  }
#if defined(__x86_64__)
  // The whole mode comes back, also one that the caller chose.
  const unsigned saved = _mm_getcsr();
  const unsigned chosen = (saved & ~_MM_ROUND_MASK) | _MM_ROUND_DOWN | _MM_FLUSH_ZERO_ON;
  _mm_setcsr(chosen);
  parallel(2, [](const Worker&) { product_of(1, 3); });
  CHECK(_mm_getcsr() == chosen);
  _mm_setcsr(saved);
#endif
}

bool child_exits_well(pid_t child) {
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// The child of a fork runs on all threads though only the forking one lives on in it, and so does its own child.
void test_fork() {
  const auto works = [](int threads) {
    std::atomic<int> workers{0};
    parallel(threads, 2, [&](int phase, const Worker&) { workers += phase; });
    return workers == threads;
  };
  CHECK(works(3));
  const Threading before = threading();
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // a hang is a failure
    const bool ok = works(3) && threading() == Threading::native;
    const pid_t grandchild = fork();
    if (grandchild == 0) {
      alarm(10);
      _exit(works(7) ? 0 : 1);
    }
    _exit(ok && child_exits_well(grandchild) ? 0 : 1);
  }
  CHECK(child_exits_well(child));
  CHECK(works(3) && threading() == before);
}

// The output of this program, called with `arguments` and the variables given.
std::string output_of(const std::string& variables, const std::string& arguments) {
  const std::string command = "env -u OMP_NUM_THREADS -u RANVIER_NUM_THREADS -u RANVIER_THREADING -u RANVIER_ISA " +
                              variables + " " + kEmulator + " '" + self + "' " + arguments;
  std::string output;
  FILE* pipe = popen(command.c_str(), "r");
  for (int c; (c = std::fgetc(pipe)) != EOF;) output += static_cast<char>(c);
  if (pclose(pipe) != 0) output += "(failed)";
  return output;
}

void test_threading_choice() {
  CHECK(output_of("RANVIER_THREADING=native", "threading") == "native");
  CHECK(output_of("", "threading") == "native");
#if defined(_OPENMP)
  CHECK(output_of("RANVIER_THREADING=openmp", "threading") == "openmp");
#else
  CHECK(contains(output_of("RANVIER_THREADING=openmp", "threading"), "no OpenMP"));
#endif
  CHECK(contains(output_of("RANVIER_THREADING=tbb", "threading"), "expected openmp or native, got tbb"));
}

void test_num_threads() {
  CHECK(output_of("", "num_threads") == std::to_string(available_processors()));
  CHECK(output_of("OMP_NUM_THREADS=5,3", "num_threads") == "5");
  CHECK(output_of("OMP_NUM_THREADS=many", "num_threads") == std::to_string(available_processors()));
  CHECK(output_of("OMP_NUM_THREADS=5 RANVIER_NUM_THREADS=6", "num_threads") == "6");
  for (const char* wrong : {"0", "-1", "two", "3x", "1000000"}) {
    CHECK(contains(output_of(concat("RANVIER_NUM_THREADS=", wrong), "num_threads"), concat("got ", wrong)));
  }
  CHECK(contains(message_of<ValueError>([] { set_num_threads(0); }), "got 0"));
  CHECK(contains(message_of<ValueError>([] { set_num_threads(kMaxThreads + 1); }), "expected 1 to"));
  set_num_threads(4);
  CHECK(num_threads() == 4);
}

void test_processors() {
  CHECK(available_processors() >= 1);
  CHECK(available_processors() <= static_cast<int>(std::thread::hardware_concurrency()));

  namespace fs = std::filesystem;
  const fs::path root = fs::temp_directory_path() / concat("ranvier_test_core_", getpid());
  const auto write = [&](const char* path, const char* text) {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  };
  const auto quota = [&] { return cgroup_cpu_quota(root.c_str()); };
  CHECK(std::isinf(quota()));
  write("proc/self/cgroup", "0::/a/b\n");
  CHECK(std::isinf(quota()));
  write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  CHECK(std::isinf(quota()));
  write("sys/fs/cgroup/a/b/cpu.max", "250000 100000\n");
  CHECK(quota() == 2.5);
  write("sys/fs/cgroup/cpu.max", "150000 100000\n");  // a tighter one above, and a container's own root
  CHECK(quota() == 1.5);
  write("proc/self/cgroup", "5:memory:/c\n4:cpu,cpuacct:/c\n");
  write("sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000\n");
  CHECK(std::isinf(quota()));
  write("sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "300000\n");
  CHECK(quota() == 3);
  fs::remove_all(root);
}

void test_dispatch() {
  const auto tables = cpu::available_tables();
  const cpu::Table* best = nullptr;
  for (const cpu::Table* table : tables) {
    if (table == nullptr) continue;
    best = table;
    const std::string name = table->isa;
    CHECK(output_of("RANVIER_ISA=" + name, "isa") == name);
    cpu::set_isa(name.c_str());
    CHECK(&cpu::table() == table);
    CHECK(table->f32.product != nullptr && table->f64.product != nullptr);
  }
  const std::string common = tables[1]->isa;  // every machine of the architecture has it
  CHECK(std::string(tables[0]->isa) == "reference" && (common == "baseline" || common == "neon"));
  CHECK(output_of("", "isa") == best->isa);
  CHECK(contains(output_of("RANVIER_ISA=sse9", "isa"), "RANVIER_ISA: expected one of reference, " + common));
  for (const std::string name : {"avx2", "avx512", "avx512_bf16", "amx", "neon"}) {
    const std::string answer = output_of("RANVIER_ISA=" + name, "isa");
    CHECK(answer == name || contains(answer, "lacks " + name));
  }
  CHECK(contains(message_of<ValueError>([] { cpu::set_isa(""); }), "set_isa: expected one of"));
  CHECK(&cpu::table() == best);  // a refused name changes nothing
}

}  // namespace

int main(int argc, char** argv) {
  self = std::filesystem::canonical("/proc/self/exe").string();
  const std::string question = argc > 1 ? argv[1] : "";
  try {
    if (question == "threading") return std::printf("%s", threading_name()), 0;
    if (question == "num_threads") return std::printf("%d", num_threads()), 0;
    if (question == "isa") return std::printf("%s", cpu::table().isa), 0;
  } catch (const ValueError& error) {
    return std::printf("%s", error.what()), 1;
  }
  test_philox();
  test_share();
  test_processors();
  test_team(1000, std::chrono::microseconds(0));
  test_team(50, std::chrono::microseconds(100));
  test_sleeping_worker();
  test_busy_team();
  test_subnormals();
  if (kEmulator.empty()) test_fork();  // qemu 7.2 aborts where the child of a fork starts a thread
  test_threading_choice();
  test_num_threads();
  test_dispatch();
  if (failures == 0) std::printf("test_core: %s team, all well\n", threading_name());
  return failures == 0 ? 0 : 1;
}
