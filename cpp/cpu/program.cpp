#include "cpu/program.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <limits>

namespace ranvier::cpu {

template <class T>
static std::unique_ptr<Step> lower_as(const PlannedStep& step, const Plan& plan) {
  for (const auto family : {lower_elementwise<T>, lower_product<T>, lower_movement<T>, lower_reduction<T>,
                            lower_loss<T>, lower_update<T>}) {
    if (std::unique_ptr<Step> lowered = family(step, plan)) return lowered;
  }
  throw std::runtime_error(concat(step.node.op->name, ": the CPU has no step for it"));
}

std::unique_ptr<Step> lower(const PlannedStep& step, const Plan& plan) {
  return plan.request.dtype == DType::f64 ? lower_as<double>(step, plan) : lower_as<float>(step, plan);
}

Program::Program(Plan plan) : plan_(std::move(plan)), constants_(static_cast<std::size_t>(plan_.constant_bytes)) {
  for (std::size_t c = 0; c < plan_.constants.size(); ++c) {
    const std::vector<double>& values = plan_.constants[c];
    std::byte* to = constants_.data() + plan_.constant_offsets[c];
    if (plan_.request.dtype == DType::f64) {
      std::copy(values.begin(), values.end(), reinterpret_cast<double*>(to));
    } else {
      std::transform(values.begin(), values.end(), reinterpret_cast<float*>(to),
                     [](double v) { return static_cast<float>(v); });
    }
  }
  for (const PlannedStep& step : plan_.steps) {
    steps_.push_back(lower(step, plan_));
    Step& lowered = *steps_.back();
    scratch_bytes_ = std::max(scratch_bytes_, lowered.scratch_bytes(plan_.request.capacity));
    shared_bytes_ = std::max(shared_bytes_, lowered.shared_bytes(plan_.request.capacity));
    lowered.packed_offset = packed_bytes_;
    packed_bytes_ += align_up(lowered.packed_bytes());
  }
  scratch_bytes_ = align_up(scratch_bytes_);
}

int threads_for(double flops) {
  // 5 us of one core: a team costs 0.3 us where it is awake, and nobody waits for it where it sleeps.
  constexpr double kFlopsPerThread = 2.5e5;
  const double pay = flops / kFlopsPerThread;
  if (pay < 2) return 1;
  return std::min(num_threads(), static_cast<int>(std::min(pay, 1e6)));
}

int Program::threads(std::int64_t rows) const {
  // Threads that read what the others wrote gain less, each further one the least.
  constexpr double kExchanging = 2e6;
  const double flops = plan_.flops(rows);
  const int most = threads_for(flops);
  if (most == 1 || (plan_.barriers == 0 && !meets(rows))) return most;
  return std::min(most, std::max(2, static_cast<int>(std::min(flops / kExchanging, 1e6))));
}

TeamTrial::Turn TeamTrial::next() {
  const std::uint32_t turn = runs_.fetch_add(1, std::memory_order_relaxed) % kCycle;
  if (turn == 0) best_[0] = best_[1] = std::numeric_limits<double>::infinity();
  if (turn < kWake + kTimed) return {true, turn >= kWake};
  if (turn < kWake + 2 * kTimed) return {false, true};
  return {pays(), false};
}

void TeamTrial::add(const Turn& turn, Clock::time_point start, double flops) {
  const double cost = std::chrono::duration<double>(Clock::now() - start).count() / flops;
  std::atomic<double>& best = best_[turn.team];
  if (cost < best) best = cost;  // callers at the same time may lose one
}

// Where the workers meet between any two steps, each step splits as suits it. Few rows are one block of a row split;
// steps that pack together must meet anyway; and where steps are long, meeting costs nothing.
bool Program::meets(std::int64_t rows) const {
  constexpr double kLongPlan = 1e9;
  const bool packs_together = plan_.request.precision != Precision::highest && shared_bytes_ > 0;
  return rows <= kRowGranule || packs_together || plan_.flops(rows) > kLongPlan;
}

std::string Program::path(std::size_t step, std::int64_t rows) const {
  return steps_[step]->path(rows, threads(rows), meets(rows));
}

std::unique_ptr<Workspace> Program::borrow() const {
  if (Workspace* spare = spare_.exchange(nullptr, std::memory_order_acquire)) return std::unique_ptr<Workspace>(spare);
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Workspace> workspace = std::move(idle_.back());
      idle_.pop_back();
      return workspace;
    }
  }
  auto workspace = std::make_unique<Workspace>();
  workspace->arena = Buffer(static_cast<std::size_t>(plan_.arena_bytes));
  workspace->base.assign(static_cast<std::size_t>(plan_.slots.count), nullptr);
  workspace->staging.resize(static_cast<std::size_t>(plan_.slots.count));
  workspace->base[Slots::arena] = workspace->arena.data();
  workspace->base[Slots::constants] = constants_.data();
  return workspace;
}

