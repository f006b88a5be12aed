#include <pybind11/stl.h>

#include <algorithm>

#include "bindings/optimizer.h"

namespace ranvier::bindings {
namespace {

// One table for writing and reading: the Python argument and where its number lives.
struct Number {
  const char* name;
  double (*get)(const OptimizerSettings&);
  void (*set)(OptimizerSettings&, double);
};

constexpr Number kNumbers[] = {
    {"weight_decay", [](const OptimizerSettings& o) { return o.numbers.weight_decay; },
     [](OptimizerSettings& o, double v) { o.numbers.weight_decay = v; }},
    {"momentum", [](const OptimizerSettings& o) { return o.numbers.momentum; },
     [](OptimizerSettings& o, double v) { o.numbers.momentum = v; }},
    {"dampening", [](const OptimizerSettings& o) { return o.numbers.dampening; },
     [](OptimizerSettings& o, double v) { o.numbers.dampening = v; }},
    {"nesterov", [](const OptimizerSettings& o) { return o.numbers.nesterov ? 1. : 0.; },
     [](OptimizerSettings& o, double v) { o.numbers.nesterov = v != 0; }},
    {"beta1", [](const OptimizerSettings& o) { return o.numbers.beta1; },
     [](OptimizerSettings& o, double v) { o.numbers.beta1 = v; }},
    {"beta2", [](const OptimizerSettings& o) { return o.numbers.beta2; },
     [](OptimizerSettings& o, double v) { o.numbers.beta2 = v; }},
    {"eps", [](const OptimizerSettings& o) { return o.numbers.eps; },
     [](OptimizerSettings& o, double v) { o.numbers.eps = v; }},
    {"alpha", [](const OptimizerSettings& o) { return o.numbers.alpha; },
     [](OptimizerSettings& o, double v) { o.numbers.alpha = v; }},
    {"lr_decay", [](const OptimizerSettings& o) { return o.numbers.lr_decay; },
     [](OptimizerSettings& o, double v) { o.numbers.lr_decay = v; }},
    {"initial_accumulator", [](const OptimizerSettings& o) { return o.initial_accumulator; },
     [](OptimizerSettings& o, double v) { o.initial_accumulator = v; }},
    {"centered", [](const OptimizerSettings& o) { return o.centered ? 1. : 0.; },
     [](OptimizerSettings& o, double v) { o.centered = v != 0; }},
    {"clip_norm", [](const OptimizerSettings& o) { return o.clip_norm; },
     [](OptimizerSettings& o, double v) { o.clip_norm = v; }},
    {"clip_value", [](const OptimizerSettings& o) { return o.clip_value; },
     [](OptimizerSettings& o, double v) { o.clip_value = v; }},
};

std::shared_ptr<OptimizerSettings> make(const std::string& rule, double lr, const py::kwargs& numbers) {
  auto settings = std::make_shared<OptimizerSettings>();
  const auto found = std::find(kOptimizerNames.begin(), kOptimizerNames.end(), rule);
  if (found == kOptimizerNames.end()) throw ValueError(concat("no optimiser rule is called '", rule, "'"));
  settings->rule = static_cast<Optimizer>(found - kOptimizerNames.begin());
  settings->lr = lr;
  for (const auto& [key, value] : numbers) {
    const auto name = key.cast<std::string>();
    const auto* number =
        std::find_if(std::begin(kNumbers), std::end(kNumbers), [&](const Number& n) { return name == n.name; });
    if (number == std::end(kNumbers)) throw TypeError(concat("no number of an optimiser is called '", name, "'"));
    number->set(*settings, value.cast<double>());
  }
  return settings;
}

}  // namespace

void bind_optimizer(py::module_& m) {
  py::class_<OptimizerSettings, std::shared_ptr<OptimizerSettings>>(m, "Optimizer")
      .def(py::init(&make), py::arg("rule"), py::arg("lr"))
      .def_property(
          "lr", [](const OptimizerSettings& o) { return o.lr.load(); },
          [](OptimizerSettings& o, py::handle given) {
            const double lr = number_from(given, "lr");
            if (!(lr >= 0) || lr > 1e30) throw ValueError(concat("lr: expected a finite rate >= 0, got ", lr));
            o.lr = lr;
          })
      .def_property_readonly(
          "rule",
          [](const OptimizerSettings& o) { return std::string(kOptimizerNames[static_cast<std::size_t>(o.rule)]); })
      .def("numbers", [](const OptimizerSettings& o) {
        py::dict numbers;
        for (const Number& n : kNumbers) numbers[n.name] = n.get(o);
        return numbers;
      });
}

}  // namespace ranvier::bindings
