// The slow carrier evaluator: every step in checked 128-bit integers, as plainly as it can be said.
#include <cmath>
#include <limits>

#include "tandem/ir/arrays.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/ops/by_table.h"
#include "tandem/ir/ops/common.h"

namespace tandem::ir {
namespace {

Int128 add(Int128 a, Int128 b) {
  Int128 r;
  TANDEM_CHECK(!__builtin_add_overflow(a, b, &r), "carrier: 128-bit overflow");
  return r;
}
Int128 mul(Int128 a, Int128 b) {
  Int128 r;
  TANDEM_CHECK(!__builtin_mul_overflow(a, b, &r), "carrier: 128-bit overflow");
  return r;
}

struct Data {
  std::vector<Int128> n;   // integer buffers
  std::vector<double> f;   // float buffers
};

Rational value(const Carrier& c, std::int64_t s, std::int64_t b, std::int64_t lo, std::int64_t hi, Int128 n) {
  Rational x = c.s.v[s] * from_int128(n) + c.b.v[b];
  if (c.lo && x < c.lo->v[lo]) x = c.lo->v[lo];
  if (c.hi && x > c.hi->v[hi]) x = c.hi->v[hi];
  return x;
}
// The rational value of every element.
template <class F>
void each_value(const Carrier& c, const Shape& shape, const std::vector<Int128>& n, F f) {
  auto is = group_index(c.s.shape, shape), ib = group_index(c.b.shape, shape);
  auto il = group_index(c.lo ? c.lo->shape : Shape{}, shape), ih = group_index(c.hi ? c.hi->shape : Shape{}, shape);
  for (std::size_t i = 0; i < n.size(); ++i) f(i, value(c, is[i], ib[i], il[i], ih[i], n[i]));
}

struct Run {
  const ExactProgram& p;
  std::vector<Data>& d;
  std::vector<std::vector<std::int64_t>>* states;
  const Step* step = nullptr;

  const Buffer& buf(int i) const { return p.buffers[i]; }
  const std::vector<Int128>& in(std::size_t i) const { return d[step->in[i]].n; }
  const Shape& in_shape(std::size_t i) const { return buf(step->in[i]).shape; }
  Data& out() { return d[step->out]; }
  const Shape& out_shape() const { return buf(step->out).shape; }

