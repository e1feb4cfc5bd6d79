// The forms that operators have in another opset than 17: the way back of onnx_forms.cc.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "tandem/ir/onnx_private.h"

namespace tandem::ir::onnx_file {
namespace {

using Ints = std::vector<std::int64_t>;

// The opset that brought an operator, where it is not one of the first.
struct Since {
  std::string_view op;
  int opset;
};
constexpr Since kSince[] = {
    {"Acos", 7}, {"Acosh", 9}, {"AffineGrid", 20}, {"Asin", 7}, {"Asinh", 9}, {"Atan", 7}, {"Atanh", 9}, {"Attention", 23}, {"Bernoulli", 15}, {"BitCast", 26}, {"BitShift", 11},
    {"BitwiseAnd", 18}, {"BitwiseNot", 18}, {"BitwiseOr", 18}, {"BitwiseXor", 18}, {"BlackmanWindow", 17}, {"CastLike", 15}, {"Celu", 12}, {"CenterCropPad", 18}, {"Col2Im", 18}, {"Compress", 9},
    {"ConstantOfShape", 9}, {"ConvInteger", 10}, {"Cos", 7}, {"Cosh", 9}, {"CumProd", 26}, {"CumSum", 11}, {"DFT", 17}, {"DeformConv", 19}, {"DequantizeLinear", 10}, {"Det", 11},
    {"DynamicQuantizeLinear", 11}, {"Einsum", 12}, {"Erf", 9}, {"Expand", 8}, {"EyeLike", 9}, {"GatherElements", 11}, {"GatherND", 11}, {"Gelu", 20}, {"GreaterOrEqual", 12}, {"GridSample", 16},
    {"GroupNormalization", 18}, {"HammingWindow", 17}, {"HannWindow", 17}, {"HardSwish", 14}, {"IsInf", 10}, {"IsNaN", 9}, {"LayerNormalization", 17}, {"LessOrEqual", 12}, {"MatMulInteger", 10},
    {"MaxUnpool", 9}, {"MeanVarianceNormalization", 9}, {"MelWeightMatrix", 17}, {"Mish", 18}, {"Mod", 10}, {"NegativeLogLikelihoodLoss", 12}, {"NonMaxSuppression", 10}, {"NonZero", 9}, {"OneHot", 9},
    {"QLinearConv", 10}, {"QLinearMatMul", 10}, {"QuantizeLinear", 10}, {"RMSNormalization", 23}, {"Range", 11}, {"ReverseSequence", 10}, {"RoiAlign", 10}, {"RotaryEmbedding", 23}, {"Round", 11},
    {"STFT", 17}, {"Scan", 9}, {"Scatter", 9}, {"ScatterElements", 11}, {"ScatterND", 11}, {"Shrink", 9}, {"Sign", 9}, {"Sin", 7}, {"Sinh", 9}, {"SoftmaxCrossEntropyLoss", 12}, {"SwiGLU", 28}, {"Swish", 24},
    {"Tan", 7}, {"TensorScatter", 24}, {"TfIdfVectorizer", 9}, {"ThresholdedRelu", 10}, {"Trilu", 14}, {"Unique", 11}, {"Where", 9},
};
int since(std::string_view op) {
  const auto it = std::find_if(std::begin(kSince), std::end(kSince), [&](const Since& s) { return s.op == op; });
  return it == std::end(kSince) ? 1 : it->opset;
}

// Attributes that came later than their operator, with the value that says what it did before.
struct Later {
  std::string_view op, attr;
  int opset;
  std::string_view before;  // a number or a word; "1..": a list of ones; "*": any
};
constexpr Later kLater[] = {
    {"ArgMax", "select_last_index", 12, "0"}, {"ArgMin", "select_last_index", 12, "0"}, {"AveragePool", "ceil_mode", 10, "0"}, {"AveragePool", "count_include_pad", 7, "0"},
    {"AveragePool", "dilations", 19, "1.."}, {"BatchNormalization", "training_mode", 14, "0"}, {"Cast", "saturate", 19, "1"}, {"CastLike", "saturate", 19, "1"}, {"DepthToSpace", "mode", 11, "DCR"},
    {"DequantizeLinear", "axis", 13, "1"}, {"DequantizeLinear", "block_size", 21, "0"}, {"Dropout", "seed", 12, "*"}, {"GRU", "layout", 14, "0"}, {"GatherND", "batch_dims", 12, "0"},
    {"GroupNormalization", "stash_type", 21, "1"}, {"LSTM", "layout", 14, "0"}, {"LpPool", "ceil_mode", 18, "0"}, {"LpPool", "dilations", 18, "1.."}, {"MaxPool", "ceil_mode", 10, "0"},
    {"MaxPool", "dilations", 10, "1.."}, {"MaxPool", "storage_order", 8, "0"}, {"QuantizeLinear", "axis", 13, "1"}, {"QuantizeLinear", "block_size", 21, "0"}, {"QuantizeLinear", "saturate", 19, "1"},
    {"RNN", "layout", 14, "0"}, {"ReduceSum", "noop_with_empty_axes", 13, "0"}, {"Reshape", "allowzero", 14, "0"}, {"Resize", "antialias", 18, "0"}, {"Resize", "axes", 18, ""},
    {"Resize", "keep_aspect_ratio_policy", 18, "stretch"}, {"ScatterElements", "reduction", 16, "none"}, {"ScatterND", "reduction", 16, "none"}, {"Shape", "end", 15, ""}, {"Shape", "start", 15, "0"},
    {"TopK", "largest", 11, "1"}, {"TopK", "sorted", 11, "*"},
};
bool says(const Attribute& a, std::string_view what) {
  if (what == "*") return true;
  if (what == "1..") {
    const auto* l = std::get_if<Ints>(&a);
    return l && std::all_of(l->begin(), l->end(), [](std::int64_t v) { return v == 1; });
  }
  if (const auto* i = std::get_if<std::int64_t>(&a)) return fmt::format("{}", *i) == what;
  const auto* s = std::get_if<std::string>(&a);
  return s && *s == what;
}

struct Older : Fresh {
  const int opset;
  std::optional<Graph> types;  // with shapes inferred, as far as that goes
  std::vector<Node> nodes;

