#include <algorithm>

#include "cpu/step.h"

namespace ranvier::cpu {
namespace {

// out [outer, inner] = sum (or mean) of x [outer, reduced, inner]. Over the batch axis: the product with a row of ones
// (as db is), shared out by columns; along the last axis: the lane rule; else column sums of each outer index.
template <class T>
class ReduceStep final : public Step {
 public:
  explicit ReduceStep(const PlannedStep& s) : x_(s.inputs[0]), out_(s.outputs[0]) {
    const Type& x = s.input_types[0];
    const std::int64_t begin = s.node.attributes.integer("axis_begin", 0),
                       end = s.node.attributes.integer("axis_end", x.rank());
    batched_ = x.batched;
    over_batch_ = x.batched && begin == 0;
    for (std::int64_t axis = x.batched; axis < x.rank(); ++axis) {
      const std::int64_t d = x.dims[static_cast<std::size_t>(axis - x.batched)];
      (axis < begin ? outer_ : axis < end ? reduced_ : inner_) *= d;
    }
    mean_ = s.node.op->name == "mean";
  }

  void run(const Frame& f, const Worker& w) const override {
    const T* x = f.at<const T>(x_);
    T* out = f.at<T>(out_);
    if (over_batch_) {
      const Range c = share(inner_, w.id, w.count, kFlatGranule);
      if (c.begin < c.end) {
        kernels_.column_sum(f.rows * reduced_, c.end - c.begin, x + c.begin, inner_, out + c.begin);
      }
      return;
    }
    const Range r = line_share(f, w, batched_, outer_);
    for (std::int64_t i = r.begin; i < r.end; ++i) {
      if (inner_ == 1) {
        out[i] = kernels_.sum(reduced_, x + i * reduced_);
      } else {
        kernels_.column_sum(reduced_, inner_, x + i * reduced_ * inner_, inner_, out + i * inner_);
      }
    }
    if (!mean_) return;
    // The mean of nothing is NaN, as NumPy's.
    const T count = static_cast<T>(reduced_);
    for (std::int64_t i = r.begin * inner_; i < r.end * inner_; ++i) out[i] /= count;
  }

 private:
  const Kernels<T>& kernels_ = kernels<T>();
  Location x_, out_;
  bool batched_, over_batch_, mean_;
  std::int64_t outer_ = 1, reduced_ = 1, inner_ = 1;
};

// softmax and log_softmax over the last axis, and their backward twins (dy, y).
template <class T>
class SoftmaxStep final : public Step {
 public:
  using Forward = decltype(Kernels<T>::softmax);
  using Backward = decltype(Kernels<T>::softmax_backward);
  SoftmaxStep(const PlannedStep& s, Forward forward, Backward backward)
      : forward_(forward), backward_(backward), in_(s.inputs), out_(s.outputs[0]) {
    const Type& y = s.output_types[0];
    batched_ = y.batched;
    classes_ = y.dims.back();
    for (std::size_t i = 0; i + 1 < y.dims.size(); ++i) lines_ *= y.dims[i];
  }

  void run(const Frame& f, const Worker& w) const override {
    const Range r = line_share(f, w, batched_, lines_);
    const std::int64_t at = r.begin * classes_;
    if (forward_) {
      forward_(r.end - r.begin, classes_, f.at<const T>(in_[0]) + at, f.at<T>(out_) + at);
    } else {
      backward_(r.end - r.begin, classes_, f.at<const T>(in_[0]) + at, f.at<const T>(in_[1]) + at, f.at<T>(out_) + at);
    }
  }

 private:
  Forward forward_;
  Backward backward_;
  std::vector<Location> in_;
  Location out_;
  bool batched_;
  std::int64_t lines_ = 1, classes_;
};

}  // namespace

template <class T>
std::unique_ptr<Step> lower_reduction(const PlannedStep& s, const Plan&) {
  const std::string& name = s.node.op->name;
  const Kernels<T>& k = kernels<T>();
  if (name == "sum" || name == "mean") return std::make_unique<ReduceStep<T>>(s);
  if (name == "softmax") return std::make_unique<SoftmaxStep<T>>(s, k.softmax, nullptr);
  if (name == "log_softmax") return std::make_unique<SoftmaxStep<T>>(s, k.log_softmax, nullptr);
  if (name == "softmax_backward") return std::make_unique<SoftmaxStep<T>>(s, nullptr, k.softmax_backward);
  if (name == "log_softmax_backward") return std::make_unique<SoftmaxStep<T>>(s, nullptr, k.log_softmax_backward);
  return nullptr;
}

template std::unique_ptr<Step> lower_reduction<float>(const PlannedStep&, const Plan&);
template std::unique_ptr<Step> lower_reduction<double>(const PlannedStep&, const Plan&);

}  // namespace ranvier::cpu
