// The explicit steps: forward, backward, step, zero_grad. The tape is a workspace that the network keeps in between.
#include <algorithm>
#include <cstring>

#include "cpu/network.h"

namespace ranvier::cpu {

void Network::step() {
  const std::lock_guard state(state_mutex_);
  const StoreLocks locks(lock_order_, true);
  update(1);
  pending = 0;
}

void Network::zero_grad() {
  const std::lock_guard state(state_mutex_);
  gradients_.clear();
  pending = 0;
}

void Network::forward(const Feed& feed, std::int64_t rows, std::span<std::byte* const> outputs) {
  const std::lock_guard state(state_mutex_);
  const std::shared_ptr<const Program> program = this->program(Purpose::forward, rows, feed.interface.get());
  tape_ready_ = tape_done_ = false;
  if (tape_program_ != program) {
    tape_ = program->borrow();
    tape_program_ = program;
    tape_interface_ = feed.interface;
  }
  const StoreLocks locks(lock_order_, false);
  const Plan& plan = program->plan();
  bind(*program, *tape_, feed, 0, rows, nullptr, /*own_inputs=*/true);
  tape_rows_ = rows;
  tape_step_ = static_cast<std::uint32_t>(training_step);
  program->run(*tape_, frame(rows), 0, plan.backward_begin);
  const std::vector<Type>& types = tape_interface_->outputs;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const std::byte* from = tape_->base[static_cast<std::size_t>(plan.outputs[i].slot)] + plan.outputs[i].offset;
    std::memcpy(outputs[i], from, static_cast<std::size_t>(rows * types[i].count()) * ranvier::size_of(dtype_));
  }
  tape_ready_ = true;
  ++training_step;
}

void Network::backward(const Interface& interface, std::span<const HostArray> dy, std::span<std::byte* const> dx) {
  const std::lock_guard state(state_mutex_);
  if (!tape_ready_ || tape_interface_.get() != &interface)
    throw std::runtime_error("backward: call forward(x, training=True) first");
  const std::vector<Type>& types = interface.outputs;
  if (dy.size() != types.size()) {
    throw ValueError(concat("backward: expected ", types.size(), " gradients, got ", dy.size()));
  }
  for (std::size_t i = 0; i < dy.size(); ++i) {
    if (dy[i].rows != tape_rows_ || !fits(types[i], dy[i].shape)) {
      throw ValueError(concat("backward: expected dy ", to_string(types[i]), " with ", tape_rows_, " rows, got ",
                              text_of(dy[i].shape)));
    }
  }
  const StoreLocks locks(lock_order_, false);
  const Plan& plan = tape_program_->plan();
  for (std::size_t i = 0; i < dy.size(); ++i) {
    const int slot = plan.slots.doutput + static_cast<int>(i);
    std::byte* to = tape_program_->staging(*tape_, slot,
                                           std::max<std::int64_t>(1, plan.request.capacity * dy[i].width) *
                                               static_cast<std::int64_t>(ranvier::size_of(dtype_)));
    gather(dy[i], nullptr, tape_rows_, dtype_, to);
    tape_->base[static_cast<std::size_t>(slot)] = to;
  }
  Frame f = frame(tape_rows_);
  f.training_step = tape_step_;
  tape_program_->run(*tape_, f, plan.backward_begin, plan.steps.size());
  for (std::size_t i = 0; i < dx.size(); ++i) {
    const Location& place = plan.dx[i];
    const std::size_t bytes =
        static_cast<std::size_t>(tape_rows_ * interface.x[i].type.count()) * ranvier::size_of(dtype_);
    if (place.slot < 0) {
      std::memset(dx[i], 0, bytes);
    } else {
      std::memcpy(dx[i], tape_->base[static_cast<std::size_t>(place.slot)] + place.offset, bytes);
    }
  }
  tape_ready_ = false;
  tape_done_ = true;
}

Network::ValueGradient Network::value_gradient(ValueId id) {
  const std::lock_guard state(state_mutex_);
  if (!tape_done_)
    throw std::runtime_error("gradients(wrt=...): call forward(x, training=True) and backward(dy) first");
  const Plan& plan = tape_program_->plan();
  if (id < 0 || static_cast<std::size_t>(id) >= plan.dvalues.size()) {
    throw ValueError("gradients(wrt=...): not a tensor of this model");
  }
  const Type& type = plan.value_types[static_cast<std::size_t>(id)];
  const Location& place = plan.dvalues[static_cast<std::size_t>(id)];
  const std::int64_t count = type.count() * (type.batched ? tape_rows_ : 1);
  ValueGradient gradient{type, tape_rows_, {}};
  gradient.data.resize(static_cast<std::size_t>(count) * ranvier::size_of(dtype_));  // 0 where nothing flowed
  if (place.slot >= 0) {
    const std::byte* from = tape_->base[static_cast<std::size_t>(place.slot)] + place.offset;
    std::copy_n(from, gradient.data.size(), gradient.data.begin());
  }
  return gradient;
}

}  // namespace ranvier::cpu
