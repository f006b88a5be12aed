// One operation on arrays, now: a plan of a single step whose slots are the caller's arrays.
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>

#include "bindings/arrays.h"
#include "bindings/optimizer.h"
#include "cpu/program.h"

namespace ranvier::bindings {
namespace {

// Which operand holds labels where its shape is that of the logits without the classes.
int labels_operand(const std::string& op) {
  if (op == "row_scale") return 1;
  if (op.starts_with("cross_entropy")) return op == "cross_entropy" ? 1 : 2;
  return -1;
}

struct Operands {
  std::vector<Held> held;  // as they came
  std::vector<Type> types;
  std::vector<py::array> own;  // as the kernels read them
  DType dtype = DType::f64;
};

bool weak(py::handle h) { return PyFloat_Check(h.ptr()) || PyLong_Check(h.ptr()); }

Operands read_operands(const Op& op, const std::vector<py::object>& inputs) {
  Operands o;
  bool has_f32 = false, has_f64 = false, strong = false;
  const int labels = labels_operand(op.name);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    o.held.push_back(hold(inputs[i], op.name.c_str()));
    o.types.push_back({false, shape_of(o.held.back().array)});
    if (weak(inputs[i]) || static_cast<int>(i) == labels) continue;
    strong = true;
    const cpu::Element element = o.held.back().view.element;
    (element == cpu::Element::f32 || element == cpu::Element::f16 ? has_f32 : has_f64) = true;
  }
  if (has_f32 && has_f64)
    throw TypeError(concat(op.name, ": float32 and float64 mixed (integers and lists count as float64)"));
  o.dtype = strong && has_f32 ? DType::f32 : DType::f64;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Held& h = o.held[i];
    const cpu::HostArray flat = h.view.flat();
    if (static_cast<int>(i) == labels) {
      const Type& of = op.name == "row_scale" ? o.types[i] : o.types[i - 1];
      const bool whole = h.view.element < cpu::Element::f16;
      if (op.name == "row_scale" ? whole : o.types[i].dims.size() + 1 == of.dims.size()) {
        o.types[i].kind = Kind::labels;
        cpu::check_labels(flat, op.name, op.name == "row_scale" ? std::int64_t{1} << 31 : of.dims.back());
        py::array_t<std::int32_t> converted(h.array.size());
        cpu::gather_labels(flat, nullptr, h.array.size(), converted.mutable_data());
        o.own.push_back(converted);
        continue;
      }
    }
    if (cpu::is(h.view.element, o.dtype)) {
      o.own.push_back(h.array);
    } else {
      py::array converted = new_array(o.dtype, {h.array.size()});
      cpu::gather(flat, nullptr, h.array.size(), o.dtype, data_of(converted));
      o.own.push_back(converted);
    }
  }
  return o;
}

bool overlap(const py::array& a, const py::array& b) {
  const std::byte *pa = data_of(a), *pb = data_of(b);
  return pa < pb + b.nbytes() && pb < pa + a.nbytes();
}

// Steps that may write where they read, element by element.
bool in_place_ok(const Op& op, const Operands& o, const py::array& out, const py::array& in) {
  const auto code = static_cast<std::size_t>(op.code);
  const auto is = [&](const auto& names, const char* suffix) {
    return code < names.size() && op.name == std::string(names[code]) + suffix;
  };
  const bool elementwise =
      is(kUnaryNames, "") || is(kUnaryNames, "_backward") || is(kBinaryNames, "") || op.name == "where";
  return elementwise && data_of(out) == data_of(in) && out.nbytes() == in.nbytes() &&
         out.itemsize() == static_cast<py::ssize_t>(size_of(o.dtype));
}

