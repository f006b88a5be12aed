// What the tests of the kernels share: arrays that end or begin at a page that cannot be touched, the tables, and the
// comparison of each with what is expected.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "cpu/kernels.h"

namespace ranvier::cpu {

inline int failures = 0;
inline void fail(const std::string& what) {
  if (++failures <= 20) std::fprintf(stderr, "%s\n", what.c_str());
}
inline void expect(bool holds, const std::string& what) {
  if (!holds) fail(what);
}
inline int report() {
  if (failures) std::fprintf(stderr, "%d failures\n", failures);
  return failures != 0;
}

inline std::uint32_t random_bits() {
  static std::uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return state >> 8;
}
inline double uniform(double low, double high) { return low + (high - low) * random_bits() / 0x1p24; }
template <class T>
std::vector<T> uniform(std::int64_t n, double low, double high) {
  std::vector<T> x(static_cast<std::size_t>(n));
  for (T& v : x) v = static_cast<T>(uniform(low, high));
  return x;
}

// Room for so many elements, with a page that cannot be touched right behind it, or right before it. An array of n of
// them lies at that page, so where it begins depends on n and every misalignment comes.
template <class T>
class Guarded {
 public:
  explicit Guarded(std::int64_t capacity, bool guard_behind = true)
      : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))), guard_behind_(guard_behind) {
    size_ = (static_cast<std::size_t>(capacity) * sizeof(T) / page_ + 1) * page_;
    map_ = static_cast<char*>(
        mmap(nullptr, size_ + 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (map_ == MAP_FAILED || mprotect(map_, page_, PROT_NONE) != 0 ||
        mprotect(map_ + page_ + size_, page_, PROT_NONE) != 0) {
      std::abort();
    }
  }
  ~Guarded() { munmap(map_, size_ + 2 * page_); }
  Guarded(const Guarded&) = delete;
  std::int64_t capacity() const { return static_cast<std::int64_t>(size_ / sizeof(T)); }
  T* array(std::int64_t n) const {
    return guard_behind_ ? reinterpret_cast<T*>(map_ + page_ + size_) - n : reinterpret_cast<T*>(map_ + page_);
  }

 private:
  std::size_t page_, size_;
  bool guard_behind_;
  char* map_;
};

template <class T>
const Kernels<T>& kernels_of(const Table& table) {
  if constexpr (std::is_same_v<T, float>)
    return table.f32;
  else
    return table.f64;
}
template <class F>
void each_table(F f) {
  const Table* last = nullptr;
  for (const Table* table : available_tables()) {
    // Those that differ in their bfloat16 products alone are tested for those (test_bf16.cpp).
    if (table && !(last && last->f32.product == table->f32.product)) f(*table);
    last = table;
  }
}
inline bool is_reference(const Table& table) { return &table == &reference_table(); }
// Inside the promise of equal bits.
inline bool has_fma(const Table& table) { return !is_reference(table) && std::string(table.isa) != "baseline"; }

template <class T>
bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}

inline std::vector<double> to_double(const auto& x) { return {x.begin(), x.end()}; }

// One call of a kernel: its input arrays, the sizes of its outputs, and run(kernels, inputs, outputs). Everything in
// guarded arrays, once with each guard; outputs begin as values that no kernel gives.
template <class T, class Run>
std::vector<T> call(const Kernels<T>& kernels, const std::vector<std::vector<T>>& inputs,
                    const std::vector<std::int64_t>& sizes, Run run) {
  static std::vector<std::unique_ptr<Guarded<T>>> pools[2];  // kept: mapping them takes longer than most kernels
  std::vector<T> results[2];
  for (const bool guard_behind : {false, true}) {
    std::vector<std::unique_ptr<Guarded<T>>>& pool = pools[guard_behind];
    if (pool.size() < inputs.size() + sizes.size()) pool.resize(inputs.size() + sizes.size());
    std::size_t used = 0;
    const auto array = [&](std::int64_t n) {
      std::unique_ptr<Guarded<T>>& room = pool[used++];
      if (!room || room->capacity() < n) room = std::make_unique<Guarded<T>>(n, guard_behind);
      return room->array(n);
    };
    std::vector<const T*> in;
    std::vector<T*> out;
    for (const std::vector<T>& x : inputs) {
      T* const to = array(static_cast<std::int64_t>(x.size()));
      std::copy(x.begin(), x.end(), to);
      in.push_back(to);
    }
    for (const std::int64_t n : sizes) {
      out.push_back(array(n));
      std::fill_n(out.back(), n, T(-12345));
    }
    run(kernels, in.data(), out.data());
    for (std::size_t k = 0; k < sizes.size(); ++k)
      results[guard_behind].insert(results[guard_behind].end(), out[k], out[k] + sizes[k]);
  }
  for (std::size_t i = 0; i < results[0].size(); ++i)
    if (!same_bits(results[0][i], results[1][i])) fail("the alignment changes element " + std::to_string(i));
  return results[1];
}

// The call on every table: within tolerance[i] of the reference in double, and in float the same bits wherever there is
// fma.
template <class T, class Run>
void check(const std::string& name, const std::vector<std::vector<T>>& inputs, const std::vector<std::int64_t>& sizes,
           const std::vector<double>& exact, const std::vector<double>& tolerance, Run run) {
  std::vector<T> fused;
  each_table([&](const Table& table) {
    const std::string label = name + (sizeof(T) == 4 ? ", float, " : ", double, ") + table.isa;
    const std::vector<T> got = call(kernels_of<T>(table), inputs, sizes, run);
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double g = got[i], e = exact[i];
      if (same_bits(g, e) || g == e || std::abs(g - e) <= tolerance[i]) continue;
      char text[160];
      std::snprintf(text, sizeof text, ": element %zu is %.17g, not %.17g (allowed %.2g)", i, g, e, tolerance[i]);
      return fail(label + text);
    }
    if (std::is_same_v<T, double> || !has_fma(table)) return;
    for (std::size_t i = 0; i < fused.size(); ++i)
      if (!same_bits(got[i], fused[i])) return fail(label + ": other bits in element " + std::to_string(i));
    fused = got;
  });
}

// Every count around the 16 lanes and around a chunk.
inline std::vector<std::int64_t> counts() {
  std::vector<std::int64_t> n;
  for (std::int64_t i = 0; i <= 2 * kSumLanes + 1; ++i) n.push_back(i);
  for (const std::int64_t i : {100, 4095, 4096, 4097, 8195}) n.push_back(i);
  return n;
}

// The unit roundoff; the float64 reference errs as much itself.
template <class T>
constexpr double unit() {
  return std::numeric_limits<T>::epsilon() / (std::is_same_v<T, float> ? 2 : 1);
}
// The roundings on the way of one element through a sum: its lane's chain, the fold of the lanes, of the chunks.
inline double sum_roundings(std::int64_t n) {
  return static_cast<double>(std::min(n, kSumChunk) / kSumLanes + 1 + 4 + n / kSumChunk);
}

}  // namespace ranvier::cpu
