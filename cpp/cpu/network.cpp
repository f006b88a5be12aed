#include "cpu/network.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>

namespace ranvier::cpu {

int slots_of(const OptimizerSettings& o, bool used[3]) {
  const bool momentum = o.numbers.momentum != 0;
  used[0] = o.rule != Optimizer::sgd || momentum;
  used[1] = o.rule == Optimizer::adam || o.rule == Optimizer::adamw || (o.rule == Optimizer::rmsprop && momentum);
  used[2] = o.rule == Optimizer::rmsprop && o.centered;
  return used[0] + used[1] + used[2];
}

Update OptimizerSettings::at_step(std::int64_t step) const {
  Update u = numbers;
  u.lr = lr;
  u.set_step(rule, step);
  if (clip_value > 0) u.clip_value = clip_value;
  return u;
}

Network::Network(std::vector<Parameter> parameters, std::uint64_t seed)
    : parameters_(std::move(parameters)),
      dtype_(parameters_.empty() ? DType::f32 : parameters_[0].store->dtype()),
      seed_(seed) {
  std::int64_t at = 0;
  for (const Parameter& p : parameters_) {
    if (p.store->dtype() != dtype_) throw TypeError("all parameters of a network must have one dtype");
    auto found = std::find(stores_.begin(), stores_.end(), p.store);
    if (found == stores_.end()) found = stores_.insert(stores_.end(), p.store);
    const int store = static_cast<int>(found - stores_.begin());
    store_of_.push_back(store);
    gradient_offsets_.push_back(at);
    const std::int64_t offset = p.store->offset(p.index), bytes = p.store->bytes(p.index);
    const std::int64_t count = bytes / static_cast<std::int64_t>(ranvier::size_of(dtype_));
    UpdateRange* last = update_.ranges.empty() ? nullptr : &update_.ranges.back();
    if (last && last->store == store &&
        last->store_offset + last->count * static_cast<std::int64_t>(ranvier::size_of(dtype_)) == offset) {
      last->count += count;
    } else {
      update_.ranges.push_back({store, offset, at, count});
    }
    const Dims& dims = p.store->shape(p.index);
    const bool matrix = dims.size() == 2;
    update_.parameters.push_back(
        {store, offset, gradient_offsets_.back(), matrix ? dims[0] : 1, matrix ? dims[1] : Type{false, dims}.count()});
    at += bytes;
  }
  for (const auto& store : stores_) lock_order_.push_back(store.get());
  std::sort(lock_order_.begin(), lock_order_.end(), std::less<>());
  gradients_ = Buffer(static_cast<std::size_t>(at));
  gradients_.clear();
  std::int64_t chunks = 0;
  for (const UpdateRange& range : update_.ranges) chunks += (range.count + kSumChunk - 1) / kSumChunk;
  chunk_sums_ = Buffer(static_cast<std::size_t>(chunks) * sizeof(double));
  update_.chunk_sums = chunk_sums_.as<double>();
}

namespace {

std::size_t index(Purpose purpose) { return static_cast<std::size_t>(purpose); }
std::size_t graph_index(Purpose purpose) { return index(purpose == Purpose::accumulate ? Purpose::train : purpose); }

}  // namespace

void Network::set_graph(Purpose purpose, Graph graph) {
  for (const Value& v : graph.values) {
    if (v.leaf != Leaf::parameter) continue;
    const auto i = static_cast<std::size_t>(v.index);
    if (i >= parameters_.size() || v.type != Type{false, parameters_[i].store->shape(parameters_[i].index)}) {
      throw ValueError(concat("parameter ", v.name, " ", to_string(v.type), " is not one of the network's"));
    }
  }
  for (const ValueId id : graph.outputs) {
    if (!graph.type(id).batched) {
      throw ValueError(concat("an output ", to_string(graph.type(id)), " does not depend on any input"));
    }
  }
  if (purpose == Purpose::train && graph.loss == kNone) throw ValueError("a graph to train has no loss");
  auto interface = std::make_shared<const Interface>(std::move(graph), dtype_);
  const std::lock_guard lock(plans_mutex_);
  interfaces_[index(purpose)] = std::move(interface);
  plans_[index(purpose)].reset();
  if (purpose == Purpose::train) plans_[index(Purpose::accumulate)].reset();
}

std::shared_ptr<const Interface> Network::interface(Purpose purpose) const {
  const std::lock_guard lock(plans_mutex_);
  const auto& interface = interfaces_[index(purpose)];
  if (!interface) throw std::runtime_error("the network has no graph for this purpose yet");
  return interface;
}

void Network::set_optimizer(std::shared_ptr<const OptimizerSettings> optimizer, int accumulate_steps) {
  const std::lock_guard lock(state_mutex_);
  bool used[3];
  slots_of(*optimizer, used);
  Buffer slots[3];  // all that may not be had before anything changes
  for (int k = 0; k < 3; ++k) {
    slots[k] = Buffer(used[k] ? gradients_.size() : 0);
    slots[k].clear();
  }
  if (optimizer->rule == Optimizer::adagrad && optimizer->initial_accumulator != 0) {
    const std::size_t n = slots[0].size() / ranvier::size_of(dtype_);
    if (dtype_ == DType::f64) std::fill_n(slots[0].as<double>(), n, optimizer->initial_accumulator);
    if (dtype_ == DType::f32) std::fill_n(slots[0].as<float>(), n, static_cast<float>(optimizer->initial_accumulator));
  }
  for (int k = 0; k < 3; ++k) {
    slots_[k] = std::move(slots[k]);
    update_.slots[k] = slots_[k].data();
  }
  update_.rule = optimizer->rule;
  accumulate_steps_ = accumulate_steps;
  pending = 0;
  updates = 0;
  const std::lock_guard plans(plans_mutex_);  // they know how much state an update streams
  optimizer_ = std::move(optimizer);
  plans_[index(Purpose::train)].reset();
  plans_[index(Purpose::update)].reset();
}

void Network::set_precision(Precision precision) {
  const std::lock_guard lock(plans_mutex_);
  if (precision != std::exchange(precision_, precision)) plans_.fill(nullptr);
}

PlanRequest Network::request(Purpose purpose, std::int64_t capacity) const {
  PlanRequest r;
  r.dtype = dtype_;
  r.precision = precision_;
  r.capacity = capacity;
  r.stores = static_cast<int>(stores_.size());
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    r.parameters.push_back({store_of_[i], parameters_[i].store->offset(parameters_[i].index), gradient_offsets_[i]});
  }
  r.outputs_in_place = purpose == Purpose::infer;
  r.explicit_steps = purpose == Purpose::forward;
  r.update = purpose == Purpose::train || purpose == Purpose::update;
  if (r.update) {
    if (!optimizer_) throw std::runtime_error("the network has no optimiser yet");
    bool used[3];
    r.update_slots = slots_of(*optimizer_, used);
    for (const UpdateRange& range : update_.ranges) r.update_count += range.count;
  }
  if (purpose == Purpose::train) r.gradients = GradientMode::overwrite;
  if (purpose == Purpose::accumulate || purpose == Purpose::forward) r.gradients = GradientMode::accumulate;
  return r;
}

