#include "tandem/ir/streamline.h"

#include <cmath>

#include "tandem/ir/ops/by_table.h"
#include "tandem/ir/ops/common.h"

namespace tandem::ir {
namespace {

using Ints = std::vector<std::int64_t>;
constexpr std::int64_t kExactInFloat = std::int64_t{1} << 24;

// ---- folding ------------------------------------------------------------------------------------
// The factor and offset of each channel, where n is an inference BatchNormalization of constants.
bool normalisation(const Graph& g, const Node& n, std::vector<float>& a, std::vector<double>& b) {
  if (!n.domain.empty() || n.op != "BatchNormalization" || n.inputs.size() != 5 || n.attr_int("training_mode", 0) || n.outputs.size() != 1) return false;
  const Tensor* p[4];
  for (std::size_t i = 0; i < 4; ++i) {
    p[i] = n.in(i + 1) == kNone ? nullptr : g.constant(n.in(i + 1));
    if (!p[i] || p[i]->dtype() != DType::f32 || p[i]->size() != p[0]->size()) return false;
  }
  for (std::int64_t c = 0; c < p[0]->size(); ++c) {
    a.push_back(batchnorm_factor(static_cast<float>(p[0]->at(c)), static_cast<float>(p[3]->at(c)), static_cast<float>(n.attr_float("epsilon", 1e-5))));
    b.push_back(p[1]->at(c) - static_cast<double>(a.back()) * p[2]->at(c));
  }
  return true;
}

}  // namespace

Graph folded(const Graph& graph, FoldStats* stats) {
  FoldStats s;
  Graph g = graph;
  sort_nodes(g);
  infer_shapes(g);
  fold_constants(g);
  remove_dead(g);
  s.constants = static_cast<int>(graph.nodes.size()) - static_cast<int>(g.nodes.size());
  const UseMap uses(g);
  std::vector<bool> gone(g.nodes.size());
  for (std::size_t k = 0; k < g.nodes.size(); ++k) {
    const Node bn = g.nodes[k];
    std::vector<float> a;
    std::vector<double> b;
    if (!normalisation(g, bn, a, b)) continue;
    const int p = uses.producer[static_cast<std::size_t>(bn.in(0))];
    if (p < 0) continue;
    Node& n = g.nodes[static_cast<std::size_t>(p)];
    const bool conv = n.op == "Conv", transposed = n.op == "ConvTranspose", gemm = n.op == "Gemm";
    if (!n.domain.empty() || (!conv && !transposed && !gemm) || uses.users[static_cast<std::size_t>(bn.in(0))].size() != 1) continue;
    if (std::find(g.outputs.begin(), g.outputs.end(), bn.in(0)) != g.outputs.end()) continue;
    if (gemm && (n.attr_float("alpha", 1) != 1 || n.attr_float("beta", 1) != 1 || n.attr_int("transA", 0))) continue;
    const Tensor *w = g.constant(n.in(1)), *bias = n.in(2) == kNone ? nullptr : g.constant(n.in(2));
    if (!w || w->dtype() != DType::f32 || (n.in(2) != kNone && (!bias || bias->size() != static_cast<std::int64_t>(a.size())))) continue;
    const auto channels = static_cast<std::int64_t>(a.size());
    const std::int64_t group = n.attr_int("group", 1), kernel = w->rank() > 2 ? element_count(spatial(w->shape())) : 1;
    Tensor scaled(DType::f32, w->shape()), offset(DType::f32, {channels});
    const std::int64_t second = w->shape()[1];
    for (std::int64_t i = 0; i < w->size(); ++i) {
      const std::int64_t row = i / (second * kernel), column = i / kernel % second;
      const std::int64_t c = conv ? row : transposed ? row / (w->shape()[0] / group) * second + column : n.attr_int("transB", 0) ? row : column;
      scaled.set(i, w->at(i) * static_cast<double>(a[static_cast<std::size_t>(c)]));
    }
    for (std::int64_t c = 0; c < channels; ++c) offset.set(c, (bias ? bias->at(c) : 0) * static_cast<double>(a[static_cast<std::size_t>(c)]) + b[static_cast<std::size_t>(c)]);
    const std::string base = g.values[static_cast<std::size_t>(n.in(1))].name;
    const ValueId sw = g.add_constant(base + "_folded", std::move(scaled)), sb = g.add_constant(base + "_offset", std::move(offset));
    n.inputs.resize(3);
    n.inputs[1] = sw, n.inputs[2] = sb;
    n.outputs[0] = bn.outputs[0];
    gone[k] = true;
    ++s.batch_normalisations;
  }
  std::vector<Node> kept;
  for (std::size_t k = 0; k < g.nodes.size(); ++k)
    if (!gone[k]) kept.push_back(std::move(g.nodes[k]));
  g.nodes = std::move(kept);
  sort_nodes(g);
  remove_dead(g);
  compact_values(g);
  infer_shapes(g);
  if (stats) *stats = s;
  return g;
}

// ---- streamlining -----------------------------------------------------------------------------------
namespace {

struct Emit {
  const ExactProgram& p;
  const Graph& from;
  Graph g;
  std::vector<ValueId> value;  // of each buffer
  const Step* step = nullptr;

