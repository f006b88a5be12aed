// Losses: values by hand, against the float64 reference, gradients against finite differences.
#include "kernels_test.h"

using namespace ranvier;
using namespace ranvier::cpu;

namespace {

constexpr double kDelta = 0.75;

bool on_probabilities(RowLoss f) { return f == RowLoss::binary_cross_entropy_probabilities; }
bool binary(RowLoss f) { return f == RowLoss::binary_cross_entropy || on_probabilities(f); }

// Predictions and targets away from kinks: |p - t| is neither near 0 nor near delta.
template <class T>
void fill(RowLoss f, std::int64_t n, std::vector<T>& pred, std::vector<T>& target) {
  pred.clear(), target.clear();
  for (std::int64_t i = 0; i < n; ++i) {
    const double t = binary(f) ? uniform(0, 1) : uniform(-2, 2);
    const double d = (random_bits() & 64 ? 1 : -1) * (random_bits() & 64 ? uniform(0.1, 0.6) : uniform(0.9, 3));
    target.push_back(static_cast<T>(t));
    pred.push_back(static_cast<T>(on_probabilities(f) ? uniform(0.02, 0.98) : binary(f) ? uniform(-9, 9) : t + d));
  }
}

template <class T>
bool same(const T* a, const T* b, std::int64_t n) {
  return std::equal(a, a + n, b, same_bits<T>);
}

// The size of what is added up to an element's loss, and to its derivative.
struct Terms {
  double loss, slope;
};
Terms terms(RowLoss f, double p, double t) {
  if (on_probabilities(f)) return {1 + std::abs(std::log(p)) + std::abs(std::log1p(-p)), 1 / (p * (1 - p))};
  if (binary(f)) return {2 + 2 * std::abs(p), 2};
  const double d = std::abs(p) + std::abs(t);
  return {d * (d + 1), 2 * (d + 1)};
}
constexpr double kOperations = 16;  // roundings of one element's formula; exp and log are worth 5

template <class T>
void check_rows(RowLoss f) {
  const auto index = static_cast<std::size_t>(f);
  for (const std::int64_t n : counts())
    for (const std::int64_t rows : n == 1 ? counts() : std::vector<std::int64_t>{0, 1, 3}) {
      std::vector<T> pred, target;
      fill(f, rows * n, pred, target);
      const std::vector<T> drow = uniform<T>(rows, -1, 1);
      std::vector<double> exact(static_cast<std::size_t>(rows + rows * n)), tolerance;
      reference_table().f64.row_loss[index](rows, n, to_double(pred).data(), to_double(target).data(),
                                            to_double(drow).data(), static_cast<T>(kDelta), exact.data(),
                                            exact.data() + rows);
      for (std::int64_t row = 0; row < rows; ++row) {
        double most = 0;
        for (std::int64_t i = row * n; i < (row + 1) * n; ++i) most = std::max(most, terms(f, pred[i], target[i]).loss);
        tolerance.push_back((kOperations + sum_roundings(n)) * unit<T>() * most);
      }
      for (std::int64_t i = 0; i < rows * n; ++i)
        tolerance.push_back(kOperations * unit<T>() * terms(f, pred[i], target[i]).slope / static_cast<double>(n));
      const std::string name =
          std::string(kRowLossNames[index]) + " of " + std::to_string(rows) + " x " + std::to_string(n);
      const std::vector<std::vector<T>> in{pred, target, drow};
      check<T>(name, in, {rows, rows * n}, exact, tolerance,
               [=](const Kernels<T>& k, const T* const* x, T* const* out) {
                 k.row_loss[index](rows, n, x[0], x[1], x[2], T(kDelta), out[0], out[1]);
               });
      each_table([&](const Table& table) {  // one output alone is what it is beside the other
        call(kernels_of<T>(table), in, {rows, rows * n, rows, rows * n},
             [&](const Kernels<T>& k, const T* const* x, T* const* out) {
               k.row_loss[index](rows, n, x[0], x[1], x[2], T(kDelta), out[0], out[1]);
               k.row_loss[index](rows, n, x[0], x[1], nullptr, T(kDelta), out[2], nullptr);
               k.row_loss[index](rows, n, x[0], x[1], x[2], T(kDelta), nullptr, out[3]);
               expect(same(out[0], out[2], rows) && same(out[1], out[3], rows * n),
                      name + ": one output alone is another");
             });
      });
    }
}

// |finite difference - gradient| <= 1e-6 max(1, |gradient|), loss(x) one number, in double.
template <class F>
void check_gradient(const std::string& name, std::vector<double> x, const std::vector<double>& gradient, F loss) {
  constexpr double kStep = 1e-5;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double at = x[i];
    x[i] = at + kStep;
    const double above = loss(x);
    x[i] = at - kStep;
    const double below = loss(x);
    x[i] = at;
    const double difference = (above - below) / (2 * kStep);
    expect(std::abs(difference - gradient[i]) <= 1e-6 * std::max(1.0, std::abs(gradient[i])), name + ": gradient");
  }
}

