#include <algorithm>

#include "cpu/step.h"

namespace ranvier::cpu {
namespace {

// A value's rows and the elements of each: a batched value's samples, else its first axis.
struct Rows {
  bool batched;
  std::int64_t rows, width;
};

Rows rows_of(const Type& t) {
  if (t.batched) return {true, 0, t.count()};
  const std::int64_t rows = t.dims.empty() ? 1 : t.dims[0];
  return {false, rows, rows ? t.count() / rows : 0};
}

Range loss_share(const Rows& r, const Frame& f, const Worker& w) {
  return line_share(f, w, r.batched, r.batched ? 1 : r.rows);
}

// The three forms of a loss: [pred, target] -> rows, [drows, pred, target] -> dpred, or -> both.
struct Operands {
  Location drows{-1, 0}, pred, target, rows{-1, 0}, dpred{-1, 0};
  Type pred_type, target_type;

  explicit Operands(const PlannedStep& s) {
    const std::size_t first = s.inputs.size() == 3 ? 1 : 0;
    pred = s.inputs[first], target = s.inputs[first + 1];
    pred_type = s.input_types[first], target_type = s.input_types[first + 1];
    if (first) drows = s.inputs[0];
    if (!first || s.outputs.size() == 2) rows = s.outputs[0];
    if (first) dpred = s.outputs.back();
  }

  template <class T>
  static T* at(const Frame& f, const Location& place, std::int64_t offset) {
    return place.slot < 0 ? nullptr : f.at<T>(place) + offset;
  }
};

template <class T>
class RowLossStep final : public Step {
 public:
  RowLossStep(const PlannedStep& s, typename Kernels<T>::RowLossKernel kernel)
      : kernel_(kernel),
        o_(s),
        rows_(rows_of(o_.pred_type)),
        param_(static_cast<T>(s.node.attributes.number("delta", 1))) {}

  void run(const Frame& f, const Worker& w) const override {
    const Range r = loss_share(rows_, f, w);
    const std::int64_t at = r.begin * rows_.width;
    kernel_(r.end - r.begin, rows_.width, f.at<const T>(o_.pred) + at, f.at<const T>(o_.target) + at,
            Operands::at<const T>(f, o_.drows, r.begin), param_, Operands::at<T>(f, o_.rows, r.begin),
            Operands::at<T>(f, o_.dpred, at));
  }

 private:
  typename Kernels<T>::RowLossKernel kernel_;
  Operands o_;
  Rows rows_;
  T param_;
};

// Cross-entropy over the last axis; a row with several positions (batch, positions, classes) takes their mean.
template <class T>
class CrossEntropyStep final : public Step {
 public:
  explicit CrossEntropyStep(const PlannedStep& s)
      : o_(s), rows_(rows_of(o_.pred_type)), labels_(o_.target_type.kind == Kind::labels) {
    classes_ = o_.pred_type.dims.back();
    positions_ = rows_.width / classes_;
    smoothing_ = static_cast<T>(s.node.attributes.number("label_smoothing", 0));
    for (const double c : s.node.attributes.numbers("class_weight")) weight_.push_back(static_cast<T>(c));
  }

  void run(const Frame& f, const Worker& w) const override {
    const Range r = loss_share(rows_, f, w);
    CrossEntropy<T> ce{classes_, nullptr, nullptr, weight_.empty() ? nullptr : weight_.data(), smoothing_};
    const T* logits = f.at<const T>(o_.pred);
    const auto call = [&](std::int64_t first, std::int64_t lines, const T* drow, T* loss) {
      if (labels_) ce.labels = f.at<const std::int32_t>(o_.target) + first;
      if (!labels_) ce.target = f.at<const T>(o_.target) + first * classes_;
      kernels_.cross_entropy(lines, ce, logits + first * classes_, drow, loss,
                             Operands::at<T>(f, o_.dpred, first * classes_));
    };
    if (positions_ == 1) {
      call(r.begin, r.end - r.begin, Operands::at<const T>(f, o_.drows, r.begin), Operands::at<T>(f, o_.rows, r.begin));
      return;
    }
    T *loss = f.scratch_of<T>(w), *drow = loss + positions_;
    for (std::int64_t i = r.begin; i < r.end; ++i) {
      if (o_.drows.slot >= 0) {
        std::fill_n(drow, positions_, *Operands::at<const T>(f, o_.drows, i) / static_cast<T>(positions_));
      }
      call(i * positions_, positions_, drow, loss);
      if (o_.rows.slot >= 0) {
        *Operands::at<T>(f, o_.rows, i) = kernels_.sum(positions_, loss) / static_cast<T>(positions_);
      }
    }
  }
  std::size_t scratch_bytes(std::int64_t) const override {
    return positions_ == 1 ? 0 : 2 * static_cast<std::size_t>(positions_) * sizeof(T);
  }

