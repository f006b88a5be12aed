// Compiled with -march=x86-64-v4 -mamx-tile -mamx-bf16 -mprefer-vector-width=512: bfloat16 products in tile registers.
#define RANVIER_ISA_NAMESPACE amx
#define RANVIER_VECTOR_BYTES 64
#include "cpu/isa/isa.h"
#include "cpu/kernels/bf16.h"

namespace ranvier::cpu::amx {
namespace {

// Tile registers: 0 to 3 hold 2 x 2 tiles of C, 4 and 5 two of A, 6 and 7 two of B. All are 16 lines of 64 bytes.
#if defined(RANVIER_EMULATE_AMX)
#include "cpu/isa/amx_emulated.h"
#else
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
RANVIER_INLINE void configure_tiles() {
  const TileConfig config;
  _tile_loadconfig(&config);
}
RANVIER_INLINE void release_tiles() { _tile_release(); }
// The intrinsics take nothing but literals.
#define RANVIER_EACH_TILE(of) of(0) of(1) of(2) of(3) of(4) of(5) of(6) of(7)
template <int t>
RANVIER_INLINE void zero_tile() {
#define RANVIER_TILE(i) \
  if constexpr (t == i) _tile_zero(i);
  RANVIER_EACH_TILE(RANVIER_TILE)
#undef RANVIER_TILE
}
template <int t>
RANVIER_INLINE void load_tile(const void* from, std::int64_t stride) {
#define RANVIER_TILE(i) \
  if constexpr (t == i) _tile_loadd(i, from, stride);
  RANVIER_EACH_TILE(RANVIER_TILE)
#undef RANVIER_TILE
}
template <int t>
RANVIER_INLINE void store_tile(void* to, std::int64_t stride) {
#define RANVIER_TILE(i) \
  if constexpr (t == i) _tile_stored(i, to, stride);
  RANVIER_EACH_TILE(RANVIER_TILE)
#undef RANVIER_TILE
}
// C's tile 2 r + q += A's tile r times B's tile q.
template <int r, int q>
RANVIER_INLINE void multiply_tiles() {
  if constexpr (r == 0 && q == 0) _tile_dpbf16ps(0, 4, 6);
  if constexpr (r == 0 && q == 1) _tile_dpbf16ps(1, 4, 7);
  if constexpr (r == 1 && q == 0) _tile_dpbf16ps(2, 5, 6);
  if constexpr (r == 1 && q == 1) _tile_dpbf16ps(3, 5, 7);
}
#undef RANVIER_EACH_TILE
#endif

struct TileUnit {
  static constexpr const char* kName = "AMX";
  static constexpr int kMostParts = 3;
  static constexpr std::array<std::int64_t, 3> kLeastProducts{64, 104, 160};
  static constexpr int kRowTiles = 2, kColumnTiles = 2;
  // k a chunk: 256, 1024 and 768 were fastest for one, two and three parts (three: 512 is 2 to 10 % slower).
  template <int kParts>
  static constexpr std::int64_t kChunkTiles = kParts == 1   ? 8
                                              : kParts == 2 ? 32
                                                            : 24;

  static void begin() { configure_tiles(); }
  static void end() { release_tiles(); }

  template <int kParts>
  static void block(const Bf16Block& b) {
    if (b.rows > 16)
      b.columns > 16 ? tiles<kParts, 2, 2>(b) : tiles<kParts, 2, 1>(b);
    else
      b.columns > 16 ? tiles<kParts, 1, 2>(b) : tiles<kParts, 1, 1>(b);
  }

 private:
  template <int kParts, int R, int Q>
  static void tiles(const Bf16Block& block) {
    // With several parts a chunk is summed from zero and then added to C, for float32's accuracy; with one the tiles go
    // on from C's values: adding would cost a quarter of its time, by the count of cycles. Tiles that C does not fill,
    // and sums that are still to be added, pass through memory of their own.
    const bool add = kParts > 1 && !block.first;
    alignas(64) float own[R * Q][kTileRows * 16];
    const bool whole = !add && block.rows == R * 16 && block.columns == Q * 16;
    const auto each_row_of_own = [&](auto&& visit) __attribute__((always_inline)) {
      for (int r = 0; r < R; ++r)
        for (int q = 0; q < Q; ++q)
          for (std::int64_t i = 0; i < least(16, block.rows - r * 16); ++i)
            visit(own[r * Q + q] + i * 16, block.c + (r * 16 + i) * block.ldc + q * 16,
                  least(16, block.columns - q * 16));
    };
    const bool from_zero = kParts > 1 || block.first;
    if (!whole && !from_zero) {
      each_row_of_own([](float* mine, const float* c, std::int64_t n) { store(mine, load_n(c, n)); });
      asm volatile("" : : "r"(own) : "memory");  // GCC does not know that a tile load reads memory
    }
    const auto of_c = [&]<int r, int q>() __attribute__((always_inline)) {
      return whole ? block.c + r * 16 * block.ldc + q * 16 : own[r * Q + q];
    };
    const std::int64_t ldc = whole ? block.ldc * 4 : 64;
    const auto start = [&]<int r, int q>() __attribute__((always_inline)) {
      if constexpr (r < R && q < Q) {
        if (from_zero)
          zero_tile<2 * r + q>();
        else
          load_tile<2 * r + q>(of_c.template operator()<r, q>(), ldc);
      }
    };
    start.template operator()<0, 0>(), start.template operator()<0, 1>();
    start.template operator()<1, 0>(), start.template operator()<1, 1>();

    const std::uint16_t *a = block.a, *b = block.b;
    for (std::int64_t k = 0; k < block.tiles; ++k, a += kParts * kTileElements, b += kParts * kTileElements) {
      int in_a = -1, in_b = -1;  // the parts that the registers hold: constants, once the loop is unrolled
#pragma GCC unroll 6
      for (const Pair pair : kPairs<kParts>) {
        const bool new_a = pair.a != in_a, new_b = pair.b != in_b;
        const std::uint16_t *from_a = a + pair.a * kTileElements, *from_b = b + pair.b * kTileElements;
        // A load stands before the first product that wants it, so that loads and products overlap.
        if (new_b) load_tile<6>(from_b, 64);
        if (new_a) load_tile<4>(from_a, 64);
        multiply_tiles<0, 0>();
        if constexpr (Q > 1) {
          if (new_b) load_tile<7>(from_b + block.stride, 64);
          multiply_tiles<0, 1>();
        }
        if constexpr (R > 1) {
          if (new_a) load_tile<5>(from_a + block.stride, 64);
          multiply_tiles<1, 0>();
        }
        if constexpr (R > 1 && Q > 1) multiply_tiles<1, 1>();
        in_a = pair.a, in_b = pair.b;
      }
    }

    const auto finish = [&]<int r, int q>() __attribute__((always_inline)) {
      if constexpr (r < R && q < Q) store_tile<2 * r + q>(of_c.template operator()<r, q>(), ldc);
    };
    finish.template operator()<0, 0>(), finish.template operator()<0, 1>();
    finish.template operator()<1, 0>(), finish.template operator()<1, 1>();
    if (whole) return;
    each_row_of_own([add](const float* mine, float* c, std::int64_t n) {
      store_n(c, add ? load_n(c, n) + load(mine) : load(mine), n);
    });
  }
};

}  // namespace

constinit const Bf16Kernels bf16 = bf16_kernels<TileUnit>();

}  // namespace ranvier::cpu::amx
