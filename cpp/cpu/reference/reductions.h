// Sums in the order of the contract, one element after another.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "cpu/kernels.h"

namespace ranvier::cpu::reference {

// next(lane, i) is the lane with element i added.
template <class T, class F>
T sum_by_lanes(std::int64_t n, F next) {
  T total = 0;
  for (std::int64_t begin = 0; begin < n; begin += kSumChunk) {
    std::array<T, kSumLanes> lanes{};
    for (std::int64_t i = begin; i < std::min(n, begin + kSumChunk); ++i) {
      T& lane = lanes[static_cast<std::size_t>(i % kSumLanes)];
      lane = next(lane, i);
    }
    for (std::size_t half = kSumLanes / 2; half > 0; half /= 2)
      for (std::size_t k = 0; k < half; ++k) lanes[k] += lanes[k + half];
    total += lanes[0];
  }
  return total;
}

template <class T>
T sum(std::int64_t n, const T* x) {
  return sum_by_lanes<T>(n, [=](T lane, std::int64_t i) { return lane + x[i]; });
}

template <class T>
T dot(std::int64_t n, const T* x, const T* y) {
  return sum_by_lanes<T>(n, [=](T lane, std::int64_t i) { return std::fma(x[i], y[i], lane); });
}

template <class T>
double sum_of_squares(std::int64_t n, const T* x) {
  return sum_by_lanes<double>(n, [=](double lane, std::int64_t i) {
    const double wide = x[i];
    return std::fma(wide, wide, lane);
  });
}

}  // namespace ranvier::cpu::reference
