// Losses, one value a row, and their gradients; sums by the rule of reductions.h.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "cpu/kernels.h"
#include "cpu/kernels/math.h"
#include "cpu/kernels/reductions.h"
#include "cpu/kernels/simd.h"
#include "cpu/kernels/softmax.h"

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

// What one element loses, and the derivative by the prediction.
template <class T>
struct ElementLoss {
  Vec<T> loss, slope;
};

struct Mse {
  template <class T>
  RANVIER_INLINE ElementLoss<T> at(Vec<T> pred, Vec<T> target, T) {
    const Vec<T> d = pred - target;
    return {d * d, 2 * d};
  }
};

struct Mae {
  template <class T>
  RANVIER_INLINE ElementLoss<T> at(Vec<T> pred, Vec<T> target, T) {
    const Vec<T> d = pred - target;
    const Vec<T> one = broadcast(T{1});
    return {abs(d), d > 0 ? one : d < 0 ? -one : d};  // d: zero or NaN
  }
};

struct Huber {
  template <class T>
  RANVIER_INLINE ElementLoss<T> at(Vec<T> pred, Vec<T> target, T delta) {
    const Vec<T> d = pred - target, size = abs(d);
    return {size <= delta ? T(0.5) * d * d : delta * (size - T(0.5) * delta),
            min(broadcast(delta), max(broadcast(-delta), d))};
  }
};

// max(x, 0) - x t + log(1 + e^-|x|): nothing overflows, nothing cancels.
struct BinaryCrossEntropy {
  template <class T>
  RANVIER_INLINE ElementLoss<T> at(Vec<T> x, Vec<T> target, T) {
    const Vec<T> e = exp_nonpositive(-abs(x));
    const Vec<T> sigmoid = (x < 0 ? e : broadcast(T{1})) / (1 + e);
    return {max(Vec<T>{}, x) - x * target + log1p_unit(e), sigmoid - target};
  }
};

// log(1 - p) for p in [0, 1], also where 1 - p would round p away.
RANVIER_INLINE Vec<float> log_of_complement(Vec<float> p) { return p < 0.25f ? log1p_near_zero(-p) : log(1 - p); }
RANVIER_INLINE Vec<double> log_of_complement(Vec<double> p) { return by_lane<::log1p>(-p); }

// The bounds are PyTorch's: logarithms of at least -100, a denominator of at least 1e-12.
struct BinaryCrossEntropyProbabilities {
  template <class T>
  RANVIER_INLINE ElementLoss<T> at(Vec<T> p, Vec<T> target, T) {
    const Vec<T> least = broadcast(T{-100});
    const Vec<T> yes = max(least, log(p)), no = max(least, log_of_complement(p));
    return {-(target * yes + (1 - target) * no), (p - target) / max(broadcast(T(1e-12)), p * (1 - p))};
  }
};

template <class T>
struct LossLanes {
  Lanes<T> loss, slope;
};
template <class Loss, class T, class Group>
RANVIER_INLINE LossLanes<T> loss_at(const T* pred, const T* target, Group group, T param) {
  const Lanes<T> p = load(pred, group), t = load(target, group);
  LossLanes<T> y;
  for (std::int64_t k = 0; k < kVectors<T>; ++k) {
    const ElementLoss<T> element = Loss::at(p.v[k], t.v[k], param);
    y.loss.v[k] = element.loss;
    y.slope.v[k] = element.slope;
  }
  return y;
}

// pred, target, dpred (rows, n); drow, loss (rows).
template <class Loss, class T>
void row_loss(std::int64_t rows, std::int64_t n, const T* pred, const T* target, const T* drow, T param, T* loss,
              T* dpred) {
  if (n == 1) {  // rows are contiguous: 16 at once
    each_group(0, rows, [=](std::int64_t i, auto group) {
      const LossLanes<T> y = loss_at<Loss>(pred + i, target + i, group, param);
      if (loss) store(loss + i, Lanes<T>{} + y.loss, group);
      if (dpred) {
        store(dpred + i, map<T>([](Vec<T> a, Vec<T> b) { return a * b; }, load(drow + i, group), y.slope), group);
      }
    });
    return;
  }
  for (std::int64_t row = 0; row < rows; ++row, pred += n, target += n) {
    const T factor = dpred ? drow[row] / static_cast<T>(n) : 0;
    const T total = sum_groups<T>(n, [=](const Lanes<T>& lanes, std::int64_t i, auto group) {
      const LossLanes<T> y = loss_at<Loss>(pred + i, target + i, group, param);
      if (dpred) store(dpred + row * n + i, scale(y.slope, factor), group);
      return lanes + fill(y.loss, group, T{0});
    });
    if (loss) loss[row] = total / static_cast<T>(n);
  }
}

