// One step of an optimiser as one streaming pass: PyTorch's updates, formula by formula. Scalars are computed in double
// and rounded once.
#pragma once

#include <math.h>

#include <array>
#include <cstdint>

#include "cpu/kernels.h"
#include "cpu/kernels/simd.h"

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

template <class T>
RANVIER_INLINE Vec<T> scalar(double x) {
  return broadcast(static_cast<T>(x));
}

// f(gradient, parameter, slot...) gives the new parameter and changes the slots, vector by vector. The gradient comes
// scaled and clipped; a slot that is null reads as zero.
template <class T, class F, class... Slots>
RANVIER_INLINE void update(std::int64_t rows, std::int64_t n, std::int64_t ld, const Update& u, const T* grad, T* param,
                           F f, Slots... slots) {
  const Vec<T> grad_scale = scalar<T>(u.grad_scale), most = scalar<T>(u.clip_value);
  const auto step = [=](auto load_at, auto store_at) {
    const Vec<T> g = min(most, max(-most, load_at(grad) * grad_scale));  // in this order NaN passes
    const auto with_slots = [=](auto... slot) {
      store_at(param, f(g, load_at(param), slot...));
      ((slots ? store_at(slots, slot) : void()), ...);
    };
    with_slots((slots ? load_at(slots) : Vec<T>{})...);
  };
  for (std::int64_t row = 0; row < rows; ++row) {
    std::int64_t i = row * ld;
    const std::int64_t end = i + n;
    for (; end - i >= kLanes<T>; i += kLanes<T>)
      step([=](const T* x) { return load(x + i); }, [=](T* x, Vec<T> v) { store(x + i, v); });
    if (i < end)
      step([=](const T* x) { return load_n(x + i, end - i); }, [=](T* x, Vec<T> v) { store_n(x + i, v, end - i); });
  }
}

template <class T>
void sgd(std::int64_t rows, std::int64_t n, std::int64_t ld, const Update& u, const T* grad, T* param,
         T* const slots[3]) {
  const Vec<T> lr = scalar<T>(u.lr), decay = scalar<T>(u.weight_decay), momentum = scalar<T>(u.momentum);
  // No dampening of the first step, so that from 0 its velocity is the gradient itself, as is any without momentum.
  const Vec<T> own = scalar<T>(u.step == 1 || !slots[0] ? 1 : 1 - u.dampening);
  const bool nesterov = u.nesterov;
  const auto step = [=](Vec<T> g, Vec<T> p, Vec<T>& velocity) {
    g = fma(decay, p, g);
    velocity = fma(own, g, momentum * velocity);
    return fma(-lr, nesterov ? fma(momentum, velocity, g) : velocity, p);
  };
  update(rows, n, ld, u, grad, param, step, slots[0]);
}

// Adam adds weight_decay * parameter to the gradient; AdamW takes lr * weight_decay off the parameter.
template <bool decoupled, class T>
void adam(std::int64_t rows, std::int64_t n, std::int64_t ld, const Update& u, const T* grad, T* param,
          T* const slots[3]) {
  const Vec<T> rate = scalar<T>(u.lr / u.correction1);
  const Vec<T> root = scalar<T>(1 / ::sqrt(u.correction2));
  const Vec<T> rest1 = scalar<T>(1 - u.beta1), beta2 = scalar<T>(u.beta2), rest2 = scalar<T>(1 - u.beta2);
  const Vec<T> eps = scalar<T>(u.eps), decay = scalar<T>(u.weight_decay), kept = scalar<T>(1 - u.lr * u.weight_decay);
  const auto step = [=](Vec<T> g, Vec<T> p, Vec<T>& m, Vec<T>& v) {
    if constexpr (decoupled) {
      p *= kept;
    } else {
      g = fma(decay, p, g);
    }
    m = fma(rest1, g - m, m);
    v = fma(rest2 * g, g, beta2 * v);
    return p - rate * (m / fma(sqrt(v), root, eps));
  };
  update(rows, n, ld, u, grad, param, step, slots[0], slots[1]);
}

template <class T>
void rmsprop(std::int64_t rows, std::int64_t n, std::int64_t ld, const Update& u, const T* grad, T* param,
             T* const slots[3]) {
  const Vec<T> lr = scalar<T>(u.lr), decay = scalar<T>(u.weight_decay), momentum = scalar<T>(u.momentum);
  const Vec<T> alpha = scalar<T>(u.alpha), rest = scalar<T>(1 - u.alpha), eps = scalar<T>(u.eps);
  const bool centered = slots[2] != nullptr;
  const auto step = [=](Vec<T> g, Vec<T> p, Vec<T>& square, Vec<T>& velocity, Vec<T>& average) {
    g = fma(decay, p, g);
    square = fma(rest * g, g, alpha * square);
    average = fma(rest, g - average, average);
    // Rounding takes the variance of constant gradients below zero.
    const Vec<T> variance = centered ? max(Vec<T>{}, fma(-average, average, square)) : square;
    velocity = fma(momentum, velocity, g / (sqrt(variance) + eps));
    return fma(-lr, velocity, p);
  };
  update(rows, n, ld, u, grad, param, step, slots[0], slots[1], slots[2]);
}

template <class T>
void adagrad(std::int64_t rows, std::int64_t n, std::int64_t ld, const Update& u, const T* grad, T* param,
             T* const slots[3]) {
  const Vec<T> rate = scalar<T>(u.lr / (1 + static_cast<double>(u.step - 1) * u.lr_decay));
  const Vec<T> eps = scalar<T>(u.eps), decay = scalar<T>(u.weight_decay);
  const auto step = [=](Vec<T> g, Vec<T> p, Vec<T>& total) {
    g = fma(decay, p, g);
    total = fma(g, g, total);
    return p - rate * (g / (sqrt(total) + eps));
  };
  update(rows, n, ld, u, grad, param, step, slots[0]);
}

template <class T>
constexpr std::array<OptimizerKernel<T>, kOptimizerNames.size()> optimizer_table() {
  return {sgd<T>, adam<false, T>, adam<true, T>, rmsprop<T>, adagrad<T>};
}

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
