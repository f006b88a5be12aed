#pragma once

#include <cstddef>
#include <cstdint>

namespace ranvier {

// What a plan computes in (f32, f64) and what it indexes with (labels are i32 once they are inside).
enum class DType : std::uint8_t { f32, f64, i32 };

constexpr std::size_t size_of(DType dtype) { return dtype == DType::f64 ? 8 : 4; }

constexpr const char* name_of(DType dtype) {
  return dtype == DType::f32 ? "float32" : dtype == DType::f64 ? "float64" : "int32";
}

}  // namespace ranvier
