#include "tandem/map/folding.h"

#include <algorithm>
#include <cmath>

#include "tandem/map/multipliers.h"

namespace tandem::map {
namespace {
using I = std::int64_t;
using plan::Layer;
using plan::LayerKind;
using plan::StageGraph;
using plan::StageShape;

bool fits(const Estimate& e, const Budget& b, bool dsp) {
  return e.lut4(dsp) + b.reserved_lut4 <= b.lut4 * b.fill && e.cost.bram <= b.bram && (!dsp || e.cost.dsp <= b.dsp);
}
I next_divisor(I n, I d) {
  for (++d; d <= n; ++d)
    if (n % d == 0) return d;
  return 0;
}

// The layer whose fold makes stage `s` faster: its own, or the nearest foldable one before it.
int foldable(const StageGraph& g, const std::vector<StageShape>& stages, int s) {
  int layer = -1;
  for (int i = s; i >= 0 && layer < 0; i = stages[static_cast<std::size_t>(i)].in[0]) layer = stages[static_cast<std::size_t>(i)].layer;
  while (layer >= 0) {
    const LayerKind k = g.layers[static_cast<std::size_t>(layer)].kind;
    if (k == LayerKind::dense || k == LayerKind::depthwise || k == LayerKind::pool) return layer;
    if (k == LayerKind::argmax || k == LayerKind::topk || k == LayerKind::softmax || k == LayerKind::normalize) return -1;
    layer = g.layers[static_cast<std::size_t>(layer)].in[0];
  }
  return -1;
}

// One step more parallel; false when the layer is fully unfolded.
bool unfold(const Layer& l, plan::Fold& f, bool only_pe) {
  if (l.kind == LayerKind::dense && !only_pe) {
    if (const I d = next_divisor(plan::most_simd(l), f.simd)) {
      f.simd = d;
      return true;
    }
  }
  if (const I d = next_divisor(plan::most_pe(l), f.pe)) {
    f.pe = d;
    return true;
  }
  return false;
}

template <class Q>
std::string largest_layer(const StageGraph& g, const std::vector<StageShape>& stages, const plan::Calibration& family, Q quantity) {
  std::vector<double> by(g.layers.size());
  for (const StageShape& s : stages)
    if (s.layer >= 0) by[static_cast<std::size_t>(s.layer)] += quantity(stage_def(s.kind).cost(s, family));
  const std::size_t i = static_cast<std::size_t>(std::max_element(by.begin(), by.end()) - by.begin());
  return fmt::format("{} ({}) alone {:.0f}", g.layers[i].name, g.layers[i].node, by[i]);
}

// Narrow words waste block RAM (one weight of one bit a cycle uses half of each). Where the fully folded design
// asks for too many, each layer gets the fold of up to 64 multipliers that asks for fewest, ties to fewer LUTs.
void save_brams(const StageGraph& g, const Budget& b, std::vector<StageShape>& stages, plan::Folding& f, Estimate& e) {
  for (std::size_t i = 0; i < g.layers.size() && e.cost.bram > b.bram; ++i) {
    const Layer& l = g.layers[i];
    if (l.kind != LayerKind::dense && l.kind != LayerKind::depthwise) continue;
    const I inputs = plan::most_simd(l);
    plan::Folding best = f;
    for (I pe = 1; pe && pe <= 64; pe = next_divisor(plan::most_pe(l), pe))
      for (I simd = 1; simd && pe * simd <= 64; simd = next_divisor(inputs, simd)) {
        plan::Folding n = f;
        n.of[i].pe = pe;
        n.of[i].simd = simd;
        const Estimate x = evaluate(g, n, stages, plan::calibration(b.family));
        if (x.cost.bram < e.cost.bram || (x.cost.bram == e.cost.bram && best != f && x.cost.lut4 < e.cost.lut4)) {
          best = n;
          e = x;
        }
      }
    f = best;
  }
  // Still too many: weights go to LUTs, the memory that costs fewest first, while they last.
  const auto to_logic = [&](plan::Folding& x) {
    Estimate at = evaluate(g, x, stages, plan::calibration(b.family));
    while (at.cost.bram > b.bram) {
      plan::Folding best = x;
      Estimate least;
      for (std::size_t i = 0; i < g.layers.size(); ++i) {
        const Layer& l = g.layers[i];
        if ((l.kind != LayerKind::dense && l.kind != LayerKind::depthwise) || l.writable || x.of[i].logic) continue;
        plan::Folding n = x;
        n.of[i].logic = true;
        const Estimate y = evaluate(g, n, stages, plan::calibration(b.family));
        if (y.cost.bram >= at.cost.bram || y.lut4(false) + b.reserved_lut4 > b.lut4 * b.fill) continue;
        if (best == x || y.cost.lut4 < least.cost.lut4) {
          least = y;
          best = n;
        }
      }
      if (best == x) break;
      x = best;
      at = least;
    }
    return fits(at, b, false);
  };
  // Wider words cost LUTs that weights in logic then lack: where both together fail, the second alone may do.
  plan::Folding narrow = smallest_folding(g);
  if (!to_logic(f) && to_logic(narrow)) f = narrow;
  e = evaluate(g, f, stages, plan::calibration(b.family));
}

}  // namespace

std::int64_t multipliers(const StageGraph& g, const plan::Folding& f) {
  I n = 0;
  for (std::size_t i = 0; i < g.layers.size(); ++i)
    if ((g.layers[i].kind == LayerKind::dense || g.layers[i].kind == LayerKind::depthwise) && f.of[i].multipliers != plan::Multipliers::constant) n += f.of[i].pe * f.of[i].simd;
  return n;
}

Estimate evaluate(const StageGraph& g, const plan::Folding& f, std::vector<StageShape>& stages, const plan::Calibration& cal) {
  expand(g, f, stages);
  Estimate e;
  // First output: each stage waits for what it needs, at the average rate of what feeds it.
  double at = 0, gap = 1;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const StageShape& s = stages[i];
    const plan::StageDef& d = stage_def(s.kind);
    const I c = d.cycles(s);
    if (c > e.interval) {
      e.interval = c;
      e.slowest = static_cast<int>(i);
    }
    const plan::Cost k = d.cost(s, cal);
    e.cost.lut4 += std::max(0.0, k.lut4);
    e.cost.bram += k.bram;
    e.cost.dsp += k.dsp;
    e.cost.dsp_lut4 += k.dsp_lut4;
    at += static_cast<double>(d.needs(s) - 1) * gap + static_cast<double>(d.pipeline(s));
    gap = std::max(gap * static_cast<double>(s.beats_in), static_cast<double>(c)) / static_cast<double>(s.beats_out);
  }
  e.latency = std::max<I>(1, std::llround(at));
  return e;
}