py::tuple run(const std::string& name, const std::vector<py::object>& inputs, const py::object& attributes,
              const py::object& out) {
  const Op& op = get_op(name);
  const Operands o = read_operands(op, inputs);
  PlannedStep step;
  step.node.op = &op;
  step.node.attributes = attributes_from(attributes);
  step.input_types = o.types;
  step.output_types = infer({op, step.node.attributes, o.types, step.node.scope});
  if (name.starts_with("cross_entropy") || name == "row_scale") {
    const auto classes = step.node.attributes.numbers("class_weight");
    if (name == "row_scale" && !classes.empty() && o.types.size() > 1 && o.types[1].kind == Kind::labels) {
      cpu::check_labels({data_of(o.own[1]), cpu::Element::i32, o.own[1].size(), 1, {}}, name,
                        static_cast<std::int64_t>(classes.size()));
    }
  }

  std::vector<py::object> outs(step.output_types.size(), py::none());
  if (!out.is_none()) {
    const auto given = py::reinterpret_borrow<py::sequence>(out);
    for (std::size_t i = 0; i < outs.size() && i < given.size(); ++i) outs[i] = given[i];
  }
  std::vector<py::array> results, written;
  std::vector<std::byte*> base(Slots{}.count, nullptr);
  for (const py::array& a : o.own) {
    step.inputs.push_back({static_cast<int>(base.size()), 0});
    base.push_back(data_of(a));
  }
  for (std::size_t i = 0; i < outs.size(); ++i) {
    const Dims& shape = step.output_types[i].dims;
    py::array result = outs[i].is_none() ? new_array(o.dtype, shape) : check_out(outs[i], o.dtype, shape, name.c_str());
    bool aside = false;  // written beside, copied after: the output shares memory with an input that is still read
    if (!outs[i].is_none()) {
      for (const py::array& in : o.own) aside = aside || (overlap(result, in) && !in_place_ok(op, o, result, in));
    }
    written.push_back(aside ? new_array(o.dtype, shape) : result);
    results.push_back(std::move(result));
    step.outputs.push_back({static_cast<int>(base.size()), 0});
    base.push_back(data_of(written.back()));
  }
  if (op.alias) {
    std::memcpy(data_of(written[0]), data_of(o.own[0]), static_cast<std::size_t>(written[0].nbytes()));
  } else {
    Plan plan;
    plan.request.dtype = o.dtype;
    const std::unique_ptr<cpu::Step> lowered = cpu::lower(step, plan);
    std::vector<Type> types = step.input_types;
    double flops = 0;
    for (const Type& t : step.output_types) flops += static_cast<double>(t.count());
    if (op.cost) flops = op.cost({op, step.node.attributes, types, step.node.scope}, step.output_types);
    const MaybeReleased released(flops);
    const int threads = cpu::threads_for(flops);
    const std::size_t scratch_bytes = align_up(lowered->scratch_bytes(1));
    const Buffer scratch(scratch_bytes * static_cast<std::size_t>(threads));
    const cpu::Frame frame{base.data(), 1, scratch.data(), scratch_bytes, 0, 0, nullptr};
    parallel(threads, [&](Worker& worker) { lowered->run(frame, worker); });
  }
  py::tuple tuple(results.size());
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (written[i].ptr() != results[i].ptr()) {
      std::memcpy(data_of(results[i]), data_of(written[i]), static_cast<std::size_t>(results[i].nbytes()));
    }
    tuple[i] = results[i];
  }
  return tuple;
}

void optimizer_step(const OptimizerSettings& settings, const py::array& param, py::handle grad,
                    const std::vector<py::object>& slots, std::int64_t step) {
  if (step < 1) throw ValueError(concat("step: counts from 1, got ", step));
  const Held g = hold(grad, "grad");
  const DType dtype = param.itemsize() == 8 ? DType::f64 : DType::f32;
  const Dims shape = shape_of(param);
  const py::array p = check_out(param, dtype, shape, "param");
  if (!cpu::is(g.view.element, dtype)) throw TypeError(concat("grad: expected ", name_of(dtype), " as param"));
  if (shape_of(g.array) != shape) {
    throw ValueError(concat("grad: expected shape ", to_string(shape), ", got ", to_string(shape_of(g.array))));
  }
  std::byte* places[3] = {nullptr, nullptr, nullptr};
  std::vector<py::array> held;
  for (std::size_t k = 0; k < slots.size() && k < 3; ++k) {
    if (slots[k].is_none()) continue;
    held.push_back(check_out(slots[k], dtype, shape, "optimiser state"));
    places[k] = data_of(held.back());
  }
  bool used[3];
  cpu::slots_of(settings, used);
  for (int k = 0; k < 3; ++k) {
    if (used[k] && !places[k]) throw ValueError("optimiser state: an array is missing");
  }
  cpu::Update update = settings.numbers;
  update.step = step;
  if (settings.clip_value > 0) update.clip_value = settings.clip_value;
  const auto rule = static_cast<std::size_t>(settings.rule);
  const FlushSubnormals flush;
  if (dtype == DType::f64) {
    double* const s[3] = {reinterpret_cast<double*>(places[0]), reinterpret_cast<double*>(places[1]),
                          reinterpret_cast<double*>(places[2])};
    cpu::kernels<double>().optimizer[rule](p.size(), update, reinterpret_cast<const double*>(g.view.data),
                                           reinterpret_cast<double*>(data_of(p)), s);
  } else {
    float* const s[3] = {reinterpret_cast<float*>(places[0]), reinterpret_cast<float*>(places[1]),
                         reinterpret_cast<float*>(places[2])};
    cpu::kernels<float>().optimizer[rule](p.size(), update, reinterpret_cast<const float*>(g.view.data),
                                          reinterpret_cast<float*>(data_of(p)), s);
  }
}

}  // namespace

void bind_functional(py::module_& m) {
  bind_optimizer(m);
  m.def("run", run, py::arg("op"), py::arg("inputs"), py::arg("attributes") = py::none(), py::arg("out") = py::none());
  m.def("optimizer_step", optimizer_step, py::arg("optimizer"), py::arg("param"), py::arg("grad"), py::arg("slots"),
        py::arg("step"));
}

}  // namespace ranvier::bindings
