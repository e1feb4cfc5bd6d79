// Adjoints (vector-Jacobian products) of the operators: what `ir::differentiate` calls.
//
// Each function has the type AdjointFn: it appends nodes to `g` that compute the gradients of the
// inputs of `n` from the gradients of its outputs, and returns one value per input (kNone: no
// gradient). Extents of the forward values must be known (bind and infer_shapes first). Contractions
// leave the named products `<node>/dX` and `<node>/dW` (docs/semantics.md 7).
#pragma once
#include <span>
#include <vector>

#include "tandem/ir/op.h"

namespace tandem::ir {

#define TANDEM_ADJOINT(name) std::vector<ValueId> name(Graph& g, const Node& n, std::span<const ValueId> grad_out)
TANDEM_ADJOINT(adjoint_conv);
TANDEM_ADJOINT(adjoint_matmul);
TANDEM_ADJOINT(adjoint_gemm);
TANDEM_ADJOINT(adjoint_add);
TANDEM_ADJOINT(adjoint_sub);
TANDEM_ADJOINT(adjoint_mul);
TANDEM_ADJOINT(adjoint_div);
TANDEM_ADJOINT(adjoint_pow);                // of the base; the exponent is a constant
TANDEM_ADJOINT(adjoint_batchnorm);          // both modes (attribute training_mode)
TANDEM_ADJOINT(adjoint_relu);               // 0 at 0
TANDEM_ADJOINT(adjoint_clip);               // 1 at both bounds
TANDEM_ADJOINT(adjoint_maxpool);            // to the first maximum of a window
TANDEM_ADJOINT(adjoint_averagepool);
TANDEM_ADJOINT(adjoint_globalaveragepool);
TANDEM_ADJOINT(adjoint_reshape_like);       // Flatten, Reshape, Squeeze, Unsqueeze
TANDEM_ADJOINT(adjoint_transpose);
TANDEM_ADJOINT(adjoint_concat);
TANDEM_ADJOINT(adjoint_gather);
TANDEM_ADJOINT(adjoint_softmax);
TANDEM_ADJOINT(adjoint_identity);           // Identity, Dropout in evaluation mode
TANDEM_ADJOINT(adjoint_quant);              // Quant, BipolarQuant: straight-through; scales by LSQ
TANDEM_ADJOINT(adjoint_unary);              // has_slope; one-sided at kinks
TANDEM_ADJOINT(adjoint_cast);               // between floats
TANDEM_ADJOINT(adjoint_extreme);            // Max, Min: to the first that attains it
TANDEM_ADJOINT(adjoint_sum);                // Sum, Mean
TANDEM_ADJOINT(adjoint_prelu);
TANDEM_ADJOINT(adjoint_where);
TANDEM_ADJOINT(adjoint_reduce);             // Max, Min: to the first that attains it; Prod: where nothing is 0
TANDEM_ADJOINT(adjoint_cumsum);
TANDEM_ADJOINT(adjoint_move);               // whatever copies elements of its first input: Slice, Pad, Tile, Expand, ...
TANDEM_ADJOINT(adjoint_split);
TANDEM_ADJOINT(adjoint_scatter);            // reduction none and add
TANDEM_ADJOINT(adjoint_topk);
TANDEM_ADJOINT(adjoint_maxunpool);
TANDEM_ADJOINT(adjoint_globalmaxpool);
TANDEM_ADJOINT(adjoint_globallppool);
TANDEM_ADJOINT(adjoint_logsoftmax);
TANDEM_ADJOINT(adjoint_expanded);           // of the operator's expansion
#undef TANDEM_ADJOINT

// Whether a function of one number has a derivative almost everywhere that is not 0 almost everywhere.
bool has_slope(std::string_view op);

// The operators that adjoints use and forward graphs do not need (domain "tandem"): ops/grad.cc.
std::span<const OpDef* const> grad_ops();

}  // namespace tandem::ir
