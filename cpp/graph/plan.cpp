#include "graph/plan.h"

#include <algorithm>
#include <map>

#include "core/buffer.h"
#include "graph/passes.h"

namespace ranvier {
namespace {

std::size_t at(int id) { return static_cast<std::size_t>(id); }

class Planner {
 public:
  Planner(Graph graph, const PlanRequest& request) : graph_(std::move(graph)), request_(request) {
    plan_.request = request;
  }

  Plan make() {
    number_slots();
    const std::size_t forward_nodes = graph_.nodes.size();
    if (request_.outputs_in_place) own_outputs();
    if (request_.explicit_steps || request_.gradients != GradientMode::none) add_gradients();
    std::vector<ValueId> kept = graph_.outputs;
    kept.push_back(graph_.loss);
    kept.insert(kept.end(), gradient_results_.begin(), gradient_results_.end());
    if (request_.explicit_steps) {
      kept.insert(kept.end(), dvalues_.begin(), dvalues_.end());
      for (std::size_t n = 0; n < forward_nodes; ++n)
        forward_makes_.insert(forward_makes_.end(), graph_.nodes[n].outputs.begin(), graph_.nodes[n].outputs.end());
    }
    drop_unread(graph_, kept);
    fuse_activations(graph_, kept);
    fuse_bias_gradients(graph_);
    if (!request_.explicit_steps) fuse_losses(graph_);  // forward and backward run apart
    order();
    place(kept);
    write_steps();
    return std::move(plan_);
  }

 private:
  void number_slots() {
    Slots& s = plan_.slots;
    s.x = 3;
    s.target = s.x + graph_.count(Leaf::x);
    s.weight = s.target + graph_.count(Leaf::target);
    s.doutput = s.weight + graph_.count(Leaf::weight);
    s.store = s.doutput + (request_.explicit_steps ? static_cast<int>(graph_.outputs.size()) : 0);
    s.output = s.store + request_.stores;
    s.count = s.output + (request_.outputs_in_place ? static_cast<int>(graph_.outputs.size()) : 0);
  }

  // The value whose memory this one is: reshapes are other names for their input.
  ValueId root(ValueId id) const {
    for (;;) {
      const int maker = graph_.values[at(id)].node;
      if (maker == kNone || !graph_.nodes[at(maker)].op->alias) return id;
      id = graph_.nodes[at(maker)].inputs[0];
    }
  }

  ValueId copy(ValueId id, const char* op = "identity") {
    return graph_.add(op, {id}, {}, graph_.values[at(id)].name)[0];
  }

  // An output that is an input, a parameter or another output needs memory of its own.
  void own_outputs() {
    std::vector<ValueId> seen;
    for (ValueId& id : graph_.outputs) {
      const ValueId r = root(id);
      if (graph_.values[at(r)].node == kNone || std::find(seen.begin(), seen.end(), r) != seen.end()) id = copy(id);
      seen.push_back(root(id));
    }
  }

