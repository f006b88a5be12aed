#include "cpu/interface.h"

#include <algorithm>

#include "cpu/step.h"

namespace ranvier::cpu {

namespace {

// A target, and what the losses that read it ask of its values.
Interface::Input target_of(const Graph& g, ValueId id) {
  const Value& value = g.values[static_cast<std::size_t>(id)];
  Interface::Input target{value.type, value.name, std::int64_t{1} << 31};
  for (const Node& node : g.nodes) {
    if (node.inputs.size() < 2 || node.inputs[1] != id) continue;
    if (node.op->name == "cross_entropy") target.classes = std::min(target.classes, g.type(node.inputs[0]).dims.back());
    if (node.op->name.starts_with("binary_cross_entropy")) target.probability = true;
  }
  return target;
}

}  // namespace

bool fits(const Type& type, std::span<const std::int64_t> shape, bool target) {
  if (shape.empty()) return false;
  const std::span<const std::int64_t> dims = shape.subspan(1);
  if (std::equal(dims.begin(), dims.end(), type.dims.begin(), type.dims.end())) return true;
  const bool one_column = (dims.empty() && type.dims.size() == 1 && type.dims[0] == 1) ||
                          (type.dims.empty() && dims.size() == 1 && dims[0] == 1);
  return target && one_column && type.kind == Kind::real;
}

std::string text_of(std::span<const std::int64_t> shape) { return to_string(Dims(shape.begin(), shape.end())); }

Interface::Interface(Graph given, DType dtype) : graph(std::move(given)), dtype(dtype) {
  std::int64_t row_bytes = 1;
  for (std::size_t id = 0; id < graph.values.size(); ++id) {
    const Value& v = graph.values[id];
    if (v.leaf == Leaf::x) x.push_back({v.type, v.name});
    if (v.leaf == Leaf::target) targets.push_back(target_of(graph, static_cast<ValueId>(id)));
    if (v.type.batched) row_bytes += v.type.count() * static_cast<std::int64_t>(ranvier::size_of(dtype));
  }
  for (const ValueId id : graph.outputs) outputs.push_back(graph.type(id));
  for (const Node& node : graph.nodes) {
    std::vector<Type> types, made;
    for (const ValueId id : node.outputs) made.push_back(graph.type(id));
    const Call call = graph.call(node, types);
    flops_per_row += cost_of(call, made);
  }
  // An arena of about a megabyte stays in L2.
  constexpr std::int64_t kArena = std::int64_t{1} << 20;
  default_block = std::clamp<std::int64_t>(kArena / row_bytes, 256, 8192) / kRowGranule * kRowGranule;
}

std::int64_t Interface::check(const Feed& feed, bool with_targets) const {
  if (feed.x.size() != x.size()) {
    throw ValueError(concat("x: expected ", x.size(), " input arrays, got ", feed.x.size()));
  }
  const std::int64_t rows = feed.x.empty() ? 0 : feed.x[0].rows;
  const auto same_rows = [&](const HostArray& a, const std::string& name) {
    if (a.rows != rows) throw ValueError(concat(name, ": expected ", rows, " rows as in x, got ", a.rows));
  };
  for (std::size_t i = 0; i < x.size(); ++i) {
    const HostArray& a = feed.x[i];
    const Interface::Input& wanted = x[i];
    if (!fits(wanted.type, a.shape)) {
      const bool row = std::equal(a.shape.begin(), a.shape.end(), wanted.type.dims.begin(), wanted.type.dims.end());
      throw ValueError(concat(wanted.name, ": expected input ", to_string(wanted.type), ", got ", text_of(a.shape),
                              row ? "; for a single row pass x[None]" : ""));
    }
    same_rows(a, wanted.name);
  }
  if (!with_targets) return rows;
  if (feed.y.size() != targets.size()) {
    throw ValueError(concat("y: expected ", targets.size(), " target arrays, got ", feed.y.size()));
  }
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const HostArray& a = feed.y[i];
    const Interface::Input& wanted = targets[i];
    const bool labels = wanted.type.kind == Kind::labels;
    if (!fits(wanted.type, a.shape, true)) {
      throw ValueError(concat(wanted.name, ": expected ", labels ? "labels " : "target ", to_string(wanted.type),
                              ", got ", text_of(a.shape)));
    }
    same_rows(a, wanted.name);
    if (labels) {
      check_labels(a, wanted.name, wanted.classes);
    } else {
      wanted.probability ? check_probabilities(a, wanted.name) : check_finite(a, wanted.name, dtype);
    }
  }
  if (feed.weight.data) {
    if (feed.weight.shape.size() != 1) {
      throw ValueError(concat("sample_weight: expected (", rows, ",), got ", text_of(feed.weight.shape)));
    }
    same_rows(feed.weight, "sample_weight");
    check_weights(feed.weight, "sample_weight", dtype);
  }
  return rows;
}

}  // namespace ranvier::cpu
