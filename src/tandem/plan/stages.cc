#include "tandem/plan/stages.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <list>
#include <numeric>

namespace tandem::plan {
namespace {
using I = std::int64_t;

I taps(const StageShape& s) { return s.kh * s.kw; }
I groups(const StageShape& s) { return s.c / s.lanes_in; }  // beats per pixel
I largest(I a, I b) { return a > b ? a : b; }

I beats_in(const StageShape& s) { return s.beats_in; }
I beats_out(const StageShape& s) { return s.beats_out; }
I both(const StageShape& s) { return largest(s.beats_in, s.beats_out); }
I one(const StageShape&) { return 1; }
I none(const StageShape&) { return 0; }

constexpr Memory kRam = Memory::writable, kRom = Memory::constants;
double counter(I n) { return bits_for(n); }

using C = const Calibration&;
using Row = Calibration::Row;
double blocks(C c, I depth, I width, Memory kind) { return static_cast<double>(brams(c.family, depth, width, kind)); }
const Row& k(C c, StageKind s) { return c.lut4[static_cast<std::size_t>(s)]; }
// Of a writable memory that becomes logic: LUTs of xcup (RAM32M holds 6 bits and RAM64M 3 bits in 4 LUTs, RAM128X1D and RAM256X1D one bit in
// 4 and 8), else bits.
double memory_luts(C c, I depth, I width) {
  if (brams(c.family, depth, width, kRam)) return 0;
  if (c.family != Family::xcup) return static_cast<double>(depth * width);
  if (depth <= 32) return 4.0 * static_cast<double>((width + 5) / 6);
  if (depth <= 64) return 4.0 * static_cast<double>((width + 2) / 3);
  return static_cast<double>(width) * (depth <= 128 ? 4.0 : 8.0 * static_cast<double>((depth + 255) / 256));
}
Memory kept(const StageShape& s) { return s.writable ? kRam : kRom; }
// What selects among the banks of a deep memory of constants: counted in yosys 0.23, LUTs a bit by banks.
Cost banked(Cost r, C c, I depth, I width, I copies = 1) {
  const I banks = rom_banks(c.family, depth, width);
  if (banks < 2) return r;
  constexpr double k4[] = {0, 0, 1, 2, 2, 3, 4, 5, 5, 7}, k6[] = {0, 0, 1, 1, 1, 4, 3, 3, 3, 3.1, 4, 5, 5, 5};
  const double each = c.family == Family::xcup ? (banks < 14 ? k6[banks] : 0.38 * static_cast<double>(banks)) : banks < 10 ? k4[banks] : 0.78 * static_cast<double>(banks);
  r.lut4 += static_cast<double>(copies * width) * each;
  r.ff += static_cast<double>(copies * bits_for(banks));
  return r;
}
// What a memory costs that can be written: itself where it becomes logic, and what collects its words (rough).
Cost written(Cost r, const StageShape& s, C c, I depth, I width, I copies = 1) {
  if (!s.writable) return s.logic ? r : banked(r, c, depth, width, copies);
  const double bits = brams(c.family, depth, width, kRam) ? 0 : static_cast<double>(depth * width * copies), unit = c.family == Family::cells ? 11 : 0.6, held = static_cast<double>(std::max<I>(0, width - 32));
  r.lut4 += c.family == Family::xcup ? static_cast<double>(copies) * memory_luts(c, depth, width) : bits * unit;
  r.lut4 += (20 + held / 4) * (c.family == Family::cells ? 10 : 1);
  r.ff += (c.family == Family::xcup ? 0 : bits) + held;
  return r;
}
// A closed form is a sum of products: what is counted, the rows of the calibration say how much of it.
Cost priced(const StageShape& s, C c, const Row& x, double bram = 0, double dsp = 0, double dsp_luts = 0, double dsp_ff = 0) {
  const Row &a = c.lut4[static_cast<std::size_t>(s.kind)], &f = c.ff[static_cast<std::size_t>(s.kind)];
  Cost r{0, bram, dsp, dsp_luts, 0, dsp_ff};
  for (std::size_t i = 0; i < x.size(); ++i) r.lut4 += a[i] * x[i], r.ff += f[i] * x[i];
  return r;
}
double real(I n) { return static_cast<double>(n); }
// The same with what counts for flip-flops apart: logic without registers looks like them where both grow together.
Cost registers(Cost r, const StageShape& s, C c, const Row& x) {
  r.ff = 0;
  for (std::size_t i = 0; i < x.size(); ++i) r.ff += c.ff[static_cast<std::size_t>(s.kind)][i] * x[i];
  return r;
}

// Leaves and muxes of a table in logic. Without measured constants: of a table that never repeats itself.
struct Logic {
  double leaves = 0, muxes = 0, columns = 0;
};
Logic logic_of(const StageShape& s, C c, I tables, I depth, I width, bool logic) {
  if (depth < 2) return {};
  if (!logic) return {};
  const TableLogic& t = s.constants.logic;
  if (s.constants.measured)
    return c.family == Family::ice40 ? Logic{t.leaves4, t.muxes4, t.columns} : c.family == Family::xcup ? Logic{t.leaves6, t.muxes6, t.columns} : Logic{t.nodes, 0, t.columns};
  const double n = real(tables * width), d = real(depth);
  if (c.family == Family::cells) return {n * d / 2, 0, n};
  const double leaf = c.family == Family::ice40 ? 16 : 64, leaves = std::max(1.0, d / leaf);
  return {n * leaves, n * (leaves - 1), n};
}

Cost pad_cost(const StageShape& s, C c) {
  return priced(s, c, {1, counter(s.oh) + counter(s.ow) + counter(groups(s)), real(s.lanes_in * s.bits_in)});
}
Cost window_cost(const StageShape& s, C c) {
  const I depth = s.rows * s.w * groups(s), width = s.lanes_in * s.bits_in;
  const double counters = counter(s.oh) + counter(s.ow) + counter(s.kh) + counter(s.kw) + counter(groups(s)) + counter(s.reps);
  return priced(s, c, {1, counters, real(bits_for(depth)), real(width), memory_luts(c, depth, width), s.kh > 1 ? real(bits_for(depth)) : 0, s.ow > 1 ? real(bits_for(depth)) : 0, counter(s.rows)},
                blocks(c, depth, width, kRam));
}
// TLAST is left out of all but queues: it depends on what follows, and is a bit.
Cost replay_cost(const StageShape& s, C c) {
  const I sf = s.mw / s.simd, width = s.lanes_in * s.bits_in;
  const double one = sf == 1, more = sf > 1;
  return priced(s, c, {1, counter(sf) + counter(s.mh / s.pe), 0, more * real(width), more * memory_luts(c, 2 * sf, width), more * counter(sf), one * real(width), one},
                blocks(c, 2 * sf, width, kRam));
}
// Multipliers of enough product bits become DSPs where the device has any (yosys: 11 for iCE40, 9 for xcup).
bool dsp_sized(const StageShape& s, C c) { return s.bits_in + (s.signed_in ? 0 : 1) + s.weight_bits >= c.dsp_bits && s.weight_bits > 1; }
Cost multiply_cost(const StageShape& s, C c, I depth, I folds, I accumulators, I simd) {
  const I multipliers = accumulators * simd, width = multipliers * s.weight_bits;
  const int xs = s.bits_in + (s.signed_in ? 0 : 1), acc = s.bits_out, pb = std::min(xs + s.weight_bits, acc);
  const bool varying = depth > 1 || s.writable, in_logic = !s.writable && (s.logic || brams(c.family, depth, width, kRom) == 0), measured = s.constants.measured;
  const double live = measured ? s.constants.live : real(multipliers), share = live / real(multipliers);
  double adders = 0, sums = 0;  // bits of the tree's adders, and of its registers
  int bits = pb;
  for (I n = simd; n > 1; n = (n + 1) / 2) {
    bits = std::min(bits + 1, acc);
    adders += real(n / 2 * bits);
    sums += real((n + 1) / 2 * bits);
  }
  const Logic t = logic_of(s, c, 1, depth, width, in_logic);
  // Weights from a table of two or four words take few values, which synthesis sees.
  const double product = varying && !s.bipolar ? live * multiplier_luts(c.family, s.signed_in, s.bits_in, s.weight_bits) * (1 - 0.9 / real(depth)) : 0;
  const double ones = measured ? s.constants.ones : varying ? 0 : real(multipliers) * (s.weight_bits - 1) / 3.0, negative = measured ? s.constants.negative : varying ? 0 : real(multipliers) / 2;
  const Row x{1, counter(depth) + counter(folds), real(s.lanes_in * s.bits_in), product, varying && s.bipolar ? live * pb : 0, folds > 1 ? real(accumulators * acc) : 0,
              share * adders * real(accumulators), t.leaves, t.muxes, varying ? 0 : ones * (xs + 1), varying ? 0 : negative * xs,
              live * pb + share * sums * real(accumulators) + real(accumulators * acc) + t.columns};
  const bool dsp = dsp_sized(s, c) && varying;
  return written(priced(s, c, x, s.logic ? 0.0 : blocks(c, depth, width, kept(s)), dsp ? live : 0, dsp ? c.lut4[static_cast<std::size_t>(s.kind)][3] * product : 0), s, c, depth, width);
}
Cost mvau_cost(const StageShape& s, C c) { return multiply_cost(s, c, (s.mw / s.simd) * (s.mh / s.pe), s.mw / s.simd, s.pe, s.simd); }
Cost depthwise_cost(const StageShape& s, C c) { return multiply_cost(s, c, groups(s) * taps(s), taps(s), s.lanes_in, 1); }
Cost pool_cost(const StageShape& s, C c) {
  const double out = real(s.lanes_in * s.bits_out);
  const bool sum = s.bits_out > s.bits_in;
  return priced(s, c, {1, counter(s.mw), sum ? 0 : out, sum ? out : 0, real(s.lanes_in)});
}
// LUT6 of a table whose address comes late: yosys does not find the leaves again, muxes are as many as nodes of the diagram.
Logic late_address(const StageShape& s, C c, Logic t, double bits) {
  if (c.family == Family::xcup && t.columns > 0) t.muxes = s.constants.measured ? s.constants.logic.nodes : bits / 4;
  return t;
}
Cost threshold_cost(const StageShape& s, C c) {
  const I per = s.tables == 1 ? 1 : s.tables / s.lanes_in, lanes = s.lanes_in, b = s.level_bits;
  const bool measured = s.constants.measured;
  double ram = 0;
  Logic t;
  if (s.serial) {
    ram = real(lanes) * blocks(c, per << b, s.entry_bits, kept(s));
    t = late_address(s, c, logic_of(s, c, lanes, per << b, s.entry_bits, ram == 0 && !s.writable), real(lanes * (per << b) * s.entry_bits));
    return written(priced(s, c, {1, 0, measured ? s.constants.ones : 0, 0, counter(per), t.leaves, t.muxes, 0, (measured ? s.constants.live : real(lanes)) * s.entry_bits, real(lanes * b), real(lanes * s.bits_out), real(lanes * (s.bits_in + b + s.bits_out)) + t.columns}, ram), s, c, per << b, s.entry_bits, lanes);
  }
  double codes = 0, compared = 0;
  Cost extra;
  for (I j = 0; j < b; ++j) {
    const double blocks_of = real(lanes) * blocks(c, per << j, s.entry_bits, kept(s));
    ram += blocks_of;
    if (!measured && !s.writable) {
      const Logic one = logic_of(s, c, lanes, per << j, s.entry_bits, blocks_of == 0);
      t.leaves += one.leaves, t.muxes += one.muxes, t.columns += one.columns;
    }
    compared += (per << j) > 1 || s.writable ? real(lanes) : 0;
    extra = written(extra, s, c, per << j, s.entry_bits, lanes);
    codes += real(lanes) * real(j + 1);
  }
  if (measured) t = logic_of(s, c, lanes, 2, s.entry_bits, ram == 0);
  if (measured) compared = s.constants.live;
  const double constant = measured ? s.constants.ones : per == 1 ? real(lanes * s.entry_bits) : 0;
  Cost r = priced(s, c, {1, compared * s.entry_bits, constant, real(lanes * s.bits_out), counter(per), t.leaves, t.muxes, real(lanes * (b * s.bits_in + s.bits_out)) + codes + t.columns + counter(per) * real(b - 1), 0, 0, 0, 0}, ram);
  r.lut4 += extra.lut4;
  r.ff += extra.ff;
  return r;
}
Cost rescale_cost(const StageShape& s, C c) {
  const I per = s.tables == 1 ? 1 : s.tables / s.lanes_in, lanes = s.lanes_in, width = s.factor_bits + s.offset_bits;
  const int xs = s.bits_in + (s.signed_in ? 0 : 1);
  const bool measured = s.constants.measured;
  const double ram = real(lanes) * blocks(c, per, width, kRom);
  const Logic t = logic_of(s, c, lanes, per, width, ram == 0);
  const double adders = measured ? s.constants.powers : real(lanes * s.sum_bits), clamps = measured ? s.constants.negative : real(2 * lanes * (s.level_bits + 2));
  const double clamped = clamps > 0 ? real(lanes * s.bits_out) : 0;
  if (s.serial) {
    const double held = per > 1 || !measured ? real(lanes * s.factor_bits) : s.constants.ones + real(lanes), all = real(lanes * (s.bits_in + xs + 1 + s.factor_bits + s.sum_bits + s.bits_out)) + s.factor_bits + t.columns;
    const Cost r = priced(s, c, {0, 0, 0, adders, counter(per), t.leaves, t.muxes, clamps, clamped, held, real(lanes * (xs + 1)), all}, ram);
    return registers(r, s, c, {0, 0, 0, 0, counter(per), 0, 0, 0, 0, held, real(lanes * (xs + 1)), all});
  }
  const int used = measured && per > 1 ? static_cast<int>(s.constants.live / real(lanes) + 0.5) : s.factor_bits;
  const double product = per > 1 ? real(lanes) * multiplier_luts(c.family, s.signed_in, s.bits_in, std::max(2, used)) : 0;
  const double ones = per > 1 ? 0 : measured ? s.constants.ones : real(lanes) * (s.factor_bits - 1) / 2.0;
  // yosys builds a constant factor from adders; of others one block takes 16 x 16 (iCE40) or 27 x 18 bits (DSP48E2).
  const bool dsp = per > 1 && s.factor_bits + s.bits_in >= c.dsp_bits;
  const I wide = c.family == Family::ice40 ? 16 : 27, narrow = c.family == Family::ice40 ? 16 : 18, more = std::max(xs, s.factor_bits), less = std::min(xs, s.factor_bits);
  const double pieces = real(lanes) * real(((more + wide - 1) / wide) * ((less + narrow - 1) / narrow));
  // A lane that only shifts is a delay, which xcup has shift registers for.
  const double delayed = c.family == Family::xcup && per == 1 && measured ? s.constants.live : 0;
  const double all = (real(lanes) - delayed) * real(s.bits_in + 2 * s.sum_bits + (per > 1 ? s.offset_bits : 0) + s.bits_out) + (clamps > 0 ? delayed * s.bits_out : 0) + t.columns;
  const Cost r = priced(s, c, {1, product, ones * (xs + 1), adders, counter(per), t.leaves, t.muxes, clamps, clamped, delayed * s.bits_in, 0, all}, ram, dsp ? pieces : 0.0,
                        dsp ? c.lut4[static_cast<std::size_t>(s.kind)][1] * product : 0.0);
  return registers(r, s, c, {1, 0, 0, 0, counter(per), 0, 0, 0, 0, 0, 0, all});
}
Cost payload_cost(const StageShape& s, C c) {
  return priced(s, c, {1, real(s.lanes_in * s.bits_in), real(s.lanes_out * s.bits_out), real(s.ports_out), 0, counter(s.mh)});
}
Cost convert_cost(const StageShape& s, C c) {
  const bool down = s.lanes_in > s.lanes_out;
  const I n = down ? s.lanes_in / s.lanes_out : s.lanes_out / s.lanes_in;
  return priced(s, c, {1, down ? real(s.lanes_in * s.bits_in) : 0, down ? 0 : real(s.lanes_out * s.bits_out), counter(n), down ? real(s.lanes_out * s.bits_out) : 0, down ? 0 : real(n), down ? 1.0 : 0.0});
}
Cost affine_cost(const StageShape& s, C c) {  // a multiplier, adders, clamps and constants a lane
  const double in = real(s.lanes_in * s.bits_in), out = real(s.lanes_out * s.bits_out);
  const StageConstants& k = s.constants;
  const I per = s.channels > 1 && s.channels % s.lanes_in == 0 ? s.channels / s.lanes_in : 1;
  const Logic t = k.measured ? (c.family == Family::ice40 ? Logic{k.logic.leaves4, k.logic.muxes4, k.logic.columns} : c.family == Family::xcup ? Logic{k.logic.leaves6, k.logic.muxes6, k.logic.columns} : Logic{k.logic.nodes, 0, k.logic.columns}) : Logic{};
  const double ones = k.measured ? k.ones : real(s.lanes_in), products = t.columns > 0 ? real(s.lanes_in) * multiplier_luts(c.family, s.signed_in, s.bits_in, 8) : 0;
  return priced(s, c, {1, in, out, ones * (s.bits_in + 1), k.measured ? k.negative * s.bits_in : in / 2, t.leaves, t.muxes, counter(per), products, k.measured ? k.powers * s.bits_out : out, real(s.lanes_in), in * s.bits_out / 8});
}
Cost fifo_cost(const StageShape& s, C c) {
  const I width = s.lanes_in * s.bits_in + (s.last_in ? 1 : 0);
  return priced(s, c, {1, real(width), real(bits_for(s.depth)), 0, memory_luts(c, s.depth, width)}, blocks(c, s.depth, width, kRam));
}

// Multiples of the input (-x and 3x), once for all rows, selected by pairs of weight bits and summed: widths as rtl has them.
struct Selected {
  double multiples = 0, pairs = 0, single = 0, added = 0, passed = 0;  // bits; single: of an odd lowest bit; passed: registers without an adder
  int bits = 0;                                                       // of the product
};
Selected selected(const StageShape& s) {
  const int x = s.bits_in, w = s.weight_bits, acc = s.bits_out;
  Selected r;
  r.multiples = x + std::min(x + 1, acc - (w - 2)) + (w > 3 ? std::min(x + 2, acc - w % 2) : 0);
  struct Part {
    int shift, bits;
  };
  std::array<Part, 32> parts;
  std::size_t n = 0;
  for (int at = w % 2 ? -1 : 0; at < w; at += 2) {
    const int shift = std::max(at, 0), bits = std::min(at < 0 ? x : x + 2, acc - shift);
    (at < 0 ? r.single : r.pairs) += bits;
    parts[n++] = {shift, bits};
  }
  for (; n > 1; n = (n + 1) / 2)
    for (std::size_t i = 0; i < n; i += 2) {
      Part p = parts[i];
      if (i + 1 < n) {
        const Part& high = parts[i + 1];
        const int d = high.shift - p.shift;
        p.bits = std::min(std::max(p.bits, high.bits + d) + (i + 2 == n ? 0 : 1), acc - p.shift);
        r.added += p.bits - d;
        r.passed += d;
      } else {
        r.passed += p.bits;
      }
      parts[i / 2] = p;
    }
  r.bits = parts[0].bits;
  return r;
}
Cost logic_cost(const StageShape& s, C c, I depth, I folds, I lanes, I accumulators, I simd) {
  const I multipliers = accumulators * simd, width = multipliers * s.weight_bits;
  const bool varying = depth > 1 || s.writable, measured = s.constants.measured, in_logic = !s.writable && (s.logic || brams(c.family, depth, width, kRom) == 0);
  const double live = measured ? s.constants.live : real(multipliers), share = live / real(multipliers), acc = s.bits_out;
  const Selected m = selected(s);
  double adders = 0, sums = 0;
  int bits = m.bits;
  for (I n = simd; n > 1; n = (n + 1) / 2) {
    bits = std::min(bits + 1, s.bits_out);
    adders += real(n / 2 * bits);
    sums += real((n + 1) / 2 * bits);
  }
  const Logic t = logic_of(s, c, 1, depth, width, in_logic);
  // Weights that never change select nothing, and equal ones of a lane are one product; of a few words some are equal.
  const double selections = varying ? live * (1 - 0.5 / real(depth)) : 0, summed = varying ? selections : measured ? s.constants.ones : live / 2;
  return written(priced(s, c, {1, counter(depth) + counter(folds), selections * m.pairs, real(lanes) * m.multiples, summed * m.added, folds > 1 ? real(accumulators) * acc : 0,
                       share * adders * real(accumulators), t.leaves, t.muxes, t.columns, real(accumulators) * acc + selections * m.single + summed * m.passed, share * sums * real(accumulators)},
                s.logic ? 0.0 : blocks(c, depth, width, kept(s))), s, c, depth, width);
}
Cost mvau_logic_cost(const StageShape& s, C c) { return logic_cost(s, c, (s.mw / s.simd) * (s.mh / s.pe), s.mw / s.simd, s.simd, s.pe, s.simd); }
Cost depthwise_logic_cost(const StageShape& s, C c) { return logic_cost(s, c, groups(s) * taps(s), taps(s), s.lanes_in, s.lanes_in, 1); }
Cost packed_cost(const StageShape& s, C c) {
  const I folds = s.mw / s.simd, depth = folds * (s.mh / s.pe), width = s.pe * s.simd * s.weight_bits, sharing = (s.pe + s.per_dsp - 1) / s.per_dsp;
  const int field = packed_field(c.family, s.per_dsp, s.bits_in, s.weight_bits);
  // Rows that are left over: their product may be too small for a DSP. Of a constant that is 0 or a power of two there is none.
  const I rest = s.pe % s.per_dsp;
  const bool small_rest = rest > 0 && (rest - 1) * field + s.bits_in + s.weight_bits < c.dsp_bits;
  const double x = s.bits_in, w = s.weight_bits, acc = s.bits_out, all = real(sharing * s.simd), dsps = std::max(0.0, real((sharing - small_rest) * s.simd) - (s.writable ? 0 : s.constants.powers));
  const double wide = field * (s.per_dsp - 1) + w + 1;
  const bool in_logic = !s.writable && (s.logic || brams(c.family, depth, width, kRom) == 0);
  // Sums of two stay packed while the fields have room.
  double packed = 0, apart = 0;
  int room = field - s.bits_in - s.weight_bits, bits = s.bits_in + s.weight_bits;
  I terms = s.simd;
  for (; terms > 1 && room > 0; terms = (terms + 1) / 2, --room, ++bits) packed += real(sharing * (terms / 2)) * (wide + x);
  const double unpacked = real(s.pe * terms) * bits;
  for (I n = terms; n > 1; n = (n + 1) / 2) apart += real(s.pe * (n / 2)) * std::min(++bits, s.bits_out);
  const Logic t = logic_of(s, c, 1, depth, width, in_logic);
  const double product = all * multiplier_luts(c.family, s.signed_in, s.bits_in, static_cast<int>(wide));
  const Row row{1, counter(depth) + counter(folds), product, real((s.pe - sharing) * s.simd) * (w + 1), unpacked, packed, apart, t.leaves, t.muxes, all * wide, folds > 1 ? real(s.pe) * acc : 0,
                real(s.simd) * x + real(s.pe) * acc + t.columns};
  return written(priced(s, c, row, s.logic ? 0.0 : blocks(c, depth, width, kept(s)), dsps, k(c, s.kind)[2] * product * dsps / all, c.ff[static_cast<std::size_t>(s.kind)][9] * wide * dsps), s, c, depth, width);
}
Cost constant_cost(const StageShape& s, C c) {
  return priced(s, c, {1, real(s.sum_depth), real(s.adder_bits), real(s.held_bits), real(s.double_bits), s.last_in ? real(s.sum_depth) : 0});
}

// Counters and comparators of a mask or of nested loops, measured; else one counter.
double steps_of(const StageShape& s, I beats) { return s.constants.measured ? s.constants.ones : counter(beats); }
Cost reorder_cost(const StageShape& s, C c) {
  const I depth = 2 * s.beats_in, width = s.lanes_in * s.bits_in, address = bits_for(depth);
  const bool table_in_logic = s.table && brams(c.family, s.beats_out, address, kRom) == 0;
  const Logic t = table_in_logic ? logic_of(s, c, 1, s.beats_out, address, true) : Logic{};
  return priced(s, c, {1, counter(depth) + counter(s.beats_in) + steps_of(s, s.beats_out), real(address), s.constants.live * real(address), t.leaves, t.muxes, memory_luts(c, depth, width), real(width), t.columns},
                blocks(c, depth, width, kRam) + (s.table ? blocks(c, s.beats_out, address, kRom) : 0));
}
Cost select_cost(const StageShape& s, C c) {
  return priced(s, c, {1, steps_of(s, largest(s.beats_in, s.beats_out)), real(s.lanes_out * s.bits_out), s.constants.live, s.constants.negative});
}
Cost concat_cost(const StageShape& s, C c) { return priced(s, c, {1, counter(s.mw + s.mh), real(s.lanes_out * s.bits_out)}); }
Cost product_cost(const StageShape& s, C c) {
  const int other = std::max(2, s.bits_out - s.bits_in);  // the product has the bits of both operands
  const double lanes = real(s.lanes_in), product = lanes * multiplier_luts(c.family, s.signed_in, s.bits_in, other);
  const bool dsp = s.bits_out >= c.dsp_bits;
  return priced(s, c, {1, product, lanes * s.bits_out, lanes * (s.bits_in + other)}, 0, dsp ? lanes : 0.0, dsp ? k(c, s.kind)[1] * product : 0.0);
}
Cost total_cost(const StageShape& s, C c) {
  const I depth = groups(s), width = s.lanes_in * s.bits_out;
  const bool sum = s.bits_out > s.bits_in;
  return priced(s, c, {1, counter(depth) + counter(s.mw), sum ? 0 : real(width), sum ? real(width) : 0, depth > 1 && s.mw > 1 ? memory_luts(c, depth, width) : 0, real(s.lanes_in * s.bits_in), real(s.lanes_in), depth > 1 ? real(width) : 0, sum && s.signed_in ? real(width) : 0},
                depth > 1 ? blocks(c, depth, width, kRam) : 0);
}

Cost topk_cost(const StageShape& s, C c) {
  const double kept = real(s.lanes_out), place = counter(s.mh);
  return priced(s, c, {1, place, kept * s.bits_in, s.places ? kept * place : 0, kept, s.bits_in > 5 ? kept * s.bits_in : 0});
}
Cost softmax_cost(const StageShape& s, C c) {
  const I depth = I(1) << s.table_bits;
  const double ram = blocks(c, s.mh, s.bits_in, kRam) + blocks(c, depth, 31, kRom);
  const Logic t = logic_of(s, c, 1, depth, 31, brams(c.family, depth, 31, kRom) == 0);
  const double table = t.leaves + t.muxes, product = s.serial ? 0 : 4 * multiplier_luts(c.family, true, 16, 16);
  const Row x{1, 2 * counter(s.mh), real(s.bits_in), real(s.bits_out), memory_luts(c, s.mh, s.bits_in), table, product};
  return priced(s, c, x, ram, s.serial ? 0 : 4, c.lut4[static_cast<std::size_t>(s.kind)][6] * product);
}

Cost normalize_cost(const StageShape& s, C c) {
  const I depth = I(1) << s.table_bits;
  const int root = s.entry_bits;
  const double ram = blocks(c, s.mh, s.bits_in, kRam) + blocks(c, depth, root, kRom);
  const Logic t = logic_of(s, c, 1, depth, root, brams(c.family, depth, root, kRom) == 0);
  const double table = t.leaves + t.muxes, product = s.serial ? 0 : multiplier_luts(c.family, true, s.factor_bits, root);
  const double square = multiplier_luts(c.family, s.signed_in, s.bits_in, s.bits_in);
  const Row x{1, 2 * counter(s.mh), real(s.bits_in), real(s.bits_out), memory_luts(c, s.mh, s.bits_in), table, product + square, real(s.sum_bits), real(s.factor_bits)};
  return priced(s, c, x, ram, s.serial ? 0 : 1, s.serial ? 0 : c.lut4[static_cast<std::size_t>(s.kind)][6] * product);
}

I tree(I n) { return n <= 1 ? 0 : std::bit_width(static_cast<std::uint64_t>(n - 1)); }

const StageDef kStages[] = {
    {StageKind::pad, "pad", "puts the padding value around each frame",
     "S: c/lanes beats a pixel, rows top to bottom -> M: the padded frame", "lanes divide the channels",
     beats_out, [](const StageShape& s) { return s.kh || s.kw ? I(0) : I(1); }, none, pad_cost},
    {StageKind::window, "window", "sliding-window unit: holds rows in a line buffer and sends every window, each `reps` times",
     "S: a frame, channels fastest -> M: windows in (kh, kw, c) or (c, kh, kw) order", "lanes divide the channels",
     [](const StageShape& s) { return largest(s.beats_in, s.oh * s.ow * s.reps * taps(s) * groups(s)); },
     [](const StageShape& s) { return std::min(s.h, largest((s.kh - 1) * s.dh + 1, s.oh == 1 ? s.h : s.sh)) * s.w * groups(s); },
     [](const StageShape&) { return I(2); }, window_cost},
    {StageKind::replay, "replay", "holds two vectors and sends each MH/PE times",
     "S: MW/SIMD beats a vector -> M: each vector MH/PE times", "as the matrix-vector unit behind it",
     [](const StageShape& s) { return s.vectors * (s.mw / s.simd) * (s.mh / s.pe); },
     [](const StageShape& s) { return s.mw / s.simd; }, [](const StageShape&) { return I(2); }, replay_cost},
    {StageKind::mvau, "mvau", "matrix-vector unit: PE rows by SIMD columns of the weight matrix each cycle",
     "S: each vector MH/PE times, SIMD lanes -> M: sums, PE lanes", "PE divides MH, SIMD divides MW (the channels behind a window)",
     [](const StageShape& s) { return s.vectors * (s.mw / s.simd) * (s.mh / s.pe); },
     [](const StageShape& s) { return s.mw / s.simd; }, [](const StageShape& s) { return 3 + tree(s.simd); }, mvau_cost},
    {StageKind::depthwise, "depthwise", "multiplies each channel's window with its own kernel and sums",
     "S: windows in (c, kh, kw) order -> M: sums", "PE divides the channels",
     beats_in, taps, [](const StageShape&) { return I(3); }, depthwise_cost},
    {StageKind::pool, "pool", "maximum, minimum or sum over each channel's window",
     "S: windows in (c, kh, kw) order -> M: one value a window and channel", "PE divides the channels",
     beats_in, taps, one, pool_cost},
    {StageKind::threshold, "threshold", "counts the steps below each value by binary search in a table per channel",
     "S: integers -> M: codes", "lanes of the stage before; one step a cycle (serial) or all in a pipeline",
     [](const StageShape& s) { return s.serial ? s.beats_in * s.level_bits : s.beats_in; },
     one, [](const StageShape& s) { return I(s.level_bits) + 1; }, threshold_cost},
    {StageKind::affine, "affine", "factor, offset and clamp per channel", "S: integers -> M: integers",
     "lanes of the stage before", beats_in, one, [](const StageShape&) { return I(3); }, affine_cost},
    {StageKind::add, "add", "joins two streams: factors, offset and clamp per channel",
     "S0, S1: integers -> M: integers", "lanes common to both", beats_in, one, [](const StageShape&) { return I(3); }, affine_cost},
    {StageKind::fork, "fork", "copies a stream", "S -> M0, M1, ...", "any lanes", beats_in, one, none, payload_cost},
    {StageKind::fifo, "fifo", "queue in memory with registered output", "S -> M", "any lanes", beats_in, one,
     [](const StageShape&) { return I(2); }, fifo_cost},
    {StageKind::skid, "skid", "two-entry buffer: full throughput, registered ready", "S -> M", "any lanes", beats_in, one, one, payload_cost},
    {StageKind::convert, "convert", "changes the number of lanes; one number divides the other", "S: lanes a -> M: lanes b",
     "a divides b or b divides a", both, [](const StageShape& s) { return s.lanes_out > s.lanes_in ? s.lanes_out / s.lanes_in : I(1); },
     one, convert_cost},
    {StageKind::argmax, "argmax", "place of the largest of MH values; ties to the lowest (or highest) place",
     "S: one value a beat -> M: one index a vector", "one lane", beats_in, [](const StageShape& s) { return s.mh; }, one, payload_cost},
    {StageKind::rescale, "rescale", "factor, offset and shift per channel, ties and clamp: the arithmetic form of a requantiser",
     "S: integers -> M: codes", "lanes of the stage before; one bit of the factor a cycle (serial) or all in a pipeline",
     [](const StageShape& s) { return s.serial ? s.beats_in * (s.factor_bits + 2) : s.beats_in; },
     one, [](const StageShape& s) { return s.serial ? I(s.factor_bits) + 3 : I(4); }, rescale_cost},
    {StageKind::reorder, "reorder", "holds two frames and sends each in another order, addressed by counters or a table",
     "S: a frame -> M: its elements in any order, some not at all, some more than once", "lanes divide what stays together", both, beats_in,
     [](const StageShape&) { return I(2); }, reorder_cost},
    {StageKind::select, "select", "leaves beats out", "S: a frame -> M: some of its beats", "lanes divide what stays together", beats_in, one, none, select_cost},
    {StageKind::insert, "insert", "puts constant beats between those of a frame", "S: a frame -> M: a longer frame", "lanes divide what stays together",
     beats_out, one, none, select_cost},
    {StageKind::concat, "concat", "takes runs of beats from two streams in turn", "S0, S1 -> M: their runs", "lanes divide both runs", beats_out, one, none, concat_cost},
    {StageKind::product, "product", "multiplies two streams element by element", "S0, S1: integers -> M: integers", "lanes common to both", beats_in, one,
     [](const StageShape&) { return I(3); }, product_cost},
    {StageKind::total, "total", "maximum, minimum or sum over each channel of a whole frame", "S: a frame, channels fastest -> M: one value a channel",
     "PE divides the channels", beats_in, [](const StageShape& s) { return s.beats_in - groups(s) + 1; }, [](const StageShape&) { return I(2); }, total_cost},
    {StageKind::mvau_logic, "mvau_logic", "matrix-vector unit without multipliers: pairs of weight bits select multiples of the inputs",
     "as mvau", "as mvau", [](const StageShape& s) { return s.vectors * (s.mw / s.simd) * (s.mh / s.pe); },
     [](const StageShape& s) { return s.mw / s.simd; }, [](const StageShape& s) { return 3 + logic_levels(s.weight_bits) + tree(s.simd); }, mvau_logic_cost},
    {StageKind::depthwise_logic, "depthwise_logic", "depthwise without multipliers: pairs of weight bits select multiples of the inputs",
     "as depthwise", "as depthwise", beats_in, taps, [](const StageShape& s) { return I(3) + logic_levels(s.weight_bits); }, depthwise_logic_cost},
    {StageKind::mvau_packed, "mvau_packed", "matrix-vector unit whose multipliers compute the products of several rows side by side",
     "as mvau", "as mvau", [](const StageShape& s) { return s.vectors * (s.mw / s.simd) * (s.mh / s.pe); },
     [](const StageShape& s) { return s.mw / s.simd; }, [](const StageShape& s) { return 5 + tree(s.simd); }, packed_cost},
    {StageKind::mvau_constant, "mvau_constant", "matrix-vector unit of constants: shared sums of shifted inputs, one vector a cycle",
     "S: a vector a beat -> M: sums, MH lanes", "PE is MH; SIMD is the lanes at which vectors arrive", beats_in, one,
     [](const StageShape& s) { return I(s.sum_depth); }, constant_cost},
    {StageKind::topk, "topk", "the k largest (or smallest) of MH values, sorted, or their places; of equal ones the lower place first",
     "S: one value a beat -> M: k of each vector a beat", "one lane in, k out", beats_in, [](const StageShape& s) { return s.mh; }, one, topk_cost},
    {StageKind::softmax, "softmax", "softmax of each vector of MH values: exponentials from a table, their sum, its reciprocal by Newton's method",
     "S: one value a beat -> M: one result a beat", "one lane; products bit by bit (serial) or by one multiplier",
     [](const StageShape& s) { return s.vectors * (s.mh + vector_thinks(s) + s.mh * vector_each(s)); }, [](const StageShape& s) { return s.mh; },
     [](const StageShape& s) { return vector_thinks(s) + vector_each(s); }, softmax_cost},
    {StageKind::normalize, "normalize", "mean 0 and variance 1 of each vector of MH values: sums of values and squares, a reciprocal root from a table",
     "S: one value a beat -> M: one result a beat", "one lane; products bit by bit (serial) or by one multiplier",
     [](const StageShape& s) { return s.vectors * (s.mh + vector_thinks(s) + s.mh * vector_each(s)); }, [](const StageShape& s) { return s.mh; },
     [](const StageShape& s) { return vector_thinks(s) + vector_each(s); }, normalize_cost},
};

// A softmax or normalisation of so many cycles a frame has no multiplier, however fast the rest is: ten classes.
constexpr I kVectorCycles = 640;

struct Source {  // where a layer's values come out
  int stage = -1;
  std::uint8_t port = 0;
  I lanes = 1;
};
struct Scratch {
  std::vector<Source> at;          // by layer + 1
  std::vector<std::uint8_t> uses, taken;
  std::vector<I> slowest;          // cycles of the slowest stage up to the layer
  std::vector<I> frames;           // whole frames that are held up to the layer
};

class Expander {
 public:
  Expander(const StageGraph& g, const Folding& f, std::vector<StageShape>& out) : g_(g), f_(f), out_(out) {
    thread_local Scratch scratch;
    s_ = &scratch;
    const std::size_t n = g.layers.size() + 1;
    s_->at.assign(n, {});
    s_->uses.assign(n, 0);
    s_->taken.assign(n, 0);
    s_->slowest.assign(n, 0);
    s_->frames.assign(n, 0);
    out_.clear();
  }

