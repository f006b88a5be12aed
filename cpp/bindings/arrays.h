// NumPy arrays to and from the core: checked here, so that what is below sees plain memory.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "cpu/host_array.h"

namespace ranvier::bindings {

namespace py = pybind11;

// A list whose length is known when it is made, of uninitialised numbers or default objects. A short one needs no
// memory of its own, so that most calls allocate nothing.
template <class T, std::size_t kFew = 2>
class List {
 public:
  explicit List(std::size_t size = 0) : size_(size) {
    if (size > kFew) many_ = std::make_unique_for_overwrite<T[]>(size);
  }
  std::size_t size() const { return size_; }
  T* data() { return many_ ? many_.get() : few_.data(); }
  const T* data() const { return many_ ? many_.get() : few_.data(); }
  T* begin() { return data(); }
  T* end() { return data() + size_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }
  T& operator[](std::size_t i) { return data()[i]; }
  const T& operator[](std::size_t i) const { return data()[i]; }

 private:
  std::size_t size_;
  std::array<T, kFew> few_;
  std::unique_ptr<T[]> many_;
};

using Shape = std::span<const std::int64_t>;
inline bool same(Shape a, Shape b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }
inline Dims dims_of(Shape shape) { return {shape.begin(), shape.end()}; }

// How the core sees an array, and what keeps its memory as long as the call.
struct Held {
  cpu::HostArray view;
  py::object owner;
};

// Any array-like of bool, integers or floats; copied only where it is not C-contiguous, aligned and native.
// TypeError for complex, object and str; `name` begins the message.
Held hold(py::handle object, const char* name);
py::array new_array(DType, Shape);
// A caller's output: exactly this dtype and shape, C-contiguous, aligned and writable, else TypeError or ValueError.
py::array check_out(py::handle out, DType, Shape, const char* name);
inline std::byte* data_of(const py::array& array) { return static_cast<std::byte*>(const_cast<void*>(array.data())); }
inline std::byte* data_of(const Held& held) { return const_cast<std::byte*>(held.view.data); }
bool overlap(const py::array&, const cpu::HostArray&);  // C-contiguous: whether they share memory
DType dtype_named(const std::string& name);             // "float32" or "float64"
Type type_from(const py::handle& shape);                // a tuple; None in first place: batched
py::tuple shape_to(const Type&);
Attributes attributes_from(const py::handle& mapping);  // None: empty

double number_from(py::handle, const char* name);  // TypeError that names it
std::string_view text_from(py::handle);            // of a str, which keeps it

// Releases the GIL for its scope where the work is worth it: for less, taking it back costs more than it gives.
class MaybeReleased {
 public:
  explicit MaybeReleased(double flops) {
    if (flops > 2e5) released_.emplace();
  }

 private:
  std::optional<py::gil_scoped_release> released_;
};

// A function that CPython calls without pybind11's dispatcher between, which costs 60 ns. Arguments are positional;
// those left out are None.
using Arguments = std::span<const py::handle>;
template <py::object (*kBody)(py::handle self, Arguments), std::size_t kLeast, std::size_t kMost>
PyMethodDef* direct(const char* name) {
  constexpr auto call = [](PyObject* self, PyObject* const* given, Py_ssize_t count) -> PyObject* {
    try {
      const auto n = static_cast<std::size_t>(count);
      if (n < kLeast || n > kMost) throw TypeError(concat("expected ", kLeast, " to ", kMost, " arguments, got ", n));
      std::array<py::handle, kMost> arguments;
      std::copy_n(given, n, arguments.begin());
      std::fill(arguments.begin() + n, arguments.end(), Py_None);
      return kBody(self, arguments).release().ptr();
    } catch (py::error_already_set& error) {
      error.restore();
    } catch (...) {
      py::detail::try_translate_exceptions();
    }
    return nullptr;
  };
  static PyMethodDef method{name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(+call)), METH_FASTCALL,
                            nullptr};
  return &method;
}

void bind_graph(py::module_&);
void bind_functional(py::module_&);
void bind_network(py::module_&);
void bind_system(py::module_&);

}  // namespace ranvier::bindings
