#include "tandem/plan/beats.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <unordered_map>

namespace tandem::plan {
namespace {
using I = std::int64_t;
using U = std::uint64_t;

constexpr I kNever = -1;
constexpr I kFrames = 4096;           // remembered
constexpr I kEndless = I{1} << 32;    // a fifo of such a depth is never full

std::size_t idx(I i) { return static_cast<std::size_t>(i); }
I over(I a, I b) { return b == 1 ? a : a / b; }  // a division takes longer than all else here
U mix(U h, U v) {
  h = (h ^ v) * 0x9e3779b97f4a7c15ull;
  return h ^ h >> 29;
}

// Beats `gap` cycles apart, or bursts of `burst` beats, `step` cycles apart, that start every `gap` cycles.
struct Shape {
  I gap = 1, burst = 1, step = 1;
  Shape(I g = 1) : gap(g), step(g) {}
  Shape(I g, I b, I s) : gap(b > 1 && g == b * s ? s : g), burst(g == b * s ? 1 : b), step(burst > 1 ? s : gap) {}
  bool operator==(const Shape&) const = default;
  I at(I beat) const { return burst == 1 ? beat * gap : beat / burst * gap + beat % burst * step; }
  I whole(I beats) const { return burst == 1 ? beats : beats - beats % burst; }
  // f(when) for each of n beats, the first in cycle t; until one says no.
  template <class F>
  void each(I t, I n, F f) const {
    for (I left = n; left > 0; left -= burst, t += gap)
      for (I i = 0, when = t; i < std::min(burst, left); ++i, when += step)
        if (!f(when)) return;
  }
};
// What a stream did in one frame: when beats were offered and taken. Those at equal distances count once, however they were found.
struct Frame {
  U pattern = 0;
  I first = 0, last = 0;
};
// From one stage to another; from -1 the source, to -1 the sink.
struct Channel {
  int from = -1, to = -1;
  I offer = kNever;            // since when a beat is offered
  I run = 0, step = 1;         // so many are: each `step` cycles after the one before is taken
  I late = 0;                  // room() has said that each of them will wait for so long
  Shape bursts;                // or that they can come like this
  struct {
    I from = kNever, beats = 0, wait = 0;
    Shape shape;
  } said;                      // by room(), of beats not offered yet
  I last = -1, before = -1;    // when the last beat was taken and the one before it
  I gap = kNever, wait = 0;    // how long after the one before, and since it was offered
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
    std::vector<I> v(std::bit_ceil(idx(high - low + 1)));
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
  I pushed = 0;                // of the beats that a full one offers so many are still to come, each when one leaves
  I top = 0, bottom = 0;       // pad
  Shape shape;                 // fork
};

class Beats {
 public:
  Beats(std::span<const StageShape> stages, const std::vector<Twin>& twins, const TimingOptions& o) : o_(o), node_(stages.size()), work_(stages.size() / 64 + 1), active_(stages.size()) {
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
      for (;;) {
        while (top_ >= 0 && !work_[idx(top_)]) --top_;
        if (top_ < 0) break;
        const int bit = std::bit_width(work_[idx(top_)]) - 1;
        work_[idx(top_)] &= ~(U{1} << bit);
        visit(static_cast<int>(64 * top_ + bit));
        if (visits_ > o_.steps / 16) return r;
      }
      bool stuck = false;
      for (int s : sources_) stuck |= channel_[idx(s)].at != 0 || static_cast<I>(channel_[idx(s)].frames.size()) < fed;
      const std::vector<Frame>& sent = channel_[idx(result_)].frames;
      for (std::size_t i = r.ends.size(); i < sent.size(); ++i) r.ends.push_back(sent[i].last);
      r.first_out = first(channel_[idx(result_)], 0);
      r.first_in = INT64_MAX;
      for (int s : inputs_) r.first_in = std::min(r.first_in, first(channel_[idx(s)], INT64_MAX));
      if (r.first_in == INT64_MAX) r.first_in = 0;
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
  std::vector<U> work_;        // a bit for each stage that may go on; those behind go first
  I top_ = -1;
  std::vector<char> active_;   // stages that are being visited
  I visits_ = 0;
  std::unordered_multimap<U, I> seen_;
  I compared_ = 0;

  void wake(int stage) {
    if (stage < 0 || active_[idx(stage)]) return;
    work_[idx(stage) / 64] |= U{1} << stage % 64;
    top_ = std::max<I>(top_, stage / 64);
  }
  static I first(const Channel& c, I none) { return !c.frames.empty() ? c.frames[0].first : c.at > 0 ? c.now.first : none; }
  void feed(int s) {
    Channel& c = channel_[idx(s)];
    if (c.offer != kNever) return;
    c.offer = c.last + 1;
    c.run = c.beats;
    c.step = 1;
    c.late = 0;
    c.bursts = {};
    wake(c.to);
  }
  Channel& in(const Node& t, std::size_t k = 0) { return channel_[idx(t.in[k])]; }
  Channel& out(const Node& t, int p = 0) { return channel_[idx(t.out + p)]; }

  static void note(Channel& c, I at, I gap, I wait) {
    if (gap == c.gap && wait == c.wait) return;
    c.gap = gap, c.wait = wait;
    c.now.pattern = mix(mix(c.now.pattern, static_cast<U>(at)), static_cast<U>(gap << 20 ^ wait));
  }
  // n beats are taken, from cycle t on.
  void take(Channel& c, I t, I n, const Shape& s = {}) {
    if (c.at == 0) c.now = {static_cast<U>(t - c.offer), t, 0}, c.gap = kNever;
    else note(c, c.at, t - c.last, t - c.offer);
    const bool said = c.bursts.burst > 1;  // then none of them waits
    if (s.burst == 1) {
      if (n > 1) note(c, c.at + 1, s.gap, s.gap - c.step);
    } else {
      const I pause = s.gap - (s.burst - 1) * s.step;
      for (I i = 0; i < n; i += s.burst) {
        if (i > 0) note(c, c.at + i, pause, said ? 0 : pause - c.step);
        if (i + 1 < n) note(c, c.at + i + 1, s.step, s.step - c.step);
      }
    }
    if (c.from >= 0) {
      Node& from = node_[idx(c.from)];
      if (from.rule == Rule::fifo) taken(from, t, n, s);
      if (from.rule == Rule::pipeline || from.rule == Rule::joining || from.rule == Rule::total) {
        if (t > c.offer) stood(from, c.offer, t);
        if (s.gap > c.step && !said)
          for (I i = std::max<I>(1, n - 66); i < n; ++i)
            if (const I wait = s.at(i) - s.at(i - 1) - c.step; wait > 0) stood(from, t + s.at(i) - wait, t + s.at(i));
      }
    }
    const I pushed = c.from < 0 ? 0 : std::min(n, node_[idx(c.from)].pushed);
    c.before = n > 1 ? t + s.at(n - 2) : c.last;
    c.last = t + s.at(n - 1);
    c.at += n;
    c.run -= n;
    c.offer = c.run > 0 ? c.last + c.step : kNever;
    if (c.at == c.beats) {
      c.now.last = c.last;
      c.frames.push_back(c.now);
      c.at = 0;
    }
    if (pushed > 0) {
      Node& from = node_[idx(c.from)];
      from.pushed -= pushed;
      if (from.rule == Rule::fifo) {
        put(from, in(from), t + 1, pushed, s);
        from.b += pushed;
      } else if (from.rule == Rule::joining) {
        take(in(from), t, pushed, s);
        take(in(from, 1), t, pushed, s);
      } else if (const I per = from.limit[1]; per == 1) {
        take(in(from), t, pushed, s);
      } else if (pushed == 1 || s.burst == 1) {
        take(in(from), t, pushed * per, pushed == 1 ? Shape() : Shape(s.gap, per, 1));
      } else {
        for (I i = 0; i < pushed; ++i) take(in(from), t + s.at(i), per);
      }
    }
    wake(c.from);
  }
  // Runs end with a frame at the latest. Bursts, and beats of which the source was taken already and more than one are, only as room()
  // has said.
  void give(Node& t, Channel& c, I offer, I n = 1, const Shape& s = {}, I wait = 0) {
    t.offered = true;
    c.offer = offer;
    c.run = n;
    c.step = s.step - wait;
    c.late = wait;
    c.bursts = s;
    if (c.to < 0) take(c, offer, n, s);
    else if (!active_[idx(c.to)]) visit(c.to);
  }
  static I gap_of(const Channel& c) { return c.step + c.late; }
  // So many beats, at most `most`, offered from cycle t on like this, are each taken `wait` cycles after they are offered, and before
  // the next one is; bursts do not wait, and are whole. A lower bound: what depends on times that are not known yet counts as no.
  I room(int channel, I t, const Shape& s, I most, I& wait) {
    wait = 0;
    Channel& c = channel_[idx(channel)];
    most = s.whole(most);
    if (c.to < 0 || most == 0) return most;
    if (c.said.from != t || c.said.beats < most || !(c.said.shape == s)) {
      I held = 0;
      const I n = s.burst > 1 ? bursts(c, channel, t, s, most) : fits(c, channel, t, s.gap, most, held);
      c.said = {t, s.whole(n), held, s};
    }
    wait = c.said.wait;
    return std::min(most, c.said.beats);
  }
  I fits(const Channel& c, int channel, I t, I gap, I most, I& wait) {
    if (c.offer != kNever || active_[idx(c.to)] || most < 2) return 0;
    Node& r = node_[idx(c.to)];
    if (r.offered && out(r).offer == kNever) visit(c.to);  // it learns what became of its last beat
    switch (r.rule) {
      case Rule::pipeline: return through(r, t, gap, most);
      case Rule::joining: {
        const Channel& other = channel_[idx(r.in[0] == channel ? r.in[1] : r.in[0])];
        if (other.offer == kNever || other.offer > t || gap_of(other) > gap) return 0;
        return through(r, t, gap, std::min(most, other.run));
      }
      case Rule::skid: {
        if (r.at > 0 || r.offered || out(r).last > t) return 0;
        I held = 0;
        const I n = room(r.out, t + 1, gap, most, held);
        return held + 1 < gap || held == 0 ? n : 0;
      }
      case Rule::fifo: {
        I through = 0, held = 0, slots = 0;
        if (passes(r, t, gap)) {
          through = room(r.out, t + 2, gap, most, held);
          if (held + 1 > gap) through = 0;
        }
        if (through < most && known(r, r.a)) {
          held = std::max<I>(0, slot(r, r.a) - t);
          if (held < gap)
            for (slots = 1; slots < most && known(r, r.a + slots) && std::max<I>(0, slot(r, r.a + slots) - t - slots * gap) == held;) ++slots;
        }
        if (slots > through) wait = held;
        return std::max(through, slots);
      }
      case Rule::fork: {
        if (r.offered) return 0;
        for (int p = 0; p < r.outs && most > 1; ++p) {
          I held = 0;
          most = room(r.out + p, t, gap, most, held);
          wait = std::max(wait, held);
        }
        return most;
      }
      case Rule::narrower: {
        if (r.offered || gap < r.limit[0] || out(r).last > t) return 0;
        I held = 0;
        I n = room(r.out, t + 1, pieces(r, gap), most * r.limit[0], held) / r.limit[0];
        if (held == 0 && n > 1) return n;
        n = room(r.out, t + 1, gap / r.limit[0], most * r.limit[0], held) / r.limit[0];
        return held == 0 ? n : 0;
      }
      case Rule::pad: return !r.offered && out(r).last < t && inside(r) ? room(r.out, t, gap, std::min(most, row_left(r)), wait) : 0;
      case Rule::window:
      case Rule::replay: {
        const I cap = r.rule == Rule::replay ? 2 : r.limit[1];
        I beats = r.at > 0 && r.open != kNever && r.open <= t ? r.limit[0] - r.at : 0;
        if (r.at > 0 && beats == 0) return 0;
        for (I row = r.a + (r.at > 0), e = r.x; beats < most; ++row, beats += r.limit[0]) {
          if (row < cap) continue;
          while (e < r.row && r.other[2 * e] < row - cap + 1) ++e;
          if (e == r.row || r.other[2 * e + 1] >= t + beats * gap) break;
        }
        return std::min(most, beats);
      }
      default: return 0;
    }
  }
  // As fits(), of a pipeline. Where its results wait, it stands still: then none of them may be within when one before does, and no beat
  // may come.
  I through(Node& r, I t, I gap, I most) {
    if (!idle(r, t)) return 0;
    const I per = r.limit[1], left = per - 1 - r.at, results = over(r.at + most, per), cycles = r.limit[0] + 1;
    if (results == 0) return most;
    I held = 0;
    const I n = room(r.out, t + left * gap + cycles, per * gap, results, held);
    if (held > 0 && !clear(cycles, held, gap, per)) return 0;
    return std::min(most, n * per + left);
  }
  I bursts(const Channel& c, int channel, I t, const Shape& s, I most) {
    if (c.offer != kNever || active_[idx(c.to)] || most < 2 * s.burst) return 0;
    Node& r = node_[idx(c.to)];
    if (r.offered && out(r).offer == kNever) visit(c.to);
    I held = 0, n = 0;
    switch (r.rule) {
      case Rule::joining: {
        const Channel& other = channel_[idx(r.in[0] == channel ? r.in[1] : r.in[0])];
        if (other.offer == kNever || other.offer > t || other.bursts.burst > 1 || other.late > 0 || other.step > s.step) return 0;
        most = s.whole(std::min(most, other.run));
      } [[fallthrough]];
      case Rule::pipeline: {
        const I per = r.rule == Rule::joining ? 1 : r.limit[1], results = over(r.at + most, per);
        I first = t;
        const auto shape = results_of(r, s, first);
        if (!idle(r, t) || !shape) return 0;
        if (results == 0) return most;
        n = room(r.out, first, *shape, results, held);
        return held > 0 ? 0 : std::max<I>(0, std::min(most, n * per - r.at + std::max<I>(0, per - s.burst)));
      }
      case Rule::skid:
        if (r.at > 0 || r.offered || out(r).last > t) return 0;
        return room(r.out, t + 1, s, most, held);
      case Rule::fifo:
        if (passes(r, t, s)) n = room(r.out, t + 2, s, most, held);
        if (n < most) {
          I slots = 0;
          s.each(t, most, [&](I when) { return known(r, r.a + slots) && slot(r, r.a + slots) <= when && ++slots; });
          n = std::max(n, slots);
        }
        return n;
      case Rule::fork:
        if (r.offered) return 0;
        n = most;
        for (int p = 0; p < r.outs && n > 0; ++p) n = room(r.out + p, t, s, n, held);
        return n;
      default: return 0;
    }
  }
  // A fifo that beats go straight through.
  bool passes(Node& r, I t, const Shape& s) { return r.a == r.x && !r.offered && out(r).last <= t + 1 && (r.limit[0] > 1 || (s.step > 1 && again(r) <= t)); }
  // What comes out of a narrower: a fifo of one place takes no more than every other cycle.
  Shape pieces(const Node& r, I gap) const {
    const int to = channel_[idx(r.out)].to;
    const bool slow = to >= 0 && node_[idx(to)].rule == Rule::fifo && node_[idx(to)].limit[0] == 1 && gap > 2 * r.limit[0];
    return {gap, r.limit[0], slow ? 2 : 1};
  }
  // How results come of beats that come in bursts, and the first of them.
  static std::optional<Shape> results_of(const Node& r, const Shape& s, I& first) {
    const I per = r.rule == Rule::joining ? 1 : r.limit[1];
    first += s.at(per - r.at - 1) + r.limit[0] + 1;
    if (s.burst % per == 0 && r.at == 0) return s.burst == per ? Shape(s.gap) : Shape(s.gap, s.burst / per, s.step * per);
    if (per % s.burst == 0 && r.at % s.burst == 0) return Shape(s.gap * (per / s.burst));
    return {};
  }
  static bool clear(I cycles, I held, I gap, I per) { return per * gap >= cycles + held && (cycles + gap - 1) / gap * gap >= cycles + held; }
  // A pipeline that waits for no answer, and did not stand still in cycle t or later.
  bool idle(Node& r, I t) { return !r.offered && r.a == r.b && (r.stalls == 0 || r.other[3 * r.stalls - 2] <= t); }
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
    active_[idx(i)] = true;
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
    active_[idx(i)] = false;
  }

