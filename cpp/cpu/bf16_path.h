// The way of a step's float32 product through a bfloat16 unit, in two parts: all workers pack both operands, then all
// multiply.
#pragma once

#include <atomic>
#include <string>

#include "core/team.h"
#include "cpu/kernels.h"

namespace ranvier::cpu {

class Bf16Path {
 public:
  // keeps_b: B is packed ahead, once for many runs.
  Bf16Path(Precision, bool keeps_b);

  bool runs() const { return unit_ != nullptr; }  // this machine has a unit for the precision
  // Whether it is faster than float32.
  bool pays(std::int64_t M, std::int64_t N, std::int64_t K) const;
  std::size_t shared_bytes(std::int64_t M, std::int64_t N, std::int64_t K) const;
  std::size_t packed_bytes(std::int64_t N, std::int64_t K) const;
  // This worker's part of packing B ahead.
  void pack_b(const Product<float>&, const Worker&, std::byte* to) const;
  // This worker's share of packing what is not packed ahead.
  void pack(const Product<float>&, const Worker&, std::byte* shared, const std::byte* packed_b) const;
  // This worker's share of the product. False, for all workers alike, where an operand's values have no bfloat16 parts:
  // then nothing was written to C, and the product is to be computed in float32.
  bool multiply(const Product<float>&, const Worker&, std::byte* shared, const std::byte* packed_b) const;

  std::string name() const;

 private:
  const Bf16Kernels* unit_;  // null: this machine has none for so many parts
  int parts_;
  bool keeps_b_;
  mutable std::atomic<std::int64_t> refused_ = 0;
};

}  // namespace ranvier::cpu
