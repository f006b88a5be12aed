#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cpu/host_array.h"
#include "graph/graph.h"

namespace ranvier::cpu {

struct Interface;

// A batch or a whole set: arrays of equal rows, kept by the caller, and what they are checked by. weight.data null: all
// ones.
struct Feed {
  std::shared_ptr<const Interface> interface;
  std::span<const HostArray> x, y;
  HostArray weight;
};

// Whether rows of this shape are of the type. For a target, (N,) and (N, 1) are one shape.
bool fits(const Type&, std::span<const std::int64_t> shape, bool target = false);
std::string text_of(std::span<const std::int64_t> shape);

// A purpose's graph, and what it asks of a feed, looked up once.
struct Interface {
  struct Input {
    Type type;
    std::string name;
    std::int64_t classes = 0;  // of labels
    bool probability = false;  // of a target: in [0, 1]
  };
  Graph graph;
  DType dtype;
  std::vector<Input> x, targets;
  std::vector<Type> outputs;
  double flops_per_row = 0;        // an estimate of the forward work
  std::int64_t default_block = 1;  // rows a block where the caller names none

  Interface(Graph, DType);
  // Checks a feed: shapes, equal rows; with targets also that they are finite, labels in range, weights good. Returns
  // the rows.
  std::int64_t check(const Feed&, bool targets) const;
};

}  // namespace ranvier::cpu
