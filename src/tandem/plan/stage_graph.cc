#include "tandem/plan/stage_graph.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "tandem/ir/requant.h"
#include "tandem/plan/moves.h"
#include "tandem/plan/refusals.h"

namespace tandem::plan {
namespace {

std::string cannot_run(std::string_view node) { return fmt::format("the streaming hardware cannot run {}: ", node); }

[[noreturn]] void refuse(const ir::Step& s, std::string why, std::string fix = "") {
  Error e(Exit::no, cannot_run(s.node) + why);
  e.at(s.node);
  if (!fix.empty()) e.fix(std::move(fix));
  throw e;
}

std::int64_t narrow(const ir::Step& s, Int128 v, std::string_view what) {
  if (v > INT64_MAX || v < INT64_MIN + 1)
    refuse(s, fmt::format("{} {} needs more than 64 bits", what, tandem::to_string(v)),
           "put a quantiser on the branch, or round the scales (--snap-scales)");
  return static_cast<std::int64_t>(v);
}

struct At {       // a buffer of the program on the hardware
  int layer = -2;  // -2: not on the hardware
  Values v;
  bool straight = false;  // its elements stand where the design's input put them
};
// Thrown where the input should rather stream in this order: then all begins anew.
struct InputOrder {
  std::vector<std::int32_t> order;
  std::int64_t channels = 1;
};

Shape frame_of(const Shape& s) { return s.size() >= 2 ? Shape(s.begin() + 1, s.end()) : s; }

void set_range(Values& v, std::int64_t lo, std::int64_t hi) {
  v.lo = lo;
  v.hi = hi;
  v.bits = std::max(1, signed_bits(lo, hi));
  v.is_signed = lo < 0;
}

// Per stream channel values of a Grouped constant. Returns 1 or `channels` entries (all elements when
// the groups do not repeat with the channels).
template <class T>
std::vector<T> per_channel(const ir::Step& s, const Shape& shape, const std::vector<T>& of_group, const Shape& full, Values& v) {
  if (of_group.size() == 1) return {of_group[0]};
  Shape group = shape, whole = full;
  if (group.size() == full.size() && full.size() >= 2) {
    if (group[0] != 1) refuse(s, "its constants differ from sample to sample");
    whole[0] = 1;
  }
  const std::vector<std::int32_t> gi = ir::group_index(group, whole);
  auto at = [&](std::int64_t j) { return gi[static_cast<std::size_t>(v.order[static_cast<std::size_t>(j)])]; };
  bool periodic = true;
  for (std::int64_t j = v.channels; j < v.elements && periodic; ++j) periodic = at(j) == at(j % v.channels);
  if (!periodic) v.channels = v.elements;
  std::vector<T> r;
  for (std::int64_t j = 0; j < v.channels; ++j) r.push_back(of_group[static_cast<std::size_t>(at(j))]);
  return r;
}
template <class T>
std::vector<T> per_channel(const ir::Step& s, const ir::Grouped<T>& g, const Shape& full, Values& v) {
  return per_channel(s, g.shape, g.v, full, v);
}

class Builder {
 public:
  Builder(const ir::ExactProgram& p, StageGraph& g, const std::optional<InputOrder>& input, Orders& orders)
      : p_(p), g_(g), orders_(orders), input_(input), fixed_(input), at_(p.buffers.size()), tail_(p.buffers.size()) {}

  void run() {
    for (const ir::Port& port : p_.inputs)
      if (p_.buffers[idx(port.buffer)].integer) enter(port.buffer, port.name, port.name);
    for (const ir::Step& s : p_.steps) step(s);
    finish();
  }

  // run() that goes on behind what it refuses.
  void run(std::vector<ir::Refusal>& refused) {
    auto note = [&](const Error& e, const std::string& node) {
      if (e.code() == Exit::bug) throw;
      std::string why = e.message();
      const std::string prefix = cannot_run(node);
      if (!node.empty() && why.starts_with(prefix)) why.erase(0, prefix.size());
      refused.push_back({node, why, e.fix()});
    };
    for (const ir::Port& port : p_.inputs)
      if (p_.buffers[idx(port.buffer)].integer) try {
          enter(port.buffer, port.name, port.name);
        } catch (const Error& e) {
          note(e, "");
          stand_in(port.buffer);
        }
    for (const ir::Step& s : p_.steps) try {
        step(s);
      } catch (const Error& e) {
        note(e, s.node);
        stand_in(s.out);
      }
    try {
      finish();
    } catch (const Error& e) {
      note(e, "");
    }
  }

 private:
  // What a refused step would have sent, in the usual order.
  void stand_in(int b) {
    if (b < 0 || !buffer(b).integer) return;
    const ir::Buffer& bf = buffer(b);
    const Shape f = frame_of(bf.shape);
    Layer l;
    l.kind = LayerKind::affine;
    l.out.elements = element_count(f);
    if (l.out.elements < 1 || l.out.elements > (1 << 24)) return;
    l.out.order = f.size() == 3 ? channels_last(f[0], f[1], f[2]) : in_order(l.out.elements);
    l.out.channels = f.size() == 3 ? f[0] : f.empty() ? 1 : f.back();
    const Int128 most = Int128(1) << 58;
    set_range(l.out, static_cast<std::int64_t>(std::clamp(bf.lo, -most, most)), static_cast<std::int64_t>(std::clamp(bf.hi, -most, most)));
    g_.layers.push_back(std::move(l));
    at_[idx(b)] = {static_cast<int>(g_.layers.size()) - 1, g_.layers.back().out};
  }

  const ir::ExactProgram& p_;
  StageGraph& g_;
  Orders& orders_;
  const std::optional<InputOrder>& input_;
  bool fixed_;               // whether a reader needed the order in which the input streams
  std::vector<At> at_;
  std::vector<bool> tail_;  // floats computed from the hardware's results: they stay on the host
  std::vector<std::pair<int, std::string>> results_;

  static std::size_t idx(int i) { return static_cast<std::size_t>(i); }
  const ir::Buffer& buffer(int b) const { return p_.buffers[idx(b)]; }

  void enter(int b, std::string_view what, std::string_view port) {
    if (g_.input_buffer >= 0)
      throw Error(Exit::no, fmt::format("the streaming hardware takes one input, the model has two: '{}' and '{}'",
                                        buffer(g_.input_buffer).name, what));
    const ir::Buffer& bf = buffer(b);
    g_.input_buffer = b;
    g_.input_shape = frame_of(bf.shape);
    g_.input_port = port;
    Values v;
    const Shape& f = g_.input_shape;
    v.elements = element_count(f);
    if (v.elements < 1 || v.elements > (1 << 24))
      throw Error(Exit::no, fmt::format("input '{}' has {} elements a frame, hardware handles 1 to 2^24", bf.name, v.elements));
    v.order = f.size() == 3 ? channels_last(f[0], f[1], f[2]) : in_order(v.elements);
    v.channels = f.size() == 3 ? f[0] : f.empty() ? 1 : f.back();
    if (bf.lo < -(Int128(1) << 62) || bf.hi > (Int128(1) << 62))
      throw Error(Exit::no, fmt::format("input '{}' needs more than 64 bits", bf.name));
    if (input_) {
      v.order = input_->order;
      v.channels = input_->channels;
    }
    set_range(v, static_cast<std::int64_t>(bf.lo), static_cast<std::int64_t>(bf.hi));
    g_.input = v;
    at_[idx(b)] = {-1, v, true};
  }