  void operator()(const IntConv& c) {
    const Shape &xs = in_shape(0), &ys = out_shape();
    const auto& x = in(0);
    auto& y = out().n;
    std::int64_t C = xs[1], H = xs[2], W = xs[3], O = ys[1], P = ys[2], Q = ys[3], Cg = C / c.group, Og = O / c.group;
    for (std::int64_t n = 0; n < ys[0]; ++n)
      for (std::int64_t o = 0; o < O; ++o)
        for (std::int64_t q = 0; q < P * Q; ++q) {
          Int128 acc = 0;
          for (std::int64_t k = 0; k < Cg; ++k)
            for (std::int64_t r = 0; r < c.kh; ++r)
              for (std::int64_t s = 0; s < c.kw; ++s) {
                std::int64_t h = q / Q * c.stride_h - c.pad_top + r * c.dilation_h, w = q % Q * c.stride_w - c.pad_left + s * c.dilation_w;
                if (h < 0 || h >= H || w < 0 || w >= W) continue;
                acc = add(acc, mul(x[((n * C + o / Og * Cg + k) * H + h) * W + w], c.weights[((o * Cg + k) * c.kh + r) * c.kw + s]));
              }
          y[(n * O + o) * P * Q + q] = acc;
        }
  }
  void operator()(const IntMatMul& m) {
    const auto& a = in(0);
    auto& y = out().n;
    bool varying = m.weights.empty();
    if (!varying) {
      std::int64_t rows = static_cast<std::int64_t>(a.size()) / m.k;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < m.m; ++c) {
          Int128 acc = 0;
          for (std::int64_t k = 0; k < m.k; ++k) acc = add(acc, mul(a[r * m.k + k], m.weights[k * m.m + c]));
          y[r * m.m + c] = acc;
        }
      return;
    }
    Shape as = in_shape(0), bs = in_shape(1), os = out_shape();
    bool av = as.size() == 1, bv = bs.size() == 1;
    if (av) as.insert(as.begin(), 1);
    if (bv) bs.push_back(1);
    std::int64_t rows = as[as.size() - 2];
    Shape batch = broadcast(Shape(as.begin(), as.end() - 2), Shape(bs.begin(), bs.end() - 2));
    Broadcaster ia(Shape(as.begin(), as.end() - 2), batch), ib(Shape(bs.begin(), bs.end() - 2), batch);
    const auto& b = in(1);
    for (std::int64_t i = 0; i < element_count(batch); ++i)
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < m.m; ++c) {
          Int128 acc = 0;
          for (std::int64_t k = 0; k < m.k; ++k) acc = add(acc, mul(a[(ia(i) * rows + r) * m.k + k], b[(ib(i) * m.k + k) * m.m + c]));
          y[(i * rows + r) * m.m + c] = acc;
        }
  }
  void operator()(const IntLinear& l) {
    const Shape& ys = out_shape();
    auto& y = out().n;
    std::vector<std::vector<std::int32_t>> gk;
    std::vector<Broadcaster> map;
    for (std::size_t j = 0; j < l.k.size(); ++j) {
      gk.push_back(group_index(l.k[j].shape, ys));
      map.emplace_back(in_shape(j), ys);
    }
    auto gc = group_index(l.c.shape, ys), gl = group_index(l.lo ? l.lo->shape : Shape{}, ys), gh = group_index(l.hi ? l.hi->shape : Shape{}, ys);
    for (std::size_t i = 0; i < y.size(); ++i) {
      Int128 acc = l.c.v[gc[i]];
      for (std::size_t j = 0; j < l.k.size(); ++j) acc = add(acc, mul(l.k[j].v[gk[j][i]], in(j)[map[j](static_cast<std::int64_t>(i))]));
      if (l.lo) acc = std::max(acc, l.lo->v[gl[i]]);
      if (l.hi) acc = std::min(acc, l.hi->v[gh[i]]);
      y[i] = acc;
    }
  }
  void operator()(const IntMul&) {
    const Shape& ys = out_shape();
    Broadcaster a(in_shape(0), ys), b(in_shape(1), ys);
    auto& y = out().n;
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(y.size()); ++i) y[i] = mul(in(0)[a(i)], in(1)[b(i)]);
  }
  void operator()(const IntPool& k) {
    const Shape &xs = in_shape(0), &ys = out_shape();
    const auto& x = in(0);
    auto& y = out().n;
    std::int64_t H = xs[2], W = xs[3], P = ys[2], Q = ys[3];
    for (std::int64_t i = 0; i < ys[0] * ys[1]; ++i)
      for (std::int64_t q = 0; q < P * Q; ++q) {
        bool minimum = k.kind == IntPool::min || (!k.min_channel.empty() && k.min_channel[i % ys[1]]), any = false;
        Int128 acc = 0;
        for (std::int64_t r = 0; r < k.kh; ++r)
          for (std::int64_t s = 0; s < k.kw; ++s) {
            std::int64_t h = q / Q * k.stride_h - k.pad_top + r, w = q % Q * k.stride_w - k.pad_left + s;
            if (h < 0 || h >= H || w < 0 || w >= W) continue;
            Int128 v = x[(i * H + h) * W + w];
            if (k.kind == IntPool::sum) acc = add(acc, v);
            else acc = !any ? v : minimum ? std::min(acc, v) : std::max(acc, v);
            any = true;
          }
        if (!k.position_factor.empty()) acc = mul(acc, k.position_factor[q]);
        y[i * P * Q + q] = acc;
      }
  }
  void operator()(const IntMove& m) {
    auto& y = out().n;
    const Places at = places_of(m, shapes_of(p, *step), out_shape());
    for (std::size_t i = 0; i < y.size(); ++i) {
      const std::int64_t from = at.index.empty() ? static_cast<std::int64_t>(i) : at.index[i];
      y[i] = from < 0 ? Int128(m.fill) : in(at.source.empty() ? 0 : at.source[i])[from];
    }
  }
  void operator()(const IntRequant& r) {
    const Shape& ys = out_shape();
    auto& y = out().n;
    if (!r.tables.empty()) {
      auto g = group_index(r.group, ys);
      for (std::size_t i = 0; i < y.size(); ++i) y[i] = r.levels[level_of(r.tables[g[i]], in(0)[i])];
      return;
    }
    auto g = group_index(r.cast_group, ys);
    each_value(r.in, ys, in(0), [&](std::size_t i, const Rational& x) { y[i] = code(r, g[i], x); });
  }
  static std::int64_t code(const IntRequant& r, std::int32_t group, const Rational& x) {
    const Cast& c = r.casts[group];
    std::int64_t k = cast_code(c, x);
    return r.plain_codes ? k : c.level(k);
  }
  void operator()(const QuantizeFloat& q) {
    const Shape& ys = out_shape();
    auto& y = out().n;
    const auto& x = d[step->in[0]].f;
    auto gc = group_index(q.cast.cast_group, ys);
    std::vector<std::int32_t> gs(y.size(), 0);
    if (!q.cast.custom_steps.empty()) gs = group_index(q.cast.custom_group, ys);
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (!std::isfinite(x[i]))
        throw bad_input("element {} of '{}' is not finite: an integer format has no code for it", i, buf(step->in[0]).name).at(step->node);
      Rational e = exact(x[i]);
      if (q.cast.custom_steps.empty()) {
        y[i] = code(q.cast, gc[i], e);
      } else {
        const auto& t = q.cast.custom_steps[gs[i]];
        y[i] = q.cast.levels[std::count_if(t.begin(), t.end(), [&](const Rational& s) { return e >= s; })];
      }
    }
  }
  void operator()(const ToFloat& t) {
    auto& y = out().f;
    each_value(t.in, out_shape(), in(0), [&](std::size_t i, const Rational& x) { y[i] = t.whole ? nearest_double(x) : static_cast<double>(nearest_float(x)); });
  }
  void operator()(const IntArgMax& a) {
    const Shape& xs = in_shape(0);
    auto& y = out().n;
    std::int64_t n = xs[a.axis], outer = element_count(Shape(xs.begin(), xs.begin() + a.axis)), inner = element_count(Shape(xs.begin() + a.axis + 1, xs.end()));
    for (std::int64_t o = 0; o < outer; ++o)
      for (std::int64_t i = 0; i < inner; ++i) {
        std::int64_t best = 0;
        for (std::int64_t k = 1; k < n; ++k) {
          Int128 v = in(0)[(o * n + k) * inner + i], b = in(0)[(o * n + best) * inner + i];
          if (v > b || (a.last && v == b)) best = k;
        }
        y[o * inner + i] = best;
      }
  }
  // f(the integers along the axis, their results).
  template <class F>
  void along(std::int64_t axis, F f) {
    const Shape &xs = in_shape(0), &ys = out_shape();
    const std::int64_t n = xs[axis], k = ys[axis], outer = element_count(Shape(xs.begin(), xs.begin() + axis)), inner = element_count(Shape(xs.begin() + axis + 1, xs.end()));
    std::vector<Int128> x(static_cast<std::size_t>(n)), y(static_cast<std::size_t>(k));
    for (std::int64_t o = 0; o < outer; ++o)
      for (std::int64_t i = 0; i < inner; ++i) {
        for (std::int64_t j = 0; j < n; ++j) x[j] = in(0)[(o * n + j) * inner + i];
        f(x, y);
        for (std::int64_t j = 0; j < k; ++j) out().n[(o * k + j) * inner + i] = y[j];
      }
  }
  void operator()(const IntTopK& t) {
    along(t.axis, [&](const std::vector<Int128>& x, std::vector<Int128>& y) {
      std::vector<bool> taken(x.size());
      for (Int128& v : y) {
        std::size_t best = x.size();
        for (std::size_t j = 0; j < x.size(); ++j)
          if (!taken[j] && (best == x.size() || (t.largest ? x[j] > x[best] : x[j] < x[best]))) best = j;
        taken[best] = true;
        v = t.places ? static_cast<Int128>(best) : x[best];
      }
    });
  }
  void operator()(const IntSoftmax& t) {
    along(t.axis, [&](const std::vector<Int128>& x, std::vector<Int128>& y) {
      const Int128 most = *std::max_element(x.begin(), x.end());
      std::vector<std::int64_t> below, code(x.size());
      for (Int128 v : x) below.push_back(static_cast<std::int64_t>(most - v));
      softmax_by_table(below, t.exps, t.bits, code);
      y.assign(code.begin(), code.end());
    });
  }
  void operator()(const IntNormalize& t) {
    along(t.axis, [&](const std::vector<Int128>& x, std::vector<Int128>& y) {
      const std::vector<std::int64_t> narrow(x.begin(), x.end());
      std::vector<std::int64_t> code(x.size());
      normalise_by_table(narrow, t.roots, t.root_bits, t.bits, t.epsilon, code);
      y.assign(code.begin(), code.end());
    });
  }
  void operator()(const FloatOp& f) {
    const Node& n = p.graph->nodes[f.node];
    std::vector<Array<double>> in(step->in.size()), o(n.outputs.size());
    EvalArgs<double> e{*p.graph, n, {}, o};
    for (std::size_t i = 0; i < step->in.size(); ++i) {
      if (step->in[i] >= 0) {
        in[i].shape = buf(step->in[i]).shape;
        in[i].v = d[step->in[i]].f;
      }
      e.in.push_back(step->in[i] < 0 ? nullptr : &in[i]);
    }
    op_of(*p.graph, n).eval.as_double(e);
    const auto k = static_cast<std::size_t>(f.output);
    const DType t = p.graph->values[n.outputs[k]].type.dtype;
    for (double& v : o[k].v) v = held_as(t, v);
    out().f = array_of(tensor_of(o[k], t)).v;
  }
  void operator()(const DelayRead& r) {
    const State& s = p.states[r.state];
    const auto& v = states && !(*states)[r.state].empty() ? (*states)[r.state] : s.init;
    std::size_t n = out().n.size();
    for (std::size_t i = 0; i < n; ++i) out().n[i] = v[i];
  }
  void operator()(const DelayWrite& w) {
    if (!states) return;
    const State& s = p.states[w.state];
    auto& v = (*states)[w.state];
    std::size_t n = in(0).size();
    if (v.empty())
      for (std::int64_t k = 0; k < s.depth; ++k) v.insert(v.end(), s.init.begin(), s.init.end());
    v.erase(v.begin(), v.begin() + n);  // the oldest tick leaves
    for (Int128 x : in(0)) v.push_back(static_cast<std::int64_t>(x));
  }
};

}  // namespace

