// Arrays as they come from the caller, and how their rows get into a plan: checked, converted, gathered.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/dtype.h"
#include "ops/op.h"

namespace ranvier::cpu {

enum class Element : std::uint8_t { boolean, i8, u8, i16, u16, i32, u32, i64, u64, f16, f32, f64 };

// C-contiguous and aligned; the caller keeps it alive, its shape too.
struct HostArray {
  const std::byte* data = nullptr;
  Element element = Element::f32;
  std::int64_t rows = 0, width = 1;  // the first axis, and the elements behind each of its places
  std::span<const std::int64_t> shape;

  std::int64_t count() const { return rows * width; }
  HostArray flat() const { return {data, element, count(), 1, {}}; }
  std::size_t bytes() const;
};

std::size_t size_of(Element);
inline std::size_t HostArray::bytes() const { return static_cast<std::size_t>(count()) * size_of(element); }
constexpr bool is(Element element, DType dtype) {
  return (dtype == DType::f32 && element == Element::f32) || (dtype == DType::f64 && element == Element::f64) ||
         (dtype == DType::i32 && element == Element::i32);
}

// Rows order[0..rows) of the array (order null: 0, 1, ...) into `to`, as dtype.
void gather(const HostArray&, const std::int64_t* order, std::int64_t rows, DType dtype, std::byte* to);
// The same for labels, as i32. They were checked before the first batch, and could be others by now: what is not one of
// the classes is 0, since kernels take labels for indices.
void gather_labels(const HostArray&, const std::int64_t* order, std::int64_t rows, std::int64_t classes,
                   std::int32_t* to);

// ValueErrors that name the array. A target's values must be finite, as that dtype too; weights also not negative;
// labels integral and in [0, classes).
void check_finite(const HostArray&, const std::string& name, DType);
void check_probabilities(const HostArray&, const std::string& name);  // in [0, 1]
void check_weights(const HostArray&, const std::string& name, DType);
void check_labels(const HostArray&, const std::string& name, std::int64_t classes);

}  // namespace ranvier::cpu
