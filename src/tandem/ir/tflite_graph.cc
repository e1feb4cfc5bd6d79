// A parsed TensorFlow Lite model as a graph of forms.
#include <cmath>
#include <unordered_map>

#include "tandem/ir/by_table.h"
#include "tandem/ir/op.h"
#include "tandem/ir/tflite.h"
#include "tandem/ir/tflite_float.h"

namespace tandem::ir {
namespace {

using Attributes = std::map<std::string, Attribute>;
using Ints = std::vector<std::int64_t>;

struct Builder {
  const TfliteModel& m;
  const TfliteOptions& options;
  const TfliteSubgraph& s;
  Graph g;
  std::vector<ValueId> ids;  // of the file's tensors; kNone: not met yet
  using Names = std::unordered_map<std::string, std::int64_t>;  // names taken, each with the next number to try behind it
  Names value_names, node_names;
  std::uint64_t memory = 0;
  std::size_t at = 0;        // the operator being built
  const TfliteOperator* o = nullptr;

  Builder(const TfliteModel& model, const TfliteOptions& opt) : m(model), options(opt), s(model.subgraphs.at(0)), ids(s.tensors.size(), kNone) {}

  // ---- errors -------------------------------------------------------------------------------------
  [[noreturn]] void refuse(const std::string& what, const std::string& expected = "", const std::string& fix = "") const {
    Error e = bad_input("{}", what);
    e.at(describe(s, at));
    if (!expected.empty()) e.expected(expected);
    if (!fix.empty()) e.fix(fix);
    throw e;
  }
  std::string tensor_name(int i) const {
    const std::string& n = s.tensors[static_cast<std::size_t>(i)].name;
    return n.empty() ? fmt::format("tensor_{}", i) : n;
  }

  // ---- names and values ---------------------------------------------------------------------------
  static std::string fresh(Names& taken, const std::string& base) {
    if (taken.emplace(base, 1).second) return base;
    for (std::int64_t& k = taken[base];;)
      if (std::string n = fmt::format("{}_{}", base, k++); taken.emplace(n, 1).second) return n;
  }
  ValueId add(const std::string& base, TensorType type) {
    Value v;
    v.name = fresh(value_names, base);
    v.type = std::move(type);
    g.values.push_back(std::move(v));
    return static_cast<ValueId>(g.values.size() - 1);
  }
  ValueId constant(const std::string& base, Tensor t) {
    const ValueId v = add(base, {t.dtype(), dims_of(t.shape())});
    spend(t.bytes());
    g.initialisers.emplace(v, std::move(t));
    return v;
  }
  void spend(std::uint64_t bytes) {
    memory += bytes;
    if (memory > options.limits.memory_bytes)
      throw Error(Exit::limit, fmt::format("the tensors of the model take more than {} MiB", options.limits.memory_bytes >> 20)).fix("raise --memory");
  }
  ValueId integers(const std::string& base, const Ints& v) { return constant(base, Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v)); }
  DType held(int i) const {
    const TfliteTensor& t = s.tensors[static_cast<std::size_t>(i)];
    if (t.sparse) refuse(fmt::format("tensor '{}' is sparse", tensor_name(i)), "dense tensors", "convert the model without sparsity");
    if (!t.dtype)
      refuse(fmt::format("tensor '{}' holds {}", tensor_name(i), t.type), "integers of 8 to 64 bits, booleans or floats",
             t.type.find("INT4") != std::string::npos ? "quantise the weights to 8 bits" : "");
    return *t.dtype;
  }
  TensorType type_of(int i) const { return {held(i), dims_of(s.tensors[static_cast<std::size_t>(i)].shape)}; }
  ValueId value(int i) {
    if (i < 0) return kNone;
    ValueId& v = ids[static_cast<std::size_t>(i)];
    if (v != kNone) return v;
    const TfliteTensor& t = s.tensors[static_cast<std::size_t>(i)];
    if (t.constant) {
      held(i);
      v = constant(tensor_name(i), t.value());
    } else if (t.variable) {
      v = state(i);
    } else {
      v = add(tensor_name(i), type_of(i));
    }
    return v;
  }

  // ---- state --------------------------------------------------------------------------------------
  std::vector<int> states;  // variable tensors in the order in which they are met
  std::vector<ValueId> state_inputs;
  ValueId state(int i) {
    const TfliteTensor& t = s.tensors[static_cast<std::size_t>(i)];
    if (options.state == TfliteOptions::State::fresh) {
      spend(static_cast<std::uint64_t>(element_count(t.shape)) * size_of(held(i)));
      Tensor zero(held(i), t.shape);
      const std::int64_t z = t.quant.zero_points.empty() ? 0 : t.quant.zero_points[0];
      for (std::int64_t k = 0; z != 0 && k < zero.size(); ++k) zero.set(k, static_cast<double>(z));
      return constant(tensor_name(i), std::move(zero));
    }
    states.push_back(i);
    state_inputs.push_back(add(tensor_name(i), type_of(i)));
    return state_inputs.back();
  }
  ValueId next_state(int i) {  // the value that the layer leaves; later readers see it
    const ValueId v = add(tensor_name(i) + "_next", type_of(i));
    ids[static_cast<std::size_t>(i)] = v;
    return v;
  }