template <class T>
constexpr std::array<typename Kernels<T>::RowLossKernel, kRowLossNames.size()> row_loss_table() {
  return {row_loss<Mse, T>, row_loss<Mae, T>, row_loss<Huber, T>, row_loss<BinaryCrossEntropy, T>,
          row_loss<BinaryCrossEntropyProbabilities, T>};
}

// w q of the group at class i; 0 in absent lanes.
template <class T, class Group>
RANVIER_INLINE Lanes<T> weighted_target(const CrossEntropy<T>& p, std::int64_t row, std::int64_t i, Group group) {
  const T on = 1 - p.label_smoothing, off = p.label_smoothing / static_cast<T>(p.n);
  Lanes<T> q;
  if (p.target) {
    q = map<T>([=](Vec<T> t) { return t * on + off; }, load(p.target + row * p.n + i, group));
  } else {
    const T label = static_cast<T>(p.labels[row] - i);
    q = map<T>([=](Vec<T> lane) { return lane == label ? broadcast(on + off) : broadcast(off); },
               load(kLaneNumbers<T>, Whole{}));
  }
  if (p.class_weight) {
    q = map<T>([](Vec<T> a, Vec<T> b) { return a * b; }, q, load(p.class_weight + i, group));
  }
  return fill(q, group, T{0});
}

// wq (x - max); a class that counts nothing adds nothing, even where its logit is -infinity.
template <class T>
RANVIER_INLINE Lanes<T> weighted_logits(const Lanes<T>& wq, const Lanes<T>& shifted) {
  return map<T>([](Vec<T> a, Vec<T> x) { return a == 0 ? Vec<T>{} : a * x; }, wq, shifted);
}

// drow (softmax sum(wq) - wq), told e = exp(x - max) and factor = sum(wq) / sum(e).
template <class T>
RANVIER_INLINE Lanes<T> cross_entropy_gradient(const Lanes<T>& e, const Lanes<T>& wq, T factor, T drow) {
  const Vec<T> f = broadcast(factor);
  return map<T>([=](Vec<T> a, Vec<T> b) { return drow * fma(a, f, -b); }, e, wq);
}

// Of up to 16 classes told by labels: 16 rows at once, a vector holding one class of each, so that nothing is folded
// inside a vector. The same bits as row by row, at 1.7 to 9 times its speed (16 classes on AVX-512; 3 on AVX2).
template <class T>
void narrow_cross_entropy(std::int64_t rows, const CrossEntropy<T>& p, const T* logits, const T* drow, T* loss,
                          T* dlogits) {
  const std::int64_t n = p.n;
  for (std::int64_t first = 0; first < rows; first += kSumLanes) {
    const Part part{std::min(kSumLanes, rows - first)};
    T columns[kSumLanes * kSumLanes], labels[kSumLanes], weights[kSumLanes], chosen[kSumLanes];
    for (std::int64_t lane = 0; lane < kSumLanes; ++lane) {
      const std::int64_t row = first + std::min(lane, part.n - 1);  // the last row stands where there is none
      const std::int32_t label = p.labels[row];
      for (std::int64_t c = 0; c < n; ++c) columns[c * kSumLanes + lane] = logits[row * n + c];
      labels[lane] = static_cast<T>(label);
      weights[lane] = p.class_weight ? p.class_weight[label] : 1;
      chosen[lane] = logits[row * n + label];
    }
    const auto column = [&](std::int64_t c) { return columns + c * kSumLanes; };

    Lanes<T> shift = load(column(0), Whole{});
    for (std::int64_t c = 1; c < n; ++c)
      shift = map<T>([](Vec<T> a, Vec<T> b) { return max(a, b); }, shift, load(column(c), Whole{}));
    Lanes<T> sums[kSumLanes];
    for (std::int64_t c = 0; c < n; ++c) {
      sums[c] = map<T>([](Vec<T> x, Vec<T> s) { return exp_nonpositive(x - s); }, load(column(c), Whole{}), shift);
      store(column(c), sums[c], Whole{});
    }
    for (std::int64_t k = kSumLanes / 2; k > 0; k /= 2)  // the fold of one row's lanes; those beyond n are zero
      for (std::int64_t j = 0; j < k && j + k < n; ++j) sums[j] = sums[j + k] + sums[j];

    const Lanes<T> weight = load(weights, Whole{});
    if (loss) {
      const auto value = [](Vec<T> w, Vec<T> total, Vec<T> x, Vec<T> s) {
        return w * log(total) - (w == 0 ? Vec<T>{} : w * (x - s));
      };
      store(loss + first, map<T>(value, weight, sums[0], load(chosen, Whole{}), shift), part);
    }
    if (!dlogits) continue;
    const Lanes<T> d = load(drow + first, part), label = load(labels, Whole{});
    const Lanes<T> factor = map<T>([](Vec<T> w, Vec<T> total) { return w / total; }, weight, sums[0]);
    for (std::int64_t c = 0; c < n; ++c) {
      const Vec<T> number = broadcast(static_cast<T>(c));
      const auto slope = [=](Vec<T> e, Vec<T> f, Vec<T> l, Vec<T> w, Vec<T> by) {
        return by * fma(e, f, l == number ? -w : Vec<T>{});
      };
      store(column(c), map<T>(slope, load(column(c), Whole{}), factor, label, weight, d), Whole{});
    }
    for (std::int64_t lane = 0; lane < part.n; ++lane)
      for (std::int64_t c = 0; c < n; ++c) dlogits[(first + lane) * n + c] = columns[c * kSumLanes + lane];
  }
}

