#include "tandem/ir/post_training.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "tandem/ir/arrays.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

std::size_t ix(ValueId v) { return static_cast<std::size_t>(v); }
const char* const kDomain = "qonnx.custom_op.general";

// Operators whose results are elements of their first operand: a quantiser in front serves behind.
bool hands_on(const Node& n) {
  static const std::set<std::string> ops{"MaxPool", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Gather", "Identity", "Dropout"};
  return n.domain.empty() && ops.count(n.op) != 0;
}

class Planner {
 public:
  Planner(QuantPlan& p, bool by_table) : p_(p), g_(p.graph), uses_(g_), by_table_(by_table) {}

  void run() {
    for (ValueId v : g_.inputs)
      if (floats(v) && !uses_.users[ix(v)].empty()) point(v);
    for (std::size_t i = 0; i < g_.nodes.size(); ++i) {
      const Node& n = g_.nodes[i];
      const Closure c = op_of(g_, n).closure;
      if (c == Closure::linear) {
        bool weights = false;
        for (std::size_t k = 0; k < 2; ++k) {
          if (!g_.constant(n.in(k))) source(n.in(k));
          else weights = true;
        }
        if (weights) p_.contractions.push_back(static_cast<int>(i));
      } else if (c == Closure::join || n.op == "Concat") {
        std::vector<ValueId> varying;
        for (ValueId v : n.inputs)
          if (v != kNone && !g_.constant(v) && floats(v)) varying.push_back(v);
        if (varying.size() < 2) continue;
        std::vector<int> met;
        for (ValueId v : varying)
          for (int k : source(v)) met.push_back(k);
        if (n.op == "Add" || n.op == "Sub" || n.op == "Concat")
          for (int k : met) unite(met[0], k);
      } else if (c == Closure::pool && n.op != "MaxPool") {
        source(n.in(0));
      } else if ((n.op == "Pow" || (by_table_ && n.domain.empty() && (n.op == "Softmax" || n.op == "LayerNormalization"))) && !g_.constant(n.in(0))) {
        source(n.in(0));
      }
    }
    for (std::size_t k = 0; k < parent_.size(); ++k) p_.points[k].group = root(static_cast<int>(k));
    order();
  }

 private:
  bool floats(ValueId v) const { return g_.values[ix(v)].type.dtype == DType::f32; }

  int point(ValueId v) {
    for (std::size_t k = 0; k < p_.points.size(); ++k)
      if (p_.points[k].value == v) return static_cast<int>(k);
    QuantPoint q;
    q.value = v;
    const int p = uses_.producer[ix(v)];
    q.input = p < 0;
    q.layer = q.input || g_.nodes[static_cast<std::size_t>(p)].name.empty() ? g_.values[ix(v)].name : g_.nodes[static_cast<std::size_t>(p)].name;
    q.non_negative = !q.input && non_negative(v);
    p_.points.push_back(q);
    parent_.push_back(static_cast<int>(parent_.size()));
    return parent_.back();
  }

  // The points from which v's elements come.
  std::vector<int> source(ValueId v) {
    if (v == kNone || g_.constant(v) || !floats(v)) return {};
    const int p = uses_.producer[ix(v)];
    if (p >= 0) {
      const Node& n = g_.nodes[static_cast<std::size_t>(p)];
      if (hands_on(n)) return source(n.in(0));
      if (n.domain.empty() && n.op == "Concat") {
        std::vector<int> all;
        for (ValueId in : n.inputs)
          for (int k : source(in)) all.push_back(k);
        return all;
      }
    }
    return {point(v)};
  }

  bool non_negative(ValueId v) const {
    if (const Tensor* t = g_.constant(v)) {
      for (std::int64_t i = 0; i < t->size(); ++i)
        if (!(t->at(i) >= 0)) return false;
      return true;
    }
    const int p = uses_.producer[ix(v)];
    if (p < 0) return false;
    const Node& n = g_.nodes[static_cast<std::size_t>(p)];
    if (!n.domain.empty()) return false;
    if (n.op == "Relu" || n.op == "Softmax") return true;
    if (n.op == "Clip") {
      const Tensor* lo = g_.constant(n.in(1));
      return lo && lo->size() == 1 && lo->at(0) >= 0;
    }
    if (hands_on(n) || n.op == "AveragePool" || n.op == "GlobalAveragePool") return non_negative(n.in(0));
    if (n.op == "Add" || n.op == "Concat" || n.op == "Mul") return std::all_of(n.inputs.begin(), n.inputs.end(), [&](ValueId in) { return non_negative(in); });
    return false;
  }

  int root(int k) const {
    while (parent_[static_cast<std::size_t>(k)] != k) k = parent_[static_cast<std::size_t>(k)];
    return k;
  }
  void unite(int a, int b) {
    a = root(a);
    b = root(b);
    parent_[static_cast<std::size_t>(std::max(a, b))] = std::min(a, b);
  }

  // Inputs first, then as the nodes stand; groups are numbered in that order.
  void order() {
    auto place = [&](const QuantPoint& q) { return q.input ? -1 : uses_.producer[ix(q.value)]; };
    std::stable_sort(p_.points.begin(), p_.points.end(), [&](const QuantPoint& a, const QuantPoint& b) { return place(a) < place(b); });
    std::vector<int> number(p_.points.size(), -1);
    int next = 0;
    for (QuantPoint& q : p_.points) {
      int& k = number[static_cast<std::size_t>(q.group)];
      if (k < 0) k = next++;
      q.group = k;
    }
  }

  QuantPlan& p_;
  const Graph& g_;
  UseMap uses_;
  bool by_table_;
  std::vector<int> parent_;
};

// Up to 12 significant bits, never below s.
float scale_of(double s) {
  if (!(s > 1e-30)) return 1;  // a value that is always 0
  int e = 0;
  const double m = std::frexp(s, &e);
  return static_cast<float>(std::ldexp(std::ceil(std::ldexp(m, 12)), e - 12));
}

struct Codes {
  double lo = 0, hi = 0;  // least and largest code
};
Codes codes_of(int bits, bool is_signed, bool narrow) {
  if (is_signed) return {narrow ? 1 - std::ldexp(1, bits - 1) : -std::ldexp(1, bits - 1), std::ldexp(1, bits - 1) - 1};
  return {0, std::ldexp(1, bits) - 1 - narrow};
}

bool fixed_point(const Format& f) { return f.scale.source == ScaleSpec::Source::fixed || f.elem.fraction_bits != 0 || f.scale.encoding == ScaleSpec::Encoding::one; }

struct PointFormat {
  float scale = 1;
  double zero = 0;
  bool is_signed = true, narrow = false;
  int bits = 8;
  std::string text() const { return fmt::format("{}int{}{}", is_signed ? "" : "u", bits, zero != 0 ? fmt::format(", zero {}", zero) : ""); }
};

class Rewriter {
 public:
  Rewriter(const QuantPlan& p, const std::vector<ValueRange>& r, const PostTraining& how) : plan_(p), ranges_(r), how_(how), g_(p.graph) {}

  Quantised run() {
    formats();
    const UseMap uses(g_);
    std::vector<ValueId> quantised(plan_.points.size());
    for (std::size_t k = 0; k < plan_.points.size(); ++k) {
      const QuantPoint& q = plan_.points[k];
      const PointFormat& f = format_[k];
      const auto [y, name] = quant(q.value, {}, {f.scale}, f.zero, f.bits, f.is_signed, f.narrow, q.layer);
      for (int u : uses.users[ix(q.value)])
        for (ValueId& in : g_.nodes[static_cast<std::size_t>(u)].inputs)
          if (in == q.value) in = y;
      for (ValueId& out : g_.outputs)
        if (out == q.value) out = y;
      const Codes c = codes_of(f.bits, f.is_signed, f.narrow);
      const double s = f.scale;
      result_.points.push_back({q.layer, fixed_point(how_.activations) ? how_.activations.text() : f.text(), name, s, s * (c.lo - f.zero), s * (c.hi - f.zero)});
    }
    for (int i : plan_.contractions) weights(static_cast<std::size_t>(i), uses);
    sort_nodes(g_);
    remove_dead(g_);
    compact_values(g_);
    infer_shapes(g_);
    result_.graph = std::move(g_);
    return std::move(result_);
  }

 private:
  void formats() {
    const Format& a = how_.activations;
    const int bits = a.elem.bits;
    std::vector<double> need(plan_.points.size(), 0), least(plan_.points.size(), 0), most(plan_.points.size(), 0);
    format_.resize(plan_.points.size());
    for (std::size_t k = 0; k < plan_.points.size(); ++k) {
      const QuantPoint& q = plan_.points[k];
      const ValueRange& r = ranges_[k];
      PointFormat& f = format_[k];
      f.bits = bits;
      f.narrow = a.elem.narrow;
      f.is_signed = fixed_point(a) ? a.elem.is_signed : a.elem.is_signed && !(q.non_negative || (q.input && r.lo >= 0));
      const Codes c = codes_of(bits, f.is_signed, f.narrow);
      const std::size_t g = static_cast<std::size_t>(q.group);
      need[g] = std::max({need[g], r.hi / c.hi, f.is_signed ? -r.lo / c.hi : 0});
      least[g] = std::min(least[g], r.lo);
      most[g] = std::max(most[g], r.hi);
    }
    for (std::size_t k = 0; k < plan_.points.size(); ++k) {
      PointFormat& f = format_[k];
      const std::size_t g = static_cast<std::size_t>(plan_.points[k].group);
      const Codes c = codes_of(bits, f.is_signed, f.narrow);
      if (fixed_point(a)) {
        f.scale = static_cast<float>(std::ldexp(1, -a.elem.fraction_bits));
      } else if (a.elem.is_signed) {
        f.scale = scale_of(need[g]);
      } else {  // affine: 0 is a code, and the scale grows until both ends have one
        double s = (most[g] - least[g]) / c.hi;
        f.scale = scale_of(s);
        f.zero = std::round(-least[g] / f.scale);
        while ((c.hi - f.zero) * f.scale < most[g] || f.zero * f.scale < -least[g]) {
          f.scale = scale_of(f.scale * (1 + std::ldexp(1, -11)));
          f.zero = std::min(std::ceil(-least[g] / f.scale), c.hi);
        }
      }
    }
  }

  std::pair<ValueId, std::string> quant(ValueId x, const Shape& shape, const std::vector<float>& scales, double zero, int bits, bool is_signed, bool narrow, const std::string& base) {
    const ValueId s = g_.add_constant(g_.unique_name(base + "_scale"), Tensor::of<float>(shape, scales));
    const ValueId z = g_.add_constant(g_.unique_name(base + "_zero"), Tensor::scalar(static_cast<float>(zero)));
    const ValueId b = g_.add_constant(g_.unique_name(base + "_bits"), Tensor::scalar(static_cast<float>(bits)));
    const std::string name = g_.unique_name(base + "_quant");
    const ValueId y = g_.add_node("Quant", {x, s, z, b}, {{"signed", std::int64_t{is_signed}}, {"narrow", std::int64_t{narrow}}, {"rounding_mode", std::string("ROUND")}}, name, kDomain);
    return {y, g_.nodes.back().name};
  }

  void weights(std::size_t node, const UseMap& uses) {
    const Node n = g_.nodes[node];
    const std::size_t operand = g_.constant(n.in(1)) ? 1 : 0;
    const Tensor w = *g_.constant(n.in(operand));
    const Format& f = how_.weights;
    const std::int64_t rank = w.rank();
    std::int64_t axis = n.op == "Conv" ? 0 : operand == 0 ? std::max<std::int64_t>(rank - 2, 0) : rank - 1;
    if (n.op == "Gemm") axis = (operand == 0) != (n.attr_int(operand == 0 ? "transA" : "transB", 0) != 0) ? 0 : 1;
    const bool per_channel = how_.per_channel && rank >= 2 && !fixed_point(f);
    Shape shape;
    if (per_channel) {
      shape.assign(static_cast<std::size_t>(rank), 1);
      shape[static_cast<std::size_t>(axis)] = w.shape()[static_cast<std::size_t>(axis)];
    }
    const std::int64_t channels = element_count(shape);
    std::int64_t inner = 1;
    for (std::int64_t d = axis + 1; d < rank; ++d) inner *= w.shape()[static_cast<std::size_t>(d)];
    const bool narrow = !fixed_point(f) || f.elem.narrow;
    const Codes c = codes_of(f.elem.bits, true, narrow);
    std::vector<double> peak(static_cast<std::size_t>(channels), 0);
    for (std::int64_t i = 0; i < w.size(); ++i) {
      double& p = peak[static_cast<std::size_t>(per_channel ? i / inner % channels : 0)];
      p = std::max(p, std::abs(w.at(i)));
    }
    std::vector<float> scales;
    for (double p : peak) scales.push_back(fixed_point(f) ? static_cast<float>(std::ldexp(1, -f.elem.fraction_bits)) : scale_of(p / c.hi));
    const std::string base = n.name.empty() ? g_.values[ix(n.in(operand))].name : n.name + "_weight";
    const auto [y, name] = quant(n.in(operand), shape, scales, 0, f.elem.bits, true, narrow, base);
    g_.nodes[node].inputs[operand] = y;
    const double s = *std::max_element(scales.begin(), scales.end());
    result_.weights.push_back({n.name.empty() ? g_.values[ix(n.outputs[0])].name : n.name, fixed_point(f) ? f.text() : fmt::format("int{}", f.elem.bits), name, s, s * c.lo, s * c.hi});
    if (operand == 1) bias(node, scales, uses);
  }

  // The scale with which the data operand arrives: that of the points from which its elements come.
  float data_scale(ValueId v) const {
    const UseMap uses(plan_.graph);
    for (;;) {
      for (std::size_t k = 0; k < plan_.points.size(); ++k)
        if (plan_.points[k].value == v) return format_[k].scale;
      const int p = v == kNone ? -1 : uses.producer[ix(v)];
      if (p < 0) return 0;
      v = plan_.graph.nodes[static_cast<std::size_t>(p)].in(0);
    }
  }

  // A constant added to the sums of `node`: rounded to their grid.
  void bias(std::size_t node, const std::vector<float>& scales, const UseMap& uses) {
    const Node n = g_.nodes[node];
    const float x = data_scale(plan_.graph.nodes[node].in(0));
    if (x == 0) return;
    std::size_t at = node, operand = 2;
    if (!g_.constant(n.in(2))) {
      if (n.in(2) != kNone || uses.users[ix(n.outputs[0])].size() != 1) return;
      at = static_cast<std::size_t>(uses.users[ix(n.outputs[0])][0]);
      const Node& a = g_.nodes[at];
      if (a.op != "Add" || !a.domain.empty()) return;
      operand = a.in(0) == n.outputs[0] ? 1 : 0;
      if (!g_.constant(a.in(operand))) return;
    }
    if (n.op == "Gemm" && (n.attr_float("alpha", 1) != 1 || n.attr_float("beta", 1) != 1)) return;
    const ValueId b = g_.nodes[at].in(operand);
    const Tensor& t = *g_.constant(b);
    if (t.dtype() != DType::f32) return;
    Shape shape;
    if (scales.size() > 1) {  // one grid per channel: the bias must have that axis
      const auto& dims = g_.values[ix(n.outputs[0])].type.dims;
      if (!dims) return;
      const std::int64_t rank = std::ssize(*dims), axis = n.op == "Conv" ? (at == node ? 0 : 1 - (rank - t.rank())) : t.rank() - 1;
      if (axis < 0 || axis >= t.rank() || t.shape()[static_cast<std::size_t>(axis)] != std::ssize(scales)) return;
      shape.assign(static_cast<std::size_t>(t.rank()), 1);
      shape[static_cast<std::size_t>(axis)] = std::ssize(scales);
    }
    std::vector<float> grid;
    double least = std::numeric_limits<double>::infinity(), most = 0;
    for (float s : scales) {
      grid.push_back(x * s);
      least = std::min(least, static_cast<double>(grid.back()));
    }
    for (std::int64_t i = 0; i < t.size(); ++i) most = std::max(most, std::abs(t.at(i)));
    if (!(least > 1e-37) || most / least > 2147483646.0) return;  // 32 bits do not reach it: an exact offset of the sums instead
    const std::string base = (n.name.empty() ? g_.values[ix(n.outputs[0])].name : n.name) + "_bias";
    g_.nodes[at].inputs[operand] = quant(b, shape, grid, 0, 32, true, false, base).first;
  }

  const QuantPlan& plan_;
  const std::vector<ValueRange>& ranges_;
  const PostTraining& how_;
  Graph g_;
  std::vector<PointFormat> format_;
  Quantised result_;
};

}  // namespace

