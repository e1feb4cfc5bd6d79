#include "tandem/ir/qdq.h"

#include <cmath>

#include "tandem/ir/ops/common.h"

namespace tandem::ir {
namespace {

constexpr std::string_view kQonnx = "qonnx.custom_op.general";

const Value& value(const Graph& g, ValueId v) { return g.values[static_cast<std::size_t>(v)]; }

// The axis along which a shape varies, -1: none; nullopt: several.
std::optional<std::int64_t> only_axis(const Shape& s) {
  std::int64_t axis = -1;
  for (std::size_t i = 0; i < s.size(); ++i)
    if (s[i] != 1) {
      if (axis >= 0) return std::nullopt;
      axis = static_cast<std::int64_t>(i);
    }
  return axis;
}

struct Writer {
  const Graph& from;
  Graph g;
  QdqStats stats;

  explicit Writer(const Graph& f) : from(f), g(f) { g.nodes.clear(); }
  void left(const Node& n, const std::string& why) {
    stats.notes.push_back(fmt::format("{} stays: {}", from.describe(n), why));
    g.nodes.push_back(n);
  }
  std::string base(const Node& n) const { return n.name.empty() ? value(from, n.outputs[0]).name : n.name; }
  // A node before `n` whose output is a new value.
  ValueId before(const Node& n, const char* op, std::vector<ValueId> in, DType t, const char* suffix, std::map<std::string, Attribute> attrs = {}) {
    const ValueId y = g.add_node(op, std::move(in), std::move(attrs), base(n) + suffix);
    g.values[static_cast<std::size_t>(y)].type = {t, value(from, n.outputs[0]).type.dims};
    return y;
  }
  // `n` replaced by another operator that writes the same value.
  void instead(const Node& n, std::string op, std::string_view domain, std::vector<ValueId> in, std::map<std::string, Attribute> attrs) {
    Node m = n;
    m.op = std::move(op), m.domain = domain, m.inputs = std::move(in), m.attrs = std::move(attrs);
    g.nodes.push_back(std::move(m));
    ++stats.rewritten;
  }
  Graph done(QdqStats* to) {
    remove_dead(g);
    compact_values(g);
    if (to) *to = std::move(stats);
    return std::move(g);
  }
};

}  // namespace

Graph to_qdq(const Graph& graph, QdqStats* stats, bool wide) {
  Graph typed = graph;
  infer_shapes(typed);
  Writer w(typed);
  for (const Node& n : typed.nodes) {
    if (n.domain != kQonnx || (n.op != "Quant" && n.op != "BipolarQuant")) {
      w.g.nodes.push_back(n);
      continue;
    }
    const auto& dims = value(typed, n.in(0)).type.dims;
    if (!dims || !all_known(*dims)) {
      w.left(n, "its extents are not known");
      continue;
    }
    const QuantiserCasts q = quant_spec(typed, n, shape_of(typed, n.in(0)));
    const auto axis = only_axis(q.group);
    const Cast& c0 = q.casts[0];
    if (c0.bipolar) {
      w.left(n, "codes of -1 and +1 have no zero, which QuantizeLinear cannot say");
      continue;
    }
    if (q.bits > (wide ? 16 : 8)) {
      w.left(n, fmt::format("{} bits", q.bits));
      continue;
    }
    if (c0.rounding != Rounding::half_even) {
      w.left(n, fmt::format("it rounds {}", to_string(c0.rounding)));
      continue;
    }
    if (!axis) {
      w.left(n, fmt::format("its scales vary along several axes: {}", tandem::to_string(q.group)));
      continue;
    }
    const DType t = q.bits > 8 ? (q.is_signed ? DType::i16 : DType::u16) : q.is_signed ? DType::i8 : DType::u8;
    const auto [least, most] = std::pair(q.is_signed ? -(1 << (8 * size_of(t) - 1)) : 0, (1 << (8 * size_of(t) - (q.is_signed ? 1 : 0))) - 1);
    const Shape per = *axis < 0 ? Shape{} : Shape{static_cast<std::int64_t>(q.casts.size())};
    Tensor scale(DType::f32, per), zero(t, per);
    bool fits = true, odd = false, exact_scale = true;
    for (std::size_t i = 0; i < q.casts.size(); ++i) {
      const double z = q.casts[i].zero.get_d();
      fits &= z >= least && z <= most;
      odd |= std::fmod(z, 2) != 0;
      exact_scale &= exact(nearest_float(q.casts[i].scale)) == q.casts[i].scale;
      scale.set(static_cast<std::int64_t>(i), nearest_double(q.casts[i].scale));
      if (fits) zero.set(static_cast<std::int64_t>(i), z);
    }
    if (!fits || !exact_scale) {
      w.left(n, fits ? "its scale is no f32" : "its zero point is no code");
      continue;
    }
    if (odd) w.stats.notes.push_back(fmt::format("{}: ties at odd zero points go to the other side", typed.describe(n)));
    std::map<std::string, Attribute> attrs;
    if (*axis >= 0) attrs["axis"] = *axis;
    const std::string base = w.base(n);
    const ValueId s = w.g.add_constant(base + "_scale", scale), z = w.g.add_constant(base + "_zero", zero);
    ValueId codes;
    if (const Tensor* x = typed.constant(n.in(0))) {
      Tensor k(t, x->shape());
      const Broadcaster group(q.group, x->shape());
      for (std::int64_t i = 0; i < x->size(); ++i) k.set(i, static_cast<double>(cast_code(q.casts[static_cast<std::size_t>(group(i))], exact(x->at(i)))));
      codes = w.g.add_constant(value(typed, n.in(0)).name + "_codes", std::move(k));
    } else {
      codes = w.before(n, "QuantizeLinear", {n.in(0), s, z}, t, "_quantize", attrs);
      if (c0.kmin != least || c0.kmax != most) {
        Tensor lo(t, Shape{}), hi(t, Shape{});
        lo.set(0, static_cast<double>(c0.kmin)), hi.set(0, static_cast<double>(c0.kmax));
        codes = w.before(n, "Clip", {codes, w.g.add_constant(base + "_least", lo), w.g.add_constant(base + "_most", hi)}, t, "_clip");
      }
    }
    w.instead(n, "DequantizeLinear", "", {codes, s, z}, attrs);
  }
  return w.done(stats);
}

Graph from_qdq(const Graph& graph, QdqStats* stats) {
  Graph typed = graph;
  infer_shapes(typed);
  const UseMap uses(typed);
  const auto producer = [&](ValueId v) -> const Node* {
    const int p = v == kNone ? -1 : uses.producer[static_cast<std::size_t>(v)];
    return p < 0 ? nullptr : &typed.nodes[static_cast<std::size_t>(p)];
  };
  const auto same = [&](ValueId a, ValueId b) {
    if (a == b) return true;
    const Tensor *x = a == kNone ? nullptr : typed.constant(a), *y = b == kNone ? nullptr : typed.constant(b);
    return x && y && x->same(*y);
  };
  Writer w(typed);
  for (const Node& n : typed.nodes) {
    if (!n.domain.empty() || n.op != "DequantizeLinear") {
      w.g.nodes.push_back(n);
      continue;
    }
    const auto& dims = value(typed, n.in(0)).type.dims;
    const Tensor *codes = typed.constant(n.in(0)), *scale = typed.constant(n.in(1)), *zero = n.in(2) == kNone ? nullptr : typed.constant(n.in(2));
    const DType t = value(typed, n.in(0)).type.dtype;
    if (!dims || !scale || (n.in(2) != kNone && !zero)) {
      w.left(n, "its rank, scale or zero point is not known");
      continue;
    }
    std::int64_t bits = static_cast<std::int64_t>(8 * size_of(t));
    bool narrow = false;
    ValueId x = kNone;
    const bool is_signed = is_signed_integer(t);
    if (!codes) {
      const Node* q = producer(n.in(0));
      if (q && q->domain.empty() && q->op == "Clip" && q->in(1) != kNone && q->in(2) != kNone) {
        const Tensor *lo = typed.constant(q->in(1)), *hi = typed.constant(q->in(2));
        if (!lo || !hi || lo->size() != 1 || hi->size() != 1) {
          w.left(n, "the bounds of its codes are not constant");
          continue;
        }
        const std::int64_t l = lo->int_at(0), h = hi->int_at(0);
        bits = 0;
        for (std::int64_t b = 1; b <= 16 && !bits; ++b)
          for (const bool thin : {false, true}) {
            const std::int64_t top = (std::int64_t{1} << (is_signed ? b - 1 : b)) - 1;
            if (is_signed ? h == top && l == (thin ? -top : -top - 1) && b > 1 : l == 0 && h == top - (thin ? 1 : 0) && (b > 1 || !thin)) bits = b, narrow = thin;
          }
        if (!bits) {
          w.left(n, fmt::format("codes of {} to {} are those of no width", l, h));
          continue;
        }
        q = producer(q->in(0));
      }
      if (!q || !q->domain.empty() || q->op != "QuantizeLinear") {
        w.left(n, "its codes come from no QuantizeLinear");
        continue;
      }
      if (!same(q->in(1), n.in(1)) || !same(q->in(2), n.in(2)) || (scale->size() > 1 && q->attr_int("axis", 1) != n.attr_int("axis", 1))) {
        w.left(n, fmt::format("{} has another scale or zero point", typed.describe(*q)));
        continue;
      }
      x = q->in(0);
    }
    const std::string base = w.base(n);
    Shape group;
    if (scale->size() > 1) {
      group.assign(dims->size(), 1);
      group[static_cast<std::size_t>(normal_axis(n.attr_int("axis", 1), static_cast<std::int64_t>(dims->size()), typed, n))] = scale->size();
    }
    Tensor s(DType::f32, group), z(DType::f32, group);
    bool odd = false;
    for (std::int64_t i = 0; i < s.size(); ++i) {
      s.set(i, scale->at(i));
      z.set(i, zero ? zero->at(i) : 0);
      odd |= std::fmod(z.at(i), 2) != 0;
    }
    if (codes) {
      // The constant in float: a Quant of it gives the codes back, as f32 rounding stays far from half a step.
      Tensor f(DType::f32, codes->shape());
      const Broadcaster at(group.empty() ? Shape(codes->shape().size(), 1) : group, codes->shape());
      for (std::int64_t i = 0; i < f.size(); ++i) f.set(i, (static_cast<double>(codes->int_at(i)) - z.at(at(i))) * s.at(at(i)));
      if (bits > 16) {  // a bias of 32 bits has more digits than f32: it stays as it is
        w.left(n, "32-bit codes, which an f32 constant does not hold");
        continue;
      }
      x = w.g.add_constant(base + "_values", std::move(f));
    } else if (odd) {
      w.stats.notes.push_back(fmt::format("{}: ties at odd zero points go to the other side", typed.describe(n)));
    }
    const ValueId sv = w.g.add_constant(base + "_scale", s), zv = w.g.add_constant(base + "_zero", z), bv = w.g.add_constant(base + "_bits", Tensor::scalar(static_cast<float>(bits)));
    w.instead(n, "Quant", kQonnx, {x, sv, zv, bv}, {{"signed", std::int64_t{is_signed}}, {"narrow", std::int64_t{narrow}}, {"rounding_mode", std::string("ROUND")}});
  }
  return w.done(stats);
}

}  // namespace tandem::ir
