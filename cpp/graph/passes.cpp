#include "graph/passes.h"

#include <algorithm>

#include "ops/kinds.h"

namespace ranvier {
namespace {

std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }

std::vector<int> uses(const Graph& graph) {
  std::vector<int> n(graph.values.size());
  for (const Node& node : graph.nodes) {
    for (const ValueId id : node.inputs) ++n[at(id)];
  }
  return n;
}

// Removes the nodes marked, and renumbers who makes what.
void erase(Graph& graph, const std::vector<bool>& gone) {
  std::vector<Node> kept;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    if (!gone[n]) kept.push_back(std::move(graph.nodes[n]));
  }
  graph.nodes = std::move(kept);
  for (Value& value : graph.values) value.node = kNone;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    for (const ValueId id : graph.nodes[n].outputs) graph.values[at(id)].node = static_cast<int>(n);
  }
}

bool is_unary(const Node& node) {
  const Op& op = *node.op;
  const auto code = static_cast<std::size_t>(op.code);
  return code < kUnaryNames.size() && op.name == kUnaryNames[code];
}

bool is_unary_backward(const Node& node) {
  const Op& op = *node.op;
  const auto code = static_cast<std::size_t>(op.code);
  return code < kUnaryNames.size() && op.name == std::string(kUnaryNames[code]) + "_backward";
}

// Whether making what `node` makes takes `value`.
bool takes(const Graph& graph, const Node& node, ValueId value) {
  std::vector<bool> seen(graph.values.size());
  std::vector<ValueId> open = node.inputs;
  while (!open.empty()) {
    const ValueId id = open.back();
    open.pop_back();
    if (id == value) return true;
    if (seen[at(id)]) continue;
    seen[at(id)] = true;
    const int maker = graph.values[at(id)].node;
    if (maker == kNone) continue;
    const std::vector<ValueId>& inputs = graph.nodes[static_cast<std::size_t>(maker)].inputs;
    open.insert(open.end(), inputs.begin(), inputs.end());
  }
  return false;
}

void fuse_into(Node& product, const Node& activation) {
  product.attributes.set("activation", std::string(kUnaryNames[static_cast<std::size_t>(activation.op->code)]));
  if (const Attribute* alpha = activation.attributes.find("alpha")) product.attributes.set("alpha", *alpha);
}

}  // namespace

void drop_unread(Graph& graph, const std::vector<ValueId>& wanted) {
  std::vector<bool> read(graph.values.size());
  for (const ValueId id : wanted) {
    if (id != kNone) read[at(id)] = true;
  }
  std::vector<bool> gone(graph.nodes.size());
  for (std::size_t n = graph.nodes.size(); n-- > 0;) {
    const Node& node = graph.nodes[n];
    gone[n] = std::none_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) { return read[at(id)]; });
    if (gone[n]) continue;
    for (const ValueId id : node.inputs) read[at(id)] = true;
  }
  erase(graph, gone);
}

void fuse_activations(Graph& graph, const std::vector<ValueId>& kept) {
  std::vector<int> users = uses(graph);
  for (const ValueId id : kept) {
    if (id != kNone) ++users[at(id)];
  }
  std::vector<bool> gone(graph.nodes.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    Node& node = graph.nodes[n];
    const int maker = node.inputs.empty() ? kNone : graph.values[at(node.inputs[0])].node;
    if (maker == kNone) continue;
    Node& product = graph.nodes[static_cast<std::size_t>(maker)];
    if (product.attributes.has("activation")) continue;
    if (product.op->name == "dense" && is_unary(node)) {
      // z may be read by f's own derivative besides f; by anything else, it must stay a value of its own.
      const auto f = static_cast<Unary>(node.op->code);
      const ValueId z = node.inputs[0];
      const bool keep_z = users[at(z)] > 1;
      if (f == Unary::identity || (keep_z && saved_by(f) != Saved::input)) continue;
      fuse_into(product, node);
      product.attributes.set("save", keep_z);
      product.outputs = {node.outputs[0]};
      if (keep_z) product.outputs.push_back(z);
      gone[n] = true;
    } else if (product.op->name == "dense_dx" && is_unary_backward(node) && node.inputs.size() == 2 &&
               users[at(node.inputs[0])] == 1) {
      fuse_into(product, node);
      product.inputs.push_back(node.inputs[1]);
      product.outputs = node.outputs;
      gone[n] = true;
    }
  }
  erase(graph, gone);
}

void fuse_bias_gradients(Graph& graph) {
  std::vector<bool> gone(graph.nodes.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& db = graph.nodes[n];
    if (db.op->name != "dense_db") continue;
    for (Node& dw : graph.nodes) {
      if (dw.op->name != "dense_dw" || dw.inputs[1] != db.inputs[0] || dw.outputs.size() > 1) continue;
      dw.attributes.set("bias", true);
      dw.outputs.push_back(db.outputs[0]);
      gone[n] = true;
      break;
    }
  }
  erase(graph, gone);
}

void fuse_losses(Graph& graph) {
  std::vector<bool> gone(graph.nodes.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& rows = graph.nodes[n];
    const Op* fused = find_op(rows.op->name + "_with_gradient");
    if (fused == nullptr) continue;
    for (Node& backward : graph.nodes) {
      if (backward.op->name != rows.op->name + "_backward" || backward.inputs[1] != rows.inputs[0] ||
          backward.inputs[2] != rows.inputs[1] || !(backward.attributes == rows.attributes) ||
          takes(graph, backward, rows.outputs[0])) {  // a loss of the loss: its gradient comes after it
        continue;
      }
      backward.op = fused;
      backward.outputs.insert(backward.outputs.begin(), rows.outputs[0]);
      graph.values[at(rows.outputs[0])].node = static_cast<int>(&backward - graph.nodes.data());
      gone[n] = true;
      break;
    }
  }
  erase(graph, gone);
}

}  // namespace ranvier
