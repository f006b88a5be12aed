// Inverted dropout. The words of Philox4x32-10 (core/philox.h) are made in the order of the elements: a vector holds
// whole counters, so that one even-lane multiplication gives both products of a round and nothing is transposed.
#pragma once

#include <cstdint>

#include "cpu/kernels.h"
#include "cpu/kernels/simd.h"

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

typedef std::uint32_t Words __attribute__((vector_size(RANVIER_VECTOR_BYTES)));
typedef std::uint64_t Pairs __attribute__((vector_size(RANVIER_VECTOR_BYTES)));
inline constexpr std::int64_t kWords = RANVIER_VECTOR_BYTES / sizeof(std::uint32_t);

// multiply_even: the 64-bit products of the words 0, 2, 4, ...; reverse: words 3 2 1 0 of every four. (The masks are
// full: GCC 12 warns of an uninitialised value inside the plain intrinsics.)
#if RANVIER_VECTOR_BYTES == 64
RANVIER_INLINE Words multiply_even(Words a, Words b) {
  return reinterpret_cast<Words>(
      _mm512_maskz_mul_epu32(0xff, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}
RANVIER_INLINE Words reverse(Words a) {
  return reinterpret_cast<Words>(_mm512_maskz_shuffle_epi32(0xffff, reinterpret_cast<__m512i>(a), _MM_PERM_ABCD));
}
#elif RANVIER_VECTOR_BYTES == 32
RANVIER_INLINE Words multiply_even(Words a, Words b) {
  return reinterpret_cast<Words>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}
RANVIER_INLINE Words reverse(Words a) {
  return reinterpret_cast<Words>(_mm256_shuffle_epi32(reinterpret_cast<__m256i>(a), 0x1b));
}
#elif defined(__x86_64__)
RANVIER_INLINE Words multiply_even(Words a, Words b) {
  return reinterpret_cast<Words>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
}
RANVIER_INLINE Words reverse(Words a) {
  return reinterpret_cast<Words>(_mm_shuffle_epi32(reinterpret_cast<__m128i>(a), 0x1b));
}
#else
RANVIER_INLINE Words multiply_even(Words a, Words b) {
  return reinterpret_cast<Words>(
      vmull_u32(vmovn_u64(reinterpret_cast<Pairs>(a)), vmovn_u64(reinterpret_cast<Pairs>(b))));
}
RANVIER_INLINE Words reverse(Words a) { return Words{a[3], a[2], a[1], a[0]}; }
#endif

// kWords / 4 counters at once; key holds {key 0, 0, key 1, 0} for each.
RANVIER_INLINE Words philox(Words key, Words counter) {
  Words factor, step;
  for (std::int64_t i = 0; i < kWords; i += 4) {
    factor[i] = 0xD2511F53u, factor[i + 1] = 0, factor[i + 2] = 0xCD9E8D57u, factor[i + 3] = 0;
    step[i] = 0x9E3779B9u, step[i + 1] = 0, step[i + 2] = 0xBB67AE85u, step[i + 3] = 0;
  }
  for (int round = 0; round < 10; ++round, key += step) {
    const Words odd = reinterpret_cast<Words>(reinterpret_cast<Pairs>(counter) >> 32);  // {word 1, 0, word 3, 0}
    counter = reverse(multiply_even(counter, factor)) ^ odd ^ key;
  }
  return counter;
}

// x where keep, else 0, times scale.
RANVIER_INLINE void drop(Words keep, const float* x, float* y, float scale) {
  store(y, from_bits(bits(load(x) * scale) & reinterpret_cast<Int<float>>(keep)));
}
RANVIER_INLINE void drop(Words keep, const double* x, double* y, double scale) {
  typedef std::int32_t Half __attribute__((vector_size(RANVIER_VECTOR_BYTES / 2)));
  Half half[2];
  __builtin_memcpy(half, &keep, sizeof keep);
  for (int k = 0; k < 2; ++k, x += kLanes<double>, y += kLanes<double>)
    store(y, from_bits(bits(load(x) * scale) & __builtin_convertvector(half[k], Int<double>)));
}

// y (n) = x / (1 - rate) where element first + i is kept, else 0.
template <class T>
void dropout(std::int64_t n, std::int64_t first, const T* x, T* y, double rate, DropoutKey dropout_key) {
  const T scale = static_cast<T>(1 / (1 - rate));
  // word >= rate 2^32, as an integer comparison that the threshold 2^32 fits: word > last. Nothing is dropped at 0.
  const double bound = rate * 0x1p32;
  const std::uint64_t below = static_cast<std::uint64_t>(bound);
  const std::uint32_t last = static_cast<std::uint32_t>(below - (static_cast<double>(below) == bound ? 1 : 0));
  const Words keep_all = Words{} - (rate <= 0 ? 1u : 0u);
  Words key;
  Pairs counters;
  for (std::int64_t i = 0; i < kWords; i += 4) {
    key[i] = static_cast<std::uint32_t>(dropout_key.seed), key[i + 1] = 0;
    key[i + 2] = static_cast<std::uint32_t>(dropout_key.seed >> 32), key[i + 3] = 0;
    counters[i / 2] = static_cast<std::uint64_t>(first / 4 + i / 4);
    counters[i / 2 + 1] = dropout_key.layer | std::uint64_t{dropout_key.step} << 32;
  }
  Pairs advance{};
  for (std::int64_t i = 0; i < kWords / 2; i += 2) advance[i] = kWords / 4;

  std::int64_t skip = first % 4;  // elements of the first counter that are not ours
  for (std::int64_t i = 0; i < n; counters += advance) {
    const Words keep = reinterpret_cast<Words>(philox(key, reinterpret_cast<Words>(counters)) > last) | keep_all;
    const std::int64_t count = n - i < kWords - skip ? n - i : kWords - skip;
    if (count == kWords) {
      drop(keep, x + i, y + i, scale);
    } else {
      T part[kWords] = {};
      for (std::int64_t k = 0; k < count; ++k) part[skip + k] = x[i + k];
      drop(keep, part, part, scale);
      for (std::int64_t k = 0; k < count; ++k) y[i + k] = part[skip + k];
    }
    skip = 0;
    i += count;
  }
}

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
