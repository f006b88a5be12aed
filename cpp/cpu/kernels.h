// The arithmetic's table of function pointers: reference/ fills one with naive loops, each file of isa/ one of its own.
//
// Kernels are single-threaded and know nothing of plans: a step hands each worker's share to one. All arrays are dense
// unless a stride is given; n may be 0; pointers need no alignment beyond their element's; outputs overlap no input
// except where in-place use is said to be allowed. No kernel reads or writes a byte outside its arrays.
// The order of every sum is the contract of the design's section 4, so that a result never depends on the split, the
// batch or the vector width.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "ops/kinds.h"

namespace ranvier::cpu {

// Products add k in chunks of this many, each a chain of fused multiply-adds from zero, folded left to right.
// (512: 1.0 to 2.2 times MKL's error; 256: 0.7 to 1.0, at -3 to +2 % of speed.)
inline constexpr std::int64_t kChunk = 256;
// Sums along a contiguous axis: lane i mod 16, chunks of this many, lanes folded by 8, 4, 2, 1, chunks left to right.
inline constexpr std::int64_t kSumLanes = 16;
inline constexpr std::int64_t kSumChunk = 4096;

// What happens to a finished block of a product while it is still in L1: an activation or its derivative, in place.
// run is called for n elements of C from (row, col) on, which c points at: a part of a row, or whole rows where they
// lie one after the other, those of saved too.
template <class T>
struct Finish {
  void (*run)(const Finish&, T* c, std::int64_t row, std::int64_t col, std::int64_t n);
  void (*unary)(std::int64_t n, const T* x, T* y, T alpha);                             // forward: c = f(c)
  void (*unary_backward)(std::int64_t n, const T* dy, const T* saved, T* dx, T alpha);  // or c = c * f'(saved)
  T* saved;  // forward: z, or y, is stored here (null: not wanted); backward: read from here
  std::int64_t ld_saved;
  T alpha;

  // Of the block of C that begins there.
  Finish from(std::int64_t row, std::int64_t col) const {
    Finish block = *this;
    if (saved) block.saved += row * ld_saved + col;
    return block;
  }
};

// A B (K, N) packed once for many products, the same on every instruction set: panels of kPanel columns one after
// another, each with its K rows contiguous; the last is as wide as what is left of N, rounded up with zeros.
inline constexpr std::int64_t kPanel = 64, kPanelGranule = 16;
// Of the panel that begins with n columns left.
inline std::int64_t panel_width(std::int64_t n) {
  return n < kPanel ? (n + kPanelGranule - 1) / kPanelGranule * kPanelGranule : kPanel;
}
inline std::int64_t packed_size(std::int64_t K, std::int64_t N) {
  return K * ((N + kPanelGranule - 1) / kPanelGranule * kPanelGranule);
}

// C (M, N) = A (M, K) B (K, N), + bias (N), max(0, .) if relu, then finish.
// Element strides: A(i, k) = a[i * a_row + k * a_col], B(k, j) = b[k * b_row + j * b_col], C(i, j) = c[i * ldc + j].
// In practice one of a's strides is 1 and one of b's is 1: Y = X W (a_col, b_col = 1), dX = dY W^T (a_col, b_row = 1),
// dW = X^T dY (a_row, b_col = 1). K = 0 gives zeros (before bias). A chunk of k alone gives the sum that it has in
// the whole: chunks may be computed apart and added left to right, with the same bits.
template <class T>
struct Product {
  std::int64_t M, N, K;
  const T* a;
  std::int64_t a_row, a_col;
  const T* b;
  std::int64_t b_row, b_col;
  T* c;
  std::int64_t ldc;
  const T* bias = nullptr;
  bool relu = false;
  const Finish<T>* finish = nullptr;
  // b is where pack_b put the panel of column 0; the strides of B are not read. Columns [j, j + N) of a larger B are
  // its panels from j / kPanel on: j is a multiple of kPanel, and so is j + N unless it is the larger B's end.
  bool packed = false;
};

// l (rows) for classes (n): labels (rows) in [0, n), or target (rows, n) of probabilities; exactly one is not null.
// With q = (1 - label_smoothing) * target + label_smoothing / n and w = class_weight (n, null: ones):
// l = -sum_c w_c q_c log softmax(logits)_c.
template <class T>
struct CrossEntropy {
  std::int64_t n;
  const std::int32_t* labels;
  const T* target;
  const T* class_weight;
  T label_smoothing;
};

// The scalars of one optimiser step, set_step the last; kernels round what they need to T once. Updates are PyTorch's,
// formula by formula.
struct Update {
  double lr = 0;
  double grad_scale = 1;  // 1 / accumulated batches, times the clipping by global norm
  double clip_value = std::numeric_limits<double>::infinity();  // after grad_scale
  double weight_decay = 0;
  std::int64_t step = 1;                                    // counts from 1
  double momentum = 0, dampening = 0;                       // sgd, rmsprop
  bool nesterov = false;                                    // sgd
  double beta1 = 0.9, beta2 = 0.999;                        // adam, adamw
  double eps = 1e-8;                                        // adam, adamw, rmsprop, adagrad
  double alpha = 0.99;                                      // rmsprop
  double lr_decay = 0;                                      // adagrad
  double correction1 = 1 - beta1, correction2 = 1 - beta2;  // adam, adamw: 1 - beta^step