  Older(Graph& graph, int to) : Fresh(graph), opset(to) {}

  [[noreturn]] void refuse(const Node& n, std::string why, int from = 0) const {
    Error e = bad_input("{} cannot be written in opset {}: {}", n.op, opset, why).at(g.describe(n));
    if (from) e.fix(fmt::format("write it in opset {} or later", from));
    throw e;
  }
  const std::optional<Dims>& dims(ValueId v) {
    static const std::optional<Dims> absent;
    if (v == kNone) return absent;
    if (!types) {
      types = g;
      types->nodes = all_;
      try {
        infer_shapes(*types);
      } catch (const Error&) {
      }
    }
    return types->values[static_cast<std::size_t>(v)].type.dims;
  }
  std::optional<std::int64_t> rank(ValueId v) {
    const auto& d = dims(v);
    return d ? std::optional(static_cast<std::int64_t>(d->size())) : std::nullopt;
  }
  std::optional<Shape> shape(ValueId v) {
    const auto& d = dims(v);
    if (!d || !all_known(*d)) return std::nullopt;
    Shape s;
    for (const Dim& x : *d) s.push_back(x.n);
    return s;
  }

  Ints ints_of(const Node& n, std::size_t i, std::string_view what, int from) const {
    const Tensor* t = n.in(i) == kNone ? nullptr : g.constant(n.in(i));
    if (!t || is_float(t->dtype())) refuse(n, fmt::format("its {} are not constant", what), from);
    Ints v;
    for (std::int64_t k = 0; k < t->size(); ++k) v.push_back(t->int_at(k));
    return v;
  }
  double number_of(const Node& n, std::size_t i, std::string_view what, int from) const {
    const Tensor* t = g.constant(n.in(i));
    if (!t || t->size() != 1) refuse(n, fmt::format("its {} is no constant number", what), from);
    return t->at(0);
  }
  void to_attribute(Node& n, std::size_t i, std::string_view attr, int from) {
    if (n.in(i) == kNone) return;
    n.attrs[std::string(attr)] = ints_of(n, i, attr, from);
    n.inputs[i] = kNone;
  }
  ValueId ints_constant(const Node& n, std::string_view what, const Ints& v) { return constant(fmt::format("{}_{}", base(n), what), Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v)); }
  bool untrimmed_ = false;  // the node says of its last inputs that they are absent: kept so
  void trim(Node& n) const {
    while (!untrimmed_ && n.inputs.size() > 1 && n.inputs.back() == kNone) n.inputs.pop_back();
  }

