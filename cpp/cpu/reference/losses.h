// Losses, one value a row, and their gradients.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "cpu/kernels.h"
#include "cpu/reference/reductions.h"
#include "cpu/reference/softmax.h"

namespace ranvier::cpu::reference {

// What one element loses, and the derivative by the prediction.
template <class T>
struct ElementLoss {
  T loss, slope;
};

template <class T>
ElementLoss<T> mse(T pred, T target, T) {
  const T d = pred - target;
  return {d * d, 2 * d};
}

template <class T>
ElementLoss<T> mae(T pred, T target, T) {
  const T d = pred - target;
  return {std::abs(d), d > 0 ? 1 : d < 0 ? -1 : d};  // d: zero or NaN
}

template <class T>
ElementLoss<T> huber(T pred, T target, T delta) {
  const T d = pred - target;
  return {std::abs(d) <= delta ? d * d / 2 : delta * (std::abs(d) - delta / 2), std::clamp(d, -delta, delta)};
}

template <class T>
ElementLoss<T> binary_cross_entropy(T x, T target, T) {
  const T sigmoid = x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
  return {std::max(x, T{0}) - x * target + std::log1p(std::exp(-std::abs(x))), sigmoid - target};
}

template <class T>
ElementLoss<T> binary_cross_entropy_probabilities(T p, T target, T) {
  const T yes = std::max(std::log(p), T{-100}), no = std::max(std::log1p(-p), T{-100});
  return {-(target * yes + (1 - target) * no), (p - target) / std::max(p * (1 - p), T(1e-12))};
}

template <class T, ElementLoss<T> (*element)(T, T, T)>
void row_loss(std::int64_t rows, std::int64_t n, const T* pred, const T* target, const T* drow, T param, T* loss,
              T* dpred) {
  for (std::int64_t row = 0; row < rows; ++row, pred += n, target += n) {
    if (loss) {
      loss[row] =
          sum_by_lanes<T>(n, [=](T lane, std::int64_t i) { return lane + element(pred[i], target[i], param).loss; }) /
          static_cast<T>(n);
    }
    for (std::int64_t i = 0; dpred && i < n; ++i)
      dpred[row * n + i] = drow[row] / static_cast<T>(n) * element(pred[i], target[i], param).slope;
  }
}

template <class T>
constexpr std::array<typename Kernels<T>::RowLossKernel, kRowLossNames.size()> row_loss_table() {
  return {row_loss<T, mse<T>>, row_loss<T, mae<T>>, row_loss<T, huber<T>>, row_loss<T, binary_cross_entropy<T>>,
          row_loss<T, binary_cross_entropy_probabilities<T>>};
}

template <class T>
void cross_entropy(std::int64_t rows, const CrossEntropy<T>& p, const T* logits, const T* drow, T* loss, T* dlogits) {
  const std::int64_t n = p.n;
  for (std::int64_t row = 0; row < rows; ++row, logits += n) {
    const auto wq = [=](std::int64_t c) {
      const T target = p.target ? p.target[row * n + c] : p.labels[row] == c ? 1 : 0;
      const T q = (1 - p.label_smoothing) * target + p.label_smoothing / static_cast<T>(n);
      return p.class_weight ? p.class_weight[c] * q : q;
    };
    const Shifted<T> s = shifted(n, logits);
    const T log_total = std::log(s.total);
    if (loss) {  // a class that counts nothing adds nothing, even where its logit is -infinity
      loss[row] = sum_by_lanes<T>(n, [=](T lane, std::int64_t c) {
        return wq(c) == 0 ? lane : lane - wq(c) * (logits[c] - s.max - log_total);
      });
    }
    if (!dlogits) continue;
    const T total = sum_by_lanes<T>(n, [=](T lane, std::int64_t c) { return lane + wq(c); });
    for (std::int64_t c = 0; c < n; ++c)
      dlogits[row * n + c] = drow[row] * (std::exp(logits[c] - s.max) / s.total * total - wq(c));
  }
}

}  // namespace ranvier::cpu::reference
