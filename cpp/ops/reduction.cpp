#include "ops/op.h"

namespace ranvier {
namespace {

// --- sum and mean over the neighbouring axes [axis_begin, axis_end) of the full shape.
std::vector<Type> reduce_shape(const Call& call) {
  const Type& x = call.inputs[0];
  const std::int64_t begin = call.attributes.integer("axis_begin", 0),
                     end = call.attributes.integer("axis_end", x.rank());
  if (begin < 0 || begin >= end || end > x.rank()) {
    call.fail("axes ", begin, " to ", end, " are not axes of ", to_string(x));
  }
  const bool over_batch = x.batched && begin == 0, keep = call.attributes.flag("keepdims");
  if (over_batch && (keep || call.op.name == "mean")) call.fail("cannot reduce over the batch axis");
  Type out{x.batched && !over_batch, {}};
  for (int i = x.batched; i < x.rank(); ++i) {
    const bool reduced = i >= begin && i < end;
    if (!reduced) out.dims.push_back(x.dims[i - x.batched]);
    if (reduced && keep) out.dims.push_back(1);
  }
  return {out};
}

std::vector<ValueId> reduce_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  const Type x = g.type(node.inputs[0]);
  const std::int64_t begin = node.attributes.integer("axis_begin", 0),
                     end = node.attributes.integer("axis_end", x.rank());
  Dims kept = x.dims;
  std::int64_t count = 1;
  for (std::int64_t i = begin; i < end; ++i) {
    count *= kept[i - x.batched];
    kept[i - x.batched] = 1;
  }
  ValueId d = g.apply("reshape", {dy[0]}, node, {{"shape", kept}});
  if (node.op->name == "mean") d = g.apply("divide", {d, g.scalar(static_cast<double>(count))}, node);
  return {g.apply("broadcast_to", {d}, node, {{"shape", x.dims}})};
}

double input_cost(const Call& call, std::span<const Type>) { return static_cast<double>(call.inputs[0].count()); }

// --- softmax and log_softmax over the last axis.
std::vector<Type> softmax_shape(const Call& call) {
  for (const Type& t : call.inputs) {
    if (t != call.inputs[0]) call.fail("shapes ", to_string(call.inputs[0]), " and ", to_string(t), " differ");
  }
  if (call.inputs[0].dims.empty()) call.fail("expected an axis of classes, got ", to_string(call.inputs[0]));
  return {call.inputs[0]};
}

std::vector<ValueId> softmax_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  return {g.apply(node.op->name + "_backward", {dy[0], node.outputs[0]}, node)};
}

double softmax_cost(const Call& call, std::span<const Type>) {
  return 25. * static_cast<double>(call.inputs[0].count());
}

}  // namespace

void add_reduction_ops(OpList& ops) {
  ops.push_back({"sum", 1, 1, reduce_shape, reduce_gradient, input_cost});
  ops.push_back({"mean", 1, 1, reduce_shape, reduce_gradient, input_cost});
  ops.push_back({"softmax", 1, 1, softmax_shape, softmax_gradient, softmax_cost});
  ops.push_back({"log_softmax", 1, 1, softmax_shape, softmax_gradient, softmax_cost});
  ops.push_back({"softmax_backward", 2, 2, softmax_shape, nullptr, softmax_cost});
  ops.push_back({"log_softmax_backward", 2, 2, softmax_shape, nullptr, softmax_cost});
}

}  // namespace ranvier