  // ---- nodes --------------------------------------------------------------------------------------
  void node(const std::string& op, const std::string& domain, std::vector<ValueId> inputs, std::vector<ValueId> outputs, Attributes attrs = {}) {
    Node n;
    n.name = fresh(node_names, g.values[static_cast<std::size_t>(outputs.at(0))].name);
    n.op = op, n.domain = domain, n.inputs = std::move(inputs), n.outputs = std::move(outputs), n.attrs = std::move(attrs);
    while (!n.inputs.empty() && n.inputs.back() == kNone) n.inputs.pop_back();
    g.nodes.push_back(std::move(n));
  }
  void form(const std::string& op, std::vector<ValueId> inputs, Attributes attrs = {}) { node(op, "tflite", std::move(inputs), {value(out(0))}, std::move(attrs)); }
  void onnx(const std::string& op, std::vector<ValueId> inputs, Attributes attrs = {}) { node(op, "", std::move(inputs), {value(out(0))}, std::move(attrs)); }

  // ---- what an operator says ----------------------------------------------------------------------
  void ports(std::size_t least, std::size_t most, std::size_t outputs = 1) const {
    if (o->inputs.size() < least || o->inputs.size() > most)
      refuse(fmt::format("{} inputs", o->inputs.size()), least == most ? fmt::format("{}", least) : fmt::format("{} to {}", least, most));
    if (o->outputs.size() != outputs) refuse(fmt::format("{} outputs", o->outputs.size()), fmt::format("{}", outputs));
  }
  int in(std::size_t i) const { return i < o->inputs.size() ? o->inputs[i] : -1; }
  int needed(std::size_t i) const {
    if (in(i) < 0) refuse(fmt::format("input {} is missing", i));
    return in(i);
  }
  int out(std::size_t i) const { return o->outputs.at(i); }
  const TfliteTensor& tensor(int i) const { return s.tensors[static_cast<std::size_t>(i)]; }
  std::int64_t whole(std::string_view key, std::int64_t fallback = 0) const { return static_cast<std::int64_t>(o->number(key, static_cast<double>(fallback))); }

  struct Scale {
    double scale;
    std::int64_t zero;
  };
  Scale scale(int i) const {
    const TfliteQuantisation& q = tensor(i).quant;
    if (q.scales.empty())
      refuse(fmt::format("tensor '{}' ({}) has no scale", tensor_name(i), tensor(i).type), "a quantised tensor",
             "quantise the whole model, its inputs and outputs included");
    if (q.scales.size() != 1) refuse(fmt::format("tensor '{}' has {} scales", tensor_name(i), q.scales.size()), "one");
    return {q.scales[0], q.zero_points[0]};
  }
  void put(Attributes& a, const std::string& port, int i) const {
    const Scale q = scale(i);
    a[port + "_scale"] = q.scale, a[port + "_zero"] = q.zero;
  }
  bool same_scale(int a, int b) const {
    const TfliteQuantisation &p = tensor(a).quant, &q = tensor(b).quant;
    return p.scales == q.scales && p.zero_points == q.zero_points;
  }
  std::string activation() const {
    static constexpr const char* names[] = {"NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT"};
    const std::int64_t a = whole("fused_activation_function");
    if (a < 0 || a > 5) refuse(fmt::format("fused activation number {}", a), "0 to 3");
    if (a > 3) refuse(fmt::format("the fused activation {}", names[a]), "NONE, RELU, RELU_N1_TO_1 or RELU6");
    return names[a];
  }
  std::string padding() const {
    const std::int64_t p = whole("padding");
    if (p != 0 && p != 1) refuse(fmt::format("padding number {}", p), "0 (SAME) or 1 (VALID)");
    return p == 0 ? "SAME" : "VALID";
  }
  // The integers of a constant input.
  Ints integers_of(std::size_t i) const {
    const TfliteTensor& t = tensor(needed(i));
    if (!t.dense() || (t.dtype != DType::i32 && t.dtype != DType::i64)) refuse(fmt::format("input {} ('{}') is computed, or no dense tensor of integers", i, tensor_name(in(i))), "a constant");
    const Tensor v = t.value();
    Ints r;
    for (std::int64_t k = 0; k < v.size(); ++k) r.push_back(v.int_at(k));
    return r;
  }
  std::size_t axis_of(std::int64_t a, const Shape& x) const {
    const auto rank = static_cast<std::int64_t>(x.size());
    if (a < -rank || a >= rank) refuse(fmt::format("axis {}", a), fmt::format("an axis of the shape {}", to_string(x)));
    return static_cast<std::size_t>(a < 0 ? a + rank : a);
  }

