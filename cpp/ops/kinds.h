// The families of operations that share one kernel shape, as closed lists: the ops, the kernels' tables and the
// bindings index by them.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace ranvier {

// y = f(x), element by element. alpha is the slope of leaky_relu and the scale of elu, else unused.
enum class Unary : std::uint8_t {
  identity,
  negative,
  sqrt,
  exp,
  log,
  abs,
  cosh,
  relu,
  leaky_relu,
  elu,
  sigmoid,
  tanh,
  gelu,
  gelu_tanh,
  silu,
  softplus,
};
inline constexpr std::array<std::string_view, 16> kUnaryNames{
    "identity",   "negative", "sqrt",    "exp",  "log",  "abs",       "cosh", "relu",
    "leaky_relu", "elu",      "sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "softplus"};

// What the derivative is told from. y where y tells it: then a product can apply f to its block and forget z.
enum class Saved : std::uint8_t { nothing, input, output };
constexpr Saved saved_by(Unary f) {
  switch (f) {
    case Unary::identity:
    case Unary::negative:
      return Saved::nothing;
    case Unary::log:
    case Unary::abs:
    case Unary::cosh:
    case Unary::gelu:
    case Unary::gelu_tanh:
    case Unary::silu:
    case Unary::softplus:
      return Saved::input;
    default:
      return Saved::output;
  }
}

// out = f(a, b), element by element; greater and greater_equal give 1 or 0 and have no gradient.
enum class Binary : std::uint8_t { add, subtract, multiply, divide, power, maximum, greater, greater_equal };
inline constexpr std::array<std::string_view, 8> kBinaryNames{"add",   "subtract", "multiply", "divide",
                                                              "power", "maximum",  "greater",  "greater_equal"};

// One value a row: the mean over the row's elements. param is Huber's delta, else unused.
enum class RowLoss : std::uint8_t { mse, mae, huber, binary_cross_entropy, binary_cross_entropy_probabilities };
inline constexpr std::array<std::string_view, 5> kRowLossNames{"mse", "mae", "huber", "binary_cross_entropy",
                                                               "binary_cross_entropy_probabilities"};

enum class Optimizer : std::uint8_t { sgd, adam, adamw, rmsprop, adagrad };
inline constexpr std::array<std::string_view, 5> kOptimizerNames{"sgd", "adam", "adamw", "rmsprop", "adagrad"};

// What float32 products are made of: float32 itself, or a sum of bfloat16 parts (2, 1, 3 of them).
enum class Precision : std::uint8_t { highest, high, medium, bf16x6 };
inline constexpr std::array<std::string_view, 4> kPrecisionNames{"highest", "high", "medium", "bf16x6"};
constexpr int bf16_parts(Precision p) {
  return p == Precision::medium ? 1 : p == Precision::high ? 2 : p == Precision::bf16x6 ? 3 : 0;
}

}  // namespace ranvier
