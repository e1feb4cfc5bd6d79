// From a graph to integer steps on the carrier (exact.h says what the carrier is).
#include <cmath>
#include <set>

#include "tandem/ir/arrays.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/ops/by_table.h"
#include "tandem/ir/ops/common.h"
#include "tandem/ir/ops/sources.h"
#include "tandem/ir/refusal.h"

namespace tandem::ir {

Places places_of(const IntMove& m, std::span<const Shape> in, const Shape& out) {
  Places p;
  if (m.kind == IntMove::gather) p.index = m.index;
  if (m.kind == IntMove::transpose) {
    const auto strides = row_major_strides(in[0]);
    p.index.resize(static_cast<std::size_t>(element_count(out)));
    Shape at(out.size());
    std::int64_t from = 0;
    for (std::int64_t& i : p.index) {
      i = from;
      for (std::size_t d = out.size(); d-- > 0;) {  // the next position of the output
        const std::int64_t stride = strides[static_cast<std::size_t>(m.perm[d])];
        from += stride;
        if (++at[d] < out[d]) break;
        from -= stride * out[d];
        at[d] = 0;
      }
    }
  }
  if (m.kind == IntMove::concat) {
    p.index.resize(static_cast<std::size_t>(element_count(out)));
    p.source.resize(p.index.size());
    const auto axis = static_cast<std::size_t>(m.axis);
    const std::int64_t inner = element_count(Shape(out.begin() + m.axis + 1, out.end()));
    std::int64_t at = 0;
    for (std::size_t k = 0; k < in.size(); ++k) {
      const std::int64_t e = in[k][axis], count = element_count(in[k]);
      for (std::int64_t i = 0; i < count; ++i) {
        const auto to = static_cast<std::size_t>((i / (e * inner) * out[axis] + at) * inner + i % (e * inner));
        p.source[to] = static_cast<std::int32_t>(k);
        p.index[to] = i;
      }
      at += e;
    }
  }
  return p;
}

std::vector<Shape> shapes_of(const ExactProgram& p, const Step& s) {
  std::vector<Shape> r;
  for (int b : s.in) r.push_back(b < 0 ? Shape() : p.buffers[static_cast<std::size_t>(b)].shape);
  return r;
}

std::vector<std::int32_t> group_index(const Shape& group, const Shape& full) {
  std::vector<std::int32_t> idx(static_cast<std::size_t>(element_count(full)), 0);
  if (group.empty() || element_count(group) == 1) return idx;
  Broadcaster b(group, full);
  for (std::size_t i = 0; i < idx.size(); ++i) idx[i] = static_cast<std::int32_t>(b(static_cast<std::int64_t>(i)));
  return idx;
}

int group_axis(const Shape& group) {
  int axis = -1;
  for (std::size_t i = 0; i < group.size(); ++i)
    if (group[i] != 1) axis = axis == -1 ? static_cast<int>(i) : -2;
  return axis;
}

std::int64_t level_of(const Thresholds& table, Int128 n) {
  Int128 m = table.flip ? -n : n;
  return std::upper_bound(table.t.begin(), table.t.end(), m) - table.t.begin();
}

bool replace_nodes(Graph& g, const std::function<DecomposeFn(const Node&)>& by) {
  bool any = false;
  const std::vector<Node> before = g.nodes;
  g.nodes.clear();
  for (const Node& n : before) {
    const DecomposeFn f = by(n);
    const std::size_t first = g.nodes.size();
    const std::vector<ValueId> y = f ? f(g, n) : std::vector<ValueId>{};
    if (y.empty()) {
      g.nodes.push_back(n);
      continue;
    }
    any = true;
    // The new nodes write the values that n wrote; one that passes an operand through, or the same value twice, is copied.
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (n.outputs[i] == kNone) continue;
      const auto same = static_cast<std::size_t>(std::find(y.begin(), y.begin() + static_cast<std::ptrdiff_t>(i), y[i]) - y.begin());
      const ValueId from = same < i && n.outputs[same] != kNone ? n.outputs[same] : y[i];
      bool written = false;
      for (std::size_t k = first; k < g.nodes.size(); ++k) {
        Node& m = g.nodes[k];
        written = written || std::find(m.outputs.begin(), m.outputs.end(), y[i]) != m.outputs.end();
        std::replace(m.outputs.begin(), m.outputs.end(), y[i], n.outputs[i]);
        if (written) std::replace(m.inputs.begin(), m.inputs.end(), y[i], n.outputs[i]);
      }
      if (written) continue;
      g.nodes.push_back({.name = n.name, .op = "Identity", .inputs = {from}, .outputs = {n.outputs[i]}});
    }
  }
  return any;
}

Graph prepare(const Graph& bound) {
  Graph g = bound;
  sort_nodes(g);
  infer_shapes(g);
  if (replace_nodes(g, [&](const Node& n) { return op_of(g, n).decompose; })) {
    sort_nodes(g);
    infer_shapes(g);
  }
  fold_constants(g);
  remove_dead(g);
  return g;
}

namespace {

using GQ = Grouped<Rational>;

Shape ones(std::size_t rank) { return Shape(rank, 1); }
Shape aligned(const Shape& s, std::size_t rank) {
  Shape o = s;
  while (o.size() < rank) o.insert(o.begin(), 1);
  return o;
}
// Groups that refine both; an empty shape is one group.
Shape refine(const Shape& a, const Shape& b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  return broadcast(a, b);
}
template <class T>
Grouped<T> expand(const Grouped<T>& x, const Shape& to) {
  if (x.shape == to) return x;
  Grouped<T> y;
  y.shape = to;
  auto idx = group_index(x.shape.empty() ? ones(to.size()) : x.shape, to);
  y.v.resize(idx.size());
  for (std::size_t i = 0; i < idx.size(); ++i) y.v[i] = x.v[idx[i]];
  return y;
}
// Drops the axes along which nothing varies.
template <class T>
Grouped<T> compress(Grouped<T> x) {
  if (x.v.size() > 1 && std::all_of(x.v.begin(), x.v.end(), [&](const T& q) { return q == x.v[0]; })) return Grouped<T>(x.v[0]);
  for (std::size_t axis = 0; axis < x.shape.size(); ++axis) {
    std::int64_t n = x.shape[axis];
    if (n == 1) continue;
    std::int64_t inner = element_count(Shape(x.shape.begin() + axis + 1, x.shape.end())), outer = static_cast<std::int64_t>(x.v.size()) / (n * inner);
    bool same = true;
    for (std::int64_t o = 0; o < outer && same; ++o)
      for (std::int64_t k = 1; k < n && same; ++k)
        for (std::int64_t i = 0; i < inner && same; ++i) same = x.v[(o * n + k) * inner + i] == x.v[o * n * inner + i];
    if (!same) continue;
    std::vector<T> v;
    for (std::int64_t o = 0; o < outer; ++o)
      for (std::int64_t i = 0; i < inner; ++i) v.push_back(x.v[o * n * inner + i]);
    x.v = std::move(v);
    x.shape[axis] = 1;
  }
  if (x.v.size() == 1) return Grouped<T>(x.v[0]);
  return x;
}
template <class F>
GQ zip(const GQ& a, const GQ& b, F f) {
  Shape s = refine(a.shape, b.shape);
  GQ x = s.empty() ? a : expand(a, s), y = s.empty() ? b : expand(b, s);
  for (std::size_t i = 0; i < x.v.size(); ++i) x.v[i] = f(x.v[i], y.v[i]);
  return compress(std::move(x));
}
GQ product(const GQ& a, const GQ& b) {
  return zip(a, b, [](const Rational& x, const Rational& y) { return Rational(x * y); });
}
GQ sum(const GQ& a, const GQ& b) {
  return zip(a, b, [](const Rational& x, const Rational& y) { return Rational(x + y); });
}
bool is_zero(const GQ& q) {
  return std::all_of(q.v.begin(), q.v.end(), [](const Rational& x) { return x == 0; });
}
bool same(const GQ& a, const GQ& b) { return a.shape == b.shape && a.v == b.v; }
bool same(const Carrier& a, const Carrier& b) {
  auto opt = [](const std::optional<GQ>& x, const std::optional<GQ>& y) { return x.has_value() == y.has_value() && (!x || same(*x, *y)); };
  return same(a.s, b.s) && same(a.b, b.b) && opt(a.lo, b.lo) && opt(a.hi, b.hi);
}

void affine(Carrier& c, const GQ& a, const GQ& b) {  // x -> a*x + b
  c.s = product(c.s, a);
  c.b = sum(product(c.b, a), b);
  if (!c.lo && !c.hi) return;
  bool negative = std::any_of(a.v.begin(), a.v.end(), [](const Rational& q) { return q < 0; });
  bool positive = std::any_of(a.v.begin(), a.v.end(), [](const Rational& q) { return q >= 0; });
  auto map = [&](const GQ& q) { return sum(product(q, a), b); };
  if (negative && positive && !(c.lo && c.hi)) {
    // Mixed signs swap a bound that exists with one that does not: not representable per group here.
    // The caller materialises first.
    bug(__FILE__, __LINE__, "affine: one-sided clamp under factors of both signs");
  }
  std::optional<GQ> lo, hi;
  if (c.lo && c.hi) {
    GQ p = map(*c.lo), q = map(*c.hi);
    lo = zip(p, q, [](const Rational& x, const Rational& y) { return x < y ? x : y; });
    hi = zip(p, q, [](const Rational& x, const Rational& y) { return x < y ? y : x; });
  } else if (negative) {
    if (c.lo) hi = map(*c.lo);
    if (c.hi) lo = map(*c.hi);
  } else {
    if (c.lo) lo = map(*c.lo);
    if (c.hi) hi = map(*c.hi);
  }
  c.lo = lo;
  c.hi = hi;
}
void clamp(Carrier& c, const std::optional<Rational>& l, const std::optional<Rational>& h) {
  // clamp(clamp(v, lo, hi), l, h) = clamp(v, clamp(lo, l, h), clamp(hi, l, h)); max wins where l > h.
  auto inner = [&](Rational q) {
    if (l && q < *l) q = *l;
    if (h && q > *h) q = *h;
    return q;
  };
  auto bound = [&](std::optional<GQ>& b, const std::optional<Rational>& outer) {
    if (b) {
      for (Rational& q : b->v) q = inner(q);
      b = compress(*b);
    } else if (outer) {
      b = GQ(inner(*outer));
    }
  };
  bound(c.lo, l);
  bound(c.hi, h);
}

struct Val {
  int buf = -1;
  Carrier c;
  std::optional<Rational> leak;  // the value is that many times what the carrier says where it is below 0; positive
};

class Lowering {
 public:
  Lowering(const Graph& bound, int max_bits, std::vector<Refusal>* refused = nullptr)
      : graph_(std::make_shared<const Graph>(prepare(bound))), g_(*graph_), max_bits_(max_bits), refused_(refused) {
    if (const auto w = g_.metadata.find(kWritable); w != g_.metadata.end()) writable_ = writable_of(w->second);
    p_.graph = graph_;
  }