  void set_step(Optimizer rule, std::int64_t s) {
    step = s;
    if (rule != Optimizer::adam && rule != Optimizer::adamw) return;
    correction1 = 1 - std::pow(beta1, static_cast<double>(s));
    correction2 = 1 - std::pow(beta2, static_cast<double>(s));
  }
};

// Of `rows` rows of n elements, in each array ld apart. slots, null where unused: sgd {momentum}; adam, adamw {m, v};
// rmsprop {square average, momentum, gradient average (given: centered)}; adagrad {sum}.
template <class T>
using OptimizerKernel = void (*)(std::int64_t rows, std::int64_t n, std::int64_t ld, const Update&, const T* grad,
                                 T* param, T* const slots[3]);

// The mask of element i of a layer: word i % 4 of philox(seed, {i / 4 low, i / 4 high, layer, step}) >= rate * 2^32
// keeps.
struct DropoutKey {
  std::uint64_t seed;
  std::uint32_t layer, step;
};

template <class T>
struct Kernels {
  // --- products.h
  void (*product)(const Product<T>&, T* scratch);
  // Elements of scratch that product wants for any M, N, K up to these (0: none).
  std::int64_t (*product_scratch)(std::int64_t M, std::int64_t N, std::int64_t K);
  // Which way product goes for these sizes and strides, for the printed plan.
  const char* (*product_path)(const Product<T>&);
  // Panels [first, last) of B (K, N), which has these strides, to their places in out (packed_size(K, N) elements).
  void (*pack_b)(std::int64_t K, std::int64_t N, const T* b, std::int64_t b_row, std::int64_t b_col, std::int64_t first,
                 std::int64_t last, T* out);
  // out (N) = sum over i of x (M, N): the product with a row of ones.
  void (*column_sum)(std::int64_t M, std::int64_t N, const T* x, std::int64_t ldx, T* out);

  // --- elementwise.h; in place (y == x, dx == dy, out == a or b) is allowed.
  using UnaryKernel = void (*)(std::int64_t n, const T* x, T* y, T alpha);
  using UnaryBackwardKernel = void (*)(std::int64_t n, const T* dy, const T* saved, T* dx, T alpha);
  // Strides are 1, or 0 for a broadcast scalar.
  using BinaryKernel = void (*)(std::int64_t n, const T* a, std::int64_t a_stride, const T* b, std::int64_t b_stride,
                                T* out);
  std::array<UnaryKernel, kUnaryNames.size()> unary;
  std::array<UnaryBackwardKernel, kUnaryNames.size()> unary_backward;  // dx = dy * f'(saved), saved_by(f) says which
  std::array<BinaryKernel, kBinaryNames.size()> binary;
  void (*where)(std::int64_t n, const T* condition, std::int64_t condition_stride, const T* a, std::int64_t a_stride,
                const T* b, std::int64_t b_stride, T* out);  // condition != 0 ? a : b
  void (*dropout)(std::int64_t n, std::int64_t first, const T* x, T* y, double rate,
                  DropoutKey);  // first: index of x[0]

  // --- reductions.h
  T (*sum)(std::int64_t n, const T* x);
  T (*dot)(std::int64_t n, const T* x, const T* y);      // lanes as sum, each a chain of fma
  double (*sum_of_squares)(std::int64_t n, const T* x);  // lanes as sum, in double

  // --- softmax.h; rows of n; in place is allowed.
  void (*softmax)(std::int64_t rows, std::int64_t n, const T* x, T* y);
  void (*softmax_backward)(std::int64_t rows, std::int64_t n, const T* dy, const T* y, T* dx);
  void (*log_softmax)(std::int64_t rows, std::int64_t n, const T* x, T* y);
  void (*log_softmax_backward)(std::int64_t rows, std::int64_t n, const T* dy, const T* y, T* dx);

