// Rewrites of a graph before it becomes a plan. Each keeps the values' ids; nodes come and go.
#pragma once

#include "graph/graph.h"

namespace ranvier {

// Drops nodes that none of `wanted` depends on (the first layer's dX in fit, the gradients of targets).
void drop_unread(Graph&, const std::vector<ValueId>& wanted);

// y = f(dense(x)) becomes one dense with the activation in its epilogue (which also keeps z where f' asks for it), and
// f'(saved) * dense_dx(dz, w) one dense_dx. `kept` values stay as they are: somebody reads them from outside.
void fuse_activations(Graph&, const std::vector<ValueId>& kept);

// dense_db(dz) joins dense_dw(x, dz): one pass over dz.
void fuse_bias_gradients(Graph&);

// A loss and its gradient over the same predictions become one pass.
void fuse_losses(Graph&);

}  // namespace ranvier