  At& operand(const ir::Step& s, std::size_t i) {
    const int b = s.in[i];
    if (at_[idx(b)].layer == -2)
      refuse(s, fmt::format("its operand '{}' is {}", buffer(b).name,
                            buffer(b).integer ? "a constant or a state that no stage produces" : "a float value"));
    return at_[idx(b)];
  }

  Layer& add(const ir::Step& s, LayerKind kind, std::vector<int> in) {
    Layer l;
    l.kind = kind;
    l.node = s.node;
    const std::string& n = buffer(s.out).name;
    l.name = fmt::format("s{:02}_{}", g_.layers.size(), identifier(n).substr(0, 40));
    l.in = std::move(in);
    g_.layers.push_back(std::move(l));
    return g_.layers.back();
  }
  void done(const ir::Step& s, Layer& l, bool straight = false) {
    if (l.out.elements > (1 << 24)) refuse(s, "more than 2^24 elements a frame");
    for (Layer& before : g_.layers)  // a step of several layers: the last of them has its result
      if (before.buffer == s.out) before.buffer = -1;
    l.buffer = s.out;
    at_[idx(s.out)] = {static_cast<int>(g_.layers.size()) - 1, l.out, straight};
  }
  // The layer just added, as what the next one of the same step reads.
  At latest() const { return {static_cast<int>(g_.layers.size()) - 1, g_.layers.back().out}; }

  void step(const ir::Step& s) {
    if (std::get_if<ir::QuantizeFloat>(&s.params)) {
      if (tail_[idx(s.in[0])]) return quantise_on_host(s);
      enter(s.out, s.node, host_input(s.in[0]));
      g_.host.push_back(fmt::format("before: {} (input codes, stream order channels last)", s.node));
    } else if (std::get_if<ir::FloatOp>(&s.params)) {
      for (int b : s.in)
        if (b >= 0 && tail_[idx(b)]) tail_[idx(s.out)] = true;
      g_.host.push_back(fmt::format("{}: {} in f32", tail_[idx(s.out)] ? "after" : "before", s.node));
    } else if (std::get_if<ir::ToFloat>(&s.params)) {
      if (tail_[idx(s.in[0])]) {
        tail_[idx(s.out)] = true;
        return;
      }
      operand(s, 0);
      tail_[idx(s.out)] = true;
      results_.emplace_back(s.in[0], s.node);
      g_.host.push_back(fmt::format("after: {} (scale and offset of the results)", s.node));
    } else if (auto* x = std::get_if<ir::IntConv>(&s.params)) {
      conv(s, *x);
    } else if (auto* x = std::get_if<ir::IntMatMul>(&s.params)) {
      matmul(s, *x);
    } else if (auto* x = std::get_if<ir::IntPool>(&s.params)) {
      pool(s, *x);
    } else if (auto* x = std::get_if<ir::IntRequant>(&s.params)) {
      requant(s, *x);
    } else if (auto* x = std::get_if<ir::IntLinear>(&s.params)) {
      linear(s, *x);
    } else if (auto* x = std::get_if<ir::IntMove>(&s.params)) {
      move(s, *x);
    } else if (auto* x = std::get_if<ir::IntArgMax>(&s.params)) {
      argmax(s, *x);
    } else if (std::get_if<ir::IntMul>(&s.params)) {
      product(s);
    } else if (auto* x = std::get_if<ir::IntTopK>(&s.params)) {
      topk(s, *x);
    } else if (auto* x = std::get_if<ir::IntSoftmax>(&s.params)) {
      softmax(s, *x);
    } else if (auto* x = std::get_if<ir::IntNormalize>(&s.params)) {
      normalize(s, *x);
    } else {
      refuse(s, "delays (state) have no stage", "keep the state on the host and give it as part of the input");
    }
  }

  // A quantiser of floats that the host computes from the hardware's results, unless integers follow.
  void quantise_on_host(const ir::Step& s) {
    for (const ir::Step& r : p_.steps)
      if (std::count(r.in.begin(), r.in.end(), s.out) && !std::get_if<ir::ToFloat>(&r.params))
        refuse(s, "it quantises a float that depends on the hardware's results", "keep what stands before it exact, or end the model there");
    tail_[idx(s.out)] = true;
    g_.host.push_back(fmt::format("after: {} (codes of the result)", s.node));
  }

  std::string host_input(int b) const {
    for (const ir::Port& port : p_.inputs)
      if (port.buffer == b) return port.name;
    return p_.inputs.empty() ? std::string("input") : p_.inputs[0].name;
  }

  // `a` in an order that a reader needs, `channels` of which make one place: as it is, or by letting the design's input stream
  // so, or behind a layer that holds the frame.
  At arrange(const ir::Step& s, const At& a, const Order& want, std::int64_t channels) {
    if (a.v.order == want) {
      fixed_ = fixed_ || a.straight;
      At same = a;
      same.v.channels = channels;
      return same;
    }
    std::vector<std::int32_t> place(want.size());  // in the stream, of each logical element
    for (std::size_t j = 0; j < want.size(); ++j) place[static_cast<std::size_t>(a.v.order[j])] = static_cast<std::int32_t>(j);
    if (a.straight && !fixed_) {
      InputOrder o{{}, channels};
      for (std::int32_t w : want) o.order.push_back(g_.input.order[static_cast<std::size_t>(place[static_cast<std::size_t>(w)])]);
      throw o;
    }
    std::vector<std::int32_t> from;
    for (std::int32_t w : want) from.push_back(place[static_cast<std::size_t>(w)]);
    Layer& l = add(s, LayerKind::reorder, {a.layer});
    l.out = a.v;
    l.out.order = want;
    l.out.channels = channels;
    addresses(l, from);
    return latest();
  }
  // Logical CHW to the stream's HWC.
  const Order& channels_last(std::int64_t c, std::int64_t h, std::int64_t w) { return orders_.of({c, h, w}, {1, 2, 0}); }
  const Order& in_order(std::int64_t n) { return orders_.of({n}, {0}); }
  At channels_last_of(const ir::Step& s, std::int64_t c, std::int64_t h, std::int64_t w) {
    At& a = operand(s, 0);
    return a = arrange(s, a, channels_last(c, h, w), c);
  }
  static void addresses(Layer& l, const std::vector<std::int32_t>& from) {
    l.unit = unit_of(from);
    for (std::size_t j = 0; j < from.size(); j += static_cast<std::size_t>(l.unit)) l.from.push_back(from[j] / static_cast<std::int32_t>(l.unit));
    l.loops = find_loops(l.from);
  }