  I input_lanes() const {
    for (std::size_t i = 0; i < g_.layers.size(); ++i)
      for (int j : g_.layers[i].in)
        if (j < 0) return wanted_lanes(i);
    return 1;
  }
  // One layer behind stand-ins for what feeds it.
  I one(int i, std::span<const I> lanes) {
    count_uses();
    const Layer& l = g_.layers[static_cast<std::size_t>(i)];
    for (int j = 0; j < i; ++j) hold(j);
    for (std::size_t k = 0; k < l.in.size(); ++k) {
      Source& s = s_->at[at(l.in[k])];
      s = {-1, 0, lanes[k]};
      if (l.in[k] < 0 && s_->uses[0] < 2) continue;
      push(StageKind::affine, -1, s, g_.values_of(l.in[k]));
      s = last();
    }
    const std::size_t stand_ins = out_.size();
    layer(i);
    const I result = s_->at[at(i)].lanes;
    fork(i);
    if (i == g_.output_layer) {
      Source s = take(i);
      skid(s, l.out);
    }
    out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(stand_ins));
    // TLAST comes from here where all that follows lets it through.
    int j = g_.output_layer;
    auto passes = [&](int x) {
      const Layer& y = g_.layers[static_cast<std::size_t>(x)];
      const bool moves = y.kind == LayerKind::reorder || y.kind == LayerKind::select || y.kind == LayerKind::insert || y.kind == LayerKind::concat || y.kind == LayerKind::repeat;
      return !y.window && !moves && (y.kind != LayerKind::dense || y.mh == f_.of[static_cast<std::size_t>(x)].pe);
    };
    while (j > i && passes(j)) j = g_.layers[static_cast<std::size_t>(j)].in[0];
    if (j == i && passes(i))
      for (StageShape& s : out_)
        if (s.kind == StageKind::fifo) {
          s.last_in = s.last_out = true;
          break;  // the first operand's
        }
    return result;
  }
  void count_uses() {
    for (const Layer& l : g_.layers)
      for (int i : l.in) ++s_->uses[at(i)];
    ++s_->uses[at(g_.output_layer)];
  }

