#include <algorithm>
#include <cstring>

#include "bindings/arrays.h"
#include "bindings/eager.h"
#include "bindings/optimizer.h"
#include "cpu/program.h"

namespace ranvier::bindings {
namespace {

// Which operand holds labels where its shape is that of the logits without the classes.
int labels_operand(std::string_view op) {
  if (op == "row_scale") return 1;
  if (op.starts_with("cross_entropy")) return op == "cross_entropy" ? 1 : 2;
  return -1;
}

bool weak(py::handle h) { return PyFloat_Check(h.ptr()) || PyLong_Check(h.ptr()); }
bool is_integer(const Held& h) { return h.view.element < cpu::Element::f16; }
bool is_f32(const Held& h) { return h.view.element == cpu::Element::f32 || h.view.element == cpu::Element::f16; }

// The same values as the kernels read them: the array itself where it is of that dtype. classes: of labels.
Held converted(Held held, DType dtype, std::int64_t classes = 0) {
  if (cpu::is(held.view.element, dtype)) return held;
  const py::array made = new_array(dtype, held.view.shape);
  if (dtype == DType::i32) {
    cpu::gather_labels(held.view.flat(), nullptr, held.view.count(), classes,
                       reinterpret_cast<std::int32_t*>(data_of(made)));
  } else {
    cpu::gather(held.view.flat(), nullptr, held.view.count(), dtype, data_of(made));
  }
  return hold(made, "converted");
}

struct Inputs {
  List<Held, 4> held;
  List<Operand, 4> operands;
  DType dtype = DType::f64;
};

Inputs read_inputs(const Op& op, py::handle given) {
  const auto sequence = py::reinterpret_steal<py::object>(PySequence_Fast(given.ptr(), "expected a list of inputs"));
  if (!sequence) throw py::error_already_set();
  PyObject* const* items = PySequence_Fast_ITEMS(sequence.ptr());
  const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(sequence.ptr()));
  Inputs inputs{List<Held, 4>(count), List<Operand, 4>(count)};
  bool has_f32 = false, has_f64 = false;
  const int labels = labels_operand(op.name);
  for (std::size_t i = 0; i < count; ++i) {
    inputs.held[i] = hold(items[i], op.name.c_str());
    if (!weak(items[i]) && static_cast<int>(i) != labels) (is_f32(inputs.held[i]) ? has_f32 : has_f64) = true;
  }
  if (has_f32 && has_f64)
    throw TypeError(concat(op.name, ": float32 and float64 mixed (integers and lists count as float64)"));
  inputs.dtype = has_f32 ? DType::f32 : DType::f64;
  for (std::size_t i = 0; i < count; ++i) {
    Held& h = inputs.held[i];
    bool are_labels = false;
    std::int64_t classes = 0;
    if (static_cast<int>(i) == labels) {
      const bool scale = op.name == "row_scale";
      const Shape logits = scale ? Shape() : inputs.held[i - 1].view.shape;
      are_labels = scale ? is_integer(h) : h.view.shape.size() + 1 == logits.size();
      if (are_labels) classes = scale ? std::int64_t{1} << 31 : logits.back();
      if (are_labels) cpu::check_labels(h.view.flat(), op.name, classes);
    }
    h = converted(std::move(h), are_labels ? DType::i32 : inputs.dtype, classes);
    inputs.operands[i] = {data_of(h), are_labels ? Kind::labels : Kind::real, h.view.shape};
  }
  return inputs;
}

// Steps that may write where they read, element by element.
bool in_place_ok(const Op& op, DType dtype, const py::array& out, const Held& in) {
  const auto code = static_cast<std::size_t>(op.code);
  const auto is = [&](const auto& names, const char* suffix) {
    return code < names.size() && op.name == std::string(names[code]) + suffix;
  };
  const bool elementwise =
      is(kUnaryNames, "") || is(kUnaryNames, "_backward") || is(kBinaryNames, "") || op.name == "where";
  return elementwise && data_of(out) == in.view.data && static_cast<std::size_t>(out.nbytes()) == in.view.bytes() &&
         out.itemsize() == static_cast<py::ssize_t>(size_of(dtype));
}

// op, inputs, attributes, out.
py::object run(py::handle, Arguments given) {
  const Op& op = get_op(text_from(given[0]));
  const Inputs inputs = read_inputs(op, given[1]);
  const Attributes attributes = attributes_from(given[2]);
  const std::shared_ptr<const Prepared> prepared = prepare(op, attributes, inputs.dtype, inputs.operands);
  if (op.name == "row_scale" && inputs.held.size() > 1 && inputs.operands[1].kind == Kind::labels) {
    const std::vector<double> classes = attributes.numbers("class_weight");
    if (!classes.empty()) {
      cpu::check_labels(inputs.held[1].view, op.name, static_cast<std::int64_t>(classes.size()));
    }
  }
  const std::vector<Type>& types = prepared->step.output_types;
  List<py::object> results(types.size()), written(types.size());
  List<std::byte*> outputs(types.size());
  double work = prepared->flops;
  for (std::size_t i = 0; i < types.size(); ++i) {
    py::object out = py::reinterpret_borrow<py::object>(given[3]);
    if (types.size() > 1 && !out.is_none()) out = out[py::int_(i)];
    const bool fresh = out.is_none();
    py::array result =
        fresh ? new_array(inputs.dtype, types[i].dims) : check_out(out, inputs.dtype, types[i].dims, op.name.c_str());
    bool aside = false;  // written beside, copied after: the output shares memory with an input that is still read
    for (std::size_t k = 0; !fresh && k < inputs.held.size(); ++k) {
      const Held& in = inputs.held[k];
      aside = aside || (overlap(result, in.view) && !in_place_ok(op, inputs.dtype, result, in));
    }
    const py::array to = aside ? new_array(inputs.dtype, types[i].dims) : result;
    work = std::max(work, static_cast<double>(to.size()));  // moving counts as no operation
    outputs[i] = data_of(to);
    written[i] = to;
    results[i] = std::move(result);
  }
  {
    const MaybeReleased released(work);
    execute(*prepared, inputs.operands, outputs);
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (written[i].is(results[i])) continue;
    const auto to = py::reinterpret_borrow<py::array>(results[i]);
    std::memcpy(data_of(to), outputs[i], static_cast<std::size_t>(to.nbytes()));
  }
  if (results.size() == 1) return results[0];
  py::tuple all(results.size());
  for (std::size_t i = 0; i < results.size(); ++i) all[i] = results[i];
  return all;
}

// What a loss reads, checked, in one dtype.
struct LossInputs {
  DType dtype;
  Held pred, target, weight;  // weight.owner null: all ones
  Operand pred_operand, target_operand;
  std::int64_t rows;

