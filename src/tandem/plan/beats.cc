#include "tandem/plan/beats.h"

#include <algorithm>
#include <unordered_map>

namespace tandem::plan {
namespace {
using I = std::int64_t;
using U = std::uint64_t;

constexpr I kNever = -1;
constexpr I kFrames = 4096;           // remembered
constexpr I kEndless = I{1} << 32;    // a fifo of such a depth is never full

std::size_t idx(I i) { return static_cast<std::size_t>(i); }
U mix(U h, U v) {
  h = (h ^ v) * 0x9e3779b97f4a7c15ull;
  return h ^ h >> 29;
}

// What a stream did in one frame: when beats were offered and taken. Those taken one cycle after the other count once, however they were
// found.
struct Frame {
  U pattern = 0;
  I first = 0, last = 0;
};
// From one stage to another; from -1 the source, to -1 the sink.
struct Channel {
  int from = -1, to = -1;
  I offer = kNever;            // since when a beat is offered
  I run = 0;                   // so many are: each the cycle after the one before is taken
  I last = -1, before = -1;    // when the last beat was taken and the one before it
  I beats = 1, at = 0;         // of a frame; taken of this one
  Frame now;
  std::vector<Frame> frames;
};

// A queue of numbers that are read by their place.
class Ring {
 public:
  I& operator[](I i) { return v_[idx(i) & (v_.size() - 1)]; }
  // Places low to high will be used.
  void reach(I low, I high) {
    if (high - low < static_cast<I>(v_.size())) return;
    std::vector<I> v(2 * v_.size());
    for (I i = low; i < high; ++i) v[idx(i) & (v.size() - 1)] = (*this)[i];
    v_ = std::move(v);
  }

 private:
  std::vector<I> v_ = std::vector<I>(8);
};

struct Node {
  Rule rule = Rule::stepped;
  std::array<int, 2> in{-1, -1};
  int out = 0, outs = 1;       // its channels
  std::array<I, 6> limit{};
  const std::vector<bool>* mask = nullptr;
  bool offered = false;        // a beat that it waits to get rid of
  I at = 0;                    // counters of the rule
  I a = 0, b = 0, x = 0, y = 0, row = 0;
  I open = kNever, hold = 0;
  Ring ring, other;
  I stall = 0, stalls = 0;     // cycles that a pipeline stood still; how often
  I top = 0, bottom = 0;       // pad
};

class Beats {
 public:
  Beats(std::span<const StageShape> stages, const std::vector<Twin>& twins, const TimingOptions& o) : o_(o), node_(stages.size()), work_(stages.size() + 1), busy_(stages.size()) {
    const std::size_t n = stages.size();
    std::vector<std::vector<int>> reader(n);
    for (std::size_t i = 0; i < n; ++i) reader[i].assign(stages[i].ports_out, -1);
    for (std::size_t i = 0; i < n; ++i) {
      Node& t = node_[i];
      t.rule = rule_of(twins[i]);
      t.limit = twins[i].limit;
      t.mask = twins[i].mask;
      t.top = static_cast<I>(twins[i].pipe >> 32), t.bottom = static_cast<I>(twins[i].pipe & 0xffffffff);
      t.out = static_cast<int>(channel_.size());
      t.outs = stages[i].ports_out;
      for (int p = 0; p < t.outs; ++p) {
        channel_.emplace_back();
        channel_.back().from = static_cast<int>(i);
        channel_.back().beats = std::max<I>(1, stages[i].beats_out);
      }
    }
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t k = 0; k < 2; ++k) {
        const int from = stages[i].in[k];
        if (from < 0 && !(k == 0 || from == kSource)) continue;
        if (from >= 0) {
          node_[i].in[k] = node_[idx(from)].out + stages[i].in_port[k];
        } else {
          node_[i].in[k] = static_cast<int>(channel_.size());
          Channel& c = channel_.emplace_back();
          const bool turns = node_[i].rule == Rule::concat;
          const I all = stages[i].beats_out, both = stages[i].mw + stages[i].mh;
          c.beats = std::max<I>(1, !turns ? stages[i].beats_in : all / both * (k == 0 ? stages[i].mw : stages[i].mh));
          sources_.push_back(node_[i].in[k]);
          if (k == 0) inputs_.push_back(node_[i].in[k]);
        }
        channel_[idx(node_[i].in[k])].to = static_cast<int>(i);
      }
    result_ = node_[n - 1].out;
  }