  void run() {
    count_uses();
    s_->at[0].lanes = input_lanes();
    fork(-1);
    for (std::size_t i = 0; i < g_.layers.size(); ++i) {
      layer(static_cast<int>(i));
      fork(static_cast<int>(i));
    }
    Source o = take(g_.output_layer);
    skid(o, g_.layers.back().out);
    // TLAST travels only where the next stage or the outside needs it.
    for (StageShape& s : out_) s.last_out = false;
    out_.back().last_out = true;
    for (std::size_t i = out_.size(); i-- > 0;) {
      StageShape& s = out_[i];
      s.last_in = s.last_out && s.kind != StageKind::pad && s.kind != StageKind::window && s.kind != StageKind::replay &&
                 s.kind != StageKind::reorder && s.kind != StageKind::select && s.kind != StageKind::insert && s.kind != StageKind::concat;
      if (s.last_in && s.in[0] >= 0) out_[static_cast<std::size_t>(s.in[0])].last_out = true;
    }
  }

 private:
  const StageGraph& g_;
  const Folding& f_;
  std::vector<StageShape>& out_;
  Scratch* s_;

  static std::size_t at(int layer) { return static_cast<std::size_t>(layer + 1); }

  I wanted_lanes(std::size_t i) const {
    const Layer& l = g_.layers[i];
    switch (l.kind) {
      case LayerKind::dense: return f_.of[i].simd;
      case LayerKind::depthwise:
      case LayerKind::pool: return f_.of[i].pe;
      default: return 1;
    }
  }
  // A stage that reads `from`, with the values on its input.
  StageShape& push(StageKind kind, int layer, const Source& from, const Values& v) {
    StageShape& s = out_.emplace_back();
    s.kind = kind;
    s.layer = layer;
    s.in[0] = from.stage;
    s.in_port[0] = from.port;
    s.signed_in = s.signed_out = v.is_signed;
    s.bits_in = s.bits_out = v.bits;
    s.lanes_in = s.lanes_out = from.lanes;
    s.beats_in = s.beats_out = v.elements / from.lanes;
    return s;
  }
  Source last() const { return {static_cast<int>(out_.size()) - 1, 0, out_.back().lanes_out}; }

