// The form of every matrix unit's multipliers, by estimated cost.
#pragma once
#include "tandem/map/folding.h"

namespace tandem::map {

struct MultiplierChoice {
  plan::Folding folding;
  bool uses_dsp = false;  // synthesis may map products to DSPs
};
// Layers of `f` whose multipliers are automatic get the form that takes the fewest LUTs, with block RAMs and DSPs at prices
// that rise from almost nothing until what the device has of them is enough (Lagrange multipliers). Forms by hand are kept.
// A constant form keeps the layer's cycles: PE becomes MH, SIMD the smallest that is as fast.
MultiplierChoice choose_multipliers(const plan::StageGraph& g, const plan::Folding& f, const Budget& b);

}  // namespace tandem::map