  // Worst cases over the actual weights, and the width of the sum.
  void accumulate(const ir::Step& s, Layer& l, const Values& in, bool padded) {
    const Int128 lo = padded ? std::min<std::int64_t>(in.lo, 0) : in.lo, hi = padded ? std::max<std::int64_t>(in.hi, 0) : in.hi;
    const ir::WeightType type = l.writable ? l.type : ir::weight_type(l.weights);
    Int128 least = 0, most = 0;
    for (std::int64_t o = 0; o < l.mh && !l.writable; ++o) {
      Int128 a = 0, b = 0;
      for (std::int64_t i = 0; i < l.mw; ++i) {
        const std::int64_t w = l.weights[static_cast<std::size_t>(o * l.mw + i)];
        a += std::min(w * lo, w * hi);
        b += std::max(w * lo, w * hi);
      }
      least = o ? std::min(least, a) : a;
      most = o ? std::max(most, b) : b;
    }
    if (l.writable) {  // any weights of the type
      least = l.mw * std::min({type.lo * lo, type.lo * hi, type.hi * lo, type.hi * hi});
      most = l.mw * std::max({type.lo * lo, type.lo * hi, type.hi * lo, type.hi * hi});
    }
    l.weight_bits = type.bits;
    l.bipolar = type.bipolar;
    if (l.weight_bits > 32) refuse(s, fmt::format("{}-bit weights; at most 32", l.weight_bits));
    // The sum of a dense layer is kept signed: the multiplier's result is.
    set_range(l.out, narrow(s, std::min<Int128>(least, -1), "its sum"), narrow(s, most, "its sum"));
    l.out.bits = std::max({l.out.bits, l.weight_bits, in.bits + (in.is_signed ? 0 : 1)});
    if (l.out.bits > 62) refuse(s, fmt::format("a sum of {} bits; at most 62", l.out.bits));
  }

  void conv(const ir::Step& s, const ir::IntConv& x) {
    const Shape& in = buffer(s.in[0]).shape;
    const Shape& out = buffer(s.out).shape;
    if (in.size() != 4) refuse(s, "only two-dimensional convolutions have a stage", "give a one-dimensional convolution an axis of extent 1: [n, c, 1, w]");
    const std::int64_t c = in[1], h = in[2], w = in[3], oh = out[2], ow = out[3], kk = x.kh * x.kw;
    const std::int64_t ig = x.in_channels / x.group, og = x.out_channels / x.group;
    const At a = channels_last_of(s, c, h, w);
    Window win{.h = h, .w = w, .c = c, .kh = x.kh, .kw = x.kw, .sh = x.stride_h, .sw = x.stride_w, .dh = x.dilation_h,
               .dw = x.dilation_w, .pt = x.pad_top, .pl = x.pad_left, .pb = x.pad_bottom, .pr = x.pad_right, .oh = oh, .ow = ow};
    if (win.pt < 0 || win.pl < 0 || win.pb < 0 || win.pr < 0) refuse(s, "negative padding");
    const bool depthwise = x.group > 1 && ig == 1 && og == 1;
    Layer& l = add(s, depthwise ? LayerKind::depthwise : LayerKind::dense, {a.layer});
    auto weight = [&](std::int64_t o, std::int64_t i, std::int64_t k) {
      return x.weights[static_cast<std::size_t>((o * ig + i) * kk + k)];
    };
    l.mh = x.out_channels;
    l.vectors = oh * ow;
    if (x.writable) l.writable = true, l.type = *x.writable;
    if (depthwise) {
      win.channel_outer = true;
      l.mw = kk;
      for (std::int64_t o = 0; o < c; ++o)
        for (std::int64_t k = 0; k < kk; ++k) l.weights.push_back(weight(o, 0, k));
    } else {
      l.groups = x.group;
      l.mw = kk * ig;
      for (std::int64_t o = 0; o < l.mh; ++o)
        for (std::int64_t k = 0; k < kk; ++k)
          for (std::int64_t i = 0; i < ig; ++i) l.weights.push_back(weight(o, i, k));
    }
    l.macs = oh * ow * x.out_channels * ig * kk;
    if (kk > 1 || x.stride_h > 1 || x.stride_w > 1 || win.padded() || depthwise) l.window = win;
    l.out.elements = l.mh * oh * ow;
    l.out.channels = l.mh;
    l.out.order = channels_last(l.mh, oh, ow);
    accumulate(s, l, a.v, win.padded());
    done(s, l);
  }

  void matmul(const ir::Step& s, const ir::IntMatMul& x) {
    if (x.weights.empty()) refuse(s, "a product of two varying matrices has no stage", "make one of the operands constant");
    At& given = operand(s, 0);
    if (x.k < 1 || given.v.elements % x.k) refuse(s, "its input does not split into whole vectors");
    const std::int64_t v = given.v.elements / x.k;
    bool whole = true;  // vectors arrive one after the other, all permuted alike
    for (std::int64_t j = 0; j < given.v.elements && whole; ++j) {
      const std::int64_t o = given.v.order[static_cast<std::size_t>(j)];
      whole = o / x.k == j / x.k && o % x.k == given.v.order[static_cast<std::size_t>(j % x.k)];
    }
    if (!whole) given = arrange(s, given, in_order(given.v.elements), x.k);
    fixed_ = fixed_ || (given.straight && v > 1);
    const At a = given;
    Layer& l = add(s, LayerKind::dense, {a.layer});
    l.mh = x.m;
    l.mw = x.k;
    l.vectors = v;
    if (x.writable) l.writable = true, l.type = *x.writable;
    l.macs = v * x.k * x.m;
    for (std::int64_t o = 0; o < x.m; ++o)
      for (std::int64_t j = 0; j < x.k; ++j)
        l.weights.push_back(x.weights[static_cast<std::size_t>(a.v.order[static_cast<std::size_t>(j)] * x.m + o)]);
    l.out.elements = v * x.m;
    l.out.channels = x.m;
    l.out.order = in_order(l.out.elements);
    accumulate(s, l, a.v, false);
    done(s, l);
  }