void check_row_gradients(RowLoss f) {
  const auto index = static_cast<std::size_t>(f);
  for (const std::int64_t n : {1, 3, 16, 20})
    each_table([&](const Table& table) {
      std::vector<double> pred, target, drow{0.7, -1.3};
      fill(f, 2 * n, pred, target);
      std::vector<double> dpred(pred.size());
      const auto kernel = table.f64.row_loss[index];
      kernel(2, n, pred.data(), target.data(), drow.data(), kDelta, nullptr, dpred.data());
      check_gradient(std::string(kRowLossNames[index]) + " on " + table.isa, pred, dpred, [&](const auto& x) {
        double loss[2];
        kernel(2, n, x.data(), target.data(), nullptr, kDelta, loss, nullptr);
        return drow[0] * loss[0] + drow[1] * loss[1];
      });
    });
}

template <class T>
void check_row_values() {
  struct Value {
    RowLoss f;
    double pred, target, loss, slope;
  };
  const double ln2 = std::log(2.0), nan = std::numeric_limits<double>::quiet_NaN();
  using enum RowLoss;
  const Value values[] = {
      {mse, 3, 1, 4, 4},
      {mae, 3, 1, 2, 1},
      {mae, 1, 3, 2, -1},
      {mae, 2, 2, 0, 0},
      {mae, nan, 2, nan, nan},
      {huber, 0.5, 0, 0.125, 0.5},
      {huber, 0.75, 0, 0.28125, 0.75},
      {huber, -2, 0, 1.21875, -0.75},
      {huber, nan, 0, nan, nan},
      {binary_cross_entropy, 0, 1, ln2, -0.5},
      {binary_cross_entropy, 1000, 0, 1000, 1},
      {binary_cross_entropy, 1000, 1, 0, 0},
      {binary_cross_entropy, -1000, 1, 1000, -1},
      {binary_cross_entropy, -1000, 0, 0, 0},
      {binary_cross_entropy, nan, 0, nan, nan},
      {binary_cross_entropy_probabilities, 0.5, 1, ln2, -2},
      {binary_cross_entropy_probabilities, 0, 1, 100, -1e12},
      {binary_cross_entropy_probabilities, 1, 0, 100, 1e12},
      {binary_cross_entropy_probabilities, 1, 1, 0, 0},
      {binary_cross_entropy_probabilities, 0, 0, 0, 0},
      {binary_cross_entropy_probabilities, 0x1p-20, 0, -std::log1p(-0x1p-20), 1 / (1 - 0x1p-20)},
      {binary_cross_entropy_probabilities, nan, 0, nan, nan},
  };
  for (const Value& v : values)
    each_table([&](const Table& table) {
      for (const std::int64_t n : {1, 5}) {
        const std::vector<T> pred(static_cast<std::size_t>(n), T(v.pred)), target(pred.size(), T(v.target));
        std::vector<T> dpred(pred.size());
        T loss, drow = static_cast<T>(n);
        const auto index = static_cast<std::size_t>(v.f);
        kernels_of<T>(table).row_loss[index](1, n, pred.data(), target.data(), &drow, T(kDelta), &loss, dpred.data());
        const auto close = [](double got, double wanted) {
          return same_bits(got, wanted) || got == wanted || std::abs(got - wanted) <= 8 * unit<T>() * std::abs(wanted);
        };
        expect(close(loss, v.loss) && close(dpred.back(), v.slope),
               std::string(kRowLossNames[index]) + " on " + table.isa + " at " + std::to_string(v.pred) + ", " +
                   std::to_string(v.target) + ": " + std::to_string(loss) + ", " + std::to_string(dpred.back()));
      }
    });
}