  LossInputs(std::string_view name, py::handle given_pred, py::handle given_target, py::handle given_weight) {
    const std::string op(name);
    pred = hold(given_pred, op.c_str());
    target = hold(given_target, op.c_str());
    dtype = is_f32(pred) ? DType::f32 : DType::f64;
    rows = pred.view.rows;
    const Shape shape = pred.view.shape;
    if (shape.empty() || rows == 0)
      throw ValueError(concat(op, ": expected one row or more, got shape ", to_string(dims_of(shape))));
    const bool labels = check_target(op);
    pred = converted(std::move(pred), dtype);
    target = converted(std::move(target), labels ? DType::i32 : dtype, shape.back());
    pred_operand = {data_of(pred), Kind::real, pred.view.shape};
    target_operand = {data_of(target), labels ? Kind::labels : Kind::real,
                      labels ? target.view.shape : pred.view.shape};
    if (given_weight.is_none()) return;
    weight = hold(given_weight, "weight");
    if (!same(weight.view.shape, std::array{rows})) {
      throw ValueError(concat(op, ": expected weight of shape ", to_string(Dims{rows}), ", got ",
                              to_string(dims_of(weight.view.shape))));
    }
    cpu::check_weights(weight.view, op + ": weight", dtype);
    weight = converted(std::move(weight), dtype);
  }