  // ---- operators ----------------------------------------------------------------------------------
  // Weights and bias of a contraction; the scales of the weights are those of axis `axis`.
  Attributes contraction(int x, int w, int bias, std::int64_t axis) {
    Attributes a;
    put(a, "x", x), put(a, "y", out(0));
    const DType t = held(x);
    held(w);
    const TfliteQuantisation& q = tensor(w).quant;
    if (q.scales.empty()) refuse(fmt::format("the weights '{}' ({}) have no scale", tensor_name(w), tensor(w).type), "quantised weights");
    if (q.scales.size() > 1 && q.dimension != axis) refuse(fmt::format("the weights '{}' are quantised along axis {}", tensor_name(w), q.dimension), fmt::format("axis {}", axis));
    for (std::int64_t z : q.zero_points)
      if (z != 0) refuse(fmt::format("the weights '{}' have the zero point {}", tensor_name(w), z), "0: weights are symmetric", "quantise with the current converter");
    a["w_scale"] = std::vector<double>(q.scales.begin(), q.scales.end());
    a["activation"] = activation();
    const bool narrow = bias >= 0 ? held(bias) == DType::i32 : o->op == "CONV_2D" && whole("quantized_bias_type") == 2;
    a["accumulator"] = std::int64_t{t == DType::i16 && !narrow ? 64 : 32};
    if (bias >= 0 && tensor(bias).dense() && tensor(bias).dtype == DType::i64) {
      const Tensor b = tensor(bias).value();
      for (std::int64_t k = 0; k < b.size(); ++k)
        if (std::abs(static_cast<double>(b.int_at(k))) > 0x1p47) refuse(fmt::format("element {} of the bias is {}", k, b.int_at(k)), "at most 2^47 in size");
    }
    return a;
  }
  void convolution(const std::string& op, std::int64_t axis) {
    ports(2, 3);
    Attributes a = contraction(needed(0), needed(1), in(2), axis);
    a["padding"] = padding();
    a["strides"] = Ints{whole("stride_h"), whole("stride_w")};
    a["dilations"] = Ints{whole("dilation_h_factor", 1), whole("dilation_w_factor", 1)};
    form(op, {value(in(0)), value(in(1)), value(in(2))}, a);
  }
  void transpose_convolution() {
    ports(3, 4);
    Attributes a = contraction(needed(2), needed(1), in(3), 0);
    a["padding"] = padding();
    a["strides"] = Ints{whole("stride_h"), whole("stride_w")};
    const Shape& y = tensor(out(0)).shape;
    if (tensor(needed(0)).constant && integers_of(0) != y)
      refuse(fmt::format("the output shape {} for a tensor of the shape {}", to_string(Shape(integers_of(0))), to_string(y)), "the same");
    a["output_shape"] = y;
    form("TransposeConv", {value(in(2)), value(in(1)), value(in(3))}, a);
  }
  void dense() {
    ports(2, 3);
    if (whole("weights_format") != 0) refuse("shuffled weights", "the default format");
    Attributes a = contraction(needed(0), needed(1), in(2), 0);
    a["keep_num_dims"] = whole("keep_num_dims");
    form("FullyConnected", {value(in(0)), value(in(1)), value(in(2))}, a);
  }
  void elementwise(const std::string& op) {
    ports(2, 2);
    const int a = needed(0), b = needed(1);
    if (held(out(0)) == DType::i32 && tensor(out(0)).quant.scales.empty()) {  // plain integers
      if (activation() != "NONE") refuse("a fused activation on i32", "NONE");
      onnx(op, {value(a), value(b)});
      return;
    }
    Attributes at_;
    put(at_, "a", a), put(at_, "b", b), put(at_, "y", out(0));
    at_["activation"] = activation();
    form(op, {value(a), value(b)}, at_);
  }
  void mapped(const std::string& op, Attributes a = {}) {
    ports(1, 1);
    put(a, "x", needed(0)), put(a, "y", out(0));
    form(op, {value(in(0))}, a);
  }
  void quantize() {
    ports(1, 1);
    Attributes a{{"to", onnx_number(held(out(0)))}};
    if (!is_float(held(needed(0)))) put(a, "x", in(0));
    put(a, "y", out(0));
    form("Quantize", {value(in(0))}, a);
  }
  void softmax() {
    ports(1, 1);
    Attributes a{{"to", onnx_number(held(out(0)))}, {"beta", o->number("beta", 1)}};
    put(a, "x", needed(0)), put(a, "y", out(0));
    form("Softmax", {value(in(0))}, a);
  }
  void pool(const std::string& op) {
    ports(1, 1);
    const Scale x = scale(needed(0)), y = scale(out(0));
    if (std::abs(x.scale - y.scale) > 1e-6 || x.zero != y.zero) refuse("input and output have other scales", "the same scale and zero point");
    Attributes a{{"kernel_shape", Ints{whole("filter_height"), whole("filter_width")}},
                 {"strides", Ints{whole("stride_h"), whole("stride_w")}},
                 {"padding", padding()},
                 {"activation", activation()}};
    put(a, "y", out(0));
    form(op, {value(in(0))}, a);
  }
  void mean(const std::string& op) {
    ports(2, 2);
    Attributes a{{"axes", integers_of(1)}, {"keep_dims", whole("keep_dims")}};
    put(a, "x", needed(0)), put(a, "y", out(0));
    form(op, {value(in(0))}, a);
  }
  void svdf() {
    ports(5, 5);
    const std::int64_t act = whole("fused_activation_function");
    if (act != 0 && act != 1) refuse(fmt::format("fused activation number {}", act), "NONE or RELU");
    const int s_in = needed(4);
    if (!tensor(s_in).variable) refuse("the state is no variable", "a variable tensor");
    Attributes a{{"rank", whole("rank", 1)}, {"feature_scale", scale(needed(1)).scale}, {"time_scale", scale(needed(2)).scale}};
    for (int i : {in(1), in(2)})
      if (scale(i).zero != 0) refuse(fmt::format("the weights '{}' have the zero point {}", tensor_name(i), scale(i).zero), "0: weights are symmetric");
    put(a, "x", needed(0)), put(a, "state", s_in), put(a, "y", out(0));
    std::vector<ValueId> inputs{value(in(0)), value(in(1)), value(in(2)), value(in(3)), value(s_in)};
    node("SVDF", "tflite", std::move(inputs), {value(out(0)), next_state(s_in)}, a);
  }
  void lstm() {
    ports(24, 24);
    for (std::size_t i : {9u, 10u, 11u, 16u, 17u, 20u, 21u, 22u, 23u})
      if (in(i) >= 0) refuse(fmt::format("input {} ('{}'): peepholes, projection or layer normalisation", i, tensor_name(in(i))), "a plain LSTM");
    if (whole("fused_activation_function") != 4) refuse(fmt::format("fused activation number {}", whole("fused_activation_function")), "4 (TANH)");
    if (whole("diagonal_recurrent_tensors")) refuse("diagonal recurrent weights", "full ones");
    Attributes a{{"cell_clip", o->number("cell_clip")}, {"time_major", whole("time_major")}};
    if (o->number("proj_clip") != 0) refuse("a clipped projection", "a plain LSTM");
    put(a, "x", needed(0)), put(a, "h", needed(18));
    if (tensor(needed(19)).quant.scales.empty() || scale(in(19)).zero != 0) refuse("the cell's state has no scale, or a zero point", "a symmetric tensor of 16 bits");
    a["c_scale"] = scale(in(19)).scale;
    std::vector<double> w, r;
    std::vector<ValueId> inputs{value(in(0))};
    for (std::size_t i = 1; i <= 8; ++i) {
      const Scale q = scale(needed(i));
      if (q.zero != 0) refuse(fmt::format("the weights '{}' have the zero point {}", tensor_name(in(i)), q.zero), "0: weights are symmetric");
      (i <= 4 ? w : r).push_back(q.scale);
      inputs.push_back(value(in(i)));
    }
    a["w_scale"] = w, a["r_scale"] = r;
    for (std::size_t i = 12; i <= 15; ++i) inputs.push_back(value(needed(i)));
    for (int i : {in(18), in(19)}) {
      if (!tensor(i).variable) refuse(fmt::format("the state '{}' is no variable", tensor_name(i)), "a variable tensor");
      inputs.push_back(value(i));
    }
    if (!same_scale(out(0), in(18))) refuse("output and hidden state have other scales", "the same scale and zero point");
    node("UnidirectionalSequenceLSTM", "tflite", std::move(inputs), {value(out(0)), next_state(in(18)), next_state(in(19))}, a);
  }

