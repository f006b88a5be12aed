#include <algorithm>

#include "cpu/step.h"

namespace ranvier::cpu {
namespace {

// C's blocks: apply f and keep what f' is told from (z or y), or multiply by f'(saved).
template <class T>
void finish_keep_z(const Finish<T>& e, T* c, std::int64_t row, std::int64_t col, std::int64_t n) {
  if (e.saved) std::copy_n(c, n, e.saved + row * e.ld_saved + col);
  e.unary(n, c, c, e.alpha);
}

template <class T>
void finish_keep_y(const Finish<T>& e, T* c, std::int64_t row, std::int64_t col, std::int64_t n) {
  e.unary(n, c, c, e.alpha);
  if (e.saved) std::copy_n(c, n, e.saved + row * e.ld_saved + col);
}

template <class T>
void finish_backward(const Finish<T>& e, T* c, std::int64_t row, std::int64_t col, std::int64_t n) {
  e.unary_backward(n, c, e.saved + row * e.ld_saved + col, c, e.alpha);
}

struct Activation {
  Unary f;
  double alpha;
};

Activation activation_of(const Node& node) {
  const std::string name = node.attributes.text("activation", "identity");
  const auto found = std::find(kUnaryNames.begin(), kUnaryNames.end(), name);
  return {static_cast<Unary>(found - kUnaryNames.begin()), node.attributes.number("alpha", 0)};
}

std::int64_t lines_of(const Type& type) {  // the axes between the batch and the last
  std::int64_t lines = 1;
  for (std::size_t i = 0; i + 1 < type.dims.size(); ++i) lines *= type.dims[i];
  return lines;
}

// y (M, out) = f(x (M, in) w (in, out) + b), M the rows and what lies between. Split by rows, few rows by columns.
template <class T>
class DenseStep final : public Step {
 public:
  explicit DenseStep(const PlannedStep& s)
      : x_(s.inputs[0]),
        w_(s.inputs[1]),
        b_(s.inputs.size() > 2 ? s.inputs[2] : Location{-1, 0}),
        y_(s.outputs[0]),
        saved_(s.outputs.size() > 1 ? s.outputs[1] : Location{-1, 0}),
        batched_(s.output_types[0].batched),
        lines_(lines_of(s.input_types[0])),
        in_(s.input_types[1].dims[0]),
        out_(s.input_types[1].dims[1]) {
    const Activation activation = activation_of(s.node);
    f_ = activation.f;
    relu_ = f_ == Unary::relu && saved_.slot < 0;
    finish_ = {saved_by(f_) == Saved::input ? finish_keep_z<T> : finish_keep_y<T>,
               kernels<T>().unary[static_cast<std::size_t>(f_)],
               nullptr,
               nullptr,
               out_,
               static_cast<T>(activation.alpha)};
  }

  void run(const Frame& f, const Worker& w) const override {
    const auto [r, j] = block_share(f, w, batched_, lines_, out_);
    if (r.begin == r.end || j.begin == j.end) return;
    const std::int64_t at = r.begin * out_ + j.begin;
    Finish<T> finish = finish_;
    if (saved_.slot >= 0) finish.saved = f.at<T>(saved_) + at;
    Product<T> p{r.end - r.begin,
                 j.end - j.begin,
                 in_,
                 f.at<const T>(x_) + r.begin * in_,
                 in_,
                 1,
                 f.at<const T>(w_) + j.begin,
                 out_,
                 1,
                 f.at<T>(y_) + at,
                 out_};
    if (b_.slot >= 0) p.bias = f.at<const T>(b_) + j.begin;
    p.relu = relu_;
    if (!relu_ && f_ != Unary::identity) p.finish = &finish;
    if (f_ == Unary::identity && saved_.slot >= 0) p.finish = &finish;
    kernels_.product(p, f.scratch_of<T>(w));
  }
  std::size_t scratch_bytes(std::int64_t capacity) const override {
    const std::int64_t m = batched_ ? capacity * lines_ : lines_;
    return sizeof(T) * static_cast<std::size_t>(kernels_.product_scratch(m, out_, in_));
  }
  const char* path(std::int64_t rows) const override {
    const std::int64_t m = batched_ ? rows * lines_ : lines_;
    return kernels_.product_path({m, out_, in_, nullptr, in_, 1, nullptr, out_, 1, nullptr, out_});
  }

