// Operands of matrix products in the order in which the tile reads them.
#pragma once

#include <cstdint>
#include <utility>

#include "cpu/kernels.h"
#include "cpu/kernels/tile.h"

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

#if defined(__clang__)
#define RANVIER_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define RANVIER_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Int<T>{__VA_ARGS__})
#endif
// In each 16-byte part, the units of kUnit elements of the low or high halves of a and b in turn.
template <class T, int kUnit, int kHigh, int... i>
RANVIER_INLINE Vec<T> interleave(Vec<T> a, Vec<T> b, std::integer_sequence<int, i...>) {
  constexpr int q = 16 / sizeof(T);
  return RANVIER_SHUFFLE(a, b,
                         (i / kUnit % 2 * static_cast<int>(kLanes<T>) + i / q * q + kHigh * (q / 2) +
                          i % q / (2 * kUnit) * kUnit + i % kUnit)...);
}
#undef RANVIER_SHUFFLE
template <class T, int kUnit, int kHigh>
RANVIER_INLINE Vec<T> interleave(Vec<T> a, Vec<T> b) {
  return interleave<T, kUnit, kHigh>(a, b, std::make_integer_sequence<int, kLanes<T>>{});
}

// The 16 bytes at `part(i)` for each part i.
template <class T, class Part>
RANVIER_INLINE Vec<T> load_parts(Part&& part) {
#if RANVIER_VECTOR_BYTES > 16
  const auto load_part = [&](int i) { return _mm_loadu_ps(reinterpret_cast<const float*>(part(i))); };
#endif
#if RANVIER_VECTOR_BYTES == 64
  __m512 v = _mm512_castps128_ps512(load_part(0));
  v = _mm512_insertf32x4(v, load_part(1), 1);
  v = _mm512_insertf32x4(v, load_part(2), 2);
  return reinterpret_cast<Vec<T>>(_mm512_insertf32x4(v, load_part(3), 3));
#elif RANVIER_VECTOR_BYTES == 32
  return reinterpret_cast<Vec<T>>(_mm256_insertf128_ps(_mm256_castps128_ps256(load_part(0)), load_part(1), 1));
#else
  return load(part(0));
#endif
}

// out (K, ld): a vector of columns, column j at column(j) and contiguous in k.
template <class T, class Column>
__attribute__((noinline)) void pack_transposed(std::int64_t K, Column column, T* out, std::int64_t ld) {
  constexpr std::int64_t L = kLanes<T>, q = 16 / sizeof(T);
  if (K < q) {
    for (std::int64_t k = 0; k < K; ++k)
      for (std::int64_t j = 0; j < L; ++j) out[k * ld + j] = column(j)[k];
    return;
  }
  for (std::int64_t k = 0; k < K; k += q) {
    k = smaller(k, K - q);  // the last block overlaps the one before
    T* to = out + k * ld;
    const auto row = [&](std::int64_t r) { return load_parts<T>([&](int i) { return column(i * q + r) + k; }); };
    if constexpr (q == 4) {
      const Vec<T> r0 = row(0), r1 = row(1), r2 = row(2), r3 = row(3);
      const Vec<T> t0 = interleave<T, 1, 0>(r0, r1), t1 = interleave<T, 1, 1>(r0, r1), t2 = interleave<T, 1, 0>(r2, r3),
                   t3 = interleave<T, 1, 1>(r2, r3);
      store(to, interleave<T, 2, 0>(t0, t2));
      store(to + ld, interleave<T, 2, 1>(t0, t2));
      store(to + 2 * ld, interleave<T, 2, 0>(t1, t3));
      store(to + 3 * ld, interleave<T, 2, 1>(t1, t3));
    } else {
      const Vec<T> r0 = row(0), r1 = row(1);
      store(to, interleave<T, 1, 0>(r0, r1));
      store(to + ld, interleave<T, 1, 1>(r0, r1));
    }
  }
}

template <class T>
void pack_b(std::int64_t K, std::int64_t N, const T* b, std::int64_t b_row, std::int64_t b_col, std::int64_t first,
            std::int64_t last, T* out) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t end = smaller(last * kPanel, N);
  if (b_col == 1) {  // whole rows: the longer they are, the better the processor fetches ahead
    for (std::int64_t k = 0; k < K; ++k)
      for (std::int64_t j = first * kPanel; j < end; j += kPanel) {
        const std::int64_t columns = smaller(kPanel, N - j), width = panel_width(columns);
        const T* const from = b + k * b_row + j;
        T* const to = out + j * K + k * width;
        std::int64_t i = 0;
        for (; i + L <= columns; i += L) store(to + i, load(from + i));
        for (; i < width; i += L) store(to + i, load_n(from + i, i < columns ? columns - i : 0));
      }
    return;
  }
  for (std::int64_t j = first * kPanel; j < end; j += kPanel) {
    const std::int64_t columns = smaller(kPanel, N - j), width = panel_width(columns);
    const T* const from = b + j * b_col;
    T* const to = out + j * K;
    if (b_row == 1) {
      std::int64_t i = 0;
      for (; i + L <= columns; i += L)
        pack_transposed(K, [at = from + i * b_col, b_col](std::int64_t c) { return at + c * b_col; }, to + i, width);
      for (; i < width; i += L) {
        const std::int64_t n = i < columns ? columns - i : 0;
        pack_transposed(K, [=](std::int64_t c) { return from + smaller(i + c, columns - 1) * b_col; }, to + i, width);
        for (std::int64_t k = 0; k < K; ++k) store(to + k * width + i, load_n(to + k * width + i, n));
      }
    } else {
      for (std::int64_t k = 0; k < K; ++k)
        for (std::int64_t i = 0; i < width; ++i) to[k * width + i] = i < columns ? from[k * b_row + i * b_col] : 0;
    }
  }
}

// out: panels of rows of an A whose columns are contiguous, each (K, its rows).
template <class T>
void pack_a(std::int64_t K, std::int64_t M, const T* a, std::int64_t a_col, T* out) {
  constexpr std::int64_t kLines = 4;  // so many columns of A are read side by side
  constexpr int kHighest = kMaxRows[kMaxVectors];
  for (std::int64_t k0 = 0; k0 < K; k0 += kLines)
    for_row_panels(M, kHighest, [&](std::int64_t i, std::int64_t rows) {
      const std::int64_t end = smaller(k0 + kLines, K);
      const auto copy = [&](std::int64_t n) __attribute__((always_inline)) {
#pragma GCC unroll 4
        for (std::int64_t k = k0; k < end; ++k) {
          __builtin_prefetch(a + (k + kLines) * a_col + i);
          __builtin_memcpy(out + i * K + k * n, a + k * a_col + i, static_cast<std::size_t>(n) * sizeof(T));
        }
      };
      if (rows == kHighest)
        copy(kHighest);
      else if (rows == kHighest - 1)
        copy(kHighest - 1);
      else
        copy(rows);
    });
}

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
