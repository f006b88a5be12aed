#include "ops/kinds.h"
#include "ops/op.h"

namespace ranvier {
namespace {

Unary unary_of(const Node& node) { return static_cast<Unary>(node.op->code); }

std::vector<Type> like_first(const Call& call) {
  for (const Type& t : call.inputs) {
    if (t != call.inputs[0]) call.fail("shapes ", to_string(call.inputs[0]), " and ", to_string(t), " differ");
  }
  return {call.inputs[0]};
}

std::vector<Type> broadcast_all(const Call& call) {
  Type out = call.inputs[0];
  for (const Type& t : call.inputs.subspan(1)) out = broadcast(call, out, t);
  return {out};
}

Attributes alpha_of(const Node& node) {
  Attributes attributes;
  if (const Attribute* alpha = node.attributes.find("alpha")) attributes.set("alpha", *alpha);
  return attributes;
}

std::vector<Type> unary_shape(const Call& call) {
  const auto f = static_cast<Unary>(call.op.code);
  const double alpha = call.attributes.number("alpha", 0);
  // A negative slope would make the derivative a riddle to the output, which is all that is saved.
  if ((f == Unary::leaky_relu || f == Unary::elu) && !(alpha >= 0)) call.fail("alpha must be >= 0, got ", alpha);
  return like_first(call);
}

std::vector<ValueId> unary_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  const Unary f = unary_of(node);
  if (f == Unary::identity) return {dy[0]};
  std::vector<ValueId> inputs{dy[0]};
  if (saved_by(f) == Saved::input) inputs.push_back(node.inputs[0]);
  if (saved_by(f) == Saved::output) inputs.push_back(node.outputs[0]);
  return {g.apply(node.op->name + "_backward", inputs, node, alpha_of(node))};
}

ValueId binary(Builder& g, const Node& from, Binary f, ValueId a, ValueId b) {
  return g.apply(kBinaryNames[static_cast<std::size_t>(f)], {a, b}, from);
}

std::vector<ValueId> binary_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  const ValueId d = dy[0], a = node.inputs[0], b = node.inputs[1], y = node.outputs[0];
  const auto op = [&](Binary f, ValueId u, ValueId v) { return binary(g, node, f, u, v); };
  ValueId da = d, db = d;
  switch (static_cast<Binary>(node.op->code)) {
    case Binary::add:
      break;
    case Binary::subtract:
      db = g.apply("negative", {d}, node);
      break;
    case Binary::multiply:
      da = op(Binary::multiply, d, b);
      db = op(Binary::multiply, d, a);
      break;
    case Binary::divide:  // da = d / b, db = -y da
      da = op(Binary::divide, d, b);
      db = g.apply("negative", {op(Binary::multiply, da, y)}, node);
      break;
    case Binary::power: {  // da = d b a^(b-1), 0 where b = 0; db = d y log a, 0 where a <= 0 (the limit at 0 for b > 0)
      const ValueId exponent = g.apply("where", {b, op(Binary::subtract, b, g.scalar(1)), g.scalar(0)}, node);
      da = op(Binary::multiply, d, op(Binary::multiply, b, op(Binary::power, a, exponent)));
      const ValueId positive = op(Binary::greater, a, g.scalar(0));
      const ValueId base = g.apply("where", {positive, a, g.scalar(1)}, node);
      db = op(Binary::multiply, d, op(Binary::multiply, y, g.apply("log", {base}, node)));
      break;
    }
    case Binary::maximum: {  // a tie gives each half, as in PyTorch and JAX
      const auto share = [&](ValueId u, ValueId v) {
        const ValueId wins = op(Binary::add, op(Binary::greater, u, v), op(Binary::greater_equal, u, v));
        return op(Binary::multiply, d, op(Binary::multiply, wins, g.scalar(0.5)));
      };
      da = share(a, b);
      db = share(b, a);
      break;
    }
    case Binary::greater:
    case Binary::greater_equal:
      return {kNone, kNone};
  }
  return {sum_to(g, node, da, g.type(a)), sum_to(g, node, db, g.type(b))};
}

std::vector<ValueId> where_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  const ValueId condition = node.inputs[0], zero = g.scalar(0);
  const ValueId da = g.apply("where", {condition, dy[0], zero}, node);
  const ValueId db = g.apply("where", {condition, zero, dy[0]}, node);
  return {kNone, sum_to(g, node, da, g.type(node.inputs[1])), sum_to(g, node, db, g.type(node.inputs[2]))};
}

std::vector<Type> dropout_shape(const Call& call) {
  const double rate = call.attributes.number("rate", 0.5);
  if (!(rate >= 0 && rate < 1)) call.fail("rate must be in [0, 1), got ", rate);
  return like_first(call);
}

// The mask is drawn again from the same counters, so nothing is saved.
std::vector<ValueId> dropout_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  return {g.apply("dropout", {dy[0]}, node, node.attributes)};
}

// Rough counts of a polynomial's operations, for the choice of threads and the printed plan.
double unary_cost(const Call& call, std::span<const Type> outputs) {
  const auto f = static_cast<Unary>(call.op.code);
  const bool cheap = f <= Unary::sqrt || f == Unary::abs || f == Unary::relu || f == Unary::leaky_relu;
  return (cheap ? 1. : 20.) * static_cast<double>(outputs[0].count());
}

}  // namespace

void add_elementwise_ops(OpList& ops) {
  for (std::size_t i = 0; i < kUnaryNames.size(); ++i) {
    const std::string name(kUnaryNames[i]);
    const int saved = saved_by(static_cast<Unary>(i)) == Saved::nothing ? 0 : 1;
    ops.push_back({name, 1, 1, unary_shape, unary_gradient, unary_cost, static_cast<int>(i)});
    ops.push_back({name + "_backward", 1 + saved, 1 + saved, like_first, nullptr, unary_cost, static_cast<int>(i)});
  }
  for (std::size_t i = 0; i < kBinaryNames.size(); ++i) {
    ops.push_back({std::string(kBinaryNames[i]), 2, 2, broadcast_all, binary_gradient, nullptr, static_cast<int>(i)});
  }
  // In plans that add to gradients: the output's memory is a parameter's gradient, and x is added to it.
  ops.push_back({"accumulate", 1, 1, like_first});
  // The optimiser's step over the flat parameters; it stands in plans alone.
  ops.push_back({"update", 0, 0, [](const Call&) { return std::vector<Type>{}; }});
  ops.push_back({"where", 3, 3, broadcast_all, where_gradient});
  ops.push_back({"dropout", 1, 1, dropout_shape, dropout_gradient});
}

}  // namespace ranvier
