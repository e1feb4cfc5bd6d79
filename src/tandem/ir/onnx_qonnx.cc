// QONNX's and FINN's nodes as ours, or as ONNX's.
#include <algorithm>
#include <cmath>

#include "tandem/ir/onnx_private.h"

namespace tandem::ir::onnx_file {
namespace {

using Ints = std::vector<std::int64_t>;

struct Rewriter : Fresh {
  using Fresh::Fresh;
  std::vector<Node> nodes;
  std::vector<std::size_t> readers;  // nodes that read a value
  std::unordered_map<ValueId, std::size_t> maker;            // of a value, in `nodes`
  std::unordered_map<ValueId, ValueId> sorted_, first_;      // constants that were rewritten: once, however many nodes read them

  void keep(Node n) {
    for (ValueId v : n.outputs) maker[v] = nodes.size();
    nodes.push_back(std::move(n));
  }

  const Value& at(ValueId v) const { return g.values[static_cast<std::size_t>(v)]; }
  // A node between the parts of n: the value it makes.
  ValueId step(const Node& n, const char* op, std::vector<ValueId> in, const char* suffix, std::map<std::string, Attribute> attrs = {}, const char* domain = "") {
    const ValueId out = value(base(n) + suffix, at(n.outputs[0]).type.dtype);
    last(n, op, std::move(in), out, suffix, std::move(attrs), domain);
    return out;
  }
  void last(const Node& n, const char* op, std::vector<ValueId> in, ValueId out, const char* suffix, std::map<std::string, Attribute> attrs = {}, const char* domain = "") {
    Node p = part(n, op, std::move(in), out, suffix, std::move(attrs));
    p.domain = domain;
    keep(std::move(p));
  }
  ValueId real(const Node& n, const char* suffix, double v) { return constant(base(n) + suffix, Tensor::scalar(static_cast<float>(v))); }

  static Ints to_first(std::size_t rank) {  // N ... C to N C ...
    Ints p{0, static_cast<std::int64_t>(rank) - 1};
    for (std::size_t i = 1; i + 1 < rank; ++i) p.push_back(static_cast<std::int64_t>(i));
    return p;
  }
  static Ints to_last(std::size_t rank) {
    Ints p{0};
    for (std::size_t i = 2; i < rank; ++i) p.push_back(static_cast<std::int64_t>(i));
    p.push_back(1);
    return p;
  }

