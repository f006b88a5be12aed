#include <atomic>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "cpu/isa/isa.h"
#include "cpu/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
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
#endif

// ValueError where `name` is not to be had; `source` is what asked.
const Table* find_table(const std::string& name, const char* source) {
  std::string available;
  for (const Table* candidate : available_tables()) {
    if (candidate == nullptr) break;
    if (name == candidate->isa) return candidate;
    available += concat(available.empty() ? "" : ", ", candidate->isa);
  }
  for (const char* known : {"avx2", "avx512", "amx", "neon"}) {
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

std::array<const Table*, 4> available_tables() {
  std::array<const Table*, 4> tables{&reference_table(), &baseline::table};
#if defined(__x86_64__)
  if (has_avx2()) tables[2] = &avx2::table;
  if (has_avx512()) tables[3] = &avx512::table;
#endif
  return tables;
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
