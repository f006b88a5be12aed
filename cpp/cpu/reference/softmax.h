// Softmax and its logarithm along rows of n.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cpu/reference/reductions.h"

namespace ranvier::cpu::reference {

// max x, and sum exp(x - max x).
template <class T>
struct Shifted {
  T max, total;
};
template <class T>
Shifted<T> shifted(std::int64_t n, const T* x) {
  T most = -std::numeric_limits<T>::infinity();
  for (std::int64_t i = 0; i < n; ++i) most = std::max(most, x[i]);
  return {most, sum_by_lanes<T>(n, [=](T lane, std::int64_t i) { return lane + std::exp(x[i] - most); })};
}

template <class T>
void softmax(std::int64_t rows, std::int64_t n, const T* x, T* y) {
  for (std::int64_t row = 0; row < rows; ++row, x += n, y += n) {
    const Shifted<T> s = shifted(n, x);
    for (std::int64_t i = 0; i < n; ++i) y[i] = std::exp(x[i] - s.max) / s.total;
  }
}

template <class T>
void softmax_backward(std::int64_t rows, std::int64_t n, const T* dy, const T* y, T* dx) {
  for (std::int64_t row = 0; row < rows; ++row, dy += n, y += n, dx += n) {
    const T inner = dot(n, dy, y);
    for (std::int64_t i = 0; i < n; ++i) dx[i] = y[i] * (dy[i] - inner);
  }
}

template <class T>
void log_softmax(std::int64_t rows, std::int64_t n, const T* x, T* y) {
  for (std::int64_t row = 0; row < rows; ++row, x += n, y += n) {
    const Shifted<T> s = shifted(n, x);
    for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] - s.max - std::log(s.total);
  }
}

template <class T>
void log_softmax_backward(std::int64_t rows, std::int64_t n, const T* dy, const T* y, T* dx) {
  for (std::int64_t row = 0; row < rows; ++row, dy += n, y += n, dx += n) {
    const T total = sum(n, dy);
    for (std::int64_t i = 0; i < n; ++i) dx[i] = dy[i] - std::exp(y[i]) * total;
  }
}

}  // namespace ranvier::cpu::reference
