// Sums along a contiguous axis, and the 16 lanes that every such sum of the kernels goes through: element i of a chunk
// of kSumChunk goes to lane i mod 16, the lanes start at zero and are folded by 8, 4, 2, 1, the chunks left to right.
// A vector holds some of the lanes, so the order, and with it every bit, is the same for any width.
#pragma once

#include <cstdint>

#include "cpu/kernels.h"
#include "cpu/kernels/simd.h"

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

template <class T>
inline constexpr std::int64_t kVectors = kSumLanes / kLanes<T>;

template <class T>
struct Lanes {
  Vec<T> v[kVectors<T>];
};

template <class T, class F, class... L>
RANVIER_INLINE Lanes<T> map(F f, const L&... x) {
  Lanes<T> y;
  for (std::int64_t k = 0; k < kVectors<T>; ++k) y.v[k] = f(x.v[k]...);
  return y;
}

template <class T>
RANVIER_INLINE Lanes<T> operator+(const Lanes<T>& x, const Lanes<T>& y) {
  return map<T>([](Vec<T> a, Vec<T> b) { return a + b; }, x, y);
}

// A group of 16 elements that are all there, or the first n (1 to 16) of it.
struct Whole {};
struct Part {
  std::int64_t n;
  // How many of the count lanes from `first` on are there.
  RANVIER_INLINE std::int64_t within(std::int64_t n, std::int64_t first, std::int64_t count) {
    return n <= first ? 0 : n < first + count ? n - first : count;
  }
};

template <class T>
inline constexpr T kLaneNumbers[kSumLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

template <class T>
RANVIER_INLINE Lanes<T> load(const T* p, Whole) {
  Lanes<T> x;
  for (std::int64_t k = 0; k < kVectors<T>; ++k) x.v[k] = load(p + k * kLanes<T>);
  return x;
}
// Absent lanes are zero.
template <class T>
RANVIER_INLINE Lanes<T> load(const T* p, Part part) {
  Lanes<T> x;
  for (std::int64_t k = 0; k < kVectors<T>; ++k)
    x.v[k] = load_n(p + k * kLanes<T>, Part::within(part.n, k * kLanes<T>, kLanes<T>));
  return x;
}
template <class T>
RANVIER_INLINE void store(T* p, const Lanes<T>& x, Whole) {
  for (std::int64_t k = 0; k < kVectors<T>; ++k) store(p + k * kLanes<T>, x.v[k]);
}
template <class T>
RANVIER_INLINE void store(T* p, const Lanes<T>& x, Part part) {
  for (std::int64_t k = 0; k < kVectors<T>; ++k)
    store_n(p + k * kLanes<T>, x.v[k], Part::within(part.n, k * kLanes<T>, kLanes<T>));
}

// x with absent lanes replaced.
template <class T>
RANVIER_INLINE Lanes<T> fill(const Lanes<T>& x, Whole, T) {
  return x;
}
template <class T>
RANVIER_INLINE Lanes<T> fill(const Lanes<T>& x, Part part, T absent) {
  const Vec<T> n = broadcast(static_cast<T>(part.n)), other = broadcast(absent);
  return map<T>([=](Vec<T> a, Vec<T> lane) { return lane < n ? a : other; }, x, load(kLaneNumbers<T>, Whole{}));
}

// f(i, Whole or Part) for the groups that begin at i = begin, begin + 16, ...
template <class F>
RANVIER_INLINE void each_group(std::int64_t begin, std::int64_t end, F f) {
  std::int64_t i = begin;
  for (; end - i >= kSumLanes; i += kSumLanes) f(i, Whole{});
  if (i < end) f(i, Part{end - i});
}

template <class T, std::int64_t n>
struct Narrow {
  typedef T type __attribute__((vector_size(n * sizeof(T))));
};

template <class T, std::int64_t n = kLanes<T>, class F>
RANVIER_INLINE T fold(typename Narrow<T, n>::type x, F f) {
  if constexpr (n == 2) {
    return f(x[0], x[1]);
  } else if constexpr (n == 4) {
    return f(f(x[0], x[2]), f(x[1], x[3]));
  } else {
    typename Narrow<T, n / 2>::type half[2];
    __builtin_memcpy(half, &x, sizeof x);
    return fold<T, n / 2>(f(half[0], half[1]), f);
  }
}
template <class T, class F>
RANVIER_INLINE T fold(Lanes<T> x, F f) {
  for (std::int64_t k = kVectors<T> / 2; k > 0; k /= 2)
    for (std::int64_t j = 0; j < k; ++j) x.v[j] = f(x.v[j], x.v[j + k]);
  return fold<T>(x.v[0], f);
}
template <class T>
RANVIER_INLINE T fold_sum(const Lanes<T>& x) {
  return fold(x, [](auto a, auto b) { return a + b; });
}
template <class T>
RANVIER_INLINE T fold_max(const Lanes<T>& x) {
  return fold(x, [](auto a, auto b) { return max(a, b); });
}

// The sum over n elements; next(lanes, i, group) gives the lanes with group i added.
template <class T, class F>
RANVIER_INLINE T sum_groups(std::int64_t n, F next) {
  T total = 0;
  for (std::int64_t begin = 0; begin < n; begin += kSumChunk) {
    Lanes<T> lanes{};
    each_group(begin, n - begin < kSumChunk ? n : begin + kSumChunk,
               [&](std::int64_t i, auto group) { lanes = next(lanes, i, group); });
    total += fold_sum(lanes);
  }
  return total;
}

template <class T>
T sum(std::int64_t n, const T* x) {
  return sum_groups<T>(n,
                       [=](const Lanes<T>& lanes, std::int64_t i, auto group) { return lanes + load(x + i, group); });
}

template <class T>
RANVIER_INLINE Lanes<T> fma(const Lanes<T>& x, const Lanes<T>& y, const Lanes<T>& z) {
  return map<T>([](Vec<T> a, Vec<T> b, Vec<T> c) { return fma(a, b, c); }, x, y, z);
}

template <class T>
T dot(std::int64_t n, const T* x, const T* y) {
  return sum_groups<T>(n, [=](const Lanes<T>& lanes, std::int64_t i, auto group) {
    return fma(load(x + i, group), load(y + i, group), lanes);
  });
}

RANVIER_INLINE Lanes<double> to_double(const Lanes<double>& x) { return x; }
RANVIER_INLINE Lanes<double> to_double(const Lanes<float>& x) {
  Lanes<double> y;
  for (std::int64_t k = 0; k < kVectors<float>; ++k) {
    const Wide wide = widen(x.v[k]);
    y.v[2 * k] = wide.low;
    y.v[2 * k + 1] = wide.high;
  }
  return y;
}

template <class T>
double sum_of_squares(std::int64_t n, const T* x) {
  return sum_groups<double>(n, [=](const Lanes<double>& lanes, std::int64_t i, auto group) {
    const Lanes<double> wide = to_double(load(x + i, group));
    return fma(wide, wide, lanes);
  });
}

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