 private:
  const Kernels<T>& kernels_ = kernels<T>();
  Location x_, w_, b_, y_, saved_;
  bool batched_;
  std::int64_t lines_, in_, out_;
  Unary f_;
  bool relu_;
  Finish<T> finish_;
};

// dx (M, in) = dz (M, out) w^T, times f'(saved (M, in)) where an activation was fused. Split as dense.
template <class T>
class DenseDxStep final : public Step {
 public:
  explicit DenseDxStep(const PlannedStep& s)
      : dz_(s.inputs[0]),
        w_(s.inputs[1]),
        saved_(s.inputs.size() > 2 ? s.inputs[2] : Location{-1, 0}),
        dx_(s.outputs[0]),
        batched_(s.output_types[0].batched),
        lines_(lines_of(s.input_types[0])),
        in_(s.input_types[1].dims[0]),
        out_(s.input_types[1].dims[1]) {
    const Activation activation = activation_of(s.node);
    finish_ = {finish_backward<T>,
               nullptr,
               kernels<T>().unary_backward[static_cast<std::size_t>(activation.f)],
               nullptr,
               in_,
               static_cast<T>(activation.alpha)};
  }

  void run(const Frame& f, const Worker& w) const override {
    const auto [r, j] = block_share(f, w, batched_, lines_, in_);
    if (r.begin == r.end || j.begin == j.end) return;
    const std::int64_t at = r.begin * in_ + j.begin;
    Finish<T> finish = finish_;
    Product<T> p{r.end - r.begin,
                 j.end - j.begin,
                 out_,
                 f.at<const T>(dz_) + r.begin * out_,
                 out_,
                 1,
                 f.at<const T>(w_) + j.begin * out_,
                 1,
                 out_,
                 f.at<T>(dx_) + at,
                 in_};
    if (saved_.slot >= 0) {
      finish.saved = f.at<T>(saved_) + at;
      p.finish = &finish;
    }
    kernels_.product(p, f.scratch_of<T>(w));
  }
  std::size_t scratch_bytes(std::int64_t capacity) const override {
    const std::int64_t m = batched_ ? capacity * lines_ : lines_;
    return sizeof(T) * static_cast<std::size_t>(kernels_.product_scratch(m, in_, out_));
  }
  const char* path(std::int64_t rows) const override {
    const std::int64_t m = batched_ ? rows * lines_ : lines_;
    return kernels_.product_path({m, in_, out_, nullptr, out_, 1, nullptr, 1, out_, nullptr, in_});
  }

 private:
  const Kernels<T>& kernels_ = kernels<T>();
  Location dz_, w_, saved_, dx_;
  bool batched_;
  std::int64_t lines_, in_, out_;
  Finish<T> finish_;
};

// dw (in, out) = x (M, in)^T dz (M, out), db (out) = ones (M)^T dz. Split over the longer side of dw; db by columns.
template <class T>
class DenseDwStep final : public Step {
 public:
  explicit DenseDwStep(const PlannedStep& s)
      : x_(s.inputs[0]),
        dz_(s.inputs[1]),
        dw_(s.outputs[0]),
        db_(s.outputs.size() > 1 ? s.outputs[1] : Location{-1, 0}),
        batched_(s.input_types[0].batched),
        lines_(lines_of(s.input_types[0])),
        in_(s.input_types[0].dims.back()),
        out_(s.input_types[1].dims.back()) {}

