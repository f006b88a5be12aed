// The error of the float functions of kernels/math.h in ulp, against double libm, on every instruction set, through the
// element-wise kernels that expose them; and that the sets with fma give the same bits. A stratified sample by default;
// `--all` takes all 2^32 inputs of each function, as a release does (on one processor about a minute a function),
// `--all tanh` of one; then the limits must be the errors found, rounded up to hundredths.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "core/team.h"
#include "cpu/kernels.h"

using namespace ranvier;
using cpu::Table;

namespace {

constexpr double kMin = std::numeric_limits<float>::min();

struct Function {
  const char* name;
  Unary f;
  bool backward;  // f' instead of f
  double (*exact)(double);
  double max_ulp, max_ulp_without_fma;
  double small;  // a result below this in magnitude may come out as anything below it: a factor of it is subnormal
  bool in_ulp_of_x = false;  // not of the result
};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double normal_cdf(double x) { return std::erfc(x * -0.70710678118654752) / 2; }
double gelu_tanh_argument(double x) { return 1.5957691216057308 * (x + 0.044715 * x * x * x); }
// The factor of a function that is 0 there: the product is 0, its limit, at -infinity too.
double finite_below(double x) { return std::max(x, -1e3); }

const Function kFunctions[] = {
    {"exp", Unary::exp, false, [](double x) { return std::exp(x); }, 1.04, 1.01, kMin},
    {"log", Unary::log, false, [](double x) { return x < 0 ? NAN : std::log(x < kMin ? 0 : x); }, 0.94, 0.95, kMin},
    {"cosh", Unary::cosh, false, [](double x) { return std::cosh(x); }, 1.51, 1.47, kMin},
    {"sinh", Unary::cosh, true, [](double x) { return std::sinh(x); }, 1.62, 1.62, kMin},
    {"expm1", Unary::elu, false, [](double x) { return x > 0 ? x : std::expm1(x); }, 0.95, 1.04, kMin},
    {"sigmoid", Unary::sigmoid, false, sigmoid, 2.41, 2.41, kMin},
    {"tanh", Unary::tanh, false, [](double x) { return std::tanh(x); }, 2.5, 2.5, kMin},
    {"silu", Unary::silu, false, [](double x) { return finite_below(x) * sigmoid(x); }, 3.4, 3.4, 88 * kMin},
    {"softplus", Unary::softplus, false, softplus, 1.75, 1.79, kMin},
    {"gelu", Unary::gelu, false, [](double x) { return finite_below(x) * normal_cdf(x); }, 6.42, 70.35, 16 * kMin},
    {"gelu_tanh", Unary::gelu_tanh, false, [](double x) { return finite_below(x) * sigmoid(gelu_tanh_argument(x)); },
     1.63, 1.67, 16 * kMin, true},
};

// The unit in the last place of x as a float.
double ulp(double x) {
  const double power = std::bit_cast<double>(std::bit_cast<std::uint64_t>(x) & 0x7ff0000000000000);  // |x| rounded down
  return std::clamp(power, 0x1p-126, 0x1p127) * 0x1p-23;
}

// |y - exact| in units. Infinity stands where the next power of two would.
double error_in(double unit, float y, double exact, double small) {
  if (std::isnan(exact) || std::isnan(y)) return std::isnan(exact) && std::isnan(y) ? 0 : INFINITY;
  if (std::abs(exact) < small && std::abs(y) < small) return 0;
  return std::abs(std::clamp<double>(y, -0x1p128, 0x1p128) - std::clamp(exact, -0x1p128, 0x1p128)) / unit;
}

struct Worst {
  double error = 0;
  float x = 0;

  void add(const Worst& other) {
    if (other.error > error) *this = other;
  }
};

// What was found of a function.
struct Found {
  Worst with_fma, without_fma;
  const char* differs = nullptr;  // an instruction set