std::shared_ptr<const Program> Network::program(Purpose purpose, std::int64_t rows, const Interface* checked,
                                                bool keep) {
  const std::lock_guard lock(plans_mutex_);
  const Interface* current = interfaces_[graph_index(purpose)].get();
  if (checked && checked != current) {
    throw std::runtime_error("another thread has given the model another graph during this call");
  }
  std::shared_ptr<const Program> program = plans_[index(purpose)];
  if (!program || program->plan().request.capacity < rows) {
    // One plan a purpose, for up to so many rows: the last partial batch or a single row never makes another.
    const auto wanted = static_cast<std::uint64_t>(std::max<std::int64_t>(rows, 1));
    const std::int64_t capacity =
        rows <= 1024 ? static_cast<std::int64_t>(std::bit_ceil(wanted)) : (rows + 255) / 256 * 256;
    if (!current && purpose != Purpose::update) {
      throw std::runtime_error("the network has no graph for this purpose yet");
    }
    program = std::make_shared<Program>(make_plan(current ? current->graph : Graph(), request(purpose, capacity)));
    if (keep) plans_[index(purpose)] = program;
  }
  return program;
}

void Network::bind(const Program& program, Workspace& w, const Feed& feed, std::int64_t first, std::int64_t rows,
                   const std::int64_t* order, bool own_inputs) const {
  const Slots& s = program.plan().slots;
  w.base[Slots::gradients] = gradients_.data();
  for (std::size_t i = 0; i < stores_.size(); ++i) w.base[static_cast<std::size_t>(s.store) + i] = stores_[i]->data();
  const std::int64_t capacity = program.plan().request.capacity;
  const auto feed_slot = [&](const HostArray& a, int slot, std::int64_t classes) {  // 0: real values
    const bool labels = classes > 0;
    std::byte*& base = w.base[static_cast<std::size_t>(slot)];
    HostArray from = a;
    if (!order) from.data += first * a.width * static_cast<std::int64_t>(size_of(a.element));
    if (!order && !own_inputs && !labels && is(a.element, dtype_)) {
      base = const_cast<std::byte*>(from.data);  // steps only read inputs
      return;
    }
    const std::size_t element = labels ? 4 : ranvier::size_of(dtype_);
    base = program.staging(w, slot, std::max<std::int64_t>(1, capacity * a.width) * static_cast<std::int64_t>(element));
    if (labels) {
      gather_labels(from, order, rows, classes, reinterpret_cast<std::int32_t*>(base));
    } else if (slot < s.target) {
      w.gathers.push_back({from, order, base});  // by the workers, each its rows
    } else {
      gather(from, order, rows, dtype_, base);
    }
  };
  w.gathers.clear();
  for (std::size_t i = 0; i < feed.x.size(); ++i) feed_slot(feed.x[i], s.x + static_cast<int>(i), 0);
  for (std::size_t i = 0; i < feed.y.size(); ++i) {
    const Interface::Input& target = feed.interface->targets[i];
    feed_slot(feed.y[i], s.target + static_cast<int>(i), target.type.kind == Kind::labels ? target.classes : 0);
  }
  if (s.doutput > s.weight) {
    w.base[static_cast<std::size_t>(s.weight)] = nullptr;
    if (feed.weight.data) feed_slot(feed.weight, s.weight, 0);
  }
}