  void run(const Frame& f, const Worker& w) const override {
    const std::int64_t m = batched_ ? f.rows * lines_ : lines_;
    const bool by_rows = in_ >= out_;
    const Range i = by_rows ? share(in_, w.id, w.count, kRowGranule) : Range{0, in_};
    const Range j = by_rows ? Range{0, out_} : share(out_, w.id, w.count, kFlatGranule);
    const T *x = f.at<const T>(x_), *dz = f.at<const T>(dz_);
    if (i.begin < i.end && j.begin < j.end) {
      const Product<T> p{i.end - i.begin,
                         j.end - j.begin,
                         m,
                         x + i.begin,
                         1,
                         in_,
                         dz + j.begin,
                         out_,
                         1,
                         f.at<T>(dw_) + i.begin * out_ + j.begin,
                         out_};
      kernels_.product(p, f.scratch_of<T>(w));
    }
    if (db_.slot < 0) return;
    const Range c = share(out_, w.id, w.count, kFlatGranule);
    if (c.begin < c.end) {
      kernels_.column_sum(m, c.end - c.begin, dz + c.begin, out_, f.at<T>(db_) + c.begin, false);
    }
  }
  std::size_t scratch_bytes(std::int64_t capacity) const override {
    const std::int64_t m = batched_ ? capacity * lines_ : lines_;
    return sizeof(T) * static_cast<std::size_t>(kernels_.product_scratch(in_, out_, m));
  }
  const char* path(std::int64_t rows) const override {
    const std::int64_t m = batched_ ? rows * lines_ : lines_;
    return kernels_.product_path({in_, out_, m, nullptr, 1, in_, nullptr, out_, 1, nullptr, out_});
  }

 private:
  const Kernels<T>& kernels_ = kernels<T>();
  Location x_, dz_, dw_, db_;
  bool batched_;
  std::int64_t lines_, in_, out_;
};

template <class T>
class DenseDbStep final : public Step {
 public:
  explicit DenseDbStep(const PlannedStep& s)
      : dz_(s.inputs[0]),
        db_(s.outputs[0]),
        batched_(s.input_types[0].batched),
        lines_(lines_of(s.input_types[0])),
        out_(s.input_types[0].dims.back()) {}

  void run(const Frame& f, const Worker& w) const override {
    const Range c = share(out_, w.id, w.count, kFlatGranule);
    if (c.begin == c.end) return;
    const std::int64_t m = batched_ ? f.rows * lines_ : lines_;
    kernels_.column_sum(m, c.end - c.begin, f.at<const T>(dz_) + c.begin, out_, f.at<T>(db_) + c.begin, false);
  }

 private:
  const Kernels<T>& kernels_ = kernels<T>();
  Location dz_, db_;
  bool batched_;
  std::int64_t lines_, out_;
};

// out (..., m, n) = a (..., m, k) b (..., k, n), one product for each of the broadcast outer axes. A batched value is
// split by rows; a single product (no outer axes) over its rows; else over the outer axes.
template <class T>
class MatmulStep final : public Step {
 public:
  explicit MatmulStep(const PlannedStep& s)
      : a_(s.inputs[0]), b_(s.inputs[1]), out_(s.outputs[0]), batched_(s.output_types[0].batched) {
    const Type &a = s.input_types[0], &b = s.input_types[1], &out = s.output_types[0];
    const bool ta = s.node.attributes.flag("transpose_a"), tb = s.node.attributes.flag("transpose_b");
    m_ = out.dims[out.dims.size() - 2], n_ = out.dims.back(), k_ = a.dims[a.dims.size() - (ta ? 2 : 1)];
    a_row_ = ta ? 1 : k_, a_col_ = ta ? m_ : 1;
    b_row_ = tb ? 1 : n_, b_col_ = tb ? k_ : 1;
    // Element offsets of each outer index of one sample.
    outer_ = 1;
    for (std::size_t i = 0; i + 2 < out.dims.size(); ++i) outer_ *= out.dims[i];
    a_sample_ = a.batched ? a.count() : 0;
    b_sample_ = b.batched ? b.count() : 0;
    a_offsets_ = offsets(out, a, m_ * k_);
    b_offsets_ = offsets(out, b, k_ * n_);
  }

