#include <algorithm>

#include "ops/kinds.h"
#include "ops/op.h"

namespace ranvier {
namespace {

// --- dense: y (..., out) = f(x (..., in) w (in, out) + b (out,)); with save, also what f's derivative is told from.

void expect_matrix(const Call& call, const Type& w) {
  if (w.batched || w.dims.size() != 2) call.fail("expected a weight (in, out), got ", to_string(w));
}

Type with_last(Type type, std::int64_t last) {
  type.dims.back() = last;
  return type;
}

std::vector<Type> dense_shape(const Call& call) {
  const Type &x = call.inputs[0], &w = call.inputs[1];
  expect_matrix(call, w);
  if (x.dims.empty() || x.dims.back() != w.dims[0]) {
    Type expected = x;
    if (expected.dims.empty()) {
      expected.dims = {w.dims[0]};
    } else {
      expected.dims.back() = w.dims[0];
    }
    call.fail("expected input ", to_string(expected), ", got ", to_string(x));
  }
  if (call.inputs.size() > 2 && call.inputs[2] != Type{false, {w.dims[1]}}) {
    call.fail("expected bias (", w.dims[1], ",), got ", to_string(call.inputs[2]));
  }
  const std::string activation = call.attributes.text("activation", "identity");
  if (std::find(kUnaryNames.begin(), kUnaryNames.end(), activation) == kUnaryNames.end()) {
    call.fail("no activation is called '", activation, "'");
  }
  const Type y = with_last(x, w.dims[1]);
  return call.attributes.flag("save") ? std::vector<Type>{y, y} : std::vector<Type>{y};
}

// Before fusion: the activation is a node of its own, so z is the only output here.
std::vector<ValueId> dense_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  const ValueId x = node.inputs[0], w = node.inputs[1];
  std::vector<ValueId> d{g.apply("dense_dx", {dy[0], w}, node), g.apply("dense_dw", {x, dy[0]}, node)};
  if (node.inputs.size() > 2) d.push_back(g.apply("dense_db", {dy[0]}, node));
  return d;
}

double dense_cost(const Call& call, std::span<const Type> outputs) {
  return 2. * static_cast<double>(outputs[0].count() * call.inputs[1].dims[0]);
}

// dx (..., in) = dz (..., out) w^T; fused: times the derivative of `activation` at saved (..., in).
std::vector<Type> dense_dx_shape(const Call& call) {
  const Type &dz = call.inputs[0], &w = call.inputs[1];
  expect_matrix(call, w);
  if (dz.dims.empty() || dz.dims.back() != w.dims[1]) {
    call.fail("expected dz (..., ", w.dims[1], "), got ", to_string(dz));
  }
  return {with_last(dz, w.dims[0])};
}

double dense_dx_cost(const Call& call, std::span<const Type> outputs) {
  return 2. * static_cast<double>(outputs[0].count() * call.inputs[1].dims[1]);
}

// dw (in, out) = x^T dz over all rows; with bias also db (out,).
std::vector<Type> dense_dw_shape(const Call& call) {
  const Type &x = call.inputs[0], &dz = call.inputs[1];
  if (x.dims.empty() || dz.dims.empty() || x.batched != dz.batched || x.rank() != dz.rank() ||
      !std::equal(x.dims.begin(), x.dims.end() - 1, dz.dims.begin())) {
    call.fail("expected x (..., in) and dz (..., out), got ", to_string(x), " and ", to_string(dz));
  }
  std::vector<Type> out{{false, {x.dims.back(), dz.dims.back()}}};
  if (call.attributes.flag("bias")) out.push_back({false, {dz.dims.back()}});
  return out;
}

double dense_dw_cost(const Call& call, std::span<const Type>) {
  return 2. * static_cast<double>(call.inputs[0].count() * call.inputs[1].dims.back());
}

std::vector<Type> dense_db_shape(const Call& call) {
  if (call.inputs[0].dims.empty()) call.fail("expected dz (..., out), got ", to_string(call.inputs[0]));
  return {{false, {call.inputs[0].dims.back()}}};
}

double input_cost(const Call& call, std::span<const Type>) { return static_cast<double>(call.inputs[0].count()); }

// --- matmul: the last two axes multiply, the others broadcast.

struct Matmul {
  std::int64_t m, k, n, k_b;
  bool transpose_a, transpose_b;
};

Matmul matmul_of(const Call& call) {
  const Type &a = call.inputs[0], &b = call.inputs[1];
  Matmul p{};
  p.transpose_a = call.attributes.flag("transpose_a");
  p.transpose_b = call.attributes.flag("transpose_b");
  // The batch axis is never one of the two that multiply.
  if (a.dims.size() < 2 || b.dims.size() < 2) {
    call.fail("expected operands with two axes or more (behind the batch axis), got ", to_string(a), " and ",
              to_string(b));
  }
  const std::int64_t *ta = &*(a.dims.end() - 2), *tb = &*(b.dims.end() - 2);
  p.m = ta[p.transpose_a], p.k = ta[!p.transpose_a];
  p.k_b = tb[p.transpose_b], p.n = tb[!p.transpose_b];
  return p;
}

std::vector<Type> matmul_shape(const Call& call) {
  const Matmul p = matmul_of(call);
  if (p.k != p.k_b) {
    call.fail("inner sizes differ: ", to_string(call.inputs[0]), " and ", to_string(call.inputs[1]));
  }
  const auto outer = [](Type t) {
    t.dims.resize(t.dims.size() - 2);
    return t;
  };
  Type out = broadcast(call, outer(call.inputs[0]), outer(call.inputs[1]));
  out.dims.insert(out.dims.end(), {p.m, p.n});
  return {out};
}

std::vector<ValueId> matmul_gradient(Builder& g, const Node& node, std::span<const ValueId> dy) {
  const ValueId a = node.inputs[0], b = node.inputs[1], d = dy[0];
  const bool ta = node.attributes.flag("transpose_a"), tb = node.attributes.flag("transpose_b");
  const auto matmul = [&](ValueId u, ValueId v, bool tu, bool tv) {
    return g.apply("matmul", {u, v}, node, {{"transpose_a", tu}, {"transpose_b", tv}});
  };
  // For c = a b: da = d b^T, db = a^T d; a transposed operand transposes its gradient.
  const ValueId da = ta ? matmul(b, d, tb, true) : matmul(d, b, false, !tb);
  const ValueId db = tb ? matmul(d, a, true, ta) : matmul(a, d, !ta, false);
  return {sum_to(g, node, da, g.type(a)), sum_to(g, node, db, g.type(b))};
}

double matmul_cost(const Call& call, std::span<const Type> outputs) {
  return 2. * static_cast<double>(outputs[0].count() * matmul_of(call).k);
}

}  // namespace

void add_product_ops(OpList& ops) {
  ops.push_back({"dense", 2, 3, dense_shape, dense_gradient, dense_cost});
  ops.push_back({"dense_dx", 2, 3, dense_dx_shape, nullptr, dense_dx_cost});
  ops.push_back({"dense_dw", 2, 2, dense_dw_shape, nullptr, dense_dw_cost});
  ops.push_back({"dense_db", 1, 1, dense_db_shape, nullptr, input_cost});
  ops.push_back({"matmul", 2, 2, matmul_shape, matmul_gradient, matmul_cost});
}

}  // namespace ranvier