  Timing run() {
    Timing r;
    for (std::size_t i = 0; i < node_.size(); ++i) wake(static_cast<int>(i));
    for (I fed = 1;; ++fed) {
      for (int s : sources_) feed(s);
      while (get_ != put_) {
        const int i = work_[get_];
        get_ = get_ + 1 == work_.size() ? 0 : get_ + 1;
        visit(i);
        if (visits_ > o_.steps / 16) return r;
      }
      bool stuck = false;
      for (int s : sources_) stuck |= channel_[idx(s)].at != 0 || static_cast<I>(channel_[idx(s)].frames.size()) < fed;
      const std::vector<Frame>& sent = channel_[idx(result_)].frames;
      for (std::size_t i = r.ends.size(); i < sent.size(); ++i) r.ends.push_back(sent[i].last);
      r.first_out = first(channel_[idx(result_)], 0);
      r.first_in = INT64_MAX;
      for (int s : inputs_) r.first_in = std::min(r.first_in, first(channel_[idx(s)], INT64_MAX));
      if (o_.frames > 0 && static_cast<I>(r.ends.size()) >= o_.frames) {
        r.ends.resize(idx(o_.frames));
        r.known = true;
        return r;
      }
      r.deadlock = stuck;
      r.known = stuck || repeats(r);
      if (r.known) return r;
    }
  }

 private:
  const TimingOptions& o_;
  std::vector<Node> node_;
  std::vector<Channel> channel_;
  std::vector<int> sources_, inputs_;
  int result_ = 0;
  std::vector<int> work_;      // stages that may go on, each once, in a circle
  std::size_t put_ = 0, get_ = 0;
  std::vector<char> busy_;      // those, and the ones that are being visited
  I visits_ = 0;
  std::unordered_multimap<U, I> seen_;
  I compared_ = 0;

  void wake(int stage) {
    if (stage < 0 || busy_[idx(stage)]) return;
    busy_[idx(stage)] = true;
    work_[put_] = stage;
    put_ = put_ + 1 == work_.size() ? 0 : put_ + 1;
  }
  static I first(const Channel& c, I none) { return !c.frames.empty() ? c.frames[0].first : c.at > 0 ? c.now.first : none; }
  void feed(int s) {
    Channel& c = channel_[idx(s)];
    if (c.offer != kNever) return;
    c.offer = c.last + 1;
    c.run = c.beats;
    wake(c.to);
  }
  Channel& in(const Node& t, std::size_t k = 0) { return channel_[idx(t.in[k])]; }
  Channel& out(const Node& t, int p = 0) { return channel_[idx(t.out + p)]; }

  // n beats are taken from cycle t on.
  void take(Channel& c, I t, I n) {
    if (c.at == 0) c.now = {static_cast<U>(t - c.offer), t, 0};
    else if (t != c.last + 1) c.now.pattern = mix(mix(c.now.pattern, static_cast<U>(c.at)), static_cast<U>((t - c.now.first) << 20 ^ (t - c.offer)));
    c.before = n > 1 ? t + n - 2 : c.last;
    c.last = t + n - 1;
    c.at += n;
    c.run -= n;
    c.offer = c.run > 0 ? c.last + 1 : kNever;
    if (c.at == c.beats) {
      c.now.last = c.last;
      c.frames.push_back(c.now);
      c.at = 0;
    }
    wake(c.from);
  }
  // Runs end with a frame at the latest.
  void give(Node& t, Channel& c, I offer, I n = 1) {
    t.offered = true;
    c.offer = offer;
    c.run = n;
    if (c.to < 0) take(c, offer, n);
    else if (!busy_[idx(c.to)]) visit(c.to);
  }
  // Whether what was offered has gone.
  bool gone(Node& t) {
    if (t.offered && out(t).offer != kNever) return false;
    t.offered = false;
    return true;
  }

  // As far as it goes. What it gives is looked at by its reader at once (so visits nest, downstream only), what it takes by its source
  // when its turn comes.
  void visit(int i) {
    Node& t = node_[idx(i)];
    busy_[idx(i)] = true;
    ++visits_;
    switch (t.rule) {
      case Rule::pipeline:
      case Rule::joining:
      case Rule::total: pipeline(t); break;
      case Rule::serial: serial(t); break;
      case Rule::skid: skid(t); break;
      case Rule::fifo: fifo(t); break;
      case Rule::fork: fork(t); break;
      case Rule::narrower: narrower(t); break;
      case Rule::pad: pad(t); break;
      case Rule::window:
      case Rule::replay: window(t); break;
      case Rule::select: select(t); break;
      case Rule::insert: insert(t); break;
      case Rule::concat: concat(t); break;
      case Rule::stepped: break;
    }
    busy_[idx(i)] = false;
  }