  // ---- MultiThreshold ----
  // y = scale * (number of steps at or below x) + bias. Rows of steps are sorted, which leaves the number as it is.
  void thresholds(const Node& n, ValueId x, ValueId steps, double scale, double bias, bool channels_last, std::size_t rank) {
    if (const Tensor* t = g.constant(steps); t && t->rank() == 2 && t->dtype() == DType::f32) {
      const std::int64_t rows = t->shape()[0], n_steps = t->shape()[1];
      bool ascending = true;
      for (std::int64_t r = 0; r < rows; ++r) ascending &= std::is_sorted(t->data<float>() + r * n_steps, t->data<float>() + (r + 1) * n_steps);
      if (const auto it = sorted_.find(steps); it != sorted_.end()) {
        steps = it->second;
      } else if (!ascending) {
        Tensor sorted = *t;
        for (std::int64_t i = 0; i < t->size(); ++i)
          if (std::isnan(t->at(i))) throw bad_input("a threshold is NaN").at(g.describe(n));
        float* p = sorted.data<float>();
        for (std::int64_t r = 0; r < rows; ++r) std::sort(p + r * n_steps, p + (r + 1) * n_steps);
        const ValueId as_read = steps;
        steps = sorted_[as_read] = constant(at(as_read).name + "_sorted", sorted);
      }
      channels_last &= rows != 1;
    }
    channels_last &= rank != 2;
    if (channels_last) x = step(n, "Transpose", {x}, "_first", {{"perm", to_first(rank)}});
    const double base_code = scale > 0 ? bias / scale : 0.5;
    const bool plain = scale > 0 && base_code == std::floor(base_code) && std::abs(base_code) <= 1e9;
    std::map<std::string, Attribute> attrs{{"scale", scale > 0 ? scale : 1.0}, {"base", plain ? static_cast<std::int64_t>(base_code) : std::int64_t{0}}};
    const bool factor = !plain && !(scale > 0), offset = !plain && bias != 0;
    const auto more = [&](bool after) { return after || channels_last; };
    // The parts in order, the last of which writes the output of n.
    ValueId v = x;
    const auto add = [&](const char* op, std::vector<ValueId> in, const char* suffix, bool after, std::map<std::string, Attribute> a, const char* domain) {
      if (after) return step(n, op, std::move(in), suffix, std::move(a), domain);
      last(n, op, std::move(in), n.outputs[0], suffix, std::move(a), domain);
      return n.outputs[0];
    };
    v = add("Threshold", {x, steps}, more(factor || offset) ? "_count" : "", more(factor || offset), attrs, "tandem");
    if (factor) v = add("Mul", {v, real(n, "_scale", scale)}, "_scaled", more(offset), {}, "");
    if (offset) v = add("Add", {v, real(n, "_bias", bias)}, "_biased", more(false), {}, "");
    if (channels_last) last(n, "Transpose", {v}, n.outputs[0], "_last", {{"perm", to_last(rank)}});
  }
  bool multi_threshold(const Node& n) {
    if (n.inputs.size() != 2 || n.in(0) == kNone || n.in(1) == kNone) return false;
    for (const auto& [k, a] : n.attrs)
      if (k != "out_scale" && k != "out_bias" && k != "data_layout" && k != "out_dtype") throw bad_input("unknown attribute '{}'", k).at(g.describe(n)).expected("out_dtype, out_scale, out_bias, data_layout");
    const std::string layout = n.attr_string("data_layout", "NCHW");
    if (layout.empty() || layout.size() > 8) throw bad_input("the layout '{}'", printable(layout)).at(g.describe(n)).expected("NCHW, NHWC, NC, ...");
    thresholds(n, n.inputs[0], n.inputs[1], n.attr_float("out_scale", 1), n.attr_float("out_bias", 0), layout.back() == 'C' && layout.size() > 2, layout.size());
    return true;
  }

