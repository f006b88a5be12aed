// Every instruction set's element-wise kernels against the reference, over every count around the vectors' lengths,
// misaligned, in place, with broadcast scalars; the sets with fma must agree in float bit by bit. (The error over whole
// ranges: test_math.cpp.)
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels_test.h"

using namespace ranvier;
using namespace ranvier::cpu;

namespace {

constexpr std::int64_t kMaxCount = 2 * kSumLanes + 3;  // twice the most lanes, and the tail after them

// n values in [-7, 7] and every special one.
template <class T>
std::vector<T> values(std::int64_t n) {
  using Limits = std::numeric_limits<T>;
  const T special[] = {0,  T(-0.0), 1, -1, 2, T(0.5), Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN(),
                       20, -20};
  std::vector<T> x = uniform<T>(n, -7, 7);
  for (T& v : x)
    if (random_bits() % 4 == 0) v = special[random_bits() % std::size(special)];
  return x;
}

// check() for results that may be `ulps` off the reference's in double, in ulp of the result and of terms[i], the size
// of what was added up to it (empty: of nothing).
template <class T, class Run>
void check_ulps(const std::string& name, const std::vector<std::vector<T>>& inputs, const std::vector<double>& exact,
                double ulps, const std::vector<double>& terms, Run run) {
  std::vector<double> wanted, tolerance;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    wanted.push_back(static_cast<T>(exact[i]));
    const double size = std::abs(wanted[i]) + (terms.empty() ? 0 : terms[i]);
    tolerance.push_back(std::isfinite(wanted[i]) ? ulps * std::numeric_limits<T>::epsilon() * size : 0);
  }
  const auto n = static_cast<std::int64_t>(exact.size());
  check<T>(name + ", " + std::to_string(n), inputs, {n}, wanted, tolerance, run);
}

constexpr bool is_exact(Unary f) {
  return f == Unary::identity || f == Unary::negative || f == Unary::abs || f == Unary::relu;
}

template <class T>
void check_unary(Unary f, std::int64_t n) {
  const auto index = static_cast<std::size_t>(f);
  const T alpha = T(0.3);
  const Kernels<double>& reference = reference_table().f64;
  const std::vector<T> x = values<T>(n);
  std::vector<T> dy = values<T>(n);
  for (T& d : dy)
    if (std::isinf(d) && !is_exact(f)) d = 1;  // times a derivative that is 0 in float alone it would be NaN in float
  const double ulps = is_exact(f) ? 0 : 5;
  std::vector<double> exact(x.size()), terms;
  const std::string name{kUnaryNames[index]};

  // No function is worse than 3.4 ulp (test_math.cpp), but for gelu and gelu_tanh, which are that good in ulp of x. The
  // reference in float rounds twice more.
  for (const T v : x) terms.push_back(f == Unary::gelu || f == Unary::gelu_tanh ? std::abs(double{v}) : 0);
  reference.unary[index](n, to_double(x).data(), exact.data(), alpha);
  check_ulps<T>(name, {x}, exact, ulps, terms, [=](const Kernels<T>& kernels, const T* const* in, T* const* out) {
    kernels.unary[index](n, in[0], out[0], alpha);
  });
  check_ulps<T>(name + " in place", {x}, exact, ulps, terms,
                [=](const Kernels<T>& kernels, const T* const* in, T* const* out) {
                  std::copy_n(in[0], n, out[0]);
                  kernels.unary[index](n, out[0], out[0], alpha);
                });

  // What the derivative adds up: y (1 - y), 1 - y^2, y + alpha; or bounded functions of x.
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double saved = std::abs(double{x[i]}), size = saved_by(f) == Saved::output ? (1 + saved) * (1 + saved) : 2;
    terms[i] = f == Unary::exp || f == Unary::sqrt ? 0 : std::abs(double{dy[i]}) * size;
  }
  const bool reads = saved_by(f) != Saved::nothing;
  reference.unary_backward[index](n, to_double(dy).data(), to_double(x).data(), exact.data(), alpha);
  check_ulps<T>(name + " backward", {dy, x}, exact, ulps, terms,
                [=](const Kernels<T>& kernels, const T* const* in, T* const* out) {
                  kernels.unary_backward[index](n, in[0], reads ? in[1] : nullptr, out[0], alpha);
                });
  check_ulps<T>(name + " backward in place", {dy, x}, exact, ulps, terms,
                [=](const Kernels<T>& kernels, const T* const* in, T* const* out) {
                  std::copy_n(in[0], n, out[0]);
                  kernels.unary_backward[index](n, out[0], reads ? in[1] : nullptr, out[0], alpha);
                });
}

// n values, or the one that a stride of 0 reads again and again.
template <class T>
std::vector<T> operand(std::int64_t n, std::int64_t stride) {
  return values<T>(stride ? n : std::min<std::int64_t>(n, 1));
}

template <class T>
void check_binary(Binary f, std::int64_t n) {
  const auto index = static_cast<std::size_t>(f);
  const double ulps = f == Binary::power ? 1 : 0;
  for (const std::int64_t a_stride : {0, 1}) {
    for (const std::int64_t b_stride : {0, 1}) {
      const std::vector<T> a = operand<T>(n, a_stride), b = operand<T>(n, b_stride);
      std::vector<double> exact(static_cast<std::size_t>(n));
      reference_table().f64.binary[index](n, to_double(a).data(), a_stride, to_double(b).data(), b_stride,
                                          exact.data());
      const std::string name =
          std::string(kBinaryNames[index]) + ", strides " + std::to_string(a_stride) + ", " + std::to_string(b_stride);
      check_ulps<T>(name, {a, b}, exact, ulps, {}, [=](const Kernels<T>& kernels, const T* const* in, T* const* out) {
        kernels.binary[index](n, in[0], a_stride, in[1], b_stride, out[0]);
      });
      for (const int over : {0, 1}) {
        if ((over ? b_stride : a_stride) == 0) continue;
        check_ulps<T>(name + " in place", {a, b}, exact, ulps, {},
                      [=](const Kernels<T>& kernels, const T* const* in, T* const* out) {
                        std::copy_n(in[over], n, out[0]);
                        kernels.binary[index](n, over ? in[0] : out[0], a_stride, over ? out[0] : in[1], b_stride,
                                              out[0]);
                      });
      }
    }
  }
}

template <class T>
void check_where(std::int64_t n) {
  for (unsigned strides = 0; strides < 8; ++strides) {
    const std::int64_t s[3] = {strides & 1, strides >> 1 & 1, strides >> 2};
    const std::vector<T> c = operand<T>(n, s[0]), a = operand<T>(n, s[1]), b = operand<T>(n, s[2]);
    std::vector<double> exact(static_cast<std::size_t>(n));
    reference_table().f64.where(n, to_double(c).data(), s[0], to_double(a).data(), s[1], to_double(b).data(), s[2],
                                exact.data());
    check_ulps<T>("where", {c, a, b}, exact, 0, {}, [&](const Kernels<T>& kernels, const T* const* in, T* const* out) {
      kernels.where(n, in[0], s[0], in[1], s[1], in[2], s[2], out[0]);
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
  return report();
}
