// The layers of a streaming dataflow design, as far as they do not depend on folding: what an exact
// program computes, in the order in which the hardware's streams carry it.
//
// A stream carries one frame (one sample) after the other as integers N of the carrier, mostly channels
// fastest (NHWC). Transposing and flattening cost nothing: they only say anew which element stands where (Values::order),
// and the columns of the next dense layer are permuted here. The design's input streams in the order that its first reader
// needs; where another order does not suit a reader, a `reorder` layer stands in front of it.
#pragma once
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tandem/ir/exact.h"
#include "tandem/plan/folding.h"

namespace tandem::plan {

enum class LayerKind { dense, depthwise, pool, requant, affine, add, argmax, product, concat, reorder, select, insert, repeat, topk, softmax, normalize };
std::string_view to_string(LayerKind k);

// The window in front of a convolution or pooling layer.
struct Window {
  std::int64_t h = 1, w = 1, c = 1;  // input frame
  std::int64_t kh = 1, kw = 1, sh = 1, sw = 1, dh = 1, dw = 1;
  std::int64_t pt = 0, pl = 0, pb = 0, pr = 0;
  std::int64_t oh = 1, ow = 1;
  std::int64_t pad_value = 0;
  bool channel_outer = false;  // order (c, kh, kw) for depthwise and pooling, else (kh, kw, c)
  std::int64_t padded_h() const { return h + pt + pb; }
  std::int64_t padded_w() const { return w + pl + pr; }
  bool padded() const { return pt + pl + pb + pr > 0; }
};

// order[j]: flat logical index (row-major, without the batch) of the j-th element in a stream. Copies share the numbers.
class Order {
 public:
  Order() = default;
  Order(std::vector<std::int32_t> v) : v_(std::make_shared<const std::vector<std::int32_t>>(std::move(v))) {}
  operator const std::vector<std::int32_t>&() const { return get(); }
  const std::vector<std::int32_t>& get() const {
    static const std::vector<std::int32_t> none;
    return v_ ? *v_ : none;
  }
  using const_iterator = std::vector<std::int32_t>::const_iterator;
  using iterator = const_iterator;
  using value_type = std::int32_t;
  const_iterator begin() const { return get().begin(); }
  const_iterator end() const { return get().end(); }
  std::size_t size() const { return get().size(); }
  bool empty() const { return get().empty(); }
  std::int32_t operator[](std::size_t j) const { return (*v_)[j]; }
  friend bool operator==(const Order& a, const Order& b) { return a.v_ == b.v_ || a.get() == b.get(); }