  // Time without the cycles in which it stands still: a beat comes out n of them after it went in. ring: when, of those within;
  // other: start and end of each standstill, and cycles of them up to there.
  void pipeline(Node& t) {
    const I n = t.limit[0] + 1;
    Channel &c = in(t), &o = out(t);
    Channel* second = t.rule == Rule::joining ? &in(t, 1) : nullptr;
    for (;;) {
      bool moved = false;
      if (t.offered && o.offer == kNever) {
        t.offered = false;
        if (const I wait = o.last - t.hold; wait > 0) {
          t.stall += wait;
          t.other.reach(3 * std::max<I>(0, t.stalls - 66), 3 * t.stalls + 3);
          t.other[3 * t.stalls] = t.hold, t.other[3 * t.stalls + 1] = o.last, t.other[3 * t.stalls + 2] = t.stall;
          ++t.stalls;
        }
        moved = true;
      }
      if (!t.offered && t.a < t.b) {
        t.hold = t.ring[t.a++] + t.stall;
        give(t, o, t.hold);
        moved = true;
        continue;
      }
      if (c.offer != kNever && (!second || second->offer != kNever)) {
        I at = second ? std::max(c.offer, second->offer) : c.offer;
        I until = t.offered && o.offer != kNever ? t.hold : INT64_MAX;
        if (at < until) {
          I stall = t.stall;
          for (I h = t.stalls; h-- > 0 && t.other[3 * h + 1] > at;) {
            if (t.other[3 * h] <= at) {
              at = t.other[3 * h + 1];
              break;
            }
            until = t.other[3 * h];
            stall -= t.other[3 * h + 1] - t.other[3 * h];
          }
          if (at < until) {
            const bool total = t.rule == Rule::total;
            const I per = total ? (t.at < t.limit[2] ? t.limit[2] - t.at + 1 : 1) : second ? 1 : t.limit[1] - t.at;
            const I beats = second ? 1 : std::min({c.run, per, until - at});
            take(c, at, beats);
            if (second) take(*second, at, 1);
            t.at += beats;
            const bool done = total ? t.at > t.limit[2] : second || t.at == t.limit[1];
            if (second || t.at == t.limit[1]) t.at = 0;
            if (done) {
              t.ring.reach(t.a, t.b + 1);
              t.ring[t.b++] = at + beats - 1 - stall + n;
            }
            moved = true;
          }
        }
      }
      if (!moved) return;
    }
  }

  // open: when the beat within can leave, or the last one did; hold: whether there is one.
  void serial(Node& t) {
    Channel &c = in(t), &o = out(t);
    for (;;) {
      bool moved = false;
      if (t.hold && gone(t)) {
        t.open = std::max(t.open, o.last);
        t.hold = 0;
        give(t, o, t.open + 1);
        moved = true;
      }
      if (!t.hold && c.offer != kNever) {
        const I at = std::max(c.offer, t.open);
        take(c, at, 1);
        t.open = at + t.limit[0];
        t.hold = 1;
        moved = true;
      }
      if (!moved) return;
    }
  }

  void skid(Node& t) {  // at: beats within; open: when the second came
    Channel &c = in(t), &o = out(t);
    for (;;) {
      if (gone(t) && t.at > 0) {
        if (--t.at > 0) give(t, o, std::max(t.open, o.last) + 1);
        continue;
      }
      if (c.offer == kNever || t.at == 2) return;
      const I at = std::max(c.offer, (t.at == 0 ? o.before : o.last) + 1);
      take(c, at, 1);
      t.open = at;
      if (++t.at == 1) give(t, o, std::max(at, o.last) + 1);
    }
  }

  // a: beats put, b: beats got; ring: when a beat was put, then when it was got.
  void fifo(Node& t) {
    Channel &c = in(t), &o = out(t);
    const I depth = t.limit[0];
    const bool endless = depth >= kEndless;
    for (;;) {
      bool moved = false;
      if (t.b < t.a && gone(t)) {
        const I got = std::max(t.ring[t.b] + 1, o.last);
        t.ring[t.b++] = got;
        give(t, o, got + 1);
        moved = true;
      }
      if (c.offer != kNever && t.b > t.a - depth) {
        const I at = t.a >= depth ? std::max(c.offer, t.ring[t.a - depth] + 1) : c.offer;
        take(c, at, 1);
        t.ring.reach(endless ? t.b : std::min(t.b, std::max<I>(0, t.a - depth)), t.a + 1);
        t.ring[t.a++] = at;
        moved = true;
      }
      if (!moved) return;
    }
  }