Format post_training_format(std::string_view text, std::string_view option) {
  const Format f = Format::parse(text);
  const bool integer = f.elem.kind == Element::Kind::integer;
  const char* const expected = "intN, uintN or fixed<W,I> of 2 to 16 bits, for example int8";
  if (!integer || f.elem.bits < 2 || f.elem.bits > 16 || (fixed_point(f) && !f.elem.is_signed))
    throw bad_input("{} {}: this format has no post-training quantisation", option, printable(std::string(text))).expected(expected);
  return f;
}

QuantPlan plan_quantisation(const Graph& g, bool by_table) {
  verify(g);
  QuantPlan p;
  p.graph = g;
  infer_shapes(p.graph);
  for (const Node& n : p.graph.nodes)  // before folding: a quantiser of a constant counts too
    if (op_of(p.graph, n).closure == Closure::quantiser)
      throw bad_input("the model is quantised already: {}", p.graph.describe(n)).expected("a model in float").fix("`tandem build` and `tandem eval` take it as it is");
  fold_constants(p.graph);
  remove_dead(p.graph);
  sort_nodes(p.graph);
  for (ValueId v : p.graph.inputs) {
    const Value& x = p.graph.values[ix(v)];
    if (is_float(x.type.dtype) && x.type.dtype != DType::f32)
      throw bad_input("input '{}' is {}", printable(x.name), to_string(x.type.dtype)).expected("a model in f32");
  }
  Planner(p, by_table).run();
  if (p.contractions.empty()) throw bad_input("there is nothing to quantise: no Conv, MatMul or Gemm has constant weights");
  for (int i : p.contractions) {
    const Node& n = p.graph.nodes[static_cast<std::size_t>(i)];
    const Tensor& w = *p.graph.constant(p.graph.constant(n.in(1)) ? n.in(1) : n.in(0));
    if (w.dtype() != DType::f32) throw bad_input("the weights are {}", to_string(w.dtype())).at(p.graph.describe(n)).expected("f32");
    if (w.rank() < 1) throw bad_input("a weight without axes cannot be quantised").at(p.graph.describe(n));
    for (std::int64_t k = 0; k < w.size(); ++k)
      if (!std::isfinite(w.at(k))) throw bad_input("weight {} is {}", k, w.at(k)).at(p.graph.describe(n)).expected("finite weights");
  }
  return p;
}

Quantised quantise(const QuantPlan& plan, const std::vector<ValueRange>& ranges, const PostTraining& how) {
  TANDEM_CHECK(ranges.size() == plan.points.size(), "{} ranges for {} points", ranges.size(), plan.points.size());
  return Rewriter(plan, ranges, how).run();
}

}  // namespace tandem::ir
