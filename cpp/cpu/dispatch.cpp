#include <atomic>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "cpu/isa/isa.h"
#include "cpu/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace ranvier::cpu {
namespace {

#if defined(__x86_64__)
// What -march=x86-64-v3 lets the compiler use. movbe, f16c and lzcnt are asked by hand: clang 14 does not know their
// names. __builtin_cpu_supports also asks whether the system saves the wide registers.
bool has_avx2() {
  unsigned a, b, features = 0, extended = 0, d;
  __get_cpuid(1, &a, &b, &features, &d);
  __get_cpuid(0x80000001, &a, &b, &extended, &d);
  constexpr unsigned kMovbe = 1u << 22, kF16c = 1u << 29, kLzcnt = 1u << 5;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && (features & kMovbe) && (features & kF16c) && (extended & kLzcnt);
}

// What -march=x86-64-v4 adds.
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_avx512_bf16() {
  unsigned a = 0, b, c, d;
  constexpr unsigned kBf16 = 1u << 5;
  return has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & kBf16);
}

// Tile registers also want the system's leave, which Linux gives a process once and a container may refuse.
bool has_amx() {
#if defined(RANVIER_EMULATE_AMX)
  return has_avx512();
#elif defined(__linux__)
  unsigned a, b, c, d = 0;
  constexpr unsigned kTile = 1u << 24, kBf16 = 1u << 22;
  if (!has_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & kTile) || !(d & kBf16)) return false;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool allowed = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return allowed;
#else
  return false;
#endif
}

// Those of AVX-512, and products on a bfloat16 unit.
Table with_bf16(const char* isa, const Bf16Kernels& bf16) { return {isa, avx512::table.f32, avx512::table.f64, &bf16}; }
#endif

// ValueError where `name` is not to be had; `source` is what asked.
const Table* find_table(const std::string& name, const char* source) {
  std::string available;
  for (const Table* candidate : available_tables()) {
    if (candidate == nullptr) break;
    if (name == candidate->isa) return candidate;
    available += concat(available.empty() ? "" : ", ", candidate->isa);
  }
  for (const char* known : {"avx2", "avx512", "avx512_bf16", "amx", "neon"}) {
    if (name == known) throw ValueError(concat(source, ": this machine lacks ", name, " (it has ", available, ")"));
  }
  throw ValueError(concat(source, ": expected one of ", available, "; got '", name, "'"));
}

const Table* first_table() {
  if (const char* name = std::getenv("RANVIER_ISA"); name != nullptr && *name != 0) {
    return find_table(name, "RANVIER_ISA");
  }
  const Table* best = nullptr;
  for (const Table* candidate : available_tables()) {
    if (candidate != nullptr) best = candidate;
  }
  return best;
}

std::atomic<const Table*> current{nullptr};

}  // namespace

Tables available_tables() {
#if defined(__aarch64__)
  return {&reference_table(), &neon::table};
#else
  Tables tables{&reference_table(), &baseline::table};
#if defined(__x86_64__)
  std::size_t n = 2;
  if (has_avx2()) tables[n++] = &avx2::table;
  if (has_avx512()) tables[n++] = &avx512::table;
  if (has_avx512_bf16()) {
    static const Table table = with_bf16("avx512_bf16", avx512_bf16::bf16);
    tables[n++] = &table;
  }
  if (has_amx()) {
    static const Table table = with_bf16("amx", amx::bf16);
    tables[n++] = &table;
  }
#endif
  return tables;
#endif
}

const Table& table() {
  const Table* found = current.load(std::memory_order_acquire);
  if (found == nullptr) {
    const Table* first = first_table();
    // Where set_isa came between, its word stands.
    if (current.compare_exchange_strong(found, first, std::memory_order_acq_rel)) found = first;
  }
  return *found;
}

void set_isa(const char* name) { current.store(find_table(name, "set_isa"), std::memory_order_release); }

}  // namespace ranvier::cpu
