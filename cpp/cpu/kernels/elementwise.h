// The element-wise operations: a formula a function, a loop a shape.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "cpu/kernels.h"
#include "cpu/kernels/math.h"
#include "cpu/kernels/simd.h"

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

// In this order NaN passes.
template <class V, class T>
RANVIER_INLINE V clamp(V x, T bound) {
  return min(broadcast(bound), max(broadcast(-bound), x));
}

// Sigmoids go through e^-|x|: it does not overflow, and both sides keep their digits.
template <class V>
RANVIER_INLINE V sigmoid(V x) {
  const V e = exp_nonpositive(-abs(x));
  return (x > 0 ? 1 + V{} : e) / (1 + e);
}
template <class V>
struct Sigmoids {
  V plus, minus;  // of x, of -x
};
template <class V>
RANVIER_INLINE Sigmoids<V> sigmoids(V x) {
  const V e = exp_nonpositive(-abs(x)), large = 1 / (1 + e), small = e * large;
  return {x > 0 ? large : small, x > 0 ? small : large};
}
// x sigmoid(w), w of x's sign and at least its size. Bounds on x where the sigmoid is 0 anyway make it 0 at -infinity.
template <class T>
inline constexpr T kSigmoidEnd = 1000;
template <class T>
RANVIER_INLINE Vec<T> times_sigmoid(Vec<T> x, Vec<T> w) {
  const Vec<T> e = exp_nonpositive(-abs(w));
  return (x > 0 ? x : max(broadcast(-kSigmoidEnd<T>), x) * e) / (1 + e);
}

// gelu_tanh(x) = x (1 + tanh(w / 2)) / 2 = x sigmoid(w), w = 2 sqrt(2 / pi) (x + 0.044715 x^3) = x (k1 + k3 x^2).
template <class T>
inline constexpr T kGelu1 = T(1.5957691216057307);
template <class T>
inline constexpr T kGelu3 = T(1.5957691216057307 * 0.044715);

template <class T, Unary f>
RANVIER_INLINE Vec<T> value(Vec<T> x, Vec<T> alpha) {
  const Vec<T> zero{};
  if constexpr (f == Unary::identity) return x;
  if constexpr (f == Unary::negative) return -x;
  if constexpr (f == Unary::sqrt) return sqrt(x);
  if constexpr (f == Unary::exp) return exp(x);
  if constexpr (f == Unary::log) return log(x);
  if constexpr (f == Unary::abs) return abs(x);
  if constexpr (f == Unary::cosh) return cosh(x);
  if constexpr (f == Unary::relu) return max(zero, x);  // in this order NaN passes
  if constexpr (f == Unary::leaky_relu) return x > 0 ? x : alpha * x;
  if constexpr (f == Unary::elu) return x > 0 ? x : alpha * expm1_nonpositive(x);
  if constexpr (f == Unary::sigmoid) return sigmoid(x);
  if constexpr (f == Unary::tanh) return tanh(x);
  if constexpr (f == Unary::gelu) {
    const Vec<T> above = max(broadcast(-kGaussianEnd<T>), x), c = min(broadcast(kGaussianEnd<T>), above);
    return above * normal_cdf(c, gaussian(c));
  }
  if constexpr (f == Unary::gelu_tanh) return times_sigmoid<T>(x, x * fma(kGelu3<T> * x, x, broadcast(kGelu1<T>)));
  if constexpr (f == Unary::silu) return times_sigmoid<T>(x, x);
  if constexpr (f == Unary::softplus) return max(zero, x) + log1p_unit(exp_nonpositive(-abs(x)));
}

