#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>

#include "bindings/optimizer.h"

namespace ranvier::bindings {
namespace {

using cpu::Feed;
using cpu::HostArray;
using cpu::Network;
using cpu::Program;
using cpu::Purpose;
using cpu::Store;

Purpose purpose_named(const std::string& name) {
  if (name == "infer") return Purpose::infer;
  if (name == "forward") return Purpose::forward;
  if (name == "train") return Purpose::train;
  if (name == "evaluate") return Purpose::evaluate;
  throw ValueError(concat("no purpose is called '", name, "'"));
}

// One array, or a list or tuple of `count` arrays where the graph has several.
std::vector<Held> hold_all(py::handle given, std::size_t count, const char* name) {
  std::vector<Held> held;
  const bool sequence = PyList_Check(given.ptr()) || PyTuple_Check(given.ptr());
  if (count == 1) {
    if (sequence && py::len(given) == 1) {
      const py::object only = py::reinterpret_borrow<py::sequence>(given)[0];
      if (py::isinstance<py::array>(only) && py::reinterpret_borrow<py::array>(only).ndim() > 1) {
        held.push_back(hold(only, name));
        return held;
      }
    }
    held.push_back(hold(given, name));
    return held;
  }
  if (!sequence || py::len(given) != count) {
    throw ValueError(concat(name, ": expected a list of ", count, " arrays"));
  }
  for (const py::handle item : py::reinterpret_borrow<py::sequence>(given)) held.push_back(hold(item, name));
  return held;
}

std::vector<HostArray> views(const std::vector<Held>& held) {
  std::vector<HostArray> v;
  for (const Held& h : held) v.push_back(h.view);
  return v;
}

// A feed and the arrays behind it.
struct HeldFeed {
  std::vector<Held> x, y, weight;
  Feed feed;

  HeldFeed(const Network& network, Purpose purpose, py::handle given_x, py::handle given_y, py::handle given_weight) {
    feed.interface = network.interface(purpose);
    x = hold_all(given_x, feed.interface->x.size(), "x");
    feed.x = views(x);
    if (given_y) {
      y = hold_all(given_y, feed.interface->targets.size(), "y");
      feed.y = views(y);
    }
    if (given_weight && !given_weight.is_none()) {
      weight.push_back(hold(given_weight, "sample_weight"));
      feed.weight = weight[0].view;
    }
  }
};

struct Outputs {
  std::vector<py::array> arrays;
  std::vector<std::byte*> data;