  explicit Emit(const ExactProgram& program) : p(program), from(*program.graph), value(program.buffers.size(), kNone) {}

  [[noreturn]] void refuse(const std::string& what, const std::string& fix) const { throw Error(Exit::no, what).at(step->node).fix(fix); }
  std::string base() const { return p.buffers[static_cast<std::size_t>(step->out)].name; }
  ValueId node(const char* op, std::vector<ValueId> in, std::map<std::string, Attribute> attrs = {}, const char* domain = "") {
    return g.add_node(op, std::move(in), std::move(attrs), base(), domain);
  }
  ValueId constant(Tensor t) { return g.add_constant(g.unique_name(base() + "_c"), std::move(t)); }
  ValueId ints(const Ints& v) { return constant(Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v)); }
  float held(Int128 v) const {
    if (v >= kExactInFloat || v <= -kExactInFloat) refuse(fmt::format("the integer {} is beyond 2^24, up to which f32 is exact", tandem::to_string(v)), "fewer bits, or a quantiser before it");
    return static_cast<float>(static_cast<std::int64_t>(v));
  }
  ValueId floats(const Shape& s, const std::vector<std::int64_t>& v) {
    std::vector<float> f;
    for (std::int64_t x : v) f.push_back(held(x));
    return constant(Tensor::of<float>(s, f));
  }
  template <class T, class F>
  ValueId grouped(const Grouped<T>& q, std::size_t rank, F as_float) {
    Shape s = q.shape.empty() ? Shape(rank, 1) : q.shape;
    while (s.size() < rank) s.insert(s.begin(), 1);
    std::vector<float> f;
    for (const T& x : q.v) f.push_back(as_float(x));
    return constant(q.v.size() == 1 ? Tensor::scalar(f[0]) : Tensor::of<float>(s, f));
  }
  const Buffer& buffer(int b) const { return p.buffers[static_cast<std::size_t>(b)]; }
  // One number per channel (axis 1) or one for all.
  std::int64_t rows(const Shape& group) const {
    const int axis = group_axis(group);
    if (axis == -1) return 1;
    if (axis != 1) refuse(fmt::format("its steps differ along {} instead of the channels", axis == -2 ? "several axes" : fmt::format("axis {}", axis)), "scales per tensor or per channel");
    return group[1];
  }

  // levels[number of rows' steps that x reaches]: the levels are equally far apart.
  ValueId thresholds(ValueId x, const Tensor& steps, const std::vector<std::int64_t>& levels) {
    if (levels.size() == 1) {  // one code: constant
      const ValueId zero = node("Mul", {x, constant(Tensor::scalar(0.0f))});
      return node("Add", {zero, constant(Tensor::scalar(held(levels[0])))});
    }
    const std::int64_t apart = levels[1] - levels[0];
    for (std::size_t i = 1; i < levels.size(); ++i)
      if (levels[i] - levels[i - 1] != apart) refuse("its codes are not equally far apart", "an integer or bipolar format");
    const bool whole = levels[0] % apart == 0;
    ValueId y = node("Threshold", {x, constant(steps)}, {{"scale", static_cast<double>(apart)}, {"base", whole ? levels[0] / apart : std::int64_t{0}}}, "tandem");
    if (!whole) y = node("Add", {y, constant(Tensor::scalar(held(levels[0])))});
    return y;
  }