void Program::give_back(std::unique_ptr<Workspace> workspace) const {
  workspace.reset(spare_.exchange(workspace.release(), std::memory_order_acq_rel));
  if (!workspace) return;
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(workspace));
}

std::byte* Program::staging(Workspace& workspace, int slot, std::int64_t bytes) const {
  Buffer& buffer = workspace.staging[static_cast<std::size_t>(slot)];
  if (buffer.size() < static_cast<std::size_t>(bytes)) buffer = Buffer(static_cast<std::size_t>(bytes));
  return buffer.data();
}

static void gather_rows(const Workspace& workspace, const Frame& frame, const Worker& worker, DType dtype) {
  const Range r = row_share(frame.rows, worker);
  for (const GatherTask& task : workspace.gathers) {
    HostArray from = task.from;
    if (!task.order) from.data += r.begin * from.width * static_cast<std::int64_t>(size_of(from.element));
    std::byte* to = task.to + r.begin * from.width * static_cast<std::int64_t>(ranvier::size_of(dtype));
    gather(from, task.order ? task.order + r.begin : nullptr, r.end - r.begin, dtype, to);
  }
}

void Program::pack_weights(Workspace& workspace, Frame& frame, std::uint64_t version) const {
  if (packed_bytes_ == 0) return;
  if (packed_version_.load(std::memory_order_acquire) != version) {
    const std::lock_guard lock(pack_mutex_);
    if (packed_version_.load(std::memory_order_relaxed) != version) {
      const bool first = std::exchange(seen_version_, version) != version;
      if (first && plan_.request.precision == Precision::highest) return;
      if (packed_.size() == 0) packed_ = Buffer(packed_bytes_);
      frame.base = workspace.base.data();
      parallel(threads_for(static_cast<double>(packed_bytes_)), [&](const Worker& worker) {
        for (const auto& step : steps_) step->pack(frame, worker, packed_.data() + step->packed_offset);
      });
      packed_version_.store(version, std::memory_order_release);
    }
  }
  frame.packed = packed_.data();
}

void Program::find_phases(Workspace& workspace, const Frame& frame, std::size_t first, std::size_t last,
                          bool each_step) const {
  std::vector<Phase>& phases = workspace.phases;
  phases.clear();
  if (first == 0 && !workspace.gathers.empty()) phases.push_back({first, first, 0});
  for (std::size_t i = first; i < last; ++i) {
    const int parts = steps_[i]->parts(frame);
    const bool meet = frame.threads > 1 && (frame.meet || plan_.steps[i].barrier);
    if (phases.empty() || meet || each_step || parts > 1 || phases.back().part > 0) {
      for (int part = 0; part < parts; ++part) phases.push_back({i, i + 1, part});
    } else {
      phases.back().last = i + 1;
    }
  }
}

