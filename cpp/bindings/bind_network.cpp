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

// What stands for the one array of this many axes: a list or tuple may hold it, or be it.
py::handle only_of(py::handle sequence, int rank) {
  if (py::len(sequence) != 1 || rank < 2) return sequence;
  const py::handle only = PySequence_Fast_GET_ITEM(sequence.ptr(), 0);
  return py::isinstance<py::array>(only) && py::reinterpret_borrow<py::array>(only).ndim() == rank ? only : sequence;
}

// The arrays of one argument.
struct Arrays {
  List<HostArray> views;
  List<py::object> owners;

  Arrays() = default;
  // One array, or a list or tuple of `count` arrays where the graph has several. rank: of the one array.
  Arrays(py::handle given, std::size_t count, int rank, const char* name) : views(count), owners(count) {
    const bool sequence = PyList_Check(given.ptr()) || PyTuple_Check(given.ptr());
    if (count == 1) {
      set(0, hold(sequence ? only_of(given, rank) : given, name));
      return;
    }
    if (!sequence || py::len(given) != count) {
      throw ValueError(concat(name, ": expected a list of ", count, " arrays"));
    }
    std::size_t i = 0;
    for (const py::handle item : py::reinterpret_borrow<py::sequence>(given)) set(i++, hold(item, name));
  }

 private:
  void set(std::size_t i, Held held) {
    views[i] = held.view;
    owners[i] = std::move(held.owner);
  }
};

// A feed and the arrays behind it.
struct HeldFeed {
  Feed feed;
  Arrays x, y;
  py::object weight;

  HeldFeed(const Network& network, Purpose purpose, py::handle given_x, py::handle given_y, py::handle given_weight)
      : feed{network.interface(purpose), {}, {}, {}},
        x(arrays(given_x, feed.interface->x, "x")),
        y(given_y ? arrays(given_y, feed.interface->targets, "y") : Arrays()) {
    feed.x = x.views;
    feed.y = y.views;
    if (given_weight && !given_weight.is_none()) {
      Held held = hold(given_weight, "sample_weight");
      feed.weight = held.view;
      weight = std::move(held.owner);
    }
  }
  HeldFeed(const HeldFeed&) = delete;  // the feed points into it
  HeldFeed& operator=(const HeldFeed&) = delete;

 private:
  static Arrays arrays(py::handle given, const std::vector<cpu::Interface::Input>& wanted, const char* name) {
    return {given, wanted.size(), wanted.empty() ? 0 : wanted[0].type.rank(), name};
  }
};

struct Outputs {
  List<py::object> arrays;
  List<std::byte*> data;

