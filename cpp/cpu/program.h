// A plan lowered for the CPU, and the memory that one run of it borrows.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "cpu/host_array.h"
#include "cpu/step.h"

namespace ranvier::cpu {

// Rows of an input that are converted or put in order before the first step.
struct GatherTask {
  HostArray from;
  const std::int64_t* order;  // null: as they stand
  std::byte* to;
};

// What a run writes to besides parameters and gradients; runs at the same time have one each.
struct Workspace {
  std::vector<GatherTask> gathers;
  Buffer arena, scratch, shared;
  std::vector<Buffer> staging;   // by slot: converted or gathered inputs
  std::vector<std::byte*> base;  // by slot
  int workers = 0;               // how many scratch serves
};

// How many threads pay for so much work: tiny networks run on one and never touch the team.
int threads_for(double flops);

class Program {
 public:
  explicit Program(Plan plan);
  ~Program() { delete spare_.load(); }

  const Plan& plan() const { return plan_; }
  std::unique_ptr<Workspace> borrow() const;
  void give_back(std::unique_ptr<Workspace>) const;
  // The memory behind a slot for converted inputs, made when first wanted.
  std::byte* staging(Workspace&, int slot, std::int64_t bytes) const;

  // Brings the weights that steps keep packed to this version of the parameters, which nobody writes meanwhile; the
  // runs of the frame then use them. In float32, where a packed product has the same bits, only at a version's second
  // run: after each update of a network that is asked one row at a time, packing would cost more than it saves.
  void pack_weights(Workspace&, Frame&, std::uint64_t version) const;
  // Runs the workspace's gathers (where first is 0) and steps [first, last). The frame's slots must be bound;
  // nanoseconds (null: not wanted) gains the time of each step.
  void run(Workspace&, Frame, std::size_t first, std::size_t last, double* nanoseconds = nullptr) const;
  void run(Workspace& workspace, const Frame& frame) const { run(workspace, frame, 0, steps_.size()); }

  // A table of the steps for so many rows; with nanoseconds (one a step) also the measured time and rates.
  std::string print(const std::string& title, std::int64_t rows, const double* nanoseconds) const;
  std::string path(std::size_t step, std::int64_t rows) const;
  double bytes(std::size_t step, std::int64_t rows) const;  // operands read and written once
  std::size_t scratch_bytes() const { return scratch_bytes_ + shared_bytes_ + packed_bytes_; }

 private:
  bool meets(std::int64_t rows) const;

  Plan plan_;
  std::vector<std::unique_ptr<Step>> steps_;
  Buffer constants_;
  std::size_t scratch_bytes_ = 0;  // a worker
  std::size_t shared_bytes_ = 0, packed_bytes_ = 0;
  mutable std::atomic<Workspace*> spare_{nullptr};  // the first of the idle ones: one caller at a time needs no lock
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_;
  mutable std::mutex pack_mutex_;
  mutable Buffer packed_;
  mutable std::atomic<std::uint64_t> packed_version_ = kNever;
  mutable std::uint64_t seen_version_ = kNever;
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};
};

// A workspace for a scope.
class Borrowed {
 public:
  explicit Borrowed(const Program& program) : program_(program), workspace_(program.borrow()) {}
  ~Borrowed() { program_.give_back(std::move(workspace_)); }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  Workspace& operator*() const { return *workspace_; }
  Workspace* operator->() const { return workspace_.get(); }

 private:
  const Program& program_;
  std::unique_ptr<Workspace> workspace_;
};

}  // namespace ranvier::cpu
