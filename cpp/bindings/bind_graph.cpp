#include <pybind11/stl.h>

#include "bindings/arrays.h"
#include "graph/graph.h"

namespace ranvier::bindings {
namespace {

ValueId add_input(Graph& g, const std::string& role, const std::string& kind, const py::tuple& shape,
                  const std::string& name) {
  const Leaf leaf = role == "x"        ? Leaf::x
                    : role == "target" ? Leaf::target
                    : role == "weight" ? Leaf::weight
                                       : throw ValueError(concat("no input has the role '", role, "'"));
  Type type = type_from(shape);
  if (kind == "labels") type.kind = Kind::labels;
  return g.leaf(leaf, std::move(type), name, g.count(leaf));
}

ValueId add_constant(Graph& g, py::handle values) {
  const Held held = hold(values, "constant");
  Constant constant{dims_of(held.view.shape), std::vector<double>(static_cast<std::size_t>(held.view.count()))};
  cpu::gather(held.view.flat(), nullptr, held.view.count(), DType::f64,
              reinterpret_cast<std::byte*>(constant.data.data()));
  return g.constant(std::move(constant));
}

std::vector<py::tuple> infer_shapes(const std::string& op, const std::vector<py::tuple>& inputs,
                                    const py::object& attributes, const std::string& scope) {
  std::vector<Type> types;
  for (const py::tuple& shape : inputs) types.push_back(type_from(shape));
  const Attributes given = attributes_from(attributes);
  std::vector<py::tuple> shapes;
  for (const Type& t : infer({get_op(op), given, types, scope})) shapes.push_back(shape_to(t));
  return shapes;
}

}  // namespace

void bind_graph(py::module_& m) {
  m.def("operations", op_names);
  m.def("infer_shapes", infer_shapes, py::arg("op"), py::arg("inputs"), py::arg("attributes"), py::arg("scope") = "");
  py::class_<Graph>(m, "Graph")
      .def(py::init<>())
      .def("input", add_input, py::arg("role"), py::arg("kind"), py::arg("shape"), py::arg("name"))
      .def(
          "parameter",
          [](Graph& g, int index, Dims shape, std::string name) {
            return g.leaf(Leaf::parameter, {false, std::move(shape)}, std::move(name), index);
          },
          py::arg("index"), py::arg("shape"), py::arg("name"))
      .def("constant", add_constant, py::arg("array"))
      .def(
          "add",
          [](Graph& g, const std::string& op, std::vector<ValueId> inputs, const py::object& attributes,
             const std::string& scope) { return g.add(op, std::move(inputs), attributes_from(attributes), scope); },
          py::arg("op"), py::arg("inputs"), py::arg("attributes"), py::arg("scope") = "")
      .def(
          "shape", [](const Graph& g, ValueId id) { return shape_to(g.type(id)); }, py::arg("value"))
      .def(
          "set_outputs", [](Graph& g, std::vector<ValueId> ids) { g.outputs = std::move(ids); }, py::arg("values"))
      .def(
          "set_loss",
          [](Graph& g, ValueId id) {
            if (g.type(id) != Type{}) throw ValueError(concat("loss: expected a scalar, got ", to_string(g.type(id))));
            g.loss = id;
          },
          py::arg("value"));
}

}  // namespace ranvier::bindings
