// Operations on arrays, now: a plan of a single step whose slots are the caller's memory.
#pragma once

#include "bindings/arrays.h"
#include "cpu/program.h"

namespace ranvier::bindings {

struct Prepared {
  const cpu::Table* table;
  PlannedStep step;  // inputs' slots, then outputs'
  DType dtype;
  std::unique_ptr<cpu::Step> lowered;  // null: the output is the input under another shape
  double flops = 0;
  std::size_t scratch_bytes = 0;
  std::size_t shared_bytes = 0;  // of all workers together
};

// An input: its memory, and the shape that the operation sees.
struct Operand {
  std::byte* data = nullptr;
  Kind kind = Kind::real;
  Shape shape;
};

// Checks the shapes and lowers. Loops call one operation on one shape again and again: the last ones are kept.
// Needs the GIL.
std::shared_ptr<const Prepared> prepare(const Op&, const Attributes&, DType, std::span<const Operand> inputs);

void execute(const Prepared&, std::span<const Operand> inputs, std::span<std::byte* const> outputs);

}  // namespace ranvier::bindings
