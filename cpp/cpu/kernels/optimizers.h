// One step of an optimiser as one streaming pass: PyTorch's updates, formula by formula. Scalars are computed in double
// and rounded once.
#pragma once

#include <math.h>

#include <array>
#include <cstdint>

#include "cpu/kernels.h"
#include "cpu/kernels/reductions.h"
#include "cpu/kernels/simd.h"

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

template <class T>
RANVIER_INLINE Vec<T> scalar(double x) {
  return broadcast(static_cast<T>(x));
}

// f(gradient, parameter, slot...) gives the new parameter and changes the slots, vector by vector. The gradient is
// scaled and clipped.
template <class T, class F, class... Slots>
RANVIER_INLINE void update(std::int64_t n, const Update& u, const T* grad, T* param, F f, Slots... slots) {
  const Vec<T> grad_scale = scalar<T>(u.grad_scale), most = scalar<T>(u.clip_value);
  each_group(0, n, [=](std::int64_t i, auto group) {
    Lanes<T> p = load(param + i, group);
    const Lanes<T> gradients = load(grad + i, group);
    const auto run = [&](auto... slot) {
      for (std::int64_t k = 0; k < kVectors<T>; ++k) {
        const Vec<T> g = min(most, max(-most, gradients.v[k] * grad_scale));  // in this order NaN passes
        p.v[k] = f(g, p.v[k], slot.v[k]...);
      }
      (store(slots + i, slot, group), ...);
    };
    run(load<T>(slots + i, group)...);
    store(param + i, p, group);
  });
}

template <class T>
void sgd(std::int64_t n, const Update& u, const T* grad, T* param, T* const slots[3]) {
  const Vec<T> lr = scalar<T>(u.lr), decay = scalar<T>(u.weight_decay), momentum = scalar<T>(u.momentum);
  const Vec<T> own = scalar<T>(u.step == 1 ? 1 : 1 - u.dampening);  // the first step's velocity is the gradient itself
  const auto plain = [=](Vec<T> g, Vec<T> p) { return fma(-lr, fma(decay, p, g), p); };
  const auto heavy = [=](Vec<T> g, Vec<T> p, Vec<T>& velocity) {
    g = fma(decay, p, g);
    velocity = fma(own, g, momentum * velocity);
    return fma(-lr, velocity, p);
  };
  const auto nesterov = [=](Vec<T> g, Vec<T> p, Vec<T>& velocity) {
    g = fma(decay, p, g);
    velocity = fma(own, g, momentum * velocity);
    return fma(-lr, fma(momentum, velocity, g), p);
  };
  if (!slots[0]) {
    update(n, u, grad, param, plain);
  } else if (u.nesterov) {
    update(n, u, grad, param, nesterov, slots[0]);
  } else {
    update(n, u, grad, param, heavy, slots[0]);
  }
}

// Adam adds weight_decay * parameter to the gradient; AdamW takes lr * weight_decay off the parameter.
template <bool decoupled, class T>
void adam(std::int64_t n, const Update& u, const T* grad, T* param, T* const slots[3]) {
  const double step = static_cast<double>(u.step);
  const Vec<T> rate = scalar<T>(u.lr / (1 - ::pow(u.beta1, step)));
  const Vec<T> root = scalar<T>(1 / ::sqrt(1 - ::pow(u.beta2, step)));
  const Vec<T> rest1 = scalar<T>(1 - u.beta1), beta2 = scalar<T>(u.beta2), rest2 = scalar<T>(1 - u.beta2);
  const Vec<T> eps = scalar<T>(u.eps), decay = scalar<T>(u.weight_decay), kept = scalar<T>(1 - u.lr * u.weight_decay);
  const auto step_of = [=](Vec<T> g, Vec<T> p, Vec<T>& m, Vec<T>& v) {
    if constexpr (decoupled) {
      p *= kept;
    } else {
      g = fma(decay, p, g);
    }
    m = fma(rest1, g - m, m);
    v = fma(rest2 * g, g, beta2 * v);
    return p - rate * (m / fma(sqrt(v), root, eps));
  };
  update(n, u, grad, param, step_of, slots[0], slots[1]);
}

template <class T>
void rmsprop(std::int64_t n, const Update& u, const T* grad, T* param, T* const slots[3]) {
  const Vec<T> lr = scalar<T>(u.lr), decay = scalar<T>(u.weight_decay), momentum = scalar<T>(u.momentum);
  const Vec<T> alpha = scalar<T>(u.alpha), rest = scalar<T>(1 - u.alpha), eps = scalar<T>(u.eps);
  // The direction before momentum; the average of gradients where it is given, else null.
  const auto direction = [=](Vec<T> g, Vec<T> p, Vec<T>& square, Vec<T>* average) {
    g = fma(decay, p, g);
    square = fma(rest * g, g, alpha * square);
    Vec<T> variance = square;
    if (average) {
      *average = fma(rest, g - *average, *average);
      variance = max(Vec<T>{}, fma(-*average, *average, square));  // rounding takes it below zero for constant gradients
    }
    return g / (sqrt(variance) + eps);
  };
  const auto moved = [=](Vec<T> p, Vec<T> d, Vec<T>& velocity) {
    velocity = fma(momentum, velocity, d);
    return fma(-lr, velocity, p);
  };
  T *square = slots[0], *velocity = slots[1], *average = slots[2];
  if (velocity && average) {
    update(n, u, grad, param, [=](Vec<T> g, Vec<T> p, Vec<T>& s, Vec<T>& v, Vec<T>& a) {
      return moved(p, direction(g, p, s, &a), v);
    }, square, velocity, average);
  } else if (velocity) {
    update(n, u, grad, param, [=](Vec<T> g, Vec<T> p, Vec<T>& s, Vec<T>& v) {
      return moved(p, direction(g, p, s, nullptr), v);
    }, square, velocity);
  } else if (average) {
    update(n, u, grad, param, [=](Vec<T> g, Vec<T> p, Vec<T>& s, Vec<T>& a) {
      return fma(-lr, direction(g, p, s, &a), p);
    }, square, average);
  } else {
    update(n, u, grad, param, [=](Vec<T> g, Vec<T> p, Vec<T>& s) {
      return fma(-lr, direction(g, p, s, nullptr), p);
    }, square);
  }
}

template <class T>
void adagrad(std::int64_t n, const Update& u, const T* grad, T* param, T* const slots[3]) {
  const Vec<T> rate = scalar<T>(u.lr / (1 + static_cast<double>(u.step - 1) * u.lr_decay));
  const Vec<T> eps = scalar<T>(u.eps), decay = scalar<T>(u.weight_decay);
  const auto step_of = [=](Vec<T> g, Vec<T> p, Vec<T>& total) {
    g = fma(decay, p, g);
    total = fma(g, g, total);
    return p - rate * (g / (sqrt(total) + eps));
  };
  update(n, u, grad, param, step_of, slots[0]);
}

template <class T>
constexpr std::array<OptimizerKernel<T>, kOptimizerNames.size()> optimizer_table() {
  return {sgd<T>, adam<false, T>, adam<true, T>, rmsprop<T>, adagrad<T>};
}

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
