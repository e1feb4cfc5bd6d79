#include "tandem/plan/clock.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace tandem::plan {
namespace {
using I = std::int64_t;

double bits(I n) { return bits_for(n); }
double log2_of(double n) { return std::log2(std::max(1.0, n)); }
// LUTs one behind the other: of a function of n inputs, of a table of so many words.
double deep(double n) { return std::max(1.0, std::ceil(std::log2(std::max(1.0, n)) / 2)); }
double table(I depth) { return depth < 2 ? 0 : depth <= 16 ? 1 : 1 + std::ceil((bits(depth) - 4) / 2); }
// Carry-save levels that make two numbers of n.
double compressors(double n) {
  double levels = 0;
  for (; n > 2; n = std::ceil(n * 2 / 3)) ++levels;
  return levels;
}
bool ram(I depth, I width, Memory kind) { return ice40_brams(depth, width, kind) > 0; }

// A product of two varying numbers in LUTs or a multiplier.
Path product(double a, double b, bool dsp) {
  if (dsp && a + b >= 11 && std::min(a, b) > 1) return {.luts = 0, .dsp = 1};
  if (std::min(a, b) <= 1) return {.luts = 2, .carry = std::max(a, b)};
  return {.luts = 2 + compressors(std::min(a, b)), .carry = a + b};
}
// A memory of constants in front of a path that begins at what it read: block RAM reads late.
Path behind(bool block, Path p) {
  p.ram += block ? 1 : 0;
  return p;
}

// Whether the ready of a stage comes from its own registers, through so many LUTs; else negative.
double own_ready(const StageShape& s) {
  switch (s.kind) {
    case StageKind::skid: return 0;
    case StageKind::fifo: return deep(bits(s.depth + 1));
    case StageKind::window:
    case StageKind::replay:
    case StageKind::reorder: return 1;
    default: return -1;
  }
}
// LUTs that one ready takes through a stage on its way to the stage before.
double through(const StageShape& s) {
  switch (s.kind) {
    case StageKind::fork:
    case StageKind::convert:
    case StageKind::add:
    case StageKind::product:
    case StageKind::concat:
    case StageKind::pad:
    case StageKind::select:
    case StageKind::insert: return 1;
    default: return s.serial ? 1.5 : 0.75;
  }
}
// What an enable costs at its end.
double enable(double flip_flops) { return 1 + log2_of(flip_flops) / 8; }
// Counters of a window that are not of one step.
int window_counters(const StageShape& s) {
  int n = 0;
  for (I count : {s.kw * (s.c / s.lanes_in) / s.groups, s.kh, s.reps, s.groups, s.ow, s.oh}) n += count > 1;
  return n;
}

// Paths of the data and of the stage's own counters. `behind_ram`: what feeds it sends what a block RAM read.
void inside(const StageShape& s, bool dsp, bool behind_ram, std::vector<Path>& out) {
  const double x = s.bits_in + (s.signed_in ? 0 : 1), acc = s.bits_out;
  const I groups = s.tables == 1 ? 1 : s.tables / std::max<I>(1, s.lanes_in);
  switch (s.kind) {
    case StageKind::window: {
      const I depth = s.rows * s.w * (s.c / s.lanes_in);
      const double a = bits(depth);
      const bool wraps = (depth & (depth - 1)) != 0;
      // The last line's end picks the next window's address, a sum modulo the memory; which rows are held enables every counter.
      if (s.oh > 1) out.push_back({.luts = deep(bits(s.oh)) + (wraps ? 6.0 : 4.0), .carry = a + 1});
      out.push_back({.luts = 3 + window_counters(s) / 2.0, .fan_out = enable(4 * a)});
      break;
    }
    case StageKind::replay:
      out.push_back({.luts = 2 + deep(bits(s.mw / s.simd)) + bits(2 * (s.mw / s.simd)) / 4});
      break;
    case StageKind::pad:
      out.push_back({.luts = 3 + deep(bits(s.ow)), .fan_out = 1});
      break;
    case StageKind::mvau:
    case StageKind::depthwise:
    case StageKind::mvau_packed: {
      const bool dw = s.kind == StageKind::depthwise;
      const I simd = dw ? 1 : s.simd, pe = dw ? s.lanes_in : s.pe, folds = s.mw / simd, depth = folds * (s.mh / pe), width = pe * simd * s.weight_bits;
      const bool block = !s.logic && ram(depth, width, s.writable ? Memory::writable : Memory::constants);
      if (s.bipolar) out.push_back(behind(block, {.luts = 2, .carry = x}));
      else if (depth > 1 || s.writable) out.push_back(behind(block, product(x, s.weight_bits, dsp)));
      else out.push_back({.luts = 2 + compressors(s.weight_bits / 2.0 + 1), .carry = x + s.weight_bits});
      if (!block) out.push_back({.luts = table(depth), .fan_out = log2_of(static_cast<double>(width)) / 4});
      out.push_back({.luts = folds > 1 ? 2.0 : 1.0, .carry = acc});
      break;
    }
    case StageKind::mvau_logic:
    case StageKind::depthwise_logic:
      out.push_back({.luts = 2, .ram = s.logic ? 0.0 : 1.0});
      out.push_back({.luts = 2, .carry = acc});
      break;
    case StageKind::mvau_constant:
      out.push_back({.luts = 1, .carry = acc});
      break;
    case StageKind::threshold: {
      const I words = groups << (s.serial ? s.level_bits : s.level_bits - 1);
      const bool block = ram(words, s.entry_bits, s.writable ? Memory::writable : Memory::constants);
      // Entry, comparison, what it decides, the next address, the next entry.
      out.push_back(behind(block, {.luts = !s.serial ? 2.0 + table(words) : 4 + (block ? 0.5 : bits(words) / 2), .carry = static_cast<double>(s.entry_bits)}));
      break;
    }
    case StageKind::rescale: {
      const bool block = ram(groups, s.factor_bits + s.offset_bits, Memory::constants);
      if (!s.serial && groups > 1) out.push_back(behind(block, product(x, s.factor_bits, dsp)));
      else if (!s.serial) out.push_back({.luts = 2 + compressors(s.factor_bits / 2.0 + 1), .carry = x + s.factor_bits});
      else out.push_back(behind(block, {.luts = 3, .carry = x + 1}));
      if (s.serial) out.push_back({.luts = deep(s.factor_bits + 2) + 3, .fan_out = 1});
      // The sum's index, less one at a tie, compared with the largest code and clamped.
      out.push_back({.luts = 6, .carry = s.sum_bits * 0.75});
      break;
    }
    case StageKind::affine:
    case StageKind::add:
      out.push_back({.luts = 4, .carry = x + acc});
      break;
    case StageKind::product:
      out.push_back(product(x, x, dsp));
      break;
    case StageKind::pool:
      out.push_back(behind(behind_ram, {.luts = acc > s.bits_in ? 2.0 : 1 + deep(x), .carry = acc > s.bits_in ? acc : 0, .fan_out = acc > s.bits_in ? 0.0 : 1}));
      break;
    case StageKind::total:
      out.push_back(behind(ram(s.c / s.lanes_in, s.lanes_in * s.bits_out, Memory::writable), {.luts = 3, .carry = acc}));
      break;
    case StageKind::argmax:
    case StageKind::topk:
      out.push_back(behind(behind_ram, {.luts = 3, .carry = x, .fan_out = enable(static_cast<double>(s.lanes_out) * (acc + x))}));
      break;
    case StageKind::fifo:
      out.push_back({.luts = 3 + deep(bits(s.depth + 1)), .carry = bits(s.depth) / 2, .fan_out = 1});
      break;
    case StageKind::reorder:
    case StageKind::select:
    case StageKind::insert:
    case StageKind::concat:
      out.push_back({.luts = 4 + deep(bits(std::max(s.beats_in, s.beats_out))), .carry = bits(std::max(s.beats_in, s.beats_out)), .fan_out = 1});
      break;
    case StageKind::softmax:
    case StageKind::normalize: {
      const double wide = s.kind == StageKind::softmax ? 32 : std::max({s.factor_bits, s.sum_bits, s.entry_bits});
      out.push_back({.luts = 4, .carry = wide});
      if (!s.serial) out.push_back(product(wide, wide, dsp));
      break;
    }
    case StageKind::fork:
    case StageKind::skid:
    case StageKind::convert:
      break;
  }
}

}  // namespace

