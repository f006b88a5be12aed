#include "graph/graph.h"

#include <algorithm>

namespace ranvier {

ValueId Graph::leaf(Leaf kind, Type type, std::string name, int index) {
  values.push_back({std::move(type), kNone, kind, index, std::move(name)});
  return static_cast<ValueId>(values.size()) - 1;
}

ValueId Graph::constant(Constant c) {
  Type type{false, c.dims};
  constants.push_back(std::move(c));
  return leaf(Leaf::constant, std::move(type), "constant", static_cast<int>(constants.size()) - 1);
}

ValueId Graph::scalar(double value) {
  for (std::size_t id = 0; id < values.size(); ++id) {
    const Value& v = values[id];
    if (v.leaf != Leaf::constant) continue;
    const Constant& c = constants[static_cast<std::size_t>(v.index)];
    if (c.dims.empty() && c.data[0] == value) return static_cast<ValueId>(id);
  }
  return constant({{}, {value}});
}

std::vector<ValueId> Graph::add(std::string_view name, std::vector<ValueId> inputs, Attributes attributes,
                                const std::string& scope) {
  const Op& op = get_op(name);
  std::vector<Type> types;
  for (const ValueId id : inputs) {
    if (id < 0 || id >= static_cast<ValueId>(values.size())) {
      throw ValueError(concat(op.name, ": no value ", id, " in this graph"));
    }
    types.push_back(type(id));
  }
  const std::vector<Type> outputs_types = infer({op, attributes, types, scope});
  // The gradient of a loss starts as 1: d * 1 is d.
  if (op.name == "multiply") {
    for (const int one : {0, 1}) {
      const Value& v = values[static_cast<std::size_t>(inputs[static_cast<std::size_t>(one)])];
      const ValueId other = inputs[static_cast<std::size_t>(1 - one)];
      if (v.leaf == Leaf::constant && v.type.dims.empty() &&
          constants[static_cast<std::size_t>(v.index)].data[0] == 1 && type(other) == outputs_types[0]) {
        return {other};
      }
    }
  }
  Node node{&op, std::move(attributes), std::move(inputs), {}, scope};
  for (const Type& t : outputs_types) {
    values.push_back({t, static_cast<int>(nodes.size()), Leaf::none, static_cast<int>(node.outputs.size()), ""});
    node.outputs.push_back(static_cast<ValueId>(values.size()) - 1);
  }
  nodes.push_back(std::move(node));
  return nodes.back().outputs;
}

int Graph::count(Leaf kind) const {
  int n = 0;
  for (const Value& v : values) n += v.leaf == kind;
  return n;
}

Call Graph::call(const Node& node, std::vector<Type>& input_types) const {
  input_types.clear();
  for (const ValueId id : node.inputs) input_types.push_back(type(id));
  return {*node.op, node.attributes, input_types, node.scope};
}

std::vector<ValueId> differentiate(Graph& graph, const std::vector<Seed>& seeds) {
  const std::size_t existing = graph.values.size();
  // What arrived so far, latest user first, since the walk goes backward.
  std::vector<std::vector<ValueId>> arrived(existing);
  for (const Seed& seed : seeds) arrived[static_cast<std::size_t>(seed.value)].push_back(seed.gradient);
  std::vector<ValueId> gradient(existing, kNone);
  const auto total = [&](std::size_t id, std::string scope) {  // by value: adding nodes moves the names
    std::vector<ValueId>& parts = arrived[id];
    if (gradient[id] != kNone || parts.empty()) return;
    ValueId sum = parts.back();
    for (std::size_t i = parts.size() - 1; i-- > 0;) sum = graph.add("add", {sum, parts[i]}, {}, scope)[0];
    gradient[id] = sum;
  };
  for (std::size_t n = graph.nodes.size(); n-- > 0;) {
    const Node node = graph.nodes[n];  // a copy: the vector grows below
    std::vector<ValueId> dy;
    bool any = false;
    for (const ValueId output : node.outputs) {
      total(static_cast<std::size_t>(output), node.scope);
      dy.push_back(gradient[static_cast<std::size_t>(output)]);
      any = any || dy.back() != kNone;
    }
    if (!any || node.op->gradient == nullptr) continue;
    const std::vector<ValueId> d = node.op->gradient(graph, node, dy);
    for (std::size_t i = 0; i < d.size(); ++i) {
      if (d[i] != kNone) arrived[static_cast<std::size_t>(node.inputs[i])].push_back(d[i]);
    }
  }
  for (std::size_t id = 0; id < existing; ++id) total(id, graph.values[id].name);
  return gradient;
}

}  // namespace ranvier