  void add_gradients() {
    std::vector<Seed> seeds;
    const std::size_t values = graph_.values.size();
    if (request_.explicit_steps) {
      // The last output first, as its loss would be met: a value that is several outputs sums as in training.
      for (std::size_t i = graph_.outputs.size(); i-- > 0;) {
        const Type type = graph_.type(graph_.outputs[i]);
        seeds.push_back({graph_.outputs[i], graph_.leaf(Leaf::doutput, type, "dy", static_cast<int>(i))});
      }
    } else {
      seeds.push_back({graph_.loss, graph_.scalar(1)});
    }
    const std::vector<ValueId> gradient = differentiate(graph_, seeds);
    std::vector<ValueId> taken;
    for (std::size_t id = 0; id < values; ++id) {
      const Value value = graph_.values[id];  // a copy: adding nodes moves them
      ValueId d = id < gradient.size() ? gradient[id] : kNone;
      if (request_.explicit_steps) dvalues_.push_back(d);
      if (d == kNone && value.leaf == Leaf::parameter && request_.gradients == GradientMode::overwrite) {
        // No influence: what an explicit backward left there must not be taken for its gradient.
        d = graph_.add("broadcast_to", {graph_.scalar(0)}, {{"shape", value.type.dims}}, value.name)[0];
      }
      if (d == kNone) continue;
      if (value.leaf == Leaf::x && request_.explicit_steps) dx_.emplace_back(value.index, d);
      if (value.leaf != Leaf::parameter) continue;
      const int index = value.index;
      ValueId result = d;
      if (request_.gradients == GradientMode::accumulate) {
        result = copy(d, "accumulate");
      } else if (const ValueId r = root(d);
                 graph_.values[at(r)].node == kNone || std::find(taken.begin(), taken.end(), r) != taken.end()) {
        result = copy(d);
      }
      taken.push_back(root(result));
      gradient_results_.push_back(result);
      gradient_place_[root(result)] = index;
      gradients_reshaped_ = gradients_reshaped_ || graph_.type(root(result)) != value.type;
    }
  }

  // Phases: from barrier to barrier. A step joins the current phase unless it reads what this phase makes with another
  // split; then it waits for the next. So the row-split steps of forward and backward run without a barrier between
  // them, and all products over the batch (dW) follow in one phase, the update with them: one barrier a training step.
  void order() {
    const std::size_t n = graph_.nodes.size();
    std::vector<int> phase(n, kNone);
    std::vector<bool> backward(n);
    if (request_.explicit_steps) {
      for (std::size_t i = 0; i < n; ++i) {
        backward[i] = std::none_of(graph_.nodes[i].outputs.begin(), graph_.nodes[i].outputs.end(), [&](ValueId id) {
          return std::find(forward_makes_.begin(), forward_makes_.end(), id) != forward_makes_.end();
        });
      }
    }
    for (int part = 0, now = 0; part < 2; ++part, ++now) {
      if (part == 1) first_backward_ = order_.size();
      for (bool waiting = true; waiting; ++now) {
        for (bool joined = true; joined;) {  // again: a fused step may stand behind who reads it
          joined = waiting = false;
          for (std::size_t i = 0; i < n; ++i) {
            if (phase[i] != kNone || backward[i] != (part == 1)) continue;
            if (can_join(i, now, phase)) {
              phase[i] = now;
              order_.push_back(i);
              joined = true;
            } else {
              waiting = true;
            }
          }
        }
      }
    }
    phase_ = std::move(phase);
  }

  bool is_rows(const Node& node) const {
    return std::all_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) { return graph_.type(id).batched; });
  }