  // Time without the cycles in which it stands still: a beat comes out n of them after it went in. ring: when, of those within;
  // other: start and end of each standstill, and cycles of them up to there.
  void pipeline(Node& t) {
    const I n = t.limit[0] + 1;
    Channel &c = in(t), &o = out(t);
    Channel* second = t.rule == Rule::joining ? &in(t, 1) : nullptr;
    if (push(t, c, second)) return;
    for (;;) {
      bool moved = false;
      if (t.offered && o.offer == kNever) {
        t.offered = false;
        moved = true;
      }
      if (!t.offered && t.a < t.b) {
        const I offer = t.ring[t.a] + t.stall, gap = t.b - t.a > 1 ? t.ring[t.a + 1] - t.ring[t.a] : 1;
        const I most = std::min(t.b - t.a, o.beats - o.at);
        I n = 1;
        while (n < most && t.ring[t.a + n] - t.ring[t.a + n - 1] == gap) ++n;
        t.a += n;
        give(t, o, offer, n, gap);
        moved = true;
        continue;
      }
      if (c.bursts.burst > 1 && c.offer != kNever) {
        burst(t, c, second);
        continue;
      }
      if (second && second->bursts.burst > 1 && second->offer != kNever) {
        burst(t, *second, &c);
        continue;
      }
      if (many(t, c, second)) continue;
      if (c.offer != kNever && (!second || second->offer != kNever)) {
        I at = second ? std::max(c.offer, second->offer) : c.offer;
        I until = o.offer != kNever ? o.offer : INT64_MAX;
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
            const bool each = second || (!total && t.limit[1] == 1);  // a result of every beat
            if (each && o.offer == kNever) until = std::min(until, at + n);  // when the first is offered
            const I step = second ? std::max(c.step, second->step) : c.step, most = std::min(second ? std::min(c.run, second->run) : c.run, over(until - 1 - at, step) + 1);
            const I beats = each ? most : std::min(most, per), last = at + (beats - 1) * step;
            take(c, at, beats, step);
            if (second) take(*second, at, beats, step);
            t.at += beats;
            const bool done = total ? t.at > t.limit[2] : each || t.at == t.limit[1];
            if (each || t.at == t.limit[1]) t.at = 0;
            if (done) {
              const I results = each ? beats : 1;
              t.ring.reach(t.a, t.b + results);
              for (I i = results; i-- > 0;) t.ring[t.b++] = last - i * step - stall + n;
            }
            moved = true;
          }
        }
      }
      if (!moved) {
        push(t, c, second);
        return;
      }
    }
  }

