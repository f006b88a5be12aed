// What an operation IS: its shape rule, its gradient rule, its cost. No arithmetic, no device.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/error.h"

namespace ranvier {

using Dims = std::vector<std::int64_t>;

enum class Kind : std::uint8_t { real, labels };

// The type of a value: dims of one sample where batched (the batch axis comes first and is symbolic), else of all.
struct Type {
  bool batched = false;
  Dims dims;
  Kind kind = Kind::real;

  std::int64_t count() const {  // elements a sample, or in all
    std::int64_t n = 1;
    for (const std::int64_t d : dims) n *= d;
    return n;
  }
  int rank() const { return static_cast<int>(dims.size()) + batched; }
  bool operator==(const Type&) const = default;
};
std::string to_string(const Type&);  // "(batch, 128)"
std::string to_string(const Dims&);  // "(3, 4)"

using Attribute = std::variant<bool, std::int64_t, double, std::string, Dims, std::vector<double>>;

class Attributes {
 public:
  Attributes() = default;
  Attributes(std::initializer_list<std::pair<std::string, Attribute>> items) : items_(items) {}
  void set(std::string name, Attribute value);
  const Attribute* find(std::string_view name) const;
  bool has(std::string_view name) const { return find(name) != nullptr; }
  // The attribute, or the default where it is absent; a number converts between bool, int and double.
  double number(std::string_view name, double otherwise) const;
  std::int64_t integer(std::string_view name, std::int64_t otherwise) const;
  bool flag(std::string_view name) const { return integer(name, 0) != 0; }
  std::string text(std::string_view name, std::string otherwise) const;
  Dims integers(std::string_view name) const;
  std::vector<double> numbers(std::string_view name) const;  // empty where absent
  const std::vector<std::pair<std::string, Attribute>>& items() const { return items_; }
  bool operator==(const Attributes&) const = default;

 private:
  std::vector<std::pair<std::string, Attribute>> items_;
};

using ValueId = int;
inline constexpr ValueId kNone = -1;

struct Op;

struct Node {
  const Op* op = nullptr;
  Attributes attributes;
  std::vector<ValueId> inputs, outputs;
  std::string scope;  // the layer's name, for errors and print-outs
};

// What a gradient rule builds with: the graph, seen from below.
class Builder {
 public:
  virtual ~Builder() = default;
  virtual const Type& type(ValueId) const = 0;
  virtual std::vector<ValueId> add(std::string_view op, std::vector<ValueId> inputs, Attributes attributes,
                                   const std::string& scope) = 0;
  virtual ValueId scalar(double value) = 0;
  // The single output of a node of the same scope.
  ValueId apply(std::string_view op, std::vector<ValueId> inputs, const Node& from, Attributes attributes = {}) {
    return add(op, std::move(inputs), std::move(attributes), from.scope)[0];
  }
};

// One use of an operation, as its rules see it.
struct Call {
  const Op& op;
  const Attributes& attributes;
  std::span<const Type> inputs;
  const std::string& scope;

  const std::string& who() const;  // the layer's name, or the op's
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw ValueError(concat(who(), ": ", parts...));
  }
};

using ShapeRule = std::vector<Type> (*)(const Call&);
// dy: the gradient of each output (kNone: of no influence). Returns the gradient of each input (kNone: none).
using GradientRule = std::vector<ValueId> (*)(Builder&, const Node&, std::span<const ValueId> dy);
// Floating-point operations for one sample where the first output (or input) is batched, else in all.
using CostRule = double (*)(const Call&, std::span<const Type> outputs);

struct Op {
  std::string name;
  int min_inputs, max_inputs;  // max_inputs -1: any number
  ShapeRule shape;
  GradientRule gradient = nullptr;  // null: nothing flows back
  CostRule cost = nullptr;          // null: one operation an output element
  int code = 0;                     // the index in its family's enum (ops/kinds.h)
  bool alias = false;               // the output is the input's memory under another shape
  bool labels = false;              // an input may be class labels, which are integers and no other op reads
};

const Op* find_op(std::string_view name);  // null: no such operation
const Op& get_op(std::string_view name);   // or ValueError
std::vector<std::string> op_names();
std::vector<Type> infer(const Call&);  // checks the number and kind of inputs, then asks the shape rule
double cost_of(const Call&, std::span<const Type> outputs);

// Each family adds its own; called once, by the registry.
using OpList = std::vector<Op>;
void add_elementwise_ops(OpList&);
void add_product_ops(OpList&);
void add_movement_ops(OpList&);
void add_reduction_ops(OpList&);
void add_loss_ops(OpList&);

// --- shared by gradient rules
// NumPy's broadcasting of full shapes; fails with the call's name.
Type broadcast(const Call&, const Type& a, const Type& b);
// Sums d over what broadcasting `to` had repeated, so that the result has type `to`.
ValueId sum_to(Builder&, const Node&, ValueId d, Type to);  // by value: adding nodes moves the builder's types

}  // namespace ranvier
