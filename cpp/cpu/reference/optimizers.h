// One step of an optimiser, element by element: the updates as PyTorch writes them.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "cpu/kernels.h"

namespace ranvier::cpu::reference {

// The gradient scaled, clipped and with L2 decay added.
template <class T>
T prepared(const Update& u, T grad, T param, double decay) {
  const T most = static_cast<T>(u.clip_value);
  return std::clamp(grad * static_cast<T>(u.grad_scale), -most, most) + static_cast<T>(decay) * param;
}

template <class T>
void sgd(std::int64_t n, const Update& u, const T* grad, T* param, T* const slots[3]) {
  const T momentum = static_cast<T>(u.momentum), lr = static_cast<T>(u.lr), own = static_cast<T>(1 - u.dampening);
  for (std::int64_t i = 0; i < n; ++i) {
    T g = prepared(u, grad[i], param[i], u.weight_decay);
    if (slots[0]) {
      T& velocity = slots[0][i];
      velocity = momentum * velocity + (u.step == 1 ? T(1) : own) * g;
      g = u.nesterov ? g + momentum * velocity : velocity;
    }
    param[i] -= lr * g;
  }
}

template <class T, bool decoupled>
void adam(std::int64_t n, const Update& u, const T* grad, T* param, T* const slots[3]) {
  const T rate = static_cast<T>(u.lr / u.correction1), correction = static_cast<T>(std::sqrt(u.correction2));
  const T beta2 = static_cast<T>(u.beta2), rest1 = static_cast<T>(1 - u.beta1), rest2 = static_cast<T>(1 - u.beta2);
  for (std::int64_t i = 0; i < n; ++i) {
    T &m = slots[0][i], &v = slots[1][i];
    const T g = prepared(u, grad[i], param[i], decoupled ? 0 : u.weight_decay);
    if (decoupled) param[i] *= static_cast<T>(1 - u.lr * u.weight_decay);
    m += rest1 * (g - m);
    v = beta2 * v + rest2 * g * g;
    param[i] -= rate * m / (std::sqrt(v) / correction + static_cast<T>(u.eps));
  }
}

template <class T>
void rmsprop(std::int64_t n, const Update& u, const T* grad, T* param, T* const slots[3]) {
  const T alpha = static_cast<T>(u.alpha), rest = static_cast<T>(1 - u.alpha);
  for (std::int64_t i = 0; i < n; ++i) {
    const T g = prepared(u, grad[i], param[i], u.weight_decay);
    T& square = slots[0][i];
    square = alpha * square + rest * g * g;
    T variance = square;
    if (slots[2]) {
      T& average = slots[2][i];
      average += rest * (g - average);
      variance = std::max(square - average * average, T{0});  // rounding takes it below zero for constant gradients
    }
    T d = g / (std::sqrt(variance) + static_cast<T>(u.eps));
    if (slots[1]) d = slots[1][i] = static_cast<T>(u.momentum) * slots[1][i] + d;
    param[i] -= static_cast<T>(u.lr) * d;
  }
}

template <class T>
void adagrad(std::int64_t n, const Update& u, const T* grad, T* param, T* const slots[3]) {
  const T rate = static_cast<T>(u.lr / (1 + static_cast<double>(u.step - 1) * u.lr_decay));
  for (std::int64_t i = 0; i < n; ++i) {
    const T g = prepared(u, grad[i], param[i], u.weight_decay);
    slots[0][i] += g * g;
    param[i] -= rate * g / (std::sqrt(slots[0][i]) + static_cast<T>(u.eps));
  }
}

template <class T, auto rule>
void each_row(std::int64_t rows, std::int64_t n, std::int64_t ld, const Update& u, const T* grad, T* param,
              T* const slots[3]) {
  for (std::int64_t r = 0; r < rows; ++r) {
    T* row_slots[3];
    for (int k = 0; k < 3; ++k) row_slots[k] = slots[k] ? slots[k] + r * ld : nullptr;
    rule(n, u, grad + r * ld, param + r * ld, row_slots);
  }
}

template <class T>
constexpr std::array<OptimizerKernel<T>, kOptimizerNames.size()> optimizer_table() {
  return {each_row<T, sgd<T>>, each_row<T, adam<T, false>>, each_row<T, adam<T, true>>, each_row<T, rmsprop<T>>,
          each_row<T, adagrad<T>>};
}

}  // namespace ranvier::cpu::reference