  void pool(const ir::Step& s, const ir::IntPool& x) {
    const Shape& in = buffer(s.in[0]).shape;
    const Shape& out = buffer(s.out).shape;
    if (in.size() != 4) refuse(s, "only two-dimensional pooling has a stage", "give its input an axis of extent 1: [n, c, 1, w]");
    const std::int64_t c = in[1], h = in[2], w = in[3], oh = out[2], ow = out[3];
    const At a = channels_last_of(s, c, h, w);
    Window win{.h = h, .w = w, .c = c, .kh = x.kh, .kw = x.kw, .sh = x.stride_h, .sw = x.stride_w, .pt = x.pad_top,
               .pl = x.pad_left, .pb = x.pad_bottom, .pr = x.pad_right, .oh = oh, .ow = ow, .channel_outer = true};
    std::vector<bool> least(static_cast<std::size_t>(c), x.kind == ir::IntPool::min);
    if (x.kind == ir::IntPool::max)
      for (std::size_t i = 0; i < least.size() && !x.min_channel.empty(); ++i)
        least[i] = x.min_channel[x.min_channel.size() == 1 ? 0 : i];
    const bool mixed = std::count(least.begin(), least.end(), true) % c != 0;
    if (mixed && win.padded()) refuse(s, "padded max pooling whose scale changes sign between channels has no stage");
    Layer& l = add(s, LayerKind::pool, {a.layer});
    l.pool = x.kind == ir::IntPool::sum ? ir::IntPool::sum : mixed ? ir::IntPool::max : least[0] ? ir::IntPool::min : ir::IntPool::max;
    if (mixed) l.min_channel = least;
    l.mh = c;
    l.mw = x.kh * x.kw;
    l.vectors = oh * ow;
    l.out.elements = c * oh * ow;
    l.out.channels = c;
    l.out.order = channels_last(c, oh, ow);
    if (x.kind == ir::IntPool::sum) {
      const Int128 lo = win.padded() ? std::min<std::int64_t>(a.v.lo, 0) : a.v.lo, hi = win.padded() ? std::max<std::int64_t>(a.v.hi, 0) : a.v.hi;
      set_range(l.out, narrow(s, lo * l.mw, "its sum"), narrow(s, hi * l.mw, "its sum"));
    } else {
      set_range(l.out, a.v.lo, a.v.hi);
      win.pad_value = l.pool == ir::IntPool::min ? a.v.hi : a.v.lo;
      l.out.bits = a.v.bits;
    }
    if (x.kh != h || x.kw != w || win.padded()) l.window = win;
    done(s, l);
    // A mean that leaves padding out: a factor for each place.
    if (std::all_of(x.position_factor.begin(), x.position_factor.end(), [](std::int64_t f) { return f == 1; })) return;
    const At sum = latest();
    Layer& m = add(s, LayerKind::affine, {sum.layer});
    m.out = sum.v;
    m.c = {0};
    m.k.emplace_back();
    std::int64_t most = 0;
    for (std::int64_t f : x.position_factor) {
      most = std::max(most, f);
      m.k[0].insert(m.k[0].end(), static_cast<std::size_t>(c), f);
    }
    if (std::equal(m.k[0].begin() + 1, m.k[0].end(), m.k[0].begin())) m.k[0].resize(1);
    else m.out.channels = m.out.elements;
    set_range(m.out, narrow(s, Int128(sum.v.lo) * (sum.v.lo < 0 ? most : 0), "its sum"), narrow(s, Int128(sum.v.hi) * (sum.v.hi > 0 ? most : 1), "its sum"));
    if (m.out.bits > 60) refuse(s, fmt::format("a result of {} bits; at most 60", m.out.bits));
    done(s, m);
  }

  bool only_user(int b) const {
    int n = 0;
    for (const ir::Step& s : p_.steps) n += static_cast<int>(std::count(s.in.begin(), s.in.end(), b));
    for (const ir::Port& o : p_.outputs) n += o.buffer == b;
    return n == 1;
  }

  // The multiply-shift form of a requantiser, brought to one shift and one tie rule for all channels: a form
  // keeps its steps when factor, offset and 2^shift are multiplied by two, and a plain one never meets a tie
  // as 2v + 1 at one more place.
  static std::optional<Layer::Rescale> arithmetic(const Layer& l, const Values& in) {
    for (std::size_t i = 1; i < l.levels.size(); ++i)
      if (l.levels[i] != l.levels[0] + static_cast<std::int64_t>(i)) return {};
    std::vector<ir::MulShift> forms;
    for (const ir::Thresholds& t : l.tables) {
      const auto f = t.flip ? ir::find_mul_shift(t, -Int128(in.hi), -Int128(in.lo)) : ir::find_mul_shift(t, in.lo, in.hi);
      if (!f) return {};
      forms.push_back(*f);
    }
    Layer::Rescale r;
    for (const ir::MulShift& f : forms) {
      if (r.ties && f.half_even && f.parity != r.tie_parity) return {};
      if (f.half_even) {
        r.ties = true;
        r.tie_parity = f.parity;
      }
    }
    for (const ir::MulShift& f : forms) r.shift = std::max(r.shift, f.shift + (r.ties && !f.half_even));
    Int128 least = 0, most = 0;
    std::int64_t f_lo = 0, f_hi = 0, o_lo = 0, o_hi = 0;
    for (std::size_t i = 0; i < forms.size(); ++i) {
      const ir::MulShift& f = forms[i];
      Int128 m = f.m, o = f.r;
      int at = f.shift;
      if (r.ties && !f.half_even) {
        m = 2 * m;
        o = 2 * o + 1;
        ++at;
      }
      m *= Int128(1) << (r.shift - at);
      o *= Int128(1) << (r.shift - at);
      if (l.tables[i].flip) m = -m;
      const Int128 p = m * in.lo, q = m * in.hi, wide = Int128(1) << 61;
      least = std::min({least, o + std::min(p, q), std::min(p, q)});
      most = std::max({most, o + std::max(p, q), std::max(p, q)});
      if (least < -wide || most > wide || m > INT32_MAX || m < -INT32_MAX) return {};
      r.factor.push_back(static_cast<std::int64_t>(m));
      r.offset.push_back(static_cast<std::int64_t>(o));
      f_lo = std::min(f_lo, r.factor.back());
      f_hi = std::max(f_hi, r.factor.back());
      o_lo = std::min(o_lo, r.offset.back());
      o_hi = std::max(o_hi, r.offset.back());
    }
    r.factor_bits = signed_bits(std::min<std::int64_t>(f_lo, -1), f_hi);
    r.offset_bits = signed_bits(std::min<std::int64_t>(o_lo, -1), o_hi);
    // The sum holds every level and what lies above and below the last ones.
    const Int128 top = Int128(static_cast<std::int64_t>(l.levels.size())) << r.shift;
    r.sum_bits = std::max(signed_bits(std::min<Int128>(least, -1), std::max(most, top)), r.offset_bits);
    if (r.sum_bits > 62) return {};
    return r;
  }

  // A requantiser that gives what it takes: that of results which are codes already.
  static bool same_codes(const std::vector<ir::Thresholds>& tables, const std::vector<std::int64_t>& levels, const Values& v) {
    if (v.hi - v.lo >= ir::kMaxTableLevels) return false;
    for (const ir::Thresholds& t : tables)
      for (std::int64_t n = v.lo; n <= v.hi; ++n)
        if (levels[static_cast<std::size_t>(ir::level_of(t, n))] != n) return false;
    return true;
  }

