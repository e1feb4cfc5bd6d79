// Where the integers of a network lie within their formats, over data.
#pragma once
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/ir/exact.h"
#include "tandem/report/chart.h"
#include "tandem/tensor/tensor.h"

namespace tandem::flow {

// One distribution per quantiser in the order of the program, over the first frames of `frames` [n, ...]; at most
// `most_frames`. clipped: share of inputs that lie beyond the format by more than its rounding; flushed: share of inputs that
// are not 0 and became 0. Both are absent where the input of the quantiser is a float of the host.
std::vector<report::Distribution> precision_profile(const ir::ExactProgram& program, const Tensor& frames, std::int64_t most_frames = 32,
                                                    const Cancel& cancel = Cancel::never());

}  // namespace tandem::flow