// logits, dlogits (rows, n); drow, loss (rows): loss = sum(wq) log(sum exp(x - max)) - sum(wq (x - max)).
template <class T>
void cross_entropy(std::int64_t rows, const CrossEntropy<T>& p, const T* logits, const T* drow, T* loss, T* dlogits) {
  const std::int64_t n = p.n;
  const CrossEntropy<T> problem = p;
  const bool one_hot = p.labels && p.label_smoothing == 0;
  if (one_hot && n <= kSumLanes && 4 * rows >= kSumLanes + n) {  // fewer rows are done sooner one by one
    return narrow_cross_entropy(rows, p, logits, drow, loss, dlogits);
  }
  T totals[kSumLanes] = {}, weights[kSumLanes] = {}, inners[kSumLanes] = {};  // of 16 rows: one logarithm for all
  for (std::int64_t row = 0; row < rows; ++row, logits += n) {
    const T* x = logits;
    T* dx = dlogits ? dlogits + row * n : nullptr;
    const auto wq_at = [=](std::int64_t i, auto group) { return weighted_target(problem, row, i, group); };

    Lanes<T> narrow;  // exp(x - max) of a row that fits
    T shift, total, weight, inner;
    if (n <= kSumLanes) {
      narrow = load_logits(x, Part{n});
      shift = fold_max(narrow);
      narrow = exp_nonpositive(subtract(narrow, shift));
      total = fold_sum(narrow);
    } else {
      shift = row_max(n, x);
      total = sum_groups<T>(n, [=](const Lanes<T>& lanes, std::int64_t i, auto group) {
        const Lanes<T> e = exp_nonpositive(subtract(load_logits(x + i, group), shift));
        if (dx) store(dx + i, e, group);
        return lanes + e;
      });
    }
    if (one_hot) {  // the same bits as the sums: all other terms are zero
      weight = p.class_weight ? p.class_weight[p.labels[row]] : 1;
      inner = weight == 0 ? 0 : weight * (x[p.labels[row]] - shift);
    } else {
      weight =
          sum_groups<T>(n, [=](const Lanes<T>& lanes, std::int64_t i, auto group) { return lanes + wq_at(i, group); });
      inner = sum_groups<T>(n, [=](const Lanes<T>& lanes, std::int64_t i, auto group) {
        return lanes + weighted_logits(wq_at(i, group), subtract(load(x + i, group), shift));
      });
    }
    const std::int64_t lane = row % kSumLanes;
    totals[lane] = total, weights[lane] = weight, inners[lane] = inner;
    if (loss && (lane == kSumLanes - 1 || row == rows - 1)) {
      const auto value = [](Vec<T> w, Vec<T> t, Vec<T> i) { return w * log(t) - i; };
      store(loss + row - lane, map<T>(value, load(weights, Whole{}), load(totals, Whole{}), load(inners, Whole{})),
            Part{lane + 1});
    }
    if (!dx) continue;
    const T factor = weight / total, d = drow[row];
    if (n <= kSumLanes) {
      store(dx, cross_entropy_gradient(narrow, wq_at(0, Part{n}), factor, d), Part{n});
    } else {
      each_group(0, n, [=](std::int64_t i, auto group) {
        store(dx + i, cross_entropy_gradient(load(dx + i, group), wq_at(i, group), factor, d), group);
      });
    }
  }
}

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
