// Functions of one vector. float: polynomials of ours, the same bits on every instruction set with fma; double: libm,
// lane by lane.
//
// Every polynomial was fitted by us: weighted least squares on Chebyshev nodes, reweighted until the relative error is
// level (Lawson's method), then rounded to float one coefficient after another, lowest first, the others refitted each
// time. "Fit" is the polynomial's own relative error.
//
// The error of each function over all floats with fma, rounding included, in ulp (tests/cpp/test_math.cpp): log, expm1
// 0.95; exp 1.04; cosh 1.51; sinh 1.62; softplus 1.75; sigmoid 2.41; tanh 2.5; silu 3.4; gelu 6.42 (70.35 without fma,
// both far below zero); gelu_tanh 1.63 ulp of x; power 0.51. Infinities and NaN as in NumPy, but silu and the gelus
// have their limits there, not infinity * 0 = NaN. Subnormal inputs of log count as zero, as under DAZ; results below
// the normal numbers, or made with such a factor (silu below -87.3, gelu below -12.9), may be zero.
#pragma once

#include <math.h>

#include <cstdint>

#include "cpu/kernels/simd.h"

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

inline constexpr float kInfinity = __builtin_inff(), kNaN = __builtin_nanf(""), kLargest = __FLT_MAX__;
inline constexpr float kLn2 = 0.693147181f;
inline constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 1.42860677e-6f;  // 16 bits, so that n * kLn2High is exact

// Horner's rule, highest coefficient first.
template <class V, class T, class... Rest>
RANVIER_INLINE V polynomial(V x, T first, Rest... rest) {
  V sum = broadcast(first);
  ((sum = fma(sum, x, broadcast(rest))), ...);
  return sum;
}

template <double (*f)(double)>
RANVIER_INLINE Vec<double> by_lane(Vec<double> x) {
  for (std::int64_t i = 0; i < kLanes<double>; ++i) x[i] = f(x[i]);
  return x;
}

// e^(x + low) = 2^n (1 + q), |q| < 0.42, for |x| <= 90; low is at most a few ulp of x. Adding kRoundBiased rounds to an
// integer and leaves its biased exponent, n + 127, in the low bits of the sum. Fit of q: 2^-26.1.
inline constexpr float kRoundBiased = kRound + 127;
struct Exponential {
  Vec<float> biased, q;  // n + kRoundBiased
};
template <class... Low>
RANVIER_INLINE Exponential reduced_exp(Vec<float> x, Low... low) {
  const Vec<float> biased = fma(x, broadcast(1.44269504f), broadcast(kRoundBiased)), n = biased - kRoundBiased;
  const Vec<float> r = (fma(n, broadcast(-kLn2Low), fma(n, broadcast(-kLn2High), x)) + ... + low);
  const Vec<float> tail = polynomial(r, 0.00138706958f, 0.00836627185f, 0.0416674353f, 0.166665465f, 0.49999997f);
  return {biased, fma(r * r, tail, r)};
}
// 2^n for n in [-126, 127]; 0 for n = -127, where it would leave the normal numbers.
RANVIER_INLINE Vec<float> scale_of(const Exponential& e) { return from_bits(bits(e.biased) << 23); }
// 2^n (1 + q) for n in [-127, 127]. The two forms have the same bits where fma rounds once and 3 to 9 % between their
// speeds; where it does not, 2^n q alone may leave the normal numbers.
RANVIER_INLINE Vec<float> value_of(const Exponential& e) {
  const Vec<float> scale = scale_of(e);
#if defined(__x86_64__) && !defined(__FMA__)
  return scale * (1 + e.q);
#else
  return fma(scale, e.q, scale);
#endif
}
// The same up to n = 128, whose power is beyond all numbers where the result may not be.
RANVIER_INLINE Vec<float> large_value_of(const Exponential& e) {
  const Vec<float> most = min(e.biased, broadcast(kRoundBiased + 127));
  const Vec<float> y = value_of({most, e.q});
  return fma(y, e.biased - most, y);
}

RANVIER_INLINE Vec<float> exp(Vec<float> x) {
  return large_value_of(reduced_exp(min(broadcast(89.0f), max(broadcast(-88.0f), x))));  // in this order NaN passes
}
RANVIER_INLINE Vec<double> exp(Vec<double> x) { return by_lane<::exp>(x); }

