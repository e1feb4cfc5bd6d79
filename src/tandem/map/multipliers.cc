#include "tandem/map/multipliers.h"

#include <algorithm>

namespace tandem::map {
namespace {
using I = std::int64_t;
using plan::Fold;
using plan::Layer;
using plan::LayerKind;
using plan::Multipliers;
using plan::StageKind;
using plan::StageShape;

struct Option {
  Fold fold;
  double lut = 0, bram = 0, dsp = 0;
};
struct Unit {
  std::size_t layer = 0;
  std::vector<Option> with_dsp, without;
};

// What stands around a unit of constants instead of a replay buffer.
Option constant(const Layer& l, const StageShape& unit, const StageShape* replay, const Fold& f, const plan::Calibration& cal) {
  Option o;
  o.fold = f;
  o.fold.pe = l.mh;
  o.fold.logic = false;
  o.fold.multipliers = Multipliers::constant;
  const I beats = (l.mw / f.simd) * (l.mh / f.pe), lanes = l.window ? l.window->c : l.mw;
  for (I d = 1; d <= lanes; ++d)
    if (lanes % d == 0 && l.mw / d <= beats) {
      o.fold.simd = d;
      break;
    }
  const ShiftAdd& sums = plan::constant_sums(l, unit.bits_in, unit.signed_in);
  StageShape s = unit;
  s.kind = StageKind::mvau_constant;
  s.sum_depth = std::max(1, sums.depth);
  s.adder_bits = sums.adder_bits();
  s.double_bits = sums.double_bits();
  s.held_bits = sums.held_bits();
  o.lut = stage_def(s.kind).cost(s, cal).lut4;
  s.kind = StageKind::convert;
  s.lanes_in = o.fold.simd;
  s.lanes_out = l.mw;
  if (o.fold.simd < l.mw) o.lut += stage_def(s.kind).cost(s, cal).lut4;
  if (replay) {
    const plan::Cost c = stage_def(replay->kind).cost(*replay, cal);
    o.lut -= c.lut4;
    o.bram -= c.bram;
  }
  return o;
}

}  // namespace

MultiplierChoice choose_multipliers(const plan::StageGraph& g, const plan::Folding& f, const Budget& b) {
  const plan::Calibration& cal = plan::calibration(b.family);
  std::vector<StageShape> stages;
  expand(g, f, stages);
  std::vector<Unit> units;
  plan::Cost rest;  // of the other stages
  for (const StageShape& s : stages) {
    const plan::Cost c = stage_def(s.kind).cost(s, cal);
    const bool ours = (s.kind == StageKind::mvau || s.kind == StageKind::depthwise) && f.of[static_cast<std::size_t>(s.layer)].multipliers == Multipliers::automatic;
    if (!ours) {
      rest.lut4 += c.lut4, rest.bram += c.bram, rest.dsp += c.dsp, rest.dsp_lut4 += c.dsp_lut4;
      continue;
    }
    Unit u;
    u.layer = static_cast<std::size_t>(s.layer);
    const Layer& l = g.layers[u.layer];
    const Fold& fold = f.of[u.layer];
    auto form = [&](Multipliers m, int per_dsp = 2) {
      Fold x = fold;
      x.multipliers = m;
      x.per_dsp = per_dsp;
      return x;
    };
    u.without.push_back({form(Multipliers::plain), c.lut4, c.bram, 0});
    u.with_dsp.push_back({form(Multipliers::plain), c.lut4 - c.dsp_lut4, c.bram, c.dsp});
    if (plan::selects_multiples(l, s.bits_in)) {
      StageShape x = s;
      x.kind = s.kind == StageKind::mvau ? StageKind::mvau_logic : StageKind::depthwise_logic;
      const Option o{form(Multipliers::logic), stage_def(x.kind).cost(x, cal).lut4, c.bram, 0};
      u.without.push_back(o);
      u.with_dsp.push_back(o);
    }
    if (s.kind == StageKind::mvau) {
      if (const I n = std::min<I>(fold.pe, plan::products_per_dsp(b.family, s.bits_in, s.signed_in, s.weight_bits)); n > 1 && !l.bipolar && l.weight_bits > 1) {
        StageShape x = s;
        x.kind = StageKind::mvau_packed;
        x.per_dsp = static_cast<int>(n);
        const plan::Cost p = stage_def(x.kind).cost(x, cal);
        u.with_dsp.push_back({form(Multipliers::packed, x.per_dsp), p.lut4 - p.dsp_lut4, p.bram, p.dsp});
      }
      // A bound from below keeps large matrices from being worked out: most sums have at least the width of the input.
      I digits = 0;
      for (I w : l.weights) digits += static_cast<I>(signed_digits(w).size());
      double least = c.lut4;
      for (const Option& o : u.without) least = std::min(least, o.lut);
      if (l.groups == 1 && !l.writable && static_cast<double>(digits) * s.bits_in / 4 < std::max(least * 1.5, b.lut4 * b.fill / 8)) {
        const StageShape* before = s.in[0] < 0 ? nullptr : &stages[static_cast<std::size_t>(s.in[0])];
        const Option o = constant(l, s, before && before->kind == StageKind::replay && before->layer == s.layer ? before : nullptr, fold, cal);
        u.without.push_back(o);
        u.with_dsp.push_back(o);
      }
    }
    units.push_back(std::move(u));
  }

  struct Total {
    double lut = 0, bram = 0, dsp = 0;
    std::vector<const Option*> of;
  };
  auto settle = [&](bool dsp) {
    Total best;
    double price_bram = 1.0 / 64, price_dsp = 1.0 / 64;  // of all that the device has, in shares of its LUTs
    for (int turn = 0; turn < 24; ++turn) {
      Total t{rest.lut4 - (dsp ? rest.dsp_lut4 : 0), rest.bram, dsp ? rest.dsp : 0, {}};
      for (const Unit& u : units) {
        const Option* least = nullptr;
        double lowest = 0;
        for (const Option& o : dsp ? u.with_dsp : u.without) {
          const double price = o.lut / std::max(1.0, b.lut4) + price_bram * o.bram / std::max(1.0, b.bram) + price_dsp * o.dsp / std::max(1.0, b.dsp);
          if (!least || price < lowest) least = &o, lowest = price;
        }
        t.of.push_back(least);
        t.lut += least->lut, t.bram += least->bram, t.dsp += least->dsp;
      }
      best = std::move(t);
      const bool bram_over = best.bram > b.bram, dsp_over = best.dsp > b.dsp;
      if (!bram_over && !dsp_over) break;
      if (bram_over) price_bram *= 2;
      if (dsp_over) price_dsp *= 2;
    }
    // What is left of the DSPs, and of the block RAMs, where it saves LUTs.
    for (std::size_t i = 0; i < units.size(); ++i)
      for (const Option& o : dsp ? units[i].with_dsp : units[i].without) {
        const Option& now = *best.of[i];
        const double bram = best.bram + o.bram - now.bram, dsps = best.dsp + o.dsp - now.dsp;
        if (o.lut >= now.lut || bram > std::max(b.bram, best.bram) || dsps > std::max(dsp ? b.dsp : 0.0, best.dsp)) continue;
        best.lut += o.lut - now.lut, best.bram = bram, best.dsp = dsps;
        best.of[i] = &o;
      }
    return best;
  };
  Total chosen = settle(false);
  bool dsp = false;
  if (b.dsp > 0) {
    Total t = settle(true);
    if (t.dsp > 0 && t.dsp <= b.dsp && t.bram <= std::max(b.bram, chosen.bram) && t.lut < chosen.lut) {
      chosen = std::move(t);
      dsp = true;
    }
  }
  MultiplierChoice r{f, dsp};
  for (std::size_t i = 0; i < units.size(); ++i) r.folding.of[units[i].layer] = chosen.of[i]->fold;
  return r;
}

}  // namespace tandem::map
