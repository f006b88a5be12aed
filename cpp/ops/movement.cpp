#include <numeric>

#include "ops/op.h"

namespace ranvier {
namespace {

// --- reshape: shape is that of one sample where the input is batched.
std::vector<Type> reshape_shape(const Call& call) {
  const Type& x = call.inputs[0];
  const Type out{x.batched, call.attributes.integers("shape")};
  if (out.count() != x.count()) call.fail("cannot reshape ", to_string(x), " to ", to_string(out));
  return {out};
}

std::vector<ValueId> reshape_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  return {g.apply("reshape", {dy[0]}, node, {{"shape", g.type(node.inputs[0]).dims}})};
}

// --- transpose: axes of the full shape; a batch axis stays first.
std::vector<Type> transpose_shape(const Call& call) {
  const Type& x = call.inputs[0];
  const Dims axes = call.attributes.integers("axes");
  std::vector<bool> seen(x.rank());
  bool ok = static_cast<int>(axes.size()) == x.rank() && (!x.batched || axes[0] == 0);
  for (const std::int64_t axis : axes) {
    ok = ok && axis >= 0 && axis < x.rank() && !seen[axis];
    if (ok) seen[axis] = true;
  }
  if (!ok)
    call.fail("axes ", to_string(axes), " do not permute ", to_string(x), x.batched ? " with the batch first" : "");
  Type out{x.batched, {}};
  for (std::size_t i = x.batched; i < axes.size(); ++i) out.dims.push_back(x.dims[axes[i] - x.batched]);
  return {out};
}

std::vector<ValueId> transpose_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  const Dims axes = node.attributes.integers("axes");
  Dims inverse(axes.size());
  for (std::size_t i = 0; i < axes.size(); ++i) inverse[axes[i]] = static_cast<std::int64_t>(i);
  return {g.apply("transpose", {dy[0]}, node, {{"axes", inverse}})};
}

// --- slice: starts, stops, steps for each axis of the full shape (the entries of a batch axis are not read).
std::vector<Type> slice_shape(const Call& call) {
  const Type& x = call.inputs[0];
  const Dims starts = call.attributes.integers("starts"), stops = call.attributes.integers("stops"),
             steps = call.attributes.integers("steps");
  const auto rank = static_cast<std::size_t>(x.rank());
  if (starts.size() != rank || stops.size() != rank || steps.size() != rank) {
    call.fail("expected a start, stop and step for each of ", rank, " axes");
  }
  Type out{x.batched, {}};
  for (std::size_t i = x.batched; i < rank; ++i) {
    const std::int64_t size = x.dims[i - x.batched];
    if (starts[i] < 0 || stops[i] < starts[i] || stops[i] > size || steps[i] < 1) {
      call.fail("slice ", starts[i], ":", stops[i], ":", steps[i], " leaves axis ", i, " of ", to_string(x));
    }
    // Not (stop - start + step - 1) / step: a step may be as large as an integer is.
    out.dims.push_back(stops[i] == starts[i] ? 0 : (stops[i] - starts[i] - 1) / steps[i] + 1);
  }
  return {out};
}

std::vector<ValueId> slice_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  Attributes attributes = node.attributes;
  attributes.set("shape", g.type(node.inputs[0]).dims);
  return {g.apply("slice_backward", {dy[0]}, node, attributes)};
}

// dx, zero but where the slice was: shape is that of one sample of x.
std::vector<Type> slice_backward_shape(const Call& call) {
  return {{call.inputs[0].batched, call.attributes.integers("shape")}};
}

// --- concatenate along an axis of the full shape.
std::int64_t concatenate_axis(const Call& call) {
  const Type& first = call.inputs[0];
  const std::int64_t axis = call.attributes.integer("axis", first.batched);
  if (axis < first.batched || axis >= first.rank()) {
    call.fail("axis ", axis, " is not an axis of ", to_string(first), first.batched ? " behind the batch" : "");
  }
  return axis - first.batched;
}

std::vector<Type> concatenate_shape(const Call& call) {
  Type out = call.inputs[0];
  const std::int64_t axis = concatenate_axis(call);
  for (const Type& t : call.inputs.subspan(1)) {
    Type same = t;
    const bool ok = t.batched == out.batched && t.dims.size() == out.dims.size();
    if (ok) same.dims[axis] = out.dims[axis];
    if (!ok || same != out) call.fail("shapes ", to_string(call.inputs[0]), " and ", to_string(t), " do not join");
    out.dims[axis] += t.dims[axis];
  }
  return {out};
}

std::vector<ValueId> concatenate_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  const Type y = g.type(node.outputs[0]);
  const std::int64_t axis = node.attributes.integer("axis", y.batched);
  std::vector<ValueId> d;
  std::int64_t at = 0;
  for (const ValueId input : node.inputs) {
    const std::int64_t size = g.type(input).dims[axis - y.batched];
    Dims starts(y.rank(), 0), stops, steps(y.rank(), 1);
    if (y.batched) stops.push_back(0);
    stops.insert(stops.end(), y.dims.begin(), y.dims.end());
    starts[axis] = at;
    stops[axis] = at += size;
    d.push_back(g.apply("slice", {dy[0]}, node, {{"starts", starts}, {"stops", stops}, {"steps", steps}}));
  }
  return d;
}

// --- broadcast_to: shape is that of one sample where the input is batched.
std::vector<Type> broadcast_to_shape(const Call& call) {
  const Type& x = call.inputs[0];
  const Type out{x.batched, call.attributes.integers("shape")};
  if (broadcast(call, x, out) != out) call.fail("cannot broadcast ", to_string(x), " to ", to_string(out));
  return {out};
}

std::vector<ValueId> broadcast_to_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  return {sum_to(g, node, dy[0], g.type(node.inputs[0]))};
}

double no_cost(const Call&, std::span<const Type>) { return 0; }

}  // namespace

void add_movement_ops(OpList& ops) {
  ops.push_back({"reshape", 1, 1, reshape_shape, reshape_gradient, no_cost, 0, /*alias=*/true});
  ops.push_back({"transpose", 1, 1, transpose_shape, transpose_gradient, no_cost});
  ops.push_back({"slice", 1, 1, slice_shape, slice_gradient, no_cost});
  ops.push_back({"slice_backward", 1, 1, slice_backward_shape, nullptr, no_cost});
  ops.push_back({"concatenate", 1, -1, concatenate_shape, concatenate_gradient, no_cost});
  ops.push_back({"broadcast_to", 1, 1, broadcast_to_shape, broadcast_to_gradient, no_cost});
}

}  // namespace ranvier