std::vector<Rational> carrier_values(const Carrier& c, const Shape& shape, const std::vector<Int128>& n) {
  std::vector<Rational> x(n.size());
  each_value(c, shape, n, [&](std::size_t i, const Rational& q) { x[i] = q; });
  return x;
}

std::vector<Tensor> evaluate_carrier(const ExactProgram& p, const std::vector<Tensor>& inputs, std::vector<std::vector<std::int64_t>>* states,
                                     std::vector<std::vector<Int128>>* all_integers) {
  std::vector<Data> d(p.buffers.size());
  for (std::size_t i = 0; i < p.buffers.size(); ++i) {
    const Buffer& b = p.buffers[i];
    if (b.integer) d[i].n.assign(static_cast<std::size_t>(element_count(b.shape)), 0);
    else d[i].f.assign(static_cast<std::size_t>(element_count(b.shape)), 0);
    if (b.constant) d[i].f = array_of(*b.constant).v;
    for (std::size_t k = 0; k < b.int_constant.size(); ++k) d[i].n[k] = b.int_constant[k];
  }
  if (states && states->empty()) states->resize(p.states.size());
  if (inputs.size() != p.inputs.size()) throw bad_input("the graph has {} inputs, {} were given", p.inputs.size(), inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Buffer& b = p.buffers[p.inputs[i].buffer];
    if (inputs[i].shape() != b.shape)
      throw bad_input("input '{}' has shape {}, the graph expects {}", b.name, to_string(inputs[i].shape()), to_string(b.shape));
    if (b.integer)
      for (std::int64_t k = 0; k < inputs[i].size(); ++k) d[p.inputs[i].buffer].n[k] = inputs[i].int_at(k);
    else
      d[p.inputs[i].buffer].f = array_of(inputs[i]).v;
  }
  Run run{p, d, states};
  for (const Step& s : p.steps) {
    run.step = &s;
    std::visit(run, s.params);
    if (s.out >= 0 && p.buffers[s.out].integer)  // the proven range is a promise to every engine
      for (Int128 n : d[s.out].n)
        TANDEM_CHECK(n >= p.buffers[s.out].lo && n <= p.buffers[s.out].hi, "{}: integer {} outside its proven range", s.node, tandem::to_string(n));
  }
  std::vector<Tensor> out;
  for (const Port& o : p.outputs) {
    const Buffer& b = p.buffers[o.buffer];
    if (!o.exact) {
      Array<double> a(b.shape);
      a.v = d[o.buffer].f;
      out.push_back(tensor_of(a, o.dtype));
    } else {
      Array<Rational> a(b.shape);
      each_value(o.carrier, b.shape, d[o.buffer].n, [&](std::size_t i, const Rational& x) { a.v[i] = x; });
      out.push_back(tensor_of(a, o.dtype));
    }
  }
  if (all_integers) {
    all_integers->clear();
    for (Data& x : d) all_integers->push_back(std::move(x.n));
  }
  return out;
}

std::string to_text(const ExactProgram& p) {
  std::string s;
  auto name = [&](int i) { return i < 0 ? std::string("-") : fmt::format("%{}:{}", i, p.buffers[i].name); };
  static const char* kinds[] = {"conv", "matmul", "linear", "mul", "pool", "move", "requant", "quantize", "to_float", "argmax", "float", "delay_read", "delay_write", "topk", "softmax", "normalise"};
  for (const Step& st : p.steps) {
    std::string in;
    for (int i : st.in) in += (in.empty() ? "" : ", ") + name(i);
    s += fmt::format("{} = {}({})", name(st.out), kinds[st.params.index()], in);
    if (st.out >= 0) {
      const Buffer& b = p.buffers[st.out];
      s += fmt::format("  {}", to_string(b.shape));
      if (b.integer) s += fmt::format(" [{}, {}] {} bits", tandem::to_string(b.lo), tandem::to_string(b.hi), signed_bits(b.lo, b.hi));
    }
    if (auto* r = std::get_if<IntRequant>(&st.params)) s += fmt::format(" {} x{} groups", r->format, r->tables.size());
    s += "  # " + st.node + "\n";
  }
  return s;
}

}  // namespace tandem::ir
