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

}  // namespace

Dims shape_of(const py::array& array) { return {array.shape(), array.shape() + array.ndim()}; }

Held hold(py::handle object, const char* name) {
  py::array array;
  if (py::isinstance<py::array>(object)) {
    array = py::reinterpret_borrow<py::array>(object);
  } else {
    try {
      array = py::array::ensure(object);
    } catch (py::error_already_set&) {
      PyErr_Clear();
    }
    if (!array) {
      PyErr_Clear();
      throw TypeError(concat(name, ": expected an array of numbers, got ", Py_TYPE(object.ptr())->tp_name));
    }
  }
  py::dtype dtype = array.dtype();
  std::optional<Element> element = element_of(dtype.num());
  if (dtype.num() == kLongDouble || (element && dtype.byteorder() == '>')) {
    array = py::array(
        array.attr("astype")(dtype.num() == kLongDouble ? py::dtype("float64") : dtype.attr("newbyteorder")("=")));
    element = element_of(array.dtype().num());
  }
  if (!element) {
    throw TypeError(
        concat(name, ": expected bool, integers or floats, got dtype ", py::str(dtype).cast<std::string>()));
  }

  if ((array.flags() & kWanted) != kWanted) {
    array = py::array::ensure(array, kWanted);
    if (!array) throw py::error_already_set();
  }
  static_assert(sizeof(py::ssize_t) == sizeof(std::int64_t));
  const std::span shape(reinterpret_cast<const std::int64_t*>(array.shape()), static_cast<std::size_t>(array.ndim()));
  std::int64_t width = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) width *= shape[i];
  const std::int64_t rows = shape.empty() ? 1 : shape[0];  // a scalar is one element
  const cpu::HostArray view{data_of(array), *element, rows, width, shape};
  return {std::move(array), view};
}

py::array new_array(DType dtype, const Dims& shape) {
  // NumPy's own call: pybind11's constructor builds strides and vectors, 0.2 us more on a one-row predict.
  auto& api = py::detail::npy_api::get();
  py::dtype type = dtype == DType::f64 ? py::dtype::of<double>() : py::dtype::of<float>();
  auto made = py::reinterpret_steal<py::array>(
      api.PyArray_NewFromDescr_(api.PyArray_Type_, type.release().ptr(), static_cast<int>(shape.size()),
                                reinterpret_cast<const Py_intptr_t*>(shape.data()), nullptr, nullptr, 0, nullptr));
  if (!made) throw py::error_already_set();
  return made;
}

py::array check_out(py::handle out, DType dtype, const Dims& shape, const char* name) {
  if (!py::isinstance<py::array>(out)) {
    throw TypeError(concat(name, ": expected out to be an array, got ", Py_TYPE(out.ptr())->tp_name));
  }
  auto array = py::reinterpret_borrow<py::array>(out);
  const std::optional<Element> element = element_of(array.dtype().num());
  if (!element || !cpu::is(*element, dtype)) {
    throw TypeError(
        concat(name, ": expected out of ", name_of(dtype), ", got ", py::str(array.dtype()).cast<std::string>()));
  }
  if (shape_of(array) != shape) {
    throw ValueError(concat(name, ": expected out of shape ", to_string(shape), ", got ", to_string(shape_of(array))));
  }

  if ((array.flags() & kWanted) != kWanted || !array.writeable()) {
    throw ValueError(concat(name, ": expected out to be C-contiguous, aligned and writable"));
  }
  return array;
}

bool overlap(const py::array& a, const py::array& b) {
  const std::byte *pa = data_of(a), *pb = data_of(b);
  return pa < pb + b.nbytes() && pb < pa + a.nbytes();
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

}  // namespace ranvier::bindings