RANVIER_INLINE Vec<float> exp_nonpositive(Vec<float> x) { return value_of(reduced_exp(max(broadcast(-88.0f), x))); }
RANVIER_INLINE Vec<double> exp_nonpositive(Vec<double> x) { return by_lane<::exp>(x); }

// e^x - 1 for x <= 0.
RANVIER_INLINE Vec<float> expm1_nonpositive(Vec<float> x) {
  const Exponential e = reduced_exp(max(broadcast(-30.0f), x));  // below it is -1
  const Vec<float> scale = scale_of(e);
  return fma(scale, e.q, scale - 1);
}
RANVIER_INLINE Vec<double> expm1_nonpositive(Vec<double> x) { return by_lane<::expm1>(x); }

// log(1 + f) for f in [sqrt(1/2) - 1, sqrt(2) - 1]. Even and odd powers apart: as many operations as one Horner chain,
// half its latency. Fit: 2^-27.4.
RANVIER_INLINE Vec<float> log1p_near_zero(Vec<float> f) {
  const Vec<float> square = f * f;
  const Vec<float> even = polynomial(square, 0.127621993f, 0.142015815f, 0.200012416f, 0.333333313f);
  const Vec<float> odd = polynomial(square, -0.0763639957f, -0.131596133f, -0.166234091f, -0.250008196f);
  return fma(square, fma(f, fma(odd, f, even), broadcast(-0.5f)), f);
}

RANVIER_INLINE Vec<float> log(Vec<float> x) {
  constexpr std::int32_t kSqrtHalf = 0x3f3504f3;  // the bits of sqrt(1/2)
  const Int<float> i = bits(abs(x)) - kSqrtHalf;  // a negative x would overflow
  const Vec<float> n = __builtin_convertvector(i >> 23, Vec<float>);
  const Vec<float> f = from_bits((i & 0x7fffff) + kSqrtHalf) - 1;  // x = 2^n (1 + f)
  const Vec<float> y = fma(n, broadcast(kLn2High), fma(n, broadcast(kLn2Low), log1p_near_zero(f)));
  const Vec<float> below = x < 0 ? broadcast(kNaN) : broadcast(-kInfinity);
  return x < __FLT_MIN__ ? below : x <= kLargest ? y : x;  // x: infinity, NaN
}
RANVIER_INLINE Vec<double> log(Vec<double> x) { return by_lane<::log>(x); }

// log(1 + x) for x in [0, 1].
RANVIER_INLINE Vec<float> log1p_unit(Vec<float> x) {
  const auto large = x > 0.414213562f;
  const Vec<float> y = log1p_near_zero(large ? fma(x, broadcast(0.5f), broadcast(-0.5f)) : x);
  return large ? y + kLn2 : y;
}
RANVIER_INLINE Vec<double> log1p_unit(Vec<double> x) { return by_lane<::log1p>(x); }

RANVIER_INLINE Vec<float> tanh(Vec<float> x) {
  const Vec<float> m = expm1_nonpositive(-2.0f * abs(x));
  return copysign(m / (2 + m), x);
}
RANVIER_INLINE Vec<double> tanh(Vec<double> x) { return by_lane<::tanh>(x); }

// e^|x| / 2, which does not overflow before cosh and sinh do.
RANVIER_INLINE Vec<float> half_exp_abs(Vec<float> x) {
  const Exponential e = reduced_exp(min(broadcast(90.0f), abs(x)));
  return large_value_of({e.biased - 1, e.q});
}
RANVIER_INLINE Vec<float> cosh(Vec<float> x) {
  const Vec<float> half = half_exp_abs(x);
  return half + 0.25f / half;
}
RANVIER_INLINE Vec<double> cosh(Vec<double> x) { return by_lane<::cosh>(x); }

// Fit of the polynomial: 2^-31.6.
RANVIER_INLINE Vec<float> sinh(Vec<float> x) {
  const Vec<float> half = half_exp_abs(x), u = x * x;
  const Vec<float> tail = polynomial(u, 2.78221319e-06f, 0.000198428956f, 0.00833331048f, 0.166666672f);
  return abs(x) < 1 ? fma(x * u, tail, x) : copysign(half - 0.25f / half, x);
}
RANVIER_INLINE Vec<double> sinh(Vec<double> x) { return by_lane<::sinh>(x); }

