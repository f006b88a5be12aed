// Dropout: the mask is core/philox.h's, element by element, wherever an array begins and however it is split.
#include "core/philox.h"
#include "kernels_test.h"

using namespace ranvier;
using namespace ranvier::cpu;

namespace {

bool keeps(std::int64_t i, double rate, DropoutKey key) {
  const std::uint64_t block = static_cast<std::uint64_t>(i) / 4;
  const PhiloxBlock words =
      philox({static_cast<std::uint32_t>(key.seed), static_cast<std::uint32_t>(key.seed >> 32)},
             {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), key.layer, key.step});
  return words[static_cast<std::size_t>(i % 4)] >= rate * 0x1p32;
}

constexpr DropoutKey kKey{0x9876543210fedcbaull, 3, 0xfffffff0u};
// 1 - 1e-12: the threshold is above every word. The last one lies between two thresholds.
constexpr double kRates[] = {0, 0.1, 0.5, 0.9, 1 - 1e-12, 0x1p-32 * 12345678.5};

template <class T>
void check_masks() {
  for (const double rate : kRates)
    for (const std::int64_t first : {0l, 1l, 2l, 3l, 4l, 7l, 13l, (1l << 34) - 6})
      for (const std::int64_t n : counts()) {
        if (n > 100 && first > 1) continue;
        std::vector<T> x = uniform<T>(n, -1, 1);
        if (n > 5) x[5] = std::numeric_limits<T>::quiet_NaN();
        std::vector<double> exact, tolerance;
        for (std::int64_t k = 0; k < n; ++k) {
          exact.push_back(keeps(first + k, rate, kKey) ? static_cast<double>(x[k]) / (1 - rate) : 0);
          tolerance.push_back(4 * unit<T>() * std::abs(exact.back()));
        }
        const std::string name =
            "dropout " + std::to_string(rate) + " of " + std::to_string(n) + " from " + std::to_string(first);
        check<T>(name, {x}, {n}, exact, tolerance, [=](const Kernels<T>& k, const T* const* in, T* const* out) {
          k.dropout(n, first, in[0], out[0], rate, kKey);
        });
        check<T>(name + " in place", {x}, {n}, exact, tolerance,
                 [=](const Kernels<T>& k, const T* const* in, T* const* out) {
                   std::copy(in[0], in[0] + n, out[0]);
                   k.dropout(n, first, out[0], out[0], rate, kKey);
                 });
      }
}

template <class T>
void check_splits() {
  constexpr std::int64_t kCount = 301;
  const std::vector<T> x = uniform<T>(kCount, -1, 1);
  each_table([&](const Table& table) {
    std::vector<T> whole(kCount), parts(kCount);
    kernels_of<T>(table).dropout(kCount, 11, x.data(), whole.data(), 0.3, kKey);
    for (std::int64_t step = 1; step <= 40; ++step) {
      for (std::int64_t i = 0; i < kCount; i += step)
        kernels_of<T>(table).dropout(std::min(step, kCount - i), 11 + i, x.data() + i, parts.data() + i, 0.3, kKey);
      expect(parts == whole, std::string("parts of ") + std::to_string(step) + " differ on " + table.isa);
    }
  });
}

}  // namespace

int main() {
  check_masks<float>();
  check_masks<double>();
  check_splits<float>();
  check_splits<double>();
  return report();
}
