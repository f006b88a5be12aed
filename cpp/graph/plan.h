// A graph made ready to run: steps in order, every value at its place, barriers where a split changes.
// Immutable; made for a row capacity, run for any number of rows up to it.
#pragma once

#include <string>
#include <vector>

#include "core/dtype.h"
#include "graph/graph.h"
#include "ops/kinds.h"

namespace ranvier {

// Where a value lies: a slot is a base pointer that the caller binds for each run.
struct Location {
  int slot = 0;
  std::int64_t offset = 0;  // bytes
};

// Slots in their order: three fixed ones, then as many of each kind as the graph and the network have.
struct Slots {
  static constexpr int arena = 0, constants = 1, gradients = 2;
  int x = 3, target = 3, weight = 3, doutput = 3, store = 3, output = 3, count = 3;
};

struct PlannedStep {
  Node node;
  bool rows = false;     // each worker does its share of the rows; else the step shares out its work in its own way
  bool barrier = false;  // all workers meet before it
  std::vector<Location> inputs, outputs;
  std::vector<Type> input_types, output_types;
  double flops = 0;
  bool per_row = false;  // flops are of one row

  double flops_of(std::int64_t rows) const { return per_row ? flops * static_cast<double>(rows) : flops; }
};

enum class GradientMode : std::uint8_t { none, overwrite, accumulate };

struct ParameterPlace {
  int store = 0;
  std::int64_t offset = 0;           // bytes in the store
  std::int64_t gradient_offset = 0;  // bytes in the flat gradient
};

struct PlanRequest {
  DType dtype = DType::f32;
  Precision precision = Precision::highest;
  std::int64_t capacity = 1;  // rows
  std::vector<ParameterPlace> parameters;
  int stores = 1;
  GradientMode gradients = GradientMode::none;
  bool outputs_in_place = false;  // outputs are the caller's memory, else the arena's
  bool explicit_steps = false;    // forward and backward run apart; every gradient stays readable until the next run
  bool update = false;            // the optimiser's step comes last
  std::int64_t update_count = 0;  // its parameters
  int update_slots = 0;           // and its arrays of state
};

struct Plan {
  PlanRequest request;
  Slots slots;
  std::vector<PlannedStep> steps;
  std::size_t backward_begin = 0;  // explicit_steps: the first step of the backward pass
  std::vector<std::vector<double>> constants;
  std::vector<std::int64_t> constant_offsets;  // bytes
  std::int64_t constant_bytes = 0;
  std::int64_t arena_bytes = 0;
  std::vector<Location> outputs, dx;  // dx: slot -1 where nothing flows back
  std::vector<Location> dvalues;      // explicit_steps: the gradient of each value of the graph (slot -1: none)
  std::vector<Type> value_types;
  Location loss{-1, 0};
  double flops_per_row = 0, flops_fixed = 0;
  int barriers = 0;

  double flops(std::int64_t rows) const { return flops_per_row * static_cast<double>(rows) + flops_fixed; }
};

// Of a value of so many rows; ValueError where no memory can hold it.
std::int64_t bytes_of(const Type&, DType, std::int64_t rows);

// Operations that an optimiser's step counts as: a dozen a parameter, which is Adam's number; the others take fewer.
inline double update_flops(std::int64_t parameters) { return 12. * static_cast<double>(parameters); }

// Takes a graph of the forward pass (and loss); differentiates, fuses, orders and places it as the request says.
Plan make_plan(Graph, const PlanRequest&);

}  // namespace ranvier
