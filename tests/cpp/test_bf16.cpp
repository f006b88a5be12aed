// The bfloat16 products of every unit that this machine has: against sums of the parts in double, the errors that the
// precisions promise, the values that they refuse. All arrays end at a page that cannot be touched.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels_test.h"

using namespace ranvier::cpu;

namespace {

float round_to_bf16(float x) {
  std::uint32_t u;
  std::memcpy(&u, &x, 4);
  u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000;
  std::memcpy(&x, &u, 4);
  return x;
}

// The parts of x; their number is the precision's.
std::vector<double> parts_of(float x, int parts) {
  std::vector<double> all;
  for (int p = 0; p < parts; ++p) {
    const float part = round_to_bf16(x);
    all.push_back(part);
    x -= part;
  }
  return all;
}

struct Packed {
  Guarded<std::uint16_t> tiles;
  std::uint16_t* at;
  bool good = true;
  Packed(std::int64_t n, std::int64_t K, int parts)
      : tiles(bf16_elements(n, K, parts)), at(tiles.array(bf16_elements(n, K, parts))) {}
};

void keep(const Finish<float>& f, float* c, std::int64_t row, std::int64_t col, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) f.saved[row * f.ld_saved + col + i] += c[i];
}

void product(const Bf16Kernels& unit, const std::string& name, int parts, std::int64_t M, std::int64_t N,
             std::int64_t K, bool a_along_k, bool b_along_k, bool epilogue) {
  Guarded<float> room_a(M * K), room_b(K * N), room_c(M * N), room_bias(N);
  float *a = room_a.array(M * K), *b = room_b.array(K * N), *c = room_c.array(M * N), *bias = room_bias.array(N);
  for (std::int64_t i = 0; i < M * K; ++i) a[i] = static_cast<float>(uniform(-1, 1));
  for (std::int64_t i = 0; i < K * N; ++i) b[i] = static_cast<float>(uniform(-1, 1));
  for (std::int64_t i = 0; i < N; ++i) bias[i] = static_cast<float>(uniform(-1, 1));
  const std::int64_t a_row = a_along_k ? K : 1, a_col = a_along_k ? 1 : M;
  const std::int64_t b_row = b_along_k ? 1 : N, b_col = b_along_k ? K : 1;
  Packed tiles_a(M, K, parts), tiles_b(N, K, parts);
  const std::int64_t rows = (M + kTileRows - 1) / kTileRows, columns = (N + kTileRows - 1) / kTileRows;
  expect(unit.pack_a(parts, M, K, a, a_row, a_col, 0, rows / 2, tiles_a.at) &&
             unit.pack_a(parts, M, K, a, a_row, a_col, rows / 2, rows, tiles_a.at) &&
             unit.pack_b(parts, N, K, b, b_col, b_row, 0, columns, tiles_b.at),
         name + ": refused");
  std::vector<float> saved(static_cast<std::size_t>(M * N));
  const Finish<float> finish{keep, nullptr, nullptr, saved.data(), N, 0};
  Bf16Product p{M, N, K, tiles_a.at, tiles_b.at, c, N};
  if (epilogue) p.bias = bias, p.relu = true, p.finish = &finish;
  unit.product(parts, p);

  // Each of the `parts` (parts + 1) / 2 products of parts is a chain of fma over K, and so is what they add up to; the
  // parts that are left out are below 2^(-8 parts) of their element, twice.
  const double u = std::numeric_limits<float>::epsilon() / 2.;
  const double left_out = parts == 1 ? 0 : 3 * std::pow(2., -8. * parts);
  const double roundings = static_cast<double>(parts * (parts + 1) / 2 * (K + kTileK)) + 4;
  for (std::int64_t i = 0; i < M; ++i) {
    for (std::int64_t j = 0; j < N; ++j) {
      double sum = 0, size = 0;
      for (std::int64_t k = 0; k < K; ++k) {
        const auto pa = parts_of(a[i * a_row + k * a_col], parts), pb = parts_of(b[k * b_row + j * b_col], parts);
        double x = 0, y = 0;
        for (const double part : pa) x += part;
        for (const double part : pb) y += part;
        sum += x * y;
        size += std::abs(x * y);
      }
      if (epilogue) sum = std::max(0., sum + bias[j]), size += std::abs(bias[j]);
      const double got = c[i * N + j], allowed = (roundings * u + left_out) * size;
      if (std::abs(got - sum) <= allowed && (!epilogue || saved[static_cast<std::size_t>(i * N + j)] == c[i * N + j]))
        continue;
      return fail(name + ": element " + std::to_string(i) + ", " + std::to_string(j) + " is " + std::to_string(got) +
                  ", not " + std::to_string(sum) + " (allowed " + std::to_string(allowed) + ")");
    }
  }

  // A block of rows and columns on its own: the same bits.
  if (M <= kTileRows || N <= kTileRows) return;
  const std::vector<float> whole(c, c + M * N);
  const std::int64_t tiles = (K + kTileK - 1) / kTileK * parts * kTileElements, i0 = kTileRows, j0 = kTileRows;
  Guarded<float> room_block((M - i0) * (N - j0));
  float* block = room_block.array((M - i0) * (N - j0));
  Bf16Product q{M - i0, N - j0, K, tiles_a.at + tiles, tiles_b.at + tiles, block, N - j0};
  if (epilogue) q.bias = bias + j0, q.relu = true;
  unit.product(parts, q);
  for (std::int64_t i = i0; i < M; ++i)
    for (std::int64_t j = j0; j < N; ++j)
      if (!same_bits(block[(i - i0) * (N - j0) + j - j0], whole[static_cast<std::size_t>(i * N + j)]))
        return fail(name + ": other bits in a block of it");
}

