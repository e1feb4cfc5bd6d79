#include "tandem/proof/verify.h"

#include <cmath>

#include "tandem/base/rng.h"
#include "tandem/tool/iverilog.h"
#include "tandem/tool/verilator.h"

namespace tandem {
namespace {
using I = std::int64_t;
using plan::Layer;
using plan::LayerKind;
using plan::StageGraph;
using plan::StageKind;

// A random exact program with its own brute-force interpreter: loops over the definitions, in the logical
// layout, without anything of `plan` or `rtl`.
struct Net {
  bool lifts = false;
  ir::ExactProgram p;
  std::vector<std::vector<Int128>> run(const std::vector<Int128>& input) const;
};

int buffer(Net& n, Shape s, Int128 lo, Int128 hi) {
  ir::Buffer b;
  b.name = fmt::format("v{}", n.p.buffers.size());
  b.shape = std::move(s);
  b.lo = lo;
  b.hi = hi;
  n.p.buffers.push_back(std::move(b));
  return static_cast<int>(n.p.buffers.size()) - 1;
}
int step(Net& n, ir::StepParams params, int in, Shape out, Int128 lo, Int128 hi, int in2 = -1) {
  ir::Step s;
  s.params = std::move(params);
  s.in = in2 < 0 ? std::vector<int>{in} : std::vector<int>{in, in2};
  s.out = buffer(n, std::move(out), lo, hi);
  s.node = fmt::format("node 'n{}'", n.p.steps.size());
  n.p.steps.push_back(s);
  return s.out;
}

std::vector<std::vector<Int128>> Net::run(const std::vector<Int128>& input) const {
  std::vector<std::vector<Int128>> v(p.buffers.size());
  v[static_cast<std::size_t>(p.inputs[0].buffer)] = input;
  for (const ir::Step& s : p.steps) {
    const std::vector<Int128>& x = v[static_cast<std::size_t>(s.in[0])];
    const Shape& in = p.buffers[static_cast<std::size_t>(s.in[0])].shape;
    const Shape& out = p.buffers[static_cast<std::size_t>(s.out)].shape;
    std::vector<Int128>& y = v[static_cast<std::size_t>(s.out)];
    y.assign(static_cast<std::size_t>(element_count(out)), 0);
    auto X = [&](I c, I i, I j) -> Int128 { return x[static_cast<std::size_t>((c * in[2] + i) * in[3] + j)]; };
    auto channel = [&](std::size_t e) { return out.size() == 4 ? static_cast<I>(e) / (out[2] * out[3]) : static_cast<I>(e) % out.back(); };
    if (auto* c = std::get_if<ir::IntConv>(&s.params)) {
      const I ig = c->in_channels / c->group, og = c->out_channels / c->group;
      for (I o = 0, e = 0; o < out[1]; ++o)
        for (I i = 0; i < out[2]; ++i)
          for (I j = 0; j < out[3]; ++j, ++e)
            for (I ch = 0; ch < ig; ++ch)
              for (I a = 0; a < c->kh; ++a)
                for (I b = 0; b < c->kw; ++b) {
                  const I r = i * c->stride_h + a * c->dilation_h - c->pad_top, q = j * c->stride_w + b * c->dilation_w - c->pad_left;
                  if (r < 0 || q < 0 || r >= in[2] || q >= in[3]) continue;
                  y[static_cast<std::size_t>(e)] += X(o / og * ig + ch, r, q) * c->weights[static_cast<std::size_t>(((o * ig + ch) * c->kh + a) * c->kw + b)];
                }
    } else if (auto* c = std::get_if<ir::IntMatMul>(&s.params)) {
      for (std::size_t e = 0; e < y.size(); ++e)
        for (I k = 0; k < c->k; ++k)
          y[e] += x[e / static_cast<std::size_t>(c->m) * static_cast<std::size_t>(c->k) + static_cast<std::size_t>(k)] *
                  c->weights[static_cast<std::size_t>(k * c->m) + e % static_cast<std::size_t>(c->m)];
    } else if (auto* c = std::get_if<ir::IntPool>(&s.params)) {
      for (I o = 0, e = 0; o < out[1]; ++o)
        for (I i = 0; i < out[2]; ++i)
          for (I j = 0; j < out[3]; ++j, ++e) {
            bool any = false;
            const bool least = c->kind == ir::IntPool::min || (!c->min_channel.empty() && c->min_channel[static_cast<std::size_t>(o)]);
            for (I a = 0; a < c->kh; ++a)
              for (I b = 0; b < c->kw; ++b) {
                const I r = i * c->stride_h + a - c->pad_top, q = j * c->stride_w + b - c->pad_left;
                if (r < 0 || q < 0 || r >= in[2] || q >= in[3]) continue;
                Int128& t = y[static_cast<std::size_t>(e)];
                const Int128 z = X(o, r, q);
                if (c->kind == ir::IntPool::sum) t += z;
                else if (!any || (least ? z < t : z > t)) t = z;
                any = true;
              }
          }
    } else if (auto* c = std::get_if<ir::IntRequant>(&s.params)) {
      for (std::size_t e = 0; e < y.size(); ++e) {
        const ir::Thresholds& t = c->tables[c->tables.size() == 1 ? 0 : static_cast<std::size_t>(channel(e))];
        std::size_t k = 0;
        for (Int128 q : t.t) k += q <= (t.flip ? -x[e] : x[e]);
        y[e] = c->levels[k];
      }
    } else if (auto* c = std::get_if<ir::IntLinear>(&s.params)) {
      auto at = [&](const ir::Grouped<Int128>& g, std::size_t e) { return g.v[g.v.size() == 1 ? 0 : static_cast<std::size_t>(channel(e))]; };
      for (std::size_t e = 0; e < y.size(); ++e) {
        y[e] = at(c->c, e);
        for (std::size_t i = 0; i < s.in.size(); ++i) y[e] += at(c->k[i], e) * v[static_cast<std::size_t>(s.in[i])][e];
        if (c->lo) y[e] = std::max(y[e], at(*c->lo, e));
        if (c->hi) y[e] = std::min(y[e], at(*c->hi, e));
      }
    } else if (auto* c = std::get_if<ir::IntMove>(&s.params)) {
      if (c->kind == ir::IntMove::reshape) {
        y = x;
      } else {  // NCHW to NHWC
        for (I i = 0, e = 0; i < in[2]; ++i)
          for (I j = 0; j < in[3]; ++j)
            for (I o = 0; o < in[1]; ++o, ++e) y[static_cast<std::size_t>(e)] = X(o, i, j);
      }
    } else if (auto* c = std::get_if<ir::IntArgMax>(&s.params)) {
      const std::size_t n = static_cast<std::size_t>(in.back());
      for (std::size_t e = 0; e < y.size(); ++e) {
        std::size_t best = 0;
        for (std::size_t i = 1; i < n; ++i) {
          const Int128 a = x[e * n + i], b = x[e * n + best];
          if (a > b || (c->last && a == b)) best = i;
        }
        y[e] = static_cast<I>(best);
      }
    }
  }
  return v;
}

// The range of a step's result, by intervals over its own definition.
Int128 worst(const std::vector<I>& w, std::size_t begin, std::size_t count, std::size_t stride, Int128 lo, Int128 hi, bool most) {
  Int128 s = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const Int128 a = w[begin + i * stride] * lo, b = w[begin + i * stride] * hi;
    s += most ? std::max(a, b) : std::min(a, b);
  }
  return s;
}

struct Maker {
  Rng& r;
  Net& n;
  int b = -1;
  const ir::Buffer& at() const { return n.p.buffers[static_cast<std::size_t>(b)]; }

