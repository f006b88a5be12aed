// The specification in C++: naive loops for every kernel.
#include "cpu/kernels.h"
#include "cpu/reference/dropout.h"
#include "cpu/reference/elementwise.h"
#include "cpu/reference/losses.h"
#include "cpu/reference/optimizers.h"
#include "cpu/reference/products.h"
#include "cpu/reference/reductions.h"
#include "cpu/reference/softmax.h"

namespace ranvier::cpu {
namespace {

template <class T>
constexpr Kernels<T> reference_kernels() {
  using namespace reference;
  return {
      .product = product<T>,
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
      .optimizer = optimizer_table<T>(),
  };
}

constexpr Table kReference{"reference", reference_kernels<float>(), reference_kernels<double>()};

}  // namespace

const Table& reference_table() { return kReference; }

}  // namespace ranvier::cpu
