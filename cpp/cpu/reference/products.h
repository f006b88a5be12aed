// The products as kernels.h specifies them, one element after another.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "cpu/kernels.h"

namespace ranvier::cpu::reference {

template <class T>
void pack_b(std::int64_t K, std::int64_t N, const T* b, std::int64_t b_row, std::int64_t b_col, std::int64_t first,
            std::int64_t last, T* out) {
  for (std::int64_t panel = first; panel < last; ++panel) {
    const std::int64_t j = panel * kPanel, width = panel_width(N - j);
    for (std::int64_t k = 0; k < K; ++k)
      for (std::int64_t i = 0; i < width; ++i)
        out[j * K + k * width + i] = j + i < N ? b[k * b_row + (j + i) * b_col] : 0;
  }
}

template <class T>
T element_of_b(const Product<T>& p, std::int64_t k, std::int64_t j) {
  if (!p.packed) return p.b[k * p.b_row + j * p.b_col];
  const std::int64_t first = j / kPanel * kPanel;
  return p.b[first * p.K + k * panel_width(p.N - first) + j - first];
}

template <class T>
void product(const Product<T>& p, T*) {
  for (std::int64_t i = 0; i < p.M; ++i) {
    T* c = p.c + i * p.ldc;
    for (std::int64_t j = 0; j < p.N; ++j) {
      T x = 0;
      for (std::int64_t k0 = 0; k0 < p.K; k0 += kChunk) {
        T chunk = 0;
        for (std::int64_t k = k0; k < std::min(k0 + kChunk, p.K); ++k)
          chunk = std::fma(p.a[i * p.a_row + k * p.a_col], element_of_b(p, k, j), chunk);
        x = k0 == 0 ? chunk : x + chunk;  // not 0 + chunk, which turns -0 into 0
      }
      if (p.bias) x += p.bias[j];
      if (p.relu) x = 0 > x ? 0 : x;
      c[j] = x;
    }
    if (p.finish) p.finish->run(*p.finish, c, i, 0, p.N);
  }
}

template <class T>
std::int64_t product_scratch(std::int64_t, std::int64_t, std::int64_t) {
  return 0;
}

template <class T>
const char* product_path(const Product<T>&) {
  return "naive";
}

template <class T>
void column_sum(std::int64_t M, std::int64_t N, const T* x, std::int64_t ldx, T* out) {
  const T one = 1;
  product<T>({1, N, M, &one, 0, 0, x, ldx, 1, out, N}, nullptr);
}

}  // namespace ranvier::cpu::reference
