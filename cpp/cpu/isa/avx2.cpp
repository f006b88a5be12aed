// Compiled with -march=x86-64-v3.
#define RANVIER_ISA_NAMESPACE avx2
#define RANVIER_VECTOR_BYTES 32
#include "cpu/isa/table.h"

namespace ranvier::cpu::avx2 {

constinit const Table table{"avx2", kernels_of_isa<float>(), kernels_of_isa<double>()};

}  // namespace ranvier::cpu::avx2
