#include <algorithm>
#include <array>
#include <numeric>

#include "cpu/step.h"

namespace ranvier::cpu {
namespace {

template <class T>
class UnaryStep final : public Step {
 public:
  UnaryStep(const PlannedStep& s, typename Kernels<T>::UnaryKernel kernel)
      : kernel_(kernel),
        x_(s.inputs[0]),
        y_(s.outputs[0]),
        batched_(s.output_types[0].batched),
        count_(s.output_types[0].count()),
        alpha_(static_cast<T>(s.node.attributes.number("alpha", 0))) {}

  void run(const Frame& f, const Worker& w) const override {
    const Range r = element_share(f, w, batched_, count_);
    kernel_(r.end - r.begin, f.at<const T>(x_) + r.begin, f.at<T>(y_) + r.begin, alpha_);
  }

 private:
  typename Kernels<T>::UnaryKernel kernel_;
  Location x_, y_;
  bool batched_;
  std::int64_t count_;
  T alpha_;
};

template <class T>
class UnaryBackwardStep final : public Step {
 public:
  UnaryBackwardStep(const PlannedStep& s, typename Kernels<T>::UnaryBackwardKernel kernel)
      : kernel_(kernel),
        dy_(s.inputs[0]),
        saved_(s.inputs.back()),  // identity and negative have none, and do not read it
        dx_(s.outputs[0]),
        batched_(s.output_types[0].batched),
        count_(s.output_types[0].count()),
        alpha_(static_cast<T>(s.node.attributes.number("alpha", 0))) {}

  void run(const Frame& f, const Worker& w) const override {
    const Range r = element_share(f, w, batched_, count_);
    kernel_(r.end - r.begin, f.at<const T>(dy_) + r.begin, f.at<const T>(saved_) + r.begin, f.at<T>(dx_) + r.begin,
            alpha_);
  }

 private:
  typename Kernels<T>::UnaryBackwardKernel kernel_;
  Location dy_, saved_, dx_;
  bool batched_;
  std::int64_t count_;
  T alpha_;
};

// y += x, y a parameter's gradient.
template <class T>
class AccumulateStep final : public Step {
 public:
  explicit AccumulateStep(const PlannedStep& s)
      : add_(kernels<T>().binary[static_cast<std::size_t>(Binary::add)]),
        x_(s.inputs[0]),
        y_(s.outputs[0]),
        count_(s.output_types[0].count()) {}

  void run(const Frame& f, const Worker& w) const override {
    const Range r = share(count_, w.id, w.count, kFlatGranule);
    T* y = f.at<T>(y_) + r.begin;
    add_(r.end - r.begin, y, 1, f.at<const T>(x_) + r.begin, 1, y);
  }

