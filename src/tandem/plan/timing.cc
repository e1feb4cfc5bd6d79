#include "tandem/plan/timing.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>
#include <unordered_map>

#include "tandem/base/hash.h"
#include "tandem/plan/beats.h"

namespace tandem::plan {
namespace {
using I = std::int64_t;
using U = std::uint64_t;

constexpr std::size_t kSeen = 4096;  // frames remembered

bool step(I& counter, I n) {  // true when it wraps
  if (++counter < n) return false;
  counter = 0;
  return true;
}

// limit: registers - 1, per. at: beats taken of `per`.
U pipeline(Twin& t, U in, U out) {
  const U last = U(1) << t.limit[0];
  if ((t.pipe & last) && !(out & 1)) return 0;
  bool done = false;
  if (in & 1) done = step(t.at[0], t.limit[1]);
  t.pipe = (t.pipe & ~last) << 1 | U(done);
  t.valid = (t.pipe & last) != 0;
  return 1;
}
// Both inputs are taken together.
U joining(Twin& t, U in, U out) {
  const U last = U(1) << t.limit[0];
  if ((t.pipe & last) && !(out & 1)) return 0;
  const bool fire = in == 3;
  t.pipe = (t.pipe & ~last) << 1 | U(fire);
  t.valid = (t.pipe & last) != 0;
  return fire ? 3 : 0;
}

// One beat at a time, limit[0] cycles of work between taking it and the output register; at: those left.
U serial(Twin& t, U in, U out) {
  const bool free = !t.valid || (out & 1), finish = t.at[0] == 1 && free, ready = t.at[0] == 0 || finish;
  t.valid = finish || (t.valid && !(out & 1));
  if (ready) t.at[0] = in & 1 ? t.limit[0] : 0;
  else if (t.at[0] > 1) --t.at[0];
  return ready;
}

// limit: elements of a vector, cycles from its last one to the work on results, cycles of a result. at: 0 loads, 1 thinks, 2 sends;
// cycle of it; elements.
U vectors(Twin& t, U in, U out) {
  const bool ready = t.at[0] == 0, finish = t.at[0] == 2 && t.at[1] == t.limit[2] - 1 && (!t.valid || (out & 1));
  t.valid = finish || (t.valid && !(out & 1));
  if (ready) {
    if ((in & 1) && step(t.at[2], t.limit[0])) t.at[0] = 1;
  } else if (t.at[0] == 1) {
    if (step(t.at[1], t.limit[1])) t.at[0] = 2;
  } else if (finish) {
    t.at[1] = 0;
    if (step(t.at[2], t.limit[0])) t.at[0] = 0;
  } else if (t.at[1] < t.limit[2] - 1) {
    ++t.at[1];
  }
  return ready;
}

U skid(Twin& t, U in, U out) {  // at: whether a second beat is held
  const bool ready = !t.at[0];
  if (!t.valid || (out & 1)) {
    t.valid = t.at[0] || (in & 1);
    t.at[0] = 0;
  } else if ((in & 1) && ready) {
    t.at[0] = 1;
  }
  return ready;
}

U fifo(Twin& t, U in, U out) {  // limit: depth; at: beats held in the memory
  const bool ready = t.at[0] != t.limit[0], put = (in & 1) && ready;
  const bool get = t.at[0] != 0 && (!t.valid || (out & 1));
  t.valid = get || (t.valid && !(out & 1));
  t.at[0] += I(put) - I(get);
  return ready;
}

// limit: mask of the outputs; pipe: outputs that have their copy.
U fork_valid(const Twin& t, U in) { return in & 1 ? t.pipe ^ static_cast<U>(t.limit[0]) : 0; }
U fork(Twin& t, U in, U out) {
  const bool ready = (t.pipe | out) == static_cast<U>(t.limit[0]);
  if (in & 1) t.pipe = ready ? 0 : t.pipe | out;
  return ready;
}

U narrower(Twin& t, U in, U out) {  // limit: pieces; at: pieces sent
  const bool last = t.at[0] == t.limit[0] - 1, ready = !t.valid || ((out & 1) && last);
  if (ready) {
    t.valid = in & 1;
    t.at[0] = 0;
  } else if (out & 1) {
    ++t.at[0];
  }
  return ready;
}

// limit: groups, padded width, height, first and one after the last interior column; at: group, x, y, interior, -.
// pipe: first interior row << 32 | one after the last.
void locate(Twin& t) {
  const I top = static_cast<I>(t.pipe >> 32), bottom = static_cast<I>(t.pipe & 0xffffffff);
  t.at[3] = t.at[1] >= t.limit[3] && t.at[1] < t.limit[4] && t.at[2] >= top && t.at[2] < bottom;
}
U pad_valid(const Twin& t, U in) { return t.at[3] ? in & 1 : 1; }
U pad(Twin& t, U, U out) {
  const bool inside = t.at[3];
  if ((t.valid & 1) && (out & 1) && step(t.at[0], t.limit[0])) {
    if (step(t.at[1], t.limit[1])) step(t.at[2], t.limit[2]);
    locate(t);
  }
  return inside && (out & 1);
}

// limit: beats of a row, rows held, beats sent for a row of windows, rows of windows, rows needed | needed for the last <<
// 32, rows given back | after the last << 32. at: beat of the row, rows held, beat sent, row of windows.
U window(Twin& t, U in, U out) {
  const bool ready = t.at[1] != t.limit[1], last = t.at[3] == t.limit[3] - 1;
  const bool enable = !t.valid || (out & 1);
  const bool go = t.at[1] >= (last ? t.limit[4] >> 32 : t.limit[4] & 0xffffffff);
  I rows = t.at[1];
  if ((in & 1) && ready && step(t.at[0], t.limit[0])) ++rows;
  if (enable) {
    t.valid = go;
    if (go && step(t.at[2], t.limit[2])) {
      rows -= last ? t.limit[5] >> 32 : t.limit[5] & 0xffffffff;
      step(t.at[3], t.limit[3]);
    }
  }
  t.at[1] = rows;
  return ready;
}

// limit: beats of a vector, beats sent for it. at: beat taken, vectors held, beat sent.
U replay(Twin& t, U in, U out) {
  const bool ready = t.at[1] != 2, some = t.at[1] != 0;
  I held = t.at[1];
  if ((in & 1) && ready && step(t.at[0], t.limit[0])) ++held;
  if (!t.valid || (out & 1)) {
    t.valid = some;
    if (some && step(t.at[2], t.limit[1])) --held;
  }
  t.at[1] = held;
  return ready;
}

// Those beats of a frame that end it give one each. limit: registers - 1, beats of a frame, the first that gives one. at: beat.
U total(Twin& t, U in, U out) {
  const U last = U(1) << t.limit[0];
  if ((t.pipe & last) && !(out & 1)) return 0;
  bool done = false;
  if (in & 1) {
    done = t.at[0] >= t.limit[2];
    step(t.at[0], t.limit[1]);
  }
  t.pipe = (t.pipe & ~last) << 1 | U(done);
  t.valid = (t.pipe & last) != 0;
  return 1;
}

// limit: beats of a frame, lanes. at: beat; insert: whether a beat of the frame has passed.
bool passes(const Twin& t) { return (*t.mask)[static_cast<std::size_t>(t.at[0] * t.limit[1])]; }
U select_valid(const Twin& t, U in) { return in & U(passes(t)); }
U select(Twin& t, U in, U out) {
  const bool ready = !passes(t) || (out & 1);
  if ((in & 1) && ready) step(t.at[0], t.limit[0]);
  return ready;
}
U insert_valid(const Twin& t, U in) { return (in & 1) | U(t.at[1] && !passes(t)); }
U insert(Twin& t, U, U out) {
  const bool keep = passes(t);
  if ((t.valid & 1) && (out & 1)) t.at[1] = !step(t.at[0], t.limit[0]) && (t.at[1] || keep);
  return keep && (out & 1);
}

// limit: beats of the first stream, of both. at: beat.
U concat_valid(const Twin& t, U in) { return t.at[0] >= t.limit[0] ? in >> 1 & 1 : in & 1; }
U concat(Twin& t, U, U out) {
  if (!(out & 1)) return 0;
  const U taken = t.at[0] >= t.limit[0] ? 2 : 1;
  if (t.valid & 1) step(t.at[0], t.limit[1]);
  return taken;
}

Twin make(U (*cycle)(Twin&, U, U), std::array<I, 6> limit, U (*wires)(const Twin&, U) = nullptr) {
  Twin t;
  t.cycle = cycle;
  t.wires = wires;
  t.limit = limit;
  return t;
}
I tree(I n) { return n <= 1 ? 0 : std::bit_width(static_cast<U>(n - 1)); }

}  // namespace

Twin pipeline_twin(int n, std::int64_t per, int inputs) { return make(inputs == 1 ? pipeline : joining, {n - 1, per}); }

std::optional<Twin> twin_of(const StageShape& s) {
  const I groups = s.c / s.lanes_in;
  switch (s.kind) {
    case StageKind::pad: {  // kh, kw: rows above, columns to the left
      Twin t = make(pad, {groups, s.ow, s.oh, s.kw, s.kw + s.w}, pad_valid);
      t.pipe = static_cast<U>(s.kh) << 32 | static_cast<U>(s.kh + s.h);
      locate(t);
      return t;
    }
    case StageKind::window: {
      const I span = (s.kh - 1) * s.dh + 1, tail = s.h - (s.oh - 1) * s.sh;
      const I last = s.oh == 1 ? std::max(span, tail) : tail;
      return make(window, {s.w * groups, s.rows, s.ow * s.reps * s.kh * s.kw * groups, s.oh, last << 32 | std::max(span, s.sh), tail << 32 | s.sh});
    }
    case StageKind::replay: return make(replay, {s.mw / s.simd, s.mw / s.simd * (s.mh / s.pe)});
    case StageKind::mvau: return pipeline_twin(static_cast<int>(3 + tree(s.simd)), s.mw / s.simd);
    case StageKind::depthwise: return pipeline_twin(3, s.mw);
    case StageKind::mvau_logic: return pipeline_twin(static_cast<int>(3 + logic_levels(s.weight_bits) + tree(s.simd)), s.mw / s.simd);
    case StageKind::depthwise_logic: return pipeline_twin(3 + logic_levels(s.weight_bits), s.mw);
    case StageKind::mvau_packed: return pipeline_twin(static_cast<int>(5 + tree(s.simd)), s.mw / s.simd);
    case StageKind::mvau_constant: return pipeline_twin(s.sum_depth, 1);
    case StageKind::pool: return pipeline_twin(1, s.mw);
    case StageKind::threshold: return s.serial ? make(serial, {s.level_bits}) : pipeline_twin(s.level_bits + 1);
    case StageKind::affine: return pipeline_twin(4);
    case StageKind::add: return pipeline_twin(4, 1, 2);
    case StageKind::fork: return make(fork, {(I(1) << s.ports_out) - 1}, fork_valid);
    case StageKind::fifo: return make(fifo, {s.depth});
    case StageKind::skid: return make(skid, {});
    case StageKind::convert:
      return s.lanes_out > s.lanes_in ? pipeline_twin(1, s.lanes_out / s.lanes_in) : make(narrower, {s.lanes_in / s.lanes_out});
    case StageKind::argmax: return pipeline_twin(1, s.mh);
    case StageKind::topk: return pipeline_twin(1, s.mh);
    case StageKind::softmax:
    case StageKind::normalize: return make(vectors, {s.mh, vector_thinks(s), vector_each(s)});
    case StageKind::rescale: return s.serial ? make(serial, {s.factor_bits + 2}) : pipeline_twin(4);
    case StageKind::reorder: return make(replay, {s.beats_in, s.beats_out});
    case StageKind::select:
    case StageKind::insert: {
      static const std::vector<bool> one{true};
      const bool cut = s.kind == StageKind::select;
      Twin t = make(cut ? select : insert, {cut ? s.beats_in : s.beats_out, s.lanes_in}, cut ? select_valid : insert_valid);
      t.mask = s.keep ? s.keep.get() : &one;
      return t;
    }
    case StageKind::concat: return make(concat, {s.mw, s.mw + s.mh}, concat_valid);
    case StageKind::product: return pipeline_twin(3, 1, 2);
    case StageKind::total: return make(total, {1, s.beats_in, s.beats_in - groups});
    default: return std::nullopt;
  }
}

Rule rule_of(const Twin& t) {
  const std::pair<U (*)(Twin&, U, U), Rule> rules[] = {
      {pipeline, Rule::pipeline}, {joining, Rule::joining}, {serial, Rule::serial}, {skid, Rule::skid}, {fifo, Rule::fifo}, {fork, Rule::fork}, {narrower, Rule::narrower},
      {pad, Rule::pad}, {window, Rule::window}, {replay, Rule::replay}, {total, Rule::total}, {select, Rule::select}, {insert, Rule::insert}, {concat, Rule::concat}};
  for (const auto& [cycle, rule] : rules)
    if (t.cycle == cycle) return rule;
  return Rule::stepped;
}

std::int64_t Timing::end(std::int64_t frame) const {
  const I n = static_cast<I>(ends.size());
  if (frame < n || !steady()) return ends[static_cast<std::size_t>(std::min(frame, n - 1))];
  const I turns = (frame - n) / repeat_frames + 1;
  return ends[static_cast<std::size_t>(frame - turns * repeat_frames)] + turns * repeat_cycles;
}

Timing simulate(std::span<const StageShape> stages, const TimingOptions& o) {
  if (!o.shut)
    if (const auto t = simulate_beats(stages, o)) return *t;
  return simulate_cycles(stages, o);
}

Timing simulate_cycles(std::span<const StageShape> stages, const TimingOptions& o) {
  static_assert(std::has_unique_object_representations_v<Twin>, "states are compared byte by byte");
  Timing r;
  const std::size_t n = stages.size();
  std::vector<Twin> twin(n);
  struct Wire {
    int from[2];
    U port[2];
  };
  std::vector<Wire> wire(n);
  std::vector<std::size_t> wired;  // whose TVALID passes through
  for (std::size_t i = 0; i < n; ++i) {
    const auto t = twin_of(stages[i]);
    if (!t) return r;
    twin[i] = *t;
    if (t->wires) wired.push_back(i);
    for (std::size_t k = 0; k < 2; ++k) wire[i].from[k] = stages[i].in[k], wire[i].port[k] = stages[i].in_port[k];
  }
  const I beats_out = stages.back().beats_out;
  struct Snapshot {
    I frame = -1, cycle = 0;
    std::vector<Twin> twin;
  };
  std::unordered_multimap<U, Snapshot> seen;  // where the design was at the end of each frame
  std::vector<U> open(n);  // outputs without a reader are always taken
  for (std::size_t i = 0; i < n; ++i) open[i] = (U(1) << stages[i].ports_out) - 1;
  for (const Wire& w : wire)
    for (std::size_t k = 0; k < 2; ++k)
      if (w.from[k] >= 0) open[static_cast<std::size_t>(w.from[k])] &= ~(U(1) << w.port[k]);
  std::vector<U> ready = open;
  I sent = 0, received = 0, idle = 0;
  const I most = o.steps / static_cast<I>(n);
  // No beat moves for so long only when none will: longer than any stage thinks without one.
  const I patience = 1 << 14;
  I cycle = 0;
  auto shut = [&](std::size_t i) -> U { return o.shut ? o.shut(i, cycle) : 0; };
  auto offered = [&](std::size_t i) -> U {
    const Wire& w = wire[i];
    U v = w.from[0] < 0 ? 1 : twin[static_cast<std::size_t>(w.from[0])].valid >> w.port[0] & 1;
    if (w.from[1] == kSource) v |= 2;
    else if (w.from[1] >= 0) v |= (twin[static_cast<std::size_t>(w.from[1])].valid >> w.port[1] & 1) << 1;
    return v & ~shut(i);
  };
  for (; cycle < most; ++cycle) {
    for (std::size_t i : wired) twin[i].valid = twin[i].wires(twin[i], offered(i));
    const bool arrived = twin[n - 1].valid & ~shut(n) & 1;
    ready[n - 1] &= ~(shut(n) & open[n - 1]);
    U moved = 0;
    for (std::size_t i = n; i-- > 0;) {
      const Wire& w = wire[i];
      const U in = offered(i), taken = twin[i].cycle(twin[i], in, ready[i]) & ~shut(i);
      ready[i] = open[i];
      moved |= in & taken;
      if (w.from[0] >= 0) ready[static_cast<std::size_t>(w.from[0])] |= (taken & 1) << w.port[0];
      else if (taken & 1) {
        if (sent++ == 0) r.first_in = cycle;
      }
      if (w.from[1] >= 0) ready[static_cast<std::size_t>(w.from[1])] |= (taken >> 1 & 1) << w.port[1];
    }
    idle = moved || arrived ? 0 : idle + 1;
    if (idle > patience) {
      r.known = r.deadlock = true;
      return r;
    }
    if (!arrived) continue;
    if (received == 0) r.first_out = cycle;
    if (++received % beats_out) continue;
    r.ends.push_back(cycle);
    if (static_cast<I>(r.ends.size()) == o.frames) break;
    const I frame = static_cast<I>(r.ends.size()) - 1;
    if (o.shut) continue;
    const U hash = fnv1a({reinterpret_cast<const char*>(twin.data()), n * sizeof(Twin)});
    const auto [first, last] = seen.equal_range(hash);
    for (auto it = first; it != last; ++it) {
      if (std::memcmp(it->second.twin.data(), twin.data(), n * sizeof(Twin)) != 0) continue;
      r.repeat_frames = frame - it->second.frame;
      r.repeat_cycles = cycle - it->second.cycle;
      r.known = true;
      return r;
    }
    if (seen.size() < kSeen) seen.emplace(hash, Snapshot{frame, cycle, twin});
  }
  r.known = o.frames > 0 && static_cast<I>(r.ends.size()) == o.frames;
  return r;
}

}  // namespace tandem::plan