  // ---- operators that only move data --------------------------------------------------------------
  void moves(int x) const {
    if (!same_scale(x, out(0))) refuse("input and output have other scales", "the same: the integers are only moved");
  }
  void reshape() {
    if (o->outputs.size() != 1) refuse(fmt::format("{} outputs", o->outputs.size()), "1");
    moves(needed(0));
    const ValueId shape = integers(tensor_name(out(0)) + "_shape", tensor(out(0)).shape);
    onnx("Reshape", {value(in(0)), shape});
  }
  void pad() {
    ports(2, 3);
    moves(needed(0));
    const Ints p = integers_of(1);
    const std::size_t rank = tensor(in(0)).shape.size();
    if (p.size() != 2 * rank) refuse(fmt::format("{} paddings for {} axes", p.size(), rank), "a pair for each axis");
    Ints pads;
    for (std::size_t side : {0u, 1u})
      for (std::size_t d = 0; d < rank; ++d) {
        if (p[2 * d + side] < 0) refuse(fmt::format("a padding of {}", p[2 * d + side]), "0 or more");
        pads.push_back(p[2 * d + side]);
      }
    ValueId with = value(in(2));
    if (with == kNone) {
      const DType t = held(in(0));
      Tensor z(t, Shape{});
      if (t == DType::i8 || t == DType::u8) z.set(0, static_cast<double>(tensor(out(0)).quant.zero_points.empty() ? 0 : tensor(out(0)).quant.zero_points[0]));
      with = constant(tensor_name(out(0)) + "_zero", std::move(z));
    } else if (!tensor(in(2)).constant || element_count(tensor(in(2)).shape) != 1) {
      refuse("the value of the padding is no constant number");
    } else {
      with = constant(tensor_name(out(0)) + "_value", tensor(in(2)).value().reshaped({}));
    }
    onnx("Pad", {value(in(0)), integers(tensor_name(out(0)) + "_pads", pads), with});
  }
  void slice(const Ints& starts, const Ints& ends, const Ints& steps, bool shrinks) {
    Ints axes(starts.size());
    for (std::size_t d = 0; d < axes.size(); ++d) axes[d] = static_cast<std::int64_t>(d);
    const std::string base = tensor_name(out(0));
    std::vector<ValueId> inputs{value(in(0)), integers(base + "_starts", starts), integers(base + "_ends", ends), integers(base + "_axes", axes), integers(base + "_steps", steps)};
    if (!shrinks) {
      onnx("Slice", std::move(inputs));
      return;
    }
    const ValueId whole_ = add(base + "_slice", {held(in(0)), std::nullopt});
    node("Slice", "", std::move(inputs), {whole_});
    onnx("Reshape", {whole_, integers(base + "_shape", tensor(out(0)).shape)});
  }
  void strided_slice() {
    ports(4, 4);
    moves(needed(0));
    if (whole("ellipsis_mask") || whole("new_axis_mask") || whole("offset")) refuse("an ellipsis, a new axis or an offset in the slice", "begin, end, strides and axes that shrink");
    const Ints begin = integers_of(1), end = integers_of(2), stride = integers_of(3);
    const Shape& x = tensor(in(0)).shape;
    if (begin.size() != x.size() || end.size() != x.size() || stride.size() != x.size()) refuse(fmt::format("{} starts for {} axes", begin.size(), x.size()), "one for each axis");
    Ints starts, ends;
    const std::int64_t bm = whole("begin_mask"), em = whole("end_mask"), shrink = whole("shrink_axis_mask");
    for (std::size_t d = 0; d < x.size(); ++d) {
      const std::int64_t n = x[d], step = stride[d], low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
      if (step == 0) refuse("a stride of 0", "another number");
      std::int64_t b = (bm >> d) & 1 ? (step > 0 ? 0 : n - 1) : begin[d] < 0 ? begin[d] + n : begin[d];
      b = std::min(std::max(b, low), high);
      std::int64_t e = (em >> d) & 1 ? (step > 0 ? n : -1) : std::min(std::max(end[d] < 0 ? end[d] + n : end[d], low), high);
      if ((shrink >> d) & 1) e = b + (step > 0 ? 1 : -1);
      starts.push_back(b), ends.push_back(e < 0 ? e - n : e);  // -1 stands for "before the first", which ONNX writes as -n - 1
    }
    slice(starts, ends, stride, shrink != 0);
  }
  void plain_slice() {
    ports(3, 3);
    moves(needed(0));
    const Ints begin = integers_of(1), size = integers_of(2);
    const Shape& x = tensor(in(0)).shape;
    if (begin.size() != x.size() || size.size() != x.size()) refuse(fmt::format("{} starts for {} axes", begin.size(), x.size()), "one for each axis");
    Ints ends;
    for (std::size_t d = 0; d < x.size(); ++d) {
      if (begin[d] < 0 || begin[d] > x[d] || size[d] < -1 || size[d] > x[d] - begin[d]) refuse(fmt::format("{} elements from {} on, of {}", size[d], begin[d], x[d]), "a part of the axis");
      ends.push_back(size[d] == -1 ? x[d] : begin[d] + size[d]);
    }
    slice(begin, ends, Ints(x.size(), 1), false);
  }
  void transpose() {
    ports(2, 2);
    moves(needed(0));
    onnx("Transpose", {value(in(0))}, {{"perm", integers_of(1)}});
  }
  void concatenation() {
    if (o->inputs.empty() || o->outputs.size() != 1) refuse(fmt::format("{} inputs and {} outputs", o->inputs.size(), o->outputs.size()), "at least one input, one output");
    if (activation() != "NONE") refuse("a fused activation in a concatenation", "NONE");
    std::vector<ValueId> inputs;
    for (std::size_t i = 0; i < o->inputs.size(); ++i) moves(needed(i)), inputs.push_back(value(in(i)));
    onnx("Concat", std::move(inputs), {{"axis", static_cast<std::int64_t>(axis_of(whole("axis"), tensor(out(0)).shape))}});
  }
  void split(int x, std::int64_t axis) {
    const std::size_t d = axis_of(axis, tensor(x).shape);
    Ints sizes;
    std::vector<ValueId> outputs;
    for (int y : o->outputs) {
      if (!same_scale(x, y) || tensor(y).shape.size() != tensor(x).shape.size()) refuse("input and outputs have other scales or axes", "the same: the integers are only moved");
      sizes.push_back(tensor(y).shape[d]), outputs.push_back(value(y));
    }
    if (outputs.empty()) refuse("no outputs");
    const ValueId v = value(x), parts = integers(tensor_name(out(0)) + "_sizes", sizes);
    node("Split", "", {v, parts}, std::move(outputs), {{"axis", static_cast<std::int64_t>(d)}});
  }
  // A value between the nodes that stand for one operator.
  ValueId between(const std::string& op, const std::string& what, std::vector<ValueId> inputs, DType t, Attributes attrs = {}) {
    const ValueId v = add(tensor_name(out(0)) + what, {t, std::nullopt});
    node(op, "", std::move(inputs), {v}, std::move(attrs));
    return v;
  }
  void pack() {
    if (o->inputs.empty() || o->outputs.size() != 1) refuse(fmt::format("{} inputs and {} outputs", o->inputs.size(), o->outputs.size()), "at least one input, one output");
    const Shape& y = tensor(out(0)).shape;
    const std::size_t axis = axis_of(whole("axis"), y);
    Shape one = y;
    one[axis] = 1;
    const ValueId shape = integers(tensor_name(out(0)) + "_part_shape", one);
    std::vector<ValueId> parts;
    for (std::size_t i = 0; i < o->inputs.size(); ++i) moves(needed(i)), parts.push_back(between("Reshape", "_part", {value(in(i)), shape}, held(in(i))));
    onnx("Concat", std::move(parts), {{"axis", static_cast<std::int64_t>(axis)}});
  }
  void unpack() {
    if (o->inputs.size() != 1 || o->outputs.empty()) refuse(fmt::format("{} inputs and {} outputs", o->inputs.size(), o->outputs.size()), "one input, at least one output");
    const int x = needed(0);
    const std::size_t axis = axis_of(whole("axis"), tensor(x).shape);
    std::vector<ValueId> parts;
    for (std::size_t i = 0; i < o->outputs.size(); ++i) parts.push_back(add(tensor_name(out(i)) + "_part", {held(x), std::nullopt}));
    const ValueId v = value(x), sizes = integers(tensor_name(out(0)) + "_sizes", Ints(parts.size(), 1));
    node("Split", "", {v, sizes}, parts, {{"axis", static_cast<std::int64_t>(axis)}});
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (!same_scale(x, out(i))) refuse("input and outputs have other scales", "the same: the integers are only moved");
      const ValueId shape = integers(tensor_name(out(i)) + "_shape", tensor(out(i)).shape);
      node("Reshape", "", {parts[i], shape}, {value(out(i))});
    }
  }
  // Blocks of height and width into the channels, or out of them: six axes, the middle ones exchanged.
  void blocks(bool to_space) {
    ports(1, 1);
    moves(needed(0));
    const Shape &x = tensor(in(0)).shape, &y = tensor(out(0)).shape;
    const std::int64_t b = whole("block_size");
    if (x.size() != 4 || y.size() != 4 || b < 1) refuse(fmt::format("blocks of {} in the shape {}", b, to_string(x)), "four axes, blocks from 1 on");
    if (to_space ? x[3] % (b * b) != 0 : x[1] % b != 0 || x[2] % b != 0) refuse(fmt::format("blocks of {} in the shape {}", b, to_string(x)), "whole blocks");
    const std::string base = tensor_name(out(0));
    const Ints six = to_space ? Ints{x[0], x[1], x[2], b, b, x[3] / (b * b)} : Ints{x[0], x[1] / b, b, x[2] / b, b, x[3]};
    const ValueId v = value(in(0)), split_ = between("Reshape", "_blocks", {v, integers(base + "_blocks_shape", six)}, held(in(0)));
    const ValueId moved = between("Transpose", "_moved", {split_}, held(in(0)), {{"perm", Ints{0, 1, 3, 2, 4, 5}}});
    onnx("Reshape", {moved, integers(base + "_shape", y)});
  }
  void gather() {
    ports(2, 2);
    moves(needed(0));
    if (whole("batch_dims") != 0) refuse("batch axes in a gather", "none");
    onnx("Gather", {value(in(0)), value(needed(1))}, {{"axis", static_cast<std::int64_t>(axis_of(whole("axis"), tensor(in(0)).shape))}});
  }
  void tile() {
    ports(2, 2);
    moves(needed(0));
    onnx("Tile", {value(in(0)), integers(tensor_name(out(0)) + "_times", integers_of(1))});
  }
  std::int64_t single(std::size_t i) const {
    const Ints v = integers_of(i);
    if (v.size() != 1) refuse(fmt::format("input {} has {} elements", i, v.size()), "one");
    return v[0];
  }
  void resize(const std::string& op) {
    ports(2, 2);
    moves(needed(0));
    form(op, {value(in(0))}, {{"size", integers_of(1)}, {"align_corners", whole("align_corners")}, {"half_pixel_centers", whole("half_pixel_centers")}});
  }
  void prelu() {
    ports(2, 2);
    Attributes a;
    put(a, "x", needed(0)), put(a, "alpha", needed(1)), put(a, "y", out(0));
    form("PRelu", {value(in(0)), value(in(1))}, a);
  }
  void batch_matmul() {
    ports(2, 2);
    Attributes a{{"adj_x", whole("adj_x")}, {"adj_y", whole("adj_y")}};
    put(a, "a", needed(0)), put(a, "b", needed(1)), put(a, "y", out(0));
    form("BatchMatMul", {value(in(0)), value(in(1))}, a);
  }
  // Blocks of height and width (or of the one axis behind the batch) into the batch, as dilated convolutions are written: padded, cut into
  // blocks, the places within a block moved to the front.
  struct Blocks {
    Ints block, before, after;
    std::size_t axes() const { return block.size(); }
  };
  Blocks blocks_of(std::size_t rank) const {
    Blocks b;
    b.block = integers_of(1);
    const Ints edges = integers_of(2);
    if (b.axes() < 1 || b.axes() > 2 || rank < b.axes() + 2 || edges.size() != 2 * b.axes()) refuse(fmt::format("blocks {} with {} margins for {} axes", to_string(Shape(b.block)), edges.size(), rank), "one or two axes behind the batch, two margins each");
    for (std::size_t d = 0; d < b.axes(); ++d) {
      b.before.push_back(edges[2 * d]), b.after.push_back(edges[2 * d + 1]);
      if (b.block[d] < 1 || b.block[d] > 1'000'000 || b.before[d] < 0 || b.after[d] < 0 || b.before[d] > 1'000'000 || b.after[d] > 1'000'000) refuse(fmt::format("blocks of {} with margins of {} and {}", b.block[d], b.before[d], b.after[d]), "blocks from 1, margins from 0 on, to 1000000");
    }
    return b;
  }
  void space_to_batch() {
    ports(3, 3);
    moves(needed(0));
    const Shape& x = tensor(in(0)).shape;
    const Blocks b = blocks_of(x.size());
    const std::string base = tensor_name(out(0));
    Ints pads(2 * x.size()), cut{x[0]}, perm, order{0};
    for (std::size_t d = 0; d < b.axes(); ++d) {
      pads[d + 1] = b.before[d], pads[x.size() + d + 1] = b.after[d];
      const std::int64_t n = x[d + 1] + b.before[d] + b.after[d];
      if (n % b.block[d] != 0) refuse(fmt::format("blocks of {} in {} elements", b.block[d], n), "whole blocks");
      cut.push_back(n / b.block[d]), cut.push_back(b.block[d]);
      perm.push_back(static_cast<std::int64_t>(2 + 2 * d)), order.push_back(static_cast<std::int64_t>(1 + 2 * d));
    }
    for (std::size_t d = b.axes() + 1; d < x.size(); ++d) order.push_back(static_cast<std::int64_t>(cut.size())), cut.push_back(x[d]);
    perm.insert(perm.end(), order.begin(), order.end());
    const DType t = held(in(0));
    Tensor z(t, Shape{});
    if (const Ints& zeros = tensor(in(0)).quant.zero_points; !zeros.empty()) z.set(0, static_cast<double>(zeros[0]));
    const ValueId padded = between("Pad", "_padded", {value(in(0)), integers(base + "_pads", pads), constant(base + "_zero", std::move(z))}, t);
    const ValueId parts = between("Reshape", "_blocks", {padded, integers(base + "_blocks_shape", cut)}, t);
    const ValueId moved = between("Transpose", "_moved", {parts}, t, {{"perm", perm}});
    onnx("Reshape", {moved, integers(base + "_shape", tensor(out(0)).shape)});
  }
  void batch_to_space() {
    ports(3, 3);
    moves(needed(0));
    const Shape& x = tensor(in(0)).shape;
    const Blocks b = blocks_of(x.size());
    const std::string base = tensor_name(out(0));
    std::int64_t within = 1;
    for (std::int64_t k : b.block) within *= k;
    if (x[0] % within != 0) refuse(fmt::format("{} samples for blocks {}", x[0], to_string(Shape(b.block))), "whole blocks");
    const auto n = static_cast<std::int64_t>(b.axes());
    Ints cut = b.block, perm{n}, whole_{x[0] / within}, starts, ends, axes;
    cut.push_back(x[0] / within);
    for (std::int64_t d = 0; d < n; ++d) {
      const auto at_ = static_cast<std::size_t>(d);
      cut.push_back(x[at_ + 1]);
      perm.push_back(n + 1 + d), perm.push_back(d);
      const std::int64_t extent = x[at_ + 1] * b.block[at_];
      if (b.before[at_] + b.after[at_] > extent) refuse(fmt::format("margins of {} and {} cut from {} elements", b.before[at_], b.after[at_], extent), "fewer");
      whole_.push_back(extent), starts.push_back(b.before[at_]), ends.push_back(extent - b.after[at_]), axes.push_back(d + 1);
    }
    for (std::size_t d = b.axes() + 1; d < x.size(); ++d) perm.push_back(static_cast<std::int64_t>(cut.size())), cut.push_back(x[d]), whole_.push_back(x[d]);
    const DType t = held(in(0));
    const ValueId v = value(in(0)), parts = between("Reshape", "_blocks", {v, integers(base + "_blocks_shape", cut)}, t);
    const ValueId moved = between("Transpose", "_moved", {parts}, t, {{"perm", perm}});
    const ValueId joined = between("Reshape", "_joined", {moved, integers(base + "_joined_shape", whole_)}, t);
    onnx("Slice", {joined, integers(base + "_starts", starts), integers(base + "_ends", ends), integers(base + "_axes", axes)});
  }
  void extreme(const std::string& op) {
    ports(2, 2);
    moves(needed(0)), moves(needed(1));
    onnx(op, {value(in(0)), value(in(1))});
  }
  void arg_max(const std::string& op) {
    ports(2, 2);
    const Shape& x = tensor(needed(0)).shape;
    const std::string base = tensor_name(out(0));
    const ValueId v = value(in(0)), index = add(base + "_index", {DType::i64, std::nullopt});
    node(op, "", {v}, {index}, {{"axis", static_cast<std::int64_t>(axis_of(single(1), x))}, {"keepdims", std::int64_t{0}}});
    onnx("Cast", {index}, {{"to", onnx_number(held(out(0)))}});
  }