void Program::run(Workspace& workspace, Frame frame, std::size_t first, std::size_t last, double* nanoseconds) const {
  int threads = this->threads(frame.rows);
  const double flops = plan_.flops(frame.rows);
  TeamTrial::Turn turn;
  if (TeamTrial::is_held(threads, flops) && !nanoseconds)
    turn = first == 0 ? trial_.next() : TeamTrial::Turn{trial_.pays(), false};
  const TeamTrial::Clock::time_point start = turn.timed ? TeamTrial::Clock::now() : TeamTrial::Clock::time_point();
  if (!turn.team) threads = 1;
  if (scratch_bytes_ > 0 && workspace.workers < threads) {
    workspace.scratch = Buffer(scratch_bytes_ * static_cast<std::size_t>(threads));
    workspace.workers = threads;
  }
  if (workspace.shared.size() < shared_bytes_) workspace.shared = Buffer(shared_bytes_);
  frame.base = workspace.base.data();
  frame.threads = threads;
  frame.meet = meets(frame.rows);
  frame.shared = workspace.shared.data();
  frame.scratch = workspace.scratch.data();
  frame.scratch_bytes = scratch_bytes_;
  if (threads == 1 && !nanoseconds) {  // nobody to meet
    const FlushSubnormals flush;
    if (first == 0) gather_rows(workspace, frame, {}, plan_.request.dtype);
    for (std::size_t i = first; i < last; ++i) {
      const int parts = steps_[i]->parts(frame);
      for (int part = 0; part < parts; ++part) steps_[i]->run(frame, {0, 1, part});
    }
  } else {
    run_phases(workspace, frame, first, last, nanoseconds);
  }
  workspace.gathers.clear();  // what they read is the caller's, for this call only
  if (turn.timed) trial_.add(turn, start, flops);
}

void Program::run_phases(Workspace& workspace, const Frame& frame, std::size_t first, std::size_t last,
                         double* nanoseconds) const {
  find_phases(workspace, frame, first, last, nanoseconds != nullptr);
  using Clock = std::chrono::steady_clock;
  Clock::time_point start;
  const auto charge = [&](const Phase& phase) {
    const Clock::time_point now = Clock::now();
    if (phase.first < phase.last)
      nanoseconds[phase.first] += std::chrono::duration<double, std::nano>(now - start).count();
    start = now;
  };
  const std::vector<Phase>& phases = workspace.phases;
  parallel(frame.threads, static_cast<int>(phases.size()), [&](int n, const Worker& worker) {
    const Phase& phase = phases[static_cast<std::size_t>(n)];
    if (nanoseconds && worker.id == 0) charge(n > 0 ? phases[static_cast<std::size_t>(n) - 1] : Phase{});
    if (n == 0 && first == 0) gather_rows(workspace, frame, worker, plan_.request.dtype);
    for (std::size_t i = phase.first; i < phase.last; ++i) steps_[i]->run(frame, {worker.id, worker.count, phase.part});
  });
  if (nanoseconds && !phases.empty()) charge(phases.back());
}

double Program::bytes(std::size_t i, std::int64_t rows) const {
  const PlannedStep& step = plan_.steps[i];
  double bytes = 0;
  for (const auto* types : {&step.input_types, &step.output_types})
    for (const Type& t : *types) bytes += static_cast<double>(bytes_of(t, plan_.request.dtype, rows));
  return bytes;
}

bool Program::barrier(std::size_t i, std::int64_t rows) const {
  return threads(rows) > 1 && i > 0 && (meets(rows) || plan_.steps[i].barrier);
}

int Program::barriers(std::int64_t rows) const {
  int count = 0;
  for (std::size_t i = 0; i < plan_.steps.size(); ++i) count += barrier(i, rows);
  return count;
}

const char* Program::split(std::size_t i, std::int64_t rows) const {
  return !plan_.steps[i].rows ? "own" : threads(rows) > 1 && meets(rows) ? "any" : "rows";
}