  // ---- channels last ----
  // Weights behind a quantiser of a constant are transposed where they are stored: the quantiser stays next to the convolution.
  ValueId weights_first(const Node& n, ValueId w, std::size_t rank) {
    const Ints perm = to_first(rank);
    const auto full = [&](ValueId v) { return v != kNone && g.constant(v) && g.constant(v)->shape().size() == rank; };
    const auto single = [&](ValueId v) { return v != kNone && g.constant(v) && g.constant(v)->size() == 1; };
    const auto stored = [&](ValueId v) {
      const auto it = first_.find(v);
      if (it != first_.end()) return it->second;
      return first_[v] = constant(at(v).name + "_first", transposed(*g.constant(v), perm));
    };
    if (full(w)) return stored(w);
    if (const auto it = maker.find(w); it != maker.end() && static_cast<std::size_t>(w) < readers.size() && readers[static_cast<std::size_t>(w)] == 1) {
      Node& q = nodes[it->second];
      if (q.domain == kQonnx && full(q.in(0)) && std::all_of(q.inputs.begin(), q.inputs.end(), [&](ValueId v) { return full(v) || single(v); })) {
        for (ValueId& v : q.inputs)
          if (full(v)) v = stored(v);
        g.values[static_cast<std::size_t>(w)].type.dims.reset();
        return w;
      }
    }
    return step(n, "Transpose", {w}, "_weights", {{"perm", perm}});
  }
  static Tensor transposed(const Tensor& t, const Ints& perm) {
    Shape s;
    for (std::int64_t p : perm) s.push_back(t.shape()[static_cast<std::size_t>(p)]);
    Tensor y(t.dtype(), s);
    const std::vector<std::int64_t> from = row_major_strides(t.shape());
    const std::size_t size = size_of(t.dtype());
    Shape at(s.size(), 0);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      std::int64_t k = 0;
      for (std::size_t d = 0; d < s.size(); ++d) k += at[d] * from[static_cast<std::size_t>(perm[d])];
      std::copy_n(static_cast<const char*>(t.raw()) + static_cast<std::size_t>(k) * size, size, static_cast<char*>(y.raw_mutable()) + static_cast<std::size_t>(i) * size);
      for (std::size_t d = s.size(); d-- > 0;) {
        if (++at[d] < s[d]) break;
        at[d] = 0;
      }
    }
    return y;
  }
  bool channels_last(const Node& n, const char* op) {
    if (n.in(0) == kNone || n.outputs.size() != 1) return false;
    std::size_t rank = n.attr_ints("kernel_shape", {}).size() + 2;
    if (!n.has_attr("kernel_shape")) {  // from what is known of the input, or of the weights
      const Tensor* w = std::string_view(op) == "Conv" && n.in(1) != kNone ? g.constant(n.in(1)) : nullptr;
      const auto& d = at(n.in(0)).type.dims;
      if (!w && !d) return false;
      rank = w ? w->shape().size() : d->size();
    }
    if (rank < 3 || rank > 5) throw bad_input("{} with channels last and {} axes", op, rank).at(g.describe(n)).expected("3 to 5");
    std::vector<ValueId> in = n.inputs;
    in[0] = step(n, "Transpose", {in[0]}, "_first", {{"perm", to_first(rank)}});
    if (std::string_view(op) == "Conv" && n.in(1) != kNone) in[1] = weights_first(n, in[1], rank);
    const ValueId y = value(base(n) + "_channels", at(n.outputs[0]).type.dtype);
    last(n, op, in, y, "", n.attrs);
    last(n, "Transpose", {y}, n.outputs[0], "_last", {{"perm", to_last(rank)}});
    return true;
  }

  // ---- FINN's layers ----
  ValueId xnor(const Node& n, ValueId a, ValueId b, std::int64_t k, ValueId out) {
    const auto bipolar = [&](ValueId v, const char* twice, const char* less) { return step(n, "Sub", {step(n, "Mul", {v, real(n, "_two", 2)}, twice), real(n, "_one", 1)}, less); };
    const ValueId p = bipolar(a, "_twice_a", "_bipolar_a"), q = bipolar(b, "_twice_b", "_bipolar_b");
    const ValueId s = step(n, "Add", {step(n, "MatMul", {p, q}, "_product"), real(n, "_terms", static_cast<double>(k))}, "_sum");
    last(n, "Mul", {s, real(n, "_half", 0.5)}, out, "_matches");
    return out;
  }
  bool matrix_vector(const Node& n) {
    const Tensor* w = n.in(1) == kNone ? nullptr : g.constant(n.in(1));
    if (n.in(0) == kNone || !w || w->rank() != 2) throw bad_input("{} without constant weights", n.op).at(g.describe(n)).expected("a matrix of weights as initialiser");
    const bool steps = n.inputs.size() > 2 && n.in(2) != kNone && n.attr_int("noActivation", 0) == 0;
    const bool binary = n.attr_int("binaryXnorMode", 0) != 0;
    const ValueId product = steps ? value(base(n) + "_matmul") : n.outputs[0];
    if (binary) xnor(n, n.inputs[0], n.inputs[1], w->shape()[0], product);
    else last(n, "MatMul", {n.inputs[0], n.inputs[1]}, product, "_matmul");
    if (!steps) return true;
    const bool bipolar = n.attr_string("outputDataType", "") == "BIPOLAR";
    const auto& x = at(n.inputs[0]).type.dims;
    const std::size_t rank = x ? x->size() : n.attr_ints("numInputVectors", {1}).size() + 1;
    thresholds(n, product, n.inputs[2], bipolar ? 2 : 1, bipolar ? -1 : n.attr_float("ActVal", 0), rank > 2, rank);
    return true;
  }
  bool thresholding(const Node& n) {
    if (n.in(0) == kNone || n.in(1) == kNone) return false;
    const bool bipolar = n.attr_string("outputDataType", "") == "BIPOLAR";
    const auto& x = at(n.inputs[0]).type.dims;
    const std::size_t rank = x ? x->size() : n.attr_ints("numInputVectors", {1}).size() + 1;
    thresholds(n, n.inputs[0], n.inputs[1], bipolar ? 2 : 1, bipolar ? -1 : n.attr_float("ActVal", 0), rank > 2, rank);
    return true;
  }