  void add(py::array array) {
    data.push_back(data_of(array));
    arrays.push_back(std::move(array));
  }
  py::object result() const {
    if (arrays.size() == 1) return arrays[0];
    py::tuple all(arrays.size());
    for (std::size_t i = 0; i < arrays.size(); ++i) all[i] = arrays[i];
    return all;
  }
};

double work(const cpu::Interface& interface, std::int64_t rows) {
  return interface.flops_per_row * static_cast<double>(rows);
}

Dims with_rows(std::int64_t rows, const Type& type) {
  Dims shape{rows};
  shape.insert(shape.end(), type.dims.begin(), type.dims.end());
  return shape;
}

Outputs outputs_for(const Network& network, const cpu::Interface& interface, std::int64_t rows, py::handle out) {
  Outputs outputs;
  const std::vector<Type>& types = interface.outputs;
  for (std::size_t i = 0; i < types.size(); ++i) {
    const Dims shape = with_rows(rows, types[i]);
    if (!out || out.is_none()) {
      outputs.add(new_array(network.dtype(), shape));
    } else if (types.size() == 1 && py::isinstance<py::array>(out)) {
      outputs.add(check_out(out, network.dtype(), shape, "out"));
    } else {
      const auto given = py::reinterpret_borrow<py::sequence>(out);
      if (given.size() != types.size()) throw ValueError(concat("out: expected ", types.size(), " arrays"));
      outputs.add(check_out(py::object(given[i]), network.dtype(), shape, "out"));
    }
  }
  return outputs;
}

py::object predict(Network& network, py::handle x, const py::object& batch_size, py::handle out) {
  const HeldFeed held(network, Purpose::infer, x, {}, {});
  const cpu::Interface& interface = *held.feed.interface;
  const std::int64_t rows = interface.check(held.feed, false);
  const std::int64_t block = batch_size.is_none() ? interface.default_block : batch_size.cast<std::int64_t>();
  if (block < 1) throw ValueError(concat("batch_size: expected >= 1, got ", block));
  const Outputs outputs = outputs_for(network, interface, rows, out);
  bool aside = false;  // outputs that share memory with inputs that are still read: written beside, copied after
  for (const py::array& a : outputs.arrays) {
    for (const Held& h : held.x) aside = aside || overlap(a, h.array);
  }
  const Outputs beside = aside ? outputs_for(network, interface, rows, {}) : Outputs();
  const Outputs& written = aside ? beside : outputs;
  {
    const MaybeReleased released(work(interface, rows));
    network.predict(held.feed, rows, block, written.data);
  }
  for (std::size_t i = 0; aside && i < written.data.size(); ++i) {
    std::copy_n(written.data[i], outputs.arrays[i].nbytes(), outputs.data[i]);
  }
  return outputs.result();
}

double train_step(Network& network, py::handle x, py::handle y, py::handle weight) {
  const HeldFeed held(network, Purpose::train, x, y, weight);
  const std::int64_t rows = held.feed.interface->check(held.feed, true);
  if (rows == 0) throw ValueError("train_step: expected one row or more, got none");
  const MaybeReleased released(3 * work(*held.feed.interface, rows));
  return network.train(held.feed, 0, rows, nullptr, {}, false);
}

// Batches of one pass over arrays, run in slices.
class Epoch {
 public:
  Epoch(std::shared_ptr<Network> network, const std::string& purpose, py::handle x, py::handle y, py::handle weight,
        std::int64_t batch_size, const py::object& order, const py::object& predictions)
      : network_(std::move(network)),
        purpose_(purpose_named(purpose)),
        held_(*network_, purpose_, x, y, weight),
        rows_(held_.feed.interface->check(held_.feed, true)),
        batch_size_(batch_size) {
    if (batch_size < 1) throw ValueError(concat("batch_size: expected >= 1, got ", batch_size));
    if (!order.is_none()) {
      order_ = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>(order);
      if (order_.ndim() != 1 || order_.size() != rows_) throw ValueError(concat("order: expected ", rows_, " rows"));
      for (py::ssize_t i = 0; i < order_.size(); ++i) {
        if (order_.at(i) < 0 || order_.at(i) >= rows_) throw ValueError("order: a row is out of range");
      }
    }
    if (!predictions.is_none()) predictions_ = outputs_for(*network_, *held_.feed.interface, rows_, predictions);
  }

  bool run(double seconds) {
    using Clock = std::chrono::steady_clock;
    const py::gil_scoped_release released;
    const auto until = Clock::now() + std::chrono::duration<double>(seconds);
    const std::int64_t* order = order_.size() ? order_.data() : nullptr;
    do {
      if (done_ >= rows_) return true;
      const std::int64_t n = std::min(batch_size_, rows_ - done_);
      const double loss = purpose_ == Purpose::train
                              ? network_->train(held_.feed, done_, n, order ? order + done_ : nullptr,
                                                predictions_.data, done_ + n == rows_)
                              : network_->evaluate(held_.feed, done_, n, predictions_.data);
      done_ += n;
      ++steps_;
      loss_ += loss * static_cast<double>(n);
    } while (Clock::now() < until);
    return done_ >= rows_;
  }
  std::int64_t steps() const { return steps_; }
  std::int64_t rows() const { return done_; }
  double loss() const { return done_ ? loss_ / static_cast<double>(done_) : 0; }

