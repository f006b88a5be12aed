#include "bindings/arrays.h"

#include <pybind11/stl.h>

namespace ranvier::bindings {

using cpu::Element;

namespace {

// NumPy's type numbers (numpy/ndarraytypes.h); `long` is as wide as the platform's.
std::optional<Element> element_of(int num) {
  constexpr bool kLong64 = sizeof(long) == 8;
  switch (num) {
    case 0:
      return Element::boolean;
    case 1:
      return Element::i8;
    case 2:
      return Element::u8;
    case 3:
      return Element::i16;
    case 4:
      return Element::u16;
    case 5:
      return Element::i32;
    case 6:
      return Element::u32;
    case 7:
      return kLong64 ? Element::i64 : Element::i32;
    case 8:
      return kLong64 ? Element::u64 : Element::u32;
    case 9:
      return Element::i64;
    case 10:
      return Element::u64;
    case 11:
      return Element::f32;
    case 12:
      return Element::f64;
    case 23:
      return Element::f16;
    default:
      return std::nullopt;
  }
}

constexpr int kLongDouble = 13;
constexpr int kWanted = int{py::array::c_style} | int{py::detail::npy_api::NPY_ARRAY_ALIGNED_};

const auto& proxy(py::handle array) { return *py::detail::array_proxy(array.ptr()); }
const auto& descr_of(py::handle array) { return *py::detail::array_descriptor_proxy(proxy(array).descr); }
std::string dtype_text(py::handle array) { return py::str(py::handle(proxy(array).descr)); }

// NumPy's own conversion; pybind11's loses the error, a MemoryError say.
py::object converted(py::handle object, int flags) {
  auto& api = py::detail::npy_api::get();
  auto array = py::reinterpret_steal<py::object>(
      api.PyArray_FromAny_(object.ptr(), nullptr, 0, 0, py::detail::npy_api::NPY_ARRAY_ENSUREARRAY_ | flags, nullptr));
  if (!array) throw py::error_already_set();
  return array;
}

py::object array_from(py::handle object, const char* name) {
  try {
    return converted(object, 0);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError) && !error.matches(PyExc_ValueError) && !error.matches(PyExc_RuntimeError))
      throw;
    throw TypeError(concat(name, ": expected an array of numbers, got ", Py_TYPE(object.ptr())->tp_name, " (",
                           std::string(py::str(error.value())), ")"));
  }
}

Shape shape_of(py::handle array) {
  static_assert(sizeof(py::ssize_t) == sizeof(std::int64_t));
  return {reinterpret_cast<const std::int64_t*>(proxy(array).dimensions), static_cast<std::size_t>(proxy(array).nd)};
}

}  // namespace

Held hold(py::handle object, const char* name) {
  py::object array =
      py::isinstance<py::array>(object) ? py::reinterpret_borrow<py::object>(object) : array_from(object, name);
  std::optional<Element> element = element_of(descr_of(array).type_num);
  const bool long_double = descr_of(array).type_num == kLongDouble;
  if (long_double || (element && descr_of(array).byteorder == '>')) {
    const py::handle dtype = proxy(array).descr;
    array = py::array(array.attr("astype")(long_double ? py::dtype("float64") : dtype.attr("newbyteorder")("=")));
    element = element_of(descr_of(array).type_num);
  }
  if (!element) {
    throw TypeError(concat(name, ": expected bool, integers or floats, got dtype ", dtype_text(array)));
  }
  if ((proxy(array).flags & kWanted) != kWanted) {
    array = converted(array, kWanted);
  }
  const Shape shape = shape_of(array);
  std::int64_t width = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) width *= shape[i];
  const std::int64_t rows = shape.empty() ? 1 : shape[0];  // a scalar is one element
  const auto* data = reinterpret_cast<const std::byte*>(proxy(array).data);
  return {{data, *element, rows, width, shape}, std::move(array)};
}