  bool rewrite(Node& n) {
    const std::string_view d = n.domain;
    if (d == "onnx.brevitas" || d == "finn.custom_op.general" || d == "finn.dialect.general" || d == "finn") n.domain = kQonnx;
    if (n.outputs.empty()) return false;
    if (n.domain == kQonnx) {
      if (n.op == "IntQuant") n.op = "Quant";
      if (n.op == "Quant" || n.op == "BipolarQuant" || n.op == "FloatQuant" || n.op == "Trunc")
        if (const auto it = n.attrs.find("rounding_mode"); it != n.attrs.end())
          if (auto* s = std::get_if<std::string>(&it->second)) std::transform(s->begin(), s->end(), s->begin(), [](unsigned char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : static_cast<char>(c); });
      if (n.op == "MultiThreshold") return multi_threshold(n);
      if (n.op == "MaxPoolNHWC") return channels_last(n, "MaxPool");
      if (n.op == "XnorPopcountMatMul") {
        const Tensor* w = n.in(1) == kNone ? nullptr : g.constant(n.in(1));
        if (n.in(0) == kNone || !w || w->rank() != 2) return false;
        xnor(n, n.inputs[0], n.inputs[1], w->shape()[0], n.outputs[0]);
        return true;
      }
      if (n.op == "DebugMarker" && n.in(0) != kNone) {
        last(n, "Identity", {n.inputs[0]}, n.outputs[0], "");
        return true;
      }
      return false;
    }
    if (d == "qonnx.custom_op.channels_last" || d == "finn.custom_op.channels_last")
      for (const char* op : {"Conv", "MaxPool", "BatchNormalization"})
        if (n.op == op) return channels_last(n, op);
    if (d.substr(0, 27) == "finn.custom_op.fpgadataflow") {
      std::string op = n.op;
      for (const char* suffix : {"_hls", "_rtl", "_Batch"})
        if (op.size() > std::string_view(suffix).size() && op.ends_with(suffix)) op.resize(op.size() - std::string_view(suffix).size());
      if (op == "MVAU" || op == "MatrixVectorActivation" || op == "StreamingFCLayer") return matrix_vector(n);
      if (op == "Thresholding") return thresholding(n);
      if ((op == "StreamingFIFO" || op == "StreamingDataWidthConverter") && n.in(0) != kNone) {
        last(n, "Identity", {n.inputs[0]}, n.outputs[0], "");
        return true;
      }
      if (op == "AddStreams" && n.in(0) != kNone && n.in(1) != kNone) {
        last(n, "Add", {n.inputs[0], n.inputs[1]}, n.outputs[0], "");
        return true;
      }
    }
    return false;
  }
};

}  // namespace

void from_qonnx(Graph& g) {
  if (std::all_of(g.nodes.begin(), g.nodes.end(), [](const Node& n) { return n.domain.empty(); })) return;
  Rewriter r(g);
  r.readers.assign(g.values.size(), 0);
  for (const Node& n : g.nodes)
    for (ValueId v : n.inputs)
      if (v != kNone) ++r.readers[static_cast<std::size_t>(v)];
  for (ValueId v : g.outputs) ++r.readers[static_cast<std::size_t>(v)];
  std::vector<Node> before = std::move(g.nodes);
  for (Node& n : before)
    if (!r.rewrite(n)) r.keep(std::move(n));
  g.nodes = std::move(r.nodes);
}

}  // namespace tandem::ir::onnx_file