// e^(-x^2 / 2) for |x| <= kGaussianEnd, where it is 0. The rounding error of x^2 is handed on: it would cost up to
// x^2 / 2 ulp.
template <class T>
inline constexpr T kGaussianEnd = 40;
template <>
inline constexpr float kGaussianEnd<float> = 13.26f;
RANVIER_INLINE Vec<float> gaussian(Vec<float> x) {
  const Vec<float> half = -0.5f * x, square = half * x;
  return value_of(reduced_exp(square, fma(half, x, -square)));
}
RANVIER_INLINE Vec<double> gaussian(Vec<double> x) { return by_lane<::exp>(-0.5 * x * x); }

// The standard normal distribution function (1 + erf(x / sqrt(2))) / 2, likewise, told gaussian(x). Its lower tail is
// the gaussian times a rational function of |x| whose coefficients are all positive, so nothing cancels at either end.
// Fit: 2^-25.5 up to |x| = 13.5.
RANVIER_INLINE Vec<float> normal_cdf(Vec<float> x, Vec<float> gaussian) {
  const Vec<float> a = abs(x);
  const Vec<float> p = polynomial(a, 0.00400988711f, 0.0399209969f, 0.181127727f, 0.435458183f, 0.5f);
  const Vec<float> q = polynomial(a, 0.0100511527f, 0.100074507f, 0.463905036f, 1.19376254f, 1.66880119f, 1.0f);
  const Vec<float> tail = gaussian * (p / q);
  return x > 0 ? 1 - tail : tail;
}
RANVIER_INLINE Vec<double> normal_cdf(Vec<double> x, Vec<double>) {
  return 0.5 * by_lane<::erfc>(x * -0.70710678118654752);
}

// a^b for lanes that hold floats, to 2^-33. Fits: log2 2^-45, exp2 2^-34.5.
RANVIER_INLINE Vec<double> power_of_floats(Vec<double> a, Vec<double> b) {
  constexpr double kInf = __builtin_inf();
  constexpr std::int64_t kSqrtHalf = 0x3fe6a09e667f3bcd;  // the bits of sqrt(1/2)
  const Vec<double> size = abs(a);
  const Int<double> i = bits(size) - kSqrtHalf;
  const Vec<double> n = from_bits((i >> 52) + 0x4338000000000000) - kRoundDouble;  // the integer i >> 52
  const Vec<double> m = from_bits((i & 0xfffffffffffff) + kSqrtHalf);              // |a| = 2^n m
  const Vec<double> s = (m - 1) / (m + 1);                                         // log m = 2 artanh s
  Vec<double> log2 = fma(s,
                         polynomial(s * s, 0.28289877317896445, 0.31990579129678226, 0.4122092501049005,
                                    0.5770779423871195, 0.9617966941132804, 2.88539008177785),
                         n);
  log2 = size == 0 ? broadcast(-kInf) : size < kInf ? log2 : size;
  const Vec<double> t = min(broadcast(1000.0), max(broadcast(-1000.0), b * log2));  // far beyond float's range
  const Vec<double> whole = round(t);
  const Vec<double> y =
      power_of_two(whole) * polynomial(t - whole, 1.5201920299520028e-05, 0.0001546929111506997, 0.0013333922568576108,
                                       0.009618027253755157, 0.05550410353442663, 0.24022651198156886,
                                       0.6931471807284499, 0.9999999999616824);
  // What a negative base makes of it. From 2^24 on every float is even.
  const Vec<double> exponent = min(broadcast(0x1p24), abs(b));
  const Vec<double> half = 0.5 * exponent;
  const auto integral = round(exponent) == exponent, odd = integral & (round(half) != half);
  const auto negative = bits(a) < 0;
  const Vec<double> with_sign = (negative & odd) ? -y : y;
  const Vec<double> defined = ((a < 0) & ~integral & (size < kInf)) ? broadcast(__builtin_nan("")) : with_sign;
  // As in C and NumPy: x^0 = 1^x = (-1)^infinity = 1, also where x is NaN.
  return ((b == 0) | (a == 1) | ((size == 1) & (abs(b) == kInf))) ? broadcast(1.0) : defined;
}
RANVIER_INLINE Vec<float> power(Vec<float> a, Vec<float> b) {
  const Wide x = widen(a), y = widen(b);
  return narrow({power_of_floats(x.low, y.low), power_of_floats(x.high, y.high)});
}
RANVIER_INLINE Vec<double> power(Vec<double> a, Vec<double> b) {
  for (std::int64_t i = 0; i < kLanes<double>; ++i) a[i] = ::pow(a[i], b[i]);
  return a;
}

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