  void input(Shape s) {
    const int bits = static_cast<int>(r.range(1, 8));
    const bool sign = bits > 1 && r.chance(0.5);
    const I lo = sign ? -(I(1) << (bits - 1)) : 0, hi = sign ? -lo - 1 : (I(1) << bits) - 1;
    b = buffer(n, std::move(s), lo, hi);
    n.p.inputs.push_back({"x", b, DType::f32, true, {}});
  }
  std::vector<I> weights(std::size_t count) {
    const int bits = r.chance(0.2) ? 1 : static_cast<int>(r.range(1, 8));
    std::vector<I> w(count);
    const I m = (I(1) << bits) / 2;
    for (I& x : w) x = bits == 1 ? (r.chance(0.5) ? 1 : -1) : r.range(-m, m - 1);
    return w;
  }
  void conv() {
    const Shape s = at().shape;
    const Int128 lo = std::min<Int128>(at().lo, 0), hi = std::max<Int128>(at().hi, 0);
    ir::IntConv c{};
    const bool depthwise = r.chance(0.3);
    c.in_channels = s[1];
    c.out_channels = depthwise ? s[1] : r.range(1, 6);
    c.group = depthwise ? s[1] : s[1] % 2 == 0 && c.out_channels % 2 == 0 && r.chance(0.4) ? 2 : 1;
    c.dilation_h = c.dilation_w = 1;
    c.kh = r.range(1, std::min<I>(3, s[2]));
    c.kw = r.range(1, std::min<I>(3, s[3]));
    if (c.kw > 1 && s[3] > 2 * (c.kw - 1) && r.chance(0.2)) c.dilation_w = 2;
    if (c.kh > 1 && s[2] > 2 * (c.kh - 1) && r.chance(0.2)) c.dilation_h = 2;
    c.stride_h = r.range(1, 2);
    c.stride_w = r.range(1, 2);
    if (r.chance(0.5)) {
      c.pad_top = r.range(0, c.kh - 1);
      c.pad_left = r.range(0, c.kw - 1);
      c.pad_bottom = r.range(0, c.kh - 1);
      c.pad_right = r.range(0, c.kw - 1);
    }
    const I oh = (s[2] + c.pad_top + c.pad_bottom - (c.kh - 1) * c.dilation_h - 1) / c.stride_h + 1;
    const I ow = (s[3] + c.pad_left + c.pad_right - (c.kw - 1) * c.dilation_w - 1) / c.stride_w + 1;
    const std::size_t per = static_cast<std::size_t>(s[1] / c.group * c.kh * c.kw);
    c.weights = weights(per * static_cast<std::size_t>(c.out_channels));
    Int128 a = 0, z = 0;
    for (std::size_t o = 0; o < static_cast<std::size_t>(c.out_channels); ++o) {
      a = std::min(a, worst(c.weights, o * per, per, 1, lo, hi, false));
      z = std::max(z, worst(c.weights, o * per, per, 1, lo, hi, true));
    }
    const Shape out{1, c.out_channels, oh, ow};
    b = step(n, std::move(c), b, out, a, z);
  }
  void dense() {
    const Shape s = at().shape;
    const I k = s.back(), m = r.range(1, 12);
    ir::IntMatMul x{weights(static_cast<std::size_t>(k * m)), k, m};
    Int128 a = 0, z = 0;
    for (std::size_t o = 0; o < static_cast<std::size_t>(m); ++o) {
      a = std::min(a, worst(x.weights, o, static_cast<std::size_t>(k), static_cast<std::size_t>(m), at().lo, at().hi, false));
      z = std::max(z, worst(x.weights, o, static_cast<std::size_t>(k), static_cast<std::size_t>(m), at().lo, at().hi, true));
    }
    Shape out = s;
    out.back() = m;
    b = step(n, std::move(x), b, out, a, z);
  }
  void pool() {
    const Shape s = at().shape;
    ir::IntPool x{};
    x.kind = static_cast<ir::IntPool::Kind>(r.range(0, 2));
    x.kh = r.range(1, std::min<I>(3, s[2]));
    x.kw = r.range(1, std::min<I>(3, s[3]));
    x.stride_h = r.range(1, 3);
    x.stride_w = r.range(1, 3);
    if (x.kh > 1 && x.kw > 1 && r.chance(0.4)) x.pad_top = x.pad_left = x.pad_bottom = x.pad_right = 1;
    else if (x.kind == ir::IntPool::max && r.chance(0.5))
      for (I c = 0; c < s[1]; ++c) x.min_channel.push_back(r.chance(0.5));
    const I oh = (s[2] + x.pad_top + x.pad_bottom - x.kh) / x.stride_h + 1, ow = (s[3] + x.pad_left + x.pad_right - x.kw) / x.stride_w + 1;
    Int128 lo = at().lo, hi = at().hi;
    if (x.kind == ir::IntPool::sum) {
      lo = std::min<Int128>(lo, 0) * x.kh * x.kw;
      hi = std::max<Int128>(hi, 0) * x.kh * x.kw;
    }
    b = step(n, std::move(x), b, {1, s[1], oh, ow}, lo, hi);
  }
  void requant() {
    const Shape s = at().shape;
    ir::IntRequant x{};
    const bool arithmetic = r.chance(0.5);
    const I bits = arithmetic ? r.range(3, 8) : r.range(1, 5);
    const bool bipolar = bits == 1 && r.chance(0.5);
    const I levels = bipolar ? 2 : r.chance(0.2) ? r.range(2, I(1) << bits) : I(1) << bits;
    const I base = r.chance(0.5) ? 0 : -(levels / 2);
    for (I i = 0; i < levels; ++i) x.levels.push_back(bipolar ? 2 * i - 1 : base + i);
    const bool ties = r.chance(0.5);
    const I parity = r.range(0, 1);
    const std::size_t axis = s.size() == 4 ? 1 : s.size() - 1;
    const bool per = r.chance(0.6) && s[axis] > 1;
    x.group = Shape(s.size(), 1);
    if (per) x.group[axis] = s[axis];
    for (I c = 0; c < (per ? s[axis] : 1); ++c) {
      ir::Thresholds t;
      t.flip = r.chance(0.25);
      const I lo = static_cast<I>(t.flip ? -at().hi : at().lo), hi = static_cast<I>(t.flip ? -at().lo : at().hi) + 1;
      if (arithmetic) {  // steps of a factor, an offset and a shift: the levels cover about the range of N
        const I span = std::max<I>(1, hi - lo), m = r.range(1, I(1) << r.range(0, 9));
        const int shift = static_cast<int>(std::clamp<I>(std::llround(std::log2(static_cast<double>(m * span) / (static_cast<double>(levels) * (0.5 + r.uniform())))), 0, 30));
        const I offset = -m * lo + r.range(-(I(1) << shift), I(1) << shift);
        for (I k = 1; k < levels; ++k) {  // the least N with m N + offset >= (k << shift), + 1 where a tie goes down
          const I need = (k << shift) + (ties ? (k + parity) & 1 : 0) - offset;
          t.t.push_back(need >= 0 ? (need + m - 1) / m : -(-need / m));
        }
      } else {
        for (I i = 1; i < levels; ++i) t.t.push_back(r.range(lo, hi));
      }
      std::sort(t.t.begin(), t.t.end());
      x.tables.push_back(std::move(t));
    }
    const I lo = x.levels.front(), hi = x.levels.back();
    b = step(n, std::move(x), b, s, lo, hi);
  }
  ir::Grouped<Int128> grouped(I lo, I hi, bool per) {
    const Shape& s = at().shape;
    const std::size_t axis = s.size() == 4 ? 1 : s.size() - 1;
    ir::Grouped<Int128> g;
    g.shape = Shape(s.size(), 1);
    if (per) g.shape[axis] = s[axis];
    g.v.clear();
    for (I c = 0; c < (per ? s[axis] : 1); ++c) g.v.push_back(r.range(lo, hi));
    if (g.v.size() == 1) g.shape.clear();
    return g;
  }
  void linear(int other = -1) {
    const bool per = r.chance(0.5);
    ir::IntLinear x;
    x.k.push_back(grouped(-3, 5, per));
    if (other >= 0) x.k.push_back(grouped(-2, 4, r.chance(0.5)));
    x.c = grouped(-20, 20, r.chance(0.5));
    if (r.chance(0.5)) x.lo = grouped(-30, 0, false);
    if (r.chance(0.3)) x.hi = grouped(5, 60, per);
    const Shape s = at().shape;
    // The range by intervals over the extreme constants.
    auto ends = [](const ir::Grouped<Int128>& g) { return std::pair(*std::min_element(g.v.begin(), g.v.end()), *std::max_element(g.v.begin(), g.v.end())); };
    auto [lo, hi] = ends(x.c);
    for (std::size_t i = 0; i < x.k.size(); ++i) {
      const ir::Buffer& in = n.p.buffers[static_cast<std::size_t>(i ? other : b)];
      const auto [k0, k1] = ends(x.k[i]);
      const std::array<Int128, 4> e{k0 * in.lo, k0 * in.hi, k1 * in.lo, k1 * in.hi};
      lo += *std::min_element(e.begin(), e.end());
      hi += *std::max_element(e.begin(), e.end());
    }
    if (x.lo && x.k[0].v.size() == x.c.v.size() && other < 0)  // a channel that the lower clamp lifts as a whole
      for (std::size_t c = 0; c < x.c.v.size(); ++c)
        n.lifts = n.lifts || std::max(x.k[0].v[c] * at().lo, x.k[0].v[c] * at().hi) + x.c.v[c] < x.lo->v[0];
    if (x.lo) lo = std::max(lo, ends(*x.lo).first), hi = std::max(hi, ends(*x.lo).second);
    if (x.hi) hi = std::min(hi, ends(*x.hi).second), lo = std::min(lo, ends(*x.hi).first);
    b = step(n, std::move(x), b, s, lo, hi, other);
  }
  void reshape() { b = step(n, ir::IntMove{.kind = ir::IntMove::reshape}, b, {1, element_count(at().shape)}, at().lo, at().hi); }
  void transpose() {
    const Shape s = at().shape;
    b = step(n, ir::IntMove{.kind = ir::IntMove::transpose, .perm = {0, 2, 3, 1}}, b, {1, s[2], s[3], s[1]}, at().lo, at().hi);
  }
  void finish() {
    if (at().shape.size() == 2 && r.chance(0.3)) b = step(n, ir::IntArgMax{1, false, r.chance(0.5)}, b, {1}, 0, at().shape[1] - 1);
    n.p.outputs.push_back({"y", b, DType::f32, true, {}});
  }
};

Net random_net(Rng r) {
  Net n;
  Maker m{r, n};
  const bool image = r.chance(0.65);
  if (image) {
    m.input({1, r.range(1, 4), r.range(1, 7), r.range(1, 7)});
    const I layers = r.range(1, 3);
    for (I i = 0; i < layers; ++i) {
      const double u = r.uniform();
      if (u < 0.6) m.conv();
      else if (u < 0.85) m.pool();
      else m.linear();
      if (r.chance(0.25)) {  // a skip connection around one requantiser
        m.requant();
        const int skip = m.b;
        m.linear();
        m.linear(skip);
      }
      if (i + 1 < layers || r.chance(0.7)) m.requant();
    }
    if (r.chance(0.5)) {
      if (r.chance(0.2)) m.transpose();
      m.reshape();
      m.dense();
      if (r.chance(0.5)) m.requant();
    }
  } else {
    if (r.chance(0.2)) m.input({1, r.range(1, 4), r.range(1, 9)});
    else m.input({1, r.range(1, 16)});
    const I layers = r.range(1, 3);
    for (I i = 0; i < layers; ++i) {
      m.dense();
      if (i + 1 < layers || r.chance(0.6)) m.requant();
    }
  }
  m.finish();
  return n;
}

plan::Folding random_folding(const StageGraph& g, Rng r) {
  plan::Folding f = plan::smallest_folding(g);
  auto divisor = [&](I n) {
    std::vector<I> d;
    for (I i = 1; i <= n; ++i)
      if (n % i == 0) d.push_back(i);
    return r.pick(d);
  };
  for (std::size_t i = 0; i < f.of.size(); ++i) {
    const Layer& l = g.layers[i];
    if (l.kind == LayerKind::dense) f.of[i] = {divisor(plan::most_pe(l)), divisor(plan::most_simd(l)), plan::Requantiser::automatic, r.chance(0.2)};
    if (l.kind == LayerKind::depthwise || l.kind == LayerKind::pool) f.of[i].pe = divisor(l.mh);
    if (l.kind == LayerKind::depthwise && r.chance(0.5)) f.of[i].multipliers = plan::Multipliers::logic;
    if (l.kind == LayerKind::dense) {
      const double u = r.uniform();
      plan::Fold& x = f.of[i];
      if (u < 0.25) x.multipliers = plan::Multipliers::logic;
      else if (u < 0.5 && l.groups == 1) x = {.pe = l.mh, .simd = x.simd, .multipliers = plan::Multipliers::constant};
      else if (u < 0.75 && !l.bipolar && l.weight_bits > 1 && x.pe > 1) x.multipliers = plan::Multipliers::packed, x.per_dsp = static_cast<int>(r.range(2, std::min<I>(4, x.pe)));
    }
    if (l.kind == LayerKind::requant)
      f.of[i].requantiser = l.rescale && r.chance(0.7) ? plan::Requantiser::arithmetic : r.chance(0.5) ? plan::Requantiser::table : plan::Requantiser::automatic;
  }
  return f;
}

struct Case {
  Net net;
  StageGraph graph;
  plan::Folding folding;
  rtl::Design design;
  proof::Stimulus stimulus;
};
Case random_case(std::uint64_t seed, std::string_view prefix, I frames) {
  Rng r(seed, "rtl");
  Case c;
  c.net = random_net(r.fork("net"));
  c.graph = plan::stages_from(c.net.p);
  c.folding = random_folding(c.graph, r.fork("folding"));
  c.design = rtl::generate(c.graph, c.folding, prefix);
  Rng d = r.fork("data");
  const ir::Buffer& in = c.net.p.buffers[static_cast<std::size_t>(c.net.p.inputs[0].buffer)];
  for (I f = 0; f < frames; ++f) {
    std::vector<Int128> x(static_cast<std::size_t>(element_count(in.shape)));
    for (Int128& v : x)  // all lowest, all highest, then random
      v = f == 0 ? in.lo : f == 1 ? in.hi : static_cast<Int128>(d.range(static_cast<I>(in.lo), static_cast<I>(in.hi)));
    const auto all = c.net.run(x);
    const auto a = plan::to_stream(c.graph.input, x.data());
    const auto b = plan::to_stream(c.graph.output, all[static_cast<std::size_t>(c.net.p.outputs[0].buffer)].data());
    c.stimulus.in.insert(c.stimulus.in.end(), a.begin(), a.end());
    c.stimulus.expected.insert(c.stimulus.expected.end(), b.begin(), b.end());
  }
  return c;
}

std::string describe(const Case& c) {
  std::string s;
  for (const plan::StageShape& t : c.design.stages) s += fmt::format("{} ", stage_def(t.kind).name);
  return s;
}

// Values: 40 random networks, random foldings, random stalls, every word equal; and the closed form of the
// frame interval equal to the simulated one. One network has a clamp that lifts every value of a channel.
TEST(RtlVerify, RandomNetworksAreBitExact) {
  std::vector<Case> cases;
  for (std::uint64_t i = 0; i < 39; ++i) cases.push_back(random_case(i, fmt::format("d{}", i), 12));
  std::uint64_t lifting = 1000;
  while (!random_net(Rng(lifting, "rtl").fork("net")).lifts) ++lifting;
  cases.push_back(random_case(lifting, "d39", 12));
  std::vector<rtl::Design> designs;
  std::vector<proof::Stimulus> stimuli;
  for (const Case& c : cases) {
    designs.push_back(c.design);
    stimuli.push_back(c.stimulus);
  }
  // Every form of stage is among them.
  int serial = 0, pipelined = 0, ties = 0, tables = 0, bipolar = 0, logic = 0, packed = 0, constant = 0;
  for (const Case& c : cases)
    for (const plan::StageShape& s : c.design.stages) {
      tables += s.kind == plan::StageKind::threshold;
      bipolar += s.kind == plan::StageKind::mvau && s.bipolar;
      logic += s.kind == plan::StageKind::mvau_logic;
      packed += s.kind == plan::StageKind::mvau_packed;
      constant += s.kind == plan::StageKind::mvau_constant;
      if (s.kind != plan::StageKind::rescale) continue;
      ++(s.serial ? serial : pipelined);
      ties += c.graph.layers[static_cast<std::size_t>(s.layer)].rescale->ties;
    }
  EXPECT_GE(std::min({serial, pipelined, ties, tables, bipolar, logic, packed, constant}), 3)
      << serial << " serial, " << pipelined << " pipelined, " << ties << " with ties, " << tables << " tables, " << bipolar << " bipolar, " << logic << " in logic, "
      << packed << " packed, " << constant << " constant";
  const auto results = proof::verify(designs, stimuli);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const proof::VerifyResult& r = results[i];
    EXPECT_TRUE(r.ok) << "seed " << i << ": " << describe(cases[i]) << "\n" << r.text();
    EXPECT_EQ(r.frames, 12);
    I cycles = 0;
    for (const plan::StageShape& s : designs[i].stages) cycles = std::max(cycles, stage_def(s.kind).cycles(s));
    // Predicted without Verilog, to the cycle: the first output and (checked by verify) the end of every frame.
    EXPECT_TRUE(r.predicted.known);
    EXPECT_EQ(r.predicted.latency(), r.latency);
    const plan::Timing steady = plan::simulate(designs[i].stages);
    EXPECT_TRUE(steady.steady());
    EXPECT_EQ(steady.interval(), r.interval) << "seed " << i << ": " << describe(cases[i]);
    EXPECT_EQ(r.interval, static_cast<double>(cycles)) << "seed " << i << ": " << describe(cases[i]);
  }
}

