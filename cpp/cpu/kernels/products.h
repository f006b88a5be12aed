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

#include "cpu/kernels.h"
#include "cpu/kernels/packing.h"
#include "cpu/kernels/tile.h"

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

template <class T>
inline constexpr std::int64_t kBlockColumns = 1024 / sizeof(T);  // kChunk rows of B take 256 KB of L2
inline constexpr std::int64_t kBlockRows = 256;                  // kChunk columns of A, and C, take as much again
template <class T>
inline constexpr std::int64_t kPackedColumns = 2 * kBlockColumns<T>;  // with no block of C beside it: 2 to 3 % faster
inline constexpr std::int64_t kPackedRows = 2048;  // of A at most, which then streams from where it lies
inline constexpr std::int64_t kColumnRows = 128;   // rows at a time where the vectors run along the rows

// What is packed for one product. A B whose rows are not contiguous must be. If each row lies on pages of its own, so
// that the processor fetches no line ahead, copying first is faster where the copy serves 64 rows of B's, or a whole
// block of columns of A's: on Intel's AVX-512 with weights in L3, Y from 60 to 88 % of the peak, dW from 45 to 88 %; on
// AVX2 there, Y from 68 to 82 %, dW from 57 to 83 %. So it is for 128 rows where vectors of B straddle cache lines, as
// arrays of NumPy's begin anywhere: dW of 384 squared from 302 to 328 GFLOP/s.
struct Copies {
  bool a, b;
};
template <class T>
RANVIER_INLINE Copies copies(const Product<T>& p) {
  constexpr std::int64_t kFar = 2048 / sizeof(T);
  const bool straddles = reinterpret_cast<std::uintptr_t>(p.b) % 64 != 0;
  return {p.a_row == 1 && p.a_col >= kFar && p.N >= kBlockColumns<T> && p.M > kMaxRows[kMaxVectors] && p.K > 0,
          !p.packed && p.N > 1 && (p.b_col != 1 || (p.b_row >= kFar && p.M >= 64) || (straddles && p.M >= 128))};
}

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
  const bool copy_b = copies(p).b;
  // One panel of rows reads what is packed once, front to back.
  const std::int64_t block_columns = p.packed && p.M <= kMaxRows[kMaxVectors] ? kPanel
                                     : copy_b                                 ? kPackedColumns<T>
                                                                              : kBlockColumns<T>;
  // What is copied serves all rows.
  const std::int64_t block_rows = copy_b || a_panels ? p.M : smaller(p.M, kBlockRows);
  const std::int64_t step = copy_b || p.packed ? kPanel : block_columns;
  for (std::int64_t j0 = 0; j0 < p.N; j0 += block_columns) {
    const std::int64_t N = smaller(block_columns, p.N - j0);
    const std::int64_t widest = smaller(ceil_div(smaller(N, step), L), widest_panel(p.M));
    for (std::int64_t i0 = 0; i0 < p.M; i0 += block_rows) {
      const std::int64_t M = smaller(block_rows, p.M - i0);
      std::int64_t k0 = k_begin;
      do {  // once for K = 0 too
        const std::int64_t K = smaller(kChunk, k_end - k0);
        const bool far = copy_b && M * N > kBlockRows * kBlockColumns<T>;
        Chunk<T> chunk{p, p.a + k0 * p.a_col, p.a_row, p.a_col, K, k0 == 0, k0 + K == p.K, far, nullptr, 0};
        if (copy_b) pack_b(K, N, p.b + k0 * p.b_row + j0 * p.b_col, p.b_row, p.b_col, 0, ceil_div(N, kPanel), scratch);
        // Column j of row k of B where it lies, or of the panel that j begins in what is packed.
        const auto b_at = [&](std::int64_t k, std::int64_t j) {
          return p.packed ? p.b + j * p.K + k * panel_width(p.N - j) : p.b + k * p.b_row + j * p.b_col;
        };
        const bool block_ends = k0 + K == k_end;
        const std::int64_t next_k = block_ends ? k_begin : k0 + K;
        const std::int64_t next_j = block_ends && i0 + M == p.M ? j0 + block_columns : j0;
        const bool more = next_j < p.N;
        if (far && !a_panels && p.a_col == 1) {
          chunk.a_part = ceil_div(ceil_div(K, kLine), ceil_div(N, widest * L)) * kLine;
          chunk.first_column = j0;
        }
        if (copy_b && more && p.b_col == 1) chunk.next_b = b_at(next_k, next_j) - j0, chunk.b_row = p.b_row;
        std::int64_t row_panel = 0;
        for_row_panels(M, kMaxRows[a_panels ? kMaxVectors : widest], [&](std::int64_t i, std::int64_t rows) {
          if (a_panels) chunk.a = a_panels + i * K - i, chunk.a_col = rows;
          for (std::int64_t j1 = 0; j1 < N; j1 += step) {
            const std::int64_t width = smaller(step, N - j1);
            const std::int64_t b_row = step == kPanel ? panel_width(width) : p.b_row;
            const T* const b = copy_b ? scratch + j1 * K : b_at(k0, j0 + j1);
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

// The smallest products are a single tile, whose sums would cost less than the loops around it.
template <class T>
RANVIER_INLINE bool is_one_tile(const Product<T>& p) {
  const std::int64_t vectors = ceil_div(p.N, kLanes<T>);
  return p.K <= kChunk && vectors <= widest_panel(p.M) && p.M <= kMaxRows[vectors] && p.M > 0 && !copies(p).b &&
         !p.packed;
}

// Vectors along the columns of C.
template <class T>
void product_along_columns(const Product<T>& p, T* scratch) {
  if (is_one_tile(p)) {
    const Chunk<T> chunk{p, p.a, p.a_row, p.a_col, p.K, true, true, false, nullptr, 0};
    const std::int64_t vectors = ceil_div(p.N, kLanes<T>), n = p.N - (vectors - 1) * kLanes<T>;
    find_tile(chunk, p.M, vectors, n)(chunk, 0, 0, p.b, p.b_row, n, 0);
    return finish_rows(p, 0, p.M, 0, p.N);
  }
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
        T x = scratch[j * M + i];
        if (p.bias) x += p.bias[j];
        if (p.relu) x = 0 > x ? 0 : x;
        p.c[(i0 + i) * p.ldc + j] = x;
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
  const std::int64_t k = smaller(K, kChunk);
  const std::int64_t along_columns = packed_size(k, columns) + k * smaller(M, kPackedRows);
  const std::int64_t along_rows = packed_size(k, rows) + smaller(N, kLanes<T> - 1) * (rows + k);
  return larger(along_columns, along_rows);
}

// out (N) = the sums over i of x (M, N): the product with a row of ones.
template <class T>
void column_sum(std::int64_t M, std::int64_t N, const T* x, std::int64_t ldx, T* out) {
  const T one = 1;
  product_along_columns<T>({1, N, M, &one, 0, 0, x, ldx, 1, out, N}, nullptr);
}

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