 private:
  typename Kernels<T>::BinaryKernel add_;
  Location x_, y_;
  std::int64_t count_;
};

// Walks an output of any rank with operands that broadcast to it: inner runs of stride 0 or 1, outer axes by odometer.
// Neighbouring axes along which every operand goes on alike are one axis.
template <int N>
class BroadcastLoop {
 public:
  BroadcastLoop(const Type& out, const std::vector<Type>& operands) : batched_(out.batched) {
    const int rank = out.rank();
    std::array<Dims, N> full_strides;
    for (int k = 0; k < N; ++k) {
      const Type& t = operands[static_cast<std::size_t>(k)];
      row_stride_[k] = t.batched ? t.count() : 0;
      Dims strides(out.dims.size(), 0);
      std::int64_t stride = 1;
      for (int i = static_cast<int>(t.dims.size()) - 1; i >= 0; --i) {
        // The axis of `out` (behind its batch axis) that axis i of the operand meets.
        const int axis = rank - t.rank() + i + t.batched - out.batched;
        const std::int64_t d = t.dims[static_cast<std::size_t>(i)];
        if (axis >= 0) strides[static_cast<std::size_t>(axis)] = d == 1 ? 0 : stride;
        stride *= d;
      }
      full_strides[static_cast<std::size_t>(k)] = strides;
    }
    for (std::size_t axis = 0; axis < out.dims.size(); ++axis) {
      const std::int64_t d = out.dims[axis];
      if (d == 1) continue;
      bool merges = !dims_.empty();
      for (int k = 0; k < N && merges; ++k) {
        merges = strides_.back()[k] == full_strides[static_cast<std::size_t>(k)][axis] * d;
      }
      std::array<std::int64_t, N> s;
      for (int k = 0; k < N; ++k) s[static_cast<std::size_t>(k)] = full_strides[static_cast<std::size_t>(k)][axis];
      if (merges) {
        dims_.back() *= d;
        strides_.back() = s;
      } else {
        dims_.push_back(d);
        strides_.push_back(s);
      }
    }
    if (dims_.empty()) {
      dims_.push_back(1);
      strides_.push_back({});
    }
    inner_ = dims_.back();
    inner_stride_ = strides_.back();
    dims_.pop_back();
    strides_.pop_back();
    count_ = inner_;
    for (const std::int64_t d : dims_) count_ *= d;
    whole_ = dims_.empty() &&
             std::all_of(row_stride_.begin(), row_stride_.end(), [this](std::int64_t s) { return s == count_; });
    for (const std::int64_t s : inner_stride_) whole_ = whole_ && (s == 1 || count_ == 1);
  }

  // call(out offset, operand offsets, n, operand strides) for this worker's share.
  template <class F>
  void each(const Frame& f, const Worker& w, F&& call) const {
    if (batched_ && whole_) {  // no broadcasting at all: one run
      const Range r = element_share(f, w, true, count_);
      std::array<std::int64_t, N> at, ones;
      at.fill(r.begin);
      ones.fill(1);
      if (r.end > r.begin) call(r.begin, at, r.end - r.begin, ones);
      return;
    }
    if (!batched_ && dims_.empty()) {
      const Range r = share(inner_, w.id, w.count, kFlatGranule);
      std::array<std::int64_t, N> at;
      for (std::size_t k = 0; k < N; ++k) at[k] = r.begin * inner_stride_[k];
      if (r.end > r.begin) call(r.begin, at, r.end - r.begin, inner_stride_);
      return;
    }
    // Lines of the inner axis: in a batched value those of this worker's rows, else a share of all.
    const std::int64_t lines = count_ == 0 ? 0 : count_ / inner_;
    const Range r = line_share(f, w, batched_, lines);
    for (std::int64_t line = r.begin; line < r.end; ++line) {
      const std::int64_t row = line / lines;  // 0 where nothing is batched
      std::int64_t rest = line % lines;
      std::array<std::int64_t, N> at;
      for (std::size_t k = 0; k < N; ++k) at[k] = batched_ ? row * row_stride_[k] : 0;
      for (std::size_t axis = dims_.size(); axis-- > 0;) {
        const std::int64_t i = rest % dims_[axis];
        rest /= dims_[axis];
        for (std::size_t k = 0; k < N; ++k) at[k] += i * strides_[axis][k];
      }
      call(line * inner_, at, inner_, inner_stride_);
    }
  }

 private:
  bool batched_, whole_ = false;
  std::array<std::int64_t, N> row_stride_{}, inner_stride_{};
  Dims dims_;
  std::vector<std::array<std::int64_t, N>> strides_;
  std::int64_t inner_ = 1, count_ = 1;
};

template <class T>
class BinaryStep final : public Step {
 public:
  BinaryStep(const PlannedStep& s, typename Kernels<T>::BinaryKernel kernel)
      : kernel_(kernel),
        a_(s.inputs[0]),
        b_(s.inputs[1]),
        out_(s.outputs[0]),
        loop_(s.output_types[0], s.input_types) {}

  void run(const Frame& f, const Worker& w) const override {
    const T *a = f.at<const T>(a_), *b = f.at<const T>(b_);
    T* out = f.at<T>(out_);
    loop_.each(f, w, [&](std::int64_t to, const auto& at, std::int64_t n, const auto& stride) {
      kernel_(n, a + at[0], stride[0], b + at[1], stride[1], out + to);
    });
  }