  ExactProgram run() {
    kind_ = classify(g_);
    val_.resize(g_.values.size());
    float_.assign(g_.values.size(), -1);
    for (ValueId v : g_.inputs) {
      Buffer b{g_.values[v].name, shape_of(g_, v), false, 0, 0, v};
      DType t = g_.values[v].type.dtype;
      bool exact_port = kind_[v] == Kind::exact;
      if (exact_port) {
        b.integer = true;
        std::tie(b.lo, b.hi) = range_of(t);
      }
      int id = add(std::move(b));
      if (exact_port) val_[v] = {id, {}};
      else float_[v] = id;
      p_.inputs.push_back({g_.values[v].name, id, t, exact_port, {}});
    }
    for (std::size_t i = 0; i < g_.nodes.size(); ++i)
      if (g_.nodes[i].op == "Delay") delay_read(g_.nodes[i]);
    for (std::size_t i = 0; i < g_.nodes.size(); ++i) {
      const Node& n = g_.nodes[i];
      node_ = &n;
      if (n.op == "Delay" || kind_[n.outputs[0]] == Kind::constant) continue;
      if (refused_) reads_refused(n);
      if (kind_[n.outputs[0]] == Kind::floating) float_node(n, static_cast<int>(i));
      else if (!refused_) exact_node(n);
      else exact_node_or_host(n, static_cast<int>(i));
    }
    for (const Node& n : g_.nodes)
      if (n.op == "Delay") delay_write(n);
    for (ValueId v : g_.outputs) {
      Port port{g_.values[v].name, -1, g_.values[v].type.dtype, kind_[v] != Kind::floating, {}};
      if (kind_[v] == Kind::floating) {
        port.buffer = float_[v];
      } else {
        Val x = exact_val(v);
        port.buffer = x.buf;
        port.carrier = x.c;
      }
      p_.outputs.push_back(std::move(port));
    }
    return std::move(p_);
  }

 private:
  static std::pair<Int128, Int128> range_of(DType t) {
    if (size_of(t) == 8) return {INT64_MIN, INT64_MAX};
    const auto [lo, hi] = integer_range(t);
    return {static_cast<Int128>(lo), static_cast<Int128>(hi)};
  }

  int add(Buffer b) {
    if (b.integer && signed_bits(b.lo, b.hi) > max_bits_)
      throw Error(Exit::no, fmt::format("integers of [{}, {}] need {} bits, {} are allowed", tandem::to_string(b.lo), tandem::to_string(b.hi),
                                        signed_bits(b.lo, b.hi), max_bits_))
          .at(node_ ? g_.describe(*node_) : b.name)
          .fix("put a quantiser on the branch, or round its scales (--snap-scales)");
    p_.buffers.push_back(std::move(b));
    return static_cast<int>(p_.buffers.size()) - 1;
  }
  int emit(StepParams s, std::vector<int> in, Shape shape, Int128 lo, Int128 hi, bool integer = true) {
    Buffer b{node_->outputs.empty() ? node_->name : g_.values[node_->outputs[0]].name, std::move(shape), integer, lo, hi, node_->outputs[0]};
    int out = add(std::move(b));
    p_.steps.push_back({std::move(s), std::move(in), out, g_.describe(*node_)});
    return out;
  }
  const Buffer& buffer(int i) const { return p_.buffers[static_cast<std::size_t>(i)]; }

  // ---- constants ------------------------------------------------------------------------------
  // An operator that is not exact rounds its operands to their types, computes in float and rounds its result.
  Array<Rational> in_float(const Node& n, const OpDef& op, const std::vector<const Array<Rational>*>& in, std::size_t output) {
    std::vector<Array<double>> x(in.size()), out(n.outputs.size());
    EvalArgs<double> e{g_, n, {}, out};
    for (std::size_t i = 0; i < in.size(); ++i) {
      if (in[i]) x[i] = array_of(tensor_of(*in[i], g_.values[static_cast<std::size_t>(n.inputs[i])].type.dtype));
      e.in.push_back(in[i] ? &x[i] : nullptr);
    }
    op.eval.as_double(e);
    const DType t = g_.values[static_cast<std::size_t>(n.outputs[output])].type.dtype;
    for (double& v : out[output].v) v = held_as(t, v);
    return exact_array_of(tensor_of(out[output], t));
  }
  const Array<Rational>& constant(ValueId v) {
    auto it = constants_.find(v);
    if (it != constants_.end()) return it->second;
    if (const Tensor* t = g_.constant(v)) return constants_[v] = exact_array_of(*t);
    for (const Node& n : g_.nodes)
      for (std::size_t o = 0; o < n.outputs.size(); ++o)
        if (n.outputs[o] == v) {
          const OpDef& op = op_of(g_, n);
          std::vector<const Array<Rational>*> in;
          for (ValueId i : n.inputs) in.push_back(i == kNone ? nullptr : &constant(i));
          if (!op.eval.as_rational) return constants_[v] = in_float(n, op, in, o);
          std::vector<Array<Rational>> out(n.outputs.size());
          EvalArgs<Rational> e{g_, n, in, out};
          op.eval.as_rational(e);
          return constants_[v] = std::move(out[o]);
        }
    throw bad_input("value '{}' has no producer", g_.values[v].name);
  }
  bool is_constant(ValueId v) const { return v == kNone || kind_[v] == Kind::constant; }
  Rational scalar_constant(ValueId v) { return constant(v).v.at(0); }
  GQ grouped_constant(ValueId v, std::size_t rank) {
    const Array<Rational>& a = constant(v);
    GQ q;
    q.shape = aligned(a.shape, rank);
    q.v = a.v;
    return compress(std::move(q));
  }

  // Integers of constant weights w[i] = scale[group of i] * n[i], the groups along one axis.
  struct Weights {
    std::vector<std::int64_t> n;
    std::vector<Rational> scale;  // one, or one per index along the axis
  };
  Weights grid(const std::vector<Rational>& w, const std::function<std::int64_t(std::int64_t)>& axis_index, std::int64_t axis_extent) {
    auto divide = [&](const Rational& g, const Rational& q, std::int64_t& out) {
      Integer z = Rational(q / g).get_num();
      if (!z.fits_slong_p()) return false;
      out = z.get_si();
      return true;
    };
    Weights r;
    r.n.resize(w.size());
    // One grid for all where that keeps the integers narrow.
    Rational g = common_grid(w);
    bool narrow = true;
    for (std::size_t i = 0; i < w.size() && narrow; ++i)
      narrow = divide(g, w[i], r.n[i]) && std::llabs(r.n[i]) < 32768;
    if (narrow) {
      r.scale = {g};
      return r;
    }
    std::vector<std::vector<Rational>> per(static_cast<std::size_t>(axis_extent));
    for (std::size_t i = 0; i < w.size(); ++i) per[axis_index(static_cast<std::int64_t>(i))].push_back(w[i]);
    for (auto& q : per) r.scale.push_back(common_grid(q));
    for (std::size_t i = 0; i < w.size(); ++i)
      if (!divide(r.scale[axis_index(static_cast<std::int64_t>(i))], w[i], r.n[i]))
        throw Error(Exit::no, "the weights have no common grid of 64-bit integers").at(g_.describe(*node_)).fix("quantise the weights");
    return r;
  }

  // ---- values ---------------------------------------------------------------------------------
  Val exact_val(ValueId v) {
    if (kind_[v] == Kind::exact) {
      TANDEM_CHECK(val_[v].buf >= 0, "value '{}' used before it is made", g_.values[v].name);
      if (val_[v].leak) val_[v] = rectified(val_[v], *val_[v].leak);
      return val_[v];
    }
    TANDEM_CHECK(kind_[v] == Kind::constant, "float value '{}' used as exact", g_.values[v].name);
    if (val_[v].buf >= 0) return val_[v];
    const Array<Rational>& a = constant(v);
    Rational g = common_grid(a.v);
    Buffer b{g_.values[v].name, a.shape, true, 0, 0, v};
    for (const Rational& q : a.v) {
      Integer z = Rational(q / g).get_num();
      if (!z.fits_slong_p()) throw Error(Exit::no, "a constant operand has no grid of 64-bit integers").at(g_.values[v].name);
      std::int64_t n = z.get_si();
      b.int_constant.push_back(n);
      b.lo = b.int_constant.size() == 1 ? n : std::min<Int128>(b.lo, n);
      b.hi = b.int_constant.size() == 1 ? n : std::max<Int128>(b.hi, n);
    }
    Carrier c;
    c.s = GQ(g);
    val_[v] = {add(std::move(b)), c};
    return val_[v];
  }