  void requant(const ir::Step& s, const ir::IntRequant& x) {
    At& a = operand(s, 0);
    if (x.levels.empty() || (x.tables.empty() && x.levels.size() > 1))
      refuse(s, fmt::format("its {} levels are too many for a table of steps", x.levels.size()), "use at most 16 bits");
    std::vector<ir::Thresholds> tables = x.tables;
    if (tables.empty()) tables.resize(1);
    for (const ir::Thresholds& t : tables)
      if (t.t.size() + 1 != x.levels.size()) refuse(s, fmt::format("{} steps for {} levels", t.t.size(), x.levels.size()));
    Values v = a.v;
    tables = per_channel(s, x.group, tables, buffer(s.out).shape, v);
    if (!x.writable && same_codes(tables, x.levels, a.v)) {
      at_[idx(s.out)] = a;
      return;
    }
    // A flipped channel right behind a contraction costs nothing: its weights are negated.
    if (std::any_of(tables.begin(), tables.end(), [](const ir::Thresholds& t) { return t.flip; }) && a.layer >= 0 &&
        only_user(s.in[0])) {
      Layer& d = g_.layers[idx(a.layer)];
      if (!d.writable && !x.writable && (d.kind == LayerKind::dense || d.kind == LayerKind::depthwise) && v.channels == d.mh &&
          d.out.order == a.v.order && d.out.lo > INT64_MIN / 2) {
        for (std::int64_t o = 0; o < d.mh; ++o) {
          if (!tables[tables.size() == 1 ? 0 : static_cast<std::size_t>(o)].flip) continue;
          d.negated.resize(static_cast<std::size_t>(d.mh));
          d.negated[static_cast<std::size_t>(o)] = true;
          for (std::int64_t i = 0; i < d.mw; ++i) {
            std::int64_t& w = d.weights[static_cast<std::size_t>(o * d.mw + i)];
            w = -w;
          }
        }
        for (ir::Thresholds& t : tables) t.flip = false;
        accumulate(s, d, g_.values_of(d.in[0]), d.window && d.window->padded());
        a.v = d.out;
      }
    }
    const std::int64_t entries = static_cast<std::int64_t>(tables.size()) * std::bit_ceil(static_cast<std::uint64_t>(x.levels.size()));
    if (entries > (1 << 20))
      refuse(s, fmt::format("{} steps ({} channels of {} levels) are too many for a table", entries, tables.size(), x.levels.size()),
             "use fewer bits, or one scale for all channels");
    Layer& l = add(s, LayerKind::requant, {a.layer});
    l.out = a.v;
    l.out.channels = v.channels;
    l.levels = x.levels;
    l.level_bits = std::max(1, static_cast<int>(std::bit_width(x.levels.size() - 1)));
    // Steps outside the range never bind.
    for (ir::Thresholds& t : tables)
      for (Int128& y : t.t) y = t.flip ? std::clamp<Int128>(y, -Int128(a.v.hi), 1 - Int128(a.v.lo)) : std::clamp<Int128>(y, a.v.lo, Int128(a.v.hi) + 1);
    // Entries are signed; the last place of a table that is not a power of two never binds.
    l.entry_bits = std::max(a.v.bits + (a.v.is_signed ? 0 : 1), signed_bits(-1, a.v.hi + 1));
    l.tables = std::move(tables);
    l.writable = x.writable;
    if (l.levels.size() > 4 && !l.writable) l.rescale = arithmetic(l, a.v);
    set_range(l.out, *std::min_element(x.levels.begin(), x.levels.end()), *std::max_element(x.levels.begin(), x.levels.end()));
    done(s, l, a.straight);
  }

  void linear(const ir::Step& s, const ir::IntLinear& x) {
    const Shape& out = buffer(s.out).shape;
    std::vector<At> from = branches(s);
    Values v = from[0].v;
    // Every constant must share one period, so widen first.
    for (int pass = 0; pass < 2; ++pass) {
      for (const auto& k : x.k) per_channel(s, k, out, v);
      per_channel(s, x.c, out, v);
      if (x.lo) per_channel(s, *x.lo, out, v);
      if (x.hi) per_channel(s, *x.hi, out, v);
    }
    auto constants = [&](const ir::Grouped<Int128>& g, std::string_view what) {
      std::vector<std::int64_t> r;
      for (Int128 y : per_channel(s, g, out, v)) r.push_back(narrow(s, y, what));
      return r;
    };
    std::vector<std::vector<std::int64_t>> k;
    for (const auto& g : x.k) k.push_back(constants(g, "a factor"));
    std::vector<std::int64_t> c = constants(x.c, "an offset"), lo, hi;
    const Int128 wide = Int128(1) << 62;
    auto clamps = [&](const ir::Grouped<Int128>& g) {  // a clamp beyond 62 bits never binds
      std::vector<std::int64_t> r;
      for (Int128 y : per_channel(s, g, out, v)) r.push_back(static_cast<std::int64_t>(std::clamp(y, -wide, wide)));
      return r;
    };
    if (x.lo) lo = clamps(*x.lo);
    if (x.hi) hi = clamps(*x.hi);
    if (from.size() > 1) sums(s, from, k, v);
    std::vector<int> in;
    for (const At& x : from) in.push_back(x.layer);
    // The proven range from the operands.
    Int128 least = wide, most = -wide;
    for (std::int64_t j = 0; j < v.channels; ++j) {
      auto at = [&](const std::vector<std::int64_t>& t) { return Int128(t[t.size() == 1 ? 0 : static_cast<std::size_t>(j)]); };
      Int128 a0 = at(c), a1 = a0;
      for (std::size_t i = 0; i < from.size(); ++i) {
        const Int128 p = at(k[i]) * from[i].v.lo, q = at(k[i]) * from[i].v.hi;
        a0 += std::min(p, q);
        a1 += std::max(p, q);
      }
      narrow(s, a0, "its result");
      narrow(s, a1, "its result");
      if (!lo.empty()) { a0 = std::max(a0, at(lo)); a1 = std::max(a1, at(lo)); }
      if (!hi.empty()) { a0 = std::min(a0, at(hi)); a1 = std::min(a1, at(hi)); }
      least = std::min(least, a0);
      most = std::max(most, a1);
    }
    const bool two = in.size() == 2;
    Layer& l = add(s, two ? LayerKind::add : LayerKind::affine, std::move(in));
    l.out = v;
    l.k = std::move(k);
    l.c = std::move(c);
    l.clamp_lo = std::move(lo);
    l.clamp_hi = std::move(hi);
    set_range(l.out, narrow(s, least, "its result"), narrow(s, most, "its result"));
    if (l.out.bits > 60) refuse(s, fmt::format("a result of {} bits; at most 60", l.out.bits));
    done(s, l, std::all_of(from.begin(), from.end(), [](const At& x) { return x.straight; }));
  }

  // The operands of an element-wise step in one order, those of smaller extents repeated.
  std::vector<At> branches(const ir::Step& s) {
    const Shape& out = buffer(s.out).shape;
    std::vector<At> from;
    bool smaller = false;
    for (std::size_t i = 0; i < s.in.size(); ++i) {
      operand(s, i);
      smaller = smaller || buffer(s.in[i]).shape != out;
    }
    const Shape f = frame_of(out);
    Order want = at_[idx(s.in[0])].v.order;
    std::int64_t channels = at_[idx(s.in[0])].v.channels;
    if (smaller) {
      want = orders_.of(f, usual_axes(f));
      channels = f[usual_axes(f).back()];
    }
    for (std::size_t i = 0; i < s.in.size(); ++i) {
      At& a = operand(s, i);
      if (buffer(s.in[i]).shape != out) {
        from.push_back(repeated(s, i, f));
      } else {
        if (a.v.order != want) a = arrange(s, a, want, channels);
        from.push_back(a);
      }
    }
    return from;
  }
  // Operand i sent as often as broadcasting to the frame asks for.
  At repeated(const ir::Step& s, std::size_t i, const Shape& to) {
    const Shape& in = buffer(s.in[i]).shape;
    const Shape& out = buffer(s.out).shape;
    Shape f = in;
    if (in.size() == out.size()) f = frame_of(in);
    else if (in.size() > to.size()) refuse(s, "an operand of more axes than the result");
    while (f.size() < to.size()) f.insert(f.begin(), 1);
    const std::vector<std::size_t> axes = usual_axes(to);
    At& given = at_[idx(s.in[i])];
    given = arrange(s, given, orders_.of(f, axes), f[axes.back()]);
    At a = given;
    std::int64_t before = 1, within = element_count(f);
    for (std::size_t d : axes) {
      within /= f[d];
      if (f[d] != to[d]) a = repeat(s, a, within, to[d], before);
      before *= to[d];
    }
    a.v.order = orders_.of(to, axes);
    a.v.channels = to[axes.back()];
    return a;
  }
  At repeat(const ir::Step& s, const At& a, std::int64_t elements, std::int64_t times, std::int64_t vectors) {
    Layer& l = add(s, LayerKind::repeat, {a.layer});
    l.mw = elements;
    l.mh = times;
    l.vectors = vectors;
    l.out = a.v;
    l.out.elements = a.v.elements * times;
    if (l.out.elements > (1 << 24)) refuse(s, "more than 2^24 elements a frame");
    return latest();
  }
  // Branches beyond the second are added one at a time; `from` and `k` keep two.
  void sums(const ir::Step& s, std::vector<At>& from, std::vector<std::vector<std::int64_t>>& k, const Values& v) {
    while (from.size() > 2) {
      Layer& l = add(s, LayerKind::add, {from[0].layer, from[1].layer});
      l.out = v;
      l.k = {k[0], k[1]};
      l.c = {0};
      Int128 least = 0, most = 0;
      for (std::size_t j = 0; j < std::max(k[0].size(), k[1].size()); ++j) {
        Int128 lo = 0, hi = 0;
        for (std::size_t i = 0; i < 2; ++i) {
          const Int128 f = k[i][k[i].size() == 1 ? 0 : j];
          lo += std::min(f * from[i].v.lo, f * from[i].v.hi);
          hi += std::max(f * from[i].v.lo, f * from[i].v.hi);
        }
        least = j ? std::min(least, lo) : lo;
        most = j ? std::max(most, hi) : hi;
      }
      set_range(l.out, narrow(s, least, "its sum"), narrow(s, most, "its sum"));
      if (l.out.bits > 60) refuse(s, fmt::format("a sum of {} bits; at most 60", l.out.bits));
      from[1] = latest();
      k[1] = {1};
      from.erase(from.begin());
      k.erase(k.begin());
    }
  }

