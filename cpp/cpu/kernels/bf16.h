// Products on bfloat16 units: packing into tiles, and the loops around a unit's block. AVX-512 only.
#pragma once

#include "cpu/kernels.h"
#include "cpu/kernels/simd.h"

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

typedef std::uint32_t Words __attribute__((vector_size(64)));
using Lines = Words[kTileRows];

RANVIER_INLINE std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// Rounds to bfloat16, ties to even: a float whose low half is zero.
RANVIER_INLINE Vec<float> round_to_bf16(Vec<float> v) {
  const Words u = reinterpret_cast<Words>(v);
  return reinterpret_cast<Vec<float>>((u + 0x7fff + (u >> 16 & 1)) & 0xffff0000);
}

// Lines of 16 pairs, a part of each: pair i is (even[i], odd[i]).
template <int kParts>
RANVIER_INLINE void split(Vec<float> even, Vec<float> odd, int line, Lines* parts) {
#pragma GCC unroll 3
  for (int part = 0; part < kParts; ++part) {
    const Vec<float> e = round_to_bf16(even), o = round_to_bf16(odd);
    parts[part][line] = reinterpret_cast<Words>(e) >> 16 | reinterpret_cast<Words>(o);
    even -= e, odd -= o;  // exact
  }
}

// Words of a and b at the places of `from`: those of b count from 16.
RANVIER_INLINE Words pick(Words a, Words b, Words from) {
  return reinterpret_cast<Words>(_mm512_permutex2var_epi32(
      reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(from), reinterpret_cast<__m512i>(b)));
}
inline constexpr Words kLane{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// 16 x 16 words: in steps of 8, 4, 2, 1, the off-diagonal quarters of each square change places.
RANVIER_INLINE void transpose(Words* line) {
  const auto step = [&]<int d>() __attribute__((always_inline)) {
    const Words upper = kLane & d ? kLane - d + 16 : kLane, lower = kLane & d ? kLane + 16 : kLane + d;
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      if (i & d) continue;
      const Words a = line[i], b = line[i + d];
      line[i] = pick(a, b, upper);
      line[i + d] = pick(a, b, lower);
    }
  };
  step.template operator()<8>(), step.template operator()<4>();
  step.template operator()<2>(), step.template operator()<1>();
}

// kOfA: lines are rows of A, else pairs of rows of B.
template <int kParts, bool kOfA>
bool pack_parts(std::int64_t n, std::int64_t K, const float* x, std::int64_t stride_n, std::int64_t stride_k,
                std::int64_t first, std::int64_t last, std::uint16_t* out) {
  const std::int64_t tiles = (K + kTileK - 1) / kTileK;
  const bool along_k = stride_k == 1;
  // x is read along its rows: else so many tiles side by side, as rows a page apart come at half the rate (1,024 bytes
  // of each at once; 256 gain nothing).
  constexpr std::int64_t kMostTogether = 16;
  const std::int64_t together = along_k ? 1 : kMostTogether;
  // So many rows at once are more streams than the processor follows by itself: told, two threads pack from memory at
  // 30 to 45 GB/s instead of 18 to 25 (Zen 5; half or twice as far ahead is slower).
  constexpr std::int64_t kAheadAlongK = 4 * kTileK;
  bool good = true;
  for (std::int64_t t0 = first; t0 < last; t0 += together) {
    const std::int64_t t1 = least(t0 + together, last);
    Int<float> largest[kMostTogether] = {};  // as bits: NaN and infinity are larger than any number
    for (std::int64_t k = 0; k < K; k += kTileK) {
      const std::int64_t rest = least(K - k, kTileK);
      for (std::int64_t t = t0; t < t1; ++t) {
        const std::int64_t count = least(n - t * kTileRows, kTileRows);
        const float* const from = x + t * kTileRows * stride_n + k * stride_k;
        std::uint16_t* const to = out + (t * tiles + k / kTileK) * kParts * kTileElements;
        Int<float> most = largest[t - t0];
        const auto measure = [&](Vec<float> v) __attribute__((always_inline)) {
          const Int<float> magnitude = bits(v) & 0x7fffffff;
          most = magnitude > most ? magnitude : most;
        };
        Lines parts[kParts];
        const auto lanes_of = [](std::int64_t want) { return want < 0 ? 0 : least(want, 16); };
        for (int line = 0; line < kTileRows; ++line) {
          Vec<float> even{}, odd{};
          if (along_k && line < count) {
            const float* const row = from + line * stride_n;
            __builtin_prefetch(row + kAheadAlongK);
            __builtin_prefetch(row + kAheadAlongK + 16);
            const Words low = reinterpret_cast<Words>(load_n(row, lanes_of(rest))),
                        high = reinterpret_cast<Words>(load_n(row + 16, lanes_of(rest - 16)));
            even = reinterpret_cast<Vec<float>>(pick(low, high, 2 * kLane));
            odd = reinterpret_cast<Vec<float>>(pick(low, high, 2 * kLane + 1));
          } else if (!along_k) {
            __builtin_prefetch(from + (2 * line + kTileK) * stride_k);
            __builtin_prefetch(from + (2 * line + 1 + kTileK) * stride_k);
            if (2 * line < rest) even = load_n(from + 2 * line * stride_k, count);
            if (2 * line + 1 < rest) odd = load_n(from + (2 * line + 1) * stride_k, count);
          }
          measure(even);
          measure(odd);
          split<kParts>(even, odd, line, parts);
        }
        largest[t - t0] = most;
        for (int part = 0; part < kParts; ++part) {
          if (along_k != kOfA) transpose(parts[part]);
          for (int line = 0; line < kTileRows; ++line)
            store(reinterpret_cast<float*>(to + part * kTileElements) + line * 16,
                  reinterpret_cast<Vec<float>>(parts[part][line]));
        }
      }
    }
    constexpr int kTooLarge = (127 + 127) << 23, kTooSmall = (127 - 90) << 23;  // 2^127 and 2^-90
    for (std::int64_t t = t0; t < t1; ++t) {
      std::int32_t most = 0;
      for (int i = 0; i < 16; ++i) most = most < largest[t - t0][i] ? largest[t - t0][i] : most;
      good = good && most < kTooLarge && (most == 0 || most >= kTooSmall);
    }
  }
  return good;
}

