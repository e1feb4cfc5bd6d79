#include "tandem/plan/stages.h"

namespace tandem::plan {

// One row per stage kind, in the order of StageKind; what each column multiplies stands in the closed form of the stage (stages.cc).
// Fitted as `tandem calibrate` does, to stages of random networks (flow/calibrate.cc, seed 0), each synthesised alone; coefficients >= 0 of
// least relative errors. Affine stages do not occur in these networks and have the row of add. Then, synthesised divided by closed form, the
// 5, 50 and 95 % quantiles: of a stage, by kind; of LUTs and flip-flops of whole networks that the fit had not seen (the figures and what a
// test holds them to: flow/estimates.test.cc).
//
// iCE40 and xcup: depthwise, rescale, threshold (xcup only) and the kinds from reorder to mvau_constant come from 64 networks with every form of
// the matrix unit and moves, single layers (28, 16) and layers of many channels (xcup: 12); top-k, softmax and normalisation from 36 single
// layers (in others, ten stages each: softmax within 5 %, normalisation within 16 %); the rest from chains of layers. depthwise_logic has too few stages of
// its own and takes the row of mvau_logic. Units that share multipliers are counted with DSPs in most samples. Standard cells: depthwise and the
// kinds from reorder on come from 20 networks with forms and moves, 38 single layers and 6 of many channels; total and mvau_packed are not fitted
// (of iCE40: gates 4.6 a LUT4 and 6 a flip-flop), what has fewer than 8 stages is rough, and so are the flip-flops of rescale, which are iCE40's.
const Calibration& ice40_calibration() {
  static const Calibration c{
      Family::ice40, "LUT4", "4 kbit blocks", "SB_MAC16", "closed forms fitted to 1,382 stages, yosys 0.23 synth_ice40", 11,
      {{
          {0.901, 2.26, 0.85},  // pad: 18 stages, median error 3 %, largest 7 %
          {0, 1.55, 5.64, 0.811, 0, 5, 2.92, 5.84},  // window: 51 stages, median error 8 %, largest 45 %
          {16.8, 1.39, 0, 1.05, 0.434, 5.17, 1.01},  // replay: 57 stages, median error 2 %, largest 43 %
          {0, 2.07, 0.214, 1.03, 1.06, 1.95, 0.948, 1.33, 0.435, 0.197, 0.551},  // mvau: 102 stages, median error 3 %, largest 43 %
          {2.8, 2.04, 0.00375, 1.11, 0, 1.68, 0, 0.676, 0.837, 0, 0, 0.15},  // depthwise: 22 stages, median error 1 %, largest 3 %
          {6.55, 0, 1.87, 2},  // pool: 12 stages, median error 5 %, largest 35 %
          {1.96, 0.874, 0, 0, 2.05, 1.13, 0.534, 0.0955, 0.429, 0, 0, 0.673},  // threshold: 39 stages, median error 11 %, largest 58 %
          {3.7, 0, 0.521, 0, 0, 0, 0, 0.0248, 0, 0, 0, 0.371},  // affine: 12 stages, median error 2 %, largest 10 %
          {3.7, 0, 0.521, 0, 0, 0, 0, 0.0248, 0, 0, 0, 0.371},  // add: 12 stages, median error 2 %, largest 10 %
          {7},  // fork: 12 stages, median error 0 %, largest 0 %
          {5.45, 1.05, 7, 0, 0.56},  // fifo: 28 stages, median error 1 %, largest 3 %
          {7, 0.997},  // skid: 85 stages, median error 0 %, largest 7 %
          {5.71, 0.815, 0, 1.15},  // convert: 47 stages, median error 2 %, largest 41 %
          {4.54, 1.25, 1.8, 0.131},  // argmax: 14 stages, median error 3 %, largest 6 %
          {0, 0.107, 1.12, 0.784, 4.57, 0.381, 0.857, 0.448, 0, 0.713, 3.32},  // rescale: 149 stages, median error 8 %, largest 164 %
          {21, 1.28, 0, 1.68, 0.739, 0, 0, 0.988},  // reorder: 20 stages, median error 2 %, largest 7 %
          {1.33, 1.89, 0.12, 0, 0.00422},  // select: 16 stages, median error 8 %, largest 16 %
          {0.0136, 2.47, 0.877, 0.0347},  // insert: 8 stages, median error 2 %, largest 11 %
          {3.49, 3.03, 0.994},  // concat: 17 stages, median error 4 %, largest 31 %
          {1.16, 0.615, 1.17},  // product: 9 stages, median error 7 %, largest 20 %
          {0, 2.85, 0, 1.97, 0.808},  // total: 9 stages, median error 2 %, largest 10 %
          {0, 1.5, 2.05, 0.873, 0.674, 1.79, 0.583, 1.34, 0.654},  // mvau_logic: 29 stages, median error 3 %, largest 26 %
          {0, 1.5, 2.05, 0.873, 0.674, 1.79, 0.583, 1.34, 0.654},  // depthwise_logic: 6 stages: as mvau_logic
          {0, 0, 0.0943, 0.96, 0, 0.7, 1.91, 2.5, 0, 0, 2.18},  // mvau_packed: 13 stages, median error 5 %, largest 13 %
          {22.1, 0, 0.816, 1.88, 0.548, 0.627},  // mvau_constant: 14 stages, median error 3 %, largest 6 %
          {0, 2.89, 1.82, 0, 4.48, 0.718},  // topk: 18 stages, median error 2 %, largest 24 %
          {529, 0, 1.65, 10.4, 0.0356, 0.706, 0.996},  // softmax: 10 stages, median error 0 %, largest 3 %
          {0, 19.2, 37.1, 0.578, 1.08, 0.371, 0.85},  // normalize: 12 stages, median error 3 %, largest 20 %
      }},
      {{
          {0, 0.932},  // pad
          {0, 1.66, 2.91, 1.97, 0.638, 1.54, 0.735, 1.21},  // window
          {7.05, 1, 0, 2.03, 0.76, 4.42, 2.81, 0.977},  // replay
          {0, 1.22, 1.5, 0.0143, 0, 0.949, 0.973, 0.181, 0, 0, 0, 0.486},  // mvau
          {8.61, 0.97, 1.01, 0, 0, 0.267, 0, 0.0329, 0, 0, 0, 0.885},  // depthwise
          {3.46, 0, 0.972, 1},  // pool
          {4.02, 1.92, 0, 0, 0.762, 0.539, 0.0134, 0, 0.0248, 0.416, 0, 0.858},  // threshold
          {0, 0, 3.92, 0, 0, 0, 0, 1.36, 0, 0, 5.7, 0.109},  // affine
          {0, 0, 3.92, 0, 0, 0, 0, 1.36, 0, 0, 5.7, 0.109},  // add
          {2},  // fork
          {1.66, 2.03, 4.16, 0, 0.633},  // fifo
          {4.01, 1.99},  // skid
          {1.33, 1.01, 0.997, 0.929},  // convert
          {1.9, 1, 2, 0.0995, 0, 4.75e-05},  // argmax
          {0.579, 0, 0, 0, 1.41, 0, 0, 0, 0, 0.223, 0.273, 0.923},  // rescale
          {5.39, 0.87, 0.886, 0.785, 0, 0, 0, 2.01, 1.03},  // reorder
          {0, 1},  // select
          {1, 1},  // insert
          {0.0763, 1},  // concat
          {3.16, 0, 3.03},  // product
          {2.65, 0.795, 0, 1.64, 0.878, 0, 0, 2.04, 0.079},  // total
          {11.5, 0.995, 0.717, 1.34, 1.36, 0.768, 0.33, 0, 0, 1.55, 0.276, 0.664},  // mvau_logic
          {11.5, 0.995, 0.717, 1.34, 1.36, 0.768, 0.33, 0, 0, 1.55, 0.276, 0.664},  // depthwise_logic
          {55.3, 0, 0, 0.222, 0.391, 1.26, 2.21, 0.108, 0.497, 1.62, 0.193, 0.332},  // mvau_packed
          {15, 3.41, 1.24, 12.1},  // mvau_constant
          {2, 1, 1, 1},  // topk
          {263, 0.526, 2.51, 2.14, 0.831, 0.129, 0.00283},  // softmax
          {0, 4.82, 9.31, 3.06, 1.1, 0.0314, 0.000823, 5.31},  // normalize
      }},
      {{
          {0.95, 1.01, 1.05}, {0.84, 1.02, 1.14}, {0.97, 1.00, 1.13}, {0.95, 1.00, 1.15}, {0.98, 1.00, 1.03},
          {0.85, 1.01, 1.23}, {0.80, 1.02, 1.38}, {0.96, 1.00, 1.07}, {0.96, 1.00, 1.07}, {1.00, 1.00, 1.00},
          {0.98, 1.00, 1.02}, {1.00, 1.00, 1.00}, {0.82, 1.00, 1.09}, {0.96, 1.00, 1.05}, {0.70, 1.01, 1.39},
          {0.95, 1.01, 1.04}, {0.88, 1.01, 1.17}, {0.93, 1.00, 1.03}, {0.78, 0.99, 1.18}, {0.91, 0.99, 1.20},
          {0.91, 1.00, 1.10}, {0.92, 1.00, 1.08}, {0.92, 1.00, 1.08}, {0.89, 1.00, 1.07}, {0.94, 1.01, 1.05},
          {0.87, 1.00, 1.10}, {0.95, 1.00, 1.05}, {0.88, 1.00, 1.10}}},
      {0.93, 1.02, 1.10}, {0.91, 1.00, 1.07}};
  return c;
}

const Calibration& xcup_calibration() {
  static const Calibration c{
      Family::xcup, "LUT6", "18 kbit blocks", "DSP48E2", "closed forms fitted to 1,331 stages, yosys 0.23 synth_xilinx", 9,
      {{
          {0, 1.83, 0.97},  // pad: 18 stages, median error 5 %, largest 58 %
          {0, 1.39, 6.07, 0, 0.798, 2.68, 1.5},  // window: 51 stages, median error 6 %, largest 37 %
          {17.5, 0.698, 0, 0, 0.873, 3.55, 0.367, 5.14},  // replay: 57 stages, median error 3 %, largest 31 %
          {0, 1.39, 0.147, 1.03, 0.985, 1.97, 0.767, 1.31, 0, 0.145, 0.204},  // mvau: 102 stages, median error 3 %, largest 84 %
          {2.71, 0.944, 0, 1.04, 0, 2.73, 0, 0.544, 0, 0, 0, 0.00257},  // depthwise: 18 stages, median error 1 %, largest 8 %
          {7.28, 0, 0.767, 0.985},  // pool: 12 stages, median error 10 %, largest 47 %
          {2.78, 0.209, 0, 0, 0.8, 0, 0.594, 0.0833, 0.254, 0, 0, 0.594},  // threshold: 42 stages, median error 17 %, largest 49 %
          {0.963, 0, 0, 0, 0, 0, 0, 0.284, 0, 0, 3.59, 0.338},  // affine: 12 stages, median error 5 %, largest 29 %
          {0.963, 0, 0, 0, 0, 0, 0, 0.284, 0, 0, 3.59, 0.338},  // add: 12 stages, median error 5 %, largest 29 %
          {5},  // fork: 12 stages, median error 0 %, largest 0 %
          {0, 0.253, 7.67, 0, 0.542},  // fifo: 28 stages, median error 11 %, largest 29 %
          {5, 0.997},  // skid: 85 stages, median error 0 %, largest 8 %
          {2.88, 0.973, 8.78e-05, 1.04, 0, 0.00276},  // convert: 47 stages, median error 1 %, largest 44 %
          {2.28, 0.626, 1.6, 0.185, 0, 0.000242},  // argmax: 14 stages, median error 7 %, largest 22 %
          {0, 0.187, 0.508, 0, 2.09, 0.339, 0.799, 0, 0, 1.53, 2.96, 0.24},  // rescale: 145 stages, median error 10 %, largest 100 %
          {17.5, 0.182, 0.585, 1.17, 1.34, 0, 0.787, 0, 2.32},  // reorder: 20 stages, median error 4 %, largest 20 %
          {0.12, 1.58, 0.071, 0, 0.00723},  // select: 16 stages, median error 3 %, largest 11 %
          {0, 1.95, 0.948, 0.0127},  // insert: 8 stages, median error 3 %, largest 12 %
          {2.14, 1.52, 0.999},  // concat: 17 stages, median error 3 %, largest 40 %
          {2.13, 0.487, 0.775},  // product: 9 stages, median error 5 %, largest 34 %
          {0, 1.61, 0, 1.05, 0.861, 0, 0, 0, 1.02},  // total: 9 stages, median error 2 %, largest 5 %
          {0, 0.146, 1.28, 0.647, 0.364, 1.64, 0.511, 0.645, 0.0894, 1.68},  // mvau_logic: 29 stages, median error 5 %, largest 26 %
          {0, 0.146, 1.28, 0.647, 0.364, 1.64, 0.511, 0.645, 0.0894, 1.68},  // depthwise_logic: 4 stages: as mvau_logic
          {0, 2.47, 0.255, 0, 0, 1.02, 0, 0.754, 0.107, 0, 2.04},  // mvau_packed: 18 stages, median error 3 %, largest 39 %
          {0, 0, 0.434, 5.78, 0.468},  // mvau_constant: 13 stages, median error 2 %, largest 7 %
          {3.09, 0.151, 0.772, 0.628, 4.9, 2.09},  // topk: 18 stages, median error 8 %, largest 65 %
          {333, 4.74, 4.97, 3.74, 0, 0.151, 1.34},  // softmax: 10 stages, median error 0 %, largest 0 %
          {113, 6.69, 0, 0.823, 3.44, 0.283, 0.852},  // normalize: 12 stages, median error 3 %, largest 27 %
      }},
      {{
          {0, 0.932},  // pad
          {9.88, 2.02, 0.00149, 0.0498, 0.107, 1.52, 1.02, 0.99},  // window
          {7.09, 0.914, 0, 0.961, 0.0557, 2.83, 0.973},  // replay
          {0.496, 1.37, 0.93, 0.02, 0, 0.824, 0.854, 0.0597, 0, 0, 0, 0.578},  // mvau
          {1.72, 1.52, 0.98, 0, 0, 0.0808, 0, 0, 0, 0, 0, 0.985},  // depthwise
          {3.46, 0, 0.972, 1},  // pool
          {1.53, 0.326, 0, 0, 2.05, 0, 0.0936, 0.549, 0.0668, 0.624, 0, 0.876},  // threshold
          {1.63, 0, 3.95, 0, 0, 0, 0, 0.0149, 0, 0, 0, 0.575},  // affine
          {1.63, 0, 3.95, 0, 0, 0, 0, 0.0149, 0, 0, 0, 0.575},  // add
          {2},  // fork
          {1, 1, 3},  // fifo
          {4.01, 1.99},  // skid
          {1.33, 1.01, 0.997, 0.929},  // convert
          {1.9, 1, 2, 0.0995, 0, 4.75e-05},  // argmax
          {2.86, 0, 0, 0, 1.75, 0, 0, 0, 0, 0.483, 0.956, 0.739},  // rescale
          {11.6, 1.01, 0, 0.102, 0, 0, 0.0946},  // reorder
          {0, 1},  // select
          {1, 1},  // insert
          {0.0763, 1},  // concat
          {3, 0, 3},  // product
          {0, 1.43, 0.293, 0.951, 0.716, 1.06, 0.334, 0.64},  // total
          {3.15, 0.0611, 1.14, 1.41, 0.503, 0.0336, 0.264, 0.166, 0.00518, 1.35, 0.974, 0.343},  // mvau_logic
          {3.15, 0.0611, 1.14, 1.41, 0.503, 0.0336, 0.264, 0.166, 0.00518, 1.35, 0.974, 0.343},  // depthwise_logic
          {38.3, 0.841, 0.0472, 1.93, 0.0087, 1.62, 0, 0, 0.185, 0.255, 0.496, 0.867},  // mvau_packed
          {0, 5.2, 1.03, 0.778, 0.158, 0.343},  // mvau_constant
          {2, 1, 1, 1},  // topk
          {259, 1.11, 3.64, 1.72, 0, 0.262},  // softmax
          {47.9, 3.51, 12.4, 1.71, 1.15, 0.967, 0.00829, 2.2},  // normalize
      }},
      {{
          {0.93, 1.01, 2.33}, {0.86, 1.01, 1.39}, {0.93, 1.00, 1.32}, {0.85, 1.00, 1.13}, {0.96, 1.00, 1.06},
          {0.75, 1.02, 1.66}, {0.74, 1.02, 1.75}, {0.71, 1.00, 1.20}, {0.71, 1.00, 1.20}, {1.00, 1.00, 1.00},
          {0.85, 1.01, 1.38}, {1.00, 1.00, 1.00}, {0.95, 1.01, 1.75}, {0.85, 1.02, 1.15}, {0.78, 1.02, 1.45},
          {0.91, 1.00, 1.23}, {0.92, 1.00, 1.12}, {0.92, 1.00, 1.07}, {0.94, 1.01, 1.45}, {0.92, 1.02, 1.48},
          {0.95, 0.99, 1.05}, {0.91, 1.00, 1.15}, {0.91, 1.00, 1.15}, {0.85, 1.01, 1.09}, {0.95, 1.01, 1.05},
          {0.67, 1.03, 1.22}, {0.95, 1.00, 1.05}, {0.89, 0.99, 1.20}}},
      {0.92, 1.02, 1.20}, {0.93, 1.00, 1.13}};
  return c;
}

const Calibration& cells_calibration() {
  static const Calibration c{
      Family::cells, "gates", "SRAM macros", "no multipliers", "closed forms fitted to 351 stages, yosys 0.23 and abc with tandem45", 1000,
      {{
          {0, 12.4, 0.864},  // pad: 8 stages, median error 4 %, largest 5 %
          {14.7, 5.29, 3.57, 0, 11.4, 0, 7.23, 104},  // window: 23 stages, median error 1 %, largest 3 %
          {114, 0, 0, 4.72, 11, 63.4, 27.7},  // replay: 22 stages, median error 1 %, largest 4 %
          {92.4, 9.24, 8.92, 1.06, 8.52, 8.94, 7.19, 1.7, 0, 0, 0, 5.01},  // mvau: 40 stages, median error 2 %, largest 12 %
          {90.2, 8.59, 3.59, 1.22, 0, 13.8, 0, 1.55, 0, 0, 0, 2.83},  // depthwise: 14 stages, median error 1 %, largest 4 %
          {40.2, 0, 7.37, 14.3, 5.04},  // pool: 5 stages, median error 2 %, largest 6 %
          {8.09, 18.2, 0, 0, 33.4, 0.313, 0, 0, 2.99, 4.24, 0, 7.83},  // threshold: 20 stages, median error 3 %, largest 19 %
          {21.8, 0, 35.6, 0, 0, 0, 0, 11.2, 0, 0, 41.4},  // affine: 8 stages, median error 4 %, largest 12 %
          {21.8, 0, 35.6, 0, 0, 0, 0, 11.2, 0, 0, 41.4},  // add: 8 stages, median error 4 %, largest 12 %
          {22.3},  // fork: 8 stages, median error 0 %, largest 0 %
          {0, 3.47, 39.7, 0, 11.1},  // fifo: 18 stages, median error 1 %, largest 3 %
          {32.6, 16.6},  // skid: 30 stages, median error 1 %, largest 5 %
          {13, 10.1, 8.17, 11.8},  // convert: 16 stages, median error 1 %, largest 7 %
          {38.8, 10.7, 15.4, 1.12},  // argmax: 3 stages: as iCE40, scaled
          {0, 0.104, 0, 3.12, 24.5, 2.16, 0, 4.21, 3.35, 7.37, 19, 4.21},  // rescale: 51 stages, median error 5 %, largest 25 %
          {115, 14.4, 0, 0, 5.44, 0, 11},  // reorder: 11 stages, median error 1 %, largest 2 %
          {0, 11.5, 0.302, 0, 1.4},  // select: 7 stages, median error 4 %, largest 7 %
          {3.7, 10.6, 2.5, 0.1},  // insert: one stage: as iCE40, scaled
          {9.13, 12, 2.01},  // concat: 10 stages, median error 6 %, largest 41 %
          {4.22, 0.651, 25.2},  // product: 7 stages, median error 3 %, largest 7 %
          {15.9, 17.9, 0, 18.9, 11, 0, 0, 12.2, 0.474},  // total: not fitted
          {0, 7.71, 9.5, 17.7, 18.8, 16.6, 1.49, 1.93, 0, 14.6, 0.793, 4.12},  // mvau_logic: 18 stages, median error 2 %, largest 13 %
          {0, 7.71, 9.5, 17.7, 18.8, 16.6, 1.49, 1.93, 0, 14.6, 0.793, 4.12},  // depthwise_logic: 4 stages: as mvau_logic
          {27.3, 9.37, 24.5, 21.3, 10.4, 13.7},  // mvau_packed: not fitted
          {100, 0, 16.5, 98.5},  // mvau_constant: 8 stages, median error 2 %, largest 8 %
          {65.5, 0, 14.3, 9.1, 0.829},  // topk: 6 stages, median error 0 %, largest 0 %
          {2600, 30, 0, 0, 11, 0.25, 1},  // softmax: 4 stages, within 2 %
          {260, 53, 59, 9.4, 11, 0.16, 0.48, 54, 48},  // normalize: 7 stages, within 5 %
      }},
      {{
          {0, 0.906},  // pad
          {0, 1.51, 1.5, 0.567, 1, 0.627, 0.873, 2.99},  // window
          {11.2, 0, 0, 0.974, 1, 3.87, 2.98},  // replay
          {8.45, 1.05, 1.11, 0.00514, 0, 0, 0.142, 0, 0, 0, 0, 0.928},  // mvau
          {12.1, 0.586, 0.746, 0.00201, 0, 0.817, 0, 0.0136, 0, 0, 0, 0.679},  // depthwise
          {4.01, 0, 0.681, 0.877, 0.386},  // pool
          {2.82, 2, 0, 0, 1.89, 0, 0, 0, 0.229, 0.419, 0, 0.871},  // threshold
          {1.79, 0, 3.99, 0, 0, 0, 0, 1.41, 0, 0, 4.27},  // affine
          {1.79, 0, 3.99, 0, 0, 0, 0, 1.41, 0, 0, 4.27},  // add
          {2},  // fork
          {1, 1, 3, 0, 1},  // fifo
          {4.02, 1.99},  // skid
          {1.42, 0.986, 0.986, 0.968, 0, 0.0253},  // convert
          {1.9, 1, 2, 0.0995, 0, 4.75e-05},  // argmax
          {0.579, 0, 0, 0, 1.41, 0, 0, 0, 0, 0.223, 0.273, 0.923},  // rescale
          {10.2, 1.1, 0, 0.0533, 0.0148, 0, 1.01},  // reorder
          {0, 1},  // select
          {1, 1},  // insert
          {0.0763, 1},  // concat
          {2.28, 0, 3.12},  // product
          {2.65, 0.795, 0, 1.64, 1, 0, 0, 2.04, 0.079},  // total
          {0, 1.08, 0.636, 1.57, 1.27, 0.729, 0.56, 0.00769, 0, 1.89, 0.394, 0.22},  // mvau_logic
          {0, 1.08, 0.636, 1.57, 1.27, 0.729, 0.56, 0.00769, 0, 1.89, 0.394, 0.22},  // depthwise_logic
          {1, 1, 0.1, 1, 1},  // mvau_packed
          {61.3, 0, 1.21, 12.4},  // mvau_constant
          {2, 1, 1, 1},  // topk
          {263, 2, 3, 2, 1, 0.01},  // softmax
          {21, 2, 4.3, 1.7, 1, 0.001, 0, 4.5, 4},  // normalize
      }},
      {{
          {0.96, 1.00, 1.05}, {0.98, 1.00, 1.03}, {0.98, 1.00, 1.04}, {0.93, 1.00, 1.05}, {0.98, 1.00, 1.03},
          {0.96, 1.00, 1.04}, {0.88, 1.00, 1.12}, {0.91, 1.00, 1.12}, {0.91, 1.00, 1.12}, {1.00, 1.00, 1.00},
          {0.98, 1.00, 1.02}, {0.98, 1.00, 1.03}, {0.97, 1.00, 1.06}, {0.80, 1.00, 1.25}, {0.86, 1.01, 1.21},
          {0.98, 0.99, 1.02}, {0.94, 0.99, 1.05}, {0.60, 1.00, 1.60}, {0.93, 1.02, 1.54}, {0.96, 0.99, 1.07},
          {0.60, 1.00, 1.60}, {0.97, 1.00, 1.06}, {0.97, 1.00, 1.06}, {0.60, 1.00, 1.60}, {0.94, 1.01, 1.07},
          {0.90, 1.00, 1.10}, {0.90, 1.00, 1.10}, {0.90, 1.00, 1.10}}},
      {0.76, 0.99, 1.05}, {0.84, 1.00, 1.03}};
  return c;
}

}  // namespace tandem::plan
