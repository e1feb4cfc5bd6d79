#include "tandem/plan/constants.h"

#include <algorithm>
#include <bit>
#include <set>
#include <unordered_map>

#include "tandem/plan/moves.h"

namespace tandem::plan {
namespace {
using I = std::int64_t;

// Decision diagram of all columns together, shared up to the complement: how many different nodes decide each address bit.
struct Diagram {
  std::vector<std::unordered_map<std::uint64_t, int>> level;  // of (low, high): node
  int fresh = 1;                                              // node 0 is the constant 0; -1 - n is the complement of n
  std::vector<double> found;                                  // new nodes of a level
  std::vector<double> live;                                   // different functions below a level that are neither constant nor one bit

  explicit Diagram(int bits) : level(static_cast<std::size_t>(bits) + 1), found(static_cast<std::size_t>(bits) + 1) {}
  static int complement(int n) { return -1 - n; }
  int node(std::size_t k, int lo, int hi) {
    if (lo == hi) return lo;
    const bool flip = lo < 0;
    if (flip) lo = complement(lo), hi = complement(hi);
    const auto key = static_cast<std::uint64_t>(static_cast<std::uint32_t>(lo)) << 32 | static_cast<std::uint32_t>(hi);
    const auto [it, isnew] = level[k].emplace(key, fresh);
    if (isnew) {
      ++fresh;
      ++found[k];
    }
    return flip ? complement(it->second) : it->second;
  }
};

void add(TableLogic& to, const TableLogic& t) {
  to.leaves4 += t.leaves4, to.muxes4 += t.muxes4, to.leaves6 += t.leaves6, to.muxes6 += t.muxes6, to.nodes += t.nodes, to.columns += t.columns;
}

void push_bits(std::vector<std::vector<bool>>& columns, std::size_t first, std::size_t address, I value, int bits) {
  for (int b = 0; b < bits; ++b) columns[first + static_cast<std::size_t>(b)][address] = static_cast<std::uint64_t>(value) >> b & 1;
}
std::vector<std::vector<bool>> table(std::size_t width, std::size_t depth) { return std::vector(width, std::vector<bool>(depth)); }

void multiply(const StageGraph& g, StageShape& s, StageConstants& k) {
  const Layer& l = g.layers[static_cast<std::size_t>(s.layer)];
  const bool dw = s.kind == StageKind::depthwise || s.kind == StageKind::depthwise_logic;
  const I pe = dw ? s.lanes_in : s.pe, simd = dw ? 1 : s.simd, sf = dw ? s.mw : s.mw / s.simd, nf = s.mh / pe, depth = sf * nf;
  if (static_cast<I>(l.weights.size()) < s.mw * s.mh) return;
  std::set<std::pair<I, I>> different;  // lanes and weights
  auto columns = table(static_cast<std::size_t>(depth > 1 ? pe * simd * s.weight_bits : 0), static_cast<std::size_t>(depth));
  for (I p = 0; p < pe; ++p)
    for (I i = 0; i < simd; ++i) {
      bool live = false;
      for (I n = 0; n < nf; ++n)
        for (I f = 0; f < sf; ++f) {
          const I w = l.weights[static_cast<std::size_t>((n * pe + p) * s.mw + f * simd + i)];
          live = live || w != 0;
          if (depth > 1) {
            push_bits(columns, static_cast<std::size_t>((p * simd + i) * s.weight_bits), static_cast<std::size_t>(n * sf + f), s.bipolar ? I(w > 0) : w, s.weight_bits);
          } else if (w != 0) {
            // A constant factor: as many numbers to add as it has ones, in the better of the forms w and -(-w).
            const auto u = static_cast<std::uint64_t>(w < 0 ? -w : w);
            if (s.kind == StageKind::mvau_logic || s.kind == StageKind::depthwise_logic) {
              int pairs = 0;
              for (int b = s.weight_bits % 2 ? -1 : 0; b < s.weight_bits; b += 2) pairs += (static_cast<std::uint64_t>(w) >> std::max(b, 0) & (b < 0 ? 1 : 3)) != 0;
              if (different.insert({dw ? p : i, w}).second && pairs > 1) k.ones += static_cast<double>(pairs - 1) / std::max(1, (s.weight_bits - 1) / 2);
              continue;
            }
            k.ones += std::popcount(u) - 1;
            k.negative += w < 0;
            k.powers += std::popcount(u) == 1;
          }
        }
      k.live += live;
    }
  if (depth > 1) add(k.logic, table_logic(columns));
  if (s.kind != StageKind::mvau_packed) return;
  // Constant operands that are 0 or a power of two: of the rows that make one, at most one weight is not 0.
  k.powers = 0;
  for (I p = 0; depth == 1 && p < pe; p += s.per_dsp)
    for (I i = 0; i < simd; ++i) {
      I weights = 0, ones = 0;
      for (I row = p; row < std::min<I>(pe, p + s.per_dsp); ++row) {
        const I w = l.weights[static_cast<std::size_t>(row * s.mw + i)];
        weights += w != 0;
        ones += w < 0 ? 2 : std::popcount(static_cast<std::uint64_t>(w));
      }
      k.powers += weights == 0 || (weights == 1 && ones == 1);
    }
}

void thresholds(const StageGraph& g, StageShape& s, StageConstants& k) {
  const Layer& l = g.layers[static_cast<std::size_t>(s.layer)];
  const I never = g.values_of(l.in[0]).hi + 1, per = s.tables == 1 ? 1 : s.tables / s.lanes_in;
  const int b = l.level_bits;
  bool flip = false;
  for (const ir::Thresholds& t : l.tables) flip = flip || t.flip;
  const int word = s.entry_bits + (flip ? 1 : 0);
  for (I i = 0; i < s.lanes_in; ++i) {
    std::vector<std::vector<I>> step;
    std::vector<bool> flipped;
    for (I p = 0; p < per; ++p) {
      const ir::Thresholds& t = l.tables[l.tables.size() == 1 ? 0 : static_cast<std::size_t>(p * s.lanes_in + i)];
      std::vector<I> x(std::size_t(1) << b, never);
      x[0] = 0;
      const std::size_t n = t.t.size();
      for (std::size_t c = 1; c <= n && c < x.size(); ++c) x[c] = static_cast<I>(t.flip ? 1 - t.t[n - c] : t.t[c - 1]);
      step.push_back(std::move(x));
      flipped.push_back(t.flip);
    }
    // Serial: one table of every step; in a pipeline: one for each bit of the code.
    for (int j = 0; j < (s.serial ? 1 : b); ++j) {
      const bool whole = s.serial && b > 1;
      const std::size_t each = whole ? std::size_t(1) << b : std::size_t(1) << j;
      auto columns = table(static_cast<std::size_t>(word), each * static_cast<std::size_t>(per));
      for (I p = 0; p < per; ++p)
        for (std::size_t top = 0; top < each; ++top) {
          const std::size_t at = whole ? top : (2 * top + 1) << (b - 1 - j), address = static_cast<std::size_t>(p) * each + top;
          push_bits(columns, 0, address, step[static_cast<std::size_t>(p)][at], s.entry_bits);
          if (flip) columns[static_cast<std::size_t>(s.entry_bits)][address] = flipped[static_cast<std::size_t>(p)];
        }
      if (columns[0].size() == 1) {
        // A comparison with a constant: what lies below its lowest one costs nothing.
        const I v = step[0][std::size_t(1) << (b - 1)];
        k.ones += std::max(0, s.entry_bits - (v == 0 ? s.entry_bits : std::countr_zero(static_cast<std::uint64_t>(v))));
      } else {
        add(k.logic, table_logic(columns));
        k.live += 1;
      }
    }
  }
}

void rescales(const StageGraph& g, StageShape& s, StageConstants& k) {
  const Layer& l = g.layers[static_cast<std::size_t>(s.layer)];
  if (!l.rescale) return;
  const auto& r = *l.rescale;
  const Values& in = g.values_of(l.in[0]);
  const I per = s.tables == 1 ? 1 : s.tables / s.lanes_in, top = static_cast<I>(l.levels.size()) - 1;
  const int index_bits = r.sum_bits - r.shift;
  for (I i = 0; i < s.lanes_in; ++i) {
    auto columns = table(static_cast<std::size_t>(r.factor_bits + r.offset_bits), static_cast<std::size_t>(per));
    bool below = false, above = false;
    for (I p = 0; p < per; ++p) {
      const std::size_t c = r.factor.size() == 1 ? 0 : static_cast<std::size_t>(p * s.lanes_in + i);
      push_bits(columns, 0, static_cast<std::size_t>(p), r.factor[c], r.factor_bits);
      push_bits(columns, static_cast<std::size_t>(r.factor_bits), static_cast<std::size_t>(p), r.offset[c], r.offset_bits);
      for (const I x : {in.lo, in.hi}) {
        const Int128 index = (static_cast<Int128>(r.factor[c]) * x + r.offset[c]) >> r.shift;
        below = below || index < 0;
        above = above || index > top;
      }
    }
    // A clamp that never binds is nothing.
    k.negative += (below + above) * index_bits;
    const I c = r.factor.size() == 1 ? 0 : i;
    k.powers += (per > 1 || r.offset[static_cast<std::size_t>(c)] != 0 ? r.sum_bits : 0) + (r.ties ? index_bits : 0);
    if (per > 1) {
      add(k.logic, table_logic(columns));
      // Bits of the factor that any channel uses.
      for (int b = 0; b < r.factor_bits; ++b) k.live += std::find(columns[static_cast<std::size_t>(b)].begin(), columns[static_cast<std::size_t>(b)].end(), true) != columns[static_cast<std::size_t>(b)].end();
    } else {
      const I v = r.factor[static_cast<std::size_t>(c)];
      k.ones += std::max(0, std::popcount(static_cast<std::uint64_t>(v < 0 ? -v : v)) - 1);
      k.live += v > 0 && std::popcount(static_cast<std::uint64_t>(v)) == 1 && r.offset[static_cast<std::size_t>(c)] == 0;
    }
  }
}

void linears(const StageGraph& g, StageShape& s, StageConstants& k) {
  const Layer& l = g.layers[static_cast<std::size_t>(s.layer)];
  std::size_t period = std::max({l.c.size(), l.clamp_lo.size(), l.clamp_hi.size()});
  for (const auto& x : l.k) period = std::max(period, x.size());
  const auto at = [](const std::vector<I>& t, std::size_t c) { return t.empty() ? 0 : t[t.size() == 1 ? 0 : c % t.size()]; };
  const I per = period <= 1 ? 1 : static_cast<I>(period) / s.lanes_in;
  for (I i = 0; i < s.lanes_in; ++i) {
    if (per == 1) {
      const std::size_t c = period <= 1 ? 0 : static_cast<std::size_t>(i);
      for (const auto& x : l.k) {
        const I v = at(x, c);
        const auto f = static_cast<std::uint64_t>(v < 0 ? -v : v);
        k.ones += std::max(0, std::popcount(f) - 1);
        k.negative += v < 0;
        k.live += v != 0;
      }
      k.powers += at(l.c, c) != 0;
    } else {
      constexpr int kBits = 24;
      auto columns = table(kBits * (l.k.size() + 1), static_cast<std::size_t>(per));
      for (I p = 0; p < per; ++p) {
        const std::size_t c = static_cast<std::size_t>(p * s.lanes_in + i);
        for (std::size_t n = 0; n < l.k.size(); ++n) push_bits(columns, n * kBits, static_cast<std::size_t>(p), at(l.k[n], c), kBits);
        push_bits(columns, l.k.size() * kBits, static_cast<std::size_t>(p), at(l.c, c), kBits);
      }
      add(k.logic, table_logic(columns));
      k.live += static_cast<double>(l.k.size());
    }
  }
}

// ones: bits of the counters; live: sums in the address; or the table of addresses.
void orders(const StageGraph& g, StageShape& s, StageConstants& k) {
  const Layer& l = g.layers[static_cast<std::size_t>(s.layer)];
  const I per = l.unit / s.lanes_in;
  if (!s.table) {
    if (per > 1) k.ones += bits_for(per), k.live += 1;
    for (const Loop& x : l.loops)
      if (x.n > 1) k.ones += bits_for(x.n), k.live += 1;
    return;
  }
  const int address = bits_for(2 * s.beats_in);
  k.ones = 2.0 * bits_for(s.beats_out);
  k.live = 1;
  auto columns = table(static_cast<std::size_t>(address), static_cast<std::size_t>(s.beats_out));
  for (I i = 0; i < s.beats_out; ++i) push_bits(columns, 0, static_cast<std::size_t>(i), l.from[static_cast<std::size_t>(i / per)] * per + i % per, address);
  k.logic = table_logic(columns);
}
// ones: bits of the counters; live: bits that are compared; negative: bits of masks in between.
void masks(const StageShape& s, I beats, StageConstants& k) {
  if (!s.keep) return;
  std::vector<bool> of_beat;
  for (I i = 0; i < beats; ++i) of_beat.push_back((*s.keep)[static_cast<std::size_t>(i * s.lanes_in)]);
  bool read = s.kind == StageKind::insert || s.last_out;  // an outermost counter that nothing reads is none
  for (const std::vector<bool>& m : factor(of_beat)) {
    const I n = static_cast<I>(m.size());
    read = read || std::find(m.begin(), m.end(), false) != m.end();
    if (!read) continue;
    if (n > 1) k.ones += bits_for(n);
    const auto first = std::find(m.begin(), m.end(), true), end = std::find(m.rbegin(), m.rend(), true).base();
    if (std::find(first, end, false) == end) k.live += ((first != m.begin()) + (end != m.end())) * bits_for(n);
    else k.negative += static_cast<double>(n);
  }
}

}  // namespace

TableLogic table_logic(const std::vector<std::vector<bool>>& columns) {
  TableLogic r;
  if (columns.empty() || columns[0].size() < 2) return r;
  const std::size_t depth = columns[0].size();
  const int bits = std::bit_width(depth - 1);
  Diagram d(bits);
  std::vector<std::vector<int>> of;
  for (const auto& c : columns) {
    std::vector<int> f;
    for (const bool b : c) f.push_back(b ? Diagram::complement(0) : 0);
    f.resize(std::size_t(1) << bits, 0);
    of.push_back(std::move(f));
  }
  std::unordered_map<int, bool> seen;
  for (int k = 1; k <= bits; ++k) {
    for (auto& f : of) {
      for (std::size_t i = 0; i < f.size() / 2; ++i) f[i] = d.node(static_cast<std::size_t>(k), f[2 * i], f[2 * i + 1]);
      f.resize(f.size() / 2);
    }
    // Different functions of the lowest k address bits, up to the complement: a LUT each.
    const bool at4 = k == std::min(4, bits), at6 = k == std::min(6, bits);
    if (at4 || at6) {
      seen.clear();
      for (const auto& f : of)
        for (const int n : f)
          if (n != 0 && n != Diagram::complement(0)) seen[n < 0 ? Diagram::complement(n) : n] = true;
      if (at4) r.leaves4 = static_cast<double>(seen.size());
      if (at6) r.leaves6 = static_cast<double>(seen.size());
    }
  }
  for (int k = 1; k <= bits; ++k) {
    r.nodes += d.found[static_cast<std::size_t>(k)];
    if (k > 4) r.muxes4 += d.found[static_cast<std::size_t>(k)];
    if (k > 6) r.muxes6 += d.found[static_cast<std::size_t>(k)];
  }
  seen.clear();
  for (const auto& f : of)
    if (f[0] != 0 && f[0] != Diagram::complement(0)) seen[f[0] < 0 ? Diagram::complement(f[0]) : f[0]] = true;
  r.columns = static_cast<double>(seen.size());
  return r;
}

void measure_constants(const StageGraph& g, std::vector<StageShape>& stages) {
  for (StageShape& s : stages) {
    if (s.layer < 0 || s.writable) continue;
    StageConstants k;
    switch (s.kind) {
      case StageKind::mvau:
      case StageKind::mvau_logic:
      case StageKind::mvau_packed:
      case StageKind::depthwise_logic:
      case StageKind::depthwise: multiply(g, s, k); break;
      case StageKind::reorder: orders(g, s, k); break;
      case StageKind::select: masks(s, s.beats_in, k); break;
      case StageKind::insert: masks(s, s.beats_out, k); break;
      case StageKind::threshold: thresholds(g, s, k); break;
      case StageKind::rescale: rescales(g, s, k); break;
      case StageKind::affine:
      case StageKind::add: linears(g, s, k); break;
      default: continue;
    }
    k.measured = true;
    s.constants = k;
  }
}

}  // namespace tandem::plan