  void add(const Found& other) {
    with_fma.add(other.with_fma);
    without_fma.add(other.without_fma);
    if (other.differs) differs = other.differs;
  }
};

Found measure(const Function& function, const std::vector<float>& x) {
  Found found;
  std::vector<float> expected(x.size()), y(x.size());
  const std::vector<float> ones(x.size(), 1);
  const auto n = static_cast<std::int64_t>(x.size());
  std::vector<double> exact(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) exact[i] = function.exact(x[i]);
  bool first_with_fma = true;
  for (const Table* table : cpu::available_tables()) {
    if (table == nullptr || table == &cpu::reference_table()) continue;
    if (function.backward)
      table->f32.unary_backward[static_cast<std::size_t>(function.f)](n, ones.data(), x.data(), y.data(), 1);
    else
      table->f32.unary[static_cast<std::size_t>(function.f)](n, x.data(), y.data(), 1);
    const bool fma = std::string(table->isa) != "baseline";
    if (fma && !first_with_fma) {
      if (std::memcmp(expected.data(), y.data(), x.size() * sizeof(float)) != 0) found.differs = table->isa;
      continue;
    }
    Worst& worst = fma ? found.with_fma : found.without_fma;
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (y[i] == static_cast<float>(exact[i])) continue;  // within half a unit, as most are
      const double unit = ulp(function.in_ulp_of_x ? x[i] : exact[i]);
      worst.add({error_in(unit, y[i], exact[i], function.small), x[i]});
    }
    if (fma) {
      first_with_fma = false;
      expected.swap(y);
    }
  }
  return found;
}

bool passed(const Function& function, const Found& found, bool all) {
  bool good = found.differs == nullptr;
  if (!good) std::printf("%-10s other bits on %s\n", function.name, found.differs);
  const auto check = [&](const char* sets, const Worst& worst, double limit) {
    if (worst.error == 0) return;  // this machine has no such set
    std::printf("%-10s %-11s %.4f ulp at %a (limit %g)\n", function.name, sets, worst.error, worst.x, limit);
    good = good && worst.error <= limit && (!all || worst.error > limit - 0.01);
  };
  check("with fma", found.with_fma, function.max_ulp);
  check("without fma", found.without_fma, function.max_ulp_without_fma);
  return good;
}

// Both signs, every exponent (with zero, subnormals, infinity, NaN), mantissas evenly spread with both ends; and the
// floats around the places where a reduction of the range goes from one integer to the next.
std::vector<float> stratified_sample() {
  std::vector<float> x;
  constexpr std::uint32_t kPerBinade = 512, kStep = (1u << 23) / kPerBinade;
  for (std::uint32_t high = 0; high < 512; ++high) {
    for (std::uint32_t i = 0; i < kPerBinade; ++i) {
      // an odd offset that wanders, so that not all low bits are equal
      const std::uint32_t low =
          i + 1 == kPerBinade ? (1u << 23) - 1 : i * kStep + (i == 0 ? 0 : i * 2654435761u % kStep);
      x.push_back(std::bit_cast<float>(high << 23 | low));
    }
  }
  const auto around = [&](double at) {
    for (std::uint32_t i = 0; i < 17; ++i) {
      x.push_back(std::bit_cast<float>(std::bit_cast<std::uint32_t>(static_cast<float>(at)) + i - 8));
      x.push_back(-x.back());
    }
  };
  for (int n = -126; n < 128; ++n) around(std::ldexp(std::sqrt(0.5), n));  // log
  for (int n = 0; n < 132; ++n) {
    const double boundary = (n + 0.5) * std::log(2.0);
    around(boundary);                 // exp
    around(boundary / 2);             // tanh: e^(-2 |x|)
    around(std::sqrt(2 * boundary));  // gelu: e^(-x^2 / 2)
  }
  return x;
}

