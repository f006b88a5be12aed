#include <algorithm>
#include <type_traits>

#include "cpu/bf16_path.h"
#include "cpu/step.h"

namespace ranvier::cpu {
namespace {

// What is saved of the next row (rows) comes while this one is computed: it lies beyond L2 where it is large.
template <class T>
void fetch_saved(const Finish<T>& e, std::int64_t row, std::int64_t col, std::int64_t n) {
  const T* const next = e.saved + row * e.ld_saved + col + std::max(n, e.ld_saved);
  for (std::int64_t i = 0; i < n; i += static_cast<std::int64_t>(64 / sizeof(T))) __builtin_prefetch(next + i);
}

// C's blocks: apply f and keep what f' is told from (z or y), or multiply by f'(saved).
template <class T>
void finish_keep_z(const Finish<T>& e, T* c, std::int64_t row, std::int64_t col, std::int64_t n) {
  if (e.saved) {
    fetch_saved(e, row, col, n);
    std::copy_n(c, n, e.saved + row * e.ld_saved + col);
  }
  e.unary(n, c, c, e.alpha);
}

template <class T>
void finish_keep_y(const Finish<T>& e, T* c, std::int64_t row, std::int64_t col, std::int64_t n) {
  e.unary(n, c, c, e.alpha);
  if (e.saved) std::copy_n(c, n, e.saved + row * e.ld_saved + col);
}

template <class T>
void finish_backward(const Finish<T>& e, T* c, std::int64_t row, std::int64_t col, std::int64_t n) {
  fetch_saved(e, row, col, n);
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

// A product as a step. Each worker does a block of C: its rows, or, where all meet before and after the step, a part of
// C's longer side, which reads and packs the least.
template <class T>
class ProductStep : public Step {
 public:
  int parts(const Frame& f) const override { return bf16_.runs() && is_reduced(shape(f.rows)) ? 2 : 1; }
  void run(const Frame& f, const Worker& w) const override {
    Finish<T> finish;
    const Product<T> p = whole(f, finish);
    if constexpr (std::is_same_v<T, float>) {
      if (is_reduced(p)) {
        const std::byte* const packed = keeps_weight_ ? f.packed + this->packed_offset : nullptr;
        if (w.part == 0) return bf16_.pack(p, w, f.shared, packed);
        if (bf16_.multiply(p, w, f.shared, packed)) return;
      }
    }
    const auto [r, j] = block(p, f.rows, f.meet, w);
    if (r.begin == r.end || j.begin == j.end) return;
    Product<T> mine = p;
    mine.M = r.end - r.begin, mine.N = j.end - j.begin;
    mine.a += r.begin * p.a_row, mine.b += j.begin * p.b_col, mine.c += r.begin * p.ldc + j.begin;
    if (f.packed && keeps_panels(p)) {
      mine.b = reinterpret_cast<const T*>(f.packed + this->packed_offset) + j.begin * p.K;
      mine.packed = true;
    }
    if (p.bias) mine.bias += j.begin;
    if (p.finish) {
      finish = p.finish->from(r.begin, j.begin);
      mine.finish = &finish;
    }
    kernels_.product(mine, f.scratch_of<T>(w));
  }
  std::size_t scratch_bytes(std::int64_t capacity) const override {
    const Product<T> p = shape(capacity);
    return sizeof(T) * static_cast<std::size_t>(kernels_.product_scratch(p.M, p.N, p.K));
  }
  std::size_t shared_bytes(std::int64_t capacity) const override {
    const Product<T> p = shape(capacity);
    return bf16_.shared_bytes(p.M, p.N, p.K);
  }
  std::size_t packed_bytes() const override {
    const Product<T> p = shape(1);
    return keeps_panels(p) ? sizeof(T) * static_cast<std::size_t>(packed_size(p.K, p.N)) : bf16_.packed_bytes(p.N, p.K);
  }
  void pack(const Frame& f, const Worker& w, std::byte* to) const override {
    if (packed_bytes() == 0) return;
    Finish<T> finish;
    const Product<T> p = whole(f, finish);
    if (keeps_panels(p)) {
      const Range panels = share((p.N + kPanel - 1) / kPanel, w.id, w.count);
      kernels_.pack_b(p.K, p.N, p.b, p.b_row, p.b_col, panels.begin, panels.end, reinterpret_cast<T*>(to));
    } else if constexpr (std::is_same_v<T, float>) {
      bf16_.pack_b(p, w, to);
    }
  }
  std::string path(std::int64_t rows, int threads, bool meet) const override {
    Product<T> p = shape(rows);
    if (is_reduced(p)) return bf16_.name();
    p.packed = keeps_panels(p);
    const Block b = block(p, rows, meet, {0, threads});
    p.M = b.rows.end - b.rows.begin, p.N = b.columns.end - b.columns.begin;
    return kernels_.product_path(p);
  }

 protected:
  // b (slot -1: changes with the batch) is B: where it is a parameter, a plan for inference packs it ahead.
  ProductStep(const PlannedStep& s, const Plan& plan, bool by_rows, Location b)
      : batched_(s.input_types[0].batched),
        lines_(lines_of(s.input_types[0])),
        by_rows_(by_rows),
        keeps_weight_(plan.request.outputs_in_place && b.slot >= plan.slots.store && b.slot < plan.slots.output),
        bf16_(precision(plan.request), keeps_weight_) {}
  // The product of all rows: its sizes and strides; with its operands too.
  virtual Product<T> shape(std::int64_t rows) const = 0;
  virtual Product<T> whole(const Frame&, Finish<T>&) const = 0;
  std::int64_t lines(std::int64_t rows) const { return batched_ ? rows * lines_ : lines_; }
  bool is_reduced(const Product<T>& p) const { return bf16_.pays(p.M, p.N, p.K); }

  const Kernels<T>& kernels_ = kernels<T>();

 private:
  Block block(const Product<T>& p, std::int64_t rows, bool meet, const Worker& w) const {
    if (by_rows_ && !meet) return {line_share(rows, w, batched_, lines_), {0, p.N}};
    return block_share(p.M, p.N, w, keeps_panels(p) ? kPanel : kFlatGranule);
  }
  // Weights kept in several parts serve no product of fewer rows than a tile has: float32's panels do.
  Precision precision(const PlanRequest& request) const {
    const bool parts = bf16_parts(request.precision) > 1;
    const bool few = keeps_weight_ && parts && lines(request.capacity) < kTileRows;
    return std::is_same_v<T, float> && !few ? request.precision : Precision::highest;
  }
  // Whether B is kept in panels for float32: where it is a row of panels or less, it is one as it stands.
  bool keeps_panels(const Product<T>& p) const { return keeps_weight_ && !bf16_.runs() && p.N > kPanel; }

  bool batched_;
  std::int64_t lines_;
  bool by_rows_, keeps_weight_;
  Bf16Path bf16_;
};

// y (M, out) = f(x (M, in) w (in, out) + b), M the rows and what lies between.
template <class T>
class DenseStep final : public ProductStep<T> {
 public:
  DenseStep(const PlannedStep& s, const Plan& plan)
      : ProductStep<T>(s, plan, /*by_rows=*/true, s.inputs[1]),
        x_(s.inputs[0]),
        w_(s.inputs[1]),
        b_(s.inputs.size() > 2 ? s.inputs[2] : Location{-1, 0}),
        y_(s.outputs[0]),
        saved_(s.outputs.size() > 1 ? s.outputs[1] : Location{-1, 0}),
        in_(s.input_types[1].dims[0]),
        out_(s.input_types[1].dims[1]) {
    const Activation activation = activation_of(s.node);
    f_ = activation.f;
    relu_ = f_ == Unary::relu && saved_.slot < 0;
    finish_ = {saved_by(f_) == Saved::input ? finish_keep_z<T> : finish_keep_y<T>,
               this->kernels_.unary[static_cast<std::size_t>(f_)],
               nullptr,
               nullptr,
               out_,
               static_cast<T>(activation.alpha)};
  }

 private:
  Product<T> shape(std::int64_t rows) const override {
    return {this->lines(rows), out_, in_, nullptr, in_, 1, nullptr, out_, 1, nullptr, out_};
  }
  Product<T> whole(const Frame& f, Finish<T>& finish) const override {
    Product<T> p = shape(f.rows);
    p.a = f.at<const T>(x_), p.b = f.at<const T>(w_), p.c = f.at<T>(y_);
    if (b_.slot >= 0) p.bias = f.at<const T>(b_);
    p.relu = relu_;
    if (!relu_ && (f_ != Unary::identity || saved_.slot >= 0)) {
      finish = finish_;
      if (saved_.slot >= 0) finish.saved = f.at<T>(saved_);
      p.finish = &finish;
    }
    return p;
  }

  Location x_, w_, b_, y_, saved_;
  std::int64_t in_, out_;
  Unary f_;
  bool relu_;
  Finish<T> finish_;
};

// dx (M, in) = dz (M, out) w^T, times f'(saved (M, in)) where an activation was fused.
template <class T>
class DenseDxStep final : public ProductStep<T> {
 public:
  DenseDxStep(const PlannedStep& s, const Plan& plan)
      : ProductStep<T>(s, plan, /*by_rows=*/true, s.inputs[1]),
        dz_(s.inputs[0]),
        w_(s.inputs[1]),
        saved_(s.inputs.size() > 2 ? s.inputs[2] : Location{-1, 0}),
        dx_(s.outputs[0]),
        in_(s.input_types[1].dims[0]),
        out_(s.input_types[1].dims[1]) {
    const Activation activation = activation_of(s.node);
    finish_ = {finish_backward<T>,
               nullptr,
               this->kernels_.unary_backward[static_cast<std::size_t>(activation.f)],
               nullptr,
               in_,
               static_cast<T>(activation.alpha)};
  }

 private:
  Product<T> shape(std::int64_t rows) const override {
    return {this->lines(rows), in_, out_, nullptr, out_, 1, nullptr, 1, out_, nullptr, in_};
  }
  Product<T> whole(const Frame& f, Finish<T>& finish) const override {
    Product<T> p = shape(f.rows);
    p.a = f.at<const T>(dz_), p.b = f.at<const T>(w_), p.c = f.at<T>(dx_);
    if (saved_.slot >= 0) {
      finish = finish_;
      finish.saved = f.at<T>(saved_);
      p.finish = &finish;
    }
    return p;
  }

  Location dz_, w_, saved_, dx_;
  std::int64_t in_, out_;
  Finish<T> finish_;
};

// This worker's columns of db (out) = ones (M)^T dz (M, out).
template <class T>
void sum_columns(const Kernels<T>& kernels, std::int64_t M, std::int64_t out, const T* dz, T* db, const Worker& w) {
  const Range c = block_share(1, out, w).columns;
  if (c.begin < c.end) kernels.column_sum(M, c.end - c.begin, dz + c.begin, out, db + c.begin);
}

// dw (in, out) = x (M, in)^T dz (M, out), db (out) = ones (M)^T dz. db is split by columns.
template <class T>
class DenseDwStep final : public ProductStep<T> {
 public:
  DenseDwStep(const PlannedStep& s, const Plan& plan)
      : ProductStep<T>(s, plan, /*by_rows=*/false, {-1, 0}),
        x_(s.inputs[0]),
        dz_(s.inputs[1]),
        dw_(s.outputs[0]),
        db_(s.outputs.size() > 1 ? s.outputs[1] : Location{-1, 0}),
        in_(s.input_types[0].dims.back()),
        out_(s.input_types[1].dims.back()) {}

  int parts(const Frame& f) const override { return sums_chunks(f) ? 2 : ProductStep<T>::parts(f); }
  void run(const Frame& f, const Worker& w) const override {
    if (!sums_chunks(f)) {
      ProductStep<T>::run(f, w);
    } else if (w.part == 0) {
      sum_chunks(f, w);
    } else {
      fold_chunks(f, w);
    }
    if (db_.slot >= 0 && w.part == 0)
      sum_columns(this->kernels_, this->lines(f.rows), out_, f.at<const T>(dz_), f.at<T>(db_), w);
  }
  std::size_t shared_bytes(std::int64_t capacity) const override {
    const std::size_t sums =
        has_chunk_sums(capacity) ? sizeof(T) * static_cast<std::size_t>(chunks(capacity) * in_ * out_) : 0;
    return std::max(sums, ProductStep<T>::shared_bytes(capacity));
  }

 private:
  std::int64_t chunks(std::int64_t rows) const { return (this->lines(rows) + kChunk - 1) / kChunk; }
  // A dW too small to be shared out, of a batch so large that its chunks are.
  bool has_chunk_sums(std::int64_t rows) const {
    return in_ * out_ <= kSmall && chunks(rows) > 1 && !this->is_reduced(shape(rows));
  }
  bool sums_chunks(const Frame& f) const {
    return f.threads > 1 && std::max(in_, out_) < kFlatGranule * f.threads && has_chunk_sums(f.rows);
  }
  void sum_chunks(const Frame& f, const Worker& w) const {
    T* const sums = reinterpret_cast<T*>(f.shared);
    Finish<T> finish;
    const Product<T> p = whole(f, finish);
    const std::int64_t n = in_ * out_;
    const Range mine = share(chunks(f.rows), w.id, w.count);
    for (std::int64_t c = mine.begin; c < mine.end; ++c) {
      Product<T> chunk = p;
      chunk.K = std::min(kChunk, p.K - c * kChunk);
      chunk.a += c * kChunk * p.a_col, chunk.b += c * kChunk * p.b_row;
      chunk.c = sums + c * n;
      this->kernels_.product(chunk, f.scratch_of<T>(w));
    }
  }
  void fold_chunks(const Frame& f, const Worker& w) const {
    const T* const sums = reinterpret_cast<const T*>(f.shared);
    T* const dw = f.at<T>(dw_);
    const std::int64_t n = in_ * out_;
    const Range elements = share(n, w.id, w.count, kFlatGranule);
    for (std::int64_t c = 0; c < chunks(f.rows); ++c)
      for (std::int64_t i = elements.begin; i < elements.end; ++i) dw[i] = c == 0 ? sums[i] : dw[i] + sums[c * n + i];
  }
  static constexpr std::int64_t kSmall = 1024;

  Product<T> shape(std::int64_t rows) const override {
    return {in_, out_, this->lines(rows), nullptr, 1, in_, nullptr, out_, 1, nullptr, out_};
  }
  Product<T> whole(const Frame& f, Finish<T>&) const override {
    Product<T> p = shape(f.rows);
    p.a = f.at<const T>(x_), p.b = f.at<const T>(dz_), p.c = f.at<T>(dw_);
    return p;
  }

  Location x_, dz_, dw_, db_;
  std::int64_t in_, out_;
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
    sum_columns(kernels_, batched_ ? f.rows * lines_ : lines_, out_, f.at<const T>(dz_), f.at<T>(db_), w);
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
  std::string path(std::int64_t, int, bool) const override {
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
std::unique_ptr<Step> lower_product(const PlannedStep& s, const Plan& plan) {
  const std::string& name = s.node.op->name;
  if (name == "dense") return std::make_unique<DenseStep<T>>(s, plan);
  if (name == "dense_dx") return std::make_unique<DenseDxStep<T>>(s, plan);
  if (name == "dense_dw") return std::make_unique<DenseDwStep<T>>(s, plan);
  if (name == "dense_db") return std::make_unique<DenseDbStep<T>>(s);
  if (name == "matmul") return std::make_unique<MatmulStep<T>>(s);
  return nullptr;
}

template std::unique_ptr<Step> lower_product<float>(const PlannedStep&, const Plan&);
template std::unique_ptr<Step> lower_product<double>(const PlannedStep&, const Plan&);

}  // namespace ranvier::cpu
