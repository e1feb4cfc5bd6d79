// The hardware stages: each one is one literal with its ports, its cycles, its latency and what it
// costs. `rtl` emits stages and `map` adds them up; both read the same numbers from here.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "tandem/numerics/shift_add.h"
#include "tandem/plan/stage_graph.h"

namespace tandem::plan {

enum class StageKind : std::uint8_t {
  pad, window, replay, mvau, depthwise, pool, threshold, affine, add, fork, fifo, skid, convert, argmax, rescale,
  reorder, select, insert, concat, product, total,
  mvau_logic, depthwise_logic, mvau_packed, mvau_constant,
  topk, softmax, normalize
};
inline constexpr int kStageKinds = 28;
bool two_inputs(StageKind k);

// What a table of constants in logic comes to: its different functions of the lowest 4 and 6 address bits, the nodes of its decision
// diagram above them and altogether, and the different columns that are not constant.
struct TableLogic {
  double leaves4 = 0, muxes4 = 0, leaves6 = 0, muxes6 = 0, nodes = 0, columns = 0;
};
// Of a stage's constants, see constants.h.
struct StageConstants {
  bool measured = false;   // else typical ones are assumed
  TableLogic logic;        // of the tables, whether or not they become block RAM
  double live = 0;         // multipliers with a weight that is not 0; comparisons with a table; bits of factors in use, lanes that only shift
  double ones = 0;         // additions of constant factors; bits of constant comparisons
  double negative = 0, powers = 0;  // constant factors below 0; those that are powers of two (offsets that are not 0)
};

// Every number that a stage's closed forms and its generator need. Widths are bits of one element.
struct StageShape {
  StageKind kind = StageKind::skid;
  bool signed_in = false, signed_out = false;
  bool last_in = false, last_out = false;   // whether TLAST travels on the input and output stream
  bool serial = false;                      // threshold, rescale: one step or bit per cycle, else pipelined; softmax, normalize: products bit by bit
  bool logic = false;                       // mvau, depthwise: weights in LUTs whatever their size
  bool bipolar = false;                     // mvau, depthwise: weights are -1 and +1, one bit each
  bool writable = false;                    // mvau, depthwise and their kin, threshold: memories that can be written
  std::uint8_t ports_out = 1;               // fork
  int layer = -1;                           // of the stage graph; -1: the design's own plumbing
  std::array<int, 2> in{-1, -1};            // producing stages; -1: the design's input (in[1]: absent)
  std::array<std::uint8_t, 2> in_port{0, 0};
  std::int64_t lanes_in = 1, lanes_out = 1, beats_in = 1, beats_out = 1;
  int bits_in = 1, bits_out = 1;
  // window, pad: c is channels, h and w the frame that enters
  std::int64_t c = 1, h = 1, w = 1, kh = 1, kw = 1, sh = 1, sw = 1, dh = 1, dw = 1;
  std::int64_t oh = 1, ow = 1, reps = 1, rows = 1;  // reps: each vector is sent so many times; rows held
  bool channel_outer = false;
  std::int64_t groups = 1;                  // window: groups of channels, each a vector of its own
  // mvau, replay
  std::int64_t mw = 1, mh = 1, vectors = 1, pe = 1, simd = 1;
  int weight_bits = 1;
  // threshold: entries of the table per lane, steps of the search, bits of an entry
  std::int64_t channels = 1, tables = 1, levels = 2;
  int level_bits = 1, entry_bits = 1;
  // rescale: bits of the signed factor, of the signed offset, and of their sum with the product; normalize: of the multiplier and of V
  int factor_bits = 1, offset_bits = 1, sum_bits = 1;
  std::int64_t depth = 2;                   // fifo
  bool table = false;                       // reorder: addresses from a table, else from counters
  bool places = false;                      // topk: which they are, not what they are
  std::shared_ptr<const std::vector<bool>> keep;  // select, insert: the layer's, by element
  int table_bits = 1;                        // softmax, normalize: address bits of the table
  int per_dsp = 1;                          // mvau_packed: rows that share a multiplier
  // mvau_constant: register levels of its sums; full adders in them, those with two operands, bits of shift registers
  int sum_depth = 1;
  std::int64_t adder_bits = 0, double_bits = 0, held_bits = 0;
  StageConstants constants;
};

// What a stage uses, estimated, in the units of the family: LUTs (LUT4 of iCE40, LUT6 of xcup) and block RAMs
// (4 kbit, 18 kbit).
struct Cost {
  double lut4 = 0, bram = 0;
  double dsp = 0, dsp_lut4 = 0;  // multipliers that synthesis maps to DSPs, and the LUTs this saves
  double ff = 0, dsp_ff = 0;     // and the flip-flops, which DSPs have inside
};
// Families of parts: what their memories and multipliers are.
// cells: standard cells, LUTs are then gate equivalents (a NAND of two inputs) and block RAMs SRAM macros.
enum class Family : std::uint8_t { ice40, xcup, cells };
// Standard cells: writable memories of so many bits become macros, smaller ones flip-flops.
inline constexpr std::int64_t kMacroBits = 4096;
// As targets name them. Error(no) where there are no closed forms.
Family family_of(std::string_view name);

// Coefficients of the closed forms for LUTs, which are linear in them: fitted to yosys runs of generated
// stages, see calibration.cc and flow/calibrate.h.
struct Calibration {
  Family family = Family::ice40;
  std::string_view lut, bram, dsp;                      // the units, in words
  std::string_view source;
  int dsp_bits = 11;                                    // products of so many bits become DSPs
  using Row = std::array<double, 12>;
  std::array<Row, kStageKinds> lut4;                    // per kind; meaning beside each closed form
  std::array<Row, kStageKinds> ff{};
  // What was measured, divided by the estimate: its 5 %, 50 % and 95 % quantiles. Of a stage by kind, of whole designs that no fit had seen.
  struct Spread {
    double low = 1, middle = 1, high = 1;
  };
  std::array<Spread, kStageKinds> stage{};
  Spread design, design_ff;
};
// LUTs (LUT4, LUT6, gates) of a signed or unsigned number of `bits` times a signed weight, both varying, with a register behind it.
double multiplier_luts(Family f, bool is_signed, int bits, int weight_bits);
const Calibration& ice40_calibration();
const Calibration& xcup_calibration();
const Calibration& cells_calibration();
const Calibration& calibration(Family f);

struct StageDef {
  StageKind kind;
  std::string_view name;
  std::string_view summary;
  std::string_view ports;    // stream in -> stream out, in words
  std::string_view folding;  // which folds are legal
  std::int64_t (*cycles)(const StageShape&);   // per frame, when neither side stalls
  std::int64_t (*needs)(const StageShape&);     // input beats before the first output beat can leave
  std::int64_t (*pipeline)(const StageShape&);  // cycles from the last of these to the first output beat
  Cost (*cost)(const StageShape&, const Calibration&);
};
std::span<const StageDef> all_stages();
const StageDef& stage_def(StageKind k);

// The stages of a folded design, converters, padding, buffers and forks included; `out` is reused.
// Stage i only reads stages < i; the last one drives the output.
void expand(const StageGraph& g, const Folding& f, std::vector<StageShape>& out);

// The stages of one layer, its plumbing included, when its operands come with these lanes. With Folding::interval set, the
// stages of a design are those of its layers, one after the other, each depending on its own fold and these lanes only
// (but for TLAST in a queue, which dense layers behind it let through when their PE is all outputs). Places of stages outside
// the layer are void.
// Returns the lanes of its result.
std::int64_t expand_layer(const StageGraph& g, const Folding& f, int layer, std::span<const std::int64_t> lanes, std::vector<StageShape>& out);
// Lanes of the design's input.
std::int64_t input_lanes(const StageGraph& g, const Folding& f);

// Block RAMs of 4 kbit (256x16, 512x8, 1024x4, 2048x2) for a memory; 0 where it becomes logic: constants
// that would leave a block less than a quarter full, and memories of a few words. rtl marks the others.
enum class Memory { constants, writable };
std::int64_t ice40_brams(std::int64_t depth, std::int64_t width, Memory kind);
// The same by family. xcup: blocks of 18 kbit (512x36, 1024x18, 2048x9, 4096x4, 8192x2, 16384x1); memories of at most
// 64 words or 2 kbit become LUT RAM, constants below a quarter of a block become logic. Constants in both families: the banks of a deep memory
// share blocks, on xcup also of 36 kbit, counted as two.
std::int64_t brams(Family f, std::int64_t depth, std::int64_t width, Memory kind);
// Words that a deep memory of constants in block RAM reads at once, to select one of them; 1: none. As yosys chooses.
std::int64_t rom_banks(Family f, std::int64_t depth, std::int64_t width);
// Rows of weights that share one multiplier of the family (16 x 16 bits on iCE40, 27 x 18 on xcup, signed): their weights, one
// field apart, make one operand, the input they share the other. 1: no two fit.
int products_per_dsp(Family f, int bits_in, bool signed_in, int weight_bits);
// Bits from one product to the next when n share a multiplier: weight_bits + bits_in hold a product, what is left over holds
// sums of 2, 4, ... of them.
int packed_field(Family f, int per_dsp, int bits_in, int weight_bits);
// Whether Multipliers::logic means something for a layer whose inputs have so many bits: pairs of weight bits that select.
bool selects_multiples(const Layer& l, int bits_in);
// Register levels from a product's selected multiples to the product, mvau_logic and depthwise_logic.
int logic_levels(int weight_bits);
// The sums of a dense layer whose inputs have so many bits, as mvau_constant computes them (a copy of the last few is kept).
const ShiftAdd& constant_sums(const Layer& l, int bits_in, bool signed_in);
// softmax, normalize: cycles of a product; from a vector's last element to its first result; of one result.
std::int64_t vector_product(const StageShape& s);
std::int64_t vector_thinks(const StageShape& s);
std::int64_t vector_each(const StageShape& s);
int bits_for(std::int64_t n);  // of a counter that holds 0..n-1; at least 1

}  // namespace tandem::plan