  bool can_join(std::size_t i, int now, const std::vector<int>& phase) const {
    const Node& node = graph_.nodes[i];
    return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
      const Value& read = graph_.values[at(root(id))];
      const int maker = read.node;
      // Workers gather their own rows of x before the first step, so a step that reads other rows meets them first.
      if (maker == kNone) return now > 0 || read.leaf != Leaf::x || is_rows(node);
      const int made = phase[at(maker)];
      return made != kNone && (made < now || (is_rows(graph_.nodes[at(maker)]) && is_rows(node)));
    });
  }

  void place(const std::vector<ValueId>& kept) {
    places_.resize(graph_.values.size());
    for (std::size_t c = 0; c < graph_.constants.size(); ++c) {
      plan_.constant_offsets.push_back(plan_.constant_bytes);
      plan_.constants.push_back(graph_.constants[c].data);
      plan_.constant_bytes +=
          static_cast<std::int64_t>(align_up(graph_.constants[c].data.size() * size_of(request_.dtype)));
    }
    std::map<ValueId, int> output_place;
    if (request_.outputs_in_place) {
      for (std::size_t i = 0; i < graph_.outputs.size(); ++i) {
        output_place[root(graph_.outputs[i])] = static_cast<int>(i);
      }
    }
    const Slots& s = plan_.slots;
    struct Tenant {
      ValueId id;
      std::int64_t bytes;
      int first, last;  // phases
    };
    std::vector<Tenant> tenants;
    const int end = 1 << 30;
    for (std::size_t id = 0; id < graph_.values.size(); ++id) {
      const Value& v = graph_.values[id];
      Location& place = places_[id];
      switch (v.leaf) {
        case Leaf::x:
          place = {s.x + v.index, 0};
          continue;
        case Leaf::target:
          place = {s.target + v.index, 0};
          continue;
        case Leaf::weight:
          place = {s.weight + v.index, 0};
          continue;
        case Leaf::doutput:
          place = {s.doutput + v.index, 0};
          continue;
        case Leaf::parameter:
          place = {s.store + request_.parameters[at(v.index)].store, request_.parameters[at(v.index)].offset};
          continue;
        case Leaf::constant:
          place = {Slots::constants, plan_.constant_offsets[at(v.index)]};
          continue;
        case Leaf::none:
          break;
      }
      if (v.node == kNone || root(static_cast<ValueId>(id)) != static_cast<ValueId>(id)) continue;
      if (const auto g = gradient_place_.find(static_cast<ValueId>(id)); g != gradient_place_.end()) {
        place = {Slots::gradients, request_.parameters[at(g->second)].gradient_offset};
      } else if (const auto o = output_place.find(static_cast<ValueId>(id)); o != output_place.end()) {
        place = {s.output + o->second, 0};
      } else {
        const int made = phase_[at(v.node)];
        tenants.push_back({static_cast<ValueId>(id), bytes_of(v.type, request_.dtype, request_.capacity), made, made});
      }
    }
    for (Tenant& t : tenants) {
      for (std::size_t n = 0; n < graph_.nodes.size(); ++n) {
        for (const ValueId input : graph_.nodes[n].inputs) {
          if (root(input) == t.id) t.last = std::max(t.last, phase_[n]);
        }
      }
      for (const ValueId id : kept) {
        if (id != kNone && (graph_.values[at(id)].node != kNone) && root(id) == t.id) t.last = end;
      }
    }
    // The largest first, each at the lowest offset that is free during its phases.
    std::stable_sort(tenants.begin(), tenants.end(),
                     [](const Tenant& a, const Tenant& b) { return a.bytes > b.bytes; });
    std::vector<Tenant> housed;
    for (const Tenant& t : tenants) {
      std::vector<std::pair<std::int64_t, std::int64_t>> busy;
      for (const Tenant& other : housed) {
        if (other.first > t.last || t.first > other.last) continue;
        const std::int64_t offset = places_[at(other.id)].offset;
        busy.emplace_back(offset, offset + static_cast<std::int64_t>(align_up(static_cast<std::size_t>(other.bytes))));
      }
      std::sort(busy.begin(), busy.end());
      std::int64_t offset = 0;
      for (const auto& [from, to] : busy) {
        if (offset + t.bytes <= from) break;
        offset = std::max(offset, to);
      }
      places_[at(t.id)] = {Slots::arena, offset};
      plan_.arena_bytes =
          std::max(plan_.arena_bytes, offset + static_cast<std::int64_t>(align_up(static_cast<std::size_t>(t.bytes))));
      housed.push_back(t);
    }
  }

  Location location(ValueId id) const {
    if (id == kNone) return {-1, 0};
    const ValueId r = root(id);
    const Value& v = graph_.values[at(r)];
    if (v.node == kNone && v.leaf == Leaf::none) return {-1, 0};  // dropped or fused away
    return places_[at(r)];
  }

  // Not where each worker updates what it made the gradients of (dense_dw and dense_db share out their results as the
  // update does parameters of that shape) and no other reads parameters meanwhile.
  bool meets_before_update() const {
    if (gradients_reshaped_) return true;
    const Slots& s = plan_.slots;
    for (std::size_t i = plan_.steps.size(); i-- > 0;) {
      const PlannedStep& step = plan_.steps[i];
      const std::string& op = step.node.op->name;
      const bool own = op == "dense_dw" || op == "dense_db";
      for (const Location& in : step.inputs)
        if (in.slot >= s.store && in.slot < s.output) return true;
      for (const Location& out : step.outputs)
        if (out.slot == Slots::gradients && !own) return true;
      if (step.barrier) break;  // what was made before it is everybody's
    }
    return false;
  }

  void write_steps() {
    int previous = 0;
    for (std::size_t k = 0; k < order_.size(); ++k) {
      if (k == first_backward_) plan_.backward_begin = plan_.steps.size();
      const std::size_t i = order_[k];
      const Node& node = graph_.nodes[i];
      if (node.op->alias) continue;
      PlannedStep step;
      step.node = node;
      step.rows = is_rows(node);
      step.barrier = phase_[i] != previous;  // the first step too, where it waits for gathered rows
      previous = phase_[i];
      for (const ValueId id : node.inputs) {
        step.inputs.push_back(location(id));
        step.input_types.push_back(graph_.type(id));
      }
      for (const ValueId id : node.outputs) {
        step.outputs.push_back(location(id));
        step.output_types.push_back(graph_.type(id));
      }
      std::vector<Type> types;
      const Call call = graph_.call(node, types);
      for (const Type& t : types) step.per_row = step.per_row || t.batched;
      step.flops = cost_of(call, step.output_types);
      (step.per_row ? plan_.flops_per_row : plan_.flops_fixed) += step.flops;
      plan_.steps.push_back(std::move(step));
    }
    if (first_backward_ == order_.size()) plan_.backward_begin = plan_.steps.size();
    if (request_.update) {
      PlannedStep update;
      update.node.op = &get_op("update");
      update.barrier = meets_before_update();
      update.flops = update_flops(request_.update_count);
      const Type flat{false, {request_.update_count}};  // gradient, parameter and state in, parameter and state out
      update.input_types.assign(static_cast<std::size_t>(2 + request_.update_slots), flat);
      update.output_types.assign(static_cast<std::size_t>(1 + request_.update_slots), flat);
      plan_.flops_fixed += update.flops;
      plan_.steps.push_back(std::move(update));
    }
    for (const PlannedStep& step : plan_.steps) plan_.barriers += step.barrier;
    for (const ValueId id : graph_.outputs) plan_.outputs.push_back(location(id));
    plan_.loss = location(graph_.loss);
    plan_.dx.assign(at(graph_.count(Leaf::x)), {-1, 0});
    for (const auto& [index, id] : dx_) plan_.dx[at(index)] = location(id);
    for (const ValueId id : dvalues_) plan_.dvalues.push_back(location(id));
    for (const Value& v : graph_.values) plan_.value_types.push_back(v.type);
  }

  Graph graph_;
  PlanRequest request_;
  Plan plan_;
  std::vector<ValueId> gradient_results_, dvalues_, forward_makes_;
  std::map<ValueId, int> gradient_place_;    // root of a parameter's gradient -> the parameter
  bool gradients_reshaped_ = false;          // one is made in another shape than its parameter's
  std::vector<std::pair<int, ValueId>> dx_;  // x index, gradient
  std::vector<std::size_t> order_;
  std::vector<int> phase_;
  std::vector<Location> places_;
  std::size_t first_backward_ = 0;  // in order_, which counts reshapes too
};

}  // namespace

std::int64_t bytes_of(const Type& type, DType dtype, std::int64_t rows) {
  constexpr std::int64_t kMost = std::int64_t{1} << 48;  // what a process can address
  const auto element = static_cast<std::int64_t>(size_of(type.kind == Kind::labels ? DType::i32 : dtype));
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(type.count() * element, type.batched ? rows : 1, &bytes) || bytes > kMost)
    throw ValueError(concat("expected a batch that memory can hold, got ", rows, " rows of ", to_string(type)));
  return bytes;
}

Plan make_plan(Graph graph, const PlanRequest& request) { return Planner(std::move(graph), request).make(); }

}  // namespace ranvier
