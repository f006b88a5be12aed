// One step of a plan, lowered for the CPU: geometry decided once, the number of rows at run time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/team.h"
#include "cpu/kernels.h"
#include "graph/plan.h"

namespace ranvier::cpu {

// Rows are shared out in blocks of this many, so that two workers seldom write one cache line and every product keeps
// full tiles; all row-split steps cut alike, which is why they need no barrier between them.
inline constexpr std::int64_t kRowGranule = 8;
// Flat work is cut at multiples of a cache line of floats.
inline constexpr std::int64_t kFlatGranule = 16;
// Parameters at a page of floats: two workers never write one.
inline constexpr std::int64_t kUpdateGranule = 1024;

// A stretch of parameters that lies contiguously in a store and in the flat gradient.
struct UpdateRange {
  int store;
  std::int64_t store_offset, gradient_offset;  // bytes
  std::int64_t count;                          // elements, padding between neighbours included
};

// One of the parameters; rows is 1 but for a matrix.
struct UpdateParameter {
  int store;
  std::int64_t store_offset, gradient_offset;  // bytes
  std::int64_t rows, columns;
};

// What the optimiser's step reads besides the slots.
struct UpdateContext {
  Optimizer rule;
  Update numbers;
  double clip_norm = 0;  // 0: none
  std::vector<UpdateRange> ranges;
  std::vector<UpdateParameter> parameters;
  std::byte* slots[3] = {nullptr, nullptr, nullptr};  // flat, laid out as the gradient
  double* chunk_sums = nullptr;                       // one a kSumChunk of each range, for the norm
};

// One run: the bound slots and the run-time scalars.
struct Frame {
  std::byte* const* base;
  std::int64_t rows;
  std::byte* scratch;  // scratch_bytes a worker
  std::size_t scratch_bytes;
  std::uint64_t seed;
  std::uint32_t training_step;
  const UpdateContext* update;
  int threads = 1;                    // that the run was planned for; it may get fewer
  bool meet = true;                   // all workers meet before and after each step, so that it may split as suits it
  std::byte* shared = nullptr;        // scratch of all workers together
  const std::byte* packed = nullptr;  // the weights that steps keep packed; null: not packed

  template <class T>
  T* at(const Location& place) const {
    std::byte* slot = base[place.slot];
    return slot ? reinterpret_cast<T*>(slot + place.offset) : nullptr;
  }
  template <class T>
  T* scratch_of(const Worker& worker) const {
    return reinterpret_cast<T*>(scratch + scratch_bytes * static_cast<std::size_t>(worker.id));
  }
};

class Step {
 public:
  virtual ~Step() = default;
  // Does the share of this worker, of worker.part where the step has several. Must not throw.
  virtual void run(const Frame&, const Worker&) const = 0;
  // Parts that the workers do one after the other, all of one before any of the next.
  virtual int parts(const Frame&) const { return 1; }
  // Bytes of scratch that each worker needs for up to so many rows.
  virtual std::size_t scratch_bytes(std::int64_t /*capacity*/) const { return 0; }
  // Bytes of scratch that the workers share, for up to so many rows.
  virtual std::size_t shared_bytes(std::int64_t /*capacity*/) const { return 0; }
  // Bytes of weights that are kept in the form that the step reads fastest, and this worker's share of bringing them
  // there.
  virtual std::size_t packed_bytes() const { return 0; }
  virtual void pack(const Frame&, const Worker&, std::byte* /*to*/) const {}
  std::size_t packed_offset = 0;  // in Frame::packed
  // Which way a product will go for so many rows, for the printed plan.
  virtual std::string path(std::int64_t /*rows*/, int /*threads*/, bool /*meet*/) const { return ""; }
};

// Chooses kernels and geometry for a planned step.
std::unique_ptr<Step> lower(const PlannedStep&, const Plan&);

// One lowering a family; null where the op belongs to another.
template <class T>
std::unique_ptr<Step> lower_elementwise(const PlannedStep&, const Plan&);
template <class T>
std::unique_ptr<Step> lower_product(const PlannedStep&, const Plan&);
template <class T>
std::unique_ptr<Step> lower_movement(const PlannedStep&, const Plan&);
template <class T>
std::unique_ptr<Step> lower_reduction(const PlannedStep&, const Plan&);
template <class T>
std::unique_ptr<Step> lower_loss(const PlannedStep&, const Plan&);
template <class T>
std::unique_ptr<Step> lower_update(const PlannedStep&, const Plan&);

// --- shares, the same for every family

// This worker's samples (batched) of a row-split step.
inline Range row_share(std::int64_t rows, const Worker& worker) {
  return share(rows, worker.id, worker.count, kRowGranule);
}
// This worker's elements of a value of `count` elements a sample, or in all.
inline Range element_share(const Frame& frame, const Worker& worker, bool batched, std::int64_t count) {
  if (!batched) return share(count, worker.id, worker.count, kFlatGranule);
  const Range rows = row_share(frame.rows, worker);
  return {rows.begin * count, rows.end * count};
}
// This worker's lines (all axes but the last `inner` elements).
inline Range line_share(std::int64_t rows, const Worker& worker, bool batched, std::int64_t lines) {
  if (!batched) return share(lines, worker.id, worker.count, kRowGranule);
  const Range mine = row_share(rows, worker);
  return {mine.begin * lines, mine.end * lines};
}
inline Range line_share(const Frame& frame, const Worker& worker, bool batched, std::int64_t lines) {
  return line_share(frame.rows, worker, batched, lines);
}

struct Block {
  Range rows, columns;
};
// This worker's block of a matrix (M, N) that is a product: a part of its longer side reads and packs the least. A
// worker updates the part of a weight whose gradient it makes.
inline Block block_share(std::int64_t M, std::int64_t N, const Worker& worker, std::int64_t granule = kFlatGranule) {
  if (M >= N && M > kRowGranule) return {share(M, worker.id, worker.count, kRowGranule), {0, N}};
  return {{0, M}, share(N, worker.id, worker.count, granule)};
}

}  // namespace ranvier::cpu