  explicit Outputs(std::size_t count = 0) : arrays(count), data(count) {}
  void set(std::size_t i, py::array array) {
    data[i] = data_of(array);
    arrays[i] = std::move(array);
  }
  py::array array(std::size_t i) const { return py::reinterpret_borrow<py::array>(arrays[i]); }
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

List<std::int64_t, 8> with_rows(std::int64_t rows, const Type& type) {
  List<std::int64_t, 8> shape(1 + type.dims.size());
  shape[0] = rows;
  std::copy(type.dims.begin(), type.dims.end(), shape.begin() + 1);
  return shape;
}

// out: None for new ones.
Outputs outputs_for(const Network& network, const cpu::Interface& interface, std::int64_t rows, py::handle out) {
  const std::vector<Type>& types = interface.outputs;
  Outputs outputs(types.size());
  const bool single = types.size() == 1 && py::isinstance<py::array>(out);
  if (!out.is_none() && !single) {
    if (!PyList_Check(out.ptr()) && !PyTuple_Check(out.ptr()))
      throw TypeError(concat("out: expected an array, or a list of them, got ", Py_TYPE(out.ptr())->tp_name));
    if (py::len(out) != types.size()) throw ValueError(concat("out: expected ", types.size(), " arrays"));
  }
  for (std::size_t i = 0; i < types.size(); ++i) {
    const auto shape = with_rows(rows, types[i]);
    if (out.is_none()) {
      outputs.set(i, new_array(network.dtype(), shape));
    } else {
      const py::object given = single ? py::reinterpret_borrow<py::object>(out) : py::object(out[py::int_(i)]);
      outputs.set(i, check_out(given, network.dtype(), shape, "out"));
    }
  }
  return outputs;
}

py::object predict_rows(Network& network, py::handle x, py::handle batch_size, py::handle out) {
  const HeldFeed held(network, Purpose::infer, x, {}, {});
  const cpu::Interface& interface = *held.feed.interface;
  const std::int64_t rows = interface.check(held.feed, false);
  const std::int64_t block = batch_size.is_none() ? interface.default_block : batch_size.cast<std::int64_t>();
  if (block < 1) throw ValueError(concat("batch_size: expected >= 1, got ", block));
  const Outputs outputs = outputs_for(network, interface, rows, out);
  bool aside = false;  // outputs that share memory with inputs that are still read: written beside, copied after
  for (std::size_t i = 0; !out.is_none() && i < outputs.arrays.size(); ++i) {
    for (const HostArray& input : held.feed.x) aside = aside || overlap(outputs.array(i), input);
  }
  const Outputs beside = aside ? outputs_for(network, interface, rows, py::none()) : Outputs();
  const Outputs& written = aside ? beside : outputs;
  {
    const MaybeReleased released(work(interface, rows));
    network.predict(held.feed, rows, block, written.data);
  }
  for (std::size_t i = 0; aside && i < written.data.size(); ++i) {
    std::copy_n(written.data[i], outputs.array(i).nbytes(), outputs.data[i]);
  }
  return outputs.result();
}

double train_batch(Network& network, py::handle x, py::handle y, py::handle weight) {
  const HeldFeed held(network, Purpose::train, x, y, weight);
  const std::int64_t rows = held.feed.interface->check(held.feed, true);
  if (rows == 0) throw ValueError("train_step: expected one row or more, got none");
  const MaybeReleased released(3 * work(*held.feed.interface, rows));
  return network.train(held.feed, 0, rows, nullptr, {}, false);
}

// Of a method, whose descriptor has checked the class.
Network& network_of(py::handle self) {
  auto* network = reinterpret_cast<py::detail::instance*>(self.ptr())->get_value_and_holder().value_ptr<Network>();
  if (!network) throw TypeError("Network: __init__ has not been called");
  return *network;
}

py::object predict(py::handle self, Arguments given) {
  return predict_rows(network_of(self), given[0], given[1], given[2]);
}

py::object train_step(py::handle self, Arguments given) {
  return py::float_(train_batch(network_of(self), given[0], given[1], given[2]));
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
      if (!std::all_of(order_.data(), order_.data() + rows_, [&](std::int64_t row) { return row >= 0 && row < rows_; }))
        throw ValueError("order: a row is out of range");
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
  if (!training) return predict_rows(network, x, py::none(), py::none());
  const HeldFeed held(network, Purpose::forward, x, {}, {});
  const cpu::Interface& interface = *held.feed.interface;
  const std::int64_t rows = interface.check(held.feed, false);
  const Outputs outputs = outputs_for(network, interface, rows, py::none());
  {
    const MaybeReleased released(work(interface, rows));
    network.forward(held.feed, rows, outputs.data);
  }
  return outputs.result();
}

py::object backward(Network& network, py::handle dy) {
  const std::shared_ptr<const cpu::Interface> interface = network.interface(Purpose::forward);
  const Arrays held(dy, interface->outputs.size(), interface->outputs[0].rank(), "dy");
  const std::int64_t rows = held.views[0].rows;
  Outputs dx(interface->x.size());
  for (std::size_t i = 0; i < dx.data.size(); ++i) {
    dx.set(i, new_array(network.dtype(), with_rows(rows, interface->x[i].type)));
  }
  {
    const MaybeReleased released(2 * work(*interface, rows));
    network.backward(*interface, held.views, dx.data);
  }
  return dx.result();
}

py::array value_gradient(Network& network, ValueId id) {
  const Network::ValueGradient gradient = network.value_gradient(id);
  const Type& type = gradient.type;
  py::array out =
      type.batched ? new_array(network.dtype(), with_rows(gradient.rows, type)) : new_array(network.dtype(), type.dims);
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
      py::list operands;
      for (const auto* types : {&s.input_types, &s.output_types}) {
        for (const Type& t : *types) operands.append(shape_to(t));
      }
      py::dict step;
      step["op"] = s.node.op->name;
      step["scope"] = s.node.scope;
      step["operands"] = operands;
      step["split"] = program->split(i, rows);
      step["barrier"] = program->barrier(i, rows);
      step["flops"] = s.flops_of(rows);
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
            if (!same(held.view.shape, s.shape(i))) {
              throw ValueError(
                  concat("expected shape ", to_string(s.shape(i)), ", got ", to_string(dims_of(held.view.shape))));
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
      .def_property_readonly("peak_bytes", [](const PrintedPlan& p) { return p.program->peak_bytes(p.rows); })
      .def_property_readonly("barriers", [](const PrintedPlan& p) { return p.program->barriers(p.rows); })
      .def("steps", &PrintedPlan::steps)
      .def("__str__", &PrintedPlan::text);

  py::class_<Network, std::shared_ptr<Network>> network(m, "Network");
  network
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
      .def(
          "set_precision",
          [](Network& n, const std::string& name) {
            const auto found = std::find(kPrecisionNames.begin(), kPrecisionNames.end(), name);
            if (found == kPrecisionNames.end()) throw ValueError(concat("no precision is called '", name, "'"));
            n.set_precision(static_cast<Precision>(found - kPrecisionNames.begin()));
          },
          py::arg("precision"))
      .def_property(
          "training_step", [](const Network& n) { return n.training_step.load(); },
          [](Network& n, std::int64_t steps) { n.training_step = steps; })
      .def_property(
          "updates", [](const Network& n) { return n.updates.load(); },
          [](Network& n, std::int64_t updates) { n.updates = updates; })
      .def_property(
          "pending", [](const Network& n) { return n.pending.load(); },
          [](Network& n, int batches) { n.pending = batches; })
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
            return PrintedPlan{n.program(purpose_named(purpose), rows, nullptr, /*keep=*/false), purpose, rows};
          },
          py::arg("purpose"), py::arg("rows"))
      .def(
          "profile",
          [](Network& n, py::handle x, py::handle y, std::int64_t repeats) {
            const HeldFeed held(n, Purpose::train, x, y, {});
            const std::int64_t rows = held.feed.interface->check(held.feed, true);
            if (rows == 0 || repeats < 1) throw ValueError("profile: expected one row and one repeat or more");
            const py::gil_scoped_release released;
            return n.profile(held.feed, rows, repeats);
          },
          py::arg("x"), py::arg("y"), py::arg("repeats") = 20);
  for (PyMethodDef* method : {direct<predict, 1, 3>("predict"), direct<train_step, 2, 3>("train_step")}) {
    auto* type = reinterpret_cast<PyTypeObject*>(network.ptr());
    network.attr(method->ml_name) = py::reinterpret_steal<py::object>(PyDescr_NewMethod(type, method));
  }
}

}  // namespace ranvier::bindings
