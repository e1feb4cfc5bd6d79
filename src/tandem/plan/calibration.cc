#include "tandem/plan/stages.h"

namespace tandem::plan {

// One row per stage kind, in the order of StageKind; the meaning of each column stands in the closed form of
// the stage (stages.cc). Fitted with coefficients >= 0 and relative weights to 269 stages of 60 random
// networks (frames up to 12x12x16, vectors up to 128, 1 to 6 bits, PE and SIMD up to 4), each synthesised alone.
// Block RAMs agreed on all but 3 (yosys drops columns of zero weights). Median and largest error of LUT4 by kind:
//   pad 6 % 11 %, window 10 % 26 %, replay 10 % 46 %, mvau 5 % 27 %, depthwise 8 % 38 %, pool 10 % 27 %,
//   threshold 14 % 66 %, affine 42 % 151 %, add 47 % 61 % (constants that fold away decide there), fork 0 %,
//   fifo 0 % 1 %, skid 0 %, convert 6 % 13 %, argmax 2 % 5 %. Rescale: 210 stages of random factors (2 to 16 bits),
// sums of 6 to 24 bits and 3 to 10 bits of code: pipelined 14 % 52 %, with one constant factor 41 % (its ones
// decide), serial 13 % 32 %.
// Forms of the matrix unit: 40 random layers each (up to 24 x 24, 2 to 8 bits, at most 32 products a cycle), median and largest
// error: mvau_logic 20 % 66 %, mvau_packed with DSPs 11 % 120 %, mvau_constant 4 % 26 %; depthwise_logic takes the row of mvau_logic.
const Calibration& ice40_calibration() {
  static const Calibration c{
      Family::ice40, "LUT4", "4 kbit blocks", "SB_MAC16", "closed forms fitted to 479 stages, yosys 0.23 synth_ice40", 11,
      {{
          {3.27, 2.01, 0.596, 0, 0, 0},          // pad
          {0, 3.94, 12.1, 0.731, 0, 0},          // window
          {0, 5.6, 0, 0.999, 0.42, 0},           // replay
          {0, 4.2, 2.45, 1.04, 0.219, 0.0997},   // mvau
          {0, 0.576, 2.83, 0, 0, 0.227},         // depthwise
          {4.21, 2.63, 1.54, 0, 0, 0},           // pool
          {0, 0.0771, 0, 3.84, 0.138, 5.76},     // threshold
          {0, 0, 0, 0, 0, 8.37},                 // affine
          {7.17, 3.69, 0, 0, 0, 3.32},           // add
          {7, 0, 0, 0, 0, 0},                    // fork
          {9.38, 1.05, 6.14, 0, 0, 0},           // fifo
          {7, 1, 0, 0, 0, 0},                    // skid
          {5.43, 0.916, 0, 0, 0, 0},             // convert
          {2.65, 1.72, 2.51, 0, 0, 0},           // argmax
          {1.92, 0.724, 1.43, 0, 0.14, 7.6},     // rescale
          {7.2, 2.5, 1, 0.5, 0.42, 0},           // reorder: rough, as replay
          {2, 1.8, 0.3, 0, 0, 0},                // select
          {2, 1.8, 0.8, 0, 0, 0},                // insert
          {4, 1.8, 0.8, 0, 0, 0},                // concat
          {7, 1.2, 1, 0, 0, 0},                  // product
          {4, 2.5, 0.5, 1.5, 0.42, 0},           // total
          {0.639, 1.8, 0, 2.84, 1.18, 2.13},     // mvau_logic
          {0.639, 1.8, 0, 2.84, 0, 2.13},        // depthwise_logic
          {2.73, 0.937, 2.45, 2.13, 1.04, 1.37}, // mvau_packed
          {0, 0, 0.636, 1, 0.809, 0},            // mvau_constant
      }}};
  return c;
}

// Fitted by `tandem calibrate --target xcup --networks 60 --seed 0` to 588 stages without DSPs; affine did not occur and
// keeps the row of iCE40. Block RAMs agreed on all 588. Median and largest error of LUT6 by kind: pad 6 % 56 %, window
// 12 % 46 %, replay 10 % 45 %, mvau 43 % 207 %, depthwise 37 % 94 %, pool 11 % 53 %, threshold 45 % 102 %, add 8 % 20 %, fork 0 %,
// fifo 13 % 40 %, skid 0 % 8 %, convert 28 % 125 %, argmax 9 % 18 %, rescale 21 % 115 % (116 stages). So LUTs of multipliers
// and thresholds are orders of magnitude, not figures.
// Forms of the matrix unit as for iCE40: mvau_logic 14 % 48 %, mvau_packed with DSPs 15 % 100 %, mvau_constant 3 % 13 %.
const Calibration& xcup_calibration() {
  static const Calibration c{
      Family::xcup, "LUT6", "18 kbit blocks", "DSP48E2", "closed forms fitted to 588 stages, yosys 0.23 synth_xilinx; affine not fitted", 9,
      {{
          {2.73, 1.54, 1.08, 0, 0, 0},           // pad
          {0, 2.01, 8.45, 0, 0.0383, 0},         // window
          {20.3, 2.1, 0, 0.162, 0.0231, 0},      // replay
          {0, 7.81, 0.0105, 0, 1.48, 0.0383},    // mvau
          {0, 6.8, 0, 0, 0, 0.0182},             // depthwise
          {6.42, 0, 0.87, 0, 0, 0},              // pool
          {0, 0.619, 0, 1.15, 0.017, 1.39},      // threshold
          {0, 0, 0, 0, 0, 8.37},                 // affine
          {2.64, 0, 0.288, 0, 0.375, 0},         // add
          {5, 0, 0, 0, 0, 0},                    // fork
          {17.6, 0, 0.0542, 0, 0.0368, 0},       // fifo
          {5, 0.996, 0, 0, 0, 0},                // skid
          {3.21, 0.54, 0, 0, 0, 0},              // convert
          {1.49, 0.584, 2.02, 0, 0, 0},          // argmax
          {0.374, 0.265, 1.95, 0, 0, 4.63},      // rescale
          {7.2, 2.5, 1, 0.5, 0.42, 0},           // reorder: rough, as replay
          {2, 1.8, 0.3, 0, 0, 0},                // select
          {2, 1.8, 0.8, 0, 0, 0},                // insert
          {4, 1.8, 0.8, 0, 0, 0},                // concat
          {7, 1.2, 1, 0, 0, 0},                  // product
          {4, 2.5, 0.5, 1.5, 0.42, 0},           // total
          {0.268, 0, 0.341, 2.16, 0.336, 4.5},   // mvau_logic
          {0.268, 0, 0.341, 2.16, 0, 4.5},       // depthwise_logic
          {0, 0, 1.48, 1.31, 1.2, 2.58},         // mvau_packed
          {0.644, 0, 0.0175, 1.41, 0.942, 0},    // mvau_constant
      }}};
  return c;
}

}  // namespace tandem::plan