  void operator()(const Step& s) {
    step = &s;
    std::vector<ValueId> in;
    for (int b : s.in) in.push_back(b < 0 ? kNone : value[static_cast<std::size_t>(b)]);
    ValueId y = kNone;
    if (const auto* c = std::get_if<IntConv>(&s.params)) {
      y = node("Conv", {in[0], floats({c->out_channels, c->in_channels / c->group, c->kh, c->kw}, c->weights)},
               {{"kernel_shape", Ints{c->kh, c->kw}}, {"strides", Ints{c->stride_h, c->stride_w}}, {"pads", Ints{c->pad_top, c->pad_left, c->pad_bottom, c->pad_right}},
                {"dilations", Ints{c->dilation_h, c->dilation_w}}, {"group", c->group}});
      require_sums();
    } else if (const auto* m = std::get_if<IntMatMul>(&s.params)) {
      y = node("MatMul", m->weights.empty() ? in : std::vector<ValueId>{in[0], floats({m->k, m->m}, m->weights)});
      require_sums();
    } else if (const auto* l = std::get_if<IntLinear>(&s.params)) {
      const std::size_t rank = buffer(s.out).shape.size();
      const auto as_held = [&](Int128 v) { return held(v); };
      for (std::size_t i = 0; i < l->k.size(); ++i) {
        const bool one = l->k[i].v.size() == 1 && l->k[i].v[0] == 1;
        const ValueId term = one ? in[i] : node("Mul", {in[i], grouped(l->k[i], rank, as_held)});
        y = i == 0 ? term : node("Add", {y, term});
      }
      if (l->c.v.size() > 1 || l->c.v[0] != 0 || y == in[0]) y = node("Add", {y, grouped(l->c, rank, as_held)});
      if (l->lo) y = node("Max", {y, grouped(*l->lo, rank, as_held)});
      if (l->hi) y = node("Min", {y, grouped(*l->hi, rank, as_held)});
      if (buffer(s.out).shape != buffer(s.in[0]).shape) y = node("Expand", {y, ints(buffer(s.out).shape)});
    } else if (std::get_if<IntMul>(&s.params)) {
      y = node("Mul", in);
    } else if (const auto* q = std::get_if<IntPool>(&s.params)) {
      y = pool(*q, in[0]);
    } else if (const auto* v = std::get_if<IntMove>(&s.params)) {
      const Shape& out = buffer(s.out).shape;
      switch (v->kind) {
        case IntMove::reshape: y = node("Reshape", {in[0], ints(out)}); break;
        case IntMove::transpose: y = node("Transpose", {in[0]}, {{"perm", v->perm}}); break;
        case IntMove::concat: y = node("Concat", in, {{"axis", v->axis}}); break;
        case IntMove::gather: {  // positions along the axis, read off the table of elements
          if (v->axis < 0) {  // any element of any: 0 stands behind the last one
            const std::int64_t n = element_count(buffer(s.in[0]).shape);
            const bool filled = std::any_of(v->index.begin(), v->index.end(), [](std::int64_t i) { return i < 0; });
            if (v->fill != 0) refuse("a padding value other than 0", "pad with 0");
            Ints at;
            for (std::int64_t i : v->index) at.push_back(i < 0 ? n : i);
            y = node("Reshape", {in[0], ints({-1})});
            if (filled) y = node("Pad", {y, ints({0, 1})});
            y = node("Gather", {y, ints(at)}, {{"axis", std::int64_t{0}}});
            y = node("Reshape", {y, ints(out)});
            break;
          }
          const Shape& x = buffer(s.in[0]).shape;
          const auto strides = row_major_strides(x);
          const auto a = static_cast<std::size_t>(v->axis);
          const std::int64_t inner = strides[a], outer = element_count(Shape(x.begin(), x.begin() + v->axis));
          Ints at;
          for (std::int64_t i = 0; i < element_count(out) / std::max<std::int64_t>(outer * inner, 1); ++i) at.push_back(v->index[static_cast<std::size_t>(i * inner)] / inner % x[a]);
          y = node("Gather", {in[0], ints(at)}, {{"axis", v->axis}});
          y = node("Reshape", {y, ints(out)});
          break;
        }
      }
    } else if (const auto* r = std::get_if<IntRequant>(&s.params)) {
      y = requantise(*r, in[0]);
    } else if (const auto* f = std::get_if<QuantizeFloat>(&s.params)) {
      if (f->thresholds.empty()) refuse(fmt::format("its {} levels are too many for thresholds", f->cast.casts[0].levels()), fmt::format("at most {} levels", kMaxTableLevels));
      const std::int64_t n = rows(f->cast.group), levels = static_cast<std::int64_t>(f->cast.levels.size());
      Tensor t(DType::f32, {n, std::max<std::int64_t>(levels - 1, 0)});
      for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, f->thresholds[static_cast<std::size_t>(i / (levels - 1))][static_cast<std::size_t>(i % (levels - 1))]);
      y = thresholds(in[0], t, f->cast.levels);
    } else if (const auto* e = std::get_if<ToFloat>(&s.params)) {
      y = to_float(e->in, in[0], buffer(s.out).shape.size());
    } else if (const auto* a = std::get_if<IntArgMax>(&s.params)) {
      y = node("ArgMax", in, {{"axis", a->axis}, {"keepdims", std::int64_t{a->keepdims}}, {"select_last_index", std::int64_t{a->last}}});
    } else if (const auto* t = std::get_if<IntTopK>(&s.params)) {
      y = node("TopK", {in[0], ints({t->k})}, {{"axis", t->axis}, {"largest", std::int64_t{t->largest}}});
      if (t->places) {
        const ValueId places = g.add_value(base());
        g.nodes.back().outputs.push_back(places);
        y = places;
      }
    } else if (const auto* f = std::get_if<IntSoftmax>(&s.params)) {
      y = scaled_up(node("TableSoftmax", {in[0], table(f->exps)}, {{"axis", f->axis}, {"bits", std::int64_t{f->bits}}}, "tandem"), f->bits);
    } else if (const auto* z = std::get_if<IntNormalize>(&s.params)) {
      const std::int64_t n = buffer(s.in[0]).shape[static_cast<std::size_t>(z->axis)];
      const float epsilon = static_cast<float>(static_cast<double>(z->epsilon) / static_cast<double>(n * n));
      y = node("TableNormalize", {in[0], table(z->roots)}, {{"axis", z->axis}, {"root_bits", std::int64_t{z->root_bits}}, {"bits", std::int64_t{z->bits}}, {"epsilon", static_cast<double>(epsilon)}}, "tandem");
      if (normalise_epsilon(g, g.nodes.back(), n) != z->epsilon) refuse("an epsilon that no f32 holds", "give it another epsilon");
      y = scaled_up(y, z->bits);
    } else if (const auto* o = std::get_if<FloatOp>(&s.params)) {
      Node n = from.nodes[static_cast<std::size_t>(o->node)];
      if (n.outputs.size() != 1) refuse("a float operator of several outputs", "end the model before it");
      n.inputs = in;
      y = g.add_value(base(), from.values[static_cast<std::size_t>(n.outputs[0])].type);
      n.outputs = {y};
      g.nodes.push_back(std::move(n));
    } else {
      refuse("a Delay keeps state between frames", "streamline what stands before or behind it");
    }
    value[static_cast<std::size_t>(s.out)] = y;
  }

