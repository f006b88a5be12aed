// Optimisers: 100 steps against PyTorch's updates in plain double loops.
#include "kernels_test.h"

using namespace ranvier;
using namespace ranvier::cpu;

namespace {

constexpr int kSteps = 100;

struct Case {
  std::string name;
  Optimizer rule;
  int slots;  // bits of those in use
  Update u;
};

Update with(double lr, auto... set) {
  Update u{.lr = lr};
  (set(u), ...);
  return u;
}

std::vector<Case> cases() {
  const auto decay = [](Update& u) { u.weight_decay = 0.01; };
  const auto momentum = [](Update& u) { u.momentum = 0.9; };
  const auto dampening = [](Update& u) { u.dampening = 0.3; };
  const auto nesterov = [](Update& u) { u.nesterov = true; };
  const auto scaled = [](Update& u) { u.grad_scale = 0.3, u.clip_value = 0.25; };
  const auto eps = [](Update& u) { u.eps = 1e-3; };
  const auto betas = [](Update& u) { u.beta1 = 0.8, u.beta2 = 0.95; };
  const auto slower = [](Update& u) { u.alpha = 0.9, u.lr_decay = 0.05; };
  return {
      {"sgd", Optimizer::sgd, 0, with(0.1)},
      {"sgd with decay, clipped", Optimizer::sgd, 0, with(0.1, decay, scaled)},
      {"sgd with momentum", Optimizer::sgd, 1, with(0.1, momentum)},
      {"sgd with dampened momentum and decay", Optimizer::sgd, 1, with(0.1, momentum, dampening, decay)},
      {"sgd with Nesterov's momentum, decay, clipped", Optimizer::sgd, 1, with(0.1, momentum, nesterov, decay, scaled)},
      {"adam", Optimizer::adam, 3, with(0.01)},
      {"adam with everything", Optimizer::adam, 3, with(0.01, decay, scaled, eps, betas)},
      {"adamw", Optimizer::adamw, 3, with(0.01, decay)},
      {"adamw with everything", Optimizer::adamw, 3, with(0.01, decay, scaled, eps, betas)},
      {"rmsprop", Optimizer::rmsprop, 1, with(0.01)},
      {"rmsprop with momentum", Optimizer::rmsprop, 3, with(0.01, momentum, decay)},
      {"rmsprop centered", Optimizer::rmsprop, 5, with(0.01, eps, slower)},
      {"rmsprop centered with everything", Optimizer::rmsprop, 7, with(0.01, momentum, decay, scaled, eps, slower)},
      {"adagrad", Optimizer::adagrad, 1, with(0.1)},
      {"adagrad with everything", Optimizer::adagrad, 1, with(0.1, decay, scaled, eps, slower)},
  };
}

// One element's state, and PyTorch's step on it.
struct Element {
  double p, slot[3] = {};

