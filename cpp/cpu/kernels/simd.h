// One vector type over every instruction set: GCC vector extensions give the operators, this header the rest.
// Included only by the files of isa/, which define RANVIER_ISA_NAMESPACE and RANVIER_VECTOR_BYTES (16, 32 or 64).
// Everything here has internal linkage: code compiled for AVX-512 must never win at link time and run elsewhere.
//
// Rules that hold on every instruction set (tests/cpp/test_simd.cpp):
//   max(a, b) = a > b ? a : b and min(a, b) = a < b ? a : b, so the second operand wins where one is NaN;
//   fma rounds once (the baseline has none: a * b + c, outside the promise of equal bits);
//   comparisons give all-ones or all-zeros lanes of Int<T>.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define RANVIER_INLINE static inline __attribute__((always_inline))

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(RANVIER_VECTOR_BYTES)));
  typedef std::int32_t integer __attribute__((vector_size(RANVIER_VECTOR_BYTES)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(RANVIER_VECTOR_BYTES)));
  typedef std::int64_t integer __attribute__((vector_size(RANVIER_VECTOR_BYTES)));
};
template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
using Int = typename VectorOf<T>::integer;
template <class T>
inline constexpr std::int64_t kLanes = RANVIER_VECTOR_BYTES / sizeof(T);

template <class T>
RANVIER_INLINE Vec<T> load(const T* p) {
  typedef Vec<T> Unaligned __attribute__((aligned(sizeof(T)), may_alias));
  return *reinterpret_cast<const Unaligned*>(p);
}
template <class T>
RANVIER_INLINE void store(T* p, Vec<T> v) {
  typedef Vec<T> Unaligned __attribute__((aligned(sizeof(T)), may_alias));
  *reinterpret_cast<Unaligned*>(p) = v;
}
template <class T>
RANVIER_INLINE Vec<T> broadcast(T x) {
  return x - Vec<T>{};  // not Vec<T>{} + x: that turns -0 into 0
}

// The first n lanes (0 <= n <= kLanes), the others zero; no byte beyond them is touched.
#if RANVIER_VECTOR_BYTES == 64
inline constexpr __mmask16 kAll = 0xffff;  // GCC 12 warns of the plain forms' undefined lanes
RANVIER_INLINE Vec<float> load_n(const float* p, std::int64_t n) {
  return reinterpret_cast<Vec<float>>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p));
}
RANVIER_INLINE void store_n(float* p, Vec<float> v, std::int64_t n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), reinterpret_cast<__m512>(v));
}
RANVIER_INLINE Vec<double> load_n(const double* p, std::int64_t n) {
  return reinterpret_cast<Vec<double>>(_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1), p));
}
RANVIER_INLINE void store_n(double* p, Vec<double> v, std::int64_t n) {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1), reinterpret_cast<__m512d>(v));
}
RANVIER_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return reinterpret_cast<Vec<float>>(
      _mm512_fmadd_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
}
RANVIER_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return reinterpret_cast<Vec<double>>(
      _mm512_fmadd_pd(reinterpret_cast<__m512d>(a), reinterpret_cast<__m512d>(b), reinterpret_cast<__m512d>(c)));
}
RANVIER_INLINE Vec<float> sqrt(Vec<float> v) {
  return reinterpret_cast<Vec<float>>(_mm512_maskz_sqrt_ps(kAll, reinterpret_cast<__m512>(v)));
}
RANVIER_INLINE Vec<double> sqrt(Vec<double> v) {
  return reinterpret_cast<Vec<double>>(_mm512_maskz_sqrt_pd(static_cast<__mmask8>(kAll), reinterpret_cast<__m512d>(v)));
}
#elif RANVIER_VECTOR_BYTES == 32
RANVIER_INLINE __m256i mask32(std::int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
RANVIER_INLINE __m256i mask64(std::int64_t n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
RANVIER_INLINE Vec<float> load_n(const float* p, std::int64_t n) {
  return reinterpret_cast<Vec<float>>(_mm256_maskload_ps(p, mask32(n)));
}
RANVIER_INLINE void store_n(float* p, Vec<float> v, std::int64_t n) {
  _mm256_maskstore_ps(p, mask32(n), reinterpret_cast<__m256>(v));
}
RANVIER_INLINE Vec<double> load_n(const double* p, std::int64_t n) {
  return reinterpret_cast<Vec<double>>(_mm256_maskload_pd(p, mask64(n)));
}
RANVIER_INLINE void store_n(double* p, Vec<double> v, std::int64_t n) {
  _mm256_maskstore_pd(p, mask64(n), reinterpret_cast<__m256d>(v));
}
RANVIER_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return reinterpret_cast<Vec<float>>(
      _mm256_fmadd_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(c)));
}
RANVIER_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return reinterpret_cast<Vec<double>>(
      _mm256_fmadd_pd(reinterpret_cast<__m256d>(a), reinterpret_cast<__m256d>(b), reinterpret_cast<__m256d>(c)));
}
RANVIER_INLINE Vec<float> sqrt(Vec<float> v) {
  return reinterpret_cast<Vec<float>>(_mm256_sqrt_ps(reinterpret_cast<__m256>(v)));
}
RANVIER_INLINE Vec<double> sqrt(Vec<double> v) {
  return reinterpret_cast<Vec<double>>(_mm256_sqrt_pd(reinterpret_cast<__m256d>(v)));
}
#else
// Every lane's number is a constant: one that is not goes through the stack.
RANVIER_INLINE Vec<float> load_n(const float* p, std::int64_t n) {
  switch (n) {
    case 0:
      return Vec<float>{};
    case 1:
      return Vec<float>{p[0]};
    case 2:
      return Vec<float>{p[0], p[1]};
    case 3:
      return Vec<float>{p[0], p[1], p[2]};
    default:
      return load(p);
  }
}
RANVIER_INLINE void store_n(float* p, Vec<float> v, std::int64_t n) {
  if (n == 4) return store(p, v);
  if (n > 0) p[0] = v[0];
  if (n > 1) p[1] = v[1];
  if (n > 2) p[2] = v[2];
}
RANVIER_INLINE Vec<double> load_n(const double* p, std::int64_t n) {
  return n == 2 ? load(p) : n == 1 ? Vec<double>{p[0]} : Vec<double>{};
}
RANVIER_INLINE void store_n(double* p, Vec<double> v, std::int64_t n) {
  if (n > 0) p[0] = v[0];
  if (n > 1) p[1] = v[1];
}
#if defined(__aarch64__)
RANVIER_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) { return vfmaq_f32(c, a, b); }
RANVIER_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) { return vfmaq_f64(c, a, b); }
RANVIER_INLINE Vec<float> sqrt(Vec<float> v) { return vsqrtq_f32(v); }
RANVIER_INLINE Vec<double> sqrt(Vec<double> v) { return vsqrtq_f64(v); }
#else
RANVIER_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) { return a * b + c; }
RANVIER_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) { return a * b + c; }
RANVIER_INLINE Vec<float> sqrt(Vec<float> v) {
  return reinterpret_cast<Vec<float>>(_mm_sqrt_ps(reinterpret_cast<__m128>(v)));
}
RANVIER_INLINE Vec<double> sqrt(Vec<double> v) {
  return reinterpret_cast<Vec<double>>(_mm_sqrt_pd(reinterpret_cast<__m128d>(v)));
}
#endif
#endif

