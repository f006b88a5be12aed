// Matrix products. One register tile serves every form: it takes A at any strides, and B with contiguous rows, so a B
// whose columns are contiguous in k is packed (copies() below says what else is).
//
// Loops: blocks of columns, whose chunk of B stays in L2; blocks of rows, whose A and C stay there too; chunks of k;
// panels of rows, whose A stays in L1; panels of columns, which stream from L2. So a panel of rows is finished while it
// is in L1. While the first panels of rows are computed, the block of B that comes next is fetched into L2: with
// M = 128 and weights that lie in L3 or memory, this takes AVX-512 from 88 to 97 % of the peak. What is packed serves
// all rows: then the chunks of k are outside, and C comes from L3 for each of them.
#pragma once

#include <cstdint>
#include <utility>

#include "cpu/kernels.h"
#include "cpu/kernels/simd.h"

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

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

template <class T>
inline constexpr std::int64_t kBlockColumns = 1024 / sizeof(T);  // kChunk rows of B take 256 KB of L2
inline constexpr std::int64_t kBlockRows = 256;                  // kChunk columns of A, and C, take as much again
template <class T>
inline constexpr std::int64_t kPackedColumns = 2 * kBlockColumns<T>;  // with no block of C beside it: 2 to 3 % faster
inline constexpr std::int64_t kPackedRows = 2048;  // of A at most, which then streams from where it lies
inline constexpr std::int64_t kColumnRows = 128;   // rows at a time where the vectors run along the rows

RANVIER_INLINE std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
RANVIER_INLINE std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
RANVIER_INLINE std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
// The first of `parts` parts of n, equal to within one.
RANVIER_INLINE std::int64_t equal_part(std::int64_t n, std::int64_t parts) {
  return parts == 1 ? n : ceil_div(n, parts);  // most products are one panel: no division
}

