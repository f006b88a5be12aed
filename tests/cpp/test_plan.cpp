// From layers to a plan: gradients, fusion, order and places, looked at without running anything.
#include <algorithm>
#include <cstdio>
#include <string>

#include "graph/passes.h"
#include "graph/plan.h"

namespace {

using namespace ranvier;

int failures = 0;

void expect(bool ok, const char* what) {
  if (ok) return;
  std::printf("FAILED: %s\n", what);
  ++failures;
}

struct Net {
  Graph graph;
  PlanRequest request;

  ValueId x(Dims dims) { return graph.leaf(Leaf::x, {true, std::move(dims)}, "x", graph.count(Leaf::x)); }
  ValueId parameter(Dims dims) {
    const int index = graph.count(Leaf::parameter);
    const std::int64_t bytes = (Type{false, dims}.count() * 4 + 63) / 64 * 64;
    const std::int64_t at = request.parameters.empty() ? 0 : end_;
    request.parameters.push_back({0, at, at});
    end_ = at + bytes;
    return graph.leaf(Leaf::parameter, {false, std::move(dims)}, "p", index);
  }
  ValueId op(const char* name, std::vector<ValueId> in, Attributes a = {}) {
    return graph.add(name, std::move(in), std::move(a), "")[0];
  }
  ValueId dense(ValueId in, std::int64_t n, std::int64_t m) {
    return op("dense", {in, parameter({n, m}), parameter({m})});
  }
  void mse(ValueId pred) {
    const ValueId target = graph.leaf(Leaf::target, graph.type(pred), "y", 0);
    const ValueId weight = graph.leaf(Leaf::weight, {true, {}}, "w", 0);
    graph.outputs = {pred};
    graph.loss = op("weighted_sum", {op("mse", {pred, target}), op("row_scale", {weight})});
  }

