#include "tandem/flow/precision.h"

#include <algorithm>
#include <cmath>

#include "tandem/exec/exec.h"

namespace tandem::flow {
namespace {
using I = std::int64_t;
constexpr I kBins = 64;

// One quantiser of the program.
struct Seen {
  const ir::Step* step = nullptr;
  const ir::IntRequant* cast = nullptr;
  report::Distribution d;
  bool judged = false;               // its inputs can be seen
  I clipped = 0, flushed = 0;
  std::vector<double> scale, shift;  // of the input's carrier, per group: x = scale * N + shift
  std::vector<double> least, most;   // its clamps, one or per group; empty: none
  std::vector<double> step_of, zero; // of each cast
  std::vector<std::int32_t> in_group, out_group;
};
std::vector<double> doubles(const std::optional<ir::Grouped<Rational>>& g) {
  std::vector<double> r;
  if (g)
    for (const Rational& q : g->v) r.push_back(nearest_double(q));
  return r;
}

std::string value_name(const std::string& node) {  // "node 'act1' (Quant)" -> "act1"
  const std::size_t a = node.find('\''), b = a == node.npos ? a : node.find('\'', a + 1);
  return b == node.npos ? node : node.substr(a + 1, b - a - 1);
}

}  // namespace

std::vector<report::Distribution> precision_profile(const ir::ExactProgram& p, const Tensor& frames, I most_frames, const Cancel& cancel) {
  std::vector<Seen> all;
  const int input = p.inputs.at(0).buffer;
  for (const ir::Step& st : p.steps) {
    Seen s;
    s.step = &st;
    const auto* q = std::get_if<ir::QuantizeFloat>(&st.params);
    s.cast = q ? &q->cast : std::get_if<ir::IntRequant>(&st.params);
    if (!s.cast) continue;
    const ir::Buffer &in = p.buffers[static_cast<std::size_t>(st.in.at(0))], &out = p.buffers[static_cast<std::size_t>(st.out)];
    s.d.layer = value_name(st.node);
    s.d.format = s.cast->format;
    if (!s.cast->casts.empty()) {
      const Cast& c = s.cast->casts[0];
      s.d.lo = static_cast<double>(s.cast->plain_codes ? c.kmin : c.level(c.kmin));
      s.d.hi = static_cast<double>(s.cast->plain_codes ? c.kmax : c.level(c.kmax));
      s.judged = q ? st.in[0] == input : in.integer;
      if (s.judged) s.out_group = ir::group_index(s.cast->cast_group, in.shape);
      for (const Cast& k : s.cast->casts) s.step_of.push_back(nearest_double(k.scale)), s.zero.push_back(k.bipolar ? 0 : k.zero.get_d());
      if (s.judged && !q) {
        const ir::Carrier& k = s.cast->in;
        s.least = doubles(k.lo), s.most = doubles(k.hi);
        // One group index serves both: the finer of the two.
        const bool by_scale = k.s.v.size() >= k.b.v.size();
        s.in_group = ir::group_index(by_scale ? k.s.shape : k.b.shape, in.shape);
        s.judged = k.s.scalar() || k.b.scalar() || k.s.shape == k.b.shape;
        for (std::size_t g = 0; g < std::max(k.s.v.size(), k.b.v.size()); ++g) {
          s.scale.push_back(nearest_double(k.s.v[k.s.scalar() ? 0 : g]));
          s.shift.push_back(nearest_double(k.b.v[k.b.scalar() ? 0 : g]));
        }
      }
    } else {
      s.d.lo = static_cast<double>(out.lo), s.d.hi = static_cast<double>(out.hi);
    }
    s.d.counts.assign(static_cast<std::size_t>(std::clamp<I>(static_cast<I>(s.d.hi - s.d.lo + 1), 1, kBins)), 0);
    s.d.seen_lo = s.d.hi, s.d.seen_hi = s.d.lo;
    all.push_back(std::move(s));
  }
  exec::Executor x(p);
  const Shape want = p.buffers[static_cast<std::size_t>(input)].shape;
  const I n = std::min<I>(most_frames, frames.shape().at(0));
  const Tensor typed = frames.dtype() == p.inputs[0].dtype ? frames.rows(0, n) : frames.rows(0, n).cast(p.inputs[0].dtype);
  for (I f = 0; f < n; ++f) {
    cancel.check();
    const Tensor frame = typed.rows(f, f + 1).reshaped(want);
    x.run({frame});
    for (Seen& s : all) {
      const std::vector<I> y = x.integers(s.step->out);
      std::vector<I> before;
      const bool floats = std::holds_alternative<ir::QuantizeFloat>(s.step->params);
      if (s.judged && !floats) before = x.integers(s.step->in[0]);
      const double width = s.d.hi - s.d.lo + 1;
      for (std::size_t i = 0; i < y.size(); ++i) {
        const double v = static_cast<double>(y[i]);
        const auto bin = static_cast<I>((v - s.d.lo) / width * static_cast<double>(s.d.counts.size()));
        ++s.d.counts[static_cast<std::size_t>(std::clamp<I>(bin, 0, static_cast<I>(s.d.counts.size()) - 1))];
        s.d.seen_lo = std::min(s.d.seen_lo, v), s.d.seen_hi = std::max(s.d.seen_hi, v);
        ++s.d.n;
        if (!s.judged) continue;
        const auto which = static_cast<std::size_t>(s.out_group[i]);
        const Cast& c = s.cast->casts[which];
        double real = 0;
        if (floats) {
          real = frame.at(static_cast<I>(i));
        } else {
          const auto g = static_cast<std::size_t>(s.in_group[i]);
          real = s.scale[g] * static_cast<double>(before[i]) + s.shift[g];
          const auto bound = [g](const std::vector<double>& b) { return b[b.size() == 1 ? 0 : std::min(g, b.size() - 1)]; };
          if (!s.least.empty()) real = std::max(real, bound(s.least));
          if (!s.most.empty()) real = std::min(real, bound(s.most));
        }
        const double code = real / s.step_of[which] + s.zero[which];
        if (!c.bipolar && (code > static_cast<double>(c.kmax) + 0.5 || code < static_cast<double>(c.kmin) - 0.5)) ++s.clipped;
        if (!c.bipolar && real != 0 && y[i] == (s.cast->plain_codes ? static_cast<I>(s.zero[which]) : 0)) ++s.flushed;
      }
    }
  }
  std::vector<report::Distribution> r;
  for (Seen& s : all) {
    if (s.judged && s.d.n > 0) {
      s.d.clipped = static_cast<double>(s.clipped) / static_cast<double>(s.d.n);
      s.d.flushed = static_cast<double>(s.flushed) / static_cast<double>(s.d.n);
    }
    r.push_back(std::move(s.d));
  }
  return r;
}

}  // namespace tandem::flow