Frame Network::frame(std::int64_t rows) const {
  Frame f{};
  f.rows = rows;
  f.seed = seed_;
  f.training_step = static_cast<std::uint32_t>(training_step);
  f.update = &update_;
  return f;
}

// --- runs

void Network::predict(const Feed& feed, std::int64_t rows, std::int64_t block, std::span<std::byte* const> outputs) {
  if (rows == 0) return;
  const Interface& interface = *feed.interface;
  const std::shared_ptr<const Program> program = this->program(Purpose::infer, std::min(rows, block), &interface);
  const Borrowed w(*program);
  const Plan& plan = program->plan();
  const StoreLocks locks(lock_order_, false);
  Frame f{};
  std::uint64_t version = 0;
  for (const auto& store : stores_) version += store->version();
  for (std::int64_t first = 0; first < rows; first += block) {
    const std::int64_t n = std::min(block, rows - first);
    bind(*program, *w, feed, first, n, nullptr, false);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      w->base[static_cast<std::size_t>(plan.slots.output) + i] =
          outputs[i] + first * interface.outputs[i].count() * static_cast<std::int64_t>(ranvier::size_of(dtype_));
    }
    f.rows = n;
    if (first == 0) program->pack_weights(*w, f, version);
    program->run(*w, f);
  }
}

void Network::prepare_update(double grad_scale) {
  if (!optimizer_) throw std::runtime_error("the network has no optimiser yet");
  update_.numbers = optimizer_->at_step(updates + 1);
  update_.numbers.grad_scale = grad_scale;
  update_.clip_norm = optimizer_->clip_norm;
}

