// The rules of simd.h. Built once an instruction set, with the flags of its file in isa/.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <limits>

#define RANVIER_ISA_NAMESPACE test
#if defined(__AVX512F__)
#define RANVIER_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define RANVIER_VECTOR_BYTES 32
#else
#define RANVIER_VECTOR_BYTES 16
#endif
#include "cpu/kernels/simd.h"

namespace {

using namespace ranvier::cpu::test;

int failures = 0;
template <class T>
void expect(const char* what, std::int64_t i, T found, T wanted) {
  if (std::memcmp(&found, &wanted, sizeof found) == 0) return;
  if (std::isnan(found) && std::isnan(wanted)) return;
  std::printf("%s, case %d: %a, not %a\n", what, static_cast<int>(i), double{found}, double{wanted});
  ++failures;
}

// The table's rules, lane by lane, on all pairs of values; the value sits in every lane once.
template <class T>
void check_values() {
  using Limits = std::numeric_limits<T>;
  const T values[] = {0,
                      T(-0.0),
                      1,
                      T(-1),
                      T(1.5),
                      T(-2.5),
                      T(3.5),
                      T(0.1),
                      Limits::max(),
                      Limits::lowest(),
                      Limits::min(),
                      Limits::denorm_min(),
                      Limits::infinity(),
                      -Limits::infinity(),
                      Limits::quiet_NaN()};
  std::int64_t i = 0;
  for (const T a : values) {
    for (const T b : values) {
      const std::int64_t lane = i % kLanes<T>;
      Vec<T> x{}, y{};
      x[lane] = a;
      y[lane] = b;
      expect("max", i, max(x, y)[lane], a > b ? a : b);
      expect("min", i, min(x, y)[lane], a < b ? a : b);
      if constexpr (sizeof(T) == 4) expect("copysign", i, copysign(x, y)[lane], std::copysign(a, b));
      expect("compare", i, static_cast<T>((x < y)[lane]), static_cast<T>(a < b ? -1 : 0));
#if !defined(__x86_64__) || defined(__FMA__)
      for (const T c : values) {
        Vec<T> z{};
        z[lane] = c;
        expect("fma", i, fma(x, y, z)[lane], std::fma(a, b, c));
      }
#endif
      ++i;
    }
    const Vec<T> x = broadcast(a);
    for (std::int64_t lane = 0; lane < kLanes<T>; ++lane) {
      expect("broadcast", lane, x[lane], a);
      expect("abs", lane, abs(x)[lane], std::abs(a));
      expect("sqrt", lane, sqrt(x)[lane], std::sqrt(a));
    }
  }
}

#if !defined(__x86_64__) || defined(__FMA__)
// The product's low half decides: rounded twice it would be lost.
template <class T>
void check_fma_rounds_once() {
  const T e = std::numeric_limits<T>::epsilon();
  const Vec<T> a = broadcast(1 + e), b = broadcast(1 - e), c = broadcast(T(-1));
  expect("fma", 0, fma(a, b, c)[0], -e * e);
}
#endif

// Every count of lanes, at every alignment; the bytes around stay as they were.
template <class T>
void check_tails() {
  constexpr std::int64_t L = kLanes<T>;
  for (std::int64_t offset = 0; offset < L; ++offset) {
    for (std::int64_t n = 0; n <= L; ++n) {
      T in[3 * L], out[3 * L];
      for (std::int64_t i = 0; i < 3 * L; ++i) {
        in[i] = static_cast<T>(i + 1);
        out[i] = -1;
      }
      const Vec<T> v = load_n(in + offset, n);
      for (std::int64_t i = 0; i < L; ++i) expect("load_n", n, v[i], i < n ? in[offset + i] : T(0));
      store_n(out + offset, load(in + offset), n);
      for (std::int64_t i = 0; i < 3 * L; ++i)
        expect("store_n", n, out[i], i >= offset && i < offset + n ? in[i] : T(-1));
      store(out + offset, load(in + offset));
      for (std::int64_t i = 0; i < L; ++i) expect("store", n, out[offset + i], in[offset + i]);
    }
  }
}

void check_powers() {
  for (int n = -1022; n <= 1023; ++n)
    expect("power_of_two", n, power_of_two(broadcast(static_cast<double>(n)))[0], std::ldexp(1., n));
}

void check_round() {
  for (const double x : {0.5, 1.5, 2.5, -0.5, -1.5, 0.4999999, 100.5, -4194303.5})
    expect("round", 0, round(broadcast(x))[0] + 0, std::nearbyint(x) + 0);
}

void check_widths() {
  Vec<float> v{};
  for (int i = 0; i < kLanes<float>; ++i) v[i] = static_cast<float>(i) + 0.1f;
  const Wide wide = widen(v);
  for (std::int64_t i = 0; i < kLanes<double>; ++i) {
    expect("widen", i, wide.low[i], double{v[i]});
    expect("widen", i, wide.high[i], double{v[i + kLanes<double>]});
  }
  for (std::int64_t i = 0; i < kLanes<float>; ++i) expect("narrow", i, narrow(wide)[i], v[i]);
}

}  // namespace

int main() {
#if defined(__x86_64__)
  if (RANVIER_VECTOR_BYTES == 64 && !__builtin_cpu_supports("avx512f")) return 0;
  if (RANVIER_VECTOR_BYTES == 32 && !__builtin_cpu_supports("avx2")) return 0;
#endif
  check_values<float>();
  check_values<double>();
#if !defined(__x86_64__) || defined(__FMA__)
  check_fma_rounds_once<float>();
  check_fma_rounds_once<double>();
#endif
  check_tails<float>();
  check_tails<double>();
  check_round();
  check_powers();
  check_widths();
  return failures ? 1 : 0;
}