// What the tiles of one chunk of k share.
template <class T>
struct Chunk {
  const Product<T>& p;
  const T* a;  // at row 0 and the chunk's first k
  std::int64_t a_row, a_col;
  std::int64_t K;
  T* total;  // at (0, 0): the sums of the chunks before; C itself, or scratch where C's values are still to be added
  std::int64_t ld_total;
  bool first, last;
  bool far;            // C lies beyond L2
  const T* next_b;     // row 0 of the block of B that is packed next; null: none, or its rows are not contiguous
  std::int64_t b_row;  // from one of its rows to the next
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
  // of B waiting. So does row i of the next block of B.
  const std::int64_t segment = chunk.far ? ceil_div(ceil_div(chunk.K, kRows), kUnroll) * kUnroll : chunk.K;
  for (std::int64_t left = chunk.K, r = i; left > 0; left -= segment, ++r) {
    if (chunk.far) {
      const T* const to = chunk.last ? p.c + r * p.ldc : chunk.total + r * chunk.ld_total;
      for (int v = 0; v < kVectors; ++v) __builtin_prefetch(to + j + v * L, 1);
      if (chunk.next_b && r < kChunk)
        for (int v = 0; v < kVectors; ++v) __builtin_prefetch(chunk.next_b + r * chunk.b_row + j + v * L, 0, 2);
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

  T* total = chunk.total + i * chunk.ld_total + j;
  const std::int64_t ld_total = chunk.ld_total;
  if (!chunk.first)
    each([&](Vec<T>& x, int r, int v) __attribute__((always_inline)) { x = load_at(total + r * ld_total, v) + x; });
  if (!chunk.last) {
    each([&](Vec<T>& x, int r, int v) __attribute__((always_inline)) { store_at(total + r * ld_total, v, x); });
    return;
  }
  T* c = p.c + i * p.ldc + j;
  const std::int64_t ldc = p.ldc;
  if (p.bias) {
    Vec<T> bias[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) bias[v] = load_at(p.bias + j, v);
    each([&](Vec<T>& x, int, int v) __attribute__((always_inline)) { x += bias[v]; });
  }
  if (p.accumulate) each([&](Vec<T>& x, int r, int v) __attribute__((always_inline)) { x += load_at(c + r * ldc, v); });
  if (p.relu) each([](Vec<T>& x, int, int) __attribute__((always_inline)) { x = max(Vec<T>{}, x); });
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

// --- Packing.

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

// What is packed for one product. A B whose rows are not contiguous must be. If each row lies on pages of its own, so
// that the processor fetches no line ahead, copying first is faster where the copy serves 64 rows of B's, or a whole
// block of columns of A's: on Intel's AVX-512 with weights in L3, Y from 60 to 88 % of the peak, dW from 45 to 88 %; on
// AVX2 there, Y from 68 to 82 %, dW from 57 to 83 %. So it is for 128 rows where vectors of B straddle cache lines, as
// arrays of NumPy's begin anywhere: dW of 384 squared from 302 to 328 GFLOP/s.
struct Copies {
  bool a, b;
};
// C holds the sums of the chunks so far, unless its old values are to be added after the last one.
template <class T>
RANVIER_INLINE bool sums_apart(const Product<T>& p) {
  return p.accumulate && p.K > kChunk;
}
template <class T>
RANVIER_INLINE Copies copies(const Product<T>& p) {
  constexpr std::int64_t kFar = 2048 / sizeof(T);
  const bool straddles = reinterpret_cast<std::uintptr_t>(p.b) % 64 != 0;
  return {p.a_row == 1 && p.a_col >= kFar && p.N >= kBlockColumns<T> && p.M > kMaxRows[kMaxVectors] && p.K > 0 &&
              !sums_apart(p),
          !p.packed && p.N > 1 && (p.b_col != 1 || (p.b_row >= kFar && p.M >= 64) || (straddles && p.M >= 128))};
}

// --- The product.

template <class T>
RANVIER_INLINE void finish_rows(const Product<T>& p, std::int64_t i, std::int64_t rows, std::int64_t j,
                                std::int64_t n) {
  if (!p.finish) return;
  if (n == p.ldc && n == p.finish->ld_saved) return p.finish->run(*p.finish, p.c + i * n, i, 0, rows * n);
  for (std::int64_t r = i; r < i + rows; ++r) p.finish->run(*p.finish, p.c + r * p.ldc + j, r, j, n);
}

// The chunks of k in [k_begin, k_end), which begins one. a_panels: where pack_a put those of A, of a single chunk.
template <class T>
void product_blocks(const Product<T>& p, std::int64_t k_begin, std::int64_t k_end, const T* a_panels, T* scratch) {
  constexpr std::int64_t L = kLanes<T>, kLine = 64 / sizeof(T);
  const bool copy_b = copies(p).b, apart = sums_apart(p);
  // One panel of rows reads what is packed once, front to back.
  const std::int64_t block_columns = p.packed && p.M <= kMaxRows[kMaxVectors] ? kPanel
                                     : copy_b                                 ? kPackedColumns<T>
                                                                              : kBlockColumns<T>;
  // What is copied serves all rows.
  const std::int64_t block_rows = (copy_b || a_panels) && !apart ? p.M : smaller(p.M, kBlockRows);
  const std::int64_t step = copy_b || p.packed ? kPanel : block_columns;
  T* const totals = scratch;
  T* const panels = scratch + (apart ? block_rows * smaller(p.N, block_columns) : 0);

  for (std::int64_t j0 = 0; j0 < p.N; j0 += block_columns) {
    const std::int64_t N = smaller(block_columns, p.N - j0);
    const std::int64_t widest = smaller(ceil_div(smaller(N, step), L), widest_panel(p.M));
    for (std::int64_t i0 = 0; i0 < p.M; i0 += block_rows) {
      const std::int64_t M = smaller(block_rows, p.M - i0);
      std::int64_t k0 = k_begin;
      do {  // once for K = 0 too
        const std::int64_t K = smaller(kChunk, k_end - k0);
        T* const total = apart ? totals - i0 * N - j0 : p.c;
        const bool far = copy_b && M * N > kBlockRows * kBlockColumns<T>;
        Chunk<T> chunk{p,       p.a + k0 * p.a_col, p.a_row, p.a_col, K, total, apart ? N : p.ldc,
                       k0 == 0, k0 + K == p.K,      far,     nullptr, 0};
        if (copy_b) pack_b(K, N, p.b + k0 * p.b_row + j0 * p.b_col, p.b_row, p.b_col, 0, ceil_div(N, kPanel), panels);
        // Column j of row k of B where it lies, or of the panel that j begins in what is packed.
        const auto b_at = [&](std::int64_t k, std::int64_t j) {
          return p.packed ? p.b + j * p.K + k * panel_width(p.N - j) : p.b + k * p.b_row + j * p.b_col;
        };
        const bool block_ends = k0 + K == k_end;
        const std::int64_t next_k = block_ends ? k_begin : k0 + K;
        const std::int64_t next_j = block_ends && i0 + M == p.M ? j0 + block_columns : j0;
        const bool more = next_j < p.N;
        if (copy_b && more && p.b_col == 1) chunk.next_b = b_at(next_k, next_j) - j0, chunk.b_row = p.b_row;
        std::int64_t row_panel = 0;
        for_row_panels(M, kMaxRows[a_panels ? kMaxVectors : widest], [&](std::int64_t i, std::int64_t rows) {
          if (a_panels) chunk.a = a_panels + i * K - i, chunk.a_col = rows;
          for (std::int64_t j1 = 0; j1 < N; j1 += step) {
            const std::int64_t width = smaller(step, N - j1);
            const std::int64_t b_row = step == kPanel ? panel_width(width) : p.b_row;
            const T* const b = copy_b ? panels + j1 * K : b_at(k0, j0 + j1);
            for_panels<T>(width, widest, [&](std::int64_t j, std::int64_t vectors, std::int64_t n) {
              // The n-th panel of rows fetches the n-th line of each row of the next block of B.
              const bool fetch = !copy_b && more && row_panel < vectors * L / kLine;
              const std::int64_t ahead = fetch ? b_at(next_k, next_j + j1) - b + row_panel * kLine : 0;
              find_tile(chunk, rows, vectors, n)(chunk, i0 + i, j0 + j1 + j, b + j, b_row, n, ahead);
            });
          }
          if (chunk.last) finish_rows(p, i0 + i, rows, j0, N);
          ++row_panel;
        });
        k0 += K;
      } while (k0 < k_end);
    }
  }
}

// Vectors along the columns of C.
template <class T>
void product_along_columns(const Product<T>& p, T* scratch) {
  if (!copies(p).a) return product_blocks<T>(p, 0, p.K, nullptr, scratch);
  std::int64_t blocks = ceil_div(p.M, kPackedRows);
  for (std::int64_t i = 0; i < p.M;) {
    Product<T> rows = p;
    rows.M = equal_part(p.M - i, blocks--);
    rows.a += i, rows.c += i * p.ldc;
    Finish<T> finish;
    if (p.finish) finish = p.finish->from(i, 0), rows.finish = &finish;
    T* const panels = scratch + packed_size(smaller(p.K, kChunk), smaller(p.N, kPackedColumns<T>));
    for (std::int64_t k = 0; k < p.K; k += kChunk) {
      const std::int64_t K = smaller(kChunk, p.K - k);
      pack_a(K, rows.M, rows.a + k * p.a_col, p.a_col, panels);
      product_blocks<T>(rows, k, k + K, panels, scratch);
    }
    i += rows.M;
  }
}

// Vectors along the rows of C, for few columns: the product C^T = B^T A^T into scratch, then from there to C.
template <class T>
void product_along_rows(const Product<T>& p, T* scratch) {
  for (std::int64_t i0 = 0; i0 < p.M; i0 += kColumnRows) {
    const std::int64_t M = smaller(kColumnRows, p.M - i0);
    product_along_columns<T>({p.N, M, p.K, p.b, p.b_col, p.b_row, p.a + i0 * p.a_row, p.a_col, p.a_row, scratch, M},
                             scratch + p.N * M);
    for (std::int64_t j = 0; j < p.N; ++j)
      for (std::int64_t i = 0; i < M; ++i) {
        T* const c = p.c + (i0 + i) * p.ldc + j;
        T x = scratch[j * M + i];
        if (p.bias) x += p.bias[j];
        if (p.accumulate) x += *c;
        if (p.relu) x = 0 > x ? 0 : x;
        *c = x;
      }
    finish_rows(p, i0, M, 0, p.N);
  }
}

// Vectors run along the rows where that takes fewer operations, counted in fma: transposing a vector takes one for
// about every 10 bytes, putting an element into its place in C one, and the detour itself 100.
template <class T>
RANVIER_INLINE bool along_rows(std::int64_t M, std::int64_t N, std::int64_t K, bool transpose) {
  constexpr std::int64_t L = kLanes<T>, kTranspose = RANVIER_VECTOR_BYTES / 10;
  return N < L && ceil_div(M, L) * (N + (transpose ? kTranspose : 0)) * K + M * N + 100 < M * K;
}

template <class T>
void product(const Product<T>& p, T* scratch) {
  if (p.packed && p.N <= kPanel) {  // a single panel is a matrix with contiguous rows like any other
    Product<T> plain = p;
    plain.packed = false, plain.b_row = panel_width(p.N), plain.b_col = 1;
    return product(plain, scratch);
  }
  if (along_rows<T>(p.M, p.N, p.K, p.a_row != 1))
    product_along_rows(p, scratch);
  else
    product_along_columns(p, scratch);
}

template <class T>
const char* product_path(const Product<T>& p) {
  if (along_rows<T>(p.M, p.N, p.K, p.a_row != 1)) return "along rows";
  if (p.packed) return "packed weights";
  const Copies copy = copies(p);
  return copy.a && copy.b ? "packed A, B" : copy.a ? "packed A" : copy.b ? "packed B" : "direct";
}

template <class T>
std::int64_t product_scratch(std::int64_t M, std::int64_t N, std::int64_t K) {
  const std::int64_t columns = smaller(N, kPackedColumns<T>), rows = smaller(M, kColumnRows);
  const std::int64_t k = smaller(K, kChunk), block_rows = smaller(M, kBlockRows);
  const std::int64_t along_columns =
      packed_size(k, columns) + larger(k * smaller(M, kPackedRows), K > kChunk ? block_rows * columns : 0);
  const std::int64_t along_rows = packed_size(k, rows) + smaller(N, kLanes<T> - 1) * rows;
  return larger(along_columns, along_rows);
}

// out (N) [+]= the sums over i of x (M, N): the product with a row of ones.
template <class T>
void column_sum(std::int64_t M, std::int64_t N, const T* x, std::int64_t ldx, T* out, bool accumulate) {
  const T one = 1;
  T scratch[kBlockColumns<T>];
  product_along_columns<T>({1, N, M, &one, 0, 0, x, ldx, 1, out, N, nullptr, accumulate}, scratch);
}

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
