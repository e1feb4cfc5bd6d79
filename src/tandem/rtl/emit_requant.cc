#include "tandem/rtl/emit.h"

#include <algorithm>

namespace tandem::rtl {

Emitter::Table Emitter::table_of(I channel) const {
  const Layer& l = layer();
  const ir::Thresholds& t = l.tables[l.tables.size() == 1 ? 0 : static_cast<std::size_t>(channel)];
  const I never = g_.values_of(l.in[0]).hi + 1;
  Table r;
  r.flip = t.flip;
  r.step.assign(std::size_t(1) << l.level_bits, never);
  r.step[0] = 0;
  const std::size_t n = t.t.size();
  for (std::size_t c = 1; c <= n; ++c)
    r.step[c] = static_cast<I>(t.flip ? 1 - t.t[n - c] : t.t[c - 1]);
  return r;
}

bool Emitter::any_flip() const {
  const Layer& l = layer();
  return std::any_of(l.tables.begin(), l.tables.end(), [](const ir::Thresholds& t) { return t.flip; });
}

// The value of a level from its code (and its flip bit).
void Emitter::level(const std::string& code, const std::string& flip, const std::string& out) {
  const Layer& l = layer();
  const int b = l.level_bits, ob = s_.bits_out;
  const I n = static_cast<I>(l.levels.size());
  std::string c = code;
  if (!flip.empty()) {
    line("wire {} {}_up = {} ? {} - {} : {};", range(b), out, flip, num(b, n - 1), code, code);
    c = out + "_up";
  }
  bool consecutive = true;
  for (I i = 1; i < n; ++i) consecutive = consecutive && l.levels[static_cast<std::size_t>(i)] == l.levels[0] + i;
  if (n == 1) {
    line("wire {} {} = {};", range(ob), out, num(ob, l.levels[0]));
    line("wire {}_unused = &{};", out, c);
  } else if (consecutive && l.levels[0] == 0) {
    line("wire {} {} = {};", range(ob), out, extend(c, b, false, ob));
  } else if (consecutive) {
    line("wire {} {} = {} + {};", range(ob), out, extend(c, b, false, ob), num(ob, l.levels[0]));
  } else if (n == 2) {
    line("wire {} {} = {} ? {} : {};", range(ob), out, c, num(ob, l.levels[1]), num(ob, l.levels[0]));
  } else {
    line("reg {} {};", range(ob), out);
    line("always @* case ({})", c);
    for (I i = 0; i + 1 < n; ++i) line("  {}: {} = {};", num(b, i), out, num(ob, l.levels[static_cast<std::size_t>(i)]));
    line("  default: {} = {};", out, num(ob, l.levels.back()));
    line("endcase");
  }
}

I Emitter::step_index(I lane, I part, I code) const {
  const I g = s_.tables == 1 ? 1 : s_.tables / s_.lanes_in;
  return ((lane << (g > 1 ? counter_bits(g) : 0)) + part) << s_.level_bits | code;
}
// The index of a step: lane, channel of the lane, code that it leads into.
void Emitter::steps() {
  config();
  const I g = s_.tables == 1 ? 1 : s_.tables / s_.lanes_in;
  const int b = s_.level_bits, gb = g > 1 ? counter_bits(g) : 0, lb = s_.lanes_in > 1 ? counter_bits(s_.lanes_in) : 0;
  line("wire {} cfg_step = cfg_index[{}:0];", range(b), b - 1);
  if (gb) line("wire {} cfg_part = cfg_index[{}:{}];", range(gb), b + gb - 1, b);
  if (lb) line("wire {} cfg_lane = cfg_index[{}:{}];", range(lb), b + gb + lb - 1, b + gb);
  m_.window = {.what = "thresholds", .entries = I(1) << (b + gb + lb), .width = entries().width,
               .order = fmt::format("entry {}code holds the least value of that code or above, signed, {} bits{}; codes from 1, those that do not occur hold a value that is never reached",
                                    s_.tables == 1 ? lb ? fmt::format("lane * {} + ", I(1) << (b + gb)) : "" : fmt::format("(channel % {}) * {} + channel / {} * {} + ", s_.lanes_in, I(1) << (b + gb), s_.lanes_in, I(1) << b), s_.entry_bits,
                                    any_flip() ? "; the bit above it is 1 where codes count downwards" : "")};
}
Emitter::Place Emitter::step_place(I i) const { return {s_.lanes_in > 1 ? fmt::format("cfg_store & (cfg_lane == {})", num(counter_bits(s_.lanes_in), i)) : "cfg_store", "cfg_part", "cfg_step"}; }

void Emitter::threshold_serial() {
  const Layer& l = layer();
  const int b = l.level_bits, xb = s_.bits_in, eb = l.entry_bits;
  const bool flip = any_flip();
  const I g = s_.tables == 1 ? 1 : s_.tables / s_.lanes_in;
  const int gb = counter_bits(g);
  head(fmt::format("thresholds: {} levels, {} tables, one step a cycle", l.levels.size(), s_.tables));
  if (s_.writable) steps();
  line("reg out_v, busy;");
  line("reg {} mark;  // the bit of the code being decided", range(b));
  line("wire take = s_tvalid & s_tready;");
  line("wire finish = busy & mark[0] & (~out_v | m_tready);");
  line("assign s_tready = ~busy | finish;");
  line("wire read = take{};", b > 1 ? " | (busy & ~mark[0])" : "");
  if (g > 1) {
    counter("part", g, "take");
    line("reg {} part_q;", range(gb));
    line("always @(posedge clk) if (take) part_q <= part;");
    if (b > 1) line("wire {} row = take ? part : part_q;", range(gb));
    else line("wire {} row = part;", range(gb));
    if (b == 1) line("wire part_unused = &part_q;");
  }
  line("reg {} x;", range(s_.lanes_in * xb));
  line("always @(posedge clk) if (take) x <= s_tdata;");
  line("always @(posedge clk)");
  line("  if (~rst_n) begin");
  line("    busy <= 1'b0;");
  line("    out_v <= 1'b0;");
  line("  end else begin");
  line("    busy <= take | (busy & ~finish);");
  line("    out_v <= finish | (out_v & ~m_tready);");
  line("  end");
  if (b > 1) line("always @(posedge clk) if (take) mark <= {}; else if (busy & ~mark[0]) mark <= {{1'b0, mark[{}:1]}};", num(b, I(1) << (b - 1)), b - 1);
  else line("always @(posedge clk) mark <= 1'b1;");
  std::string all;
  for (I i = 0; i < s_.lanes_in; ++i) {
    std::vector<Word> words;
    for (I p = 0; p < g; ++p) {
      const Table t = table_of(p * s_.lanes_in + i);
      for (I v : t.step) {
        words.emplace_back();
        words.back().add(v, eb);
        if (flip) words.back().add(t.flip, 1);
      }
    }
    line("reg {} code_{};", range(b), i);
    line("wire {} found_{};", range(b), i);
    if (b > 1) line("wire {} next_{} = take ? {} : (found_{} | {{1'b0, mark[{}:1]}});", range(b), i, num(b, I(1) << (b - 1)), i, b - 1);
    else line("wire {} next_{} = 1'b1;", range(b), i);
    const std::string address = g > 1 ? fmt::format("{{row, next_{}}}", i) : fmt::format("next_{}", i);
    if (s_.writable) {
      const Place at = step_place(i);
      writable(fmt::format("_{}", i), words, eb + (flip ? 1 : 0), fmt::format("e_{}", i), "read", address, at.here, g > 1 ? fmt::format("{{{}, {}}}", at.part, at.step) : at.step);
      for (I p = 0; p < g; ++p)
        for (I c = 1; c < (I(1) << b); ++c) writes(step_index(i, p, c), words[static_cast<std::size_t>((p << b) + c)]);
    } else {
      memory(fmt::format("_{}", i), words, eb + (flip ? 1 : 0), fmt::format("e_{}", i), "read", address);
    }
    line("wire {} x_{} = {};", range(xb), i, lane("x", i, xb, s_.lanes_in));
    line("wire signed {} xe_{} = {};", range(eb), i, extend(fmt::format("x_{}", i), xb, s_.signed_in, eb));
    line("wire signed {} te_{} = e_{}[{}:0];", range(eb), i, i, eb - 1);
    line("wire above_{0} = xe_{0} >= te_{0};", i);
    line("assign found_{0} = code_{0} | (above_{0} ? mark : {1});", i, num(b, 0));
    line("always @(posedge clk) if (take) code_{0} <= {1}; else if (busy) code_{0} <= mark[0] ? code_{0} : found_{0};", i, num(b, 0));
    level(fmt::format("found_{}", i), flip ? fmt::format("e_{}[{}]", i, eb) : "", fmt::format("y_{}", i));
    line("reg {} out_{};", range(s_.bits_out), i);
    line("always @(posedge clk) if (finish) out_{0} <= y_{0};", i);
    all = fmt::format("out_{}", i) + (i ? ", " : "") + all;
  }
  line("assign m_tvalid = out_v;");
  line("assign m_tdata = {{{}}};", all);
  if (s_.last_out) {
    line("reg last_x, last_q;");
    line("always @(posedge clk) begin if (take) last_x <= s_tlast; if (finish) last_q <= last_x; end");
    line("assign m_tlast = last_q;");
  }
}

void Emitter::threshold_pipeline() {
  const Layer& l = layer();
  const int b = l.level_bits, xb = s_.bits_in, eb = l.entry_bits;
  const bool flip = any_flip();
  const I g = s_.tables == 1 ? 1 : s_.tables / s_.lanes_in;
  const int gb = counter_bits(g), word = eb + (flip ? 1 : 0);
  head(fmt::format("thresholds: {} levels, {} tables, one beat a cycle", l.levels.size(), s_.tables));
  if (s_.writable) steps();
  line("reg {} v;", range(b + 1));
  line("wire en = ~v[{}] | m_tready;", b);
  line("assign s_tready = en;");
  line("always @(posedge clk) if (~rst_n) v <= {}; else if (en) v <= {{v[{}:0], s_tvalid}};", num(b + 1, 0), b - 1);
  line("assign m_tvalid = v[{}];", b);
  if (g > 1) {
    counter("part", g, "s_tvalid & en");
    for (int j = 1; j < b; ++j) {
      line("reg {} part_{};", range(gb), j);
      line("always @(posedge clk) if (en) part_{} <= {};", j, j == 1 ? "part" : fmt::format("part_{}", j - 1));
    }
  }
  for (int j = 1; j <= b; ++j) {
    line("reg {} x{};", range(s_.lanes_in * xb), j);
    line("always @(posedge clk) if (en) x{} <= {};", j, j == 1 ? "s_tdata" : fmt::format("x{}", j - 1));
  }
  if (s_.last_out) {
    line("reg {} frame;", range(b + 1));
    line("always @(posedge clk) if (en) frame <= {{frame[{}:0], s_tlast}};", b - 1);
    line("assign m_tlast = frame[{}];", b);
  }
  std::string all;
  for (I i = 0; i < s_.lanes_in; ++i) {
    std::vector<Table> tables;
    for (I p = 0; p < g; ++p) tables.push_back(table_of(p * s_.lanes_in + i));
    std::string code;  // decided so far
    for (int j = 0; j < b; ++j) {
      std::vector<Word> words;
      for (const Table& t : tables)
        for (I top = 0; top < (I(1) << j); ++top) {
          words.emplace_back();
          words.back().add(t.step[static_cast<std::size_t>((2 * top + 1) << (b - 1 - j))], eb);
          if (flip) words.back().add(t.flip, 1);
        }
      const std::string e = fmt::format("e{}_{}", j, i);
      std::string address;
      if (g > 1) address = j == 0 ? "part" : fmt::format("part_{}", j);
      if (j > 0) address = address.empty() ? code : fmt::format("{{{}, {}}}", address, code);
      if (s_.writable) {
        // Level j decides bit b - 1 - j: it holds the steps into codes that end in a one there.
        const Place at = step_place(i);
        const int low = b - j;
        std::string to = j == 0 ? "" : low == b ? at.step : fmt::format("cfg_step[{}:{}]", b - 1, low);
        if (g > 1) to = to.empty() ? at.part : fmt::format("{{{}, {}}}", at.part, to);
        writable(fmt::format("_{}_{}", i, j), words, word, e, "en", address, fmt::format("{} & (cfg_step[{}:0] == {})", at.here, low - 1, num(low, I(1) << (low - 1))), to);
        for (I p = 0; p < g; ++p)
          for (I top = 0; top < (I(1) << j); ++top) writes(step_index(i, p, (2 * top + 1) << (low - 1)), words[static_cast<std::size_t>((p << j) + top)]);
      } else if (address.empty()) line("wire {} {} = {}'h{};", range(word), e, word, words[0].hex());
      else memory(fmt::format("_{}_{}", i, j), words, word, e, "en", address);
      line("wire {} xs{}_{} = {};", range(xb), j, i, lane(fmt::format("x{}", j + 1), i, xb, s_.lanes_in));
      line("wire signed {} xe{}_{} = {};", range(eb), j, i, extend(fmt::format("xs{}_{}", j, i), xb, s_.signed_in, eb));
      line("wire signed {} te{}_{} = {}[{}:0];", range(eb), j, i, e, eb - 1);
      line("wire above{0}_{1} = xe{0}_{1} >= te{0}_{1};", j, i);
      if (flip && j + 1 < b) line("wire flip{}_{}_unused = {}[{}];", j, i, e, eb);
      const std::string now = fmt::format("c{}_{}", j, i);
      if (j == 0) line("wire [0:0] {} = above{}_{};", now, j, i);
      else line("wire {} {} = {{{}_q, above{}_{}}};", range(j + 1), now, code, j, i);
      if (j + 1 < b) {
        line("reg {} {}_q;", range(j + 1), now);
        line("always @(posedge clk) if (en) {}_q <= {};", now, now);
      }
      code = now;
    }
    level(code, flip ? fmt::format("e{}_{}[{}]", b - 1, i, eb) : "", fmt::format("y_{}", i));
    line("reg {} out_{};", range(s_.bits_out), i);
    line("always @(posedge clk) if (en) out_{0} <= y_{0};", i);
    all = fmt::format("out_{}", i) + (i ? ", " : "") + all;
  }
  line("assign m_tdata = {{{}}};", all);
}

// Factor and offset of each channel of lane i: {offset, factor}, in a memory read under `enable` or, for
// a single group, constant.
void Emitter::factors(I i, I g, std::string_view enable) {
  const auto& r = *layer().rescale;
  std::vector<Word> words;
  for (I p = 0; p < g; ++p) {
    const std::size_t c = r.factor.size() == 1 ? 0 : static_cast<std::size_t>(p * s_.lanes_in + i);
    words.emplace_back();
    words.back().add(r.factor[c], r.factor_bits);
    words.back().add(r.offset[c], r.offset_bits);
  }
  const int width = r.factor_bits + r.offset_bits;
  if (g > 1) memory(fmt::format("_{}", i), words, width, fmt::format("q_{}", i), enable, "part");
  else line("wire {} q_{} = {}'h{};", range(width), i, width, words[0].hex());
}

// Level index of sum v_i, and the value of that level, as wire y_i.
void Emitter::level_of_sum(I i) {
  const Layer& l = layer();
  const auto& r = *l.rescale;
  const int sb = r.sum_bits, ib = sb - r.shift, b = l.level_bits;
  const I top = static_cast<I>(l.levels.size()) - 1;
  std::string index = fmt::format("i_{}", i);
  line("wire signed {} {} = v_{}[{}:{}];", range(ib), index, i, sb - 1, r.shift);
  if (r.ties) {  // exactly on a step that belongs to the code below
    const std::string low = r.shift > 0 ? fmt::format(" & ~(|v_{}[{}:0])", i, r.shift - 1) : "";
    line("wire tie_{} = {}{}[0]{};", i, r.tie_parity ? "~" : "", index, low);
    line("wire signed {} j_{} = {} - {};", range(ib), i, index, extend(fmt::format("tie_{}", i), 1, false, ib));
    index = fmt::format("j_{}", i);
  } else if (r.shift > 0) {
    line("wire low_{0}_unused = &v_{0}[{1}:0];", i, r.shift - 1);
  }
  line("wire {} code_{} = {}[{}] ? {} : ({} > {}) ? {} : {}[{}:0];", range(b), i, index, ib - 1, num(b, 0), index, signed_num(ib, top), num(b, top), index, b - 1);
  level(fmt::format("code_{}", i), "", fmt::format("y_{}", i));
}

void Emitter::rescale_pipeline() {
  const auto& r = *layer().rescale;
  const int xb = s_.bits_in, fb = r.factor_bits, ob = r.offset_bits, sb = r.sum_bits;
  const I g = s_.tables == 1 ? 1 : s_.tables / s_.lanes_in;
  head(fmt::format("requantiser as arithmetic: {} levels, {} factors, one beat a cycle", s_.levels, s_.tables));
  line("reg [3:0] v;");
  line("wire en = ~v[3] | m_tready;");
  line("wire fire = s_tvalid & en;");
  line("assign s_tready = en;");
  line("always @(posedge clk) if (~rst_n) v <= 4'd0; else if (en) v <= {{v[2:0], fire}};");
  line("assign m_tvalid = v[3];");
  if (g > 1) counter("part", g, "fire");
  if (s_.last_out) {
    line("reg [3:0] frame;");
    line("always @(posedge clk) if (en) frame <= {{frame[2:0], s_tlast}};");
    line("assign m_tlast = frame[3];");
  }
  std::string all;
  for (I i = 0; i < s_.lanes_in; ++i) {
    factors(i, g, "en");
    line("reg {} x_{};", range(xb), i);
    line("always @(posedge clk) if (en) x_{} <= {};", i, lane("s_tdata", i, xb, s_.lanes_in));
    line("wire signed {} xe_{} = {};", range(sb), i, extend(fmt::format("x_{}", i), xb, s_.signed_in, sb));
    line("wire {} f_{} = q_{}[{}:0];", range(fb), i, i, fb - 1);
    line("wire signed {} fe_{} = {};", range(sb), i, extend(fmt::format("f_{}", i), fb, true, sb));
    line("wire {} o_{} = q_{}[{}:{}];", range(ob), i, i, fb + ob - 1, fb);
    line("reg signed {} p_{}, oq_{}, v_{};", range(sb), i, i, i);
    line("always @(posedge clk) if (en) begin");
    line("  p_{0} <= xe_{0} * fe_{0};", i);
    line("  oq_{} <= {};", i, extend(fmt::format("o_{}", i), ob, true, sb));
    line("  v_{0} <= p_{0} + oq_{0};", i);
    line("end");
    level_of_sum(i);
    line("reg {} out_{};", range(s_.bits_out), i);
    line("always @(posedge clk) if (en) out_{0} <= y_{0};", i);
    all = fmt::format("out_{}", i) + (i ? ", " : "") + all;
  }
  line("assign m_tdata = {{{}}};", all);
}

// One bit of the factor a cycle, lowest first: what is decided leaves the adder downwards. The factor's top
// bit is its sign and subtracts; then the offset, then the level.
void Emitter::rescale_serial() {
  const auto& r = *layer().rescale;
  const int xb = s_.bits_in, fb = r.factor_bits, ob = r.offset_bits, sb = r.sum_bits;
  const int ab = xb + (s_.signed_in ? 0 : 1) + 1;  // of the adder: twice the largest |x|
  const I g = s_.tables == 1 ? 1 : s_.tables / s_.lanes_in;
  head(fmt::format("requantiser as arithmetic: {} levels, {} factors, one bit a cycle", s_.levels, s_.tables));
  line("reg out_v;");
  line("reg {} mark;  // the step: bits of the factor, the offset, the level", range(fb + 2));
  line("wire take = s_tvalid & s_tready;");
  line("wire finish = mark[{}] & (~out_v | m_tready);", fb + 1);
  line("wire idle = mark == {};", num(fb + 2, 0));
  line("assign s_tready = idle | finish;");
  if (g > 1) counter("part", g, "take");
  line("always @(posedge clk)");
  line("  if (~rst_n) begin");
  line("    mark <= {};", num(fb + 2, 0));
  line("    out_v <= 1'b0;");
  line("  end else begin");
  line("    if (take) mark <= {};", num(fb + 2, 1));
  line("    else if (finish) mark <= {};", num(fb + 2, 0));
  line("    else if (~mark[{0}]) mark <= {{mark[{1}:0], 1'b0}};", fb + 1, fb);
  line("    out_v <= finish | (out_v & ~m_tready);");
  line("  end");
  line("wire step = |mark[{}:0];", fb - 1);
  std::string all;
  for (I i = 0; i < s_.lanes_in; ++i) {
    factors(i, g, "take");
    line("reg {} x_{};", range(xb), i);
    line("always @(posedge clk) if (take) x_{} <= {};", i, lane("s_tdata", i, xb, s_.lanes_in));
    line("wire signed {} xe_{} = {};", range(ab), i, extend(fmt::format("x_{}", i), xb, s_.signed_in, ab));
    line("wire bit_{0} = |(q_{0}[{1}:0] & mark[{1}:0]);", i, fb - 1);
    line("wire signed {} part_{} = bit_{} ? (mark[{}] ? ~xe_{} : xe_{}) : {};", range(ab), i, i, fb - 1, i, i, num(ab, 0));
    line("reg signed {} top_{};", range(ab), i);
    line("wire signed {0} sum_{1} = top_{1} + part_{1} + {2};", range(ab), i, extend(fmt::format("(bit_{} & mark[{}])", i, fb - 1), 1, false, ab));
    // After the sign bit the sum stays where it is: everything below it has left already.
    line("always @(posedge clk) if (take) top_{0} <= {1}; else if (step) top_{0} <= mark[{2}] ? sum_{0} : {{sum_{0}[{3}], sum_{0}[{3}:1]}};", i, num(ab, 0), fb - 1, ab - 1);
    std::string product = fmt::format("top_{}", i);
    int pb = ab;
    if (fb > 1) {
      line("reg {} low_{};", range(fb - 1), i);
      line("always @(posedge clk) if (step & ~mark[{1}]) low_{0} <= {2};", i, fb - 1,
           fb > 2 ? fmt::format("{{sum_{0}[0], low_{0}[{1}:1]}}", i, fb - 2) : fmt::format("sum_{}[0]", i));
      line("wire {} product_{} = {{top_{}, low_{}}};", range(ab + fb - 1), i, i, i);
      product = fmt::format("product_{}", i);
      pb = ab + fb - 1;
    }
    line("wire {} o_{} = q_{}[{}:{}];", range(ob), i, i, fb + ob - 1, fb);
    line("reg signed {} v_{};", range(sb), i);
    const std::string p = pb > sb ? fmt::format("{}[{}:0]", product, sb - 1) : extend(product, pb, true, sb);
    line("always @(posedge clk) if (mark[{}]) v_{} <= {} + {};", fb, i, p, extend(fmt::format("o_{}", i), ob, true, sb));
    if (pb > sb) line("wire top_{0}_unused = &{1}[{2}:{3}];", i, product, pb - 1, sb);
    level_of_sum(i);
    line("reg {} out_{};", range(s_.bits_out), i);
    line("always @(posedge clk) if (finish) out_{0} <= y_{0};", i);
    all = fmt::format("out_{}", i) + (i ? ", " : "") + all;
  }
  line("assign m_tvalid = out_v;");
  line("assign m_tdata = {{{}}};", all);
  if (s_.last_out) {
    line("reg last_x, last_q;");
    line("always @(posedge clk) begin if (take) last_x <= s_tlast; if (finish) last_q <= last_x; end");
    line("assign m_tlast = last_q;");
  }
}

}  // namespace tandem::rtl
