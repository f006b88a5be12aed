#include "cpu/host_array.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/team.h"
#include "cpu/kernels.h"
#include "cpu/program.h"

namespace ranvier::cpu {
namespace {

// IEEE half precision; NumPy has it, C++20 does not.
struct Half {
  std::uint16_t bits;
  explicit operator float() const {
    const std::uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 0x1fu, fraction = bits & 0x3ffu;
    if (exponent == 0) {
      const float small = std::ldexp(static_cast<float>(fraction), -24);
      return sign ? -small : small;
    }
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  }
  explicit operator double() const { return static_cast<float>(*this); }
};

template <class F>
auto visit(Element element, F&& f) {
  switch (element) {
    case Element::boolean:
      return f(bool{});
    case Element::i8:
      return f(std::int8_t{});
    case Element::u8:
      return f(std::uint8_t{});
    case Element::i16:
      return f(std::int16_t{});
    case Element::u16:
      return f(std::uint16_t{});
    case Element::i32:
      return f(std::int32_t{});
    case Element::u32:
      return f(std::uint32_t{});
    case Element::i64:
      return f(std::int64_t{});
    case Element::u64:
      return f(std::uint64_t{});
    case Element::f16:
      return f(Half{});
    case Element::f32:
      return f(float{});
    case Element::f64:
      break;
  }
  return f(double{});
}

template <class From, class To>
void convert(const HostArray& array, const std::int64_t* order, std::int64_t rows, To* to) {
  const std::int64_t width = array.width;
  const From* from = reinterpret_cast<const From*>(array.data);
  for (std::int64_t i = 0; i < rows; ++i, to += width) {
    const From* row = from + (order ? order[i] : i) * width;
    if constexpr (std::is_same_v<From, To>) {
      std::memcpy(to, row, static_cast<std::size_t>(width) * sizeof(To));
    } else {
      for (std::int64_t j = 0; j < width; ++j) to[j] = static_cast<To>(row[j]);
    }
  }
}

// Whether good(part) of every part of n values, which are shared out where they are many.
template <class Good>
bool all_parts(std::int64_t n, Good&& good) {
  const int threads = threads_for(static_cast<double>(n));
  if (threads == 1) return good(Range{0, n});
  std::atomic<bool> all = true;
  parallel(threads, [&](const Worker& w) {
    if (!good(share(n, w.id, w.count))) all = false;
  });
  return all;
}

// Throws what complain(value, row) says of the first value that is not good. The usual pass has no branch a value.
template <class Good, class Complain>
void require(const HostArray& array, Good&& good, Complain&& complain) {
  visit(array.element, [&](auto zero) {
    using From = decltype(zero);
    const From* values = reinterpret_cast<const From*>(array.data);
    const std::int64_t n = array.count();
    const auto at = [&](std::int64_t i) {
      if constexpr (std::is_same_v<From, Half>) {
        return static_cast<float>(values[i]);
      } else {
        return values[i];
      }
    };
    const auto part_is_good = [&](const Range& part) {
      int bad = 0;  // GCC makes vectors of an int, not of a bool: 28 and 6 GB/s
      for (std::int64_t i = part.begin; i < part.end; ++i) bad |= !good(at(i));
      return bad == 0;
    };
    if (all_parts(n, part_is_good)) return;
    for (std::int64_t i = 0; i < n; ++i) {
      if (!good(at(i))) throw ValueError(complain(static_cast<double>(at(i)), i / array.width));
    }
  });
}

bool is_integer(Element element) { return element < Element::f16; }

// Whether the sum is finite, so every value. (Not the converse: sums of large values overflow.)
template <class T>
bool has_finite_sum(const HostArray& array) {
  const T* values = reinterpret_cast<const T*>(array.data);
  return all_parts(array.count(), [&](const Range& part) {
    return std::isfinite(kernels<T>().sum(part.end - part.begin, values + part.begin));
  });
}

}  // namespace

std::size_t size_of(Element element) {
  return visit(element, [](auto zero) { return sizeof zero; });
}

void gather(const HostArray& array, const std::int64_t* order, std::int64_t rows, DType dtype, std::byte* to) {
  visit(array.element, [&](auto zero) {
    using From = decltype(zero);
    if (dtype == DType::f64) {
      convert<From>(array, order, rows, reinterpret_cast<double*>(to));
    } else {
      convert<From>(array, order, rows, reinterpret_cast<float*>(to));
    }
  });
}

void gather_labels(const HostArray& array, const std::int64_t* order, std::int64_t rows, std::int64_t classes,
                   std::int32_t* to) {
  const std::int64_t width = array.width;
  visit(array.element, [&](auto zero) {
    using From = decltype(zero);
    const From* from = reinterpret_cast<const From*>(array.data);
    for (std::int64_t i = 0; i < rows; ++i, to += width) {
      const From* row = from + (order ? order[i] : i) * width;
      for (std::int64_t j = 0; j < width; ++j) {
        if constexpr (std::is_integral_v<From>) {
          to[j] =
              static_cast<std::uint64_t>(row[j]) < static_cast<std::uint64_t>(classes) ? static_cast<int>(row[j]) : 0;
        } else {
          const auto label = static_cast<double>(row[j]);
          to[j] = label >= 0 && label < static_cast<double>(classes) ? static_cast<int>(label) : 0;
        }
      }
    }
  });
}

// A value of larger size, or as large, is infinite as a float32.
static constexpr double kOverflow = 0x1.ffffffp127;

void check_finite(const HostArray& array, const std::string& name, DType dtype) {
  if (is_integer(array.element)) return;
  if (array.element == Element::f32 && has_finite_sum<float>(array)) return;
  const auto complain = [&](double v, std::int64_t row) {
    return concat(name, ": expected finite values, got ", v, " in row ", row);
  };
  if (array.element == Element::f64 && dtype == DType::f32) {
    return require(array, [](auto v) { return std::abs(static_cast<double>(v)) < kOverflow; }, complain);
  }
  if (array.element == Element::f64 && has_finite_sum<double>(array)) return;
  require(array, [](auto v) { return v - v == 0; }, complain);  // in the array's own type
}

void check_probabilities(const HostArray& array, const std::string& name) {
  require(
      array, [](auto v) { return (v >= 0.0F) & (v <= 1.0F); },  // a float32 stays one: twice as many fit a vector
      [&](double v, std::int64_t row) {
        return concat(name, ": expected values in [0, 1], got ", v, " in row ", row);
      });
}

void check_weights(const HostArray& array, const std::string& name, DType dtype) {
  const double end = dtype == DType::f32 ? kOverflow : std::numeric_limits<double>::infinity();
  require(
      array, [=](double v) { return (v >= 0) & (v < end); },
      [&](double v, std::int64_t row) {
        return concat(name, ": expected finite weights >= 0, got ", v, " in row ", row);
      });
}

void check_labels(const HostArray& array, const std::string& name, std::int64_t classes) {
  const auto end = static_cast<double>(classes);
  require(
      array, [=](double v) { return (v >= 0) & (v < end) & (v == std::floor(v)); },
      [&](double v, std::int64_t row) {
        return concat(name, ": expected labels 0 to ", classes - 1, " (whole numbers), got ", v, " in row ", row);
      });
}

}  // namespace ranvier::cpu