 private:
  const Kernels<T>& kernels_ = kernels<T>();
  Operands o_;
  Rows rows_;
  bool labels_;
  std::int64_t classes_, positions_;
  T smoothing_;
  std::vector<T> weight_;
};

// scale_i = w_i / sum_j(w_j n_j). Every worker adds the whole sum itself (its inputs are there before the step, so no
// barrier is needed) and writes its own rows.
template <class T>
class RowScaleStep final : public Step {
 public:
  explicit RowScaleStep(const PlannedStep& s)
      : weight_(s.inputs[0]), scale_(s.outputs[0]), rows_(rows_of(s.output_types[0])) {
    for (const double c : s.node.attributes.numbers("class_weight")) classes_.push_back(static_cast<T>(c));
    if (s.inputs.size() > 1 && !classes_.empty()) {
      target_ = s.inputs[1];
      labels_ = s.input_types[1].kind == Kind::labels;
      const Rows target = rows_of(s.input_types[1]);
      positions_ = labels_ ? target.width : target.width / static_cast<std::int64_t>(classes_.size());
    }
  }

  void run(const Frame& f, const Worker& w) const override {
    const T* weight = f.at<const T>(weight_);  // null: all ones
    T* scale = f.at<T>(scale_);
    const std::int64_t rows = rows_.batched ? f.rows : rows_.rows;
    const Range r = loss_share(rows_, f, w);
    if (!weight && target_.slot < 0) {
      std::fill(scale + r.begin, scale + r.end, T{1} / static_cast<T>(rows));
      return;
    }
    double total = 0;  // in double and in order: the same whoever adds it
    for (std::int64_t i = 0; i < rows; ++i) total += (weight ? weight[i] : 1.0) * norm(f, i);
    for (std::int64_t i = r.begin; i < r.end; ++i) {
      scale[i] = total == 0 ? T{0} : static_cast<T>((weight ? weight[i] : 1.0) / total);
    }
  }

 private:
  // The class weight of a row: of its label, or of its probabilities; the mean over its positions.
  double norm(const Frame& f, std::int64_t row) const {
    if (target_.slot < 0) return 1;
    double sum = 0;
    const auto classes = static_cast<std::int64_t>(classes_.size());
    for (std::int64_t p = row * positions_; p < (row + 1) * positions_; ++p) {
      if (labels_) {
        sum += static_cast<double>(classes_[static_cast<std::size_t>(f.at<const std::int32_t>(target_)[p])]);
      } else {
        for (std::int64_t c = 0; c < classes; ++c) {
          sum += static_cast<double>(classes_[static_cast<std::size_t>(c)]) * f.at<const T>(target_)[p * classes + c];
        }
      }
    }
    return sum / static_cast<double>(positions_);
  }

  Location weight_, target_{-1, 0}, scale_;
  Rows rows_;
  std::vector<T> classes_;
  bool labels_ = false;
  std::int64_t positions_ = 1;
};

// loss = sum_i rows_i scale_i, by the lane rule, on the first worker.
template <class T>
class WeightedSumStep final : public Step {
 public:
  explicit WeightedSumStep(const PlannedStep& s)
      : rows_(s.inputs[0]), scale_(s.inputs[1]), loss_(s.outputs[0]), type_(s.input_types[0]) {}

  void run(const Frame& f, const Worker& w) const override {
    if (w.id != 0) return;
    const std::int64_t n = type_.batched ? f.rows : type_.count();
    *f.at<T>(loss_) = kernels_.dot(n, f.at<const T>(rows_), f.at<const T>(scale_));
  }

 private:
  const Kernels<T>& kernels_ = kernels<T>();
  Location rows_, scale_, loss_;
  Type type_;
};

}  // namespace

template <class T>
std::unique_ptr<Step> lower_loss(const PlannedStep& s, const Plan&) {
  const Op& op = *s.node.op;
  const auto code = static_cast<std::size_t>(op.code);
  if (op.name == "row_scale") return std::make_unique<RowScaleStep<T>>(s);
  if (op.name == "weighted_sum") return std::make_unique<WeightedSumStep<T>>(s);
  if (op.name.starts_with("cross_entropy")) return std::make_unique<CrossEntropyStep<T>>(s);
  for (const char* form : {"", "_backward", "_with_gradient"}) {
    if (code < kRowLossNames.size() && op.name == std::string(kRowLossNames[code]) + form) {
      return std::make_unique<RowLossStep<T>>(s, kernels<T>().row_loss[code]);
    }
  }
  return nullptr;
}

template std::unique_ptr<Step> lower_loss<float>(const PlannedStep&, const Plan&);
template std::unique_ptr<Step> lower_loss<double>(const PlannedStep&, const Plan&);

}  // namespace ranvier::cpu
