// Compiled with -march=x86-64-v4 -mprefer-vector-width=512.
#define RANVIER_ISA_NAMESPACE avx512
#define RANVIER_VECTOR_BYTES 64
#include "cpu/isa/table.h"

namespace ranvier::cpu::avx512 {

constinit const Table table{"avx512", kernels_of_isa<float>(), kernels_of_isa<double>()};

}  // namespace ranvier::cpu::avx512
