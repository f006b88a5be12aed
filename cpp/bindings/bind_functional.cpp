#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>

#include "bindings/arrays.h"
#include "bindings/eager.h"
#include "bindings/optimizer.h"

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
  const std::shared_ptr<const Prepared> prepared = prepare(op, attributes_from(attributes), o.dtype, o.types);
  const std::vector<Type>& types = prepared->step.output_types;
  const std::vector<double> classes = prepared->step.node.attributes.numbers("class_weight");
  if (name == "row_scale" && !classes.empty() && o.types.size() > 1 && o.types[1].kind == Kind::labels) {
    cpu::check_labels({data_of(o.own[1]), cpu::Element::i32, o.own[1].size(), 1, {}}, name,
                      static_cast<std::int64_t>(classes.size()));
  }
  std::vector<std::byte*> operands;
  for (const py::array& a : o.own) operands.push_back(data_of(a));
  std::vector<py::array> results, written;
  for (std::size_t i = 0; i < types.size(); ++i) {
    py::object given = py::none();
    if (!out.is_none() && i < py::len(out)) given = py::reinterpret_borrow<py::sequence>(out)[i];
    py::array result =
        given.is_none() ? new_array(o.dtype, types[i].dims) : check_out(given, o.dtype, types[i].dims, name.c_str());
    bool aside = false;  // written beside, copied after: the output shares memory with an input that is still read
    if (!given.is_none()) {
      for (const py::array& in : o.own) aside = aside || (overlap(result, in) && !in_place_ok(op, o, result, in));
    }
    written.push_back(aside ? new_array(o.dtype, types[i].dims) : result);
    results.push_back(std::move(result));
    operands.push_back(data_of(written.back()));
  }
  {
    const MaybeReleased released(prepared->flops);
    execute(*prepared, operands);
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

// A loss on arrays: rows, weights and reduction in one call. Returns the loss, or (loss, dpred).
py::object loss(const std::string& name, py::handle given_pred, py::handle given_target, py::handle weight,
                const std::string& reduction, bool with_grad, const py::object& given_attributes) {
  if (reduction != "mean" && reduction != "sum" && reduction != "none") {
    throw ValueError(concat(name, ": reduction must be 'mean', 'sum' or 'none', got '", reduction, "'"));
  }
  const Held pred = hold(given_pred, name.c_str()), target = hold(given_target, name.c_str());
  const auto is_f32 = [](const Held& h) {
    return h.view.element == cpu::Element::f32 || h.view.element == cpu::Element::f16;
  };
  const DType dtype = is_f32(pred) ? DType::f32 : DType::f64;
  const Dims shape = shape_of(pred.array), target_shape = shape_of(target.array);
  const std::int64_t rows = pred.view.rows;
  if (shape.empty() || rows == 0)
    throw ValueError(concat(name, ": expected one row or more, got shape ", to_string(shape)));
  const bool cross_entropy = name == "cross_entropy";
  const bool labels = cross_entropy && target_shape != shape;
  if (labels && (shape.size() < 2 || target_shape != Dims(shape.begin(), shape.end() - 1))) {
    throw ValueError(concat(name, ": expected labels ", to_string(Dims(shape.begin(), shape.end() - 1)),
                            " or probabilities ", to_string(shape), ", got ", to_string(target_shape)));
  }
  const bool column = target_shape == Dims{rows} && shape == Dims{rows, 1};
  if (!cross_entropy && target_shape != shape && !column) {
    throw ValueError(
        concat(name, ": expected a target of shape ", to_string(shape), ", got ", to_string(target_shape)));
  }
  const std::string what = name + ": target";
  if (labels) {
    cpu::check_labels(target.view, what, shape.back());
  } else {
    cpu::check_finite(target.view, what);
    if (target.view.element >= cpu::Element::f16 && is_f32(target) != is_f32(pred)) {
      throw TypeError(concat(name, ": float32 and float64 mixed (lists count as float64)"));
    }
    if (name.starts_with("binary")) cpu::check_probabilities(target.view, what);
  }
  std::vector<py::array> kept;
  const auto converted = [&](const Held& h) {
    if (cpu::is(h.view.element, dtype)) return data_of(h.array);
    kept.push_back(new_array(dtype, {h.array.size()}));
    cpu::gather(h.view.flat(), nullptr, h.array.size(), dtype, data_of(kept.back()));
    return data_of(kept.back());
  };
  std::byte* const p = converted(pred);
  std::byte* t = nullptr;
  if (labels) {
    kept.push_back(py::array_t<std::int32_t>(target.array.size()));
    t = data_of(kept.back());
    cpu::gather_labels(target.view.flat(), nullptr, target.array.size(), reinterpret_cast<std::int32_t*>(t));
  } else {
    t = converted(target);
  }
  std::byte* w = nullptr;  // all ones
  const Type row_type{false, {rows}};
  if (!weight.is_none()) {
    const Held held = hold(weight, "weight");
    if (shape_of(held.array) != row_type.dims) {
      throw ValueError(concat(name, ": expected weight of shape ", to_string(row_type.dims), ", got ",
                              to_string(shape_of(held.array))));
    }
    cpu::check_weights(held.view, name + ": weight");
    kept.push_back(new_array(dtype, row_type.dims));
    w = data_of(kept.back());
    cpu::gather(held.view.flat(), nullptr, rows, dtype, w);
  }
  const Attributes attributes = attributes_from(given_attributes);
  const Type pred_type{false, shape},
      target_type{false, labels ? target_shape : shape, labels ? Kind::labels : Kind::real};

  py::array scale = new_array(dtype, row_type.dims), values = new_array(dtype, row_type.dims);
  if (reduction == "mean") {
    Attributes classes;
    std::vector<Type> types{row_type};
    std::vector<std::byte*> operands{w};
    if (const Attribute* class_weight = attributes.find("class_weight")) {
      classes.set("class_weight", *class_weight);
      types.push_back(target_type);
      operands.push_back(t);
    }
    operands.push_back(data_of(scale));
    execute(*prepare(get_op("row_scale"), classes, dtype, types), operands);
  } else if (w) {
    std::memcpy(data_of(scale), w, static_cast<std::size_t>(scale.nbytes()));
  } else if (dtype == DType::f64) {
    std::fill_n(reinterpret_cast<double*>(data_of(scale)), rows, 1.);
  } else {
    std::fill_n(reinterpret_cast<float*>(data_of(scale)), rows, 1.F);
  }
  py::object dpred = py::none();
  {
    const auto prepared =
        with_grad ? prepare(get_op(name + "_with_gradient"), attributes, dtype, {row_type, pred_type, target_type})
                  : prepare(get_op(name), attributes, dtype, {pred_type, target_type});
    std::vector<std::byte*> operands{p, t, data_of(values)};
    if (with_grad) {
      py::array gradient = new_array(dtype, shape);
      operands = {data_of(scale), p, t, data_of(values), data_of(gradient)};
      dpred = std::move(gradient);
    }
    const MaybeReleased released(prepared->flops);
    execute(*prepared, operands);
  }
  py::object result;
  if (reduction == "none") {
    py::array weighted = new_array(dtype, row_type.dims);
    const std::vector<std::byte*> operands{data_of(values), data_of(scale), data_of(weighted)};
    execute(*prepare(get_op("multiply"), {}, dtype, {row_type, row_type}), operands);
    result = std::move(weighted);
  } else {
    double total = 0;
    float total_f32 = 0;
    std::byte* to =
        dtype == DType::f64 ? reinterpret_cast<std::byte*>(&total) : reinterpret_cast<std::byte*>(&total_f32);
    const std::vector<std::byte*> operands{data_of(values), data_of(scale), to};
    execute(*prepare(get_op("weighted_sum"), {}, dtype, {row_type, row_type}), operands);
    result = py::float_(dtype == DType::f64 ? total : static_cast<double>(total_f32));
  }
  if (with_grad) return py::make_tuple(result, dpred);
  return result;
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
  const MaybeReleased released(12. * static_cast<double>(p.size()));
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
  m.def("loss", loss, py::arg("op"), py::arg("pred"), py::arg("target"), py::arg("weight") = py::none(),
        py::arg("reduction") = "mean", py::arg("with_grad") = false, py::arg("attributes") = py::none());
  m.def("optimizer_step", optimizer_step, py::arg("optimizer"), py::arg("param"), py::arg("grad"), py::arg("slots"),
        py::arg("step"));
}

}  // namespace ranvier::bindings
