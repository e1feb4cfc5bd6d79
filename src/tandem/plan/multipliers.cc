#include <algorithm>

#include "tandem/plan/stages.h"

namespace tandem::plan {
namespace {

// yosys 0.23 alone with `p <= a * b` for every pair of widths: synth_ice40, synth_xilinx -nodsp, abc with tandem45.lib (there in
// gates and with the register). By family, unsigned or signed, bits of a (1 to 8), bits of the signed b (2 to 8). A formula would not do:
// from 6 inputs on LUT6 structures come and go.
constexpr double kLuts[3][2][8][7] = {
    // ice40
    {{{5, 3, 4, 5, 6, 7, 8}, {7, 10, 14, 17, 20, 23, 26}, {10, 17, 25, 32, 39, 44, 51}, {13, 22, 33, 43, 59, 67, 76}, {16, 28, 41, 52, 72, 85, 96}, {19, 34, 50, 63, 86, 106, 133}, {22, 40, 59, 74, 101, 123, 138}, {25, 46, 68, 85, 116, 140, 158}},
     {{0}, {6, 9, 12, 15, 18, 21, 24}, {9, 17, 23, 29, 35, 41, 47}, {12, 23, 36, 45, 54, 63, 72}, {15, 29, 45, 64, 74, 85, 96}, {18, 35, 54, 74, 102, 114, 129}, {21, 41, 63, 85, 114, 139, 155}, {24, 47, 72, 96, 129, 155, 175}}},
    // xcup
    {{{3, 3, 4, 5, 6, 7, 8}, {4, 5, 9, 11, 13, 15, 17}, {6, 7, 12, 21, 27, 33, 39}, {8, 10, 24, 51, 56, 72, 88}, {10, 15, 43, 45, 91, 65, 74}, {12, 21, 47, 68, 100, 74, 124}, {14, 27, 64, 59, 110, 105, 106}, {16, 33, 80, 63, 120, 118, 146}},
     {{0}, {5, 7, 9, 11, 13, 15, 17}, {7, 9, 12, 17, 23, 29, 35}, {9, 12, 26, 46, 48, 65, 81}, {11, 17, 46, 53, 76, 62, 71}, {13, 23, 48, 76, 105, 115, 125}, {15, 29, 65, 62, 115, 123, 134}, {17, 35, 81, 71, 125, 134, 157}}},
    // cells
    {{{18, 27, 36, 44, 53, 62, 70}, {48, 67, 84, 110, 120, 140, 161}, {71, 96, 125, 157, 186, 216, 239}, {95, 128, 161, 205, 250, 283, 320}, {115, 152, 204, 249, 292, 375, 411}, {135, 186, 240, 292, 339, 410, 496}, {156, 214, 279, 335, 393, 450, 531}, {176, 242, 308, 379, 437, 520, 593}},
     {{0}, {45, 61, 84, 109, 125, 149, 167}, {61, 91, 122, 151, 185, 211, 233}, {84, 122, 161, 198, 241, 276, 314}, {109, 151, 198, 268, 306, 349, 394}, {125, 185, 241, 309, 376, 419, 472}, {149, 211, 276, 349, 419, 512, 577}, {167, 234, 314, 385, 475, 574, 671}}},
};

}  // namespace

double multiplier_luts(Family f, bool is_signed, int bits, int weight_bits) {
  const int first = is_signed ? 2 : 1, x = std::clamp(bits, first, 8), w = std::clamp(weight_bits, 2, 8);
  // Beyond the table as the bits of the product's parts.
  const double more = static_cast<double>(std::max(x, bits) * std::max(w, weight_bits)) / (x * w);
  return kLuts[static_cast<std::size_t>(f)][is_signed][x - 1][w - 2] * more;
}

}  // namespace tandem::plan