 private:
  typename Kernels<T>::BinaryKernel kernel_;
  Location a_, b_, out_;
  BroadcastLoop<2> loop_;
};

template <class T>
class WhereStep final : public Step {
 public:
  explicit WhereStep(const PlannedStep& s)
      : in_{s.inputs[0], s.inputs[1], s.inputs[2]}, out_(s.outputs[0]), loop_(s.output_types[0], s.input_types) {}

  void run(const Frame& f, const Worker& w) const override {
    const T *c = f.at<const T>(in_[0]), *a = f.at<const T>(in_[1]), *b = f.at<const T>(in_[2]);
    T* out = f.at<T>(out_);
    loop_.each(f, w, [&](std::int64_t to, const auto& at, std::int64_t n, const auto& stride) {
      kernel_(n, c + at[0], stride[0], a + at[1], stride[1], b + at[2], stride[2], out + to);
    });
  }

 private:
  decltype(Kernels<T>::where) kernel_ = kernels<T>().where;
  Location in_[3], out_;
  BroadcastLoop<3> loop_;
};

template <class T>
class DropoutStep final : public Step {
 public:
  explicit DropoutStep(const PlannedStep& s)
      : x_(s.inputs[0]),
        y_(s.outputs[0]),
        batched_(s.output_types[0].batched),
        count_(s.output_types[0].count()),
        rate_(s.node.attributes.number("rate", 0.5)),
        layer_(static_cast<std::uint32_t>(s.node.attributes.integer("layer", 0))),
        fixed_(s.node.attributes.has("seed")),
        seed_(static_cast<std::uint64_t>(s.node.attributes.integer("seed", 0))),
        step_(static_cast<std::uint32_t>(s.node.attributes.integer("step", 0))) {}

  void run(const Frame& f, const Worker& w) const override {
    const Range r = element_share(f, w, batched_, count_);
    const DropoutKey key{fixed_ ? seed_ : f.seed, layer_, fixed_ ? step_ : f.training_step};
    kernel_(r.end - r.begin, r.begin, f.at<const T>(x_) + r.begin, f.at<T>(y_) + r.begin, rate_, key);
  }

 private:
  decltype(Kernels<T>::dropout) kernel_ = kernels<T>().dropout;
  Location x_, y_;
  bool batched_;
  std::int64_t count_;
  double rate_;
  std::uint32_t layer_;
  bool fixed_;  // functional.dropout gives its own seed and step
  std::uint64_t seed_;
  std::uint32_t step_;
};

}  // namespace

template <class T>
std::unique_ptr<Step> lower_elementwise(const PlannedStep& s, const Plan&) {
  const Op& op = *s.node.op;
  const auto code = static_cast<std::size_t>(op.code);
  const Kernels<T>& k = kernels<T>();
  if (code < kUnaryNames.size() && op.name == kUnaryNames[code]) {
    return std::make_unique<UnaryStep<T>>(s, k.unary[code]);
  }
  if (code < kUnaryNames.size() && op.name == std::string(kUnaryNames[code]) + "_backward") {
    return std::make_unique<UnaryBackwardStep<T>>(s, k.unary_backward[code]);
  }
  if (code < kBinaryNames.size() && op.name == kBinaryNames[code]) {
    return std::make_unique<BinaryStep<T>>(s, k.binary[code]);
  }
  if (op.name == "where") return std::make_unique<WhereStep<T>>(s);
  if (op.name == "dropout") return std::make_unique<DropoutStep<T>>(s);
  if (op.name == "accumulate") return std::make_unique<AccumulateStep<T>>(s);
  return nullptr;
}

template std::unique_ptr<Step> lower_elementwise<float>(const PlannedStep&, const Plan&);
template std::unique_ptr<Step> lower_elementwise<double>(const PlannedStep&, const Plan&);

}  // namespace ranvier::cpu
