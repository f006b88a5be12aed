#include "bindings/eager.h"

#include <array>
#include <cstring>

namespace ranvier::bindings {
namespace {

std::size_t hash_of(const Op& op, DType dtype, std::span<const Operand> inputs) {
  std::size_t hash = reinterpret_cast<std::size_t>(&op) / sizeof(Op) + static_cast<std::size_t>(dtype);
  for (const Operand& input : inputs) {
    for (const std::int64_t d : input.shape) hash = hash * 31 + static_cast<std::size_t>(d);
  }
  return hash;
}

bool is_for(const Prepared& prepared, const Op& op, const Attributes& attributes, DType dtype,
            std::span<const Operand> inputs) {
  const PlannedStep& step = prepared.step;
  return step.node.op == &op && prepared.table == &cpu::table() && prepared.dtype == dtype &&
         std::equal(inputs.begin(), inputs.end(), step.input_types.begin(), step.input_types.end(),
                    [](const Operand& o, const Type& t) { return o.kind == t.kind && same(o.shape, t.dims); }) &&
         step.node.attributes == attributes;
}

}  // namespace

std::shared_ptr<const Prepared> prepare(const Op& op, const Attributes& attributes, DType dtype,
                                        std::span<const Operand> inputs) {
  // By hash, each place for the last two that came: a loss runs three operations on one shape.
  static std::array<std::array<std::shared_ptr<const Prepared>, 2>, 64> cache;
  auto& [recent, before] = cache[hash_of(op, dtype, inputs) % cache.size()];
  if (recent && is_for(*recent, op, attributes, dtype, inputs)) return recent;
  recent.swap(before);
  if (recent && is_for(*recent, op, attributes, dtype, inputs)) return recent;
  auto made = std::make_shared<Prepared>();
  made->table = &cpu::table();
  made->dtype = dtype;
  PlannedStep& step = made->step;
  step.node.op = &op;
  step.node.attributes = attributes;
  for (const Operand& input : inputs) step.input_types.push_back({false, dims_of(input.shape), input.kind});
  const Call call{op, step.node.attributes, step.input_types, step.node.scope};
  step.output_types = infer(call);
  int slot = Slots{}.count;
  for (std::size_t i = 0; i < step.input_types.size(); ++i) step.inputs.push_back({slot++, 0});
  for (std::size_t i = 0; i < step.output_types.size(); ++i) step.outputs.push_back({slot++, 0});
  made->flops = cost_of(call, step.output_types);
  if (!op.alias) {
    Plan plan;
    plan.request.dtype = dtype;
    made->lowered = cpu::lower(step, plan);
    made->scratch_bytes = align_up(made->lowered->scratch_bytes(1));
    made->shared_bytes = made->lowered->shared_bytes(1);
  }
  return recent = std::move(made);
}

void execute(const Prepared& prepared, std::span<const Operand> inputs, std::span<std::byte* const> outputs) {
  if (!prepared.lowered) {
    const std::size_t bytes = static_cast<std::size_t>(prepared.step.output_types[0].count()) * size_of(prepared.dtype);
    if (bytes > 0) std::memcpy(outputs[0], inputs[0].data, bytes);
    return;
  }
  List<std::byte*, 12> base(static_cast<std::size_t>(Slots{}.count) + inputs.size() + outputs.size());
  std::byte** slot = std::fill_n(base.data(), Slots{}.count, nullptr);
  for (const Operand& input : inputs) *slot++ = input.data;
  std::copy(outputs.begin(), outputs.end(), slot);
  const int threads = cpu::threads_for(prepared.flops);
  const Buffer scratch(prepared.scratch_bytes * static_cast<std::size_t>(threads));
  cpu::Frame frame{base.data(), 1, scratch.data(), prepared.scratch_bytes, 0, 0, nullptr};
  const Buffer shared(prepared.shared_bytes);
  frame.shared = shared.data();
  frame.threads = threads;
  parallel(threads, prepared.lowered->parts(frame),
           [&](int part, const Worker& worker) { prepared.lowered->run(frame, {worker.id, worker.count, part}); });
}

}  // namespace ranvier::bindings
