// NumPy arrays to and from the core: checked here, so that what is below sees plain memory.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

#include "cpu/host_array.h"

namespace ranvier::bindings {

namespace py = pybind11;

// An array that lives as long as the call, and how the core sees it.
struct Held {
  py::array array;
  cpu::HostArray view;
};

// Any array-like of bool, integers or floats; copied only where it is not C-contiguous, aligned and native.
// TypeError for complex, object and str; `name` begins the message.
Held hold(py::handle object, const char* name);
Dims shape_of(const py::array&);
py::array new_array(DType, const Dims& shape);
// A caller's output: exactly this dtype and shape, C-contiguous, aligned and writable, else TypeError or ValueError.
py::array check_out(py::handle out, DType, const Dims& shape, const char* name);
inline std::byte* data_of(const py::array& array) { return static_cast<std::byte*>(const_cast<void*>(array.data())); }
bool overlap(const py::array&, const py::array&);  // C-contiguous ones: whether they share memory
DType dtype_named(const std::string& name);        // "float32" or "float64"
Type type_from(const py::handle& shape);           // a tuple; None in first place: batched
py::tuple shape_to(const Type&);
Attributes attributes_from(const py::handle& mapping);  // None: empty

double number_from(py::handle, const char* name);  // TypeError that names it

// Releases the GIL for its scope where the work is worth it: for less, taking it back costs more than it gives.
class MaybeReleased {
 public:
  explicit MaybeReleased(double flops) {
    if (flops > 2e5) released_.emplace();
  }

 private:
  std::optional<py::gil_scoped_release> released_;
};

void bind_graph(py::module_&);
void bind_functional(py::module_&);
void bind_network(py::module_&);
void bind_system(py::module_&);

}  // namespace ranvier::bindings
