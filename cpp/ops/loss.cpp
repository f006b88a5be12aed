#include "ops/kinds.h"
#include "ops/op.h"

namespace ranvier {
namespace {

// Every loss gives one value a row; the loss of a batch is weighted_sum(rows, row_scale(weights)), so that weights,
// class weights and the mean live in one place. Targets are data: nothing flows back to them.

Type rows_of(const Type& pred) {
  if (pred.batched) return {true, {}};
  return {false, pred.dims.empty() ? Dims{} : Dims{pred.dims[0]}};
}

void check_row_loss(const Call& call, const Type& pred, const Type& target) {
  if (target != pred) call.fail("expected a target of shape ", to_string(pred), ", got ", to_string(target));
  if (pred.rank() == 0) call.fail("expected one row or more, got a scalar");
  const double delta = call.attributes.number("delta", 1);
  if (!(delta > 0)) call.fail("delta must be > 0, got ", delta);
}

void check_cross_entropy(const Call& call, const Type& logits, const Type& target) {
  if (logits.rank() < 2 || logits.dims.back() < 1) {
    call.fail("expected logits (rows, classes), got ", to_string(logits));
  }
  Type labels{logits.batched, Dims(logits.dims.begin(), logits.dims.end() - 1), Kind::labels};
  if (target.kind == Kind::labels ? target != labels : target != logits) {
    labels.kind = Kind::real;
    call.fail("expected labels ", to_string(labels), " or probabilities ", to_string(logits), ", got ",
              to_string(target));
  }
  const double smoothing = call.attributes.number("label_smoothing", 0);
  if (!(smoothing >= 0 && smoothing < 1)) call.fail("label_smoothing must be in [0, 1), got ", smoothing);
  const auto classes = call.attributes.numbers("class_weight");
  if (!classes.empty() && static_cast<std::int64_t>(classes.size()) != logits.dims.back()) {
    call.fail("expected class_weight of ", logits.dims.back(), " classes, got ", classes.size());
  }
}

using Check = void (*)(const Call&, const Type&, const Type&);

// [pred, target] -> [rows]
template <Check check>
std::vector<Type> loss_shape(const Call& call) {
  check(call, call.inputs[0], call.inputs[1]);
  return {rows_of(call.inputs[0])};
}

// [drows, pred, target] -> [dpred]; with_gradient: -> [rows, dpred]
template <Check check, bool with_rows>
std::vector<Type> loss_backward_shape(const Call& call) {
  const Type& pred = call.inputs[1];
  check(call, pred, call.inputs[2]);
  const Type rows = rows_of(pred);
  if (call.inputs[0] != rows) call.fail("expected drows ", to_string(rows), ", got ", to_string(call.inputs[0]));
  return with_rows ? std::vector<Type>{rows, pred} : std::vector<Type>{pred};
}

std::vector<ValueId> loss_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  return {g.apply(node.op->name + "_backward", {dy[0], node.inputs[0], node.inputs[1]}, node, node.attributes), kNone};
}

template <int operand>
double loss_cost(const Call& call, std::span<const Type>) {
  const bool cheap = call.op.name.starts_with("m") || call.op.name.starts_with("h");
  return (cheap ? 4. : 30.) * static_cast<double>(call.inputs[operand].count());
}

// scale (rows) = w_i / sum_j(w_j n_j), n_j the class weight of row j's label (1 without); 0 where the sum is 0.
std::vector<Type> row_scale_shape(const Call& call) {
  const Type& weight = call.inputs[0];
  if (weight.rank() != 1) call.fail("expected one weight a row, got ", to_string(weight));
  if (call.inputs.size() > 1) {
    const Type& target = call.inputs[1];
    const auto classes = call.attributes.numbers("class_weight");
    const bool whole = target.kind == Kind::labels || classes.empty() ||
                       (!target.dims.empty() && target.dims.back() == static_cast<std::int64_t>(classes.size()));
    if (target.rank() == 0 || rows_of(target) != weight || !whole) {
      call.fail("a target ", to_string(target), " does not fit weights ", to_string(weight), " and ", classes.size(),
                " class weights");
    }
  }
  return {weight};
}

// loss () = sum_i rows_i scale_i
std::vector<Type> weighted_sum_shape(const Call& call) {
  if (call.inputs[0] != call.inputs[1] || call.inputs[0].rank() != 1) {
    call.fail("expected one value a row, shape (batch,), got ", to_string(call.inputs[0]));
  }
  return {{false, {}}};
}

// The scale is the weights': a gradient for the rows alone.
std::vector<ValueId> weighted_sum_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  return {g.apply("multiply", {node.inputs[1], dy[0]}, node), kNone};
}

template <Check check>
void add_loss(OpList& ops, const std::string& name, int code, bool labels = false) {
  const auto add = [&](const std::string& suffix, int inputs, ShapeRule shape, GradientRule gradient, CostRule cost) {
    ops.push_back({name + suffix, inputs, inputs, shape, gradient, cost, code, /*alias=*/false, labels});
  };
  add("", 2, loss_shape<check>, loss_gradient, loss_cost<0>);
  add("_backward", 3, loss_backward_shape<check, false>, nullptr, loss_cost<1>);
  add("_with_gradient", 3, loss_backward_shape<check, true>, nullptr, loss_cost<1>);
}

}  // namespace

void add_loss_ops(OpList& ops) {
  for (std::size_t i = 0; i < kRowLossNames.size(); ++i) {
    add_loss<check_row_loss>(ops, std::string(kRowLossNames[i]), static_cast<int>(i));
  }
  add_loss<check_cross_entropy>(ops, "cross_entropy", 0, /*labels=*/true);
  ops.push_back({"row_scale", 1, 2, row_scale_shape, nullptr, nullptr, 0, /*alias=*/false, /*labels=*/true});
  ops.push_back({"weighted_sum", 2, 2, weighted_sum_shape, weighted_sum_gradient});
}

}  // namespace ranvier
