// The tables that the files of isa/ define, one an instruction set, each compiled with that set's flags.
#pragma once

#include "cpu/kernels.h"

namespace ranvier::cpu {

namespace baseline {
extern const Table table;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Table table;
}
namespace avx512 {
extern const Table table;
}
#endif

}  // namespace ranvier::cpu
