// Compiled with -march=x86-64-v4 -mavx512bf16 -mprefer-vector-width=512: bfloat16 products for a processor without AMX.
#define RANVIER_ISA_NAMESPACE avx512_bf16
#define RANVIER_VECTOR_BYTES 64
#include "cpu/isa/isa.h"
#include "cpu/kernels/bf16.h"

namespace ranvier::cpu::avx512_bf16 {
namespace {

struct DotUnit {
  static constexpr const char* kName = "AVX-512 bf16";
  // A part costs half a float32 product, so three or six products of parts cost more than float32.
  static constexpr int kMostParts = 1;
  static constexpr std::array<std::int64_t, 3> kLeastProducts{16};
  static constexpr int kRowTiles = 1, kColumnTiles = 3;
  // 768 k: C comes from beyond L2 once a chunk, and a panel of B streams from L2 at a quarter of what that gives. With
  // 256, when the panel (24 KB) stays in L1, products of 1024 x 3072 x 768 took 1.1 times as long on Zen 5.
  template <int kParts>
  static constexpr std::int64_t kChunkTiles = 24;

  static void begin() {}
  static void end() {}
  template <int kParts>
  static void block(const Bf16Block& b) {
    constexpr int kMostRows = 8;
    for (std::int64_t i = 0; i < b.rows; i += kMostRows) {
      const std::int64_t rows = least(kMostRows, b.rows - i);
      find(rows, (b.columns + 15) / 16)(b, i);
    }
  }

 private:
  // Rows from i: (kRows, 32 tiles) x (32 tiles, kVectors * 16).
  template <int kRows, int kVectors>
  static void tile(const Bf16Block& block, std::int64_t i) {
    const auto each = [](auto&& update) __attribute__((always_inline)) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v) update(r, v);
    };
    const std::int64_t last = block.columns - (kVectors - 1) * 16;
    float* const c = block.c + i * block.ldc;
    const std::int64_t ldc = block.ldc;
    __m512 acc[kRows][kVectors];
    each([&](int r, int v) __attribute__((always_inline)) {
      const std::int64_t n = v == kVectors - 1 ? last : 16;
      acc[r][v] = block.first ? __m512{} : reinterpret_cast<__m512>(load_n(c + r * ldc + v * 16, n));
    });
    const std::uint16_t *a = block.a + i * kTileK, *b = block.b;
    const std::int64_t stride = block.stride;
    const float* to = c;  // comes, a row at a time, while the sums are made
    for (std::int64_t pairs = block.tiles * 16; pairs > 0; pairs -= 4) {
      if (to < c + kRows * ldc) {
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v) __builtin_prefetch(to + v * 16, 1);
        to += ldc;
      }
#pragma GCC unroll 4
      for (int pair = 0; pair < 4; ++pair) {
        __m512bh row[kVectors];
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v)
          row[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + v * stride + pair * 32));
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          std::int32_t word;
          __builtin_memcpy(&word, a + r * kTileK + pair * 2, 4);
          const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(word));
#pragma GCC unroll 3
          for (int v = 0; v < kVectors; ++v) acc[r][v] = _mm512_dpbf16_ps(acc[r][v], x, row[v]);
        }
      }
      // The pairs of a row of A's tile lie side by side, its next tile 512 elements on; B's pairs are lines of a tile.
      a += (pairs - 4) % 16 == 0 ? kTileElements - 3 * 8 : 8;
      b += 4 * 32;
    }
    each([&](int r, int v) __attribute__((always_inline)) {
      store_n(c + r * ldc + v * 16, reinterpret_cast<Vec<float>>(acc[r][v]), v == kVectors - 1 ? last : 16);
    });
  }

  using Tile = void(const Bf16Block&, std::int64_t);
  static Tile* find(std::int64_t rows, std::int64_t vectors) {
    static constexpr Tile* tiles[3][8] = {
        {tile<1, 1>, tile<2, 1>, tile<3, 1>, tile<4, 1>, tile<5, 1>, tile<6, 1>, tile<7, 1>, tile<8, 1>},
        {tile<1, 2>, tile<2, 2>, tile<3, 2>, tile<4, 2>, tile<5, 2>, tile<6, 2>, tile<7, 2>, tile<8, 2>},
        {tile<1, 3>, tile<2, 3>, tile<3, 3>, tile<4, 3>, tile<5, 3>, tile<6, 3>, tile<7, 3>, tile<8, 3>}};
    return tiles[vectors - 1][rows - 1];
  }
};

}  // namespace

constinit const Bf16Kernels bf16 = bf16_kernels<DotUnit>();

}  // namespace ranvier::cpu::avx512_bf16