  Source take(int layer) {
    Source s = s_->at[at(layer)];
    if (s_->uses[at(layer)] > 1) s.port = s_->taken[at(layer)]++;
    return s;
  }
  void fork(int layer) {
    const std::uint8_t n = s_->uses[at(layer)];
    if (n < 2) return;
    push(StageKind::fork, -1, s_->at[at(layer)], g_.values_of(layer)).ports_out = n;
    s_->at[at(layer)] = last();
  }
  void convert(Source& s, I lanes, const Values& v) {
    const I common = std::gcd(s.lanes, lanes);
    for (I to : {common, lanes}) {
      if (s.lanes == to) continue;
      StageShape& x = push(StageKind::convert, -1, s, v);
      x.lanes_out = to;
      x.beats_out = v.elements / to;
      s = last();
    }
  }
  // A registered boundary, unless the stage before is one.
  void skid(Source& s, const Values& v) {
    if (s.stage < 0) return;
    const StageKind k = out_[static_cast<std::size_t>(s.stage)].kind;
    if (k == StageKind::skid || k == StageKind::fifo || k == StageKind::window || k == StageKind::replay) return;
    push(StageKind::skid, -1, s, v);
    s = last();
  }

  void window(int i, Source& s, const Layer& l, const Values& v, I reps) {
    const Window& w = *l.window;
    if (w.padded()) {
      wait(i, s, v, ((w.pt + w.pb) * w.padded_w() + w.pl + w.pr) * (w.c / s.lanes));
      StageShape& p = push(StageKind::pad, i, s, v);
      p.c = w.c; p.h = w.h; p.w = w.w;
      p.kh = w.pt; p.kw = w.pl;
      p.oh = w.padded_h(); p.ow = w.padded_w();
      p.beats_out = p.oh * p.ow * (w.c / s.lanes);
      widen(p, l);
      s = last();
    }
    StageShape& x = push(StageKind::window, i, s, v);
    x.c = w.c; x.h = w.padded_h(); x.w = w.padded_w();
    x.kh = w.kh; x.kw = w.kw; x.sh = w.sh; x.sw = w.sw; x.dh = w.dh; x.dw = w.dw;
    x.oh = w.oh; x.ow = w.ow; x.reps = reps;
    x.channel_outer = w.channel_outer;
    x.groups = l.groups;
    const I cb = w.c / s.lanes;
    x.beats_in = x.h * x.w * cb;
    x.beats_out = x.oh * x.ow * reps * taps(x) * cb;
    if (w.padded()) widen(x, l);
    // Rows: those of one window (or of one step, where it skips some: all are given back together) and of the next step; at a frame's
    // border those behind the last window too (they go with it) and the first of the next frame, or the stage before would wait there;
    // and what the block RAM holds anyway. Never more than two frames.
    const I span = (x.kh - 1) * x.dh + 1, tail = x.h - (x.oh - 1) * x.sh;
    const I least = largest(largest(span, x.sh) + x.sh, tail), row = x.w * cb;
    const I width = s.lanes * x.bits_in;
    I rows = largest(least, std::min<I>(2 * x.h, largest(2 * span, tail + largest(span, x.sh))));
    const I held = 4096 / largest(1, std::bit_ceil(static_cast<std::uint64_t>(std::min<I>(16, width)))) / row;
    rows = std::clamp(held, rows, largest(rows, 2 * x.h));
    x.rows = rows;
    s = last();
  }
  // Padding may widen the type: the padding value must fit.
  void widen(StageShape& x, const Layer& l) {
    const Window& w = *l.window;
    const I lo = std::min(g_.values_of(l.in[0]).lo, w.pad_value), hi = largest(g_.values_of(l.in[0]).hi, w.pad_value);
    x.signed_out = lo < 0;
    x.bits_out = largest(1, signed_bits(lo, hi));
    if (x.kind == StageKind::window) {
      x.signed_in = x.signed_out;
      x.bits_in = x.bits_out;
    }
  }