namespace {

std::string row_of(const std::vector<std::string>& cells, const std::vector<std::size_t>& widths) {
  std::string line;
  for (std::size_t c = 0; c < cells.size(); ++c) {
    line += cells[c];
    if (c + 1 < cells.size()) line += std::string(widths[c] - cells[c].size() + 2, ' ');
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line + "\n";
}

std::string number(double value, const char* format = "%.3g") {
  char text[32];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// A precision that this machine has no unit for runs as highest.
std::string_view runs_as(const PlanRequest& request) {
  const bool reduced = request.dtype == DType::f32 && bf16_unit(request.precision);
  return kPrecisionNames[static_cast<std::size_t>(reduced ? request.precision : Precision::highest)];
}

}  // namespace

std::string Program::print(const std::string& title, std::int64_t rows, const double* nanoseconds) const {
  const int threads = this->threads(rows), barriers = this->barriers(rows);
  std::vector<std::vector<std::string>> lines{
      {"step", "layer", "shapes", "split", "barrier", "path", "flops", "bytes"}};
  if (nanoseconds) lines[0].insert(lines[0].end(), {"us", "GFLOP/s", "GB/s"});
  double total = 0;
  for (std::size_t i = 0; i < plan_.steps.size(); ++i) {
    const PlannedStep& s = plan_.steps[i];
    std::string name = s.node.op->name, shapes;
    if (s.node.attributes.has("activation")) name += " + " + s.node.attributes.text("activation", "");
    if (s.node.attributes.flag("bias")) name += " + db";
    if (s.node.op->name == "dense" && s.node.inputs.size() > 2) name = "dense + bias" + name.substr(5);
    const bool update = name == "update";  // its operands are the flat parameters and their like
    if (update) shapes = to_string(s.input_types[0]);
    for (const Type& t : s.input_types) shapes += update ? "" : to_string(t) + " ";
    for (const Type& t : s.output_types)
      shapes += update ? "" : (&t == s.output_types.data() ? "-> " : " ") + to_string(t);
    const double flops = s.flops_of(rows), moved = bytes(i, rows);
    lines.push_back({name, s.node.scope, shapes, split(i, rows), barrier(i, rows) ? "barrier" : "", path(i, rows),
                     number(flops), number(moved)});
    if (nanoseconds) {
      const double ns = std::max(nanoseconds[i], 1e-3);
      total += ns;
      const std::vector<std::string> rates{number(ns / 1e3), number(flops / ns), number(moved / ns)};
      lines.back().insert(lines.back().end(), rates.begin(), rates.end());
    }
  }
  std::vector<std::size_t> widths(lines[0].size());
  for (const auto& cells : lines) {
    for (std::size_t c = 0; c < cells.size(); ++c) widths[c] = std::max(widths[c], cells[c].size());
  }
  const bool either = !nanoseconds && TeamTrial::is_held(threads, plan_.flops(rows));
  std::string text = concat(title, ", ", rows, rows == 1 ? " row, " : " rows, ", name_of(plan_.request.dtype),
                            " (precision ", runs_as(plan_.request), "), ", table().isa, ", ", either ? "1 or " : "",
                            threads, threads == 1 ? " thread, " : " threads, ", barriers,
                            barriers == 1 ? " barrier" : " barriers", " between steps\n");
  for (const auto& cells : lines) text += row_of(cells, widths);
  text += concat("arena ", number(static_cast<double>(plan_.arena_bytes) / 1024, "%.1f"), " KiB for up to ",
                 plan_.request.capacity, " rows, scratch ", number(static_cast<double>(scratch_bytes_) / 1024, "%.1f"),
                 " KiB a thread, ",
                 shared_bytes_ + packed_bytes_ == 0
                     ? ""
                     : number(static_cast<double>(shared_bytes_ + packed_bytes_) / 1024, "%.1f") + " KiB shared, ",
                 number(plan_.flops(rows)), " flops");
  if (nanoseconds) text += concat(", ", number(total / 1e3), " us, ", number(plan_.flops(rows) / total), " GFLOP/s");
  return text + "\n";
}

}  // namespace ranvier::cpu
