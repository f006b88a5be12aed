// The element-wise operations as kernels.h specifies them, one element after another.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <utility>

#include "cpu/kernels.h"

namespace ranvier::cpu::reference {

template <class T>
T sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}
template <class T>
T normal_cdf(T x) {
  return std::erfc(-x / std::numbers::sqrt2_v<T>) / 2;
}
template <class T>
T gelu_tanh_argument(T x) {
  return std::sqrt(2 * std::numbers::inv_pi_v<T>) * (x + T(0.044715) * x * x * x);
}

// x, bounded where all that it multiplies is 0 (in float as in double), so that the product at an infinity is its
// limit.
template <class T>
T bounded(T x) {
  return std::clamp(x, T(-1000), T(1000));
}

template <class T>
T value(Unary f, T x, T alpha) {
  switch (f) {
    case Unary::identity:
      return x;
    case Unary::negative:
      return -x;
    case Unary::sqrt:
      return std::sqrt(x);
    case Unary::exp:
      return std::exp(x);
    case Unary::log:
      return std::log(x);
    case Unary::abs:
      return std::abs(x);
    case Unary::cosh:
      return std::cosh(x);
    case Unary::relu:
      return 0 > x ? 0 : x;
    case Unary::leaky_relu:
      return x > 0 ? x : alpha * x;
    case Unary::elu:
      return x > 0 ? x : alpha * std::expm1(x);
    case Unary::sigmoid:
      return sigmoid(x);
    case Unary::tanh:
      return std::tanh(x);
    case Unary::gelu:
      return std::max(x, bounded(x)) * normal_cdf(x);
    case Unary::gelu_tanh:
      return std::max(x, bounded(x)) * sigmoid(2 * gelu_tanh_argument(x));  // = x (1 + tanh(argument)) / 2
    case Unary::silu:
      return std::max(x, bounded(x)) * sigmoid(x);
    case Unary::softplus:
      return (0 > x ? 0 : x) + std::log1p(std::exp(-std::abs(x)));
  }
  __builtin_unreachable();
}

// dy f'(x), from saved = y or x as saved_by(f) says.
template <class T>
T derivative(Unary f, T dy, T saved, T alpha) {
  const T x = saved, y = saved, b = bounded(x);
  switch (f) {
    case Unary::identity:
      return dy;
    case Unary::negative:
      return -dy;
    case Unary::sqrt:
      return dy / (2 * y);
    case Unary::exp:
      return dy * y;
    case Unary::log:
      return dy / x;
    case Unary::abs:
      return x > 0 ? dy : x < 0 ? -dy : dy * x;  // the last: x is 0 or NaN
    case Unary::cosh:
      return dy * std::sinh(x);
    case Unary::relu:
      return y > 0 ? dy : 0;
    case Unary::leaky_relu:
      return y > 0 ? dy : dy * alpha;
    case Unary::elu:
      return y > 0 ? dy : dy * (y + alpha);
    case Unary::sigmoid:
      return dy * y * (1 - y);
    case Unary::tanh:
      return dy * (1 - y * y);
    case Unary::gelu:
      return dy * (normal_cdf(x) + b * std::exp(-b * b / 2) * std::sqrt(std::numbers::inv_pi_v<T> / 2));
    case Unary::gelu_tanh: {
      const T u = 2 * gelu_tanh_argument(b), du = std::sqrt(8 * std::numbers::inv_pi_v<T>) * (1 + T(0.134145) * b * b);
      return dy * sigmoid(u) * (1 + b * sigmoid(-u) * du);
    }
    case Unary::silu:
      return dy * sigmoid(x) * (1 + b * sigmoid(-b));
    case Unary::softplus:
      return dy * sigmoid(x);
  }
  __builtin_unreachable();
}

template <class T>
T value(Binary f, T a, T b) {
  switch (f) {
    case Binary::add:
      return a + b;
    case Binary::subtract:
      return a - b;
    case Binary::multiply:
      return a * b;
    case Binary::divide:
      return a / b;
    case Binary::power:
      return std::pow(a, b);
    case Binary::maximum:
      return a > b || std::isnan(a) ? a : b;
    case Binary::greater:
      return a > b;
    case Binary::greater_equal:
      return a >= b;
  }
  __builtin_unreachable();
}

template <class T, Unary f>
void unary(std::int64_t n, const T* x, T* y, T alpha) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = value(f, x[i], alpha);
}

template <class T, Unary f>
void unary_backward(std::int64_t n, const T* dy, const T* saved, T* dx, T alpha) {
  for (std::int64_t i = 0; i < n; ++i)
    dx[i] = derivative(f, dy[i], saved_by(f) == Saved::nothing ? 0 : saved[i], alpha);  // then saved may be null
}

template <class T, Binary f>
void binary(std::int64_t n, const T* a, std::int64_t a_stride, const T* b, std::int64_t b_stride, T* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = value(f, a[i * a_stride], b[i * b_stride]);
}

template <class T>
void where(std::int64_t n, const T* condition, std::int64_t condition_stride, const T* a, std::int64_t a_stride,
           const T* b, std::int64_t b_stride, T* out) {
  for (std::int64_t i = 0; i < n; ++i)
    out[i] = condition[i * condition_stride] != 0 ? a[i * a_stride] : b[i * b_stride];
}

template <class T>
constexpr decltype(Kernels<T>::unary) unary_table() {
  return []<std::size_t... f>(std::index_sequence<f...>) {
    return decltype(Kernels<T>::unary){unary<T, Unary(f)>...};
  }(std::make_index_sequence<kUnaryNames.size()>());
}
template <class T>
constexpr decltype(Kernels<T>::unary_backward) unary_backward_table() {
  return []<std::size_t... f>(std::index_sequence<f...>) {
    return decltype(Kernels<T>::unary_backward){unary_backward<T, Unary(f)>...};
  }(std::make_index_sequence<kUnaryNames.size()>());
}
template <class T>
constexpr decltype(Kernels<T>::binary) binary_table() {
  return []<std::size_t... f>(std::index_sequence<f...>) {
    return decltype(Kernels<T>::binary){binary<T, Binary(f)>...};
  }(std::make_index_sequence<kBinaryNames.size()>());
}

}  // namespace ranvier::cpu::reference