  // Whole vectors into shared sums: what a window or narrower lanes send is collected first.
  void constant(int i, Source& s, const Layer& l, const Values& v) {
    int bits = v.bits;
    bool sign = v.is_signed;
    if (l.window) {
      window(i, s, l, v, 1);
      bits = out_.back().bits_out;
      sign = out_.back().signed_out;
    }
    if (s.lanes < l.mw) {
      StageShape& x = push(StageKind::convert, i, s, v);
      x.bits_in = x.bits_out = bits;
      x.signed_in = x.signed_out = sign;
      x.lanes_out = l.mw;
      x.beats_in = l.vectors * (l.mw / s.lanes);
      x.beats_out = l.vectors;
      s = last();
    } else {
      skid(s, v);
    }
    const ShiftAdd& sums = constant_sums(l, bits, sign);
    StageShape& m = push(StageKind::mvau_constant, i, s, v);
    set_matrix(m, l, {.pe = l.mh, .simd = l.mw});
    m.bits_in = bits;
    m.signed_in = sign;
    m.beats_in = l.vectors;
    m.sum_depth = std::max(1, sums.depth);
    m.adder_bits = sums.adder_bits();
    m.double_bits = sums.double_bits();
    m.held_bits = sums.held_bits();
    outputs(m, l, l.mh);
  }
  void layer(int i) {
    const Layer& l = g_.layers[static_cast<std::size_t>(i)];
    const Fold& fold = f_.of[static_cast<std::size_t>(i)];
    const Values& v = g_.values_of(l.in[0]);
    Source s = take(l.in[0]);
    std::size_t first = out_.size();
    switch (l.kind) {
      case LayerKind::dense: {
        const I nf = l.mh / l.groups / fold.pe;
        convert(s, fold.simd, v);
        if (fold.multipliers == Multipliers::constant) {
          constant(i, s, l, v);
          break;
        }
        int bits = v.bits;
        bool sign = v.is_signed;
        if (l.window) {
          window(i, s, l, v, nf);
          bits = out_.back().bits_out;
          sign = out_.back().signed_out;
        } else if (nf > 1) {
          StageShape& r = push(StageKind::replay, i, s, v);
          set_matrix(r, l, fold);
          r.mh = l.mh / l.groups;
          r.vectors = l.vectors * l.groups;
          r.beats_out = r.beats_in * nf;
          s = last();
        } else {
          skid(s, v);
        }
        const bool logic = fold.multipliers == Multipliers::logic && selects_multiples(l, bits);
        StageShape& m = push(logic ? StageKind::mvau_logic : fold.multipliers == Multipliers::packed ? StageKind::mvau_packed : StageKind::mvau, i, s, v);
        set_matrix(m, l, fold);
        m.logic = fold.logic && !l.writable;
        m.writable = l.writable;
        if (m.kind == StageKind::mvau_packed) m.per_dsp = fold.per_dsp;
        m.bits_in = bits;
        m.signed_in = sign;
        m.beats_in = l.vectors * (l.mw / fold.simd) * nf * l.groups;
        outputs(m, l, fold.pe);
        break;
      }
      case LayerKind::depthwise:
      case LayerKind::pool: {
        convert(s, fold.pe, v);
        if (!l.window) {
          skid(s, v);
          StageShape& t = push(StageKind::total, i, s, v);
          t.c = t.mh = l.mh;
          t.mw = l.mw;
          outputs(t, l, fold.pe);
          // The results come in one burst at the end of a frame.
          if (const I burst = l.mh / fold.pe; burst > 1) {
            s = last();
            queue(s, l.out, burst);
          }
          break;
        }
        window(i, s, l, v, 1);
        const StageShape w = out_.back();
        const bool logic = fold.multipliers == Multipliers::logic && selects_multiples(l, w.bits_out);
        StageShape& m = push(l.kind == LayerKind::pool ? StageKind::pool : logic ? StageKind::depthwise_logic : StageKind::depthwise, i, s, v);
        set_matrix(m, l, {fold.pe, 1});
        m.logic = fold.logic && l.kind == LayerKind::depthwise && !l.writable;
        m.writable = l.writable;
        m.bits_in = w.bits_out;
        m.signed_in = w.signed_out;
        m.c = w.c; m.kh = w.kh; m.kw = w.kw; m.oh = w.oh; m.ow = w.ow;
        m.beats_in = w.beats_out;
        outputs(m, l, fold.pe);
        break;
      }
      case LayerKind::requant: {
        const I tables = static_cast<I>(l.tables.size());
        if (tables > 1) convert(s, std::gcd(s.lanes, tables), v);
        const I before = largest(f_.interval, largest(s_->slowest[at(l.in[0])], slowest(first)));
        StageShape& t = push(StageKind::threshold, i, s, v);
        t.tables = tables;
        t.levels = static_cast<I>(l.levels.size());
        t.level_bits = l.level_bits;
        t.entry_bits = l.entry_bits;
        t.writable = l.writable;
        outputs(t, l, s.lanes);
        t.serial = t.beats_in * t.level_bits <= before;
        if (!l.rescale || fold.requantiser == Requantiser::table) break;
        // Table or arithmetic: whichever is cheaper, among the forms that are fast enough.
        t.factor_bits = l.rescale->factor_bits;
        t.offset_bits = l.rescale->offset_bits;
        t.sum_bits = l.rescale->sum_bits;
        StageShape r = t;
        r.kind = StageKind::rescale;
        for (bool serial : {false, true}) {
          r.serial = serial;
          if (serial && stage_def(r.kind).cycles(r) > before) continue;
          if (price(r) < price(t) || (fold.requantiser == Requantiser::arithmetic && t.kind == StageKind::threshold)) t = r;
        }
        break;
      }
      case LayerKind::affine:
        constants(s, l, v);
        outputs(push(StageKind::affine, i, s, v), l, s.lanes);
        break;
      case LayerKind::add: {
        constants(s, l, v);
        join(StageKind::add, i, s, l, v, s.lanes);
        break;
      }
      case LayerKind::product: join(StageKind::product, i, s, l, v, s.lanes); break;
      case LayerKind::concat: {
        StageShape& x = join(StageKind::concat, i, s, l, v, l.unit);
        x.mw = l.runs[0] / x.lanes_in;
        x.mh = l.runs[1] / x.lanes_in;
        break;
      }
      case LayerKind::reorder: {
        convert(s, std::gcd(s.lanes, l.unit), v);
        StageShape& x = push(StageKind::reorder, i, s, v);
        x.table = l.loops.empty();
        outputs(x, l, s.lanes);
        break;
      }
      case LayerKind::select: {
        convert(s, std::gcd(s.lanes, l.unit), v);
        StageShape& x = push(StageKind::select, i, s, v);
        x.keep = l.keep;
        outputs(x, l, s.lanes);
        break;
      }
      case LayerKind::insert: {
        convert(s, std::gcd(s.lanes, l.unit), v);
        wait(i, s, v, l.burst / s.lanes);
        StageShape& x = push(StageKind::insert, i, s, v);
        x.keep = l.keep;
        outputs(x, l, s.lanes);
        break;
      }
      case LayerKind::repeat: {
        convert(s, std::gcd(s.lanes, l.mw), v);
        StageShape& x = push(StageKind::replay, i, s, v);
        set_matrix(x, l, {1, s.lanes});
        outputs(x, l, s.lanes);
        break;
      }
      case LayerKind::topk: {
        convert(s, 1, v);
        skid(s, v);
        StageShape& x = push(StageKind::topk, i, s, v);
        x.mh = l.mh;
        x.vectors = l.vectors;
        x.places = l.places;
        outputs(x, l, l.kept);
        break;
      }
      case LayerKind::softmax:
      case LayerKind::normalize: {
        convert(s, 1, v);
        // What arrives while a vector is worked on.
        if (s.stage >= 0 && l.mh > 2) queue(s, v, l.mh);
        else skid(s, v);
        const I before = largest(f_.interval, largest(s_->slowest[at(l.in[0])], slowest(first)));
        StageShape& x = push(l.kind == LayerKind::softmax ? StageKind::softmax : StageKind::normalize, i, s, v);
        x.mh = l.mh;
        x.vectors = l.vectors;
        x.table_bits = bits_for(static_cast<I>(l.table.size()));
        if (l.kind == LayerKind::normalize) {
          const Int128 sum = Int128(l.mh) * std::max<Int128>(v.hi, -Int128(v.lo));
          x.entry_bits = l.root_bits + 1;
          x.factor_bits = std::max(signed_bits(0, sum), x.entry_bits);
          x.sum_bits = (std::max(4, signed_bits(0, sum * sum + l.epsilon)) + 1) / 2 * 2;
        }
        outputs(x, l, 1);
        x.serial = true;
        x.serial = stage_def(x.kind).cycles(x) <= largest(before, kVectorCycles);
        break;
      }
      case LayerKind::argmax: {
        convert(s, 1, v);
        skid(s, v);
        StageShape& x = push(StageKind::argmax, i, s, v);
        x.mh = l.mh;
        x.vectors = l.vectors;
        outputs(x, l, 1);
        break;
      }
    }
    s_->slowest[at(i)] = largest(s_->slowest[at(i)], largest(s_->slowest[at(l.in[0])], slowest(first)));
    hold(i);
    s_->at[at(i)] = last();
  }