 private:
  std::shared_ptr<Network> network_;
  Purpose purpose_;
  HeldFeed held_;
  std::int64_t rows_, batch_size_, done_ = 0, steps_ = 0;
  double loss_ = 0;
  py::array_t<std::int64_t> order_;
  Outputs predictions_;
};

py::object forward(Network& network, py::handle x, bool training) {
  if (!training) return predict(network, x, py::none(), {});
  const HeldFeed held(network, Purpose::forward, x, {}, {});
  const cpu::Interface& interface = *held.feed.interface;
  const std::int64_t rows = interface.check(held.feed, false);
  const Outputs outputs = outputs_for(network, interface, rows, {});
  {
    const MaybeReleased released(work(interface, rows));
    network.forward(held.feed, rows, outputs.data);
  }
  return outputs.result();
}

py::object backward(Network& network, py::handle dy) {
  const std::shared_ptr<const cpu::Interface> interface = network.interface(Purpose::forward);
  const std::vector<Held> held = hold_all(dy, interface->outputs.size(), "dy");
  const std::int64_t rows = held[0].view.rows;
  Outputs dx;
  for (const auto& x : interface->x) dx.add(new_array(network.dtype(), with_rows(rows, x.type)));
  {
    const MaybeReleased released(2 * work(*interface, rows));
    network.backward(*interface, views(held), dx.data);
  }
  return dx.result();
}

py::array value_gradient(Network& network, ValueId id) {
  const Network::ValueGradient gradient = network.value_gradient(id);
  const Type& type = gradient.type;
  py::array out = new_array(network.dtype(), type.batched ? with_rows(gradient.rows, type) : type.dims);
  std::copy(gradient.data.begin(), gradient.data.end(), data_of(out));
  return out;
}

// A view into memory that `owner` keeps alive.
py::array view_of(std::byte* data, DType dtype, const Dims& dims, const py::object& owner, bool writable) {
  const std::vector<py::ssize_t> shape(dims.begin(), dims.end());
  const py::dtype type = dtype == DType::f64 ? py::dtype::of<double>() : py::dtype::of<float>();
  py::array array(type, shape, data, owner);
  if (!writable) py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  return array;
}

struct PrintedPlan {
  std::shared_ptr<const Program> program;
  std::string title;
  std::int64_t rows;