// A predicted cycle that is not the simulated one is a fault: the stages are told of one register more than the Verilog has.
TEST(RtlVerify, AnotherCycleThanPredictedIsAFault) {
  Case c = random_case(3, "d0", 6);
  // The last buffer is said to be a queue, which takes a cycle more; what its stream carries stays.
  plan::StageShape& s = c.design.stages.back();
  ASSERT_EQ(s.kind, plan::StageKind::skid);
  s.kind = plan::StageKind::fifo;
  s.depth = 4;
  const proof::VerifyResult r = proof::verify({&c.design, 1}, {&c.stimulus, 1}, {.stalls = {}})[0];
  EXPECT_FALSE(r.ok);
  EXPECT_EQ(r.mismatches, 0);
  EXPECT_EQ(r.fault, fmt::format("cycles to the first output beat: predicted {}, simulated {}", r.latency + 1, r.latency));
}

// The bench can fail: a changed expected word, and changed hardware, are both found and placed.
TEST(RtlVerify, FindsAChangedWordAndChangedHardware) {
  std::vector<Case> cases;
  for (std::uint64_t i = 0; i < 8; ++i) cases.push_back(random_case(100 + i, fmt::format("d{}", i), 6));
  std::vector<rtl::Design> designs;
  std::vector<proof::Stimulus> stimuli;
  std::vector<bool> touched;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    designs.push_back(cases[i].design);
    stimuli.push_back(cases[i].stimulus);
    bool changed = false;
    if (i % 2 == 0) {
      std::vector<I>& e = stimuli.back().expected;
      e[e.size() / 2] ^= 1;
      changed = true;
    } else {
      // Every word of the last memory: its low bit flipped.
      for (std::size_t f = designs.back().files.size(); f-- > 0 && !changed;) {
        rtl::File& file = designs.back().files[f];
        if (!file.name.ends_with(".hex")) continue;
        for (std::size_t c = 0; c < file.text.size(); ++c)
          if (c + 1 < file.text.size() && file.text[c + 1] == '\n') {
            const char d = file.text[c];
            const int v = (d <= '9' ? d - '0' : d - 'a' + 10) ^ 1;
            file.text[c] = "0123456789abcdef"[v];
          }
        changed = true;
      }
    }
    touched.push_back(changed);
  }
  const auto results = proof::verify(designs, stimuli);
  int found = 0, hardware = 0;
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (i % 2 == 0) {
      ASSERT_TRUE(results[i].first) << "seed " << 100 + i;
      EXPECT_FALSE(results[i].ok);
      const I n = designs[i].out.lanes * designs[i].out.beats;
      EXPECT_EQ(results[i].first->frame * n + results[i].first->element, static_cast<I>(stimuli[i].expected.size() / 2));
      ++found;
    } else if (touched[i]) {
      hardware += !results[i].ok;
    }
  }
  EXPECT_EQ(found, 4);
  EXPECT_GE(hardware, 2);  // a flipped weight bit may vanish behind a coarse quantiser
}