  void fork(Node& t) {
    Channel& c = in(t);
    for (;;) {
      if (t.offered) {
        I last = 0;
        for (int p = 0; p < t.outs; ++p) {
          if (out(t, p).offer != kNever) return;
          last = std::max(last, out(t, p).last);
        }
        t.offered = false;
        take(c, last, 1);
      }
      if (c.offer == kNever) return;
      const I offer = c.offer;
      for (int p = 0; p < t.outs; ++p) give(t, out(t, p), offer);
    }
  }

  void narrower(Node& t) {
    Channel &c = in(t), &o = out(t);
    while (gone(t) && c.offer != kNever) {
      const I at = std::max(c.offer, o.last);
      take(c, at, 1);
      give(t, o, at + 1, t.limit[0]);
    }
  }

  // at, x, y: group, column, row; hold: whether the beat offered is one of the input.
  void pad(Node& t) {
    Channel &c = in(t), &o = out(t);
    const I groups = t.limit[0], width = t.limit[1], height = t.limit[2], left = t.limit[3], right = t.limit[4];
    while (gone(t)) {
      if (t.hold) take(c, o.last, 1), t.hold = 0;
      const bool row = t.y >= t.top && t.y < t.bottom;
      I n = 1;
      if (row && t.x >= left && t.x < right) {
        if (c.offer == kNever) return;
        t.hold = 1;
        give(t, o, std::max(c.offer, o.last + 1));
      } else {
        n = ((row && t.x < left ? left : width) - t.x) * groups - t.at;
        give(t, o, o.last + 1, n);
      }
      t.at += n;
      t.x += t.at / groups, t.at %= groups;
      if (t.x == width) t.x = 0, t.y = t.y + 1 == height ? 0 : t.y + 1;
    }
  }

  // A memory of rows (or vectors). a: rows in, b: rows given back, at: beats of the row that comes in, y: row of windows; ring: when a
  // row was complete; other: how many rows had been given back, and when (x to row: those not yet used). open: when the row that comes in
  // has room; hold: a row of windows is being sent, its rows not yet given back.
  void window(Node& t) {
    Channel &c = in(t), &o = out(t);
    const bool vectors = t.rule == Rule::replay;
    const I cap = vectors ? 2 : t.limit[1], send = vectors ? t.limit[1] : t.limit[2], rows = vectors ? 1 : t.limit[3];
    for (;;) {
      bool moved = false;
      const bool end = t.y == rows - 1;
      if (t.hold && (send == 1 || !t.offered || o.offer == kNever || o.run == 1)) {
        // The last beat enters the output register when the one before it leaves.
        const I when = send == 1 ? t.hold - 1 : o.offer == kNever ? o.before : o.last;
        t.b += vectors ? 1 : end ? t.limit[5] >> 32 : t.limit[5] & 0xffffffff;
        t.other.reach(2 * t.x, 2 * t.row + 2);
        t.other[2 * t.row] = t.b, t.other[2 * t.row + 1] = when;
        ++t.row;
        t.hold = 0;
        t.y = end ? 0 : t.y + 1;
        moved = true;
      }
      if (gone(t) && !t.hold) {
        const I need = t.b + (vectors ? 1 : t.y == rows - 1 ? t.limit[4] >> 32 : t.limit[4] & 0xffffffff);
        if (t.a >= need) {
          const I enters = std::max(t.ring[need - 1] + 1, o.last);
          t.hold = enters + 1;
          give(t, o, enters + 1, send);
          moved = true;
        }
      }
      if (c.offer != kNever) {
        if (t.at == 0) {
          while (t.x < t.row && t.other[2 * t.x] < t.a - cap + 1) ++t.x;
          t.open = t.a < cap ? 0 : t.x < t.row ? t.other[2 * t.x + 1] + 1 : kNever;
        }
        if (t.open != kNever) {
          const I at = std::max(c.offer, t.open), n = std::min(c.run, t.limit[0] - t.at);
          take(c, at, n);
          t.at += n;
          if (t.at == t.limit[0]) {
            t.at = 0;
            t.ring.reach(t.b, t.a + 1);
            t.ring[t.a++] = at + n - 1;
          }
          moved = true;
        }
      }
      if (!moved) return;
    }
  }

  bool passes(const Node& t) const { return (*t.mask)[idx(t.at * t.limit[1])]; }
  void step(Node& t, I n) { t.at = t.at + 1 == n ? 0 : t.at + 1; }