  void product(const ir::Step& s) {
    const std::vector<At> from = branches(s);
    Layer& l = add(s, LayerKind::product, {from[0].layer, from[1].layer});
    l.out = from[0].v;
    Int128 least = 0, most = 0;
    for (std::int64_t a : {from[0].v.lo, from[0].v.hi})
      for (std::int64_t b : {from[1].v.lo, from[1].v.hi}) {
        least = std::min(least, Int128(a) * b);
        most = std::max(most, Int128(a) * b);
      }
    set_range(l.out, narrow(s, least, "its product"), narrow(s, most, "its product"));
    if (l.out.bits > 60) refuse(s, fmt::format("a product of {} bits; at most 60", l.out.bits));
    done(s, l, from[0].straight && from[1].straight);
  }

  void concat(const ir::Step& s, const ir::IntMove& x) {
    const Shape& out = buffer(s.out).shape;
    if (out.size() >= 2 && x.axis == 0) refuse(s, "it joins different samples");
    const Shape f = frame_of(out);
    const std::size_t axis = static_cast<std::size_t>(x.axis) - (out.size() >= 2 ? 1 : 0);
    // The order in which most of the inputs arrive; the others are brought into it.
    std::vector<std::vector<std::size_t>> walks{usual_axes(f)};
    std::vector<std::size_t> plain(f.size()), last;
    std::iota(plain.begin(), plain.end(), std::size_t(0));
    for (std::size_t d = 1; d < f.size(); ++d) last.push_back(d);
    last.push_back(0);
    walks.push_back(plain);
    if (f.size() > 1) walks.push_back(last);
    std::size_t best = 0;
    int most = -1;
    for (std::size_t w = 0; w < walks.size(); ++w) {
      int fit = 0;
      for (std::size_t i = 0; i < s.in.size(); ++i) {
        const At& a = operand(s, i);
        fit += (a.straight && !fixed_) || a.v.order == orders_.of(frame_of(buffer(s.in[i]).shape), walks[w]);
      }
      if (fit > most) most = fit, best = w;
    }
    const std::vector<std::size_t>& axes = walks[best];
    std::int64_t inner = 1;
    for (std::size_t d = axes.size(); d-- > 0 && axes[d] != axis;) inner *= f[axes[d]];
    At sum;
    Shape whole = f;
    whole[axis] = 0;
    for (std::size_t i = 0; i < s.in.size(); ++i) {
      At& given = operand(s, i);
      const Shape part = frame_of(buffer(s.in[i]).shape);
      given = arrange(s, given, orders_.of(part, axes), part[axes.back()]);
      if (whole[axis] == 0) {
        sum = given;
        whole[axis] = part[axis];
        continue;
      }
      if (part[axis] == 0) continue;
      Layer& l = add(s, LayerKind::concat, {sum.layer, given.layer});
      l.runs = {whole[axis] * inner, part[axis] * inner};
      l.unit = std::gcd(l.runs[0], l.runs[1]);
      whole[axis] += part[axis];
      l.out.elements = element_count(whole);
      l.out.order = orders_.of(whole, axes);
      l.out.channels = whole[axes.back()];
      set_range(l.out, std::min(sum.v.lo, given.v.lo), std::max(sum.v.hi, given.v.hi));
      done(s, l);
      sum = latest();
    }
    at_[idx(s.out)] = sum;
  }

