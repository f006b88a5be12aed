// What every processor of the architecture has; on x86-64 SSE2, which lacks fma.
#define RANVIER_ISA_NAMESPACE baseline
#define RANVIER_VECTOR_BYTES 16
#include "cpu/isa/table.h"

namespace ranvier::cpu::baseline {

constinit const Table table{"baseline", kernels_of_isa<float>(), kernels_of_isa<double>()};

}  // namespace ranvier::cpu::baseline