double path_ns(const Path& p, const std::array<double, 6>& ns) {
  return ns[0] + ns[1] * p.luts + ns[2] * p.carry + ns[3] * p.fan_out + ns[4] * p.ram + ns[5] * p.dsp;
}

std::vector<std::vector<Path>> paths(std::span<const StageShape> stages, bool dsp) {
  std::vector<std::vector<Path>> r(stages.size());
  // LUTs from a register to the ready that a stage sees at its output: that of what reads it, through those whose ready is not its own; two of
  // the shell.
  std::vector<double> ready(stages.size(), 0);
  if (!ready.empty()) ready.back() = 2;
  for (std::size_t i = stages.size(); i-- > 0;) {
    const StageShape& s = stages[i];
    double sends = own_ready(s);
    if (sends < 0) sends = std::max(ready[i] + through(s), s.serial ? deep(s.factor_bits + 2) + 1 : 0.0);
    bool block = false;
    for (int from : s.in) {
      if (from < 0) continue;
      double& seen = ready[static_cast<std::size_t>(from)];
      seen = std::max(seen, sends);
      const StageShape& f = stages[static_cast<std::size_t>(from)];
      block |= f.kind == StageKind::window || f.kind == StageKind::replay || f.kind == StageKind::fifo || f.kind == StageKind::reorder;
    }
    inside(s, dsp, block, r[i]);
    // The enable of what is in the stage; those that count need what they count to end.
    const double ends = s.kind == StageKind::window ? 1 + window_counters(s) / 2.0 : s.kind == StageKind::replay || s.kind == StageKind::fifo ? 2 : 1;
    r[i].push_back({.luts = ready[i] + ends, .fan_out = enable(stage_def(s.kind).cost(s, ice40_calibration()).ff)});
  }
  return r;
}