  // Integers N with x = g * N, g > 0, no offset, no clamp. Groups of g may vary along `axis` only
  // (-1: one grid for all).
  Val materialise(Val x, int axis) {
    const Shape shape = buffer(x.buf).shape;
    Shape groups = refine(refine(x.c.s.shape, x.c.b.shape), refine(x.c.lo ? x.c.lo->shape : Shape{}, x.c.hi ? x.c.hi->shape : Shape{}));
    bool allowed = group_axis(x.c.s.shape) == -1 || group_axis(x.c.s.shape) == axis;
    bool positive = std::all_of(x.c.s.v.begin(), x.c.s.v.end(), [](const Rational& q) { return q > 0; });
    if (allowed && positive && is_zero(x.c.b) && !x.c.lo && !x.c.hi) return x;
    std::size_t count = groups.empty() ? 1 : static_cast<std::size_t>(element_count(groups));
    auto at = [&](const GQ& q) { return groups.empty() ? q : expand(q, groups); };
    GQ s = at(x.c.s), b = at(x.c.b);
    std::optional<GQ> lo, hi;
    if (x.c.lo) lo = at(*x.c.lo);
    if (x.c.hi) hi = at(*x.c.hi);
    // Which grid each group belongs to: its index along `axis`.
    std::int64_t grids = 1, inner = 1;
    if (axis >= 0 && !groups.empty()) {
      grids = groups[axis];
      inner = element_count(Shape(groups.begin() + axis + 1, groups.end()));
    }
    std::vector<std::vector<Rational>> members(static_cast<std::size_t>(grids));
    auto grid_of = [&](std::size_t i) { return static_cast<std::size_t>((static_cast<std::int64_t>(i) / inner) % grids); };
    for (std::size_t i = 0; i < count; ++i) {
      auto& m = members[grid_of(i)];
      m.push_back(s.v[i]);
      m.push_back(b.v[i]);
      if (lo) m.push_back(lo->v[i]);
      if (hi) m.push_back(hi->v[i]);
    }
    GQ g;
    g.v.clear();
    for (auto& m : members) g.v.push_back(common_grid(m));
    if (grids > 1) {
      g.shape = ones(groups.size());
      g.shape[axis] = grids;
    }
    IntLinear lin;
    lin.k.emplace_back();
    Grouped<Int128>&k = lin.k[0], &c = lin.c;
    k.shape = c.shape = groups;
    k.v.assign(count, 0);
    c.v.assign(count, 0);
    if (lo) lin.lo = Grouped<Int128>{}, lin.lo->shape = groups, lin.lo->v.assign(count, 0);
    if (hi) lin.hi = Grouped<Int128>{}, lin.hi->shape = groups, lin.hi->v.assign(count, 0);
    Int128 nlo = buffer(x.buf).lo, nhi = buffer(x.buf).hi, rlo = 0, rhi = 0;
    auto integer = [&](const Rational& q, const Rational& grid) {
      Integer z = Rational(q / grid).get_num();
      if (!fits_int128(z) || mpz_sizeinbase(z.get_mpz_t(), 2) > static_cast<std::size_t>(max_bits_)) too_wide(x.c, q, grid);
      return to_int128(z);
    };
    for (std::size_t i = 0; i < count; ++i) {
      const Rational& gr = g.v[grid_of(i)];
      k.v[i] = integer(s.v[i], gr);
      c.v[i] = integer(b.v[i], gr);
      require_width(abs(from_int128(k.v[i])) * magnitude(buffer(x.buf)) + abs(from_int128(c.v[i])));
      Integer a = from_int128(k.v[i]) * from_int128(nlo) + from_int128(c.v[i]), e = from_int128(k.v[i]) * from_int128(nhi) + from_int128(c.v[i]);
      if (a > e) std::swap(a, e);
      if (!fits_int128(a) || !fits_int128(e)) too_wide(x.c, s.v[i], gr);
      Int128 l = to_int128(a), h = to_int128(e);
      if (signed_bits(l, h) > max_bits_) too_wide(x.c, s.v[i], gr);
      if (lo) lin.lo->v[i] = integer(lo->v[i], gr), l = std::max(l, lin.lo->v[i]), h = std::max(h, lin.lo->v[i]);
      if (hi) lin.hi->v[i] = integer(hi->v[i], gr), l = std::min(l, lin.hi->v[i]), h = std::min(h, lin.hi->v[i]);
      rlo = i ? std::min(rlo, l) : l;
      rhi = i ? std::max(rhi, h) : h;
    }
    Val y;
    y.buf = emit(std::move(lin), {x.buf}, shape, rlo, rhi);
    y.c.s = compress(std::move(g));
    return y;
  }
  [[noreturn]] void too_wide(const Carrier& c, const Rational& q, const Rational& grid) {
    throw Error(Exit::no, fmt::format("the scales have no common grid of {} bits: {} on a grid of {} (input scale {}, offset {})", max_bits_,
                                      q.get_str(), grid.get_str(), c.s.v[0].get_str(), c.b.v[0].get_str()))
        .at(g_.describe(*node_))
        .fix("put a quantiser on the branch, or round its scales (--snap-scales)");
  }

  int as_float(ValueId v) {
    if (float_[v] >= 0) return float_[v];
    if (kind_[v] == Kind::constant) {
      Buffer b{g_.values[v].name, {}, false, 0, 0, v};
      if (const Tensor* t = g_.constant(v)) {
        b.constant = t;
      } else {
        p_.owned.push_back(std::make_shared<Tensor>(tensor_of(constant(v), g_.values[v].type.dtype)));
        b.constant = p_.owned.back().get();
      }
      b.shape = b.constant->shape();
      return float_[v] = add(std::move(b));
    }
    Val x = exact_val(v);
    Shape s = buffer(x.buf).shape;
    return float_[v] = emit(ToFloat{x.c, !is_float(g_.values[v].type.dtype)}, {x.buf}, s, 0, 0, false);
  }

  void float_node(const Node& n, int index) {
    std::vector<int> in;
    for (ValueId v : n.inputs) in.push_back(v == kNone ? -1 : as_float(v));
    for (std::size_t k = 0; k < n.outputs.size(); ++k)
      if (n.outputs[k] != kNone) float_[n.outputs[k]] = emit(FloatOp{index, static_cast<int>(k)}, in, shape_of(g_, n.outputs[k]), 0, 0, false);
    p_.host_nodes.push_back(g_.describe(n));
  }

  // ---- going on behind a refused node (refusal.h) ------------------------------------------------
  void reads_refused(const Node& n) {
    if (op_of(g_, n).closure == Closure::quantiser) return;
    for (ValueId v : n.inputs)
      if (v != kNone && kind_[v] == Kind::floating) now_float(n);
  }
  void now_float(const Node& n) {
    for (ValueId y : n.outputs)
      if (y != kNone) kind_[y] = Kind::floating;
  }
  void exact_node_or_host(const Node& n, int index) {
    try {
      exact_node(n);
    } catch (const Error& e) {
      if (e.code() == Exit::bug) throw;
      refused_->push_back({g_.describe(n), e.message(), e.fix()});
      now_float(n);
      float_node(n, index);
    }
  }

  // ---- exact nodes ----------------------------------------------------------------------------
  void exact_node(const Node& n) {
    const OpDef& op = op_of(g_, n);
    if (op.closure == Closure::move && op.eval.as_rational == move_exactly) return picks(n);
    if (n.op == "TopK") return topk(n);
    Val y;
    switch (op.closure) {
      case Closure::quantiser: y = quantise(n); break;
      case Closure::linear: y = n.op == "Conv" ? conv(n) : matmul(n); break;
      case Closure::affine: y = n.op == "Div" ? binary(n) : n.op == "DequantizeLinear" ? dequantise(n) : batchnorm(n); break;
      case Closure::piecewise: y = piecewise(n); break;
      case Closure::join: y = n.op == "Pow" ? pow(n) : binary(n); break;
      case Closure::pool: y = pool(n); break;
      case Closure::move: y = move(n); break;
      case Closure::index: y = n.op == "TableSoftmax" ? softmax(n) : n.op == "TableNormalize" ? normalise(n) : argmax(n); break;
      default: throw Error(Exit::no, fmt::format("operator {} has no exact lowering", n.op)).at(g_.describe(n));
    }
    val_[n.outputs[0]] = std::move(y);
  }

  Val materialise_if_clamped(Val x, int axis = -1) { return x.c.lo || x.c.hi ? materialise(std::move(x), axis) : x; }

  Val affine_val(Val x, const GQ& a, const GQ& b, const Shape& out) {
    if (buffer(x.buf).shape != out) {  // the constant broadcasts the value
      x = materialise(std::move(x), -1);
      IntLinear lin;
      lin.k = {Grouped<Int128>(1)};
      lin.c = Grouped<Int128>(0);
      Int128 lo = buffer(x.buf).lo, hi = buffer(x.buf).hi;
      x.buf = emit(std::move(lin), {x.buf}, out, lo, hi);
    }
    bool negative = std::any_of(a.v.begin(), a.v.end(), [](const Rational& q) { return q < 0; });
    bool positive = std::any_of(a.v.begin(), a.v.end(), [](const Rational& q) { return q >= 0; });
    if (negative && positive && (x.c.lo.has_value() != x.c.hi.has_value())) x = materialise(std::move(x), -1);
    affine(x.c, a, b);
    return x;
  }