// A problem of cross-entropy: labels or probabilities, with or without weights and smoothing.
template <class T>
struct Problem {
  Guarded<std::int32_t> labels_room;
  std::int32_t* labels;
  std::vector<T> logits, target, weight, drow;
  bool by_label, weighted;
  T smoothing;

  Problem(std::int64_t rows, std::int64_t n, bool label, bool with_weight, double label_smoothing)
      : labels_room(rows),
        labels(labels_room.array(rows)),
        logits(uniform<T>(rows * n, -6, 6)),
        target(uniform<T>(rows * n, 0, 1)),
        weight(uniform<T>(n, 0.25, 2)),
        drow(uniform<T>(rows, -1, 1)),
        by_label(label),
        weighted(with_weight),
        smoothing(static_cast<T>(label_smoothing)) {
    for (std::int64_t i = 0; i < rows; ++i) labels[i] = static_cast<std::int32_t>(random_bits() % n);
  }
  template <class U>
  CrossEntropy<U> operator()(std::int64_t n, const U* t, const U* w) const {
    return {n, by_label ? labels : nullptr, by_label ? nullptr : t, weighted ? w : nullptr, static_cast<U>(smoothing)};
  }
};

template <class T>
void check_cross_entropy(bool by_label, bool weighted, double smoothing) {
  for (const std::int64_t n : counts())
    for (const std::int64_t rows : {0, 1, 3, 20}) {
      if (n == 0) continue;                       // no class, no row
      if (rows == 20 && n > kSumLanes) continue;  // more than one vector of narrow rows
      const Problem<T> p(rows, n, by_label, weighted, smoothing);
      const std::vector<double> target = to_double(p.target), weight = to_double(p.weight);
      std::vector<double> exact(static_cast<std::size_t>(rows + rows * n)), tolerance(exact.size());
      reference_table().f64.cross_entropy(rows, p(n, target.data(), weight.data()), to_double(p.logits).data(),
                                          to_double(p.drow).data(), exact.data(), exact.data() + rows);
      for (std::int64_t row = 0; row < rows; ++row) {
        // sum(wq) for all the logarithms that it multiplies, each within 12 + log n.
        double total = 0;
        for (std::int64_t c = 0; c < n; ++c)
          total +=
              (weighted ? weight[c] : 1) * (by_label ? (p.labels[row] == c ? 1 : smoothing / static_cast<double>(n))
                                                     : target[row * n + c] + smoothing / static_cast<double>(n));
        const double roundings = kOperations + 12 + 2 * sum_roundings(n);
        tolerance[row] = roundings * unit<T>() * total * (12 + std::log(static_cast<double>(n)));
        for (std::int64_t c = 0; c < n; ++c) {  // softmax_c total - w_c q_c: the terms of the difference
          const double g = exact[rows + row * n + c];
          tolerance[rows + row * n + c] = roundings * unit<T>() * (std::abs(g) + 2 * std::min(2.0, total));
        }
      }
      const std::string name = "cross_entropy" + std::string(by_label ? " of labels " : " of probabilities ") +
                               (weighted ? "weighted " : "") + std::to_string(smoothing) + ", " + std::to_string(rows) +
                               " x " + std::to_string(n);
      const std::vector<std::vector<T>> in{p.logits, p.drow, p.target, p.weight};
      check<T>(name, in, {rows, rows * n}, exact, tolerance,
               [&](const Kernels<T>& k, const T* const* x, T* const* out) {
                 k.cross_entropy(rows, p(n, x[2], x[3]), x[0], x[1], out[0], out[1]);
               });
      each_table([&](const Table& table) {
        call(kernels_of<T>(table), in, {rows, rows * n, rows, rows * n},
             [&](const Kernels<T>& k, const T* const* x, T* const* out) {
               const CrossEntropy<T> ce = p(n, x[2], x[3]);
               k.cross_entropy(rows, ce, x[0], x[1], out[0], out[1]);
               k.cross_entropy(rows, ce, x[0], nullptr, out[2], nullptr);
               k.cross_entropy(rows, ce, x[0], x[1], nullptr, out[3]);
               expect(same(out[0], out[2], rows) && same(out[1], out[3], rows * n),
                      name + ": one output alone is another");
               for (std::int64_t row = 0; row < rows; ++row) {
                 const CrossEntropy<T> one{n, by_label ? ce.labels + row : nullptr,
                                           by_label ? nullptr : ce.target + row * n, ce.class_weight,
                                           ce.label_smoothing};
                 k.cross_entropy(1, one, x[0] + row * n, x[1] + row, out[2] + row, out[3] + row * n);
               }
               expect(same(out[0], out[2], rows) && same(out[1], out[3], rows * n),
                      name + " on " + table.isa + ": a row alone is another");
             });
        if (n > 40 || rows != 3) return;
        const std::vector<double> logits = to_double(p.logits), drow = to_double(p.drow);
        const CrossEntropy<double> ce = p(n, target.data(), weight.data());
        std::vector<double> dlogits(logits.size());
        table.f64.cross_entropy(rows, ce, logits.data(), drow.data(), nullptr, dlogits.data());
        check_gradient(name + " on " + table.isa, logits, dlogits, [&](const std::vector<double>& x) {
          double loss[3];
          table.f64.cross_entropy(rows, ce, x.data(), nullptr, loss, nullptr);
          return drow[0] * loss[0] + drow[1] * loss[1] + drow[2] * loss[2];
        });
      });
    }
}

