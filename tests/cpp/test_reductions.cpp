// Sums, softmax and its logarithm: the order of the contract bit for bit, the values against the float64 reference, the
// gradients against finite differences.
#include "kernels_test.h"

using namespace ranvier::cpu;

namespace {

template <class T>
void check_sums() {
  for (const std::int64_t n : counts()) {
    const std::vector<T> x = uniform<T>(n, -1, 1), y = uniform<T>(n, -1, 1);
    each_table([&](const Table& table) {
      double squares[2];
      T sums[2], dots[2];
      for (const bool reference : {false, true}) {
        call(kernels_of<T>(reference ? reference_table() : table), {x, y}, {},
             [&](const Kernels<T>& kernels, const T* const* in, T* const*) {
               sums[reference] = kernels.sum(n, in[0]);
               dots[reference] = kernels.dot(n, in[0], in[1]);
               squares[reference] = kernels.sum_of_squares(n, in[0]);
             });
      }
      const std::string name = std::to_string(n) + " elements on " + table.isa;
      expect(same_bits(sums[0], sums[1]), "sum of " + name);
      if (has_fma(table)) {
        expect(same_bits(dots[0], dots[1]), "dot of " + name);
        expect(same_bits(squares[0], squares[1]), "sum_of_squares of " + name);
      } else {  // each product rounded once more, and then all sums otherwise
        const double roundings = 2 * (sum_roundings(n) + 1) * static_cast<double>(n);
        expect(std::abs(dots[0] - dots[1]) <= roundings * std::numeric_limits<T>::epsilon(), "dot of " + name);
        expect(std::abs(squares[0] - squares[1]) <= roundings * std::numeric_limits<double>::epsilon(),
               "sum_of_squares of " + name);
      }
    });
  }
}

// The order itself, by hand: half a unit in the last place is lost wherever it meets 1 alone.
template <class T>
void check_order() {
  const T half = std::numeric_limits<T>::epsilon() / 2;
  const auto sum_with = [&](const Table& table, std::int64_t i, std::int64_t j) {
    std::vector<T> x(2 * kSumChunk);
    x[0] = 1, x[static_cast<std::size_t>(i)] = x[static_cast<std::size_t>(j)] = half;
    const T ones[] = {1};
    const std::vector<T> all(x.size(), ones[0]);
    const T sum = kernels_of<T>(table).sum(2 * kSumChunk, x.data());
    expect(kernels_of<T>(table).dot(2 * kSumChunk, x.data(), all.data()) == sum, "dot with ones is not the sum");
    return sum;
  };
  each_table([&](const Table& table) {
    const std::string isa = table.isa;
    expect(sum_with(table, 16, 32) == 1, isa + ": one lane is not a chain");
    for (const std::int64_t lane : {1, 2, 4, 8}) {
      expect(sum_with(table, lane, lane + 16) == 1 + 2 * half, isa + ": lanes are not i mod 16");
      for (const std::int64_t other : {1, 2, 4, 8}) {  // folded into each other only if they differ by a later fold
        if (lane != other) expect(sum_with(table, lane, other) == 1, isa + ": not folded by 8, 4, 2, 1");
        if (lane < other)
          expect(sum_with(table, lane, lane + other) == 1 + 2 * half, isa + ": not folded by 8, 4, 2, 1");
      }
    }
    expect(sum_with(table, kSumChunk, kSumChunk + 16) == 1 + 2 * half, isa + ": chunks are not summed apart");
    const std::vector<float> big(5, 2e19f);
    expect(kernels_of<float>(table).sum_of_squares(5, big.data()) > 1.9e39, isa + ": squares are not in double");
  });
}

// Of exp: 5 units (test_math.cpp); of its argument, which lies within `range` and is rounded once.
template <class T>
double exp_roundings(double range) {
  return 2 * 5 + range;
}

template <class T>
void check_softmax() {
  const double range = 12;
  for (const std::int64_t n : counts())
    for (const std::int64_t rows : {0, 1, 3}) {
      const std::vector<T> x = uniform<T>(rows * n, -range / 2, range / 2), dy = uniform<T>(rows * n, -1, 1);
      const std::string name = " of " + std::to_string(rows) + " x " + std::to_string(n);
      const Kernels<double>& reference = reference_table().f64;
      const std::size_t size = x.size();
      std::vector<double> y(size), log_y(size), exact(size), tolerance(size);
      reference.softmax(rows, n, to_double(x).data(), y.data());
      reference.log_softmax(rows, n, to_double(x).data(), log_y.data());
      const double sums = exp_roundings<T>(range) + sum_roundings(n);

      for (std::size_t i = 0; i < size; ++i) tolerance[i] = (sums + exp_roundings<T>(range) + 2) * unit<T>() * y[i];
      check<T>("softmax" + name, {x}, {rows * n}, y, tolerance,
               [=](const Kernels<T>& k, const T* const* in, T* const* out) { k.softmax(rows, n, in[0], out[0]); });
      check<T>("softmax in place" + name, {x}, {rows * n}, y, tolerance,
               [=](const Kernels<T>& k, const T* const* in, T* const* out) {
                 std::copy(in[0], in[0] + rows * n, out[0]);
                 k.softmax(rows, n, out[0], out[0]);
               });

      for (std::size_t i = 0; i < size; ++i)
        tolerance[i] = (sums + 2 * 5 + 3 * (range + std::abs(log_y[i]))) * unit<T>();
      check<T>("log_softmax" + name, {x}, {rows * n}, log_y, tolerance,
               [=](const Kernels<T>& k, const T* const* in, T* const* out) {
                 std::copy(in[0], in[0] + rows * n, out[0]);
                 k.log_softmax(rows, n, out[0], out[0]);
               });

      // Told the rounded y, both sides start from the same numbers.
      std::vector<T> saved(y.begin(), y.end()), log_saved(log_y.begin(), log_y.end());
      reference.softmax_backward(rows, n, to_double(dy).data(), to_double(saved).data(), exact.data());
      for (std::size_t i = 0; i < size; ++i) tolerance[i] = (sum_roundings(n) + 6) * unit<T>() * 2 * y[i];
      check<T>("softmax_backward" + name, {dy, saved}, {rows * n}, exact, tolerance,
               [=](const Kernels<T>& k, const T* const* in, T* const* out) {
                 std::copy(in[0], in[0] + rows * n, out[0]);
                 k.softmax_backward(rows, n, out[0], in[1], out[0]);
               });
      reference.log_softmax_backward(rows, n, to_double(dy).data(), to_double(log_saved).data(), exact.data());
      for (std::size_t i = 0; i < size; ++i)
        tolerance[i] = (2 + (sum_roundings(n) + 2 * 5 + 3) * static_cast<double>(n) * y[i]) * unit<T>();
      check<T>("log_softmax_backward" + name, {dy, log_saved}, {rows * n}, exact, tolerance,
               [=](const Kernels<T>& k, const T* const* in, T* const* out) {
                 k.log_softmax_backward(rows, n, in[0], in[1], out[0]);
               });
    }
}

// The backward twins against finite differences of sum(dy y).
void check_gradients() {
  const double step = 1e-5;
  for (const std::int64_t n : {1, 3, 10, 16, 17, 40})
    each_table([&](const Table& table) {
      const Kernels<double>& k = table.f64;
      using Forward = decltype(k.softmax);
      using Backward = decltype(k.softmax_backward);
      const std::vector<double> x = uniform<double>(n, -2, 2), dy = uniform<double>(n, -1, 1);
      std::vector<double> y(x.size()), dx(x.size());
      const auto compare = [&](const char* name, Forward forward, Backward backward) {
        forward(1, n, x.data(), y.data());
        backward(1, n, dy.data(), y.data(), dx.data());
        for (std::size_t i = 0; i < x.size(); ++i) {
          double difference = 0;
          for (const double side : {-1.0, 1.0}) {
            std::vector<double> moved = x;
            moved[i] += side * step;
            forward(1, n, moved.data(), y.data());
            for (std::size_t j = 0; j < x.size(); ++j) difference += side * dy[j] * y[j] / (2 * step);
          }
          expect(std::abs(difference - dx[i]) <= 1e-6,
                 std::string(name) + " on " + table.isa + ": gradient of " + std::to_string(n));
        }
      };
      compare("softmax", k.softmax, k.softmax_backward);
      compare("log_softmax", k.log_softmax, k.log_softmax_backward);
    });
}

template <class T>
void check_special() {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  for (const std::int64_t n : {1, 3, 16, 17, 40})
    each_table([&](const Table& table) {
      const Kernels<T>& k = kernels_of<T>(table);
      const std::string name = std::string(" on ") + table.isa + ", n " + std::to_string(n);
      const auto run = [&](std::vector<T> x, bool log) {
        (log ? k.log_softmax : k.softmax)(1, n, x.data(), x.data());
        return x;
      };
      const auto all_nan = [](const std::vector<T>& x) {
        return std::all_of(x.begin(), x.end(), [](T v) { return std::isnan(v); });
      };
      for (const bool log : {false, true}) {
        const std::vector<T> zero(static_cast<std::size_t>(n));
        for (const T bad : {inf, nan}) {
          std::vector<T> x = zero;
          x.back() = bad;
          expect(all_nan(run(x, log)), "infinity or NaN does not make the row NaN" + name);
        }
        expect(all_nan(run(std::vector<T>(zero.size(), -inf), log)), "all -infinity is not NaN" + name);
        // Far from zero nothing overflows; -infinity is probability 0.
        std::vector<T> x(zero.size(), std::numeric_limits<T>::max());
        x.back() = n == 1 ? x[0] : -inf;
        const std::vector<T> y = run(x, log);
        const double each = 1 / static_cast<double>(n == 1 ? 1 : n - 1);
        expect(std::abs(y[0] - (log ? std::log(each) : each)) <= 8 * unit<T>() * (log ? 4 : each), "large" + name);
        if (n > 1) expect(y.back() == (log ? -inf : 0), "-infinity among others" + name);
      }
    });
  each_table([&](const Table& table) {  // the published layer of three
    const T x[] = {T(0.96368124), T(0.05371889), T(-0.23933329)};
    const double expected[] = {0.58725872, 0.23639476, 0.17634652};
    T y[3];
    kernels_of<T>(table).softmax(1, 3, x, y);
    for (int i = 0; i < 3; ++i) expect(std::abs(y[i] - expected[i]) <= 1e-8 + 8 * unit<T>(), "the layer of three");
  });
}

}  // namespace

int main() {
  check_sums<float>();
  check_sums<double>();
  check_order<float>();
  check_order<double>();
  check_softmax<float>();
  check_softmax<double>();
  check_gradients();
  check_special<float>();
  check_special<double>();
  return report();
}
