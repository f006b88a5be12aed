#pragma once

#include "bindings/arrays.h"
#include "cpu/network.h"

namespace ranvier::bindings {

using cpu::OptimizerSettings;

void bind_optimizer(py::module_&);

}  // namespace ranvier::bindings