// What leaves the design may hide a fault inside: behind a coarse step, or where nothing ever stalls.
TEST(RtlVerify, FaultsHiddenAtTheOutputAreFoundInside) {
  // Sums of even weights: their lowest bit is 0, and no step lies on an odd number.
  ir::ExactProgram p;
  const auto buffer = [&](Shape s, I lo, I hi) {
    ir::Buffer b;
    b.name = fmt::format("v{}", p.buffers.size());
    b.shape = std::move(s);
    b.lo = lo, b.hi = hi;
    p.buffers.push_back(b);
    return static_cast<int>(p.buffers.size()) - 1;
  };
  const int x = buffer({1, 4}, 0, 3), sums = buffer({1, 3}, -24, 24), codes = buffer({1, 3}, 0, 7), y = buffer({1, 2}, -42, 42);
  p.inputs.push_back({"x", x, DType::f32, true, {}});
  p.steps.push_back({ir::IntMatMul{{2, -2, 4, -4, 2, 2, 2, -4, 0, 2, 2, -2}, 4, 3}, {x}, sums, "node 'first'"});
  ir::IntRequant q{};
  for (I k = 0; k < 8; ++k) q.levels.push_back(k);
  ir::Thresholds t;
  for (I k = 1; k < 8; ++k) t.t.push_back(4 * k - 10);  // (N + 10) >> 2
  q.tables = {t};
  q.group = {1, 1};
  p.steps.push_back({q, {sums}, codes, "node 'steps'"});
  p.steps.push_back({ir::IntMatMul{{1, -1, 2, 2, -3, 3}, 3, 2}, {codes}, y, "node 'second'"});
  p.outputs.push_back({"y", y, DType::f32, true, {}});
  const plan::StageGraph g = plan::stages_from(p);
  plan::Folding f = plan::smallest_folding(g);
  for (std::size_t i = 0; i < g.layers.size(); ++i) {
    if (g.layers[i].kind == LayerKind::dense) f.of[i].simd = plan::most_simd(g.layers[i]);
    if (g.layers[i].kind == LayerKind::requant) f.of[i].requantiser = plan::Requantiser::arithmetic;
  }
  f.interval = 1;  // one code a cycle: the pipelined form
  proof::Stimulus s;
  exec::Executor e(p);
  Rng r(1, "hidden");
  for (int k = 0; k < 40; ++k) {
    Tensor in(DType::f32, {1, 4});
    for (I i = 0; i < 4; ++i) in.set(i, static_cast<double>(r.range(0, 3)));
    e.run({in});
    proof::append_frame(s, g, e, true);
  }
  const auto changed = [&](std::string_view prefix, StageKind kind, std::string_view from, std::string_view to) {
    rtl::Design d = rtl::generate(g, f, prefix);
    for (std::size_t i = 0; i < d.stages.size(); ++i) {
      if (d.stages[i].kind != kind) continue;
      for (rtl::File& file : d.files)
        if (file.name == d.modules[i] + ".v") {
          const std::size_t at = file.text.find(from);
          EXPECT_NE(at, std::string::npos) << file.text;
          if (at != std::string::npos) file.text.replace(at, from.size(), to);
        }
      return d;
    }
    ADD_FAILURE() << "no such stage";
    return d;
  };
  const std::vector<rtl::Design> designs{rtl::generate(g, f, "d0"), changed("d1", StageKind::mvau, "assign m_tdata = ", "assign m_tdata = 1'b1 | "), changed("d2", StageKind::rescale, "if (en) x_0", "x_0")};
  const auto results = proof::verify(designs, std::vector<proof::Stimulus>(3, s), {.stall_frames = 40});
  EXPECT_TRUE(results[0].ok) << results[0].text();
  EXPECT_GT(results[0].inside_words, 40 * 3 * 6);  // sums, codes and results in three runs, and their copies
  EXPECT_EQ(results[1].mismatches, 0);
  EXPECT_TRUE(results[1].inside.starts_with("d1.e0")) << results[1].text();
  EXPECT_NE(results[1].inside.find("mvau"), std::string::npos) << results[1].text();
  EXPECT_FALSE(results[2].ok);
  EXPECT_NE(results[2].inside.find("rescale"), std::string::npos) << results[2].text();
  EXPECT_NE(results[2].inside.find("stall probability 0."), std::string::npos) << results[2].text();
}