  void run(const Frame& f, const Worker& w) const override {
    const T *a = f.at<const T>(a_), *b = f.at<const T>(b_);
    T* out = f.at<T>(out_);
    if (!batched_ && outer_ == 1) {
      const Range r = share(m_, w.id, w.count, kRowGranule);
      multiply(f, w, a + r.begin * a_row_, b, out + r.begin * n_, r.end - r.begin);
      return;
    }
    const Range r = line_share(f, w, batched_, outer_);
    for (std::int64_t i = r.begin; i < r.end; ++i) {
      const std::int64_t sample = batched_ ? i / outer_ : 0;
      const auto o = static_cast<std::size_t>(i % outer_);
      multiply(f, w, a + sample * a_sample_ + a_offsets_[o], b + sample * b_sample_ + b_offsets_[o], out + i * m_ * n_,
               m_);
    }
  }
  std::size_t scratch_bytes(std::int64_t) const override {
    return sizeof(T) * static_cast<std::size_t>(kernels_.product_scratch(m_, n_, k_));
  }
  const char* path(std::int64_t) const override {
    return kernels_.product_path({m_, n_, k_, nullptr, a_row_, a_col_, nullptr, b_row_, b_col_, nullptr, n_});
  }

 private:
  void multiply(const Frame& f, const Worker& w, const T* a, const T* b, T* c, std::int64_t rows) const {
    if (rows == 0) return;
    kernels_.product({rows, n_, k_, a, a_row_, a_col_, b, b_row_, b_col_, c, n_}, f.scratch_of<T>(w));
  }

  static Dims offsets(const Type& out, const Type& t, std::int64_t matrix) {
    const int outer = static_cast<int>(out.dims.size()) - 2;
    const int own = static_cast<int>(t.dims.size()) - 2;
    Dims offsets;
    std::int64_t total = 1;
    for (int i = 0; i < outer; ++i) total *= out.dims[static_cast<std::size_t>(i)];
    for (std::int64_t index = 0; index < total; ++index) {
      std::int64_t rest = index, stride = matrix, at = 0;
      for (int i = outer - 1; i >= 0; --i) {
        const std::int64_t d = out.dims[static_cast<std::size_t>(i)];
        const int axis = i - (outer - own);
        if (axis >= 0) {
          const std::int64_t mine = t.dims[static_cast<std::size_t>(axis)];
          if (mine != 1) at += rest % d * stride;
          stride *= mine;
        }
        rest /= d;
      }
      offsets.push_back(at);
    }
    return offsets;
  }

  const Kernels<T>& kernels_ = kernels<T>();
  Location a_, b_, out_;
  bool batched_;
  std::int64_t m_, n_, k_, a_row_, a_col_, b_row_, b_col_, outer_, a_sample_, b_sample_;
  Dims a_offsets_, b_offsets_;
};

}  // namespace

template <class T>
std::unique_ptr<Step> lower_product(const PlannedStep& s, const Plan&) {
  const std::string& name = s.node.op->name;
  if (name == "dense") return std::make_unique<DenseStep<T>>(s);
  if (name == "dense_dx") return std::make_unique<DenseDxStep<T>>(s);
  if (name == "dense_dw") return std::make_unique<DenseDwStep<T>>(s);
  if (name == "dense_db") return std::make_unique<DenseDbStep<T>>(s);
  if (name == "matmul") return std::make_unique<MatmulStep<T>>(s);
  return nullptr;
}

template std::unique_ptr<Step> lower_product<float>(const PlannedStep&, const Plan&);
template std::unique_ptr<Step> lower_product<double>(const PlannedStep&, const Plan&);

}  // namespace ranvier::cpu