  ValueId table(const std::vector<std::int32_t>& t) { return constant(Tensor::of<std::int32_t>({static_cast<std::int64_t>(t.size())}, t)); }
  ValueId scaled_up(ValueId x, int bits) { return node("Mul", {x, constant(Tensor::scalar(std::ldexp(1.0f, bits)))}); }

  // Sums of a contraction stay whole numbers of f32 in any order when the largest one does.
  void require_sums() const {
    const Buffer& b = buffer(step->out);
    held(b.lo), held(b.hi);
    for (int i : step->in)
      if (i >= 0 && buffer(i).integer) held(buffer(i).lo), held(buffer(i).hi);
  }

  ValueId pool(const IntPool& q, ValueId x) {
    const Shape& in = buffer(step->in[0]).shape;
    const std::map<std::string, Attribute> window{{"kernel_shape", Ints{q.kh, q.kw}}, {"strides", Ints{q.stride_h, q.stride_w}}, {"pads", Ints{q.pad_top, q.pad_left, q.pad_bottom, q.pad_right}}};
    if (q.kind == IntPool::sum) {
      const std::int64_t c = in[1];
      auto attrs = window;
      attrs["group"] = c;
      ValueId y = node("Conv", {x, constant(Tensor::of<float>({c, 1, q.kh, q.kw}, std::vector<float>(static_cast<std::size_t>(c * q.kh * q.kw), 1)))}, attrs);
      if (!q.position_factor.empty()) {
        const Shape& out = buffer(step->out).shape;
        y = node("Mul", {y, floats({1, 1, out[2], out[3]}, q.position_factor)});
      }
      require_sums();
      return y;
    }
    std::vector<float> sign(static_cast<std::size_t>(in[1]), q.kind == IntPool::min ? -1.0f : 1.0f);
    for (std::size_t c = 0; c < q.min_channel.size() && c < sign.size(); ++c)
      if (q.min_channel[c]) sign[c] = -1;
    const bool flips = std::any_of(sign.begin(), sign.end(), [](float f) { return f < 0; });
    if (!flips) return node("MaxPool", {x}, window);
    const ValueId s = constant(Tensor::of<float>({1, in[1], 1, 1}, sign));
    return node("Mul", {node("MaxPool", {node("Mul", {x, s})}, window), s});
  }

