#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "bindings/arrays.h"
#include "core/philox.h"
#include "core/team.h"
#include "cpu/kernels.h"

namespace ranvier::bindings {
namespace {

// Streams of one seed differ in the upper words of the counter.
PhiloxBlock draw(std::uint64_t seed, std::uint64_t stream, std::uint64_t i) {
  return philox({static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)},
                {static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32), static_cast<std::uint32_t>(stream),
                 static_cast<std::uint32_t>(stream >> 32)});
}

// 53 bits, in [0, 1).
double unit(std::uint32_t high, std::uint32_t low) {
  return static_cast<double>((std::uint64_t{high} << 21) ^ (low >> 11)) * 0x1p-53;
}

py::array_t<double> random_uniform(std::int64_t count, std::uint64_t seed, std::uint64_t stream) {
  py::array_t<double> out(count);
  double* to = out.mutable_data();
  const MaybeReleased released(10. * static_cast<double>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    const PhiloxBlock bits = draw(seed, stream, static_cast<std::uint64_t>(i / 2));
    to[i] = i % 2 ? unit(bits[2], bits[3]) : unit(bits[0], bits[1]);
  }
  return out;
}

// Box and Muller: two uniforms give two independent normals.
py::array_t<double> random_normal(std::int64_t count, std::uint64_t seed, std::uint64_t stream) {
  py::array_t<double> out(count);
  double* to = out.mutable_data();
  const MaybeReleased released(10. * static_cast<double>(count));
  for (std::int64_t i = 0; i < count; i += 2) {
    const PhiloxBlock bits = draw(seed, stream, static_cast<std::uint64_t>(i / 2));
    const double radius = std::sqrt(-2 * std::log(1 - unit(bits[0], bits[1])));
    const double angle = 2 * std::numbers::pi * unit(bits[2], bits[3]);
    to[i] = radius * std::cos(angle);
    if (i + 1 < count) to[i + 1] = radius * std::sin(angle);
  }
  return out;
}

// Fisher and Yates, with Lemire's multiplication in place of the remainder. A block of random words serves two rows: in
// an epoch of small batches its ten rounds are a tenth of the time.
py::array_t<std::int64_t> epoch_order(std::int64_t rows, std::uint64_t seed, std::uint64_t epoch) {
  py::array_t<std::int64_t> out(rows);
  std::int64_t* order = out.mutable_data();
  const MaybeReleased released(10. * static_cast<double>(rows));
  std::iota(order, order + rows, 0);
  constexpr std::uint64_t kOrderStream = std::uint64_t{1} << 63;  // apart from the layers' streams
  PhiloxBlock bits;
  for (std::int64_t i = rows - 1; i > 0; --i) {
    const auto at = static_cast<std::uint64_t>(i);
    if (i == rows - 1 || at % 2 == 1) bits = draw(seed, kOrderStream | epoch, at / 2);
    const std::uint64_t random = (std::uint64_t{bits[at % 2 * 2]} << 32) | bits[at % 2 * 2 + 1];
    // The bias of 2^-64 (i + 1) needs more rows than memory holds to matter.
    const auto j =
        static_cast<std::int64_t>((static_cast<unsigned __int128>(random) * static_cast<std::uint64_t>(i + 1)) >> 64);
    std::swap(order[i], order[j]);
  }
  return out;
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const cpu::Table* t : cpu::available_tables()) {
    if (t) names.emplace_back(t->isa);
  }
  return names;
}

// What each precision runs on: a bfloat16 unit, or float32 where this machine has none for it.
py::dict precisions() {
  py::dict units;
  for (std::size_t i = 0; i < kPrecisionNames.size(); ++i) {
    const cpu::Bf16Kernels* bf16 = cpu::bf16_unit(static_cast<Precision>(i));
    units[py::str(std::string(kPrecisionNames[i]))] = bf16 ? bf16->unit : "float32";
  }
  return units;
}

}  // namespace

void bind_system(py::module_& m) {
  cpu::table();  // a wrong RANVIER_ISA is an error at import
  m.def("random_uniform", random_uniform, py::arg("count"), py::arg("seed"), py::arg("stream"));
  m.def("random_normal", random_normal, py::arg("count"), py::arg("seed"), py::arg("stream"));
  m.def("epoch_order", epoch_order, py::arg("rows"), py::arg("seed"), py::arg("epoch"));
  m.def("num_threads", num_threads);
  m.def(
      "set_num_threads",
      [](py::handle threads) {
        const double number = number_from(threads, "set_num_threads");
        if (number != std::floor(number))
          throw TypeError(concat("set_num_threads: expected a whole number, got ", number));
        set_num_threads(static_cast<int>(std::clamp(number, -1e9, 1e9)));
      },
      py::arg("threads"));
  m.def("threading", [] { return std::string(threading_name()); });
  m.def("isa", [] { return std::string(cpu::table().isa); });
  m.def("precisions", precisions);
  m.def("available_isas", available_isas);
  m.def("set_isa", [](const std::string& name) { cpu::set_isa(name.c_str()); }, py::arg("name"));
}

}  // namespace ranvier::bindings