  // --- losses.h; either output may be null. drow (rows) is the gradient of each row's loss, read where dpred is
  // wanted.
  using RowLossKernel = void (*)(std::int64_t rows, std::int64_t n, const T* pred, const T* target, const T* drow,
                                 T param, T* loss, T* dpred);
  std::array<RowLossKernel, kRowLossNames.size()> row_loss;
  void (*cross_entropy)(std::int64_t rows, const CrossEntropy<T>&, const T* logits, const T* drow, T* loss, T* dlogits);

  // --- optimizers.h
  std::array<OptimizerKernel<T>, kOptimizerNames.size()> optimizer;
};

// --- bf16.h: float32 products on units that multiply bfloat16 and add in float32.
//
// An operand is kept as the sum of 1, 2 or 3 bfloat16 parts (precision medium, high, bf16x6), rounded to nearest, so
// its first 8, 16 or 24 bits. It is cut into tiles of 16 rows of A (columns of B) by 32 k, where k is innermost in
// pairs: a tile of A is 16 rows of 16 pairs, one of B 16 pairs of rows by 16 columns. The parts of a tile follow each
// other, the tiles of 16 rows (columns) go on along k, zeros fill the last ones.
inline constexpr std::int64_t kTileRows = 16, kTileK = 32, kTileElements = kTileRows * kTileK;
inline std::int64_t bf16_elements(std::int64_t n, std::int64_t K, int parts) {
  return (n + kTileRows - 1) / kTileRows * ((K + kTileK - 1) / kTileK) * parts * kTileElements;
}

// C (M, N) = A (M, K) B (K, N), + bias (N), max(0, .) if relu, then finish; a and b are packed, K > 0.
// The order of the sum is the unit's own; it depends on no split, batch or thread.
struct Bf16Product {
  std::int64_t M, N, K;
  const std::uint16_t *a, *b;
  float* c;
  std::int64_t ldc;
  const float* bias = nullptr;
  bool relu = false;
  const Finish<float>* finish = nullptr;
};

struct Bf16Kernels {
  const char* unit;  // for the printed plan
  int most_parts;    // with more, float32 is faster
  // By the number of parts, M N / (M + N) from which packing both operands pays: the products that one packed element
  // serves, on average.
  std::array<std::int64_t, 3> least_products;
  // Of x (n rows of A or columns of B, K) with these strides, one of which is 1: the tiles of rows [first, last) * 16,
  // written to their places in out. False where bfloat16 parts cannot stand for it: the largest magnitude of 16 rows
  // (columns) is 2^127 or more, infinite or NaN, or is below 2^-90 and not 0. (Rounding would overflow; the smaller
  // parts and their products would be flushed to zero.)
  bool (*pack_a)(int parts, std::int64_t n, std::int64_t K, const float* x, std::int64_t stride_n,
                 std::int64_t stride_k, std::int64_t first, std::int64_t last, std::uint16_t* out);
  bool (*pack_b)(int parts, std::int64_t n, std::int64_t K, const float* x, std::int64_t stride_n,
                 std::int64_t stride_k, std::int64_t first, std::int64_t last, std::uint16_t* out);
  void (*product)(int parts, const Bf16Product&);
};

struct Table {
  const char* isa;
  Kernels<float> f32;
  Kernels<double> f64;
  const Bf16Kernels* bf16 = nullptr;  // null: the machine has no such unit
};

// reference/
const Table& reference_table();

// dispatch.cpp: the table in use. The best that the processor has, unless RANVIER_ISA (read at the first call) names
// one; ValueError for a name unknown or a set that this machine lacks.
const Table& table();
void set_isa(const char* name);  // for tests: plans made from now on use it
// Of the table in use, for a precision; null where there is none, and float32 is used.
inline const Bf16Kernels* bf16_unit(Precision precision) {
  const Bf16Kernels* unit = table().bf16;
  const int parts = bf16_parts(precision);
  return unit && parts > 0 && parts <= unit->most_parts ? unit : nullptr;
}
using Tables = std::array<const Table*, 6>;
Tables available_tables();  // best last, null-padded

template <class T>
const Kernels<T>& kernels();
template <>
inline const Kernels<float>& kernels<float>() {
  return table().f32;
}
template <>
inline const Kernels<double>& kernels<double>() {
  return table().f64;
}

}  // namespace ranvier::cpu