template <class T>
void check_cross_entropy_values() {
  const T inf = std::numeric_limits<T>::infinity();
  for (const std::int64_t n : {2, 10, 16, 40})
    each_table([&](const Table& table) {
      const Kernels<T>& k = kernels_of<T>(table);
      const std::string name = std::string("cross_entropy on ") + table.isa + " of " + std::to_string(n);
      const std::size_t size = static_cast<std::size_t>(n);
      const std::int32_t label = static_cast<std::int32_t>(n - 1);
      const T drow = 1;
      std::vector<T> logits(size), one_hot(size), dlogits(size), dlogits2(size);
      one_hot.back() = 1;
      T loss, loss2;
      const auto both = [&] {  // a label is its one-hot row
        k.cross_entropy(1, {n, &label, nullptr, nullptr, 0}, logits.data(), &drow, &loss, dlogits.data());
        k.cross_entropy(1, {n, nullptr, one_hot.data(), nullptr, 0}, logits.data(), &drow, &loss2, dlogits2.data());
        if (is_reference(table)) return;
        expect(same_bits(loss, loss2) && same(dlogits.data(), dlogits2.data(), n),
               name + ": a label is not its one-hot row");
      };
      both();
      expect(std::abs(loss - std::log(static_cast<double>(n))) <= 16 * unit<T>(), name + ": log n");
      logits = uniform<T>(n, -3, 3);
      both();
      std::fill(logits.begin(), logits.end(), T(0));
      logits[0] = -inf;  // a class that cannot be
      both();
      expect(std::abs(loss - std::log(static_cast<double>(n - 1))) <= 16 * unit<T>() && dlogits[0] == 0,
             name + ": -infinity elsewhere");
      logits.back() = 1000;
      both();
      expect(loss == 0 && dlogits.back() == 0, name + ": certain and right");
      logits[0] = 3000;
      both();
      expect(loss == 2000 && dlogits.back() == -1 && dlogits[0] == 1, name + ": certain and wrong");
      logits.back() = inf;
      both();
      expect(std::isnan(loss) && std::isnan(dlogits[0]), name + ": infinity");
    });
}

template <class T>
void check_all() {
  for (std::size_t f = 0; f < kRowLossNames.size(); ++f) check_rows<T>(static_cast<RowLoss>(f));
  check_row_values<T>();
  for (const bool by_label : {false, true})
    for (const bool weighted : {false, true})
      for (const double smoothing : {0.0, 0.1}) check_cross_entropy<T>(by_label, weighted, smoothing);
  check_cross_entropy_values<T>();
}

}  // namespace

int main() {
  check_all<float>();
  check_all<double>();
  for (std::size_t f = 0; f < kRowLossNames.size(); ++f) check_row_gradients(static_cast<RowLoss>(f));
  return report();
}