  void select(Node& t) {
    Channel &c = in(t), &o = out(t);
    while (gone(t)) {
      if (t.hold) {
        t.hold = 0;
        take(c, o.last, 1);
        step(t, t.limit[0]);
      }
      if (c.offer == kNever) return;
      if (passes(t)) {
        t.hold = 1;
        give(t, o, c.offer);
      } else {
        take(c, c.offer, 1);
        step(t, t.limit[0]);
      }
    }
  }

  // x: whether a beat of the frame has passed.
  void insert(Node& t) {
    Channel &c = in(t), &o = out(t);
    while (gone(t)) {
      if (t.hold) take(c, o.last, 1), t.hold = 0;
      const bool keep = passes(t);
      if (keep || !t.x) {
        if (c.offer == kNever) return;
        t.hold = keep;
        give(t, o, std::max(c.offer, o.last + 1));
      } else {
        give(t, o, o.last + 1);
      }
      step(t, t.limit[0]);
      t.x = t.at != 0 && (t.x || keep);
    }
  }

  void concat(Node& t) {
    Channel& o = out(t);
    while (gone(t)) {
      if (t.hold) {
        take(in(t, idx(t.hold - 1)), o.last, 1);
        t.hold = 0;
        step(t, t.limit[1]);
      }
      const std::size_t from = t.at >= t.limit[0];
      const Channel& c = in(t, from);
      if (c.offer == kNever) return;
      t.hold = static_cast<I>(from) + 1;
      give(t, o, std::max(c.offer, o.last + 1));
    }
  }

  const Frame& frame(std::size_t c, I f) const { return channel_[c].frames[idx(f)]; }
  bool same(I f, I g, I cycles) const {
    for (std::size_t c = 0; c < channel_.size(); ++c) {
      const Frame &x = frame(c, f), &y = frame(c, g);
      if (x.pattern != y.pattern || x.first - y.first != cycles || x.last - y.last != cycles) return false;
    }
    return true;
  }
  // No beat of frame g - back at a stage comes after one of frame g + 1: then nothing of it is waited for any more.
  bool apart(I g, I back, I f, I period, I cycles) const {
    if (g - back < 0) return true;
    for (const Node& t : node_) {
      I last = 0, first = INT64_MAX;
      auto look = [&](int c) {
        last = std::max(last, frame(idx(c), g - back).last);
        first = std::min(first, g + 1 <= f ? frame(idx(c), g + 1).first : frame(idx(c), g + 1 - period).first + cycles);
      };
      for (int c : t.in)
        if (c >= 0) look(c);
      for (int p = 0; p < t.outs; ++p) look(t.out + p);
      if (last >= first) return false;
    }
    return true;
  }
  // Frames that are those `period` before, `cycles` later, on every stream, for as far back as a stage looks: so are all that follow,
  // since each beat's time is the largest of times of earlier beats, each plus a constant.
  bool repeats(Timing& r) {
    I complete = INT64_MAX;
    for (const Channel& c : channel_) complete = std::min(complete, static_cast<I>(c.frames.size()));
    for (; compared_ < complete && compared_ < kFrames; ++compared_) {
      const I f = compared_, start = frame(0, f).first;
      U h = 0;
      for (std::size_t c = 0; c < channel_.size(); ++c) h = mix(mix(h + frame(c, f).pattern, static_cast<U>(frame(c, f).first - start)), static_cast<U>(frame(c, f).last - start));
      const auto [first, last] = seen_.equal_range(h);
      I nearest = kNever;
      for (auto it = first; it != last; ++it) nearest = std::max(nearest, it->second);
      seen_.emplace(h, f);
      if (nearest < 0) continue;
      const I period = f - nearest, cycles = start - frame(0, nearest).first;
      for (I back = 1; nearest - back + 1 >= 0 && same(f - back + 1, nearest - back + 1, cycles); ++back) {
        bool all = true;
        for (I g = nearest; all && g <= f; ++g) all = apart(g, back, f, period, cycles);
        if (!all) continue;
        r.repeat_frames = period;
        r.repeat_cycles = cycles;
        r.ends.resize(idx(f + 1));
        return true;
      }
    }
    return false;
  }
};

}  // namespace

std::optional<Timing> simulate_beats(std::span<const StageShape> stages, const TimingOptions& o) {
  std::vector<Twin> twins;
  for (const StageShape& s : stages) {
    const auto t = twin_of(s);
    if (!t || rule_of(*t) == Rule::stepped) return {};
    twins.push_back(*t);
  }
  return Beats(stages, twins, o).run();
}

}  // namespace tandem::plan
