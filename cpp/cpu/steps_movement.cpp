#include <algorithm>
#include <cstring>

#include "cpu/step.h"

namespace ranvier::cpu {
namespace {

// A walk over the elements of one sample (or of all): sizes, and the strides of source and destination.
struct Walk {
  Dims sizes, from, to;
};

Dims dense_strides(const Dims& dims) {
  Dims strides(dims.size());
  std::int64_t stride = 1;
  for (std::size_t i = dims.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= dims[i];
  }
  return strides;
}

// Drops axes of size 1 and merges neighbours that go on alike on both sides.
Walk merged(const Walk& walk) {
  Walk out;
  for (std::size_t i = 0; i < walk.sizes.size(); ++i) {
    const std::int64_t n = walk.sizes[i];
    if (n == 1) continue;
    if (!out.sizes.empty() && out.from.back() == walk.from[i] * n && out.to.back() == walk.to[i] * n) {
      out.sizes.back() *= n;
      out.from.back() = walk.from[i];
      out.to.back() = walk.to[i];
    } else {
      out.sizes.push_back(n);
      out.from.push_back(walk.from[i]);
      out.to.push_back(walk.to[i]);
    }
  }
  if (out.sizes.empty()) out = {{1}, {1}, {1}};
  return out;
}

template <class T>
void copy(const Walk& walk, std::size_t axis, const T* from, T* to) {
  const std::int64_t n = walk.sizes[axis], from_stride = walk.from[axis], to_stride = walk.to[axis];
  if (axis + 1 < walk.sizes.size()) {
    for (std::int64_t i = 0; i < n; ++i) copy(walk, axis + 1, from + i * from_stride, to + i * to_stride);
  } else if (from_stride == 1 && to_stride == 1) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * to_stride] = from[i * from_stride];
  }
}

// One piece of a movement: from an input to a region of the output.
struct Piece {
  Location input;
  std::int64_t sample;    // elements of one sample of the input (0: not batched)
  std::int64_t from, to;  // offsets within a sample
  Walk walk;
};

// transpose, slice, slice_backward, concatenate, broadcast_to: copies by strides, by rows where batched, else by the
// first worker (a parameter's transpose is seldom worth sharing out).
template <class T>
class MoveStep final : public Step {
 public:
  explicit MoveStep(const PlannedStep& s)
      : out_(s.outputs[0]), batched_(s.output_types[0].batched), count_(s.output_types[0].count()) {
    const std::string& name = s.node.op->name;
    const Type &x = s.input_types[0], &y = s.output_types[0];
    const std::int64_t batch = y.batched;
    const Dims to = dense_strides(y.dims);
    const auto attribute = [&](const char* key, std::size_t axis) {
      return s.node.attributes.integers(key)[axis + static_cast<std::size_t>(batch)];
    };
    if (name == "concatenate") {
      const auto axis = static_cast<std::size_t>(s.node.attributes.integer("axis", batch) - batch);
      std::int64_t at = 0;
      for (std::size_t i = 0; i < s.inputs.size(); ++i) {
        const Type& part = s.input_types[i];
        add(s.inputs[i], part, 0, at * to[axis], {part.dims, dense_strides(part.dims), to});
        at += part.dims[axis];
      }
      return;
    }
    Walk walk{y.dims, dense_strides(x.dims), to};
    std::int64_t from = 0, into = 0;
    if (name == "transpose") {
      const Dims strides = walk.from;
      for (std::size_t i = 0; i < y.dims.size(); ++i)
        walk.from[i] = strides[static_cast<std::size_t>(attribute("axes", i) - batch)];
    } else if (name == "slice") {
      for (std::size_t i = 0; i < y.dims.size(); ++i) {
        from += attribute("starts", i) * walk.from[i];
        walk.from[i] *= attribute("steps", i);
      }
    } else if (name == "slice_backward") {
      zero_ = true;
      walk.sizes = x.dims;
      for (std::size_t i = 0; i < x.dims.size(); ++i) {
        into += attribute("starts", i) * walk.to[i];
        walk.to[i] *= attribute("steps", i);
      }
    } else {  // broadcast_to
      const std::size_t extra = y.dims.size() - x.dims.size();
      const Dims strides = walk.from;
      walk.from.assign(y.dims.size(), 0);
      for (std::size_t i = 0; i < x.dims.size(); ++i) walk.from[extra + i] = x.dims[i] == 1 ? 0 : strides[i];
    }
    add(s.inputs[0], x, from, into, walk);
  }

  void run(const Frame& f, const Worker& w) const override {
    Range r = batched_ ? row_share(f.rows, w) : Range{0, w.id == 0 ? 1 : 0};
    T* out = f.at<T>(out_);
    if (zero_) std::fill_n(out + r.begin * count_, (r.end - r.begin) * count_, T{0});
    for (std::int64_t i = r.begin; i < r.end; ++i) {
      for (const Piece& p : pieces_) {
        copy(p.walk, 0, f.at<const T>(p.input) + i * p.sample + p.from, out + i * count_ + p.to);
      }
    }
  }

 private:
  void add(const Location& input, const Type& x, std::int64_t from, std::int64_t to, const Walk& walk) {
    for (const std::int64_t n : walk.sizes) {
      if (n == 0) return;
    }
    pieces_.push_back({input, x.batched ? x.count() : 0, from, to, merged(walk)});
  }

  Location out_;
  bool batched_, zero_ = false;
  std::int64_t count_;
  std::vector<Piece> pieces_;
};

}  // namespace

template <class T>
std::unique_ptr<Step> lower_movement(const PlannedStep& s, const Plan&) {
  const std::string& name = s.node.op->name;
  if (name == "transpose" || name == "slice" || name == "slice_backward" || name == "concatenate" ||
      name == "broadcast_to") {
    return std::make_unique<MoveStep<T>>(s);
  }
  return nullptr;
}

template std::unique_ptr<Step> lower_movement<float>(const PlannedStep&, const Plan&);
template std::unique_ptr<Step> lower_movement<double>(const PlannedStep&, const Plan&);

}  // namespace ranvier::cpu