TEST(RtlVerify, AGateStandsInEveryStreamBetweenStages) {
  int gates = 0;
  for (std::uint64_t i = 0; i < 30; ++i) {
    const Case c = random_case(i, "net", 1);
    int inner = 0;
    for (const proof::Stream& s : proof::streams_of(c.design)) inner += s.stage >= 0 && s.reader >= 0;
    const proof::GatedTop t = proof::gated_top(c.design);
    EXPECT_EQ(t.gates, inner);
    gates += t.gates;
    // A top that was not written by us stays as it is.
    rtl::Design other = c.design;
    other.files[0].text = "module net (input wire clk);\nendmodule\n";
    EXPECT_EQ(proof::gated_top(other).gates, 0);
    EXPECT_EQ(proof::gated_top(other).text, other.files[0].text);
  }
  EXPECT_GT(gates, 100);
}

TEST(RtlGenerate, SameGraphSameBytes) {
  for (std::uint64_t i = 0; i < 10; ++i) {
    const Case a = random_case(i, "net", 1), b = random_case(i, "net", 1);
    ASSERT_EQ(a.design.files.size(), b.design.files.size());
    for (std::size_t f = 0; f < a.design.files.size(); ++f) {
      EXPECT_EQ(a.design.files[f].name, b.design.files[f].name);
      EXPECT_EQ(a.design.files[f].text, b.design.files[f].text);
    }
    EXPECT_EQ(a.design.hash, b.design.hash);
  }
  EXPECT_NE(random_case(1, "net", 1).design.hash, random_case(2, "net", 1).design.hash);
}