  Val batchnorm(const Node& n) {
    Shape s = shape_of(g_, n.outputs[0]);
    float eps = static_cast<float>(n.attr_float("epsilon", 1e-5));
    const auto &gamma = constant(n.in(1)), &beta = constant(n.in(2)), &mean = constant(n.in(3)), &var = constant(n.in(4));
    GQ a, b;
    a.shape = b.shape = ones(s.size());
    a.shape[1] = b.shape[1] = s[1];
    a.v.clear();
    b.v.clear();
    for (std::int64_t c = 0; c < s[1]; ++c) {
      a.v.push_back(exact(batchnorm_factor(nearest_float(gamma.v[c]), nearest_float(var.v[c]), eps)));
      b.v.push_back(beta.v[c] - a.v.back() * mean.v[c]);
    }
    return affine_val(exact_val(n.in(0)), compress(std::move(a)), compress(std::move(b)), s);
  }

  Val dequantise(const Node& n) {  // (code - zero) * scale
    const Shape s = shape_of(g_, n.outputs[0]);
    GQ a, b;
    a.v = constant(n.in(1)).v;
    if (a.v.size() > 1) {
      a.shape = ones(s.size());
      a.shape[static_cast<std::size_t>(normal_axis(n.attr_int("axis", 1), static_cast<std::int64_t>(s.size()), g_, n))] = static_cast<std::int64_t>(a.v.size());
    }
    b = a;
    for (std::size_t i = 0; i < b.v.size(); ++i) b.v[i] *= n.in(2) == kNone ? Rational(0) : Rational(-constant(n.in(2)).v[i]);
    return affine_val(exact_val(n.in(0)), compress(std::move(a)), compress(std::move(b)), s);
  }

  Val piecewise(const Node& n) {
    Val x = exact_val(n.in(0));
    if (n.op == "Relu") {
      clamp(x.c, Rational(0), std::nullopt);
    } else if (n.op == "LeakyRelu") {
      const Rational a = exact(static_cast<float>(n.attr_float("alpha", 0.01)));
      if (a < 0) return rectified(x, a);
      if (a == 0) clamp(x.c, Rational(0), std::nullopt);
      else if (a != 1) x.leak = a;  // a quantiser takes it into its steps
    } else {
      std::optional<Rational> lo, hi;
      if (n.in(1) != kNone) lo = scalar_constant(n.in(1));
      if (n.in(2) != kNone) hi = scalar_constant(n.in(2));
      if (lo && hi && *lo > *hi) lo = hi;
      clamp(x.c, lo, hi);
    }
    return x;
  }

  // x above 0, and a * x below, as the sum of both halves.
  Val rectified(const Val& x, const Rational& a) {
    const Shape shape = buffer(x.buf).shape;
    Val above{x.buf, x.c, {}}, below = above;
    clamp(above.c, Rational(0), std::nullopt);
    clamp(below.c, std::nullopt, Rational(0));
    affine(below.c, GQ(a), GQ(0));
    return add_values(std::move(above), std::move(below), false, shape);
  }

  Val binary(const Node& n) {
    Shape out = shape_of(g_, n.outputs[0]);
    bool ca = is_constant(n.in(0)), cb = is_constant(n.in(1));
    if (ca != cb) {
      ValueId vx = ca ? n.in(1) : n.in(0), vc = ca ? n.in(0) : n.in(1);
      GQ q = grouped_constant(vc, out.size());
      Val x = exact_val(vx);
      // Groups of x align to the output's rank.
      auto lift = [&](GQ& w) {
        if (!w.shape.empty()) w.shape = aligned(w.shape, out.size());
      };
      if (buffer(x.buf).shape != out) x = materialise(std::move(x), -1);
      lift(x.c.s);
      lift(x.c.b);
      if (n.op == "Add") return affine_val(x, GQ(1), q, out);
      if (n.op == "Sub") {
        if (!ca) {
          for (Rational& v : q.v) v = -v;
          return affine_val(x, GQ(1), q, out);
        }
        return affine_val(x, GQ(-1), q, out);
      }
      if (n.op == "Mul") return affine_val(x, q, GQ(0), out);
      for (Rational& v : q.v) {
        if (v == 0) throw node_error(g_, n, "division by zero in an exact value");
        v = 1 / v;
      }
      return affine_val(x, q, GQ(0), out);
    }
    Val a = exact_val(n.in(0)), b = exact_val(n.in(1));
    return n.op == "Mul" ? multiply(a, b, out) : add_values(a, b, n.op == "Sub", out);
  }

  static void align_groups(Carrier& c, std::size_t rank) {
    auto lift = [&](GQ& w) {
      if (!w.shape.empty()) w.shape = aligned(w.shape, rank);
    };
    lift(c.s);
    lift(c.b);
    if (c.lo) lift(*c.lo);
    if (c.hi) lift(*c.hi);
  }

  Val multiply(Val a, Val b, const Shape& out) {
    a = materialise(std::move(a), -1);
    b = materialise(std::move(b), -1);
    align_groups(a.c, out.size());
    align_groups(b.c, out.size());
    Integer lo, hi;
    bool first = true;
    for (Int128 x : {buffer(a.buf).lo, buffer(a.buf).hi})
      for (Int128 y : {buffer(b.buf).lo, buffer(b.buf).hi}) {
        Integer z = from_int128(x) * from_int128(y);
        if (first || z < lo) lo = z;
        if (first || z > hi) hi = z;
        first = false;
      }
    if (!fits_int128(lo) || !fits_int128(hi)) too_wide(a.c, a.c.s.v[0], b.c.s.v[0]);
    Val y;
    y.c.s = product(a.c.s, b.c.s);
    y.buf = emit(IntMul{}, {a.buf, b.buf}, out, to_int128(lo), to_int128(hi));
    return y;
  }

  Val add_values(Val a, Val b, bool subtract, const Shape& out) {
    a = materialise_if_clamped(std::move(a));
    b = materialise_if_clamped(std::move(b));
    align_groups(a.c, out.size());
    align_groups(b.c, out.size());
    if (subtract) {
      for (Rational& q : b.c.s.v) q = -q;
      for (Rational& q : b.c.b.v) q = -q;
    }
    Shape groups = refine(a.c.s.shape, b.c.s.shape);
    GQ sa = groups.empty() ? a.c.s : expand(a.c.s, groups), sb = groups.empty() ? b.c.s : expand(b.c.s, groups), g = sa;
    IntLinear lin;
    lin.k.resize(2);
    for (auto& k : lin.k) k.shape = groups, k.v.assign(sa.v.size(), 0);
    lin.c = Grouped<Int128>(0);
    Int128 lo = 0, hi = 0;
    for (std::size_t i = 0; i < sa.v.size(); ++i) {
      g.v[i] = common_grid({sa.v[i], sb.v[i]});
      Integer ka = Rational(sa.v[i] / g.v[i]).get_num(), kb = Rational(sb.v[i] / g.v[i]).get_num();
      Integer l, h;
      for (auto [k, buf] : {std::pair{ka, a.buf}, std::pair{kb, b.buf}}) {
        Integer p = k * from_int128(buffer(buf).lo), q = k * from_int128(buffer(buf).hi);
        l += p < q ? p : q;
        h += p < q ? q : p;
      }
      if (!fits_int128(l) || !fits_int128(h) || !fits_int128(ka) || !fits_int128(kb) || signed_bits(to_int128(l), to_int128(h)) > max_bits_)
        throw Error(Exit::no, fmt::format("operands have scales {} and {}: their common grid needs {} bits, {} are allowed", sa.v[i].get_str(),
                                          sb.v[i].get_str(), mpz_sizeinbase(Integer(h - l).get_mpz_t(), 2) + 1, max_bits_))
            .at(g_.describe(*node_))
            .fix("put a quantiser on the branch, or round its scales (--snap-scales)");
      require_width(abs(ka) * magnitude(buffer(a.buf)) + abs(kb) * magnitude(buffer(b.buf)));
      lin.k[0].v[i] = to_int128(ka);
      lin.k[1].v[i] = to_int128(kb);
      lo = i ? std::min(lo, to_int128(l)) : to_int128(l);
      hi = i ? std::max(hi, to_int128(h)) : to_int128(h);
    }
    Val y;
    y.c.s = compress(g);
    y.c.b = sum(a.c.b, b.c.b);
    y.buf = emit(std::move(lin), {a.buf, b.buf}, out, lo, hi);
    return y;
  }

  Val pow(const Node& n) {
    Val x = exact_val(n.in(0));
    if (scalar_constant(n.in(1)) == 1) return x;
    return multiply(x, x, shape_of(g_, n.outputs[0]));
  }

  // Every partial result of an engine stays below this sum of magnitudes: it must fit as well.
  void require_width(const Integer& magnitude) {
    std::size_t bits = mpz_sizeinbase(magnitude.get_mpz_t(), 2) + 1;
    if (bits > static_cast<std::size_t>(max_bits_))
      throw Error(Exit::no, fmt::format("its integers need {} bits, {} are allowed", bits, max_bits_))
          .at(g_.describe(*node_))
          .fix("put a quantiser on the branch, or round its scales (--snap-scales)");
  }
  static Integer magnitude(const Buffer& b) { return std::max(Integer(abs(from_int128(b.lo))), Integer(abs(from_int128(b.hi)))); }

