// The carrier: how engines compute an exact graph (docs/semantics.md 1 and 2).
//
// An exact value is held as integers N with
//     x = clamp(s * N + b, lo, hi)            s, b, lo, hi rational per group
// so that BatchNorm, Mul/Add by constants, ReLU and Clip cost nothing: they only change s, b, lo, hi.
// The integers are materialised where something needs them (a contraction, a join), and a chain with
// one varying operand up to its quantiser never widens: the quantiser's steps are pulled back to N.
//
// `lower_exact` turns a bound graph (all extents known) into a list of integer steps. Read by the slow
// carrier evaluator (ir), the fast kernels (exec), evaluation mode (train), and the hardware stages
// (plan). The literal evaluator (one rational per element) knows nothing of it and judges it.
#pragma once
#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "tandem/ir/graph.h"
#include "tandem/numerics/cast.h"

namespace tandem::ir {

// One rational (or integer) per group. `shape` has the value's rank with each extent either 1 or full,
// or is empty for a single group. Row-major.
template <class T>
struct Grouped {
  Shape shape;
  std::vector<T> v{T(0)};
  Grouped() = default;
  explicit Grouped(T x) : v{std::move(x)} {}
  bool scalar() const { return v.size() == 1; }
};
// index[i] = group of element i (flat) of a value of shape `full`.
std::vector<std::int32_t> group_index(const Shape& group, const Shape& full);
// The axis along which groups vary; -1 when scalar; -2 when along several.
int group_axis(const Shape& group);

struct Carrier {
  Grouped<Rational> s{Rational(1)}, b{Rational(0)};
  std::optional<Grouped<Rational>> lo, hi;
};

struct WeightType {                    // -1 and 1 only, or signed integers
  int bits = 1;
  bool bipolar = false;
  std::int64_t lo = -1, hi = 1;
};
struct IntConv {                       // NCHW, OIHW; padding is N = 0
  std::vector<std::int64_t> weights;   // [out, in/group, kh, kw]
  std::int64_t out_channels, in_channels, kh, kw;
  std::int64_t stride_h, stride_w, pad_top, pad_left, pad_bottom, pad_right, dilation_h, dilation_w, group;
  std::optional<WeightType> writable = {};  // weights may become others of this type
};
struct IntMatMul {                     // [..., K] x [K, M]; weights constant when non-empty, else the second input
  std::vector<std::int64_t> weights;   // [K, M] row-major
  std::int64_t k, m;
  std::optional<WeightType> writable = {};  // as of IntConv
};
struct IntLinear {                     // out = sum_j k_j[g] * in_j + c[g], broadcasting, groups over the output; then clamp where set
  std::vector<Grouped<Int128>> k;
  Grouped<Int128> c;
  std::optional<Grouped<Int128>> lo, hi;
};
struct IntMul {};                      // in_0 * in_1, broadcasting
struct IntPool {
  enum Kind { max, min, sum } kind;
  std::vector<bool> min_channel;       // max pooling where s < 0 in that channel takes the minimum
  std::int64_t kh, kw, stride_h, stride_w, pad_top, pad_left, pad_bottom, pad_right;  // ceil_mode resolved into pads
  std::vector<std::int64_t> position_factor;  // sum: [out_h*out_w] multipliers (excluded padding), else empty
};
struct IntMove {                       // out[i] = in[source[i]][index[i]], see places_of()
  enum Kind { reshape, transpose, concat, gather } kind;  // reshape: same order
  std::vector<std::int64_t> perm;      // transpose
  std::int64_t axis = 0;               // concat, gather
  std::vector<std::int64_t> index;     // gather: the place of each element, -1 for `fill`
  std::int64_t fill = 0;
};
struct Places {
  std::vector<std::int32_t> source;    // concat, else the only input
  std::vector<std::int64_t> index;     // empty: in order
};
// Of each element of `out`; those of a gather are its index.
Places places_of(const IntMove& m, std::span<const Shape> in, const Shape& out);
// The pulled-back steps of one group: out level index = number of T <= N (flip: T <= -N).
struct Thresholds {
  std::vector<Int128> t;               // ascending, levels-1 of them, clipped to [Nmin, Nmax + 1]
  bool flip = false;
};
// Above this many levels a requantiser has no tables; it is evaluated by its casts.
inline constexpr std::int64_t kMaxTableLevels = 4096;
struct IntRequant {
  std::vector<Cast> casts;             // one per group of `cast_group`
  Shape cast_group;
  std::vector<std::vector<Rational>> custom_steps;  // Threshold: the steps themselves, per group of `custom_group`
  Shape custom_group;
  Shape group;                         // groups of `tables` (as Grouped::shape)
  std::vector<Thresholds> tables;      // one per group; empty when there are more than kMaxTableLevels levels
  std::vector<std::int64_t> levels;    // N of the output for level index 0..: ascending; empty without tables
  Carrier in;                          // of the input, for the slow evaluator
  std::string format;                  // "uint4", "int8", "bipolar"
  int bits = 0;
  bool is_signed = false;
  bool writable = false;               // its steps may become others
  bool plain_codes = false;            // N of the output is the code itself (zero points differ per group)
};
struct QuantizeFloat {                 // f32 -> code: the cast of the float's exact value
  IntRequant cast;                     // tables unused; thresholds[group][k]: the smallest float in code k + 1 or above
  std::vector<std::vector<float>> thresholds;  // one per group of cast.group; empty when there are too many levels
};
struct ToFloat { Carrier in; bool whole = false; };  // exact -> f32, one rounding; whole: of an integer type, as it is
struct IntArgMax { std::int64_t axis; bool keepdims; bool last; };
struct IntTopK {                       // the k largest (smallest) along an axis, sorted, or where they are; of equal ones the lower place first
  std::int64_t axis, k;
  bool largest, places;
};
struct IntSoftmax {                    // ops/by_table.h: out in [0, 2^bits)
  std::int64_t axis;
  std::vector<std::int32_t> exps;      // by largest - N, as far as N reaches
  int bits;
};
struct IntNormalize {                  // ops/by_table.h
  std::int64_t axis;
  std::vector<std::int32_t> roots;
  int root_bits, bits;
  std::int64_t epsilon;
};
struct FloatOp { int node; int output = 0; };  // on the host, by the float evaluator
struct DelayRead { int state; };
struct DelayWrite { int state; };

using StepParams = std::variant<IntConv, IntMatMul, IntLinear, IntMul, IntPool, IntMove, IntRequant, QuantizeFloat,
                                ToFloat, IntArgMax, FloatOp, DelayRead, DelayWrite, IntTopK, IntSoftmax, IntNormalize>;

struct Buffer {
  std::string name;        // of the graph value it belongs to
  Shape shape;
  bool integer = true;     // else a float tensor
  Int128 lo = 0, hi = 0;   // proven range of the integers, padding included
  ValueId value = kNone;
  const Tensor* constant = nullptr;          // float constants
  std::vector<std::int64_t> int_constant;    // integer constants (rare: constant left operand)
};
struct Step {
  StepParams params;
  std::vector<int> in;     // buffers
  int out = -1;
  std::string node;        // describe() of the graph node it came from
};
struct State {
  std::string name;
  Shape shape;
  std::vector<std::int64_t> init;
  std::int64_t depth = 1;
};
struct Port {
  std::string name;
  int buffer;
  DType dtype;             // of the graph's port
  bool exact;              // then value = clamp(s*N + b, lo, hi)
  Carrier carrier;
};
struct ExactProgram {
  std::shared_ptr<const Graph> graph;  // prepared: bound, inferred, sorted, folded; FloatOp::node indexes its nodes
  std::vector<std::shared_ptr<Tensor>> owned;  // float constants computed while lowering
  std::vector<Buffer> buffers;
  std::vector<Step> steps;           // in order
  std::vector<Port> inputs, outputs; // inputs are float buffers unless annotated
  std::vector<State> states;
  std::vector<std::string> host_nodes;  // nodes that run in f32 on the host
};

// Of the step's inputs.
std::vector<Shape> shapes_of(const ExactProgram& p, const Step& s);

// `max_bits`: widest integer allowed (128; hardware engines ask for 64). Throws Error(no) naming the
// node, both scales and the remedies where an operand cannot be held.
ExactProgram lower_exact(const Graph& bound, int max_bits = 128);
// What hardware keeps in memories that can be written while it runs: the graph's metadata "tandem.writable" says so ("weights",
// "thresholds" or both with a comma between; behind a colon names of nodes, spaces between, else all). Sums are then as wide as any
// weights of the type make them. Error(bad_input).
struct Writable {
  bool weights = false, thresholds = false;
  std::vector<std::string> nodes;      // empty: all
  bool any() const { return weights || thresholds; }
  bool has(const std::string& node) const { return nodes.empty() || std::find(nodes.begin(), nodes.end(), node) != nodes.end(); }
};
inline constexpr const char* kWritable = "tandem.writable";
Writable writable_of(std::string_view text);
// The smallest that holds the weights.
WeightType weight_type(const std::vector<std::int64_t>& weights);
std::string to_text(const ExactProgram& p);
// What the evaluators expect: shapes inferred, nodes sorted, constants folded, dead nodes removed.
Graph prepare(const Graph& bound);
// The level index (0 = lowest code) of integer n in group `table`, by the steps alone.
std::int64_t level_of(const Thresholds& table, Int128 n);

// The slow carrier evaluator: Int128, checked. Same results as evaluate_literal by construction of the
// definition; compared on random graphs.
std::vector<Tensor> evaluate_carrier(const ExactProgram& p, const std::vector<Tensor>& inputs,
                                     std::vector<std::vector<std::int64_t>>* states = nullptr,
                                     std::vector<std::vector<Int128>>* all_integers = nullptr);

// The exact values that integers of a carrier stand for; `shape` as the integers'.
std::vector<Rational> carrier_values(const Carrier& c, const Shape& shape, const std::vector<Int128>& n);

// The literal evaluator: one rational per element, docs/semantics.md word for word.
struct LiteralValue {
  bool exact = true;            // else `f` holds floats
  Shape shape;
  std::vector<Rational> q;
  std::vector<double> f;
};
struct LiteralState { std::vector<std::pair<std::string, LiteralValue>> values; };
std::vector<LiteralValue> evaluate_literal(const Graph& bound, const std::vector<Tensor>& inputs,
                                           LiteralState* state = nullptr,
                                           std::vector<LiteralValue>* all_values = nullptr);
// Graph outputs as tensors of their dtype (exact ones rounded once).
std::vector<Tensor> to_tensors(const Graph& g, const std::vector<LiteralValue>& outputs);
// Pure float meaning: every node in its dtype, quantisers as float runtimes do them.
std::vector<Tensor> evaluate_float(const Graph& bound, const std::vector<Tensor>& inputs,
                                   std::vector<Tensor>* all_values = nullptr);

}  // namespace tandem::ir