  // ---- before opset 11 axes count from the front ----
  void axes_from_front(Node& n) {
    static constexpr std::string_view kOps[] = {"ArgMax", "ArgMin", "Compress", "Concat", "Flatten", "Hardmax", "LogSoftmax", "OneHot", "Softmax", "Split", "Squeeze", "TopK", "Unsqueeze"};
    if (!n.op.starts_with("Reduce") && n.op != "Slice" && std::find(std::begin(kOps), std::end(kOps), n.op) == std::end(kOps)) return;
    const auto add = [&](std::int64_t axis, std::int64_t more) {
      if (axis >= 0) return axis;
      const auto r = rank(n.inputs[0]);
      if (!r) refuse(n, "an axis counts from the end, and the rank is unknown", 11);
      return axis + *r + more;
    };
    if (n.op == "TopK" && !n.has_attr("axis")) return;  // the last one, then as now
    if (const auto it = n.attrs.find("axis"); it != n.attrs.end())
      if (auto* a = std::get_if<std::int64_t>(&it->second)) *a = add(*a, n.op == "OneHot");
    if (const auto it = n.attrs.find("axes"); it != n.attrs.end())
      if (auto* l = std::get_if<Ints>(&it->second)) {
        const auto more = n.op == "Unsqueeze" ? static_cast<std::int64_t>(l->size()) : 0;
        for (std::int64_t& a : *l) a = add(a, more);
      }
  }

  // ---- before opsets 7 and 8 broadcasting was said, or was not there ----
  void old_broadcast(Node& n) {
    static constexpr std::string_view kTwo[] = {"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater"};
    if (std::find(std::begin(kTwo), std::end(kTwo), n.op) == std::end(kTwo)) return;
    const auto a = shape(n.in(0)), b = shape(n.in(1));
    if (!a || !b) refuse(n, "broadcasting depends on shapes that are unknown", 7);
    if (*a == *b) return;
    if (b->size() > a->size() || !std::equal(b->rbegin(), b->rend(), a->rbegin())) {
      if (element_count(*b) != 1 || b->size() > a->size()) refuse(n, fmt::format("{} with {} broadcasts both ways or within axes", to_string(*a), to_string(*b)), 7);
    }
    n.attrs["broadcast"] = std::int64_t{1};
  }

  void resize(Node& n) {
    if (opset >= 13) {
      if (n.attr_string("coordinate_transformation_mode", "half_pixel") == "tf_half_pixel_for_nn") refuse(n, "tf_half_pixel_for_nn exists in opsets 11 and 12 only");
      return;
    }
    const ValueId scales = n.in(2), sizes = n.in(3);
    if (opset >= 11) {
      n.inputs.resize(sizes == kNone ? 3 : 4, kNone);
      for (std::size_t i : {std::size_t{1}, std::size_t{2}})
        if (n.inputs[i] == kNone) n.inputs[i] = constant(base(n) + (i == 1 ? "_roi" : "_scales"), Tensor(DType::f32, {0}));
      return;
    }
    const std::string mode = n.attr_string("mode", "nearest");
    if (scales == kNone || n.in(1) != kNone || n.attr_string("coordinate_transformation_mode", "half_pixel") != "asymmetric" || (mode == "nearest" && n.attr_string("nearest_mode", "round_prefer_floor") != "floor") ||
        (mode != "nearest" && mode != "linear"))
      refuse(n, "before opset 11 coordinates were divided by the scale and rounded down", 11);
    n.attrs = {{"mode", mode}};
    n.inputs = {n.inputs[0], scales};
    if (opset >= 10) return;
    n.op = "Upsample";
    const Tensor* t = g.constant(scales);
    if (t)
      for (std::int64_t i = 0; i < t->size(); ++i)
        if (t->at(i) < 1) refuse(n, "Upsample does not shrink", 10);
    if (opset >= 9) return;
    if (!t) refuse(n, "its scales are not constant", 9);
    std::vector<double> v;
    for (std::int64_t i = 0; i < t->size(); ++i) v.push_back(t->at(i));
    n.attrs["scales"] = v;
    n.inputs.pop_back();
  }