 private:
  std::int64_t end_ = 0;
};

int count(const Plan& plan, const std::string& name) {
  return static_cast<int>(std::count_if(plan.steps.begin(), plan.steps.end(),
                                        [&](const PlannedStep& s) { return s.node.op->name == name; }));
}

Net classifier(const char* activation) {
  Net net;
  net.request.capacity = 32;
  net.request.gradients = GradientMode::overwrite;
  net.request.update = true;
  const ValueId h = net.op(activation, {net.dense(net.x({8}), 8, 16)});
  net.mse(net.dense(h, 16, 4));
  return net;
}

void fusion() {
  for (const char* activation : {"relu", "gelu"}) {
    const Net net = classifier(activation);
    const Plan plan = make_plan(net.graph, net.request);
    expect(count(plan, activation) == 0, "the activation is in the dense step's epilogue");
    expect(count(plan, std::string(activation) + "_backward") == 0, "its derivative is in dense_dx");
    expect(count(plan, "dense_db") == 0, "db is in the dW pass");
    expect(count(plan, "dense_dx") == 1, "the first layer's dX is not computed");
    expect(count(plan, "dense_dw") == 2, "two dW");
    expect(count(plan, "mse") == 0 && count(plan, "mse_with_gradient") == 1, "the loss and its gradient are one pass");
    expect(plan.barriers == 1, "one barrier a training step: who makes a gradient updates by it");
    expect(plan.steps.back().node.op->name == "update", "the update comes last");
    const auto& first = plan.steps[0].node.op->name == "dense" ? plan.steps[0] : plan.steps[1];
    expect(first.node.attributes.text("activation", "") == activation, "fused into the first dense");
    expect((first.outputs.size() == 2) == (std::string(activation) == "gelu"), "z is kept where f' asks for it");
  }
}

// A value that is alive in a phase shares memory with no other that is: a fast worker would overwrite it.
void places() {
  Net net;
  net.request.capacity = 7;
  net.request.gradients = GradientMode::overwrite;
  ValueId h = net.x({5});
  std::int64_t width = 5;
  for (const std::int64_t next : {9, 3, 17, 17}) {
    const ValueId y = net.op("tanh", {net.dense(h, width, next)});
    h = width == next ? net.op("add", {y, h}) : y;
    width = next;
  }
  net.mse(h);
  const Plan plan = make_plan(net.graph, net.request);
  struct Use {
    std::int64_t begin, end;
    int first, last;
  };
  std::vector<std::pair<ValueId, Use>> uses;
  int phase = 0;
  for (const PlannedStep& s : plan.steps) {
    phase += s.barrier;
    const auto see = [&](ValueId id, const Location& place, const Type& t, bool made) {
      if (place.slot != Slots::arena) return;
      const auto found = std::find_if(uses.begin(), uses.end(), [&](const auto& u) { return u.first == id; });
      if (found != uses.end()) {
        found->second.last = phase;
      } else if (made) {
        uses.push_back({id, {place.offset, place.offset + t.count() * (t.batched ? 7 : 1) * 4, phase, phase}});
      }
    };
    for (std::size_t i = 0; i < s.inputs.size(); ++i) see(s.node.inputs[i], s.inputs[i], s.input_types[i], false);
    for (std::size_t i = 0; i < s.outputs.size(); ++i) see(s.node.outputs[i], s.outputs[i], s.output_types[i], true);
  }
  expect(uses.size() > 8, "the arena holds the activations and their gradients");
  for (std::size_t a = 0; a < uses.size(); ++a) {
    expect(uses[a].second.end <= plan.arena_bytes, "inside the arena");
    for (std::size_t b = 0; b < a; ++b) {
      const Use &u = uses[a].second, &v = uses[b].second;
      const bool together = u.first <= v.last && v.first <= u.last;
      const bool overlap = u.begin < v.end && v.begin < u.end;
      expect(!(together && overlap), "values alive in one phase do not share memory");
    }
  }
}

// A barrier stands between a step and what it reads whenever one of the two is not split by rows.
void barriers() {
  for (const char* activation : {"relu", "softplus"}) {
    const Net net = classifier(activation);
    const Plan plan = make_plan(net.graph, net.request);
    std::vector<std::pair<ValueId, std::pair<int, bool>>> made;
    int phase = 0;
    for (const PlannedStep& s : plan.steps) {
      phase += s.barrier;
      for (const ValueId in : s.node.inputs) {
        for (const auto& [id, how] : made) {
          if (id == in) expect(how.first < phase || (how.second && s.rows), "a barrier where the split changes");
        }
      }
      for (const ValueId out : s.node.outputs) made.push_back({out, {phase, s.rows}});
    }
  }
}

void shared_parameter() {
  Net net;
  net.request.gradients = GradientMode::overwrite;
  net.request.update = true;
  const ValueId w = net.parameter({6, 6});
  const ValueId h = net.op("dense", {net.x({6}), w});
  net.mse(net.op("dense", {net.op("tanh", {h}), w}));
  const Plan plan = make_plan(net.graph, net.request);
  expect(count(plan, "dense_dw") == 2 && count(plan, "add") == 1, "a gradient that arrives twice is summed once");
  expect(plan.steps.back().barrier, "a sum of gradients is shared out in another way than the update");
  const auto sum =
      std::find_if(plan.steps.begin(), plan.steps.end(), [](const PlannedStep& s) { return s.node.op->name == "add"; });
  expect(sum != plan.steps.end() && sum->outputs[0].slot == Slots::gradients, "into the parameter's gradient");
}

// dW has the weight's shape and is shared out by it, the update by the parameter's: where they differ, all meet.
void reshaped_parameter() {
  Net net;
  net.request.gradients = GradientMode::overwrite;
  net.request.update = true;
  const ValueId w = net.op("reshape", {net.parameter({48})}, {{"shape", Dims{8, 6}}});
  net.mse(net.op("dense", {net.x({8}), w}));
  const Plan plan = make_plan(net.graph, net.request);
  const PlannedStep& update = plan.steps.back();
  expect(count(plan, "dense_dw") == 1 && update.node.op->name == "update", "dW is the parameter's gradient as it lies");
  expect(update.barrier, "a reshaped parameter is shared out in another way than its gradient");
}

void explicit_steps() {
  Net net;
  net.request.gradients = GradientMode::accumulate;
  net.request.explicit_steps = true;
  const ValueId h = net.op("relu", {net.dense(net.x({4}), 4, 3)});
  net.graph.outputs = {net.dense(h, 3, 2)};
  const Plan plan = make_plan(net.graph, net.request);
  expect(plan.backward_begin > 0 && plan.backward_begin < plan.steps.size(), "forward and backward are apart");
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    const bool forward = plan.steps[i].node.op->name == "dense" || plan.steps[i].node.op->name == "relu";
    expect(forward == (i < plan.backward_begin), "forward steps come first");
  }
  expect(plan.dx[0].slot >= 0, "dX is kept");
  expect(plan.dvalues[static_cast<std::size_t>(h)].slot >= 0, "the gradient of an intermediate stays readable");
  expect(count(plan, "accumulate") == 4, "every parameter's gradient is added to");
}

}  // namespace

int main() {
  fusion();
  places();
  barriers();
  shared_parameter();
  reshaped_parameter();
  explicit_steps();
  if (failures == 0) std::printf("plan: all passed\n");
  return failures != 0;
}