 private:
  std::shared_ptr<const std::vector<std::int32_t>> v_;
};

// A frame's values between two layers.
struct Values {
  int bits = 1;
  bool is_signed = false;
  std::int64_t lo = 0, hi = 0;
  std::int64_t elements = 1;   // per frame
  std::int64_t channels = 1;   // per-channel constants repeat with this period in the stream
  Order order;
};

struct Loop {
  std::int64_t n = 1, stride = 0;
};

struct Layer {
  LayerKind kind = LayerKind::dense;
  std::string name;   // identifier, unique: "s01_conv1"
  std::string node;   // of the graph, for errors and tables
  std::vector<int> in;  // producing layers; -1 is the design's input
  Values out;
  int buffer = -1;      // of the exact program, whose integers these are; but see `negated`
  std::vector<bool> negated;  // per channel of the stream; empty: none
  std::optional<Window> window;
  // dense (convolutions included): mh outputs from mw inputs, `vectors` per frame; weights[mh][mw] in
  // stream order. With several groups output o reads the mw inputs of group o / (mh / groups), which stand one group
  // after the other. depthwise: weights[c][kh*kw], mh = c, mw = kh*kw.
  std::int64_t mh = 1, mw = 1, vectors = 1, groups = 1;
  std::vector<std::int64_t> weights;
  int weight_bits = 1;
  bool bipolar = false;               // every weight is -1 or +1: stored in one bit, 1 for +1
  bool writable = false;              // weights, or steps of a requantiser: in memories that can be written
  ir::WeightType type;                // of the weights, where they can be
  // pool; without a window over the whole frame: mh channels, mw places
  ir::IntPool::Kind pool = ir::IntPool::max;
  std::vector<bool> min_channel;      // per channel
  // requant: thresholds per stream channel (tables has 1 or channels entries); value of level i = levels[i]
  std::vector<ir::Thresholds> tables;
  std::vector<std::int64_t> levels;
  int level_bits = 1;                 // steps of the search: ceil(log2(levels))
  int entry_bits = 1;                 // of a signed entry of the table
  // The same steps as arithmetic, where all channels have a form and the levels are consecutive: level =
  // clamp((factor * N + offset) >> shift), ties to the even (tie_parity 0) or odd code where `ties`.
  struct Rescale {
    std::vector<std::int64_t> factor, offset;  // 1 or channels entries; negative factors where the table flips
    int shift = 0;
    bool ties = false;
    int tie_parity = 0;
    int factor_bits = 1, offset_bits = 1, sum_bits = 1;  // all signed
  };
  std::optional<Rescale> rescale;
  // affine, add: out = sum k_j * in_j + c, then clamp; vectors have 1 or channels entries
  std::vector<std::vector<std::int64_t>> k;
  std::vector<std::int64_t> c, clamp_lo, clamp_hi;  // clamps empty where absent
  bool argmax_last = false;           // argmax, topk, softmax, normalize: vectors of mh elements
  std::int64_t kept = 1;              // topk: so many of each vector
  bool largest = true, places = false;  // topk: else the smallest; their places instead of their values
  std::vector<std::int32_t> table;    // softmax: ir::IntSoftmax::exps; normalize: ir::IntNormalize::roots
  int fraction_bits = 0, root_bits = 0;  // of the results; normalize: of the table
  std::int64_t epsilon = 0;           // normalize
  // Layers that only move elements; `unit` elements in a row stay together, so lanes divide it.
  std::int64_t unit = 1;
  std::vector<std::int32_t> from;     // reorder: the place in the input's stream of each unit, counted in units
  std::vector<Loop> loops;            // the same as nested loops, outermost first; empty: a table
  std::shared_ptr<const std::vector<bool>> keep;  // select: which elements of the input pass; insert: which of the output's come from it
  std::int64_t burst = 0;             // insert: elements sent in a row without reading any
  std::int64_t value = 0;             // insert: the others
  std::array<std::int64_t, 2> runs{1, 1};  // concat: so many of the first input, so many of the second, and again
  // repeat: each vector of mw elements mh times, `vectors` of them
  std::int64_t macs = 0;              // per frame
};

struct StageGraph {
  std::string name;                   // identifier
  Values input;
  Shape input_shape, output_shape;    // of one frame, logical
  std::string input_port, output_port;
  int input_buffer = -1, output_buffer = -1;  // of the exact program
  std::vector<Layer> layers;          // topological
  int output_layer = -1;
  Values output;                      // as the output layer's, with the order of the program's output
  std::vector<std::string> host;      // what stays on the host, in words

  const Values& values_of(int layer) const { return layer < 0 ? input : layers[static_cast<std::size_t>(layer)].out; }
};

// Throws Error(no) naming the node and the reason where hardware cannot do a step.
StageGraph stages_from(const ir::ExactProgram& p, std::string_view name = "net");

// The largest PE and SIMD of a layer that can be folded.
std::int64_t most_pe(const Layer& l);
std::int64_t most_simd(const Layer& l);

// One frame of integers (logical, row-major, at `frame`) to the order of the stream, and back.
std::vector<std::int64_t> to_stream(const Values& v, const Int128* frame);
std::vector<std::int64_t> from_stream(const Values& v, const std::vector<std::int64_t>& stream);

// Letters, digits and underscores only, starting with a letter; never a keyword (prefixed by callers).
std::string identifier(std::string_view name);

}  // namespace tandem::plan