  void pad(Node& n) {
    if (n.attr_string("mode", "constant") == "wrap" && opset < 19) refuse(n, "mode wrap", 19);
    if (opset >= 18) return;
    if (n.in(3) != kNone) {  // every axis, then
      const auto r = rank(n.inputs[0]);
      if (!r) refuse(n, "its axes, with an unknown rank", 18);
      const Ints axes = ints_of(n, 3, "axes", 18), some = ints_of(n, 1, "pads", 18);
      if (some.size() != 2 * axes.size()) refuse(n, fmt::format("{} pads for {} axes", some.size(), axes.size()));
      Ints pads(static_cast<std::size_t>(2 * *r), 0);
      for (std::size_t i = 0; i < axes.size(); ++i) {
        const std::int64_t a = axes[i] < 0 ? axes[i] + *r : axes[i];
        if (a < 0 || a >= *r) refuse(n, fmt::format("axis {}", axes[i]));
        pads[static_cast<std::size_t>(a)] = some[i];
        pads[static_cast<std::size_t>(a + *r)] = some[i + axes.size()];
      }
      n.inputs[1] = ints_constant(n, "pads", pads);
      n.inputs[3] = kNone;
    }
    trim(n);
    if (opset >= 11) return;
    to_attribute(n, 1, "pads", 11);
    if (n.in(2) != kNone) n.attrs["value"] = number_of(n, 2, "value", 11), n.inputs[2] = kNone;
    trim(n);
  }

  void split(Node& n) {
    if (opset >= 18) {
      if (n.in(1) == kNone && !n.has_attr("num_outputs")) n.attrs["num_outputs"] = static_cast<std::int64_t>(n.outputs.size());
      return;
    }
    if (n.has_attr("num_outputs")) {
      const std::int64_t parts = n.attr_int("num_outputs", 1);
      if (parts != static_cast<std::int64_t>(n.outputs.size())) refuse(n, fmt::format("num_outputs is {} with {} outputs", parts, n.outputs.size()));
      n.attrs.erase("num_outputs");
      const auto& d = dims(n.inputs[0]);
      std::int64_t axis = n.attr_int("axis", 0);
      if (d && axis < 0) axis += static_cast<std::int64_t>(d->size());
      if (!d || axis < 0 || axis >= static_cast<std::int64_t>(d->size()) || !(*d)[static_cast<std::size_t>(axis)].known()) refuse(n, "num_outputs, with an unknown extent", 18);
      const std::int64_t extent = (*d)[static_cast<std::size_t>(axis)].n, part = parts > 0 ? (extent + parts - 1) / parts : 0;
      if (parts < 1 || extent - (parts - 1) * part < 0) refuse(n, fmt::format("{} parts of {} elements", parts, extent));
      if (extent % parts != 0) {
        Ints sizes(static_cast<std::size_t>(parts), part);
        sizes.back() = extent - (parts - 1) * part;
        n.inputs.resize(2);
        n.inputs[1] = ints_constant(n, "split", sizes);
      }
    }
    if (opset < 13) to_attribute(n, 1, "split", 13);
  }

  void reduce(Node& n) {
    const bool sum = n.op == "ReduceSum";
    const int input_since = sum ? 13 : 18;
    if (opset < input_since) {
      if (n.in(1) != kNone) {
        if (g.constant(n.in(1)) && g.constant(n.in(1))->size() == 0) n.inputs[1] = kNone;
        else to_attribute(n, 1, "axes", input_since);
      }
      if (!n.has_attr("axes") && n.attr_int("noop_with_empty_axes", 0) != 0) refuse(n, "noop_with_empty_axes", input_since);
      n.attrs.erase("noop_with_empty_axes");
    } else if (n.has_attr("axes")) {
      const Ints axes = n.attr_ints("axes", {});
      n.attrs.erase("axes");
      n.inputs.resize(2);
      n.inputs[1] = ints_constant(n, "axes", axes);
    }
    trim(n);
  }