template <class V>
RANVIER_INLINE V max(V a, V b) {
  return a > b ? a : b;
}
template <class V>
RANVIER_INLINE V min(V a, V b) {
  return a < b ? a : b;
}
// MAXPS and MINPS have these very rules, and GCC makes a comparison and a blend of the form above.
#if RANVIER_VECTOR_BYTES == 64
RANVIER_INLINE Vec<float> max(Vec<float> a, Vec<float> b) {
  return reinterpret_cast<Vec<float>>(
      _mm512_maskz_max_ps(kAll, reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
}
RANVIER_INLINE Vec<float> min(Vec<float> a, Vec<float> b) {
  return reinterpret_cast<Vec<float>>(
      _mm512_maskz_min_ps(kAll, reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
}
#elif RANVIER_VECTOR_BYTES == 32
RANVIER_INLINE Vec<float> max(Vec<float> a, Vec<float> b) {
  return reinterpret_cast<Vec<float>>(_mm256_max_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
}
RANVIER_INLINE Vec<float> min(Vec<float> a, Vec<float> b) {
  return reinterpret_cast<Vec<float>>(_mm256_min_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
}
#endif

RANVIER_INLINE Int<float> bits(Vec<float> v) { return reinterpret_cast<Int<float>>(v); }
RANVIER_INLINE Int<double> bits(Vec<double> v) { return reinterpret_cast<Int<double>>(v); }
RANVIER_INLINE Vec<float> from_bits(Int<float> i) { return reinterpret_cast<Vec<float>>(i); }
RANVIER_INLINE Vec<double> from_bits(Int<double> i) { return reinterpret_cast<Vec<double>>(i); }

RANVIER_INLINE Vec<float> abs(Vec<float> v) { return from_bits(bits(v) & 0x7fffffff); }
RANVIER_INLINE Vec<double> abs(Vec<double> v) { return from_bits(bits(v) & 0x7fffffffffffffff); }
RANVIER_INLINE Vec<float> copysign(Vec<float> v, Vec<float> sign) {
  return from_bits((bits(v) & 0x7fffffff) | (bits(sign) & ~0x7fffffff));
}

// Adding 1.5 * 2^23 leaves the nearest integer (ties to even) in the low bits of the sum.
inline constexpr float kRound = 0x1.8p23f;
inline constexpr double kRoundDouble = 0x1.8p52;
// The nearest integer, |v| <= 2^51.
RANVIER_INLINE Vec<double> round(Vec<double> v) { return (v + kRoundDouble) - kRoundDouble; }

// 2^n for integral n in [-1022, 1023]: the shift leaves nothing but n and the exponent's bias.
RANVIER_INLINE Vec<double> power_of_two(Vec<double> n) { return from_bits(bits(n + (kRoundDouble + 1023)) << 52); }

// The low and high halves of the lanes in double, and back.
struct Wide {
  Vec<double> low, high;
};
RANVIER_INLINE Wide widen(Vec<float> v) {
  typedef float Half __attribute__((vector_size(RANVIER_VECTOR_BYTES / 2)));
  Half half[2];
  __builtin_memcpy(half, &v, sizeof v);
  return {__builtin_convertvector(half[0], Vec<double>), __builtin_convertvector(half[1], Vec<double>)};
}
RANVIER_INLINE Vec<float> narrow(Wide wide) {
  typedef float Half __attribute__((vector_size(RANVIER_VECTOR_BYTES / 2)));
  const Half half[2] = {__builtin_convertvector(wide.low, Half), __builtin_convertvector(wide.high, Half)};
  Vec<float> v;
  __builtin_memcpy(&v, half, sizeof v);
  return v;
}

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
