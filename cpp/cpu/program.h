// A plan lowered for the CPU, and the memory that one run of it borrows.
#pragma once

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
  Buffer arena, scratch;
  std::vector<Buffer> staging;   // by slot: converted or gathered inputs
  std::vector<std::byte*> base;  // by slot
  int workers = 0;               // how many scratch serves
};

// How many threads pay for so much work: tiny networks run on one and never touch the team.
int threads_for(double flops);

class Program {
 public:
  explicit Program(Plan plan);

  const Plan& plan() const { return plan_; }
  std::unique_ptr<Workspace> borrow() const;
  void give_back(std::unique_ptr<Workspace>) const;
  // The memory behind a slot for converted inputs, made when first wanted.
  std::byte* staging(Workspace&, int slot, std::int64_t bytes) const;

  // Runs the workspace's gathers (where first is 0) and steps [first, last). The frame's slots must be bound;
  // nanoseconds (null: not wanted) gains the time of each step.
  void run(Workspace&, Frame, std::size_t first, std::size_t last, double* nanoseconds = nullptr) const;
  void run(Workspace& workspace, const Frame& frame) const { run(workspace, frame, 0, steps_.size()); }

  // A table of the steps for so many rows; with nanoseconds (one a step) also the measured time and rates.
  std::string print(const std::string& title, std::int64_t rows, const double* nanoseconds) const;
  const char* path(std::size_t step, std::int64_t rows) const { return steps_[step]->path(rows); }
  double bytes(std::size_t step, std::int64_t rows) const;  // operands read and written once
  std::size_t scratch_bytes() const { return scratch_bytes_; }

 private:
  Plan plan_;
  std::vector<std::unique_ptr<Step>> steps_;
  Buffer constants_;
  std::size_t scratch_bytes_ = 0;  // a worker
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_;
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