  // Range of sum_i w[i] * N with N in [lo, hi] and, for padded windows, any subset of the taps absent.
  void contract_range(const std::vector<std::int64_t>& w, const std::optional<WeightType>& type, std::int64_t outputs, const std::function<std::int64_t(std::int64_t)>& out_of,
                      Int128 lo, Int128 hi, bool subset, Int128& rlo, Int128& rhi) {
    std::vector<Int128> pos(static_cast<std::size_t>(outputs)), neg(static_cast<std::size_t>(outputs));
    if (subset) lo = std::min<Int128>(lo, 0), hi = std::max<Int128>(hi, 0);
    if (type) {  // any weights of it
      const WeightType& t = *type;
      const Integer n = Integer(static_cast<long>(w.size() / static_cast<std::size_t>(outputs))), top = std::max(Integer(abs(from_int128(lo))), Integer(abs(from_int128(hi))));
      require_width(n * top * Integer(static_cast<long>(std::max(-t.lo, t.hi))));
      const Int128 each = to_int128(n), a = t.lo * lo, b = t.lo * hi, c = t.hi * lo, d = t.hi * hi;
      rlo = each * std::min({a, b, c, d});
      rhi = each * std::max({a, b, c, d});
      return;
    }
    std::vector<unsigned __int128> weight(static_cast<std::size_t>(outputs));  // at most 2^63 weights of 2^63
    for (std::size_t i = 0; i < w.size(); ++i) weight[static_cast<std::size_t>(out_of(static_cast<std::int64_t>(i)))] += static_cast<unsigned __int128>(std::llabs(w[i]));
    Integer most = 0, top = std::max(Integer(abs(from_int128(lo))), Integer(abs(from_int128(hi))));
    for (auto sum : weight) most = std::max(most, from_int128(static_cast<Int128>(sum)));
    require_width(most * top);
    for (std::size_t i = 0; i < w.size(); ++i) {
      Int128 a = w[i] * lo, b = w[i] * hi;
      std::int64_t o = out_of(static_cast<std::int64_t>(i));
      neg[o] += std::min(a, b);
      pos[o] += std::max(a, b);
    }
    rlo = *std::min_element(neg.begin(), neg.end());
    rhi = *std::max_element(pos.begin(), pos.end());
  }

  Val conv(const Node& n) {
    for (std::size_t i = 1; i < n.inputs.size(); ++i)
      if (!is_constant(n.in(i))) throw Error(Exit::no, "a convolution of two varying values has no exact lowering").at(g_.describe(n));
    Val x = materialise(exact_val(n.in(0)), 1);
    const Array<Rational>& w = constant(n.in(1));
    Shape xs = buffer(x.buf).shape, ys = shape_of(g_, n.outputs[0]);
    const Windows win = windows_of(g_, n, spatial(xs), spatial(w.shape));
    std::int64_t O = w.shape[0], Cg = w.shape[1], kk = element_count(win.kernel), group = n.attr_int("group", 1), Og = O / group;
    bool channelwise = !x.c.s.scalar();
    std::vector<Rational> wv = w.v;
    if (channelwise)  // the input's scales vary along the contracted axis: they move into the weights
      for (std::int64_t i = 0; i < static_cast<std::int64_t>(wv.size()); ++i) wv[i] *= x.c.s.v[(i / (Cg * kk)) / Og * Cg + i / kk % Cg];
    Weights k = grid(wv, [&](std::int64_t i) { return i / (Cg * kk); }, O);
    Val y;
    GQ s;
    s.v = k.scale;
    if (k.scale.size() > 1) s.shape = {1, O, 1, 1};
    y.c.s = channelwise ? compress(s) : product(compress(s), x.c.s);
    if (n.in(2) != kNone) {
      GQ b;
      b.shape = {1, O, 1, 1};
      b.v = constant(n.in(2)).v;
      y.c.b = compress(b);
    }
    Int128 lo, hi;
    const bool padded = win.padded();
    const std::optional<WeightType> writable = writable_.weights && writable_.has(n.name) ? std::optional(weight_type(k.n)) : std::nullopt;
    contract_range(k.n, writable, O, [&](std::int64_t i) { return i / (Cg * kk); }, buffer(x.buf).lo, buffer(x.buf).hi, padded, lo, hi);
    IntConv c{std::move(k.n), O, xs[1], win.kernel[0], win.kernel[1], win.stride[0], win.stride[1], win.before[0], win.before[1], win.after[0], win.after[1],
              win.dilation[0], win.dilation[1], group, writable};
    y.buf = emit(std::move(c), {x.buf}, ys, lo, hi);
    return y;
  }

  Val matmul(const Node& n) {
    bool gemm = n.op == "Gemm";
    bool ta = gemm && n.attr_int("transA", 0), tb = gemm && n.attr_int("transB", 0);
    Rational alpha = gemm ? exact(static_cast<float>(n.attr_float("alpha", 1))) : Rational(1);
    Rational beta = gemm ? exact(static_cast<float>(n.attr_float("beta", 1))) : Rational(1);
    Shape out = shape_of(g_, n.outputs[0]);
    Val y;
    bool cb = is_constant(n.in(1));
    if (!is_constant(n.in(0)) && cb && !ta && buffer(exact_val(n.in(0)).buf).shape.size() >= 2 && constant(n.in(1)).shape.size() == 2) {
      Val x = exact_val(n.in(0));
      const Shape xs = buffer(x.buf).shape;
      int last = static_cast<int>(xs.size()) - 1;
      x = materialise(std::move(x), last);
      const Array<Rational>& w = constant(n.in(1));
      std::int64_t K = w.shape[tb ? 1 : 0], M = w.shape[tb ? 0 : 1];
      std::vector<Rational> wv(w.v.size());
      for (std::int64_t i = 0; i < K; ++i)
        for (std::int64_t j = 0; j < M; ++j) wv[i * M + j] = alpha * w.v[tb ? j * K + i : i * M + j];
      bool channelwise = !x.c.s.scalar();
      if (channelwise)
        for (std::int64_t i = 0; i < K * M; ++i) wv[i] *= x.c.s.v[i / M];
      Weights k = grid(wv, [&](std::int64_t i) { return i % M; }, M);
      GQ s;
      s.v = k.scale;
      if (k.scale.size() > 1) s.shape = ones(out.size()), s.shape.back() = M;
      y.c.s = channelwise ? compress(s) : product(compress(s), x.c.s);
      Int128 lo, hi;
      const std::optional<WeightType> writable = writable_.weights && writable_.has(n.name) ? std::optional(weight_type(k.n)) : std::nullopt;
      contract_range(k.n, writable, M, [&](std::int64_t i) { return i % M; }, buffer(x.buf).lo, buffer(x.buf).hi, false, lo, hi);
      y.buf = emit(IntMatMul{std::move(k.n), K, M, writable}, {x.buf}, out, lo, hi);
    } else {
      if (gemm && (ta || tb || is_constant(n.in(0))) )
        throw Error(Exit::no, "a Gemm of varying operands with transposition has no exact lowering").at(g_.describe(n)).fix("use Transpose and MatMul");
      Val a = materialise(exact_val(n.in(0)), -1), b = materialise(exact_val(n.in(1)), -1);
      MatMulShape ms = matmul_shape(g_, n, buffer(a.buf).shape, buffer(b.buf).shape);
      Integer lo, hi;
      bool first = true;
      for (Int128 p : {buffer(a.buf).lo, buffer(a.buf).hi})
        for (Int128 q : {buffer(b.buf).lo, buffer(b.buf).hi}) {
          Integer z = from_int128(p) * from_int128(q) * Integer(static_cast<long>(ms.k));
          if (first || z < lo) lo = z;
          if (first || z > hi) hi = z;
          first = false;
        }
      if (!fits_int128(lo) || !fits_int128(hi)) too_wide(a.c, a.c.s.v[0], b.c.s.v[0]);
      y.c.s = product(product(a.c.s, b.c.s), GQ(alpha));
      y.buf = emit(IntMatMul{{}, ms.k, ms.m}, {a.buf, b.buf}, out, to_int128(lo), to_int128(hi));
    }
    if (gemm && n.in(2) != kNone) {
      if (!is_constant(n.in(2))) throw Error(Exit::no, "a Gemm whose C varies has no exact lowering").at(g_.describe(n)).fix("use MatMul and Add");
      GQ c = grouped_constant(n.in(2), out.size());
      for (Rational& q : c.v) q *= beta;
      y.c.b = c;
    }
    return y;
  }

  Val pool(const Node& n) {
    Val x = exact_val(n.in(0));
    Shape xs = buffer(x.buf).shape, ys = shape_of(g_, n.outputs[0]);
    auto only_channels = [&](const Carrier& c) {
      auto ok = [](const Shape& s) { return group_axis(s) == -1 || group_axis(s) == 1; };
      return ok(c.s.shape) && ok(c.b.shape) && (!c.lo || ok(c.lo->shape)) && (!c.hi || ok(c.hi->shape));
    };
    if (!only_channels(x.c)) x = materialise(std::move(x), 1);
    IntPool p{};
    if (n.op == "GlobalAveragePool") {
      x = materialise_if_clamped(std::move(x), 1);
      p = {IntPool::sum, {}, xs[2], xs[3], 1, 1, 0, 0, 0, 0, {}};
      Int128 count = xs[2] * xs[3], lo = buffer(x.buf).lo, hi = buffer(x.buf).hi;
      require_width(magnitude(buffer(x.buf)) * from_int128(count));
      for (Rational& q : x.c.s.v) q /= Integer(static_cast<long>(xs[2] * xs[3]));
      x.buf = emit(std::move(p), {x.buf}, ys, lo * count, hi * count);
      return x;
    }
    const Windows w = windows_of(g_, n, spatial(xs), n.attr_ints("kernel_shape", {1, 1}));
    if (w.dilation != Shape{1, 1}) throw Error(Exit::no, "a dilated pooling has no exact lowering").at(g_.describe(n));
    p.kh = w.kernel[0], p.kw = w.kernel[1], p.stride_h = w.stride[0], p.stride_w = w.stride[1];
    p.pad_top = w.before[0], p.pad_left = w.before[1], p.pad_bottom = w.after[0], p.pad_right = w.after[1];
    if (n.op == "MaxPool") {
      p.kind = IntPool::max;
      if (std::any_of(x.c.s.v.begin(), x.c.s.v.end(), [](const Rational& q) { return q < 0; })) {
        for (std::int64_t c = 0; c < xs[1]; ++c) p.min_channel.push_back(x.c.s.v[x.c.s.scalar() ? 0 : c] < 0);
      }
      Int128 lo = buffer(x.buf).lo, hi = buffer(x.buf).hi;
      x.buf = emit(std::move(p), {x.buf}, ys, lo, hi);
      return x;
    }
    p.kind = IntPool::sum;
    auto counts = window_counts(g_, n, w, spatial(xs));
    const bool padded = w.padded();
    const std::int64_t taps = element_count(w.kernel);
    x = materialise_if_clamped(std::move(x), 1);
    if (padded && !is_zero(x.c.b)) x = materialise(std::move(x), 1);
    std::int64_t l = 1;
    for (auto c : counts) l = std::lcm(l, c);
    bool uniform = std::all_of(counts.begin(), counts.end(), [&](std::int64_t c) { return c == counts[0]; });
    Int128 lo = buffer(x.buf).lo, hi = buffer(x.buf).hi;
    if (padded) lo = std::min<Int128>(lo, 0), hi = std::max<Int128>(hi, 0);
    std::int64_t factor = 1;
    if (!uniform)
      for (auto c : counts) {
        p.position_factor.push_back(l / c);
        factor = std::max(factor, l / c);
      }
    require_width(magnitude(buffer(x.buf)) * Integer(static_cast<long>(taps)) * Integer(static_cast<long>(factor)));
    for (Rational& q : x.c.s.v) q /= Integer(static_cast<long>(uniform ? counts[0] : l));
    x.buf = emit(std::move(p), {x.buf}, ys, lo * taps * factor, hi * taps * factor);
    return x;
  }

