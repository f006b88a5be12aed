// Softmax and its logarithm along rows of n, shifted by the row's maximum; sums by the rule of reductions.h. Rows of up
// to 16 stay in registers.
#pragma once

#include <math.h>

#include <cstdint>

#include "cpu/kernels/math.h"
#include "cpu/kernels/reductions.h"
#include "cpu/kernels/simd.h"

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

RANVIER_INLINE float log_of(float x) { return log(broadcast(x))[0]; }
RANVIER_INLINE double log_of(double x) { return ::log(x); }

// A group of a row whose absent lanes are -infinity: they are no maximum, and their exp is 0.
template <class T, class Group>
RANVIER_INLINE Lanes<T> load_logits(const T* x, Group group) {
  return fill(load(x, group), group, -static_cast<T>(kInfinity));
}

template <class T>
RANVIER_INLINE Lanes<T> subtract(const Lanes<T>& x, T shift) {
  return map<T>([=](Vec<T> a) { return a - shift; }, x);
}
template <class T>
RANVIER_INLINE Lanes<T> scale(const Lanes<T>& x, T factor) {
  return map<T>([=](Vec<T> a) { return a * factor; }, x);
}
template <class T>
RANVIER_INLINE Lanes<T> exp_nonpositive(const Lanes<T>& x) {
  return map<T>([](Vec<T> a) { return exp_nonpositive(a); }, x);
}

template <class T>
RANVIER_INLINE T row_max(std::int64_t n, const T* x) {
  const Vec<T> lowest = broadcast(-static_cast<T>(kInfinity));
  Lanes<T> most;
  for (Vec<T>& v : most.v) v = lowest;
  each_group(0, n, [&](std::int64_t i, auto group) {
    most = map<T>([](Vec<T> a, Vec<T> b) { return max(a, b); }, most, load_logits(x + i, group));
  });
  return fold_max(most);
}

// y (rows, n) = exp(x - max) / sum exp(x - max).
template <class T>
void softmax(std::int64_t rows, std::int64_t n, const T* x, T* y) {
  for (std::int64_t row = 0; row < rows; ++row, x += n, y += n) {
    if (n <= kSumLanes) {
      const Lanes<T> logits = load_logits(x, Part{n});
      const Lanes<T> e = exp_nonpositive(subtract(logits, fold_max(logits)));
      store(y, scale(e, 1 / fold_sum(e)), Part{n});
      continue;
    }
    const T shift = row_max(n, x);
    const T total = sum_groups<T>(n, [=](const Lanes<T>& lanes, std::int64_t i, auto group) {
      const Lanes<T> e = exp_nonpositive(subtract(load_logits(x + i, group), shift));
      store(y + i, e, group);
      return lanes + e;
    });
    each_group(0, n, [=](std::int64_t i, auto group) { store(y + i, scale(load(y + i, group), 1 / total), group); });
  }
}

// dx (rows, n) = y (dy - sum dy y).
template <class T>
void softmax_backward(std::int64_t rows, std::int64_t n, const T* dy, const T* y, T* dx) {
  for (std::int64_t row = 0; row < rows; ++row, dy += n, y += n, dx += n) {
    const T shift = dot(n, dy, y);
    each_group(0, n, [=](std::int64_t i, auto group) {
      const Lanes<T> d =
          map<T>([=](Vec<T> a, Vec<T> b) { return a * (b - shift); }, load(y + i, group), load(dy + i, group));
      store(dx + i, d, group);
    });
  }
}

// y (rows, n) = x - max - log(sum exp(x - max)).
template <class T>
void log_softmax(std::int64_t rows, std::int64_t n, const T* x, T* y) {
  for (std::int64_t row = 0; row < rows; ++row, x += n, y += n) {
    const T shift = row_max(n, x);
    const T log_total = log_of(sum_groups<T>(n, [=](const Lanes<T>& lanes, std::int64_t i, auto group) {
      return lanes + exp_nonpositive(subtract(load_logits(x + i, group), shift));
    }));
    each_group(0, n, [=](std::int64_t i, auto group) {
      store(y + i, subtract(subtract(load(x + i, group), shift), log_total), group);
    });
  }
}

// dx (rows, n) = dy - exp(y) sum dy.
template <class T>
void log_softmax_backward(std::int64_t rows, std::int64_t n, const T* dy, const T* y, T* dx) {
  for (std::int64_t row = 0; row < rows; ++row, dy += n, y += n, dx += n) {
    const T total = sum(n, dy);
    each_group(0, n, [=](std::int64_t i, auto group) {
      const Lanes<T> d =
          map<T>([=](Vec<T> a, Vec<T> b) { return a - exp(b) * total; }, load(dy + i, group), load(y + i, group));
      store(dx + i, d, group);
    });
  }
}

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