  void build() {
    const std::string& op = o->op;
    if (o->custom) refuse(fmt::format("the custom operator {}", op), "operators of the schema", "a custom operator has no meaning outside its own runtime: export the model without it");
    if (op == "CONV_2D") return convolution("Conv2D", 0);
    if (op == "DEPTHWISE_CONV_2D") return convolution("DepthwiseConv2D", 3);
    if (op == "TRANSPOSE_CONV") return transpose_convolution();
    if (op == "FULLY_CONNECTED") return dense();
    if (op == "ADD") return elementwise("Add");
    if (op == "SUB") return elementwise("Sub");
    if (op == "MUL") return elementwise("Mul");
    if (op == "RELU") return mapped("Relu");
    if (op == "RELU6") return mapped("Relu6");
    if (op == "LEAKY_RELU") return mapped("LeakyRelu", {{"alpha", o->number("alpha")}});
    if (op == "PRELU") return prelu();
    if (op == "HARD_SWISH") return mapped("HardSwish");
    if (op == "LOGISTIC") return mapped("Logistic");
    if (op == "TANH") return mapped("Tanh");
    if (op == "SOFTMAX") return softmax();
    if (op == "QUANTIZE") return quantize();
    if (op == "DEQUANTIZE") {
      ports(1, 1);
      Attributes a;
      put(a, "x", needed(0));
      return form("Dequantize", {value(in(0))}, a);
    }
    if (op == "AVERAGE_POOL_2D") return pool("AveragePool2D");
    if (op == "MAX_POOL_2D") return pool("MaxPool2D");
    if (op == "MEAN") return mean("Mean");
    if (op == "SUM") return mean("Sum");
    if (op == "SVDF") return svdf();
    if (op == "UNIDIRECTIONAL_SEQUENCE_LSTM") return lstm();
    if (op == "RESHAPE" || op == "SQUEEZE" || op == "EXPAND_DIMS") return reshape();
    if (op == "PAD" || op == "PADV2") return pad();
    if (op == "STRIDED_SLICE") return strided_slice();
    if (op == "SLICE") return plain_slice();
    if (op == "TRANSPOSE") return transpose();
    if (op == "CONCATENATION") return concatenation();
    if (op == "SPLIT") {
      if (o->inputs.size() != 2) refuse(fmt::format("{} inputs", o->inputs.size()), "2");
      return split(needed(1), single(0));
    }
    if (op == "SPLIT_V") {
      if (o->inputs.size() != 3) refuse(fmt::format("{} inputs", o->inputs.size()), "3");
      return split(needed(0), single(2));
    }
    if (op == "RESIZE_NEAREST_NEIGHBOR") return resize("ResizeNearestNeighbor");
    if (op == "RESIZE_BILINEAR") return resize("ResizeBilinear");
    if (op == "BATCH_MATMUL") return batch_matmul();
    if (op == "SPACE_TO_BATCH_ND") return space_to_batch();
    if (op == "BATCH_TO_SPACE_ND") return batch_to_space();
    if (op == "PACK") return pack();
    if (op == "UNPACK") return unpack();
    if (op == "DEPTH_TO_SPACE") return blocks(true);
    if (op == "SPACE_TO_DEPTH") return blocks(false);
    if (op == "GATHER") return gather();
    if (op == "TILE") return tile();
    if (op == "MINIMUM") return extreme("Min");
    if (op == "MAXIMUM") return extreme("Max");
    if (op == "ARG_MAX") return arg_max("ArgMax");
    if (op == "ARG_MIN") return arg_max("ArgMin");
    if (op == "CAST") {
      ports(1, 1);
      if (!tensor(needed(0)).quant.scales.empty() || !tensor(out(0)).quant.scales.empty()) refuse("a cast of quantised integers", "plain numbers");
      return onnx("Cast", {value(in(0))}, {{"to", onnx_number(held(out(0)))}});
    }
    if (op == "LOG_SOFTMAX" && is_float(held(out(0)))) {
      ports(1, 1);
      return onnx("LogSoftmax", {value(needed(0))}, {{"axis", std::int64_t{-1}}});
    }
    refuse(fmt::format("the operator {} has no form", op), "an operator of domain tflite that `tandem ops` lists", "export the model from its framework as ONNX");
  }