  void write(Node& n) {
    const auto is = [&](std::string_view op) { return n.op == op; };
    if (is("ScatterElements") && opset < 11 && opset >= 9 && says(n.has_attr("reduction") ? n.attrs.at("reduction") : Attribute(std::string("none")), "none")) {
      n.op = "Scatter";
      n.attrs.erase("reduction");
    }
    const int from = since(n.op);
    if (from > opset) refuse(n, fmt::format("the operator is of opset {}", from), from);
    if (n.inputs.empty() || n.outputs.empty()) return;
    untrimmed_ = n.inputs.back() == kNone;
    if (n.op.starts_with("Reduce")) reduce(n);
    for (const Later& l : kLater)
      if (l.op == n.op && opset < l.opset)
        if (const auto it = n.attrs.find(std::string(l.attr)); it != n.attrs.end()) {
          if (!says(it->second, l.before)) refuse(n, fmt::format("its attribute '{}' is of opset {}", l.attr, l.opset), l.opset);
          n.attrs.erase(it);
        }
    if ((is("Squeeze") || is("Unsqueeze")) && opset < 13) to_attribute(n, 1, "axes", 13), trim(n);
    if (is("Split")) split(n), trim(n);
    if (is("Pad")) pad(n);
    if (is("Resize")) resize(n);
    if (is("Slice") && opset < 10) {
      if (n.in(4) != kNone) {
        const Ints steps = ints_of(n, 4, "steps", 10);
        if (std::any_of(steps.begin(), steps.end(), [](std::int64_t s) { return s != 1; })) refuse(n, "steps", 10);
        n.inputs[4] = kNone;
      }
      to_attribute(n, 3, "axes", 10), to_attribute(n, 1, "starts", 10), to_attribute(n, 2, "ends", 10), trim(n);
    }
    if (is("TopK") && opset < 10) {
      const Ints k = ints_of(n, 1, "K", 10);
      if (k.size() != 1) refuse(n, fmt::format("{} numbers as K", k.size()));
      n.attrs["k"] = k[0];
      n.inputs.resize(1);
    }
    if (is("Clip") && opset < 11) {
      for (std::size_t i : {std::size_t{1}, std::size_t{2}})
        if (n.in(i) != kNone) n.attrs[i == 1 ? "min" : "max"] = number_of(n, i, i == 1 ? "minimum" : "maximum", 11), n.inputs[i] = kNone;
      trim(n);
    }
    if (is("Dropout")) {
      if (opset < 12 && n.in(2) != kNone) {
        if (number_of(n, 2, "training_mode", 12) != 0) refuse(n, "training_mode", 12);
        n.inputs[2] = kNone;
      }
      if (opset < 12 && n.in(1) != kNone) n.attrs["ratio"] = number_of(n, 1, "ratio", 12), n.inputs[1] = kNone;
      if (opset < 7) n.attrs["is_test"] = std::int64_t{1};
      trim(n);
    }
    if (is("BatchNormalization") && opset < 7) n.attrs["is_test"] = std::int64_t{1};
    if (is("Gemm") && opset < 11 && n.in(0) != kNone && n.in(2) == kNone) {
      if (g.values[static_cast<std::size_t>(n.inputs[0])].type.dtype != DType::f32) refuse(n, "it has no bias", 11);
      n.inputs.resize(3);
      n.inputs[2] = constant(base(n) + "_bias", Tensor(DType::f32, {1}));
    }
    if (is("Gemm") && opset < 7) n.attrs["broadcast"] = std::int64_t{1};
    if (is("PRelu") && opset < 7) {
      const Tensor* slope = g.constant(n.in(1));
      if (!slope || slope->size() != 1) refuse(n, "slopes that broadcast", 7);
    }
    if ((is("LSTM") || is("GRU") || is("RNN")) && opset < 7) refuse(n, "its meaning was another", 7);
    if (opset < 7) old_broadcast(n);
    if (opset < 8 && (is("Sum") || is("Max") || is("Min") || is("Mean"))) {
      const auto first = shape(n.inputs[0]);
      for (ValueId v : n.inputs)
        if (!first || shape(v) != first) refuse(n, "its operands broadcast, or their shapes are unknown", 8);
    }
    if (is("MaxPool") && opset < 8 && n.outputs.size() > 1) refuse(n, "its indices", 8);
    if ((is("Softmax") || is("LogSoftmax") || is("Hardmax")) && opset < 13) {
      const std::int64_t axis = n.attr_int("axis", -1);
      const auto r = rank(n.inputs[0]);
      if (axis != -1 && (!r || axis != *r - 1)) refuse(n, "before opset 13 everything from the axis on was normalised together", 13);
      n.attrs["axis"] = std::int64_t{-1};
    }
    if (is("GridSample")) {
      const std::string mode = n.attr_string("mode", "linear");
      if (n.has_attr("mode")) n.attrs["mode"] = opset < 20 ? mode == "linear" ? std::string("bilinear") : mode == "cubic" ? std::string("bicubic") : mode : mode == "bilinear" ? std::string("linear") : mode == "bicubic" ? std::string("cubic") : mode;
      if (const auto d = rank(n.inputs[0]); opset < 20 && d && *d != 4) refuse(n, fmt::format("{} axes", *d), 20);
    }
    if (is("RoiAlign") && opset < 16) {
      if (n.attr_string("coordinate_transformation_mode", "half_pixel") != "output_half_pixel") refuse(n, "coordinates of half pixels", 16);
      n.attrs.erase("coordinate_transformation_mode");
    }
    if (is("DFT")) {
      if (opset < 20 && n.in(2) != kNone) {
        const Ints axis = ints_of(n, 2, "axis", 20);
        if (axis.size() != 1) refuse(n, fmt::format("{} numbers as axis", axis.size()));
        n.attrs["axis"] = axis[0];
        n.inputs[2] = kNone;
        trim(n);
      } else if (opset >= 20 && n.in(2) == kNone) {
        n.inputs.resize(3, kNone);
        n.inputs[2] = constant(base(n) + "_axis", Tensor::scalar(n.attr_int("axis", 1)));
        n.attrs.erase("axis");
      }
    }
    if (is("GroupNormalization") && n.in(1) != kNone) {
      const auto x = dims(n.inputs[0]);
      const auto s = shape(n.inputs[1]);
      const std::int64_t groups = n.attr_int("num_groups", 1);
      if (x && s && x->size() > 1 && (*x)[1].known() && s->size() == 1 && (*x)[1].n != groups && (*s)[0] != (opset < 21 ? groups : (*x)[1].n))
        refuse(n, opset < 21 ? "a scale per channel" : "a scale per group", opset < 21 ? 21 : 0);
    }
    if (opset < 11) axes_from_front(n);
  }