 private:
  // Whether it is of labels.
  bool check_target(const std::string& op) const {
    const Shape shape = pred.view.shape, target_shape = target.view.shape;
    const bool fits = same(target_shape, shape);
    const std::string what = op + ": target";
    if (op == "cross_entropy" && !fits) {
      const Shape positions = shape.first(shape.size() - 1);
      if (positions.empty() || !same(target_shape, positions)) {
        throw ValueError(concat(op, ": expected labels ", to_string(dims_of(positions)), " or probabilities ",
                                to_string(dims_of(shape)), ", got ", to_string(dims_of(target_shape))));
      }
      cpu::check_labels(target.view, what, shape.back());
      return true;
    }
    const bool column = same(target_shape, std::array{rows}) && same(shape, std::array{rows, std::int64_t{1}});
    if (!fits && !column) {
      throw ValueError(concat(op, ": expected a target of shape ", to_string(dims_of(shape)), ", got ",
                              to_string(dims_of(target_shape))));
    }
    op.starts_with("binary") ? cpu::check_probabilities(target.view, what)
                             : cpu::check_finite(target.view, what, dtype);
    if (!is_integer(target) && is_f32(target) != is_f32(pred)) {
      throw TypeError(concat(op, ": float32 and float64 mixed (lists count as float64)"));
    }
    return false;
  }
};

void run_now(const Op& op, const Attributes& attributes, DType dtype, std::span<const Operand> inputs,
             std::span<std::byte* const> outputs) {
  const auto prepared = prepare(op, attributes, dtype, inputs);
  const MaybeReleased released(prepared->flops);
  execute(*prepared, inputs, outputs);
}

// What each row's loss is multiplied by.
void scale_rows(const LossInputs& in, const Attributes& attributes, bool mean, std::byte* scale) {
  const std::array shape{in.rows};
  if (mean) {
    const Attribute* classes = attributes.find("class_weight");
    const std::array inputs{Operand{data_of(in.weight), Kind::real, shape}, in.target_operand};
    static const Op& row_scale = get_op("row_scale");
    run_now(row_scale, classes ? Attributes{{"class_weight", *classes}} : Attributes(), in.dtype,
            std::span(inputs).first(classes ? 2 : 1), std::array{scale});
  } else if (in.weight.owner) {
    std::memcpy(scale, in.weight.view.data, in.weight.view.bytes());
  } else if (in.dtype == DType::f64) {
    std::fill_n(reinterpret_cast<double*>(scale), in.rows, 1.);
  } else {
    std::fill_n(reinterpret_cast<float*>(scale), in.rows, 1.F);
  }
}

// op, pred, target, weight, reduction, with_grad, attributes. Rows, weights and reduction in one call; returns the
// loss, or (loss, dpred).
py::object loss(py::handle, Arguments given) {
  const std::string_view name = text_from(given[0]), reduction = text_from(given[4]);
  if (reduction != "mean" && reduction != "sum" && reduction != "none") {
    throw ValueError(concat(name, ": reduction must be 'mean', 'sum' or 'none', got '", reduction, "'"));
  }
  const LossInputs in(name, given[1], given[2], given[3]);
  const bool with_grad = PyObject_IsTrue(given[5].ptr()) == 1;
  const Attributes attributes = attributes_from(given[6]);
  const std::array shape{in.rows};
  const auto n = static_cast<std::size_t>(in.rows);
  List<double, 128> rows(2 * n);  // or floats
  std::byte *const scale = reinterpret_cast<std::byte*>(rows.data()), *const values = scale + n * sizeof(double);
  scale_rows(in, attributes, reduction == "mean", scale);

  py::object dpred;
  if (with_grad) {
    const py::array gradient = new_array(in.dtype, in.pred.view.shape);
    const std::array inputs{Operand{scale, Kind::real, shape}, in.pred_operand, in.target_operand};
    run_now(get_op(std::string(name) + "_with_gradient"), attributes, in.dtype, inputs,
            std::array{values, data_of(gradient)});
    dpred = gradient;
  } else {
    run_now(get_op(name), attributes, in.dtype, std::array{in.pred_operand, in.target_operand}, std::array{values});
  }

  py::object result;
  const std::array weighing{Operand{values, Kind::real, shape}, Operand{scale, Kind::real, shape}};
  if (reduction == "none") {
    const py::array weighted = new_array(in.dtype, shape);
    static const Op& multiply = get_op("multiply");
    run_now(multiply, {}, in.dtype, weighing, std::array{data_of(weighted)});
    result = weighted;
  } else {
    alignas(double) std::byte total[sizeof(double)];
    static const Op& weighted_sum = get_op("weighted_sum");
    run_now(weighted_sum, {}, in.dtype, weighing, std::array{static_cast<std::byte*>(total)});
    result = py::float_(in.dtype == DType::f64 ? *reinterpret_cast<const double*>(total)
                                               : *reinterpret_cast<const float*>(total));
  }
  if (with_grad) return py::make_tuple(result, dpred);
  return result;
}

template <class T>
void update_range(const Range& r, const cpu::Update& update, Optimizer rule, const std::byte* grad, std::byte* param,
                  std::byte* const places[3]) {
  const auto at = [&](auto* bytes) { return bytes ? bytes + r.begin * static_cast<std::int64_t>(sizeof(T)) : nullptr; };
  T* slots[3];
  for (int k = 0; k < 3; ++k) slots[k] = reinterpret_cast<T*>(at(places[k]));
  cpu::kernels<T>().optimizer[static_cast<std::size_t>(rule)](
      1, r.end - r.begin, 0, update, reinterpret_cast<const T*>(at(grad)), reinterpret_cast<T*>(at(param)), slots);
}

// optimizer, param, grad, slots, step.
py::object optimizer_step(py::handle, Arguments given) {
  const auto& settings = given[0].cast<const OptimizerSettings&>();
  const Held param = hold(given[1], "param"), grad = hold(given[2], "grad");
  const auto step = given[4].cast<std::int64_t>();
  if (step < 1) throw ValueError(concat("step: counts from 1, got ", step));
  const DType dtype = is_f32(param) ? DType::f32 : DType::f64;
  const Shape shape = param.view.shape;
  const py::array p = check_out(given[1], dtype, shape, "param");
  if (!cpu::is(grad.view.element, dtype)) throw TypeError(concat("grad: expected ", name_of(dtype), " as param"));
  if (!same(grad.view.shape, shape)) {
    throw ValueError(
        concat("grad: expected shape ", to_string(dims_of(shape)), ", got ", to_string(dims_of(grad.view.shape))));
  }
  const auto slots = py::reinterpret_borrow<py::sequence>(given[3]);
  std::byte* places[3] = {nullptr, nullptr, nullptr};
  py::object held[3];
  for (std::size_t k = 0; k < slots.size() && k < 3; ++k) {
    const py::object slot = slots[k];
    if (slot.is_none()) continue;
    const py::array array = check_out(slot, dtype, shape, "optimiser state");
    places[k] = data_of(array);
    held[k] = array;
  }
  bool used[3];
  cpu::slots_of(settings, used);
  for (int k = 0; k < 3; ++k) {
    if (used[k] && !places[k]) throw ValueError("optimiser state: an array is missing");
  }
  const cpu::Update update = settings.at_step(step);
  const auto update_share = dtype == DType::f64 ? update_range<double> : update_range<float>;
  {
    const double flops = update_flops(p.size());
    const MaybeReleased released(flops);
    parallel(cpu::threads_for(flops), [&](const Worker& worker) {
      const Range range = share(p.size(), worker.id, worker.count, cpu::kUpdateGranule);
      update_share(range, update, settings.rule, grad.view.data, data_of(p), places);
    });
  }
  return py::none();
}

}  // namespace

void bind_functional(py::module_& m) {
  bind_optimizer(m);
  for (PyMethodDef* function :
       {direct<run, 2, 4>("run"), direct<loss, 7, 7>("loss"), direct<optimizer_step, 5, 5>("optimizer_step")}) {
    m.attr(function->ml_name) = py::reinterpret_steal<py::object>(PyCFunction_New(function, nullptr));
  }
}

}  // namespace ranvier::bindings
