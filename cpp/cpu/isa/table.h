// Everything that a file of isa/ fills its table with. The tables are constants: no code of an instruction set runs
// before dispatch has chosen it.
#pragma once

#include "cpu/isa/isa.h"
#include "cpu/kernels/dropout.h"
#include "cpu/kernels/elementwise.h"
#include "cpu/kernels/losses.h"
#include "cpu/kernels/optimizers.h"
#include "cpu/kernels/products.h"
#include "cpu/kernels/reductions.h"
#include "cpu/kernels/softmax.h"

namespace ranvier::cpu::RANVIER_ISA_NAMESPACE {
namespace {

template <class T>
constexpr Kernels<T> kernels_of_isa() {
  return {.product = product<T>,
          .product_scratch = product_scratch<T>,
          .product_path = product_path<T>,
          .pack_b = pack_b<T>,
          .column_sum = column_sum<T>,
          .unary = unary_table<T>(),
          .unary_backward = unary_backward_table<T>(),
          .binary = binary_table<T>(),
          .where = where<T>,
          .dropout = dropout<T>,
          .sum = sum<T>,
          .dot = dot<T>,
          .sum_of_squares = sum_of_squares<T>,
          .softmax = softmax<T>,
          .softmax_backward = softmax_backward<T>,
          .log_softmax = log_softmax<T>,
          .log_softmax_backward = log_softmax_backward<T>,
          .row_loss = row_loss_table<T>(),
          .cross_entropy = cross_entropy<T>,
          .optimizer = optimizer_table<T>()};
}

}  // namespace
}  // namespace ranvier::cpu::RANVIER_ISA_NAMESPACE
