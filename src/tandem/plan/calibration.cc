#include "tandem/plan/stages.h"

namespace tandem::plan {

const Calibration& ice40_calibration() {
  static const Calibration c{
      "least squares over generated stages, yosys 0.23 synth_ice40",
      {{
          {0, 1, 1, 0, 0, 0},
      }}};
  return c;
}

}  // namespace tandem::plan