  std::string text() const { return program->print(title, rows, nullptr); }
  std::vector<py::dict> steps() const {
    std::vector<py::dict> list;
    for (std::size_t i = 0; i < program->plan().steps.size(); ++i) {
      const PlannedStep& s = program->plan().steps[i];
      bool batched = false;
      py::list operands;
      for (const auto* types : {&s.input_types, &s.output_types}) {
        for (const Type& t : *types) operands.append(shape_to(t));
      }
      for (const Type& t : s.input_types) batched = batched || t.batched;
      py::dict step;
      step["op"] = s.node.op->name;
      step["scope"] = s.node.scope;
      step["operands"] = operands;
      step["split"] = s.rows ? "rows" : "own";
      step["barrier"] = s.barrier;
      step["flops"] = s.flops * static_cast<double>(batched ? rows : 1);
      step["bytes"] = program->bytes(i, rows);
      step["fused"] = s.node.attributes.text("activation", "");
      step["path"] = program->path(i, rows);
      list.push_back(step);
    }
    return list;
  }
};

}  // namespace

void bind_network(py::module_& m) {
  py::class_<Store, std::shared_ptr<Store>>(m, "Store")
      .def(py::init([](const std::string& dtype, const std::vector<Dims>& shapes) {
             return std::make_shared<Store>(dtype_named(dtype), shapes);
           }),
           py::arg("dtype"), py::arg("shapes"))
      .def_property_readonly("dtype", [](const Store& s) { return std::string(name_of(s.dtype())); })
      .def_property_readonly("version", &Store::version)
      .def(
          "view",
          [](const py::object& self, std::size_t i) {
            const auto& s = self.cast<const Store&>();
            return view_of(s.data() + s.offset(i), s.dtype(), s.shape(i), self, false);
          },
          py::arg("index"))
      .def(
          "write",
          [](Store& s, std::size_t i, py::handle values) {
            const Held held = hold(values, "values");
            if (shape_of(held.array) != s.shape(i)) {
              throw ValueError(
                  concat("expected shape ", to_string(s.shape(i)), ", got ", to_string(shape_of(held.array))));
            }
            s.write(i, held.view);
          },
          py::arg("index"), py::arg("values"));

  py::class_<Epoch>(m, "Epoch")
      .def("run", &Epoch::run, py::arg("seconds"))
      .def_property_readonly("steps", &Epoch::steps)
      .def_property_readonly("rows", &Epoch::rows)
      .def_property_readonly("loss", &Epoch::loss);

  py::class_<PrintedPlan>(m, "Plan")
      .def_property_readonly("peak_bytes",
                             [](const PrintedPlan& p) {
                               return p.program->plan().arena_bytes +
                                      static_cast<std::int64_t>(p.program->scratch_bytes());
                             })
      .def_property_readonly("barriers", [](const PrintedPlan& p) { return p.program->plan().barriers; })
      .def("steps", &PrintedPlan::steps)
      .def("__str__", &PrintedPlan::text);

  py::class_<Network, std::shared_ptr<Network>>(m, "Network")
      .def(py::init([](const std::vector<std::tuple<std::string, std::shared_ptr<Store>, std::size_t>>& parameters,
                       std::uint64_t seed) {
             std::vector<cpu::Parameter> list;
             for (const auto& [name, store, index] : parameters) list.push_back({name, store, index});
             return std::make_shared<Network>(std::move(list), seed);
           }),
           py::arg("parameters"), py::arg("seed"))
      .def(
          "set_graph", [](Network& n, const std::string& p, const Graph& g) { n.set_graph(purpose_named(p), g); },
          py::arg("purpose"), py::arg("graph"))
      .def(
          "set_optimizer",
          [](Network& n, std::shared_ptr<OptimizerSettings> optimizer, int accumulate_steps) {
            if (accumulate_steps < 1)
              throw ValueError(concat("accumulate_steps: expected >= 1, got ", accumulate_steps));
            n.set_optimizer(std::move(optimizer), accumulate_steps);
          },
          py::arg("optimizer"), py::arg("accumulate_steps") = 1)
      .def_property(
          "training_step", [](const Network& n) { return n.training_step.load(); },
          [](Network& n, std::int64_t steps) { n.training_step = steps; })
      .def_property(
          "updates", [](const Network& n) { return n.updates.load(); },
          [](Network& n, std::int64_t updates) { n.updates = updates; })
      .def("predict", predict, py::arg("x"), py::arg("batch_size") = py::none(), py::arg("out") = py::none())
      .def("train_step", train_step, py::arg("x"), py::arg("y"), py::arg("sample_weight") = py::none())
      .def(
          "epoch",
          [](std::shared_ptr<Network> n, const std::string& purpose, py::handle x, py::handle y, py::handle weight,
             std::int64_t batch_size, const py::object& order, const py::object& predictions) {
            return std::make_unique<Epoch>(std::move(n), purpose, x, y, weight, batch_size, order, predictions);
          },
          py::arg("purpose"), py::arg("x"), py::arg("y"), py::arg("sample_weight") = py::none(),
          py::arg("batch_size") = 32, py::arg("order") = py::none(), py::arg("predictions") = py::none())
      .def("forward", forward, py::arg("x"), py::arg("training") = false)
      .def("backward", backward, py::arg("dy"))
      .def("value_gradient", value_gradient, py::arg("value"))
      .def("step", &Network::step, py::call_guard<py::gil_scoped_release>())
      .def("zero_grad", &Network::zero_grad)
      .def(
          "gradient",
          [](const py::object& self, std::size_t i) {
            const auto& n = self.cast<const Network&>();
            const cpu::Parameter& p = n.parameter(i);
            return view_of(n.gradient(i), n.dtype(), p.store->shape(p.index), self, true);
          },
          py::arg("index"))
      .def("optimizer_state",
           [](const py::object& self) {
             auto& n = self.cast<Network&>();
             std::vector<py::array> arrays;
             for (Buffer* slot : n.slots()) {
               arrays.push_back(view_of(slot->data(), n.dtype(),
                                        {static_cast<std::int64_t>(slot->size() / size_of(n.dtype()))}, self, true));
             }
             return arrays;
           })
      .def(
          "plan",
          [](Network& n, const std::string& purpose, std::int64_t rows) {
            if (rows < 1) throw ValueError(concat("batch_size: expected >= 1, got ", rows));
            return PrintedPlan{n.program(purpose_named(purpose), rows), purpose, rows};
          },
          py::arg("purpose"), py::arg("rows"))
      .def(
          "profile",
          [](Network& n, py::handle x, py::handle y, int repeats) {
            const HeldFeed held(n, Purpose::train, x, y, {});
            const std::int64_t rows = held.feed.interface->check(held.feed, true);
            if (rows == 0 || repeats < 1) throw ValueError("profile: expected one row and one repeat or more");
            const py::gil_scoped_release released;
            return n.profile(held.feed, rows, repeats);
          },
          py::arg("x"), py::arg("y"), py::arg("repeats") = 20);
}

}  // namespace ranvier::bindings