TEST(RtlGenerate, LintIsClean) {
  for (std::uint64_t i = 40; i < 60; ++i) {
    const Case c = random_case(i, "net", 1);
    tool::WorkFolder work;
    for (const rtl::File& f : c.design.files) work.put(f.name, f.text);
    const tool::LintResult r = tool::lint_verilog(work, c.design.names(".v"), "net");
    EXPECT_TRUE(r.clean) << "seed " << i << ": " << describe(c) << "\n" << fmt::format("{}", fmt::join(r.messages, "\n"));
  }
}

// A second simulator with four-state values: unknown bits that leak and races would show.
TEST(RtlGenerate, IcarusGivesTheSameWords) {
  for (std::uint64_t i = 0; i < 6; ++i) {
    const Case c = random_case(i, "net", 3);
    const rtl::Design& d = c.design;
    tool::WorkFolder work;
    for (const rtl::File& f : d.files) work.put(f.name, f.text);
    const I frames = 3;
    std::string words;
    for (I b = 0; b < frames * d.in.beats; ++b) {
      std::string bits;
      for (I l = 0; l < d.in.lanes; ++l)
        for (int k = 0; k < d.in.bits; ++k)
          bits.insert(bits.begin(), (c.stimulus.in[static_cast<std::size_t>(b * d.in.lanes + l)] >> k) & 1 ? '1' : '0');
      words += bits + "\n";
    }
    work.put("stimulus.bin", words);
    work.put("tb.v", fmt::format(R"(module tb;
  reg clk = 0, rst_n = 0;
  reg [{iw}:0] data [0:{n}];
  reg [31:0] rnd = {seed};
  integer sent = 0, got = 0, f, idle = 0;
  wire s_ready, m_valid, m_last;
  wire [{ow}:0] m_data;
  wire offer = (sent <= {n}) & (rnd[3] | rnd[7]);
  reg held = 0;
  wire s_valid = (offer | held) & (sent <= {n});
  wire m_ready = rnd[5];
  net dut (.clk(clk), .rst_n(rst_n), .s_axis_tdata(data[sent > {n} ? {n} : sent]), .s_axis_tvalid(s_valid & rst_n), .s_axis_tready(s_ready),
    .s_axis_tlast(((sent + 1) % {beats}) == 0), .m_axis_tdata(m_data), .m_axis_tvalid(m_valid), .m_axis_tready(m_ready), .m_axis_tlast(m_last));
  always #1 clk = ~clk;
  always @(posedge clk) begin
    rnd <= {{rnd[30:0], rnd[31] ^ rnd[21] ^ rnd[1] ^ rnd[0]}};
    if (rst_n) begin
      held <= s_valid & ~s_ready;
      if (s_valid & s_ready) sent <= sent + 1;
      if (m_valid & m_ready) begin $fwrite(f, "%b\n", m_data); got = got + 1; idle = 0; end
      idle = idle + 1;
      if (got == {total} || idle > 100000) begin $fclose(f); $finish; end
    end
  end
  initial begin
    $readmemb("stimulus.bin", data);
    f = $fopen("words.txt", "w");
    repeat (4) @(posedge clk);
    #1 rst_n = 1;
  end
endmodule
)", fmt::arg("iw", d.in.width() - 1), fmt::arg("ow", d.out.width() - 1), fmt::arg("n", frames * d.in.beats - 1), fmt::arg("beats", d.in.beats),
                            fmt::arg("total", frames * d.out.beats), fmt::arg("seed", 12345 + i)));
    std::vector<std::string> files = d.names(".v");
    files.push_back("tb.v");
    const tool::IcarusResult r = tool::run_icarus(work, files, "tb");
    EXPECT_TRUE(r.warnings.empty()) << fmt::format("{}", fmt::join(r.warnings, "\n"));
    const std::string text = work.get("words.txt");
    std::vector<std::string> lines;
    for (std::size_t p = 0, q; (q = text.find('\n', p)) != std::string::npos; p = q + 1) lines.push_back(text.substr(p, q - p));
    ASSERT_EQ(static_cast<I>(lines.size()), frames * d.out.beats) << "seed " << i;
    for (std::size_t b = 0; b < lines.size(); ++b)
      for (I l = 0; l < d.out.lanes; ++l) {
        std::string want;
        for (int k = d.out.bits; k-- > 0;) want += (c.stimulus.expected[b * static_cast<std::size_t>(d.out.lanes) + static_cast<std::size_t>(l)] >> k) & 1 ? '1' : '0';
        EXPECT_EQ(lines[b].substr(lines[b].size() - static_cast<std::size_t>((l + 1) * d.out.bits), static_cast<std::size_t>(d.out.bits)), want)
            << "seed " << i << ", beat " << b << ", lane " << l;
      }
  }
}