std::string why_not(const StageGraph& g, const Estimate& e, const Budget& b, bool dsp, const std::vector<StageShape>& stages) {
  const plan::Calibration& family = plan::calibration(b.family);
  const double lut = e.lut4(dsp) + b.reserved_lut4;
  if (e.cost.bram > b.bram)
    return fmt::format("{} has {:.0f} block RAMs ({}); {:.0f} are needed, {}", b.device, b.bram, family.bram, e.cost.bram,
                       largest_layer(g, stages, family, [](const plan::Cost& c) { return c.bram; }));
  if (lut > b.lut4 * b.fill)
    return fmt::format("{} has {:.0f} {}, of which {:.0f} % may be planned; about {:.0f} are needed, {}", b.device, b.lut4, family.lut, b.fill * 100, lut,
                       largest_layer(g, stages, family, [](const plan::Cost& c) { return c.lut4; }));
  if (dsp && e.cost.dsp > b.dsp) return fmt::format("{} has {:.0f} {}; {:.0f} are needed", b.device, b.dsp, family.dsp, e.cost.dsp);
  return "";
}

Choice choose_folding(const StageGraph& g, const Budget& b, I interval) {
  std::vector<StageShape> stages;
  const plan::Calibration& family = plan::calibration(b.family);
  Choice c;
  c.folding = smallest_folding(g);
  c.estimate = evaluate(g, c.folding, stages, family);
  save_brams(g, b, stages, c.folding, c.estimate);
  plan::Folding f = c.folding;  // the path; what is chosen also has multipliers
  Estimate e;
  bool dsp = false;
  auto settle = [&] {
    MultiplierChoice m = choose_multipliers(g, f, b);
    dsp = m.uses_dsp;
    e = evaluate(g, m.folding, stages, family);
    return std::move(m.folding);
  };
  c.folding = settle();
  c.estimate = e;
  c.uses_dsp = dsp;
  if (const std::string w = why_not(g, c.estimate, b, c.uses_dsp, stages); !w.empty())
    throw Error(Exit::no, fmt::format("the design does not fit even when fully folded: {}", w))
        .fix("fewer bits or channels in that layer, or a larger device");
  while (interval <= 0 || e.interval > interval) {
    const int layer = e.slowest < 0 ? -1 : foldable(g, stages, e.slowest);
    if (layer < 0) {
      c.limit = "the slowest stage cannot be folded";
      break;
    }
    const Layer& l = g.layers[static_cast<std::size_t>(layer)];
    const bool own = stages[static_cast<std::size_t>(e.slowest)].layer == layer;
    if (!unfold(l, f.of[static_cast<std::size_t>(layer)], !own)) {
      c.limit = fmt::format("{} ({}) is fully unfolded", l.name, l.node);
      break;
    }
    if (const I n = multipliers(g, f); b.multipliers > 0 && n > b.multipliers) {
      const plan::Fold to = f.of[static_cast<std::size_t>(layer)];
      c.limit = fmt::format("the next step, {} to PE {} and SIMD {}, makes {} multipliers of at most {}", l.name, to.pe, to.simd, n, b.multipliers);
      break;
    }
    plan::Folding settled = settle();
    if (!fits(e, b, dsp)) {
      const plan::Fold n = f.of[static_cast<std::size_t>(layer)];
      c.limit = fmt::format("the next step, {} to PE {} and SIMD {}: {}", l.name, n.pe, n.simd, why_not(g, e, b, dsp, stages));
      break;
    }
    if (e.interval < c.estimate.interval) {
      c.folding = std::move(settled);
      c.estimate = e;
      c.uses_dsp = dsp;
    }
  }
  if (interval > 0 && c.estimate.interval > interval)
    throw Error(Exit::no, fmt::format("{} cycles a frame are asked for; {} gets down to {}: {}", interval, b.device, c.estimate.interval, c.limit))
        .fix("a lower throughput, a higher clock, fewer bits, or a larger device");
  return c;
}

}  // namespace tandem::map
