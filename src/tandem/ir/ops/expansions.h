// What composite operators are in terms of older, simpler ones: DecomposeFn of their literals (OpDef::expansion).
// Extents must be known; an expansion returns nothing where a form has none (its doc says which).
#pragma once
#include "tandem/ir/op.h"

namespace tandem::ir {

#define TANDEM_EXPANSION(name) std::vector<ValueId> name(Graph& g, const Node& n)
TANDEM_EXPANSION(expand_affine_grid);   // the size must be a constant
TANDEM_EXPANSION(expand_crop_pad);      // the shape must be a constant
TANDEM_EXPANSION(expand_col2im);        // the shapes must be constants
TANDEM_EXPANSION(expand_dft);           // a product with a constant matrix
TANDEM_EXPANSION(expand_stft);
TANDEM_EXPANSION(expand_grid_sample);   // places, weights, and the elements gathered with them
TANDEM_EXPANSION(expand_deform_conv);
TANDEM_EXPANSION(expand_roi_align);     // sampling_ratio 0: the regions must be constants
TANDEM_EXPANSION(expand_recurrent);     // RNN, GRU, LSTM: step by step, at most 1,024 of them
TANDEM_EXPANSION(expand_attention);
TANDEM_EXPANSION(expand_rotary);        // both domains
TANDEM_EXPANSION(expand_cache);         // TensorScatter
TANDEM_EXPANSION(expand_lrn);
TANDEM_EXPANSION(expand_lp_pool);
TANDEM_EXPANSION(expand_det);           // at most 16 rows: the characteristic polynomial, by Faddeev and LeVerrier
TANDEM_EXPANSION(expand_simplified_layer);
#undef TANDEM_EXPANSION

}  // namespace tandem::ir