double Network::run_batch(Purpose purpose, const Feed& feed, std::int64_t first, const Frame& frame,
                          const std::int64_t* order, std::span<std::byte* const> predictions) {
  const std::int64_t rows = frame.rows;
  const Interface& interface = *feed.interface;
  const std::shared_ptr<const Program> program = this->program(purpose, rows, &interface);
  const Borrowed w(*program);
  bind(*program, *w, feed, first, rows, order, false);
  program->run(*w, frame);
  const Plan& plan = program->plan();
  for (std::size_t i = 0; i < predictions.size(); ++i) {
    const std::size_t row = static_cast<std::size_t>(interface.outputs[i].count()) * ranvier::size_of(dtype_);
    const std::byte* from = w->base[static_cast<std::size_t>(plan.outputs[i].slot)] + plan.outputs[i].offset;
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t to = order ? order[r] : first + r;
      std::memcpy(predictions[i] + static_cast<std::size_t>(to) * row, from + static_cast<std::size_t>(r) * row, row);
    }
  }
  if (plan.loss.slot < 0) return 0;
  const std::byte* loss = w->base[static_cast<std::size_t>(plan.loss.slot)] + plan.loss.offset;
  return dtype_ == DType::f64 ? *reinterpret_cast<const double*>(loss) : *reinterpret_cast<const float*>(loss);
}

double Network::train(const Feed& feed, std::int64_t first, std::int64_t rows, const std::int64_t* order,
                      std::span<std::byte* const> predictions, bool last) {
  const std::lock_guard state(state_mutex_);
  const StoreLocks locks(lock_order_, true);
  double loss;
  if (accumulate_steps_ == 1) {
    prepare_update(1);
    loss = run_batch(Purpose::train, feed, first, frame(rows), order, predictions);
    ++updates;
  } else {
    if (pending == 0) gradients_.clear();
    loss = run_batch(Purpose::accumulate, feed, first, frame(rows), order, predictions);
    if (++pending == accumulate_steps_ || last) {
      update(1. / pending);
      pending = 0;
    }
  }
  ++training_step;
  return loss;
}

double Network::evaluate(const Feed& feed, std::int64_t first, std::int64_t rows,
                         std::span<std::byte* const> predictions) {
  const StoreLocks locks(lock_order_, false);
  Frame frame{};  // no counters: others may be training
  frame.rows = rows;
  return run_batch(Purpose::evaluate, feed, first, frame, nullptr, predictions);
}

void Network::update(double grad_scale) {
  prepare_update(grad_scale);
  const std::shared_ptr<const Program> program = this->program(Purpose::update, 1);
  const Borrowed w(*program);
  bind(*program, *w, {}, 0, 1, nullptr, false);
  program->run(*w, frame(1));
  ++updates;
}

std::vector<Buffer*> Network::slots() {
  std::vector<Buffer*> used;
  for (Buffer& slot : slots_) {
    if (slot.size() > 0) used.push_back(&slot);
  }
  return used;
}

std::string Network::profile(const Feed& feed, std::int64_t rows, std::int64_t repeats) {
  const std::lock_guard state(state_mutex_);
  const StoreLocks locks(lock_order_, true);
  // The measured steps train for real; what they change is put back.
  std::vector<std::pair<std::byte*, std::vector<std::byte>>> saved;
  const auto keep = [&](std::byte* data, std::size_t bytes) {
    if (bytes) saved.emplace_back(data, std::vector<std::byte>(data, data + bytes));
  };
  for (const auto& store : stores_) {
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < store->size(); ++i) bytes += static_cast<std::size_t>(store->bytes(i));
    keep(store->data(), bytes);
  }
  keep(gradients_.data(), gradients_.size());
  for (const Buffer& slot : slots_) keep(slot.data(), slot.size());
  const std::shared_ptr<const Program> program = this->program(Purpose::train, rows, feed.interface.get());
  const Borrowed w(*program);
  bind(*program, *w, feed, 0, rows, nullptr, false);
  prepare_update(1);
  const std::size_t steps = program->plan().steps.size();
  std::vector<std::vector<double>> times(steps);
  for (std::int64_t r = 0; r <= repeats; ++r) {
    std::vector<double> once(steps);
    program->run(*w, frame(rows), 0, steps, once.data());
    for (std::size_t i = 0; r > 0 && i < steps; ++i) times[i].push_back(once[i]);  // the first warms up
  }
  std::vector<double> medians;
  for (std::vector<double>& t : times) {
    std::nth_element(t.begin(), t.begin() + static_cast<std::ptrdiff_t>(t.size() / 2), t.end());
    medians.push_back(t[t.size() / 2]);
  }
  for (const auto& [data, bytes] : saved) std::memcpy(data, bytes.data(), bytes.size());
  return program->print("train", rows, medians.data());
}

}  // namespace ranvier::cpu