  // A pipeline that is full of beats and waits takes one whenever one leaves: those that come are as good as offered.
  bool push(Node& t, Channel& c, Channel* second) {
    Channel& o = out(t);
    const I per = second ? 1 : t.limit[1];
    if (t.rule == Rule::total || !single(o, per)) return false;
    if (t.pushed == 0)
      for (; t.a < t.b && o.at + o.run < o.beats && t.ring[t.a] + t.stall == o.offer + o.run * per; ++t.a) ++o.run;
    if (t.a < t.b || (o.run - t.pushed) * per != t.limit[0] + per - (second ? 0 : t.at)) return t.pushed > 0;
    return more(t, o, second ? std::min(ready(c, o.offer), ready(*second, o.offer)) : over(ready(c, o.offer), per));
  }
  static bool single(const Channel& c, I step = 1) { return c.offer != kNever && c.step == step && c.late == 0 && c.bursts.burst == 1; }
  static I ready(const Channel& c, I t) { return single(c) && c.offer <= t ? c.run : 0; }
  static bool more(Node& t, Channel& o, I come) {
    come = std::min(come, o.beats - o.at - (o.run - t.pushed));
    if (come > t.pushed) {
      o.run += come - t.pushed;
      t.pushed = come;
    }
    return t.pushed > 0;
  }

