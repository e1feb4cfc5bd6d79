#include "tandem/rtl/emit.h"

#include <algorithm>

namespace tandem::rtl {

void Emitter::affine() {
  const Layer& l = layer();
  const bool two = s_.kind == StageKind::add;
  const int n = two ? 2 : 1;
  const plan::Values* in[2] = {&g_.values_of(l.in[0]), two ? &g_.values_of(l.in[1]) : nullptr};
  if (two) f_.set("IH1", s_.lanes_in * in[1]->bits - 1);
  auto at = [](const std::vector<I>& t, I c) { return t[t.size() == 1 ? 0 : static_cast<std::size_t>(c)]; };
  // width: the range of every partial sum, and the clamps that can bind
  I period = static_cast<I>(std::max({l.c.size(), l.clamp_lo.size(), l.clamp_hi.size(), l.k[0].size(), two ? l.k[1].size() : 0}));
  Int128 lo = -1, hi = 1;
  std::vector<std::array<I, 2>> clamps;
  for (I c = 0; c < period; ++c) {
    Int128 a = 0, b = 0;
    for (int i = 0; i < n; ++i) {
      const Int128 k = at(l.k[static_cast<std::size_t>(i)], c);
      a += std::min(k * in[i]->lo, k * in[i]->hi);
      b += std::max(k * in[i]->lo, k * in[i]->hi);
      lo = std::min({lo, a, std::min(k * in[i]->lo, k * in[i]->hi), k, Int128(in[i]->lo)});
      hi = std::max({hi, b, std::max(k * in[i]->lo, k * in[i]->hi), k, Int128(in[i]->hi)});
    }
    a += at(l.c, c);
    b += at(l.c, c);
    lo = std::min({lo, a, Int128(at(l.c, c))});
    hi = std::max({hi, b, Int128(at(l.c, c))});
    I cl = static_cast<I>(a), ch = static_cast<I>(b);  // clamps outside the range do not bind
    if (!l.clamp_lo.empty()) cl = std::max(cl, at(l.clamp_lo, c));
    ch = std::max(ch, cl);  // the lower clamp may lift everything
    if (!l.clamp_hi.empty()) ch = std::min(ch, at(l.clamp_hi, c));
    clamps.push_back({cl, ch});
    lo = std::min({lo, Int128(cl), Int128(ch)});
    hi = std::max({hi, Int128(cl), Int128(ch)});
  }
  const int w = std::max(signed_bits(lo, hi), s_.bits_out + (s_.signed_out ? 0 : 1));
  const bool low = !l.clamp_lo.empty(), high = !l.clamp_hi.empty();
  const I g = period == 1 ? 1 : period / s_.lanes_in;
  head(two ? "sum of two streams, factors, offset, clamp" : "factor, offset, clamp", two);
  const std::string valid = two ? "s0_tvalid & s1_tvalid" : "s_tvalid";
  line("reg [3:0] v;");
  line("wire en = ~v[3] | m_tready;");
  line("wire fire = {} & en;", valid);
  if (two) {
    line("assign s0_tready = fire;");
    line("assign s1_tready = fire;");
  } else {
    line("assign s_tready = en;");
  }
  line("always @(posedge clk) if (~rst_n) v <= 4'd0; else if (en) v <= {{v[2:0], fire}};");
  line("assign m_tvalid = v[3];");
  if (g > 1) counter("part", g, "fire");
  if (s_.last_out) {
    line("reg [3:0] frame;");
    line("always @(posedge clk) if (en) frame <= {{frame[2:0], {}}};", two ? "s0_tlast" : "s_tlast");
    line("assign m_tlast = frame[3];");
  }
  std::string all;
  for (I i = 0; i < s_.lanes_in; ++i) {
    // constants of the beat: {hi, lo, c, k1, k0}
    const int fields = n + 3;
    std::vector<Word> words;
    for (I p = 0; p < g; ++p) {
      const I c = period == 1 ? 0 : p * s_.lanes_in + i;
      words.emplace_back();
      for (int j = 0; j < n; ++j) words.back().add(at(l.k[static_cast<std::size_t>(j)], c), w);
      words.back().add(at(l.c, c), w);
      words.back().add(clamps[static_cast<std::size_t>(c)][0], w);
      words.back().add(clamps[static_cast<std::size_t>(c)][1], w);
    }
    const std::string id = std::to_string(i);
    if (g > 1) memory("_" + id, words, fields * w, "q_" + id, "en", "part");
    else line("wire {} q_{} = {}'h{};", range(fields * w), id, fields * w, words[0].hex());
    auto field = [&](int j) { return fmt::format("q_{}[{}:{}]", id, (j + 1) * w - 1, j * w); };
    for (int j = 0; j < n; ++j) {
      const int xb = in[j]->bits;
      line("reg {} x{}_{};", range(xb), j, id);
      line("always @(posedge clk) if (en) x{}_{} <= {};", j, id, lane(two ? fmt::format("s{}_tdata", j) : "s_tdata", i, xb, s_.lanes_in));
      line("wire signed {} xe{}_{} = {};", range(w), j, id, extend(fmt::format("x{}_{}", j, id), xb, in[j]->is_signed, w));
      line("wire signed {} k{}_{} = {};", range(w), j, id, field(j));
      line("reg signed {} p{}_{};", range(w), j, id);
      line("always @(posedge clk) if (en) p{0}_{1} <= xe{0}_{1} * k{0}_{1};", j, id);
    }
    line("reg signed {} c_{};", range(w), id);
    line("always @(posedge clk) if (en) c_{} <= {};", id, field(n));
    if (two) {
      line("wire signed {} both_{} = p0_{} + p1_{};", range(w), id, id, id);
    } else {
      line("wire signed {} both_{} = p0_{};", range(w), id, id);
    }
    line("reg signed {} sum_{};", range(w), id);
    line("always @(posedge clk) if (en) sum_{0} <= both_{0} + c_{0};", id);
    for (int j = 0; j < 2; ++j) {  // clamps travel with the beat
      const bool used = j ? high : low;
      const std::string_view name = j ? "hi" : "lo";
      if (!used) {
        line("wire {}_{}_unused = &{};", name, id, field(n + 1 + j));
        continue;
      }
      line("reg signed {} {}a_{}, {}b_{};", range(w), name, id, name, id);
      line("always @(posedge clk) if (en) begin {0}a_{1} <= {2}; {0}b_{1} <= {0}a_{1}; end", name, id, field(n + 1 + j));
    }
    std::string r = "sum_" + id;
    if (low) {
      line("wire signed {} up_{} = {} < lob_{} ? lob_{} : {};", range(w), id, r, id, id, r);
      r = "up_" + id;
    }
    if (high) {
      line("wire signed {} down_{} = {} > hib_{} ? hib_{} : {};", range(w), id, r, id, id, r);
      r = "down_" + id;
    }
    line("reg {} out_{};", range(s_.bits_out), id);
    line("always @(posedge clk) if (en) out_{} <= {}{};", id, r, w > s_.bits_out ? fmt::format("[{}:0]", s_.bits_out - 1) : "");
    if (w > s_.bits_out) line("wire out_{}_unused = &{}[{}:{}];", id, r, w - 1, s_.bits_out);
    all = fmt::format("out_{}", i) + (i ? ", " : "") + all;
  }
  line("assign m_tdata = {{{}}};", all);
}

void Emitter::product() {
  const Layer& l = layer();
  const plan::Values* in[2] = {&g_.values_of(l.in[0]), &g_.values_of(l.in[1])};
  f_.set("IH1", s_.lanes_in * in[1]->bits - 1);
  const int w = std::max({s_.bits_out, in[0]->bits, in[1]->bits});
  head("product of two streams", true);
  line("reg [2:0] v;");
  line("wire en = ~v[2] | m_tready;");
  line("wire fire = s0_tvalid & s1_tvalid & en;");
  line("assign s0_tready = fire;");
  line("assign s1_tready = fire;");
  line("always @(posedge clk) if (~rst_n) v <= 3'd0; else if (en) v <= {{v[1:0], fire}};");
  line("assign m_tvalid = v[2];");
  if (s_.last_out) {
    line("reg [2:0] frame;");
    line("always @(posedge clk) if (en) frame <= {{frame[1:0], s0_tlast}};");
    line("assign m_tlast = frame[2];");
  }
  std::string all;
  for (I i = 0; i < s_.lanes_in; ++i) {
    for (int j = 0; j < 2; ++j) {
      const int b = in[j]->bits;
      line("reg {} x{}_{};", range(b), j, i);
      line("always @(posedge clk) if (en) x{}_{} <= {};", j, i, lane(fmt::format("s{}_tdata", j), i, b, s_.lanes_in));
      line("wire signed {} xe{}_{} = {};", range(w), j, i, extend(fmt::format("x{}_{}", j, i), b, in[j]->is_signed, w));
    }
    line("reg signed {} p_{};", range(w), i);
    line("always @(posedge clk) if (en) p_{0} <= xe0_{0} * xe1_{0};", i);
    line("reg {} out_{};", range(s_.bits_out), i);
    line("always @(posedge clk) if (en) out_{} <= p_{}{};", i, i, w > s_.bits_out ? fmt::format("[{}:0]", s_.bits_out - 1) : "");
    if (w > s_.bits_out) line("wire p_{}_unused = &p_{}[{}:{}];", i, i, w - 1, s_.bits_out);
    all = fmt::format("out_{}", i) + (i ? ", " : "") + all;
  }
  line("assign m_tdata = {{{}}};", all);
}

void Emitter::argmax() {
  const Layer& l = layer();
  const int b = counter_bits(s_.mh), ob = s_.bits_out;
  head(fmt::format("place of the largest of {} values", s_.mh));
  line("reg out_v;");
  line("wire en = ~out_v | m_tready;");
  line("wire fire = s_tvalid & en;");
  line("assign s_tready = en;");
  counter("place", s_.mh, "fire");
  if (s_.mh == 1) line("wire [0:0] place = 1'b0;");
  line("wire {}{} x = s_tdata;", s_.signed_in ? "signed " : "", range(s_.bits_in));
  line("reg {}{} best;", s_.signed_in ? "signed " : "", range(s_.bits_in));
  line("reg {} best_at;", range(b));
  line("wire better = (place == {}) | (x {} best);", num(b, 0), l.argmax_last ? ">=" : ">");
  line("always @(posedge clk) if (fire & better) begin best <= x; best_at <= place; end");
  line("always @(posedge clk) if (~rst_n) out_v <= 1'b0; else if (en) out_v <= fire & place_end;");
  line("assign m_tvalid = out_v;");
  line("assign m_tdata = {};", extend("best_at", b, false, ob));
  last_register("fire");
}

// A sorted list by insertion: what a value beats moves down one place.
void Emitter::topk() {
  const Layer& l = layer();
  const int b = counter_bits(s_.mh), ob = s_.bits_out;
  const std::string_view sign = s_.signed_in ? "signed " : "";
  head(fmt::format("{}the {} {} of {} values", l.places ? "places of " : "", l.kept, l.largest ? "largest" : "smallest", s_.mh));
  line("reg out_v;");
  line("wire en = ~out_v | m_tready;");
  line("wire fire = s_tvalid & en;");
  line("assign s_tready = en;");
  counter("place", s_.mh, "fire");
  if (s_.mh == 1) line("wire [0:0] place = 1'b0;");
  line("wire {}{} x = s_tdata;", sign, range(s_.bits_in));
  std::string all;
  for (I j = 0; j < l.kept; ++j) {
    line("reg {}{} best_{};", sign, range(s_.bits_in), j);
    // Empty until enough of the vector has come.
    if (j + 1 < s_.mh) line("wire better_{} = (place <= {}) | (x {} best_{});", j, num(b, j), l.largest ? ">" : "<", j);
    else line("wire better_{} = 1'b1;", j);
    const std::string from = j ? fmt::format("better_{0} ? best_{0} : ", j - 1) : "", at = j ? fmt::format("better_{0} ? at_{0} : ", j - 1) : "";
    line("always @(posedge clk) if (fire & better_{0}) best_{0} <= {1}x;", j, from);
    if (l.places) {
      line("reg {} at_{};", range(b), j);
      line("always @(posedge clk) if (fire & better_{0}) at_{0} <= {1}place;", j, at);
    }
    all = (l.places ? extend(fmt::format("at_{}", j), b, false, ob) : fmt::format("best_{}", j)) + (j ? ", " : "") + all;
  }
  if (l.places && l.kept == s_.mh) line("wire best_{0}_unused = &best_{0};", l.kept - 1);
  line("always @(posedge clk) if (~rst_n) out_v <= 1'b0; else if (en) out_v <= fire & place_end;");
  line("assign m_tvalid = out_v;");
  line("assign m_tdata = {{{}}};", all);
  last_register("fire");
}

}  // namespace tandem::rtl
