// Every instruction set's element-wise kernels against the reference, over every count around the vectors' lengths,
// misaligned, in place, with broadcast scalars; the sets with fma must agree in float bit by bit. All arrays end at a
// page that cannot be touched. (The error over whole ranges: test_math.cpp.)
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "cpu/kernels.h"

using namespace ranvier;
using namespace ranvier::cpu;

namespace {

int failures = 0;
void fail(const std::string& what) {
  if (++failures <= 20) std::printf("%s\n", what.c_str());
}

// The last n elements before a page that cannot be touched. Where they begin depends on n, so every misalignment comes.
template <class T>
class Guarded {
 public:
  Guarded() : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))) {
    void* map = mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(static_cast<char*>(map) + page_, page_, PROT_NONE) != 0) std::abort();
    map_ = static_cast<char*>(map);
  }
  ~Guarded() { munmap(map_, 2 * page_); }
  Guarded(const Guarded&) = delete;
  T* last(std::int64_t n) const { return reinterpret_cast<T*>(map_ + page_) - n; }
  T* fill(const std::vector<T>& values) const {
    return std::copy(values.begin(), values.end(), last(static_cast<std::int64_t>(values.size()))) - values.size();
  }

 private:
  std::size_t page_;
  char* map_;
};

constexpr std::int64_t kMaxCount = 2 * 16 + 3;  // twice the most lanes, and the tail after them

// Values in [-7, 7] and every special one, in an order that moves with `seed`.
template <class T>
std::vector<T> values(std::uint32_t seed) {
  using Limits = std::numeric_limits<T>;
  const T special[] = {0,  T(-0.0), 1, -1, 2, T(0.5), Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN(),
                       20, -20};
  std::vector<T> result;
  for (std::int64_t i = 0; i < kMaxCount; ++i) {
    seed = seed * 1664525u + 1013904223u;
    result.push_back(seed >> 30 ? static_cast<T>(static_cast<double>(seed >> 8 & 0xfffff) / 0xfffff * 14 - 7)
                                : special[(seed >> 8) % std::size(special)]);
  }
  return result;
}

template <class T>
bool same(T a, T b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}

template <class T>
const Kernels<T>& kernels_of(const Table& table) {
  if constexpr (std::is_same_v<T, float>)
    return table.f32;
  else
    return table.f64;
}

// How far a result may be from the reference's in double: `ulps` of the result and of `terms`, the size of what was
// added up to it.
struct Bound {
  double ulps, terms;
};

// run(kernels, out) on all tables, out with n elements; exact: the reference's results in double.
template <class T, class Run, class BoundOf>
void check(const std::string& name, std::int64_t n, const std::vector<double>& exact, BoundOf bound_of, Run run) {
  std::vector<T> with_fma;
  for (const Table* table : available_tables()) {
    if (table == nullptr) continue;
    const T* out = run(kernels_of<T>(*table));
    for (std::int64_t i = 0; i < n; ++i) {
      const double wanted = static_cast<T>(exact[i]);
      const Bound bound = bound_of(i);
      if (same<double>(out[i], wanted) || out[i] == wanted) continue;
      const double limit = bound.ulps * std::numeric_limits<T>::epsilon() * (std::abs(wanted) + bound.terms);
      if (std::isfinite(wanted) && std::abs(out[i] - exact[i]) <= limit) continue;
      fail(name + " on " + table->isa + ", element " + std::to_string(i) + " of " + std::to_string(n) + ": " +
           std::to_string(out[i]) + ", not " + std::to_string(wanted));
    }
    if (std::is_same_v<T, double> || table == &reference_table() || std::string(table->isa) == "baseline") continue;
    for (std::int64_t i = 0; i < n && !with_fma.empty(); ++i)
      if (!same(out[i], with_fma[i])) fail(name + " on " + table->isa + ": other bits");
    with_fma.assign(out, out + n);
  }
}

std::vector<double> wide(const auto& x) { return {x.begin(), x.end()}; }

constexpr bool is_exact(Unary f) {
  return f == Unary::identity || f == Unary::negative || f == Unary::abs || f == Unary::relu;
}

