// A network on the CPU: its parameters, gradients and optimiser state, its plans, and the runs that users ask for.
// Knows nothing of Python. Several threads may predict at once; what writes state runs alone.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "cpu/interface.h"
#include "cpu/program.h"
#include "cpu/store.h"

namespace ranvier::cpu {

struct Parameter {
  std::string name;
  std::shared_ptr<Store> store;
  std::size_t index;
};

struct OptimizerSettings {
  Optimizer rule;
  std::atomic<double> lr;                // may be set while a step runs
  Update numbers{};                      // the rule's own
  double clip_norm = 0, clip_value = 0;  // 0: none
  bool centered = false;
  double initial_accumulator = 0;

  Update at_step(std::int64_t step) const;
};
int slots_of(const OptimizerSettings&, bool used[3]);  // which of the three slots a rule has, and how many

// What train runs when gradients accumulate over batches is a purpose of its own.
enum class Purpose : std::uint8_t { infer, forward, train, accumulate, evaluate, update };
inline constexpr std::size_t kPurposes = 6;

class Network {
 public:
  Network(std::vector<Parameter> parameters, std::uint64_t seed);

  DType dtype() const { return dtype_; }
  void set_graph(Purpose, Graph);  // infer, forward, train or evaluate
  // RuntimeError where the purpose has no graph yet. A feed brings the one that it was checked by: where another thread
  // has set another graph since, the call that is given the feed is a RuntimeError.
  std::shared_ptr<const Interface> interface(Purpose) const;
  void set_optimizer(std::shared_ptr<const OptimizerSettings>, int accumulate_steps);
  void set_precision(Precision);  // of float32 products; highest until said
  void predict(const Feed&, std::int64_t rows, std::int64_t block, std::span<std::byte* const> outputs);
  // One batch: rows order[0..rows) of the feed (order null: from `first` on). Returns the loss. predictions (empty: not
  // wanted) receive the outputs, each row where it stands in the feed. last: an unfinished accumulation ends here.
  double train(const Feed&, std::int64_t first, std::int64_t rows, const std::int64_t* order,
               std::span<std::byte* const> predictions, bool last);
  double evaluate(const Feed&, std::int64_t first, std::int64_t rows, std::span<std::byte* const> predictions);

  void forward(const Feed&, std::int64_t rows, std::span<std::byte* const> outputs);  // keeps what backward needs
  // dx: for as many rows as dy has.
  void backward(const Interface&, std::span<const HostArray> dy, std::span<std::byte* const> dx);
  struct ValueGradient {
    Type type;
    std::int64_t rows;
    std::vector<std::byte> data;
  };
  ValueGradient value_gradient(ValueId);  // of a value of the forward graph, after backward

  void step();
  void zero_grad();
  std::byte* gradient(std::size_t i) const { return gradients_.data() + gradient_offsets_.at(i); }
  const Parameter& parameter(std::size_t i) const { return parameters_.at(i); }
  std::vector<Buffer*> slots();
  std::atomic<std::int64_t> training_step = 0;  // training batches run: the counter of dropout masks
  std::atomic<std::int64_t> updates = 0;        // optimiser steps done
  std::atomic<int> pending = 0;                 // batches whose gradients are summed, and wait for others

  // For up to so many rows; with checked (null: any) RuntimeError where the graph is not of this interface any more.
  // keep: for the runs to come, whose workspaces will have room for as many.
  std::shared_ptr<const Program> program(Purpose, std::int64_t rows, const Interface* checked = nullptr,
                                         bool keep = true);
  // Times each step of the train plan on copies of the state; returns the printed plan.
  std::string profile(const Feed&, std::int64_t rows, std::int64_t repeats);

 private:
  PlanRequest request(Purpose, std::int64_t capacity) const;
  void bind(const Program&, Workspace&, const Feed&, std::int64_t first, std::int64_t rows, const std::int64_t* order,
            bool own_inputs) const;
  Frame frame(std::int64_t rows) const;
  void prepare_update(double grad_scale);
  double run_batch(Purpose, const Feed&, std::int64_t first, const Frame&, const std::int64_t* order,
                   std::span<std::byte* const> predictions);
  void update(double grad_scale);

  std::vector<Parameter> parameters_;
  std::vector<std::shared_ptr<Store>> stores_;
  std::vector<Store*> lock_order_;  // by address
  std::vector<int> store_of_;       // by parameter
  std::vector<std::int64_t> gradient_offsets_;
  DType dtype_;
  std::uint64_t seed_;
  Buffer gradients_;

  std::shared_ptr<const OptimizerSettings> optimizer_;
  int accumulate_steps_ = 1;
  Buffer slots_[3];
  Buffer chunk_sums_;
  UpdateContext update_;

  mutable std::mutex plans_mutex_;
  Precision precision_ = Precision::highest;
  std::array<std::shared_ptr<const Interface>, kPurposes> interfaces_;
  std::array<std::shared_ptr<const Program>, kPurposes> plans_;

  std::mutex state_mutex_;  // gradients, slots, counters, tape
  std::shared_ptr<const Interface> tape_interface_;
  std::shared_ptr<const Program> tape_program_;
  std::unique_ptr<Workspace> tape_;
  std::int64_t tape_rows_ = 0;
  std::uint32_t tape_step_ = 0;
  bool tape_ready_ = false, tape_done_ = false;
};

}  // namespace ranvier::cpu
