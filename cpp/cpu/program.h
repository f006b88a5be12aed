// A plan lowered for the CPU, and the memory that one run of it borrows.
#pragma once

#include <atomic>
#include <chrono>
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

// Steps [first, last), of the first the given part, which the workers do without meeting.
struct Phase {
  std::size_t first, last;
  int part;
};

// What a run writes to besides parameters and gradients; runs at the same time have one each.
struct Workspace {
  std::vector<GatherTask> gathers;
  std::vector<Phase> phases;
  Buffer arena, scratch, shared;
  std::vector<Buffer> staging;   // by slot: converted or gathered inputs
  std::vector<std::byte*> base;  // by slot
  int workers = 0;               // how many scratch serves
};

// How many threads pay for so much work that each does apart: tiny networks run on one and never touch the team.
int threads_for(double flops);

// Whether the team pays for a short plan, told by trying. Where the cores lie and who else wants them decides, no
// system says it, and it changes: a training step of 2 million operations takes 25 us on one core, and on two of them
// 20 where they share a cluster (55 ns from one to the other), 54 where they do not (255 ns); one of 60 million takes
// 560, and 320 or 580. Every so many runs a few are timed on the team and a few alone, and the others go the faster
// way.
class TeamTrial {
 public:
  using Clock = std::chrono::steady_clock;
  struct Turn {
    bool team = true, timed = false;
  };

  // Not where there is no team, nor for work of a millisecond or more, beside which meeting costs nothing.
  static bool is_held(int threads, double flops) { return threads > 1 && flops < 1e8; }
  Turn next();
  void add(const Turn& turn, Clock::time_point start, double flops);
  // Unless alone is clearly faster: a team whose threads lost their processors takes as long, and gets them back.
  bool pays() const { return 0.9 * best_[1] <= best_[0]; }

 private:
  // A team that slept is awake after as many runs of 5 us as take 0.15 ms.
  static constexpr std::uint32_t kWake = 32, kTimed = 8, kCycle = 2048;
  std::atomic<std::uint32_t> runs_ = 0;
  std::atomic<double> best_[2] = {0, 0};  // seconds an operation, alone and on the team, of the timed runs
};

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

  int threads(std::int64_t rows) const;  // at most
  // A table of the steps for so many rows; with nanoseconds (one a step) also the measured time and rates.
  std::string print(const std::string& title, std::int64_t rows, const double* nanoseconds) const;
  std::string path(std::size_t step, std::int64_t rows) const;
  double bytes(std::size_t step, std::int64_t rows) const;       // operands read and written once
  bool barrier(std::size_t step, std::int64_t rows) const;       // whether the workers meet before it
  int barriers(std::int64_t rows) const;                         // those between steps: some meet within too
  const char* split(std::size_t step, std::int64_t rows) const;  // "rows", "own", or "any" where all meet around it
  // What a run borrows, and the packed weights.
  std::size_t peak_bytes(std::int64_t rows) const {
    return static_cast<std::size_t>(plan_.arena_bytes) + scratch_bytes_ * static_cast<std::size_t>(threads(rows)) +
           shared_bytes_ + packed_bytes_;
  }

 private:
  bool meets(std::int64_t rows) const;
  void find_phases(Workspace&, const Frame&, std::size_t first, std::size_t last, bool each_step) const;
  void run_phases(Workspace&, const Frame&, std::size_t first, std::size_t last, double* nanoseconds) const;

  Plan plan_;
  std::vector<std::unique_ptr<Step>> steps_;
  Buffer constants_;
  std::size_t scratch_bytes_ = 0;  // a worker
  std::size_t shared_bytes_ = 0, packed_bytes_ = 0;
  mutable std::atomic<Workspace*> spare_{nullptr};  // the first of the idle ones: one caller at a time needs no lock
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_;
  mutable TeamTrial trial_;
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