  // All beats of a channel that come in bursts.
  void burst(Node& t, Channel& c, Channel* other) {
    const Shape s = c.bursts;
    const I per = other ? 1 : t.limit[1], n = c.run, results = (t.at + n) / per, from = c.offer;
    I first = from;
    const auto shape = results_of(t, s, first);
    take(c, from, n, s);
    if (other) take(*other, from, n, s);
    else t.at += n - results * per;
    if (results > 0) give(t, out(t), first, results, *shape);
  }
  static void stood(Node& t, I from, I to) {
    t.stall += to - from;
    t.other.reach(3 * std::max<I>(0, t.stalls - 66), 3 * t.stalls + 3);
    t.other[3 * t.stalls] = from, t.other[3 * t.stalls + 1] = to, t.other[3 * t.stalls + 2] = t.stall;
    ++t.stalls;
  }

  // Several results at once, where none of them will wait.
  bool many(Node& t, Channel& c, Channel* second) {
    if (t.rule == Rule::total || c.offer == kNever || c.run < 2 || (second && (second->offer == kNever || second->run < 2))) return false;
    const I at = second ? std::max(c.offer, second->offer) : c.offer, step = second ? std::max(c.step, second->step) : c.step;
    const I per = second ? 1 : t.limit[1], left = second ? 0 : per - 1 - t.at, run = second ? std::min(c.run, second->run) : c.run;
    if (run < left + 1 + per || !idle(t, at)) return false;
    const I cycles = t.limit[0] + 1, first = at + left * step + cycles;
    I held = 0;
    const I beats = std::min(run, room(t.out, first, per * step, over(run - left - 1, per) + 1, held) * per + left), results = second ? beats : over(t.at + beats, per);
    if (results < 2 || (held > 0 && !clear(cycles, held, step, per))) return false;
    take(c, at, beats, step);
    if (second) take(*second, at, beats, step);
    else t.at += beats - results * per;
    give(t, out(t), first, results, per * step, held);
    return true;
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
      const bool clear = gone(t);
      if (clear && t.at > 0) {
        if (--t.at > 0) give(t, o, std::max(t.open, o.last) + 1);
        continue;
      }
      if (c.offer == kNever || t.at == 2 || (t.at == 0 && !clear)) return;
      if (c.bursts.burst > 1) {
        const Shape s = c.bursts;
        const I from = c.offer, n = c.run;
        take(c, from, n, s);
        give(t, o, from + 1, n, s);
        continue;
      }
      if (t.at == 0 && c.run > 1 && o.last <= c.offer) {
        I held = 0;
        if (const I n = room(t.out, c.offer + 1, c.step, c.run, held); n > 1 && (held == 0 || held + 1 < c.step)) {  // through it
          const I from = c.offer, gap = c.step;
          take(c, from, n, gap);
          give(t, o, from + 1, n, gap, held);
          continue;
        }
      }
      const I at = std::max(c.offer, (t.at == 0 ? o.before : o.last) + 1);
      take(c, at, 1);
      t.open = at;
      if (++t.at == 1) give(t, o, std::max(at, o.last) + 1);
    }
  }

  // a: beats put, b: beats offered, x: beats taken; ring: when a beat was put; other: when it was taken.
  void fifo(Node& t) {
    Channel &c = in(t), &o = out(t);
    const I depth = t.limit[0];
    for (;;) {
      bool moved = false;
      if (gone(t)) {
        if (t.b < t.a) {
          const I offer = got(t, t.b) + 1, most = std::min(t.a - t.b, o.beats - o.at);
          I n = 1;
          while (n < most && t.ring[t.b + n] + 1 < offer + n) ++n;
          t.b += n;
          give(t, o, offer, n);
          moved = true;
        } else if (c.offer != kNever && c.bursts.burst > 1) {
          const Shape s = c.bursts;
          const I from = c.offer, n = c.run;
          I held = 0;
          if (passes(t, from, s) && room(t.out, from + 2, s, n, held) == n) {
            put(t, c, from, n, s);
            t.b += n;
            give(t, o, from + 2, n, s);
            moved = true;
          }
        } else if (c.offer != kNever && c.run > 1) {
          const I from = depth > 1 ? c.offer : std::max(c.offer, again(t)), gap = depth > 1 ? c.step : std::max<I>(2, c.step);
          I held = 0;
          if (const I n = o.last <= from + 1 ? room(t.out, from + 2, gap, c.run, held) : 0; n > 1 && held < gap) {  // through it
            put(t, c, from, n, gap);
            t.b += n;
            give(t, o, from + 2, n, gap, held);
            moved = true;
          }
        }
      } else if (single(o)) {
        for (; t.b < t.a && o.at + o.run < o.beats && t.ring[t.b] + 1 < o.offer + o.run; ++t.b) ++o.run;
        if (depth > 1 && t.a == t.b && t.a - t.x == depth + 1 && o.run - t.pushed == depth + 1) more(t, o, ready(c, o.offer + 1));
      }
      if (c.offer != kNever && c.bursts.burst > 1) {
        put(t, c, c.offer, c.run, Shape(c.bursts));
        moved = true;
      } else if (c.offer != kNever && known(t, t.a)) {
        const I at = std::max(c.offer, slot(t, t.a));
        auto next = [&](I before, I n) { return std::max(before + c.step, slot(t, t.a + n)); };
        I n = 1, gap = 1;
        if (c.run > 1 && known(t, t.a + 1)) {
          gap = next(at, 1) - at;
          for (n = 2; n < c.run && known(t, t.a + n) && next(at + (n - 1) * gap, n) == at + n * gap;) ++n;
        }
        put(t, c, at, n, gap);
        moved = true;
      }
      if (!moved) return;
    }
  }
  // When a beat whose forerunner was taken enters the output register.
  static I got(Node& t, I beat) { return std::max(t.ring[beat] + 1, beat > 0 ? t.other[beat - 1] : 0); }
  // When the only place of an empty fifo is free again.
  static I again(Node& t) { return t.a > 0 ? got(t, t.a - 1) + 1 : 0; }
  // From when on there is a place for a beat, and whether that is known.
  static I slot(Node& t, I beat) { return beat < t.limit[0] ? 0 : got(t, beat - t.limit[0]) + 1; }
  static bool known(const Node& t, I beat) { return beat - t.limit[0] <= std::min(t.x, t.a - 1); }
  static I oldest(const Node& t) { return std::max<I>(0, (t.limit[0] >= kEndless ? t.x : std::min(t.x, t.a - t.limit[0])) - 1); }
  void put(Node& t, Channel& c, I at, I n, const Shape& s) {
    take(c, at, n, s);
    t.ring.reach(oldest(t), t.a + n);
    s.each(at, n, [&](I when) { return t.ring[t.a++] = when, true; });
  }
  static void taken(Node& t, I at, I n, const Shape& s) {
    t.other.reach(oldest(t), t.x + n);
    s.each(at, n, [&](I when) { return t.other[t.x++] = when, true; });
  }

  void fork(Node& t) {  // hold: beats offered
    Channel& c = in(t);
    for (;;) {
      if (t.offered) {
        I last = 0;
        for (int p = 0; p < t.outs; ++p) {
          if (out(t, p).offer != kNever) return;
          last = std::max(last, out(t, p).last);
        }
        t.offered = false;
        take(c, last - t.shape.at(t.hold - 1), t.hold, t.shape);
      }
      if (c.offer == kNever) return;
      const I offer = c.offer;
      I n = c.run, late = 0;
      std::array<I, 8> held{};
      t.shape = c.bursts.burst > 1 ? c.bursts : Shape(gap_of(c));
      if (t.outs > 8) n = 1;
      for (int p = 0; p < t.outs && n > 1 && c.bursts.burst == 1; ++p) {
        n = room(t.out + p, offer, t.shape, n, held[idx(p)]);
        late = std::max(late, held[idx(p)]);
      }
      if (c.bursts.burst == 1 && late != c.late) n = 1;
      if (n < 2) n = 1, held = {};
      t.hold = n;
      for (int p = 0; p < t.outs; ++p) give(t, out(t, p), offer, n, t.shape, held[idx(p) % 8]);
    }
  }

  void narrower(Node& t) {
    Channel &c = in(t), &o = out(t);
    while (gone(t) && c.offer != kNever) {
      const I at = std::max(c.offer, o.last), gap = gap_of(c), each = t.limit[0];
      if (c.run > 1 && gap >= each) {
        const Shape s = pieces(t, gap);
        I held = 0;
        if (const I n = room(t.out, at + 1, s, c.run * each, held) / each; held == 0 && n > 1) {
          take(c, at, n, gap);
          give(t, o, at + 1, n * each, s, s.step - 1);
          continue;
        }
      }
      take(c, at, 1);
      give(t, o, at + 1, each);
    }
  }

  static bool inside(const Node& t) { return t.y >= t.top && t.y < t.bottom && t.x >= t.limit[3] && t.x < t.limit[4]; }
  static I row_left(const Node& t) { return (t.limit[4] - t.x) * t.limit[0] - t.at; }
  // at, x, y: group, column, row; hold: beats offered that are of the input.
  void pad(Node& t) {
    Channel &c = in(t), &o = out(t);
    const I groups = t.limit[0], width = t.limit[1], height = t.limit[2], left = t.limit[3];
    while (gone(t)) {
      if (t.hold) take(c, o.last - (t.hold - 1) * gap_of(c), t.hold, gap_of(c)), t.hold = 0;
      const bool row = t.y >= t.top && t.y < t.bottom;
      I n = 1;
      if (inside(t)) {
        if (c.offer == kNever) return;
        I held = 0;
        if (c.run > 1 && o.last < c.offer) n = room(t.out, c.offer, gap_of(c), std::min(c.run, row_left(t)), held);
        if (n < 2 || held != c.late) n = 1, held = 0;
        t.hold = n;
        give(t, o, std::max(c.offer, o.last + 1), n, gap_of(c), held);
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
          const I last = at + (n - 1) * c.step;
          take(c, at, n, c.step);
          t.at += n;
          if (t.at == t.limit[0]) {
            t.at = 0;
            t.ring.reach(t.b, t.a + 1);
            t.ring[t.a++] = last;
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
      // Short frames may look like many before them and yet repeat only after more: the nearest that suffices.
      const auto [first, last] = seen_.equal_range(h);
      std::vector<I> like;
      for (auto it = first; it != last; ++it) like.push_back(it->second);
      seen_.emplace(h, f);
      const std::size_t looked_at = std::min<std::size_t>(like.size(), 64);
      std::partial_sort(like.begin(), like.begin() + static_cast<I>(looked_at), like.end(), std::greater());
      like.resize(looked_at);
      for (const I g : like) {
        const I period = f - g, cycles = start - frame(0, g).first;
        for (I back = 1; g - back + 1 >= 0 && same(f - back + 1, g - back + 1, cycles); ++back) {
          bool all = true;
          for (I i = g; all && i <= f; ++i) all = apart(i, back, f, period, cycles);
          if (!all) continue;
          r.repeat_frames = period;
          r.repeat_cycles = cycles;
          r.ends.resize(idx(f + 1));
          return true;
        }
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
