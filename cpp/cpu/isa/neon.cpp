// Compiled for plain armv8-a: every 64-bit ARM has NEON with fma, so this is the architecture's baseline too.
#define RANVIER_ISA_NAMESPACE neon
#define RANVIER_VECTOR_BYTES 16
#include "cpu/isa/table.h"

namespace ranvier::cpu::neon {

constinit const Table table{"neon", kernels_of_isa<float>(), kernels_of_isa<double>()};

}  // namespace ranvier::cpu::neon