  // Picks elements: by leaving some out, by repeating runs, else from a memory of the frame.
  void gather(const ir::Step& s, const ir::IntMove& x) {
    const At a = operand(s, 0);
    const Shape f = frame_of(buffer(s.out).shape);
    const std::int64_t samples = buffer(s.out).shape.size() >= 2 ? buffer(s.out).shape[0] : 1, n = element_count(f);
    const std::int64_t before = buffer(s.in[0]).shape.size() >= 2 ? buffer(s.in[0]).shape[0] : 1;
    for (std::int64_t i = 0; i < samples * n; ++i)
      if (samples != before || (x.index[static_cast<std::size_t>(i)] >= 0 && x.index[static_cast<std::size_t>(i)] / a.v.elements != i / n))
        refuse(s, "it moves elements between samples");
    if (n < 1 || n > (1 << 24)) refuse(s, "a frame of none or more than 2^24 elements");
    std::vector<std::int32_t> place(static_cast<std::size_t>(a.v.elements));
    for (std::size_t j = 0; j < place.size(); ++j) place[static_cast<std::size_t>(a.v.order[j])] = static_cast<std::int32_t>(j);
    auto source = [&](std::int32_t o) {
      const std::int64_t i = x.index[static_cast<std::size_t>(o)];
      return i < 0 ? -1 : place[static_cast<std::size_t>(i)];
    };
    // The orders in which the result may leave: channels last, as its frame lies, or as the elements arrive.
    std::vector<Order> orders{orders_.of(f, usual_axes(f)), in_order(n)};
    std::vector<std::int32_t> arrival = in_order(n).get();
    std::stable_sort(arrival.begin(), arrival.end(), [&](std::int32_t p, std::int32_t q) { return source(p) < source(q); });
    if (std::none_of(x.index.begin(), x.index.end(), [](std::int64_t i) { return i < 0; })) orders.push_back(std::move(arrival));
    std::size_t best = 0;
    int least = INT32_MAX;
    for (std::size_t w = 0; w < orders.size(); ++w) {
      std::vector<std::int32_t> from;
      for (std::int32_t o : orders[w])
        if (source(o) >= 0) from.push_back(source(o));
      const int c = increasing(from) ? 0 : repeats(from, a.v.elements) ? 1 : 2;
      if (c < least) least = c, best = w;
    }
    const Order& order = orders[best];
    const std::int64_t channels = best == 0 ? f.empty() ? 1 : f[usual_axes(f).back()] : best == 1 && !f.empty() ? f.back() : n;
    std::vector<std::int32_t> from;
    std::vector<bool> filled;
    for (std::int32_t o : order) {
      filled.push_back(source(o) >= 0);
      if (filled.back()) from.push_back(source(o));
    }
    if (from.empty()) refuse(s, "nothing of its input remains");
    At b = picked(s, a, from);
    if (static_cast<std::int64_t>(from.size()) < n) {
      Layer& l = add(s, LayerKind::insert, {b.layer});
      l.out = b.v;
      l.out.elements = n;
      l.unit = unit_of(filled);
      l.keep = std::make_shared<const std::vector<bool>>(filled);
      l.value = x.fill;
      std::int64_t run = 0;
      for (bool k : filled) l.burst = std::max(l.burst, run = k ? 0 : run + 1);
      set_range(l.out, std::min(b.v.lo, x.fill), std::max(b.v.hi, x.fill));
      b = latest();
    }
    b.v.order = order;
    b.v.channels = channels;
    if (b.layer >= 0 && b.layer != a.layer) g_.layers.back().out = b.v;
    at_[idx(s.out)] = b;
  }
  static bool increasing(const std::vector<std::int32_t>& from) {
    return std::adjacent_find(from.begin(), from.end(), [](std::int32_t p, std::int32_t q) { return q <= p; }) == from.end();
  }
  // Whether every element comes once in its turn, but for runs that are repeated.
  static bool repeats(const std::vector<std::int32_t>& from, std::int64_t elements) {
    const std::vector<Loop> loops = find_loops(from);
    std::int64_t inner = 1;
    for (std::size_t d = loops.size(); d-- > 0;) {
      if (loops[d].stride != 0 && loops[d].stride != inner) return false;
      if (loops[d].stride != 0) inner *= loops[d].n;
    }
    return !loops.empty() && from[0] == 0 && inner == elements;
  }
  At picked(const ir::Step& s, const At& a, const std::vector<std::int32_t>& from) {
    const std::int64_t n = static_cast<std::int64_t>(from.size());
    if (increasing(from)) {
      if (n == a.v.elements) return a;
      Layer& l = add(s, LayerKind::select, {a.layer});
      l.out = a.v;
      l.out.elements = n;
      std::vector<bool> keep(static_cast<std::size_t>(a.v.elements), false);
      for (std::int32_t j : from) keep[static_cast<std::size_t>(j)] = true;
      l.unit = unit_of(keep);
      l.keep = std::make_shared<const std::vector<bool>>(std::move(keep));
      return latest();
    }
    if (repeats(from, a.v.elements)) {
      const std::vector<Loop> loops = find_loops(from);
      std::int64_t before = 1, within = a.v.elements;
      At b = a;
      for (const Loop& r : loops) {
        if (r.stride != 0) within /= r.n;
        else b = repeat(s, b, within, r.n, before);
        before *= r.n;
      }
      return b;
    }
    Layer& l = add(s, LayerKind::reorder, {a.layer});
    l.out = a.v;
    l.out.elements = n;
    addresses(l, from);
    return latest();
  }

  void move(const ir::Step& s, const ir::IntMove& x) {
    if (x.kind == ir::IntMove::concat) return concat(s, x);
    if (x.kind == ir::IntMove::gather) return gather(s, x);
    At a = operand(s, 0);
    const Shape& in = buffer(s.in[0]).shape;
    const Shape& out = buffer(s.out).shape;
    const Shape fi = frame_of(in), fo = frame_of(out);
    if (element_count(fi) != element_count(fo)) refuse(s, "it moves elements between samples");
    if (x.kind == ir::IntMove::transpose) {
      if (in.size() >= 2 && (x.perm.empty() || x.perm[0] != 0)) refuse(s, "it moves elements between samples");
      const std::size_t skip = in.size() >= 2 ? 1 : 0;
      std::vector<std::size_t> axes;
      for (std::size_t d = skip; d < x.perm.size(); ++d) axes.push_back(static_cast<std::size_t>(x.perm[d]) - skip);
      a.v.order = orders_.exchanged(a.v.order, fi, axes);
    }
    at_[idx(s.out)] = a;
  }

  // An axis of a step's operand, its vectors one after the other: n elements each, `inner` of the frame's elements from one of them
  // to the next. Vector j of the stream is the `vectors[j]`th in the frame.
  struct Along {
    At a;
    std::int64_t n = 1, inner = 1;
    std::vector<std::int32_t> vectors;
  };
  Along along(const ir::Step& s, std::int64_t axis) {
    const Shape& in = buffer(s.in[0]).shape;
    if (axis < 0) axis += static_cast<std::int64_t>(in.size());
    if (in.size() >= 2 && axis == 0) refuse(s, "it compares different samples");
    const Shape f = frame_of(in);
    const std::size_t ax = static_cast<std::size_t>(axis - (in.size() >= 2 ? 1 : 0));
    Along r;
    r.n = f[ax];
    for (std::size_t d = ax + 1; d < f.size(); ++d) r.inner *= f[d];
    At& given = operand(s, 0);
    auto in_a_row = [&] {
      r.vectors.clear();
      for (std::int64_t j = 0; j < given.v.elements; ++j) {
        const std::int64_t o = given.v.order[static_cast<std::size_t>(j)];
        const std::int64_t place = o / r.inner % r.n, vector = o / (r.inner * r.n) * r.inner + o % r.inner;
        if (place != j % r.n || (place > 0 && r.vectors.back() != vector)) return false;
        if (place == 0) r.vectors.push_back(static_cast<std::int32_t>(vector));
      }
      return true;
    };
    if (!in_a_row()) {
      std::vector<std::size_t> axes;
      for (std::size_t d = 0; d < f.size(); ++d)
        if (d != ax) axes.push_back(d);
      axes.push_back(ax);
      given = arrange(s, given, orders_.of(f, axes), r.n);
      in_a_row();
    } else {
      fixed_ = fixed_ || given.straight;
    }
    r.a = given;
    return r;
  }

  void argmax(const ir::Step& s, const ir::IntArgMax& x) {
    Along of = along(s, x.axis);
    Layer& l = add(s, LayerKind::argmax, {of.a.layer});
    l.mh = of.n;
    l.vectors = of.a.v.elements / of.n;
    l.argmax_last = x.last;
    l.out.elements = l.vectors;
    l.out.channels = 1;
    l.out.order = std::move(of.vectors);
    set_range(l.out, 0, of.n - 1);
    done(s, l);
  }