  // Whole frames that are held up to a layer.
  void hold(int i) {
    const Layer& l = g_.layers[static_cast<std::size_t>(i)];
    const bool whole = (l.kind == LayerKind::pool && !l.window) || l.kind == LayerKind::reorder || ((l.kind == LayerKind::repeat || l.kind == LayerKind::softmax || l.kind == LayerKind::normalize) && l.vectors == 1);
    for (int j : l.in) s_->frames[at(i)] = largest(s_->frames[at(i)], s_->frames[at(j)] + whole);
  }
  // A stage of two inputs behind a queue each: both wait there for the other, as long as whole frames are held before it.
  StageShape& join(StageKind kind, int i, Source s, const Layer& l, const Values& v, I lanes) {
    Source b = take(l.in[1]);
    const Values& vb = g_.values_of(l.in[1]);
    const I a_frames = s_->frames[at(l.in[0])], b_frames = s_->frames[at(l.in[1])];
    convert(s, std::gcd(std::gcd(s.lanes, b.lanes), lanes), v);
    convert(b, s.lanes, vb);
    const std::vector<I>& sized = f_.of[static_cast<std::size_t>(i)].queues;
    queue(s, v, sized.empty() ? (1 + largest(0, b_frames - a_frames)) * (v.elements / s.lanes) + 2 : sized[0]);
    queue(b, vb, sized.empty() ? (1 + largest(0, a_frames - b_frames)) * (vb.elements / b.lanes) + 2 : sized[1]);
    StageShape& x = push(kind, i, s, v);
    x.in[1] = b.stage;
    x.in_port[1] = b.port;
    outputs(x, l, s.lanes);
    s_->slowest[at(i)] = s_->slowest[at(l.in[1])];
    return x;
  }
  // While a stage sends what it does not read, what arrives waits in front of it: the stage before must not stand still.
  void wait(int i, Source& s, const Values& v, I burst) {
    const I gap = largest(1, largest(f_.interval, s_->slowest[at(g_.layers[static_cast<std::size_t>(i)].in[0])]) / (v.elements / s.lanes)), waiting = burst / gap;
    if (s.stage >= 0 && waiting > 2) queue(s, v, waiting);
    else if (s.stage >= 0 && waiting > 0) skid(s, v);
  }