ClockEstimate clock_of(std::span<const std::vector<Path>> paths, const ClockPart& part) {
  ClockEstimate e;
  double slowest = 0;
  for (std::size_t i = 0; i < paths.size(); ++i)
    for (const Path& p : paths[i])
      if (const double t = path_ns(p, part.ns); t > slowest) {
        slowest = t;
        e.stage = static_cast<int>(i);
      }
  e.mhz = 1000 / slowest;
  e.low = e.mhz * part.spread.low, e.high = e.mhz * part.spread.high;
  return e;
}

std::span<const ClockPart> clock_parts() {
  static const ClockPart parts[] = {
      // 22 networks each, mean error 8 %
      {"hx8k", {0.685, 1.1, 0.11, 0.646, 1.752, 4.037}, {0.92, 1.00, 1.19}},
      {"up5k", {2.453, 2.462, 0.383, 1.643, 8.214, 12.837}, {0.82, 1.00, 1.19}},
  };
  return parts;
}

std::string_view clock_source() { return "closed form fitted to placed networks of 250 to 1,300 LUTs, yosys 0.23 and nextpnr-ice40 0.4"; }

std::optional<ClockEstimate> clock_estimate(std::span<const StageShape> stages, bool dsp, std::string_view device) {
  for (const ClockPart& p : clock_parts())
    if (p.device == device) return clock_of(paths(stages, dsp), p);
  return {};
}

}  // namespace tandem::plan