  // Groups after a move, by moving the expanded groups like the elements.
  static GQ moved(const GQ& q, const Shape& in, const Shape& out, const std::vector<std::int64_t>& index) {
    if (q.scalar()) return GQ(q.v[0]);
    // The numbers of the groups are moved, not their rationals: an image has few groups and many elements.
    const std::vector<std::int32_t> group = group_index(q.shape, in);
    Grouped<std::int32_t> y;
    y.shape = out;
    y.v.resize(static_cast<std::size_t>(element_count(out)));
    for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = group[static_cast<std::size_t>(index.empty() ? static_cast<std::int64_t>(i) : index[i])];
    y = compress(std::move(y));
    GQ r;
    r.shape = y.shape;
    r.v.clear();
    for (std::int32_t k : y.v) r.v.push_back(q.v[static_cast<std::size_t>(k)]);
    return compress(std::move(r));
  }

  // Of a transpose, which needs no more than the groups.
  static GQ exchanged(const GQ& q, const std::vector<std::int64_t>& perm) {
    if (q.scalar()) return GQ(q.v[0]);
    Shape from(perm.size() - q.shape.size(), 1);
    from.insert(from.end(), q.shape.begin(), q.shape.end());
    GQ r;
    r.shape.clear();
    for (std::int64_t d : perm) r.shape.push_back(from[static_cast<std::size_t>(d)]);
    IntMove m{};
    m.kind = IntMove::transpose;
    m.perm = perm;
    r.v.clear();
    for (std::int64_t i : places_of(m, std::span(&from, 1), r.shape).index) r.v.push_back(q.v[static_cast<std::size_t>(i)]);
    return compress(std::move(r));
  }

  Val move(const Node& n) {
    Shape out = shape_of(g_, n.outputs[0]);
    if (n.op == "Concat") return concat(n, out);
    Val x = exact_val(n.in(0));
    if (n.op == "Identity" || n.op == "Dropout") return x;
    const Shape in = buffer(x.buf).shape;
    IntMove m{};
    if (n.op == "Transpose") {
      m.kind = IntMove::transpose;
      for (std::size_t i = 0; i < in.size(); ++i) m.perm.push_back(static_cast<std::int64_t>(in.size() - 1 - i));
      m.perm = n.attr_ints("perm", m.perm);
    } else if (n.op == "Gather") {
      m.kind = IntMove::gather;
      m.axis = normal_axis(n.attr_int("axis", 0), static_cast<std::int64_t>(in.size()), g_, n);
      const Array<Rational>& idx = constant(n.in(1));
      std::int64_t outer = element_count(Shape(in.begin(), in.begin() + m.axis)), e = in[m.axis];
      std::int64_t inner = element_count(Shape(in.begin() + m.axis + 1, in.end()));
      for (std::int64_t o = 0; o < outer; ++o)
        for (const Rational& q : idx.v) {
          std::int64_t k = q.get_num().get_si();
          if (k < 0) k += e;
          if (k < 0 || k >= e) throw node_error(g_, n, fmt::format("index {} is outside [0, {})", k, e));
          for (std::int64_t i = 0; i < inner; ++i) m.index.push_back((o * e + k) * inner + i);
        }
    } else {
      m.kind = IntMove::reshape;
    }
    Val y;
    const auto group = [&](const GQ& q) { return m.kind == IntMove::transpose ? exchanged(q, m.perm) : moved(q, in, out, m.index); };
    y.c.s = group(x.c.s);
    y.c.b = group(x.c.b);
    if (x.c.lo) y.c.lo = group(*x.c.lo);
    if (x.c.hi) y.c.hi = group(*x.c.hi);
    Int128 lo = buffer(x.buf).lo, hi = buffer(x.buf).hi;
    y.buf = emit(std::move(m), {x.buf}, out, lo, hi);
    return y;
  }

  // Operators that say by their own evaluator where each element comes from.
  void picks(const Node& n) {
    Val x = exact_val(n.in(0));
    const Shape in = buffer(x.buf).shape;
    std::vector<const Array<Rational>*> constants;
    for (std::size_t i = 0; i < n.inputs.size(); ++i) constants.push_back(i == 0 || n.in(i) == kNone ? nullptr : &constant(n.in(i)));
    const std::vector<Sources> from = sources_of(g_, n, in, constants);
    const bool filled = std::any_of(from.begin(), from.end(), [](const Sources& s) { return std::any_of(s.from.begin(), s.from.end(), [](std::int64_t i) { return i < 0; }); });
    std::int64_t fill = 0;
    if (filled) {  // the filling as an integer of one grid for all
      const Rational value = n.op == "Pad" && n.in(2) != kNone ? constant(n.in(2)).v.at(0) : Rational(0);
      const auto within = [&](const std::optional<GQ>& b, int sign) { return !b || (b->scalar() && sgn(b->v[0]) * sign <= 0); };
      if (!(x.c.s.scalar() && is_zero(x.c.b) && value == 0 && within(x.c.lo, 1) && within(x.c.hi, -1))) x = materialise(std::move(x), -1);
      const Rational z = value == 0 ? value : Rational(value / x.c.s.v[0]);
      if (!is_integer(z) || !z.get_num().fits_slong_p())
        throw Error(Exit::no, fmt::format("the padding value {} is no multiple of the scale {}", value.get_str(), x.c.s.v[0].get_str()))
            .at(g_.describe(n))
            .fix("pad with 0, or with a multiple of the scale");
      fill = z.get_num().get_si();
    }
    for (std::size_t o = 0; o < from.size(); ++o) {
      if (n.outputs[o] == kNone) continue;
      const Shape out = shape_of(g_, n.outputs[o]);
      IntMove m{};
      m.kind = IntMove::gather;
      m.axis = -1;
      m.index = from[o].from;
      m.fill = fill;
      Val y;
      y.c.s = moved(x.c.s, in, out, m.index);
      y.c.b = moved(x.c.b, in, out, m.index);
      if (x.c.lo) y.c.lo = moved(*x.c.lo, in, out, m.index);
      if (x.c.hi) y.c.hi = moved(*x.c.hi, in, out, m.index);
      Int128 lo = buffer(x.buf).lo, hi = buffer(x.buf).hi;
      if (filled) lo = std::min<Int128>(lo, fill), hi = std::max<Int128>(hi, fill);
      y.buf = emit(std::move(m), {x.buf}, out, lo, hi);
      p_.buffers.back().name = g_.values[n.outputs[o]].name;
      p_.buffers.back().value = n.outputs[o];
      val_[n.outputs[o]] = std::move(y);
    }
  }

  Val concat(const Node& n, const Shape& out) {
    std::int64_t axis = normal_axis(n.attr_int("axis", 0), static_cast<std::int64_t>(out.size()), g_, n);
    std::vector<Val> xs;
    bool clamped = false, same_all = true;
    for (ValueId v : n.inputs) {
      xs.push_back(exact_val(v));
      clamped |= xs.back().c.lo || xs.back().c.hi;
      same_all &= same(xs.back().c, xs[0].c) && xs[0].c.s.scalar() && xs[0].c.b.scalar() && (!xs[0].c.lo || xs[0].c.lo->scalar()) &&
                  (!xs[0].c.hi || xs[0].c.hi->scalar());
    }
    Val y;
    if (same_all) {
      y.c = xs[0].c;
    } else {
      if (clamped)
        for (Val& x : xs) x = materialise_if_clamped(std::move(x), static_cast<int>(axis));
      auto join = [&](auto get) {
        Shape groups;
        for (Val& x : xs) groups = refine(groups, [&] { Shape s = get(x).shape; if (!s.empty()) s[axis] = 1; return s; }());
        if (groups.empty()) groups = ones(out.size());
        groups[axis] = out[axis];
        GQ q;
        q.shape = groups;
        q.v.assign(static_cast<std::size_t>(element_count(groups)), Rational(0));
        std::int64_t at = 0, inner = element_count(Shape(groups.begin() + axis + 1, groups.end()));
        for (Val& x : xs) {
          std::int64_t e = buffer(x.buf).shape[axis];
          Shape part = groups;
          part[axis] = e;
          GQ p = expand(get(x), part);
          for (std::int64_t i = 0; i < static_cast<std::int64_t>(p.v.size()); ++i) {
            std::int64_t o = i / (e * inner), r = i % (e * inner);
            q.v[(o * out[axis] + at) * inner + r] = p.v[i];
          }
          at += e;
        }
        return compress(std::move(q));
      };
      y.c.s = join([](Val& x) -> GQ& { return x.c.s; });
      y.c.b = join([](Val& x) -> GQ& { return x.c.b; });
    }
    IntMove m{};
    m.kind = IntMove::concat;
    m.axis = axis;
    std::vector<int> in;
    Int128 lo = 0, hi = 0;
    for (std::size_t k = 0; k < xs.size(); ++k) {
      const Buffer& b = buffer(xs[k].buf);
      in.push_back(xs[k].buf);
      lo = k ? std::min(lo, b.lo) : b.lo;
      hi = k ? std::max(hi, b.hi) : b.hi;
    }
    y.buf = emit(std::move(m), in, out, lo, hi);
    return y;
  }

