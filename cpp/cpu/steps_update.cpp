#include <cmath>

#include "cpu/step.h"

namespace ranvier::cpu {
namespace {

// The optimiser over the flat parameters: one streaming pass over {gradient, parameter, slots}, shared out flat, or by
// parameter where nobody meets before it: each worker then updates what it has just made the gradients of. With
// clip_norm first the global norm, in double, chunk by chunk in order, so that it never depends on the share.
template <class T>
class UpdateStep final : public Step {
 public:
  UpdateStep(int first_store, bool barrier) : first_store_(first_store), barrier_(barrier) {}

  int parts(const Frame& f) const override { return f.update->clip_norm > 0 ? 2 : 1; }
  void run(const Frame& f, const Worker& w) const override {
    const UpdateContext& u = *f.update;
    Update numbers = u.numbers;
    if (u.clip_norm > 0) {
      if (w.part == 0) return sum_squares(f, w);
      // PyTorch's clip_grad_norm_: gradients times min(1, max_norm / (norm + 1e-6)).
      double squares = 0;
      for (std::int64_t c = 0; c < chunks(u); ++c) squares += u.chunk_sums[c];
      const double norm = std::abs(numbers.grad_scale) * std::sqrt(squares);
      const double clip = u.clip_norm / (norm + 1e-6);
      if (clip < 1) numbers.grad_scale *= clip;
    }
    if (w.count > 1 && !barrier_ && !f.meet) {
      for (const UpdateParameter& p : u.parameters) {
        const auto [rows, columns] = block_share(p.rows, p.columns, w);
        update(f, numbers, p, rows.begin * p.columns + columns.begin, rows.end - rows.begin,
               columns.end - columns.begin, p.columns);
      }
    } else {
      for (const UpdateRange& range : u.ranges) {
        const Range r = share(range.count, w.id, w.count, kUpdateGranule);
        update(f, numbers, range, r.begin, 1, r.end - r.begin, 0);
      }
    }
  }

 private:
  // rows of n elements, ld apart, from element `first` on of what lies at `place`.
  void update(const Frame& f, const Update& numbers, const auto& place, std::int64_t first, std::int64_t rows,
              std::int64_t n, std::int64_t ld) const {
    if (rows == 0 || n == 0) return;
    if (n == ld) n *= rows, rows = 1;
    const UpdateContext& u = *f.update;
    const std::int64_t skip = first * static_cast<std::int64_t>(sizeof(T)), at = place.gradient_offset + skip;
    T* slots[3];
    for (int k = 0; k < 3; ++k) slots[k] = u.slots[k] ? reinterpret_cast<T*>(u.slots[k] + at) : nullptr;
    kernels_.optimizer[static_cast<std::size_t>(u.rule)](
        rows, n, ld, numbers, f.at<const T>({Slots::gradients, at}),
        f.at<T>({first_store_ + place.store, place.store_offset + skip}), slots);
  }
  static std::int64_t chunks(const UpdateRange& range) { return (range.count + kSumChunk - 1) / kSumChunk; }
  static std::int64_t chunks(const UpdateContext& u) {
    std::int64_t total = 0;
    for (const UpdateRange& range : u.ranges) total += chunks(range);
    return total;
  }
  void sum_squares(const Frame& f, const Worker& w) const {
    const UpdateContext& u = *f.update;
    std::int64_t first = 0;
    for (const UpdateRange& range : u.ranges) {
      const T* g = f.at<const T>({Slots::gradients, range.gradient_offset});
      const Range r = share(chunks(range), w.id, w.count);
      for (std::int64_t c = r.begin; c < r.end; ++c) {
        const std::int64_t n = std::min(kSumChunk, range.count - c * kSumChunk);
        u.chunk_sums[first + c] = kernels_.sum_of_squares(n, g + c * kSumChunk);
      }
      first += chunks(range);
    }
  }

  const Kernels<T>& kernels_ = kernels<T>();
  int first_store_;  // slot
  bool barrier_;     // before it
};

}  // namespace

template <class T>
std::unique_ptr<Step> lower_update(const PlannedStep& s, const Plan& plan) {
  return s.node.op->name == "update" ? std::make_unique<UpdateStep<T>>(plan.slots.store, s.barrier) : nullptr;
}

template std::unique_ptr<Step> lower_update<float>(const PlannedStep&, const Plan&);
template std::unique_ptr<Step> lower_update<double>(const PlannedStep&, const Plan&);

}  // namespace ranvier::cpu