bool check_power() {
  std::vector<float> values{0,
                            1,
                            2,
                            3,
                            0.5f,
                            1.5f,
                            1e-3f,
                            7.25f,
                            1e10f,
                            0x1p23f,
                            0x1p24f,
                            0x1.000002p23f,
                            8388609.5f,
                            1 + 0x1p-23f,
                            1 - 0x1p-24f,
                            3e38f,
                            static_cast<float>(kMin),
                            1e-30f,
                            33,
                            127,
                            128,
                            149};
  for (int i = 1; i < 40; ++i)
    values.push_back(
        std::ldexp(1 + static_cast<float>(i) * 0.6180339f - std::floor(static_cast<float>(i) * 0.6180339f), i - 20));
  values.push_back(INFINITY);
  values.push_back(NAN);
  for (std::size_t i = 0, n = values.size(); i < n; ++i) values.push_back(-values[i]);
  std::vector<float> a, b;
  for (const float p : values) {
    for (const float q : values) {
      a.push_back(p);
      b.push_back(q);
    }
  }
  // Bases near one with exponents that bring them to every size of result.
  for (int i = 1; i < 20000; ++i) {
    a.push_back(0.01f + 0.001f * static_cast<float>(i));
    b.push_back(static_cast<float>((i * 7919 % 20000) - 10000) * 0.01f);
  }
  bool good = true;
  std::vector<float> y(a.size());
  for (const Table* table : cpu::available_tables()) {
    if (table == nullptr) continue;
    table->f32.binary[static_cast<std::size_t>(Binary::power)](static_cast<std::int64_t>(a.size()), a.data(), 1,
                                                               b.data(), 1, y.data());
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double exact = std::pow(double{a[i]}, double{b[i]});
      const double error = error_in(ulp(exact), y[i], exact, kMin);
      worst = std::max(worst, error);
      if (error > 0.51 && table != &cpu::reference_table() && good) {
        std::printf("power(%a, %a) on %s: %a, not %a\n", a[i], b[i], table->isa, y[i], exact);
        good = false;
      }
      // The sign of zero and of an infinity.
      if ((exact == 0 || std::isinf(exact)) && std::signbit(exact) != std::signbit(y[i])) {
        std::printf("power(%a, %a) on %s: %a, not %a\n", a[i], b[i], table->isa, y[i], exact);
        good = false;
      }
    }
    std::printf("power      %-9s %.3f ulp\n", table->isa, worst);
  }
  return good;
}

// All 2^32 floats, on every processor that this process may use. As in native calls subnormals count as zero.
Found measure_all(const Function& function) {
  constexpr std::uint64_t kBlock = 1 << 14, kBlocks = (std::uint64_t{1} << 32) / kBlock;  // a block stays in L2
  std::atomic<std::uint64_t> next = 0;
  std::vector<Found> found(std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::thread> team;
  for (Found& mine : found) {
    team.emplace_back([&] {
      const FlushSubnormals flush;
      std::vector<float> x(kBlock);
      for (std::uint64_t block = next++; block < kBlocks; block = next++) {
        for (std::uint64_t i = 0; i < kBlock; ++i)
          x[i] = std::bit_cast<float>(static_cast<std::uint32_t>(block * kBlock + i));
        mine.add(measure(function, x));
      }
    });
  }
  for (std::thread& member : team) member.join();
  for (const Found& other : found) found[0].add(other);
  return found[0];
}

}  // namespace

int main(int argc, char** argv) {
  const bool all = argc > 1 && std::string(argv[1]) == "--all";
  const std::vector<float> sample = stratified_sample();
  bool good = true;
  for (const Function& function : kFunctions) {
    if (argc > 2 && std::string(argv[2]) != function.name) continue;
    Found found;
    if (all) {
      found = measure_all(function);
    } else {
      found = measure(function, sample);
      const FlushSubnormals flush;
      found.add(measure(function, sample));
    }
    good = passed(function, found, all) && good;
    std::fflush(stdout);
  }
  if (argc <= 2) good = check_power() && good;
  return good ? 0 : 1;
}