  // Along the axis the order of N is the order of x.
  Val ordered(const Node& n, std::int64_t axis) {
    Val x = exact_val(n.in(0));
    auto constant_along = [&](const Shape& s) { return s.empty() || s[static_cast<std::size_t>(axis)] == 1; };
    const bool is_ordered = constant_along(x.c.s.shape) && constant_along(x.c.b.shape) && !x.c.lo && !x.c.hi &&
                            std::all_of(x.c.s.v.begin(), x.c.s.v.end(), [](const Rational& q) { return q > 0; });
    return is_ordered ? x : materialise(std::move(x), -1);
  }
  Val argmax(const Node& n) {
    const Shape in = shape_of(g_, n.in(0));
    const std::int64_t axis = normal_axis(n.attr_int("axis", 0), static_cast<std::int64_t>(in.size()), g_, n);
    const Val x = ordered(n, axis);
    Val y;
    y.buf = emit(IntArgMax{axis, n.attr_int("keepdims", 1) != 0, n.attr_int("select_last_index", 0) != 0}, {x.buf},
                 shape_of(g_, n.outputs[0]), 0, in[static_cast<std::size_t>(axis)] - 1);
    return y;
  }
  bool is_read(ValueId v) const {
    return std::count(g_.outputs.begin(), g_.outputs.end(), v) > 0 ||
           std::any_of(g_.nodes.begin(), g_.nodes.end(), [&](const Node& m) { return std::count(m.inputs.begin(), m.inputs.end(), v) > 0; });
  }
  void topk(const Node& n) {
    const Shape in = shape_of(g_, n.in(0));
    const std::int64_t axis = normal_axis(n.attr_int("axis", -1), static_cast<std::int64_t>(in.size()), g_, n);
    const Val x = ordered(n, axis);
    for (std::size_t o = 0; o < n.outputs.size(); ++o) {
      if (n.outputs[o] == kNone || !is_read(n.outputs[o])) continue;
      const Shape out = shape_of(g_, n.outputs[o]);
      const Int128 lo = o ? 0 : buffer(x.buf).lo, hi = o ? in[static_cast<std::size_t>(axis)] - 1 : buffer(x.buf).hi;
      Val y;
      if (o == 0) y.c = x.c;
      y.buf = emit(IntTopK{axis, out[static_cast<std::size_t>(axis)], n.attr_int("largest", 1) != 0, o == 1}, {x.buf}, out, lo, hi);
      p_.buffers.back().name = g_.values[n.outputs[o]].name;
      p_.buffers.back().value = n.outputs[o];
      val_[n.outputs[o]] = std::move(y);
    }
  }

  // ---- by table ---------------------------------------------------------------------------------
  // Its operand on one grid, offsets apart that are the same along the axis.
  Val on_one_grid(const Node& n, std::int64_t axis) {
    Val x = exact_val(n.in(0));
    const Shape& b = x.c.b.shape;
    const bool one = x.c.s.scalar() && x.c.s.v[0] > 0 && (b.empty() || b[static_cast<std::size_t>(axis)] == 1) && !x.c.lo && !x.c.hi;
    return one ? x : materialise(std::move(x), -1);
  }
  std::vector<std::int32_t> table_of(ValueId v) {
    std::vector<std::int32_t> t;
    for (const Rational& q : constant(v).v) t.push_back(static_cast<std::int32_t>(q.get_num().get_si()));
    return t;
  }
  Val softmax(const Node& n) {
    const Shape shape = shape_of(g_, n.outputs[0]);
    const std::int64_t axis = normal_axis(n.attr_int("axis", -1), static_cast<std::int64_t>(shape.size()), g_, n);
    const Val x = on_one_grid(n, axis);
    const Int128 reach = buffer(x.buf).hi - buffer(x.buf).lo + 1;
    if (reach > kMostExponentials)
      throw Error(Exit::no, fmt::format("its operand takes {} values, a table of exponentials has at most {}", tandem::to_string(reach), kMostExponentials)).at(g_.describe(n)).fix("put a quantiser of at most 12 bits before it");
    if (shape[static_cast<std::size_t>(axis)] > kMostSoftmax)
      throw Error(Exit::no, fmt::format("a sum of {} exponentials; at most {}", shape[static_cast<std::size_t>(axis)], kMostSoftmax)).at(g_.describe(n));
    const std::vector<std::int32_t> exps = table_of(n.in(1));
    const Rational step = x.c.s.v[0] / exact(static_cast<float>(n.attr_float("x_scale", 1)));
    IntSoftmax t{axis, {}, static_cast<int>(n.attr_int("bits", 8))};
    for (long d = 0; d < static_cast<long>(reach); ++d) {
      const Rational q = step * Integer(d) + Rational(1, 2);
      Integer k = floor_of(q);
      if (is_integer(q) && mpz_odd_p(k.get_mpz_t())) k -= 1;
      t.exps.push_back(k < static_cast<long>(exps.size()) ? exps[static_cast<std::size_t>(k.get_si())] : 0);
    }
    Val y;
    y.c.s = GQ(pow2(-t.bits));
    const Int128 most = (Int128(1) << t.bits) - 1;
    y.buf = emit(std::move(t), {x.buf}, shape, 0, most);
    return y;
  }
  Val normalise(const Node& n) {
    const Shape shape = shape_of(g_, n.outputs[0]);
    const std::int64_t axis = normal_axis(n.attr_int("axis", -1), static_cast<std::int64_t>(shape.size()), g_, n), elements = shape[static_cast<std::size_t>(axis)];
    const Val x = on_one_grid(n, axis);
    const Rational scale = exact(static_cast<float>(n.attr_float("x_scale", 1)));
    if (x.c.s.v[0] != scale)
      throw Error(Exit::no, fmt::format("its operand counts in steps of {}, it in steps of {}", x.c.s.v[0].get_str(), scale.get_str())).at(g_.describe(n)).fix("put a quantiser of that scale before it");
    IntNormalize t{axis, table_of(n.in(1)), static_cast<int>(n.attr_int("root_bits", 15)), static_cast<int>(n.attr_int("bits", 8)), normalise_epsilon(g_, n, elements)};
    const Integer sum = magnitude(buffer(x.buf)) * Integer(static_cast<long>(elements));
    require_width(sum * sum + Integer(static_cast<long>(t.epsilon)));
    require_width(2 * sum * Integer(1L << (t.root_bits + 1)));
    const std::int64_t bound = normalised_bound(elements, t.roots, t.root_bits, t.bits);
    Val y;
    y.c.s = GQ(pow2(-t.bits));
    y.buf = emit(std::move(t), {x.buf}, shape, -bound, bound);
    return y;
  }

  // ---- quantisers -----------------------------------------------------------------------------
  Val quantise(const Node& n) {
    Shape shape = shape_of(g_, n.outputs[0]);
    QuantiserCasts spec = quant_spec(g_, n, shape);
    IntRequant r;
    r.casts = spec.casts;
    r.cast_group = spec.group;
    r.format = spec.format;
    r.bits = spec.bits;
    r.is_signed = spec.is_signed;
    bool custom = n.op == "Threshold";
    if (custom) {
      const Array<Rational>& t = constant(n.in(1));
      std::int64_t rows = t.shape[0], L = t.shape[1];
      r.custom_group = ones(shape.size());
      if (rows > 1) r.custom_group[1] = rows;
      for (std::int64_t i = 0; i < rows; ++i) r.custom_steps.emplace_back(t.v.begin() + i * L, t.v.begin() + (i + 1) * L);
    }
    // The output carrier: x = S * level. Zero points that differ per group become offsets.
    Val y;
    y.c.s.shape = spec.group;
    y.c.s.v.clear();
    const bool codes = n.op == "QuantizeLinear";  // its value is the code
    bool one_zero = !codes;
    for (const Cast& c : r.casts) {
      y.c.s.v.push_back(codes ? Rational(1) : c.scale);
      one_zero &= c.zero == r.casts[0].zero;
    }
    if (!one_zero && !codes) {
      y.c.b.shape = spec.group;
      y.c.b.v.clear();
      for (const Cast& c : r.casts) y.c.b.v.push_back(-c.scale * c.zero);
    }
    y.c.s = compress(y.c.s);
    y.c.b = compress(y.c.b);
    const Cast& c0 = r.casts[0];
    auto level = [&](std::int64_t k) { return one_zero ? c0.level(k) : k; };
    Int128 lo = level(c0.kmin), hi = level(c0.kmax);
    bool tables = c0.levels() <= kMaxTableLevels;
    if (tables)
      for (std::int64_t k = c0.kmin; k <= c0.kmax; ++k) r.levels.push_back(level(k));
    r.plain_codes = !one_zero;
    ValueId vx = n.in(0);
    if (kind_[vx] == Kind::floating) {
      QuantizeFloat q;
      r.group = custom ? refine(r.custom_group, r.cast_group) : r.cast_group;
      q.cast = std::move(r);
      if (tables) float_thresholds(q, shape);
      y.buf = emit(std::move(q), {as_float(vx)}, shape, lo, hi);
      return y;
    }
    const Val x = tables && kind_[vx] == Kind::exact && val_[vx].leak ? val_[vx] : exact_val(vx);
    r.in = x.c;
    r.writable = writable_.thresholds && writable_.has(n.name) && tables && r.levels.size() > 1;
    Shape group = refine(refine(x.c.s.shape, x.c.b.shape), refine(x.c.lo ? x.c.lo->shape : Shape{}, x.c.hi ? x.c.hi->shape : Shape{}));
    group = refine(group, spec.group);
    if (custom) group = refine(group, r.custom_group);
    if (element_count(group) == 1) group = ones(shape.size());
    r.group = group;
    if (tables) pull_back(r, buffer(x.buf).lo, buffer(x.buf).hi, x.leak);
    y.buf = emit(std::move(r), {x.buf}, shape, lo, hi);
    return y;
  }