  ValueId requantise(const IntRequant& r, ValueId x) {
    if (r.tables.empty()) refuse(fmt::format("its {} levels are too many for thresholds", r.casts.empty() ? 0 : r.casts[0].levels()), fmt::format("at most {} levels", kMaxTableLevels));
    const std::int64_t n = rows(r.group), levels = static_cast<std::int64_t>(r.levels.size());
    const std::size_t rank = buffer(step->out).shape.size();
    Tensor t(DType::f32, {n, levels - 1});
    std::vector<float> sign;
    bool flips = false;
    for (std::int64_t i = 0; i < n; ++i) {
      const Thresholds& table = r.tables[static_cast<std::size_t>(i)];
      sign.push_back(table.flip ? -1.0f : 1.0f);
      flips |= table.flip;
      for (std::int64_t k = 0; k + 1 < levels; ++k) t.set(i * (levels - 1) + k, held(table.t[static_cast<std::size_t>(k)]));
    }
    const Buffer& in = buffer(step->in[0]);
    held(in.lo), held(in.hi);
    if (flips) {
      Shape s(rank, 1);
      if (n > 1) s[1] = n;
      x = node("Mul", {x, constant(n == 1 ? Tensor::scalar(sign[0]) : Tensor::of<float>(s, sign))});
    }
    return thresholds(x, t, r.levels);
  }

  ValueId to_float(const Carrier& c, ValueId x, std::size_t rank) {
    const auto rounded = [](const Rational& q) { return nearest_float(q); };
    const bool scaled = c.s.v.size() > 1 || c.s.v[0] != 1, moved = c.b.v.size() > 1 || c.b.v[0] != 0;
    if (scaled) x = node("Mul", {x, grouped(c.s, rank, rounded)});
    if (moved) x = node("Add", {x, grouped(c.b, rank, rounded)});
    if (c.lo) x = node("Max", {x, grouped(*c.lo, rank, rounded)});
    if (c.hi) x = node("Min", {x, grouped(*c.hi, rank, rounded)});
    return x;
  }
};

}  // namespace

Graph streamlined(const ExactProgram& p) {
  Emit e(p);
  e.g.name = p.graph->name;
  e.g.metadata = p.graph->metadata;
  for (std::size_t i = 0; i < p.inputs.size(); ++i) {
    const Port& port = p.inputs[i];
    if (port.exact) throw Error(Exit::no, fmt::format("the input '{}' holds integers", port.name)).fix("float inputs with a quantiser behind them");
    e.value[static_cast<std::size_t>(port.buffer)] = e.g.add_input(port.name, port.dtype, dims_of(p.buffers[static_cast<std::size_t>(port.buffer)].shape));
  }
  for (std::size_t b = 0; b < p.buffers.size(); ++b) {
    const Buffer& x = p.buffers[b];
    if (x.constant) e.value[b] = e.g.add_constant(e.g.unique_name(x.name), *x.constant);
    if (x.int_constant.empty()) continue;
    const Step at{{}, {}, static_cast<int>(b), x.name};
    e.step = &at;
    e.value[b] = e.floats(x.shape, x.int_constant);
  }
  for (const Step& s : p.steps) e(s);
  for (const Port& port : p.outputs) {
    ValueId y = e.value[static_cast<std::size_t>(port.buffer)];
    const Step at{{}, {}, port.buffer, port.name};
    e.step = &at;
    const Buffer& b = p.buffers[static_cast<std::size_t>(port.buffer)];
    if (port.exact && b.integer) {
      e.held(b.lo), e.held(b.hi);
      if (is_float(port.dtype)) y = e.to_float(port.carrier, y, b.shape.size());
    }
    // A value of its own, so that it can carry the port's name.
    if (port.exact && !is_float(port.dtype) && e.g.producer(y) >= 0 && e.g.nodes[static_cast<std::size_t>(e.g.producer(y))].op != "ArgMax")
      y = e.g.add_node("Cast", {y}, {{"to", onnx_number(port.dtype)}}, port.name);
    else
      y = e.g.add_node("Identity", {y}, {}, port.name);
    if (e.g.find(port.name) == kNone) e.g.values[static_cast<std::size_t>(y)].name = port.name;
    e.g.outputs.push_back(y);
  }
  remove_dead(e.g);
  compact_values(e.g);
  infer_shapes(e.g);
  return std::move(e.g);
}

}  // namespace tandem::ir
