// A network as nodes over values, in the order they were added (which is a topological order).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/op.h"

namespace ranvier {

// Where a value comes from that no node makes.
enum class Leaf : std::uint8_t { none, x, target, weight, doutput, parameter, constant };

struct Value {
  Type type;
  int node = kNone;  // the node that makes it (kNone: a leaf)
  Leaf leaf = Leaf::none;
  int index = 0;  // which x, target, parameter, constant, ...
  std::string name;
};

struct Constant {
  Dims dims;
  std::vector<double> data;
};

class Graph final : public Builder {
 public:
  ValueId leaf(Leaf kind, Type type, std::string name, int index);
  ValueId constant(Constant);
  ValueId scalar(double) override;
  const Type& type(ValueId id) const override { return values.at(static_cast<std::size_t>(id)).type; }
  std::vector<ValueId> add(std::string_view op, std::vector<ValueId> inputs, Attributes attributes,
                           const std::string& scope) override;
  int count(Leaf kind) const;  // how many leaves of the kind
  Call call(const Node&, std::vector<Type>& input_types) const;

  std::vector<Node> nodes;
  std::vector<Value> values;
  std::vector<Constant> constants;
  std::vector<ValueId> outputs;
  ValueId loss = kNone;
};

struct Seed {
  ValueId value, gradient;
};
// Appends the nodes of the gradients that flow from the seeds, and returns the gradient of every value that existed
// (kNone where none arrives). What arrives by several paths is summed in the order of the nodes that use the value.
std::vector<ValueId> differentiate(Graph&, const std::vector<Seed>&);

}  // namespace ranvier