template <bool kOfA>
bool pack(int parts, std::int64_t n, std::int64_t K, const float* x, std::int64_t stride_n, std::int64_t stride_k,
          std::int64_t first, std::int64_t last, std::uint16_t* out) {
  const auto run = parts == 1 ? pack_parts<1, kOfA> : parts == 2 ? pack_parts<2, kOfA> : pack_parts<3, kOfA>;
  return run(n, K, x, stride_n, stride_k, first, last, out);
}

// The products of parts (of A, of B), the smallest first so that the fewest bits are lost; neighbours share a tile.
struct Pair {
  int a, b;
};
template <int kParts>
inline constexpr Pair kPairs[1] = {{0, 0}};
template <>
inline constexpr Pair kPairs<2>[3] = {{0, 1}, {0, 0}, {1, 0}};
template <>
inline constexpr Pair kPairs<3>[6] = {{0, 2}, {0, 1}, {1, 1}, {1, 0}, {2, 0}, {0, 0}};

// A block of C: up to Unit::kRowTiles x Unit::kColumnTiles tiles.
struct Bf16Block {
  const std::uint16_t *a, *b;
  std::int64_t stride;  // elements from one tile of 16 rows (columns) to the next
  std::int64_t tiles;   // of k
  float* c;
  std::int64_t ldc;
  std::int64_t rows, columns;
  bool first;  // else C's values are added to
};

// Loops: blocks of columns, whose chunk of B stays in L2; chunks of k; panels of rows, whose A stays in L1; panels of
// columns, which stream from L2.
template <class Unit, int kParts>
void product_of_parts(const Bf16Product& p) {
  constexpr std::int64_t kBlockBytes = (kParts == 1 ? 512 : 1024) << 10, kTileBytes = 2 * kTileElements * kParts;
  constexpr std::int64_t kChunkTiles = Unit::template kChunkTiles<kParts>;
  constexpr std::int64_t kRows = kTileRows * Unit::kRowTiles, kColumns = kTileRows * Unit::kColumnTiles;
  constexpr std::int64_t kBlockColumns = kBlockBytes / (kChunkTiles * kTileBytes) / Unit::kColumnTiles * kColumns;
  const std::int64_t tiles = (p.K + kTileK - 1) / kTileK, stride = tiles * kParts * kTileElements;
  Unit::begin();
  for (std::int64_t j0 = 0; j0 < p.N; j0 += kBlockColumns) {
    const std::int64_t j1 = least(p.N, j0 + kBlockColumns);
    for (std::int64_t k = 0; k < tiles; k += kChunkTiles) {
      const std::int64_t at = k * kParts * kTileElements;
      for (std::int64_t i = 0; i < p.M; i += kRows) {
        const std::int64_t rows = least(kRows, p.M - i);
        for (std::int64_t j = j0; j < j1; j += kColumns) {
          Unit::template block<kParts>({p.a + i / kTileRows * stride + at, p.b + j / kTileRows * stride + at, stride,
                                        least(kChunkTiles, tiles - k), p.c + i * p.ldc + j, p.ldc, rows,
                                        least(kColumns, j1 - j), k == 0});
        }
        if (k + kChunkTiles < tiles) continue;
        for (std::int64_t r = i; r < i + rows; ++r) {
          float* const c = p.c + r * p.ldc;
          for (std::int64_t j = j0; (p.bias || p.relu) && j < j1; j += 16) {
            const std::int64_t n = least(16, j1 - j);
            Vec<float> y = load_n(c + j, n);
            if (p.bias) y += load_n(p.bias + j, n);
            if (p.relu) y = max(Vec<float>{}, y);
            store_n(c + j, y, n);
          }
          if (p.finish) p.finish->run(*p.finish, c + j0, r, j0, j1 - j0);
        }
      }
    }
  }
  Unit::end();
}

template <class Unit>
void bf16_product(int parts, const Bf16Product& p) {
  if (parts == 1) return product_of_parts<Unit, 1>(p);
  if constexpr (Unit::kMostParts > 1) {
    if (parts == 2) return product_of_parts<Unit, 2>(p);
    product_of_parts<Unit, 3>(p);
  }
}

template <class Unit>
constexpr Bf16Kernels bf16_kernels() {
  return {Unit::kName, Unit::kMostParts, Unit::kLeastProducts, pack<true>, pack<false>, bf16_product<Unit>};
}

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
