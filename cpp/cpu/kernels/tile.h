// The register tile of matrix products, and how a product is cut into panels of its height and width.
#pragma once

#include <cstdint>
#include <utility>

#include "cpu/kernels.h"
#include "cpu/kernels/simd.h"

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

RANVIER_INLINE std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
RANVIER_INLINE std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
RANVIER_INLINE std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
// The first of `parts` parts of n, equal to within one.
RANVIER_INLINE std::int64_t equal_part(std::int64_t n, std::int64_t parts) {
  return parts == 1 ? n : ceil_div(n, parts);  // most products are one panel: no division
}

// The highest tile of each width in vectors: rows x vectors accumulators, a row of B, one element of A. Wider than two
// (three, four) vectors is for one or two rows, which else have not the eight chains of fma that keep two units busy.
#if defined(__aarch64__)
inline constexpr bool k32Registers = true;
#else
inline constexpr bool k32Registers = RANVIER_VECTOR_BYTES == 64;
#endif
// GCC 12 spills one of NEON's 6 x 4. With 16 registers 4 x 3 is level where B is at hand, but 6 x 2 reads half as many
// bytes of B and never parts of cache lines: 1.3 times as fast where B comes from L3.
inline constexpr int kMaxVectors = RANVIER_VECTOR_BYTES == 64 ? 4 : k32Registers ? 3 : 2;
inline constexpr int kMaxRows[] = {
    0, k32Registers ? 24 : 12, k32Registers ? 12 : 6, k32Registers ? 8 : 2, kMaxVectors == 4 ? 6 : 2, 1, 1, 1, 1};
RANVIER_INLINE std::int64_t widest_panel(std::int64_t M) { return M == 1 ? 8 : M == 2 ? 4 : kMaxVectors; }

// AVX-512 masks cost nothing; elsewhere only the tiles of a tail pay for them.
inline constexpr bool kAlwaysMask = RANVIER_VECTOR_BYTES == 64;

// What the tiles of one chunk of k share.
template <class T>
struct Chunk {
  const Product<T>& p;
  const T* a;  // at row 0 and the chunk's first k
  std::int64_t a_row, a_col;
  std::int64_t K;
  bool first, last;    // C holds the sums of the chunks before
  bool far;            // C lies beyond L2
  const T* next_b;     // row 0 of the block of B that is packed next; null: none, or its rows are not contiguous
  std::int64_t b_row;  // from one of its rows to the next
  // Each panel of columns fetches so many elements of each row of A in the panel below, that at first_column the first
  // ones; 0: none.
  std::int64_t a_part = 0, first_column = 0;
};

// Which of A's strides is known to be 1.
enum class Unit { none, column, row };

// (kRows, K) x (K, kVectors vectors), of which the last has n lanes: the product's rows from i, columns from j. So many
// elements ahead of each row of B lies what is wanted soon (0: nothing).
template <class T, int kRows, int kVectors, bool kMask, Unit kUnit>
void tile(const Chunk<T>& chunk, std::int64_t i, std::int64_t j, const T* b, std::int64_t b_row, std::int64_t n,
          std::int64_t ahead) {
  constexpr std::int64_t L = kLanes<T>;
  const Product<T>& p = chunk.p;
  Vec<T> acc[kRows][kVectors];
  const auto each = [&](auto&& update) __attribute__((always_inline)) {
#pragma GCC unroll 32
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) update(acc[r][v], r, v);
  };
  const auto load_at = [&](const T* x, int v) __attribute__((always_inline)) {
    return kMask && v == kVectors - 1 ? load_n(x + v * L, n) : load(x + v * L);
  };
  const auto store_at = [&](T* x, int v, Vec<T> y) __attribute__((always_inline)) {
    if (kMask && v == kVectors - 1)
      store_n(x + v * L, y, n);
    else
      store(x + v * L, y);
  };

  each([](Vec<T>& x, int, int) __attribute__((always_inline)) { x = Vec<T>{}; });
  // One pointer for three rows: base + {0, 1, 2} * stride are addresses that cost no instruction.
  constexpr int kShared = kUnit == Unit::row ? kRows : 3, kPointers = (kRows + kShared - 1) / kShared;
  const std::int64_t a_row = kUnit == Unit::row ? 1 : chunk.a_row, a_col = kUnit == Unit::column ? 1 : chunk.a_col;
  const T* a[kPointers];