template <class T>
void check_unary(Unary f, std::int64_t n) {
  static const Guarded<T> in, in2, out;
  const auto index = static_cast<std::size_t>(f);
  const T alpha = T(0.3);
  const Kernels<double>& reference = reference_table().f64;
  const auto x = values<T>(static_cast<std::uint32_t>(n)), dy = values<T>(static_cast<std::uint32_t>(n) + 99);
  std::vector<double> exact(kMaxCount);
  const std::string name{kUnaryNames[index]};

  // No function is worse than 3 ulp (test_math.cpp), but for gelu and gelu_tanh, which are that good in ulp of x. The
  // reference in float rounds twice more.
  const auto forward_bound = [&](std::int64_t i) {
    return Bound{is_exact(f) ? 0.0 : 5.0, f == Unary::gelu || f == Unary::gelu_tanh ? std::abs(double{x[i]}) : 0};
  };
  reference.unary[index](n, wide(x).data(), exact.data(), alpha);
  for (const bool in_place : {false, true}) {
    check<T>(name, n, exact, forward_bound, [&](const Kernels<T>& kernels) {
      T* const source = in.fill({x.begin(), x.begin() + n});
      T* const y = in_place ? source : out.last(n);
      kernels.unary[index](n, source, y, alpha);
      return y;
    });
  }

  // What the derivative adds up: y (1 - y), 1 - y^2, y + alpha; or bounded functions of x.
  const auto backward_bound = [&](std::int64_t i) {
    const double saved = std::abs(double{x[i]}), size = saved_by(f) == Saved::output ? (1 + saved) * (1 + saved) : 2;
    return Bound{is_exact(f) ? 0.0 : 5.0, f == Unary::exp || f == Unary::sqrt ? 0 : std::abs(double{dy[i]}) * size};
  };
  reference.unary_backward[index](n, wide(dy).data(), wide(x).data(), exact.data(), alpha);
  const bool reads = saved_by(f) != Saved::nothing;
  for (const bool in_place : {false, true}) {
    check<T>(name + " backward", n, exact, backward_bound, [&](const Kernels<T>& kernels) {
      T* const source = in.fill({dy.begin(), dy.begin() + n});
      T* const saved = in2.fill({x.begin(), x.begin() + n});
      T* const dx = in_place ? source : out.last(n);
      kernels.unary_backward[index](n, source, reads ? saved : nullptr, dx, alpha);
      return dx;
    });
  }
}

template <class T>
void check_binary(Binary f, std::int64_t n) {
  static const Guarded<T> in, in2, out;
  const auto index = static_cast<std::size_t>(f);
  const auto x = values<T>(static_cast<std::uint32_t>(n)), y = values<T>(static_cast<std::uint32_t>(n) + 99);
  std::vector<double> exact(kMaxCount);
  const auto bound = [&](std::int64_t) { return Bound{f == Binary::power ? 1.0 : 0.0, 0}; };
  for (const std::int64_t a_stride : {0, 1}) {
    for (const std::int64_t b_stride : {0, 1}) {
      const std::string name =
          std::string(kBinaryNames[index]) + ", strides " + std::to_string(a_stride) + ", " + std::to_string(b_stride);
      reference_table().f64.binary[index](n, wide(x).data(), a_stride, wide(y).data(), b_stride, exact.data());
      for (const bool in_place : {false, true}) {
        check<T>(name, n, exact, bound, [&](const Kernels<T>& kernels) {
          T* const a = in.fill({x.begin(), x.begin() + (a_stride ? n : std::min<std::int64_t>(n, 1))});
          T* const b = in2.fill({y.begin(), y.begin() + (b_stride ? n : std::min<std::int64_t>(n, 1))});
          T* const result = in_place && a_stride ? a : in_place && b_stride ? b : out.last(n);
          kernels.binary[index](n, a, a_stride, b, b_stride, result);
          return result;
        });
      }
    }
  }
}

template <class T>
void check_where(std::int64_t n) {
  static const Guarded<T> in[3], out;
  std::vector<T> x[3];
  for (std::uint32_t k = 0; k < 3; ++k) x[k] = values<T>(static_cast<std::uint32_t>(n) + 7 * k);
  std::vector<double> exact(kMaxCount);
  for (unsigned strides = 0; strides < 8; ++strides) {
    const std::int64_t s[3] = {strides & 1, strides >> 1 & 1, strides >> 2};
    reference_table().f64.where(n, wide(x[0]).data(), s[0], wide(x[1]).data(), s[1], wide(x[2]).data(), s[2],
                                exact.data());
    check<T>(
        "where", n, exact, [](std::int64_t) { return Bound{0, 0}; },
        [&](const Kernels<T>& kernels) {
          T* p[3];
          for (int k = 0; k < 3; ++k)
            p[k] = in[k].fill({x[k].begin(), x[k].begin() + (s[k] ? n : std::min<std::int64_t>(n, 1))});
          kernels.where(n, p[0], s[0], p[1], s[1], p[2], s[2], out.last(n));
          return out.last(n);
        });
  }
}

template <class T>
void check_all() {
  for (std::int64_t n = 0; n <= kMaxCount; ++n) {
    for (std::size_t f = 0; f < kUnaryNames.size(); ++f) check_unary<T>(Unary(f), n);
    for (std::size_t f = 0; f < kBinaryNames.size(); ++f) check_binary<T>(Binary(f), n);
    check_where<T>(n);
  }
}

}  // namespace

int main() {
  check_all<float>();
  check_all<double>();
  return failures ? 1 : 0;
}