// dy f'(x), from saved = y or x as saved_by(f) says.
template <class T, Unary f>
RANVIER_INLINE Vec<T> derivative(Vec<T> dy, Vec<T> saved, Vec<T> alpha) {
  const Vec<T> x = saved, y = saved, zero{}, one = broadcast(T(1));
  if constexpr (f == Unary::identity) return dy;
  if constexpr (f == Unary::negative) return -dy;
  if constexpr (f == Unary::sqrt) return T(0.5) * dy / y;
  if constexpr (f == Unary::exp) return dy * y;
  if constexpr (f == Unary::log) return dy / x;
  if constexpr (f == Unary::abs) return x > 0 ? dy : x < 0 ? -dy : dy * x;  // the last: x is 0 or NaN
  if constexpr (f == Unary::cosh) return dy * sinh(x);
  if constexpr (f == Unary::relu) return y > 0 ? dy : zero;
  if constexpr (f == Unary::leaky_relu) return y > 0 ? dy : alpha * dy;
  if constexpr (f == Unary::elu) return y > 0 ? dy : dy * (y + alpha);
  if constexpr (f == Unary::sigmoid) return dy * (y * (1 - y));
  if constexpr (f == Unary::tanh) return dy * fma(-y, y, one);
  if constexpr (f == Unary::gelu) {
    const Vec<T> c = clamp(x, kGaussianEnd<T>), e = gaussian(c);
    return dy * fma(c, T(0.3989422804014327) * e, normal_cdf(c, e));  // 1 / sqrt(2 pi)
  }
  if constexpr (f == Unary::gelu_tanh) {
    const Vec<T> c = clamp(x, kSigmoidEnd<T>), square = c * c;
    const auto s = sigmoids(c * fma(broadcast(kGelu3<T>), square, broadcast(kGelu1<T>)));
    const Vec<T> slope = fma(broadcast(3 * kGelu3<T>), square, broadcast(kGelu1<T>));  // of the argument
    return dy * (s.plus * fma(c * s.minus, slope, one));
  }
  if constexpr (f == Unary::silu) {
    const Vec<T> c = clamp(x, kSigmoidEnd<T>);
    const auto s = sigmoids(c);
    return dy * (s.plus * fma(c, s.minus, one));
  }
  if constexpr (f == Unary::softplus) return dy * sigmoid(x);
}

template <class T, Binary f>
RANVIER_INLINE Vec<T> value(Vec<T> a, Vec<T> b) {
  const Vec<T> zero{}, one = broadcast(T(1));
  if constexpr (f == Binary::add) return a + b;
  if constexpr (f == Binary::subtract) return a - b;
  if constexpr (f == Binary::multiply) return a * b;
  if constexpr (f == Binary::divide) return a / b;
  if constexpr (f == Binary::power) return power(a, b);
  if constexpr (f == Binary::maximum) return a == a ? max(a, b) : a;  // max passes b's NaN alone
  if constexpr (f == Binary::greater) return a > b ? one : zero;
  if constexpr (f == Binary::greater_equal) return a >= b ? one : zero;
}

template <class T, Unary f>
void unary(std::int64_t n, const T* x, T* y, T alpha) {
  const Vec<T> a = broadcast(alpha);
  std::int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store(y + i, value<T, f>(load(x + i), a));
  if (i < n) store_n(y + i, value<T, f>(load_n(x + i, n - i), a), n - i);
}

template <class T, Unary f>
void unary_backward(std::int64_t n, const T* dy, const T* saved, T* dx, T alpha) {
  constexpr bool kReads = saved_by(f) != Saved::nothing;  // else saved may be null
  const Vec<T> a = broadcast(alpha), nothing{};
  std::int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>)
    store(dx + i, derivative<T, f>(load(dy + i), kReads ? load(saved + i) : nothing, a));
  if (i < n) {
    const Vec<T> last = kReads ? load_n(saved + i, n - i) : nothing;
    store_n(dx + i, derivative<T, f>(load_n(dy + i, n - i), last, a), n - i);
  }
}

// An array, or one value in its place. The compiler makes a loop for each case.
template <class T>
struct Operand {
  const T* p;
  bool moves;
  Vec<T> value;

  RANVIER_INLINE Operand of(const T* p, std::int64_t stride) { return {p, stride != 0, broadcast(*p)}; }
  __attribute__((always_inline)) Vec<T> at(std::int64_t i) const { return moves ? load(p + i) : value; }
  __attribute__((always_inline)) Vec<T> at(std::int64_t i, std::int64_t n) const {
    return moves ? load_n(p + i, n) : value;
  }
};

template <class T, Binary f>
void binary(std::int64_t n, const T* a, std::int64_t a_stride, const T* b, std::int64_t b_stride, T* out) {
  if (n == 0) return;  // a and b may hold nothing
  const auto x = Operand<T>::of(a, a_stride), y = Operand<T>::of(b, b_stride);
  std::int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store(out + i, value<T, f>(x.at(i), y.at(i)));
  if (i < n) store_n(out + i, value<T, f>(x.at(i, n - i), y.at(i, n - i)), n - i);
}

template <class T>
void where(std::int64_t n, const T* condition, std::int64_t condition_stride, const T* a, std::int64_t a_stride,
           const T* b, std::int64_t b_stride, T* out) {
  if (n == 0) return;
  const auto c = Operand<T>::of(condition, condition_stride), x = Operand<T>::of(a, a_stride),
             y = Operand<T>::of(b, b_stride);
  std::int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store(out + i, c.at(i) != 0 ? x.at(i) : y.at(i));
  if (i < n) store_n(out + i, c.at(i, n - i) != 0 ? x.at(i, n - i) : y.at(i, n - i), n - i);
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

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
