// Inverted dropout with masks from Philox.
#pragma once

#include <cstdint>

#include "core/philox.h"
#include "cpu/kernels.h"

namespace ranvier::cpu::reference {

template <class T>
void dropout(std::int64_t n, std::int64_t first, const T* x, T* y, double rate, DropoutKey key) {
  const T scale = static_cast<T>(1 / (1 - rate));
  for (std::int64_t k = 0; k < n; ++k) {
    const std::uint64_t i = static_cast<std::uint64_t>(first + k), block = i / 4;
    const PhiloxBlock words =
        philox({static_cast<std::uint32_t>(key.seed), static_cast<std::uint32_t>(key.seed >> 32)},
               {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), key.layer, key.step});
    y[k] = words[i % 4] >= rate * 0x1p32 ? x[k] * scale : 0;
  }
}

}  // namespace ranvier::cpu::reference