  Graph run() {
    g.name = s.name.empty() ? "graph" : s.name;
    if (!m.description.empty()) g.metadata["description"] = m.description;
    g.metadata["producer_name"] = "tflite";
    for (int i : s.inputs) g.inputs.push_back(value(i));
    for (at = 0; at < s.operators.size(); ++at) o = &s.operators[at], build();
    for (std::size_t k = 0; k < state_inputs.size(); ++k) g.inputs.push_back(state_inputs[k]);
    for (int i : s.outputs) g.outputs.push_back(value(i));
    for (int i : states) g.outputs.push_back(ids[static_cast<std::size_t>(i)]);
    verify(g);
    // What the operators say about extents must be what the file says.
    std::vector<TensorType> said;
    for (const Value& v : g.values) said.push_back(v.type);
    infer_shapes(g);
    for (std::size_t i = 0; i < s.tensors.size(); ++i) {
      if (ids[i] == kNone) continue;
      const auto v = static_cast<std::size_t>(ids[i]);
      const TensorType &a = said[v], &b = g.values[v].type;
      if (a.dtype != b.dtype || (a.dims && b.dims && all_known(*b.dims) && *a.dims != *b.dims))
        throw bad_input("tensor '{}' is {} {} in the file and {} {} by its operator", g.values[v].name, to_string(a.dtype), a.dims ? to_string(*a.dims) : "",
                        to_string(b.dtype), b.dims ? to_string(*b.dims) : "")
            .fix("the file is damaged, or was resized after its conversion");
    }
    return std::move(g);
  }
};

}  // namespace

Graph tflite_graph(const TfliteModel& m, const TfliteOptions& options) { return Builder(m, options).run(); }

Graph read_tflite(const std::filesystem::path& path, const Limits& limits, TfliteAs as) {
  const TfliteModel m = read_tflite_model(path, limits);
  try {
    if (as == TfliteAs::quantisers && !m.floating()) return by_table(tflite_quant_graph(m), nullptr, false);  // its softmax is one by table
    if (m.floating()) return tflite_float_graph(m);
    TfliteOptions options;
    options.limits = limits;
    return tflite_graph(m, options);
  } catch (Error& e) {
    e.at(path.string() + (e.where().empty() ? "" : ": " + e.where()));
    throw;
  }
}

}  // namespace tandem::ir
