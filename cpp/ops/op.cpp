#include "ops/op.h"

#include <algorithm>
#include <map>

namespace ranvier {

std::string to_string(const Dims& dims) {
  std::string text = "(";
  for (std::size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + (dims.size() == 1 ? ",)" : ")");
}

std::string to_string(const Type& type) {
  if (!type.batched) return to_string(type.dims);
  std::string text = "(batch";
  for (const std::int64_t d : type.dims) text += ", " + std::to_string(d);
  return text + (type.dims.empty() ? ",)" : ")");
}

void Attributes::set(std::string name, Attribute value) {
  for (auto& item : items_) {
    if (item.first == name) {
      item.second = std::move(value);
      return;
    }
  }
  items_.emplace_back(std::move(name), std::move(value));
}

const Attribute* Attributes::find(std::string_view name) const {
  for (const auto& item : items_) {
    if (item.first == name) return &item.second;
  }
  return nullptr;
}

namespace {

[[noreturn]] void wrong(std::string_view name, const char* expected) {
  throw TypeError(concat("attribute ", name, ": expected ", expected));
}

double as_number(std::string_view name, const Attribute& a) {
  if (const auto* b = std::get_if<bool>(&a)) return *b;
  if (const auto* i = std::get_if<std::int64_t>(&a)) return static_cast<double>(*i);
  if (const auto* d = std::get_if<double>(&a)) return *d;
  wrong(name, "a number");
}

}  // namespace

double Attributes::number(std::string_view name, double otherwise) const {
  const Attribute* a = find(name);
  return a ? as_number(name, *a) : otherwise;
}

std::int64_t Attributes::integer(std::string_view name, std::int64_t otherwise) const {
  const Attribute* a = find(name);
  if (!a) return otherwise;
  if (const auto* i = std::get_if<std::int64_t>(a)) return *i;
  if (const auto* b = std::get_if<bool>(a)) return *b;
  wrong(name, "an integer");
}

std::string Attributes::text(std::string_view name, std::string otherwise) const {
  const Attribute* a = find(name);
  if (!a) return otherwise;
  if (const auto* s = std::get_if<std::string>(a)) return *s;
  wrong(name, "a string");
}

Dims Attributes::integers(std::string_view name) const {
  const Attribute* a = find(name);
  if (const auto* v = a ? std::get_if<Dims>(a) : nullptr) return *v;
  wrong(name, "a sequence of integers");
}

std::vector<double> Attributes::numbers(std::string_view name) const {
  const Attribute* a = find(name);
  if (!a) return {};
  if (const auto* v = std::get_if<std::vector<double>>(a)) return *v;
  if (const auto* v = std::get_if<Dims>(a)) return {v->begin(), v->end()};
  wrong(name, "a sequence of numbers");
}

const std::string& Call::who() const { return scope.empty() ? op.name : scope; }

namespace {

const std::map<std::string, Op, std::less<>>& registry() {
  static const std::map<std::string, Op, std::less<>> ops = [] {
    OpList list;
    add_elementwise_ops(list);
    add_product_ops(list);
    add_movement_ops(list);
    add_reduction_ops(list);
    add_loss_ops(list);
    std::map<std::string, Op, std::less<>> by_name;
    for (Op& op : list) {
      std::string name = op.name;
      by_name.emplace(std::move(name), std::move(op));
    }
    return by_name;
  }();
  return ops;
}

}  // namespace

const Op* find_op(std::string_view name) {
  const auto found = registry().find(name);
  return found == registry().end() ? nullptr : &found->second;
}

const Op& get_op(std::string_view name) {
  const Op* op = find_op(name);
  if (!op) throw ValueError(concat("no operation is called '", name, "'"));
  return *op;
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const auto& item : registry()) names.push_back(item.first);
  return names;
}

std::vector<Type> infer(const Call& call) {
  const int n = static_cast<int>(call.inputs.size());
  if (n < call.op.min_inputs || (call.op.max_inputs >= 0 && n > call.op.max_inputs)) {
    call.fail("expected ", call.op.min_inputs,
              call.op.max_inputs < 0                    ? " or more"
              : call.op.max_inputs > call.op.min_inputs ? concat(" to ", call.op.max_inputs)
                                                        : "",
              " inputs, got ", n);
  }
  for (const Type& t : call.inputs) {
    if (t.kind == Kind::labels && !call.op.labels) call.fail(call.op.name, " does not take class labels");
  }
  return call.op.shape(call);
}

double cost_of(const Call& call, std::span<const Type> outputs) {
  if (call.op.cost) return call.op.cost(call, outputs);
  double elements = 0;
  for (const Type& t : outputs) elements += static_cast<double>(t.count());
  return elements;
}

Type broadcast(const Call& call, const Type& a, const Type& b) {
  const int rank = std::max(a.rank(), b.rank());
  const auto bad = [&]() { call.fail("shapes ", to_string(a), " and ", to_string(b), " do not broadcast"); };
  // A batch axis must meet another batch axis, an axis of size 1, or nothing, and stay first.
  if ((a.batched && a.rank() != rank) || (b.batched && b.rank() != rank)) bad();
  Type out;
  out.batched = a.batched || b.batched;
  for (int i = 0; i < rank; ++i) {
    const auto at = [&](const Type& t) -> std::int64_t {  // -1: the batch axis
      const int axis = i - (rank - t.rank());
      if (axis < 0) return 1;
      if (t.batched) return axis == 0 ? -1 : t.dims[axis - 1];
      return t.dims[axis];
    };
    const std::int64_t da = at(a), db = at(b);
    if (da != db && da != 1 && db != 1) bad();
    const std::int64_t d = da == 1 ? db : da;
    if (i > 0 || !out.batched) out.dims.push_back(d);
  }
  return out;
}

ValueId sum_to(Builder& g, const Node& node, ValueId d, Type to) {
  const Type from = g.type(d);
  if (from == to) return d;
  const int rank = from.rank();
  // Axis i of `from` is reduced where `to` lacks it or has size 1 against more (or against the batch).
  std::vector<bool> reduced(rank);
  for (int i = 0; i < rank; ++i) {
    const int axis = i - (rank - to.rank());
    const bool is_batch = from.batched && i == 0;
    if (axis < 0) {
      reduced[i] = true;
    } else if (is_batch) {
      reduced[i] = !to.batched;
    } else {
      const std::int64_t size = to.dims[axis - to.batched];
      reduced[i] = size == 1 && from.dims[i - from.batched] != 1;
    }
  }
  for (int end = rank; end > 0;) {  // groups of neighbouring axes, last first
    if (!reduced[end - 1]) {
      --end;
      continue;
    }
    int begin = end - 1;
    while (begin > 0 && reduced[begin - 1]) --begin;
    d = g.apply("sum", {d}, node,
                {{"axis_begin", std::int64_t{begin}}, {"axis_end", std::int64_t{end}}, {"keepdims", false}});
    end = begin;
  }
  if (g.type(d) != to) d = g.apply("reshape", {d}, node, {{"shape", to.dims}});
  return d;
}

}  // namespace ranvier
