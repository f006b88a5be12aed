// The tables that the files of isa/ define, one an instruction set, each compiled with that set's flags.
#pragma once

#include "cpu/kernels.h"

namespace ranvier::cpu {

#if defined(__aarch64__)
namespace neon {
extern const Table table;
}
#else
namespace baseline {
extern const Table table;
}
#endif
#if defined(__x86_64__)
namespace avx2 {
extern const Table table;
}
namespace avx512 {
extern const Table table;
}
// What these two add to AVX-512.
namespace avx512_bf16 {
extern const Bf16Kernels bf16;
}
namespace amx {
extern const Bf16Kernels bf16;
}
#endif

}  // namespace ranvier::cpu