// What cannot be told in parts is refused, wherever it stands; what merely looks odd is not.
void refusals(const Bf16Kernels& unit, const std::string& name) {
  constexpr std::int64_t n = 20, K = 70;
  const float infinity = std::numeric_limits<float>::infinity();
  struct Case {
    float value;  // in place of an element, or with all: of every element of its 16 rows
    bool all, good;
  };
  for (const Case c : {Case{0, false, true},
                       {0, true, true},
                       {infinity, false, false},
                       {-infinity, false, false},
                       {std::nanf(""), false, false},
                       {0x1p127f, false, false},
                       {-0x1.fffffep127f, false, false},
                       {0x1.fffffep126f, false, true},
                       {0x1p-100f, false, true},
                       {0x1p-100f, true, false},
                       {0x1p-90f, true, true},
                       {0x1.fffffep-91f, true, false}}) {
    for (const std::int64_t at : {std::int64_t{0}, std::int64_t{33}, K - 1}) {
      for (const std::int64_t row : {std::int64_t{0}, std::int64_t{17}, n - 1}) {
        std::vector<float> x = uniform<float>(n * K, 0.5, 1);
        for (std::int64_t i = 0; i < n * K; ++i)
          if (c.all ? i / K / kTileRows == row / kTileRows : i == row * K + at)
            x[static_cast<std::size_t>(i)] = c.value;
        std::vector<float> turned(x.size());
        for (std::int64_t i = 0; i < n * K; ++i)
          turned[static_cast<std::size_t>(i % K * n + i / K)] = x[static_cast<std::size_t>(i)];
        for (int parts = 1; parts <= unit.most_parts; ++parts) {
          Packed tiles(n, K, parts);
          const std::string label = name + " " + std::to_string(c.value) + (c.all ? " everywhere" : " once");
          expect(unit.pack_a(parts, n, K, x.data(), K, 1, 0, 2, tiles.at) == c.good, label + ", A along k");
          expect(unit.pack_a(parts, n, K, turned.data(), 1, n, 0, 2, tiles.at) == c.good, label + ", A along rows");
          expect(unit.pack_b(parts, n, K, x.data(), K, 1, 0, 2, tiles.at) == c.good, label + ", B along k");
          expect(unit.pack_b(parts, n, K, turned.data(), 1, n, 0, 2, tiles.at) == c.good, label + ", B along columns");
        }
      }
    }
  }
}

}  // namespace

int main() {
  for (const Table* table : available_tables()) {
    if (!table || !table->bf16) continue;
    const Bf16Kernels& unit = *table->bf16;
    refusals(unit, table->isa);
    for (int parts = 1; parts <= unit.most_parts; ++parts) {
      struct Size {
        std::int64_t M, N, K;
      };
      std::vector<Size> sizes;
      for (const std::int64_t n : {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 50, 65})
        for (const std::int64_t other : {1, 5, 16, 33})
          for (const std::int64_t K : {1, 2, 31, 33, 100}) sizes.insert(sizes.end(), {{n, other, K}, {other, n, K}});
      // Several chunks of k for every number of parts, several blocks of columns.
      sizes.insert(sizes.end(), {{40, 50, 257}, {5, 40, 1100}, {33, 2100, 40}, {34, 35, 2100}});
      int options = 0;
      for (const auto& [M, N, K] : sizes) {
        ++options;
        product(unit,
                std::string(table->isa) + " " + std::to_string(parts) + " parts, M " + std::to_string(M) + " N " +
                    std::to_string(N) + " K " + std::to_string(K) + " options " + std::to_string(options & 7),
                parts, M, N, K, options & 1, options & 2, options & 4);
      }
    }
  }
  return report();
}