#pragma GCC unroll 8
  for (int q = 0; q < kPointers; ++q) a[q] = chunk.a + (i + kShared * q) * a_row;
  const auto multiply = [&](std::int64_t k) __attribute__((always_inline)) {
    Vec<T> row[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) row[v] = load_at(b + k * b_row, v);
#pragma GCC unroll 32
    for (int r = 0; r < kRows; ++r) {
      const Vec<T> x = broadcast(a[r / kShared][r % kShared * a_row + k * a_col]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc[r][v] = fma(x, row[v], acc[r][v]);
    }
  };
  const auto advance = [&](std::int64_t k) __attribute__((always_inline)) {
#pragma GCC unroll 8
    for (int q = 0; q < kPointers; ++q) a[q] += k * a_col;
    b += k * b_row;
  };
  // The addresses of four k cost no instruction either where a stride of A is 1. Scalar instructions take turns with
  // the fma: one k at a time is 5 % slower.
  constexpr std::int64_t kUnroll = kUnit == Unit::none ? 1 : 4;
  // Where C lies beyond L2, it comes while the sums are made, a row at a time: all of it at once would keep the loads
  // of B waiting. So do row i of the next block of B and the rows of A below, with each of which the processor's own
  // fetching begins anew: on a Zen 5 squares of 2048 are 5 % faster for it, of 4096 10 %, wide and ffn 1 to 3 %.
  const std::int64_t segment = chunk.far ? ceil_div(ceil_div(chunk.K, kRows), kUnroll) * kUnroll : chunk.K;
  for (std::int64_t left = chunk.K, r = i; left > 0; left -= segment, ++r) {
    if (chunk.far) {
      const T* const to = p.c + r * p.ldc;
      for (int v = 0; v < kVectors; ++v) __builtin_prefetch(to + j + v * L, 1);
      if (chunk.next_b && r < kChunk)
        for (int v = 0; v < kVectors; ++v) __builtin_prefetch(chunk.next_b + r * chunk.b_row + j + v * L, 0, 2);
      if (kUnit == Unit::column && chunk.a_part > 0) {
        const std::int64_t begin = (j - chunk.first_column) / (kVectors * L) * chunk.a_part;
        const std::int64_t end = smaller(begin + chunk.a_part, chunk.K);
        for (std::int64_t k = begin; k < end; k += static_cast<std::int64_t>(64 / sizeof(T)))
          __builtin_prefetch(chunk.a + (r + kRows) * a_row + k);
      }
    }
    std::int64_t k = smaller(segment, left);
    for (; k >= kUnroll; k -= kUnroll) {
      // One row reads B as fast as it comes; a prefetch would only take turns with its loads (0.85 times as fast).
      if (kRows > 1 && ahead != 0)
#pragma GCC unroll 4
        for (std::int64_t u = 0; u < kUnroll; ++u) __builtin_prefetch(b + u * b_row + ahead, 0, 2);
#pragma GCC unroll 4
      for (std::int64_t u = 0; u < kUnroll; ++u) multiply(u);
      advance(kUnroll);
    }
    for (; k > 0; --k) {
      multiply(0);
      advance(1);
    }
  }

  T* c = p.c + i * p.ldc + j;
  const std::int64_t ldc = p.ldc;
  if (!chunk.first)
    each([&](Vec<T>& x, int r, int v) __attribute__((always_inline)) { x = load_at(c + r * ldc, v) + x; });
  if (chunk.last && p.bias) {
    Vec<T> bias[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) bias[v] = load_at(p.bias + j, v);
    each([&](Vec<T>& x, int, int v) __attribute__((always_inline)) { x += bias[v]; });
  }
  if (chunk.last && p.relu) each([](Vec<T>& x, int, int) __attribute__((always_inline)) { x = max(Vec<T>{}, x); });
  each([&](Vec<T>& x, int r, int v) __attribute__((always_inline)) { store_at(c + r * ldc, v, x); });
}

template <class T>
using Tile = void(const Chunk<T>&, std::int64_t, std::int64_t, const T*, std::int64_t, std::int64_t, std::int64_t);

template <class T, int kVectors, bool kMask, Unit kUnit,
          class Rows = std::make_integer_sequence<int, kMaxRows[kVectors]>>
struct Tiles;
template <class T, int kVectors, bool kMask, Unit kUnit, int... rows>
struct Tiles<T, kVectors, kMask, kUnit, std::integer_sequence<int, rows...>> {
  static constexpr Tile<T>* of[] = {tile<T, rows + 1, kVectors, kMask, kUnit>...};
};

template <class T, bool kMask>
Tile<T>* any_tile(std::int64_t rows, std::int64_t vectors) {
  constexpr Unit kAny = Unit::none;
  static constexpr Tile<T>* const* tiles[] = {Tiles<T, 1, kMask, kAny>::of, Tiles<T, 2, kMask, kAny>::of,
                                              Tiles<T, 3, kMask, kAny>::of, Tiles<T, 4, kMask, kAny>::of,
                                              Tiles<T, 5, kMask, kAny>::of, Tiles<T, 6, kMask, kAny>::of,
                                              Tiles<T, 7, kMask, kAny>::of, Tiles<T, 8, kMask, kAny>::of};
  return tiles[vectors - 1][rows - 1];
}

template <class T>
RANVIER_INLINE Tile<T>* find_tile(const Chunk<T>& chunk, std::int64_t rows, std::int64_t vectors, std::int64_t n) {
  if (n == kLanes<T> && vectors == kMaxVectors) {  // most of the work of all but the smallest products
    if (chunk.a_col == 1) return Tiles<T, kMaxVectors, false, Unit::column>::of[rows - 1];
    if (chunk.a_row == 1) return Tiles<T, kMaxVectors, false, Unit::row>::of[rows - 1];
  }
  return kAlwaysMask || n < kLanes<T> ? any_tile<T, true>(rows, vectors) : any_tile<T, kAlwaysMask>(rows, vectors);
}

// Calls panel(first column, vectors, lanes of the last) for panels of N columns, equally wide, of up to `widest`
// vectors.
template <class T, class Panel>
RANVIER_INLINE void for_panels(std::int64_t N, std::int64_t widest, Panel&& panel) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t vectors = ceil_div(N, L);
  std::int64_t panels = ceil_div(vectors, widest);
  for (std::int64_t v = 0; v < vectors;) {
    const std::int64_t width = equal_part(vectors - v, panels--);
    panel(v * L, width, smaller(N - (v + width - 1) * L, L));
    v += width;
  }
}

// Calls panel(first row, rows) for panels of M rows, equally high, of up to `highest`.
template <class Panel>
RANVIER_INLINE void for_row_panels(std::int64_t M, std::int64_t highest, Panel&& panel) {
  std::int64_t panels = ceil_div(M, highest);
  for (std::int64_t i = 0; i < M;) {
    const std::int64_t rows = equal_part(M - i, panels--);
    panel(i, rows);
    i += rows;
  }
}

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