py::array new_array(DType dtype, Shape shape) {
  // NumPy's own call: pybind11's constructor builds strides and vectors, 0.2 us more on a one-row predict.
  auto& api = py::detail::npy_api::get();
  py::dtype type = dtype == DType::f64   ? py::dtype::of<double>()
                   : dtype == DType::f32 ? py::dtype::of<float>()
                                         : py::dtype::of<std::int32_t>();
  auto made = py::reinterpret_steal<py::array>(
      api.PyArray_NewFromDescr_(api.PyArray_Type_, type.release().ptr(), static_cast<int>(shape.size()),
                                reinterpret_cast<const Py_intptr_t*>(shape.data()), nullptr, nullptr, 0, nullptr));
  if (!made) throw py::error_already_set();
  return made;
}

py::array check_out(py::handle out, DType dtype, Shape shape, const char* name) {
  if (!py::isinstance<py::array>(out)) {
    throw TypeError(concat(name, ": expected out to be an array, got ", Py_TYPE(out.ptr())->tp_name));
  }
  auto array = py::reinterpret_borrow<py::array>(out);
  const std::optional<Element> element = element_of(descr_of(array).type_num);
  if (!element || !cpu::is(*element, dtype) || descr_of(array).byteorder == '>') {
    throw TypeError(concat(name, ": expected out of ", name_of(dtype), ", got ", dtype_text(array)));
  }
  if (!same(shape_of(array), shape)) {
    throw ValueError(concat(name, ": expected out of shape ", to_string(dims_of(shape)), ", got ",
                            to_string(dims_of(shape_of(array)))));
  }
  if ((array.flags() & kWanted) != kWanted || !array.writeable()) {
    throw ValueError(concat(name, ": expected out to be C-contiguous, aligned and writable"));
  }
  return array;
}

bool overlap(const py::array& a, const cpu::HostArray& b) {
  const std::byte* data = data_of(a);
  return data < b.data + b.bytes() && b.data < data + a.nbytes();
}

DType dtype_named(const std::string& name) {
  if (name == "float32") return DType::f32;
  if (name == "float64") return DType::f64;
  throw ValueError(concat("dtype: expected 'float32' or 'float64', got '", name, "'"));
}

Type type_from(const py::handle& shape) {
  Type type;
  bool first = true;
  for (const py::handle d : shape) {
    if (d.is_none()) {
      if (!first) throw ValueError("a shape may have None (the batch axis) in first place only");
      type.batched = true;
    } else {
      type.dims.push_back(d.cast<std::int64_t>());
      if (type.dims.back() < 0) throw ValueError(concat("expected sizes >= 0, got ", type.dims.back()));
    }
    first = false;
  }
  return type;
}

py::tuple shape_to(const Type& type) {
  py::tuple shape(type.rank());
  std::size_t at = 0;
  if (type.batched) shape[at++] = py::none();
  for (const std::int64_t d : type.dims) shape[at++] = d;
  return shape;
}

Attributes attributes_from(const py::handle& mapping) {
  Attributes attributes;
  if (mapping.is_none()) return attributes;
  for (const auto& [key, value] : py::reinterpret_borrow<py::dict>(mapping)) {
    const auto name = key.cast<std::string>();
    if (value.is_none()) continue;
    if (PyBool_Check(value.ptr())) {
      attributes.set(name, value.cast<bool>());
    } else if (PyFloat_Check(value.ptr())) {
      attributes.set(name, value.cast<double>());
    } else if (py::isinstance<py::str>(value)) {
      attributes.set(name, value.cast<std::string>());
    } else if (PyIndex_Check(value.ptr())) {
      attributes.set(name, py::int_(py::reinterpret_borrow<py::object>(value)).cast<std::int64_t>());
    } else if (py::isinstance<py::sequence>(value)) {
      bool whole = true;
      for (const py::handle v : value) whole = whole && PyIndex_Check(v.ptr());
      if (whole) {
        attributes.set(name, value.cast<Dims>());
      } else {
        attributes.set(name, value.cast<std::vector<double>>());
      }
    } else {
      attributes.set(name, value.cast<double>());  // NumPy's floats
    }
  }
  return attributes;
}

double number_from(py::handle object, const char* name) {
  const double value = PyFloat_AsDouble(object.ptr());
  if (value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    throw TypeError(concat(name, ": expected a number, got ", Py_TYPE(object.ptr())->tp_name));
  }
  return value;
}

std::string_view text_from(py::handle object) {
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(object.ptr(), &size);
  if (!text) throw py::error_already_set();
  return {text, static_cast<std::size_t>(size)};
}

}  // namespace ranvier::bindings