  // One number for two resources: a block RAM of iCE40 parts for each 200 LUTs or so. A rule of its own, in rough LUT4: which form a
  // requantiser takes must not move with every calibration.
  static double price(const StageShape& s) {
    const double lanes = real(s.lanes_in), x = s.bits_in;
    const I per = s.tables == 1 ? 1 : s.tables / s.lanes_in;
    const auto logic = [](I depth, I width) { return ice40_brams(depth, width, kRom) ? 0 : real(depth * width); };
    const auto ram = [](I depth, I width) { return real(ice40_brams(depth, width, kRom)); };
    if (s.kind == StageKind::rescale) {
      const I width = s.factor_bits + s.offset_bits;
      const double xs = x + (s.signed_in ? 0 : 1), rest = 0.14 * (per > 1 ? lanes * logic(per, width) : 0.0) + 7.6 * counter(per) + 200 * lanes * ram(per, width);
      return rest + (s.serial ? 1.43 * lanes * (xs + s.sum_bits + s.factor_bits / 2.0) : (per > 1 ? 1.92 : 0.724) * lanes * xs * s.factor_bits);
    }
    const double b = s.level_bits;
    if (s.serial) {
      const I depth = per << s.level_bits;
      return 0.0771 * lanes * x + 3.84 * counter(per) + lanes * (0.138 * logic(depth, s.entry_bits) + 200 * ram(depth, s.entry_bits) + 5.76 * b);
    }
    double r = 0.0771 * lanes * x * b + 3.84 * counter(per) + 5.76 * lanes * b * b / 2;
    for (int j = 0; j < s.level_bits; ++j) r += lanes * (0.138 * logic(per << j, s.entry_bits) + 200 * ram(per << j, s.entry_bits));
    return r;
  }
  I slowest(std::size_t first) const {
    I c = 0;
    for (std::size_t i = first; i < out_.size(); ++i) c = largest(c, stage_def(out_[i].kind).cycles(out_[i]));
    return c;
  }
  // Lanes must divide the period of the constants.
  void constants(Source& s, const Layer& l, const Values& v) {
    std::size_t n = std::max({l.c.size(), l.clamp_lo.size(), l.clamp_hi.size()});
    for (const auto& k : l.k) n = std::max(n, k.size());
    if (n > 1) convert(s, std::gcd(s.lanes, static_cast<I>(n)), v);
  }
  void queue(Source& s, const Values& v, I depth) {
    push(StageKind::fifo, -1, s, v).depth = depth;
    s = last();
  }
  static void set_matrix(StageShape& s, const Layer& l, Fold f) {
    s.mw = l.mw; s.mh = l.mh; s.vectors = l.vectors;
    s.pe = f.pe; s.simd = f.simd;
    s.weight_bits = l.weight_bits;
    s.bipolar = l.bipolar;
  }
  static void outputs(StageShape& s, const Layer& l, I lanes) {
    s.lanes_out = lanes;
    s.beats_out = l.out.elements / lanes;
    s.bits_out = l.out.bits;
    s.signed_out = l.out.is_signed;
    s.channels = l.out.channels;
  }
};

}  // namespace