  void run() {
    all_ = g.nodes;
    for (Node& n : g.nodes) {
      for (auto& [key, a] : n.attrs)
        if (auto* sub = std::get_if<GraphPtr>(&a)) {
          try {
            *sub = std::make_shared<const Graph>(to_opset(**sub, opset));
          } catch (Error& e) {
            e.at(g.describe(n) + ": " + e.where());
            throw;
          }
        }
      if (n.domain.empty()) write(n);
    }
    drop_unread(all_);
  }

 private:
  std::vector<Node> all_;
};

// The opset that has the node as it is.
int needed(const Graph& g, const Node& n) {
  int least = since(n.op);
  for (const Later& l : kLater)
    if (l.op == n.op && n.has_attr(l.attr)) least = std::max(least, l.opset);
  if (n.op.starts_with("Reduce") && n.op != "ReduceSum" && (n.in(1) != kNone || n.has_attr("noop_with_empty_axes"))) least = std::max(least, 18);
  if (n.op == "Split" && n.has_attr("num_outputs")) least = std::max(least, 18);
  if (n.op == "Pad" && n.in(3) != kNone) least = std::max(least, 18);
  if (n.op == "Pad" && n.attr_string("mode", "constant") == "wrap") least = std::max(least, 19);
  if (n.op == "DFT" && n.in(2) != kNone) least = std::max(least, 20);
  if (n.op == "GroupNormalization" && n.in(1) != kNone)
    if (const auto& d = g.values[static_cast<std::size_t>(n.in(1))].type.dims; d && d->size() == 1 && (*d)[0].known() && (*d)[0].n != n.attr_int("num_groups", 1)) least = std::max(least, 21);
  return least;
}
int newest_needed(const Graph& g) {
  int most = kOpset;
  for (const Node& n : g.nodes) {
    if (n.domain.empty()) most = std::max(most, needed(g, n));
    for (const auto& [key, a] : n.attrs)
      if (const auto* sub = std::get_if<GraphPtr>(&a)) most = std::max(most, newest_needed(**sub));
  }
  return most;
}

}  // namespace

int least_opset(const Graph& g) { return newest_needed(g); }

Graph to_opset(const Graph& g, int opset) {
  Graph r = g;
  const auto young = [&](const Node& n) -> DecomposeFn {
    const OpDef* op = n.domain.empty() && since(n.op) > opset ? find_op(n.domain, n.op) : nullptr;
    return op ? op->expansion : nullptr;
  };
  if (std::any_of(r.nodes.begin(), r.nodes.end(), [&](const Node& n) { return young(n) != nullptr; })) try {
      infer_shapes(r);  // expansions ask for ranks
    } catch (const Error&) {  // the operator that cannot be understood is named below, or by who reads the file
    }
  // What they expand into may be too young again.
  bool expanded = false;
  for (int round = 0; round < 4 && replace_nodes(r, young); ++round) infer_shapes(r), expanded = true;
  try {
    Older(r, opset).run();
    return r;
  } catch (const Error&) {
    if (!expanded) throw;
  }
  // A part of an expansion is too young: the refusal names the node of the model.
  Graph plain = g;
  Older(plain, opset).run();
  return plain;
}

}  // namespace tandem::ir::onnx_file
