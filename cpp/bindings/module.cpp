#include "bindings/arrays.h"

PYBIND11_MODULE(_core, m) {
  namespace py = pybind11;
  m.doc() = "The native core of ranvier: operations, graphs, networks. Private; see _core.pyi.";
  m.attr("__version__") = RANVIER_VERSION;
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const ranvier::ValueError& e) {
      PyErr_SetString(PyExc_ValueError, e.what());
    } catch (const ranvier::TypeError& e) {
      PyErr_SetString(PyExc_TypeError, e.what());
    }
  });
  ranvier::bindings::bind_system(m);
  ranvier::bindings::bind_functional(m);
  ranvier::bindings::bind_graph(m);
  ranvier::bindings::bind_network(m);
}