  static CastStep step(const IntRequant& r, std::int32_t cast_group, std::int32_t custom_group, std::int64_t level) {
    if (!r.custom_steps.empty()) return {r.custom_steps[custom_group][level - 1], true};
    const Cast& c = r.casts[cast_group];
    return step_of(c, c.kmin + level);
  }

  // The steps of the cast, pulled back through clamp(s*N + b, lo, hi) to integers N.
  static void pull_back(IntRequant& r, Int128 nlo, Int128 nhi, const std::optional<Rational>& leak) {
    std::size_t groups = static_cast<std::size_t>(element_count(r.group));
    auto cast_of = group_index(r.cast_group, r.group);
    std::vector<std::int32_t> custom_of(groups, 0);
    if (!r.custom_steps.empty()) custom_of = group_index(r.custom_group, r.group);
    GQ s = expand(r.in.s, r.group), b = expand(r.in.b, r.group);
    std::optional<GQ> lo, hi;
    if (r.in.lo) lo = expand(*r.in.lo, r.group);
    if (r.in.hi) hi = expand(*r.in.hi, r.group);
    std::int64_t levels = static_cast<std::int64_t>(r.levels.size());
    for (std::size_t i = 0; i < groups; ++i) {
      Thresholds t;
      t.flip = s.v[i] < 0;
      Integer mlo = from_int128(t.flip ? -nhi : nlo), mhi = from_int128(t.flip ? -nlo : nhi);
      Rational a = abs(s.v[i]);
      for (std::int64_t k = 1; k < levels; ++k) {
        CastStep st = step(r, cast_of[i], custom_of[i], k);
        if (leak && st.t < 0) st.t /= *leak;
        auto reaches = [&](const Rational& q) { return st.inclusive ? q >= st.t : q > st.t; };
        Integer T;
        if (lo && reaches(lo->v[i])) {
          T = mlo;
        } else if ((hi && !reaches(hi->v[i])) || (a == 0 && !reaches(b.v[i]))) {
          T = mhi + 1;
        } else if (a == 0) {
          T = mlo;
        } else {
          Rational q = (st.t - b.v[i]) / a;
          T = ceil_of(q);
          if (!st.inclusive && is_integer(q)) T += 1;
        }
        if (T < mlo) T = mlo;
        if (T > mhi + 1) T = mhi + 1;
        t.t.push_back(to_int128(T));
      }
      r.tables.push_back(std::move(t));
    }
  }

  static void float_thresholds(QuantizeFloat& q, const Shape&) {
    IntRequant& r = q.cast;
    auto cast_of = group_index(r.cast_group, r.group);
    std::vector<std::int32_t> custom_of(cast_of.size(), 0);
    if (!r.custom_steps.empty()) custom_of = group_index(r.custom_group, r.group);
    for (std::size_t i = 0; i < cast_of.size(); ++i) {
      std::vector<float> t;
      for (std::int64_t k = 1; k < static_cast<std::int64_t>(r.levels.size()); ++k) {
        CastStep st = step(r, cast_of[i], custom_of[i], k);
        float f = nearest_float(st.t);
        if (std::isfinite(f)) {
          Rational e = exact(f);
          if (e < st.t || (!st.inclusive && e == st.t)) f = std::nextafter(f, INFINITY);
        }
        t.push_back(f);
      }
      q.thresholds.push_back(std::move(t));
    }
  }

  // ---- state ----------------------------------------------------------------------------------
  void delay_read(const Node& n) {
    node_ = &n;
    ValueId v = n.outputs[0];
    if (kind_[v] == Kind::floating)
      throw Error(Exit::no, "a Delay of a float value has no integer state").at(g_.describe(n)).fix("put a quantiser before the Delay");
    // The format of the state is that of the quantiser that feeds it.
    const Node* q = nullptr;
    ValueId at = n.in(0);
    for (int hops = 0; hops < 64 && !q; ++hops) {
      int p = g_.producer(at);
      if (p < 0) break;
      const Node& m = g_.nodes[p];
      if (m.op != "QuantizeLinear" && op_of(g_, m).closure == Closure::quantiser) q = &m;
      else if (m.op == "Identity" || m.op == "Dropout" || m.op == "Reshape" || m.op == "Flatten") at = m.in(0);
      else break;
    }
    if (!q) throw Error(Exit::no, "a Delay needs a quantiser right before it").at(g_.describe(n)).fix("put a Quant node before the Delay");
    Shape shape = n.attr_ints("shape", {});
    QuantiserCasts spec = quant_spec(g_, *q, shape_of(g_, q->outputs[0]));
    if (spec.casts.size() != 1) throw Error(Exit::no, "a Delay needs a quantiser with one scale").at(g_.describe(n));
    const Cast& c = spec.casts[0];
    State s{g_.values[v].name, shape, {}, n.attr_int("depth", 1)};
    if (n.in(1) != kNone) {
      for (const Rational& x : constant(n.in(1)).v) {
        Rational k = x / c.scale;
        if (!is_integer(k) || k < c.level(c.kmin) || k > c.level(c.kmax))
          throw node_error(g_, n, fmt::format("initial value {} is not a code of the state's format {}", nearest_double(x), spec.format));
        s.init.push_back(k.get_num().get_si());
      }
    } else {
      s.init.assign(static_cast<std::size_t>(element_count(shape)), 0);
    }
    p_.states.push_back(std::move(s));
    Val y;
    y.c.s = GQ(c.scale);
    y.buf = emit(DelayRead{static_cast<int>(p_.states.size()) - 1}, {}, shape, std::min<std::int64_t>(0, c.level(c.kmin)),
                 std::max<std::int64_t>(0, c.level(c.kmax)));
    val_[v] = y;
  }
  void delay_write(const Node& n) {
    node_ = &n;
    Val x = exact_val(n.in(0));
    const Val& state = val_[n.outputs[0]];
    if (!same(x.c, state.c)) throw Error(Exit::no, "the input of a Delay has another scale than its state").at(g_.describe(n));
    int index = -1;
    for (const Step& s : p_.steps)
      if (s.out == state.buf) index = std::get<DelayRead>(s.params).state;
    p_.steps.push_back({DelayWrite{index}, {x.buf}, -1, g_.describe(n)});
  }

  std::shared_ptr<const Graph> graph_;
  const Graph& g_;
  int max_bits_;
  Writable writable_;
  std::vector<Refusal>* refused_;
  ExactProgram p_;
  const Node* node_ = nullptr;
  std::vector<Kind> kind_;
  std::vector<Val> val_;
  std::vector<int> float_;
  std::map<ValueId, Array<Rational>> constants_;
};

}  // namespace

ExactProgram lower_exact(const Graph& bound, int max_bits) { return Lowering(bound, max_bits).run(); }

Writable writable_of(std::string_view text) {
  Writable w;
  const std::size_t colon = text.find(':');
  const auto words = [](std::string_view t, char between, auto f) {
    while (!t.empty()) {
      const std::size_t end = std::min(t.find(between), t.size());
      if (end > 0) f(t.substr(0, end));
      t.remove_prefix(std::min(end + 1, t.size()));
    }
  };
  words(text.substr(0, colon), ',', [&](std::string_view what) {
    if (what == "weights") w.weights = true;
    else if (what == "thresholds") w.thresholds = true;
    else throw bad_input("'{}' cannot be writable", printable(what)).expected("weights, thresholds, or both with a comma between");
  });
  if (colon != std::string_view::npos) words(text.substr(colon + 1), ' ', [&](std::string_view n) { w.nodes.emplace_back(n); });
  return w;
}

WeightType weight_type(const std::vector<std::int64_t>& weights) {
  if (std::all_of(weights.begin(), weights.end(), [](std::int64_t w) { return w == 1 || w == -1; })) return {1, true, -1, 1};
  std::int64_t lo = -1, hi = 0;
  for (std::int64_t w : weights) lo = std::min(lo, w), hi = std::max(hi, w);
  const int bits = signed_bits(lo, hi);
  return {bits, false, -(std::int64_t{1} << (bits - 1)), (std::int64_t{1} << (bits - 1)) - 1};
}

std::optional<ExactProgram> lower_what_can_be(const Graph& bound, int max_bits, std::vector<Refusal>& refused) {
  try {
    return Lowering(bound, max_bits, &refused).run();
  } catch (const Error& e) {
    if (e.code() == Exit::bug) throw;
    refused.push_back({e.where(), e.message(), e.fix()});
    return std::nullopt;
  }
}

}  // namespace tandem::ir