TEST(PlanFolding, JsonBothWays) {
  for (std::uint64_t i = 0; i < 20; ++i) {
    const Case c = random_case(i, "net", 1);
    EXPECT_EQ(plan::folding_from_json(c.graph, plan::to_json(c.graph, c.folding)), c.folding);
  }
  const Case c = random_case(3, "net", 1);
  const std::string good = plan::to_json(c.graph, c.folding);
  auto code = [&](const std::string& text) {
    try {
      plan::folding_from_json(c.graph, text);
      return Exit::done;
    } catch (const Error& e) {
      return e.code();
    }
  };
  EXPECT_EQ(code(good), Exit::done);
  EXPECT_EQ(code(good.substr(0, good.size() / 2)), Exit::bad_input);
  EXPECT_EQ(code(std::string(100000, '[')), Exit::bad_input);
  EXPECT_EQ(code("{}"), Exit::bad_input);
  std::string other = good;
  other.replace(other.find("\"name\": \"") + 9, 3, "zzz");
  EXPECT_EQ(code(other), Exit::bad_input);
  std::string fold = good;
  fold.replace(fold.find("\"pe\": ") + 6, 1, "977");
  EXPECT_EQ(code(fold), Exit::bad_input);
}

// What the hardware cannot do is refused by the node's name, with exit code "no".
TEST(PlanStages, RefusesByName) {
  auto refused = [](auto change, std::string_view part) {
    Net n;
    Rng r(1);
    Maker m{r, n};
    m.input({1, 2, 4, 4});
    change(m);
    n.p.outputs.push_back({"y", m.b, DType::f32, true, {}});
    try {
      plan::stages_from(n.p);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::no);
      EXPECT_NE(e.message().find("node 'n"), std::string::npos) << e.message();
      EXPECT_NE(e.message().find(part), std::string::npos) << e.message();
      return;
    }
    ADD_FAILURE() << "accepted: " << part;
  };
  refused([](Maker& m) { m.b = step(m.n, ir::IntMatMul{{}, 4, 4}, m.b, m.at().shape, 0, 1, m.b); }, "product of two varying");
  refused([](Maker& m) { ir::IntMove c{.kind = ir::IntMove::concat}; m.b = step(m.n, c, m.b, {2, 2, 4, 4}, 0, 1, m.b); }, "different samples");
  refused([](Maker& m) { ir::IntMove c{.kind = ir::IntMove::transpose, .perm = {1, 0, 2, 3}}; m.b = step(m.n, c, m.b, {2, 1, 4, 4}, 0, 1); }, "between samples");
  refused([](Maker& m) { m.b = step(m.n, ir::DelayRead{0}, m.b, m.at().shape, 0, 1); }, "delays");
}

TEST(PlanStages, IdentifiersAreSafe) {
  EXPECT_EQ(plan::identifier("a/b:c"), "a_b_c");
  EXPECT_EQ(plan::identifier("1\n`include"), "n1_include");
  EXPECT_EQ(plan::identifier("\"); $finish; //"), "finish");
  EXPECT_EQ(plan::identifier(""), "x");
}

}  // namespace
}  // namespace tandem