bool two_inputs(StageKind k) { return k == StageKind::add || k == StageKind::concat || k == StageKind::product; }

int products_per_dsp(Family f, int bits_in, bool signed_in, int weight_bits) {
  const int a = f == Family::ice40 ? 16 : 27, b = f == Family::ice40 ? 16 : 18;
  if (bits_in + (signed_in ? 0 : 1) > b || weight_bits + 1 > a) return 1;
  return std::min(8, 1 + (a - weight_bits - 1) / (bits_in + weight_bits));
}

int packed_field(Family f, int per_dsp, int bits_in, int weight_bits) {
  const int a = f == Family::ice40 ? 16 : 27;
  return std::max(bits_in + weight_bits, (a - weight_bits - 1) / (per_dsp - 1));
}

bool selects_multiples(const Layer& l, int bits_in) { return !l.bipolar && l.weight_bits >= 2 && bits_in >= 2; }
int logic_levels(int weight_bits) { return static_cast<int>(tree((weight_bits + 1) / 2)); }

const ShiftAdd& constant_sums(const Layer& l, int bits_in, bool signed_in) {
  struct Kept {
    std::vector<std::int64_t> weights;
    std::int64_t mh = 0;
    int bits_in = 0, bits_out = 0;
    bool signed_in = false;
    ShiftAdd sums;
  };
  thread_local std::list<Kept> kept;  // a search asks for the same few again and again
  for (auto k = kept.begin(); k != kept.end(); ++k)
    if (k->mh == l.mh && k->bits_in == bits_in && k->signed_in == signed_in && k->bits_out == l.out.bits && k->weights == l.weights) {
      kept.splice(kept.begin(), kept, k);
      return kept.front().sums;
    }
  if (kept.size() == 16) kept.pop_back();
  kept.push_front({l.weights, l.mh, bits_in, l.out.bits, signed_in, shift_add(l.weights, l.mh, l.mw, bits_in, signed_in, l.out.bits)});
  return kept.front().sums;
}

std::int64_t vector_product(const StageShape& s) { return !s.serial ? 1 : s.kind == StageKind::softmax ? 31 : s.factor_bits; }
std::int64_t vector_thinks(const StageShape& s) {
  if (s.kind == StageKind::softmax) return s.mh + 3 + 11 + 7 * (vector_product(s) + 3);
  return vector_product(s) + 4 + std::max(1, s.sum_bits / 2 - 1) + 1;
}
std::int64_t vector_each(const StageShape& s) { return vector_product(s) + (s.kind == StageKind::softmax ? 5 : 6); }

int bits_for(std::int64_t n) { return n <= 2 ? 1 : std::bit_width(static_cast<std::uint64_t>(n - 1)); }

namespace {
// Words so wide and deep, for so many blocks.
struct BlockShape {
  I depth = 0, width = 0, blocks = 1;
};
constexpr BlockShape kIce40[] = {{256, 16}, {512, 8}, {1024, 4}, {2048, 2}};
constexpr BlockShape kXcup[] = {{512, 36}, {1024, 18}, {2048, 9}, {4096, 4}, {8192, 2}, {16384, 1}};
constexpr BlockShape kXcupPairs[] = {{1024, 36, 2}, {2048, 18, 2}, {4096, 9, 2}, {8192, 4, 2}, {16384, 2, 2}, {32768, 1, 2}};  // of 36 kbit

I least_blocks(std::span<const BlockShape> shapes, I depth, I width) {
  I best = I(1) << 40;
  for (const BlockShape& b : shapes) best = std::min(best, ((depth + b.depth - 1) / b.depth) * ((width + b.width - 1) / b.width));
  return best;
}
// A memory of constants: its banks lie side by side in wide words. yosys weighs blocks against what selects among the banks.
struct Banks {
  I blocks = 0, banks = 1;
};
Banks banks_of(Family f, I depth, I width) {
  const bool xcup = f == Family::xcup;
  if (depth <= (xcup ? 512 : 256)) return {xcup ? (width + 35) / 36 : (width + 15) / 16, 1};
  Banks best;
  double least = 0;
  const auto look = [&](std::span<const BlockShape> shapes) {
    for (const BlockShape& b : shapes) {
      const I banks = (depth + b.depth - 1) / b.depth, blocks = (banks * width + b.width - 1) / b.width * b.blocks;
      const double cost = real(blocks) + real(width * (banks - 1)) / (xcup ? 240 : 120);
      if (best.blocks == 0 || cost < least) best = {blocks, banks}, least = cost;
    }
  };
  look(xcup ? std::span<const BlockShape>(kXcup) : std::span<const BlockShape>(kIce40));
  if (xcup) look(kXcupPairs);
  return best;
}
}  // namespace

std::int64_t rom_banks(Family f, std::int64_t depth, std::int64_t width) { return brams(f, depth, width, Memory::constants) > 0 ? banks_of(f, depth, width).banks : 1; }

std::int64_t ice40_brams(std::int64_t depth, std::int64_t width, Memory kind) {
  if (kind == Memory::writable && depth * width < 80) return 0;
  const I best = least_blocks(kIce40, depth, width);
  if (kind == Memory::writable) return best;
  return depth * width < 1024 * best ? 0 : banks_of(Family::ice40, depth, width).blocks;
}
std::int64_t brams(Family f, std::int64_t depth, std::int64_t width, Memory kind) {
  if (f == Family::ice40) return ice40_brams(depth, width, kind);
  if (f == Family::cells) return kind == Memory::writable && depth * width >= kMacroBits;
  if (kind == Memory::writable && (depth <= 64 || depth * width <= 2048)) return 0;
  const I best = least_blocks(kXcup, depth, width);
  if (kind == Memory::writable) return best;
  return depth * width < 4608 * best ? 0 : banks_of(Family::xcup, depth, width).blocks;
}

Family family_of(std::string_view name) {
  if (name == "ice40") return Family::ice40;
  if (name == "xcup") return Family::xcup;
  if (name == "cells") return Family::cells;
  throw Error(Exit::no, fmt::format("no resources are known for the family '{}'", name)).expected("ice40, xcup or cells");
}

const Calibration& calibration(Family f) { return f == Family::ice40 ? ice40_calibration() : f == Family::xcup ? xcup_calibration() : cells_calibration(); }

std::span<const StageDef> all_stages() { return kStages; }
const StageDef& stage_def(StageKind k) { return kStages[static_cast<std::size_t>(k)]; }

void expand(const StageGraph& g, const Folding& f, std::vector<StageShape>& out) { Expander(g, f, out).run(); }
std::int64_t expand_layer(const StageGraph& g, const Folding& f, int layer, std::span<const std::int64_t> lanes, std::vector<StageShape>& out) {
  return Expander(g, f, out).one(layer, lanes);
}
std::int64_t input_lanes(const StageGraph& g, const Folding& f) {
  std::vector<StageShape> none;
  return Expander(g, f, none).input_lanes();
}

}  // namespace tandem::plan