  void step(const Case& c, double grad) {
    const Update& u = c.u;
    double g = std::clamp(grad * u.grad_scale, -u.clip_value, u.clip_value);
    const double t = static_cast<double>(u.step);
    if (c.rule == Optimizer::adamw) {
      p = p * (1 - u.lr * u.weight_decay);
    } else if (u.weight_decay != 0) {
      g = g + u.weight_decay * p;
    }
    switch (c.rule) {
      case Optimizer::sgd:
        if (u.momentum != 0) {
          slot[0] = u.momentum * slot[0] + (u.step == 1 ? 1 : 1 - u.dampening) * g;
          g = u.nesterov ? g + u.momentum * slot[0] : slot[0];
        }
        p = p - u.lr * g;
        break;
      case Optimizer::adam:
      case Optimizer::adamw: {
        slot[0] = slot[0] + (1 - u.beta1) * (g - slot[0]);
        slot[1] = u.beta2 * slot[1] + (1 - u.beta2) * g * g;
        const double denominator = std::sqrt(slot[1]) / std::sqrt(1 - std::pow(u.beta2, t)) + u.eps;
        p = p - u.lr / (1 - std::pow(u.beta1, t)) * slot[0] / denominator;
        break;
      }
      case Optimizer::rmsprop: {
        slot[0] = u.alpha * slot[0] + (1 - u.alpha) * g * g;
        double average = slot[0];
        if (c.slots & 4) {
          slot[2] = slot[2] + (1 - u.alpha) * (g - slot[2]);
          average = slot[0] - slot[2] * slot[2];
        }
        g = g / (std::sqrt(average) + u.eps);
        if (u.momentum > 0) g = slot[1] = u.momentum * slot[1] + g;
        p = p - u.lr * g;
        break;
      }
      case Optimizer::adagrad:
        slot[0] = slot[0] + g * g;
        p = p - u.lr / (1 + (t - 1) * u.lr_decay) * g / (std::sqrt(slot[0]) + u.eps);
        break;
    }
  }
};

template <class T>
void check_steps(Case c, std::int64_t n) {
  const std::vector<T> param = uniform<T>(n, -1, 1);
  const T before = n % 2 ? T(0) : T(0.5);  // in every slot
  std::vector<T> grads;                    // step by step
  std::vector<Element> elements;
  for (const T p : param) elements.push_back({static_cast<double>(p), {before, before, before}});
  for (int t = 1; t <= kSteps; ++t) {
    c.u.step = t;
    for (Element& e : elements) {
      grads.push_back(static_cast<T>((random_bits() & 64 ? 1 : -1) * uniform(0.5, 2)));
      e.step(c, grads.back());
    }
  }
  // Gradients of this size keep every quotient within 10 and slots within 40; a step adds a handful of roundings of
  // each. The scalars are rounded once, which counts once a step too.
  std::vector<double> exact, tolerance;
  for (int k = -1; k < 3; ++k)
    for (const Element& e : elements) {
      const bool used = k < 0 || (c.slots >> k & 1);
      exact.push_back(k < 0 ? e.p : used ? e.slot[k] : 0);
      const double size = k < 0 ? std::abs(e.p) + 10 * c.u.lr : 4 + std::abs(e.slot[k]);
      tolerance.push_back(used ? kSteps * 8 * unit<T>() * size : 0);
    }
  check<T>(c.name + ", n " + std::to_string(n), {param, grads}, {n, n, n, n}, exact, tolerance,
           [=](const Kernels<T>& kernels, const T* const* x, T* const* out) {
             std::copy(x[0], x[0] + n, out[0]);
             T* slots[3];
             for (int k = 0; k < 3; ++k) {
               std::fill(out[k + 1], out[k + 1] + n, c.slots >> k & 1 ? before : T(0));
               slots[k] = c.slots >> k & 1 ? out[k + 1] : nullptr;
             }
             Update u = c.u;
             for (int t = 1; t <= kSteps; ++t) {
               u.set_step(c.rule, t);
               kernels.optimizer[static_cast<std::size_t>(c.rule)](1, n, 0, u, x[1] + (t - 1) * n, out[0], slots);
             }
           });
}

// A part of a matrix: the same bits as in the whole, and nothing beside it.
template <class T>
void check_part(const Case& c) {
  constexpr std::int64_t kHeight = 5, kWidth = 2 * kSumLanes + 3, kSize = kHeight * kWidth;
  constexpr std::int64_t kFirstRow = 1, kRows = 3, kFirstColumn = 2;
  const std::vector<T> param = uniform<T>(kSize, -1, 1), grad = uniform<T>(kSize, -1, 1);
  each_table([&](const Table& table) {
    const OptimizerKernel<T> kernel = kernels_of<T>(table).optimizer[static_cast<std::size_t>(c.rule)];
    const auto arrays =
        std::vector<std::vector<T>>{param, uniform<T>(kSize, 0, 1), uniform<T>(kSize, 0, 1), uniform<T>(kSize, 0, 1)};
    const auto run = [&](std::vector<std::vector<T>>& to, std::int64_t first, std::int64_t rows, std::int64_t n) {
      T* slots[3];
      for (std::size_t k = 0; k < 3; ++k) slots[k] = c.slots >> k & 1 ? to[k + 1].data() + first : nullptr;
      kernel(rows, n, kWidth, c.u, grad.data() + first, to[0].data() + first, slots);
    };
    auto whole = arrays;
    run(whole, 0, 1, kSize);
    for (const std::int64_t n : {1, 15, 16, 33}) {
      auto part = arrays;
      run(part, kFirstRow * kWidth + kFirstColumn, kRows, n);
      for (std::size_t k = 0; k < arrays.size(); ++k)
        for (std::int64_t i = 0; i < kSize; ++i) {
          const std::int64_t row = i / kWidth - kFirstRow, column = i % kWidth - kFirstColumn;
          const bool inside = row >= 0 && row < kRows && column >= 0 && column < n;
          const auto at = static_cast<std::size_t>(i);
          expect(same_bits(part[k][at], (inside ? whole : arrays)[k][at]),
                 c.name + " on " + table.isa + ", " + std::to_string(n) + " columns of a matrix");
        }
    }
  });
}

// A constant gradient leaves no variance: rounding must not make its root NaN.
template <class T>
void check_constant_gradient() {
  each_table([](const Table& table) {
    T param = 1, square = 0, average = 0, grad = T(0.1);
    T* const slots[3] = {&square, nullptr, &average};
    Update u = with(1e-3, [](Update& s) { s.eps = 1e-3, s.alpha = 0.5; });
    for (int t = 1; t <= 1000; ++t) {
      u.set_step(Optimizer::rmsprop, t);
      kernels_of<T>(table).optimizer[static_cast<std::size_t>(Optimizer::rmsprop)](1, 1, 0, u, &grad, &param, slots);
    }
    expect(param < -50, std::string("rmsprop, constant gradient on ") + table.isa + ": " + std::to_string(param));
  });
}

// NaN gradients must be seen, not clipped away.
template <class T>
void check_nan() {
  for (const Case& c : cases())
    each_table([&](const Table& table) {
      T param = 1, grad = std::numeric_limits<T>::quiet_NaN(), slot[3] = {};
      T* slots[3];
      for (int k = 0; k < 3; ++k) slots[k] = c.slots >> k & 1 ? &slot[k] : nullptr;
      kernels_of<T>(table).optimizer[static_cast<std::size_t>(c.rule)](1, 1, 0, c.u, &grad, &param, slots);
      expect(std::isnan(param), c.name + " on " + table.isa + " hides a NaN");
    });
}

template <class T>
void check_all() {
  for (const Case& c : cases()) {
    for (const std::int64_t n : counts())
      if (n <= 2 * kSumLanes + 1) check_steps<T>(c, n);
    check_part<T>(c);
  }
  check_constant_gradient<T>();
  check_nan<T>();
}

}  // namespace

int main() {
  check_all<float>();
  check_all<double>();
  return report();
}