  void topk(const ir::Step& s, const ir::IntTopK& x) {
    const Along of = along(s, x.axis);
    if (x.k < 1) refuse(s, "it keeps none");
    if (x.k > 64) refuse(s, fmt::format("the {} largest of a vector; at most 64 are kept sorted", x.k), "a smaller k, or sort on the host");
    Layer& l = add(s, LayerKind::topk, {of.a.layer});
    l.mh = of.n;
    l.vectors = of.a.v.elements / of.n;
    l.kept = x.k;
    l.largest = x.largest;
    l.places = x.places;
    l.out.elements = l.vectors * x.k;
    l.out.channels = x.k;
    std::vector<std::int32_t> order;
    for (std::int32_t v : of.vectors)
      for (std::int64_t j = 0; j < x.k; ++j)
        order.push_back(static_cast<std::int32_t>((v / of.inner * x.k + j) * of.inner + v % of.inner));
    l.out.order = std::move(order);
    if (x.places) set_range(l.out, 0, of.n - 1);
    else set_range(l.out, of.a.v.lo, of.a.v.hi);
    if (!x.places) l.out.bits = of.a.v.bits, l.out.is_signed = of.a.v.is_signed;
    done(s, l);
  }

  void softmax(const ir::Step& s, const ir::IntSoftmax& x) {
    const Along of = along(s, x.axis);
    Layer& l = add(s, LayerKind::softmax, {of.a.layer});
    l.mh = of.n;
    l.vectors = of.a.v.elements / of.n;
    l.table = x.exps;
    l.table.resize(static_cast<std::size_t>(std::max<std::int64_t>(2, of.a.v.hi - of.a.v.lo + 1)), 0);
    l.fraction_bits = x.bits;
    l.out = of.a.v;
    l.out.channels = of.n;
    set_range(l.out, 0, (std::int64_t(1) << x.bits) - 1);
    done(s, l);
  }

  void normalize(const ir::Step& s, const ir::IntNormalize& x) {
    const Along of = along(s, x.axis);
    Layer& l = add(s, LayerKind::normalize, {of.a.layer});
    l.mh = of.n;
    l.vectors = of.a.v.elements / of.n;
    l.table = x.roots;
    l.fraction_bits = x.bits;
    l.root_bits = x.root_bits;
    l.epsilon = x.epsilon;
    l.out = of.a.v;
    l.out.channels = of.n;
    set_range(l.out, static_cast<std::int64_t>(buffer(s.out).lo), static_cast<std::int64_t>(buffer(s.out).hi));
    done(s, l);
  }

  void finish() {
    for (const ir::Port& o : p_.outputs) {
      if (!buffer(o.buffer).integer || tail_[idx(o.buffer)]) continue;
      if (at_[idx(o.buffer)].layer == -2)
        throw Error(Exit::no, fmt::format("output '{}' is a constant: nothing to build", o.name));
      results_.emplace_back(o.buffer, o.name);
    }
    if (g_.input_buffer < 0)
      throw Error(Exit::no, "the model has no quantised input: hardware works on integer codes")
          .fix("quantise the input (--input-format uint8/255), then build");
    int b = -1;
    for (const auto& [r, name] : results_) {
      if (b >= 0 && r != b)
        throw Error(Exit::no, fmt::format("the streaming hardware has one output, the model has two: '{}' and '{}'",
                                          buffer(b).name, buffer(r).name));
      b = r;
    }
    if (b < 0) throw Error(Exit::no, "no output of the model is computed in integers: nothing to build");
    if (at_[idx(b)].layer < 0) throw Error(Exit::no, "the output is the quantised input: nothing to build");
    g_.output_buffer = b;
    g_.output_layer = at_[idx(b)].layer;
    g_.output = at_[idx(b)].v;
    g_.output_shape = frame_of(buffer(b).shape);
    for (const ir::Port& o : p_.outputs)
      if (g_.output_port.empty()) g_.output_port = o.name;
    prune();
  }

  // Layers that do not lead to the output.
  void prune() {
    std::vector<bool> used(g_.layers.size());
    used[idx(g_.output_layer)] = true;
    for (int i = g_.output_layer; i >= 0; --i)
      if (used[idx(i)])
        for (int j : g_.layers[idx(i)].in)
          if (j >= 0) used[idx(j)] = true;
    std::vector<int> now(g_.layers.size(), -1);
    std::vector<Layer> kept;
    for (std::size_t i = 0; i < g_.layers.size(); ++i) {
      if (!used[i]) continue;
      now[i] = static_cast<int>(kept.size());
      kept.push_back(std::move(g_.layers[i]));
      for (int& j : kept.back().in)
        if (j >= 0) j = now[idx(j)];
    }
    g_.layers = std::move(kept);
    g_.output_layer = now[idx(g_.output_layer)];
  }
};

}  // namespace

std::string_view to_string(LayerKind k) {
  switch (k) {
    case LayerKind::dense: return "dense";
    case LayerKind::depthwise: return "depthwise";
    case LayerKind::pool: return "pool";
    case LayerKind::requant: return "requant";
    case LayerKind::affine: return "affine";
    case LayerKind::add: return "add";
    case LayerKind::argmax: return "argmax";
    case LayerKind::product: return "product";
    case LayerKind::concat: return "concat";
    case LayerKind::reorder: return "reorder";
    case LayerKind::select: return "select";
    case LayerKind::insert: return "insert";
    case LayerKind::repeat: return "repeat";
    case LayerKind::topk: return "topk";
    case LayerKind::softmax: return "softmax";
    case LayerKind::normalize: return "normalize";
  }
  return "?";
}

std::int64_t most_pe(const Layer& l) { return l.mh / l.groups; }
std::int64_t most_simd(const Layer& l) {
  return l.kind != LayerKind::dense ? 1 : l.window ? l.window->c / l.groups : l.mw;
}

std::string identifier(std::string_view name) {
  std::string r;
  for (char c : name) {
    const bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (ok) r += c;
    else if (!r.empty() && r.back() != '_') r += '_';
  }
  while (!r.empty() && r.back() == '_') r.pop_back();
  if (r.empty()) return "x";
  if (r[0] >= '0' && r[0] <= '9') r.insert(0, "n");
  return r;
}

std::vector<std::int64_t> to_stream(const Values& v, const Int128* frame) {
  std::vector<std::int64_t> r(static_cast<std::size_t>(v.elements));
  for (std::size_t j = 0; j < r.size(); ++j) r[j] = static_cast<std::int64_t>(frame[v.order[j]]);
  return r;
}
std::vector<std::int64_t> from_stream(const Values& v, const std::vector<std::int64_t>& stream) {
  std::vector<std::int64_t> r(stream.size());
  for (std::size_t j = 0; j < r.size(); ++j) r[static_cast<std::size_t>(v.order[j])] = stream[j];
  return r;
}

namespace {
// Once more where the input should stream in another order.
template <class F>
StageGraph built(const ir::ExactProgram& p, F run) {
  std::optional<InputOrder> input;
  Orders orders;
  for (;;) try {
      StageGraph g;
      Builder b(p, g, input, orders);
      run(b, g);
      return g;
    } catch (InputOrder& o) {
      input = std::move(o);
    }
}
}  // namespace

StageGraph stages_from(const ir::ExactProgram& p, std::string_view name) {
  return built(p, [&](Builder& b, StageGraph& g) {
    g.name = identifier(name);
    b.run();
  });
}

std::vector<ir::Refusal> refusals(const ir::ExactProgram& p, StageGraph* partial) {
  std::vector<ir::Refusal> r;
  StageGraph g = built(p, [&](Builder& b, StageGraph&) {
    r.clear();
    b.run(r);
  });
  if (partial) *partial = std::move(g);
  return r;
}

}  // namespace tandem::plan
