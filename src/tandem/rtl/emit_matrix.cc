#include "tandem/rtl/emit.h"

#include <algorithm>

namespace tandem::rtl {

void Emitter::replay() {
  const I sf = s_.mw / s_.simd, nf = s_.mh / s_.pe;
  const int a = counter_bits(2 * sf);
  head(fmt::format("holds two vectors of {} beats and sends each {} times", sf, nf));
  f_.set("AH", a - 1).set("ZERO", num(a, 0)).set("SF", num(a, sf)).set("ONE", num(a, 1)).set("DH", 2 * sf - 1);
  f_.set("RAM", std::string(block(2 * sf, s_.lanes_in * s_.bits_in, plan::Memory::writable)));
  put(R"(  @RAM@reg [@IH@:0] mem [0:@DH@];
  reg [@IH@:0] out_q;
  reg [1:0] held;
  reg out_v;
  wire put = s_tvalid & s_tready;
  wire en = ~out_v | m_tready;
  wire step = en & (held != 2'd0);
  assign s_tready = held != 2'd2;
  assign m_tvalid = out_v;
  assign m_tdata = out_q;
)");
  counter("wr", 2 * sf, "put");
  counter("in", sf, "put");
  counter("part", sf, "step");
  counter("rep", nf, "step & part_end");
  if (s_.last_out) counter("vector", s_.vectors, "step & part_end & rep_end");
  put(R"(  reg [@AH@:0] rd;
  reg half;
  wire vector_in = put & in_end;
  wire vector_out = step & part_end & rep_end;
  always @(posedge clk) begin
    if (put) mem[wr] <= s_tdata;
    if (step) out_q <= mem[rd];
  end
  always @(posedge clk) begin
    if (~rst_n) begin
      rd <= @ZERO@;
      half <= 1'b0;
      held <= 2'd0;
      out_v <= 1'b0;
    end else begin
      if (en) out_v <= held != 2'd0;
      if (vector_in & ~vector_out) held <= held + 2'd1;
      else if (vector_out & ~vector_in) held <= held - 2'd1;
      if (vector_out) half <= ~half;
      if (step) begin
        if (part_end) rd <= (half ^ rep_end) ? @SF@ : @ZERO@;
        else rd <= rd + @ONE@;
      end
    end
  end
)");
  if (s_.last_out) put("  reg last;\n  always @(posedge clk) if (step) last <= part_end & rep_end & vector_end;\n  assign m_tlast = last;\n");
}

std::string Emitter::bits_of(const Term& t, int from, int width) {
  if (from >= t.bits) return t.is_signed ? fmt::format("{{{}{{{}[{}]}}}}", width, t.name, t.bits - 1) : num(width, 0);
  const int end = std::min(t.bits, from + width), more = from + width - end;
  const std::string slice = from == 0 && end == t.bits ? t.name : end == from + 1 ? fmt::format("{}[{}]", t.name, from) : fmt::format("{}[{}:{}]", t.name, end - 1, from);
  if (more == 0) return slice;
  return t.is_signed ? fmt::format("{{{{{}{{{}[{}]}}}}, {}}}", more, t.name, t.bits - 1, slice) : fmt::format("{{{}, {}}}", num(more, 0), slice);
}

// a_ID: the input, b_ID: the weight.
Emitter::Term Emitter::product_plain(const std::string& id, int pb) {
  line("wire signed {} ae_{} = {};", range(pb), id, extend("a_" + id, s_.bits_in, s_.signed_in, pb));
  line("reg signed {} p_{};", range(pb), id);
  if (s_.bipolar) {  // +1 is stored as 1, -1 as 0
    line("always @(posedge clk) if (en) p_{0} <= b_{0} ? ae_{0} : -ae_{0};", id);
  } else {
    line("wire signed {} be_{} = {};", range(pb), id, extend("b_" + id, s_.weight_bits, true, pb));
    line("always @(posedge clk) if (en) p_{0} <= ae_{0} * be_{0};", id);
  }
  return {"p_" + id, pb, true};
}

// What the weights' bits select, once per lane of the input: x1_L, its negative and its threefold, no wider than is read.
void Emitter::multiples(const std::string& lane_name) {
  const int xb = s_.bits_in, wb = s_.weight_bits, acc = s_.bits_out;
  const Term x{"x_" + lane_name, xb, s_.signed_in};
  line("reg {} x1_{};", range(xb), lane_name);
  const int minus = std::min(xb + 1, acc - (wb - 2));
  line("reg {} xm_{};", range(minus), lane_name);
  std::string also;
  if (wb > 3) {
    const int three = std::min(xb + 2, acc - wb % 2);
    line("reg {} xt_{};", range(three), lane_name);
    also = fmt::format(" xt_{} <= {{{} + {}, {}[0]}};", lane_name, bits_of(x, 1, three - 1), bits_of(x, 0, three - 1), xb > 1 ? x.name : "{" + x.name + "}");
  }
  line("always @(posedge clk) if (en) begin x1_{0} <= {1}; xm_{0} <= -{2};{3} end", lane_name, x.name, bits_of(x, 0, minus), also);
}

// Radix 4: the top pair of weight bits counts -2 and 1, every other pair 2 and 1, a single lowest bit 1.
Emitter::Term Emitter::product_logic(const std::string& id, const std::string& lane_name) {
  const int xb = s_.bits_in, wb = s_.weight_bits, acc = s_.bits_out;
  const Term x{"x1_" + lane_name, xb, s_.signed_in}, minus{"xm_" + lane_name, std::min(xb + 1, acc - (wb - 2)), true},
      three{"xt_" + lane_name, std::min(xb + 2, acc - wb % 2), s_.signed_in};
  struct Part {
    Term t;
    int shift;
    Int128 lo, hi;
  };
  const Int128 lo = s_.signed_in ? -(Int128(1) << (xb - 1)) : 0, hi = (Int128(1) << (s_.signed_in ? xb - 1 : xb)) - 1;
  std::vector<Part> parts;
  for (int at = wb % 2 ? -1 : 0; at < wb; at += 2) {  // -1: the single bit 0
    const int shift = std::max(at, 0);
    const bool top = at + 2 == wb;
    Part p{{fmt::format("q{}_{}", shift, id), 0, true}, shift, 0, 0};
    if (at < 0) p.lo = lo, p.hi = hi;
    else if (top) p.lo = std::min(-2 * hi, lo), p.hi = std::max(-2 * lo, hi);
    else p.lo = 3 * lo, p.hi = 3 * hi;
    p.t.is_signed = p.lo < 0;
    p.t.bits = std::min(signed_bits(p.lo, p.hi), acc - shift);
    const int n = p.t.bits;
    auto twice = [&](const Term& t) { return n == 1 ? num(1, 0) : fmt::format("{{{}, 1'b0}}", bits_of(t, 0, n - 1)); };
    line("reg {} {};", range(n), p.t.name);
    if (at < 0)
      line("always @(posedge clk) if (en) {} <= b_{}[0] ? {} : {};", p.t.name, id, bits_of(x, 0, n), num(n, 0));
    else
      line("always @(posedge clk) if (en) {} <= b_{}[{}] ? (b_{}[{}] ? {} : {}) : (b_{}[{}] ? {} : {});", p.t.name, id, at + 1, id, at,
           top ? bits_of(minus, 0, n) : bits_of(three, 0, n), top ? twice(minus) : twice(x), id, at, bits_of(x, 0, n), num(n, 0));
    parts.push_back(std::move(p));
  }
  for (int level = 1; parts.size() > 1; ++level) {
    std::vector<Part> up;
    for (std::size_t i = 0; i < parts.size(); i += 2) {
      Part p = parts[i];
      p.t.name = fmt::format("r{}_{}_{}", level, p.shift, id);
      if (i + 1 == parts.size()) {
        line("reg {} {};", range(p.t.bits), p.t.name);
        line("always @(posedge clk) if (en) {} <= {};", p.t.name, parts[i].t.name);
      } else {
        const Part& b = parts[i + 1];
        const int d = b.shift - p.shift;
        p.lo += b.lo * (Int128(1) << d);
        p.hi += b.hi * (Int128(1) << d);
        p.t.is_signed = p.lo < 0;
        p.t.bits = std::min(signed_bits(p.lo, p.hi), acc - p.shift);
        line("reg {} {};", range(p.t.bits), p.t.name);
        line("always @(posedge clk) if (en) {} <= {{{} + {}, {}}};", p.t.name, bits_of(parts[i].t, d, p.t.bits - d), bits_of(b.t, 0, p.t.bits - d), bits_of(parts[i].t, 0, d));
      }
      up.push_back(std::move(p));
    }
    parts = std::move(up);
  }
  return parts[0].t;
}

// One level of a tree of registered sums of two.
std::vector<Emitter::Term> Emitter::add_pairs(const std::vector<Term>& terms, const std::string& id, int bits) {
  std::vector<Term> up;
  for (std::size_t i = 0; i < terms.size(); i += 2) {
    const std::string name = fmt::format("{}_{}", id, i / 2);
    line("reg signed {} {};", range(bits), name);
    if (i + 1 < terms.size()) line("always @(posedge clk) if (en) {} <= {} + {};", name, bits_of(terms[i], 0, bits), bits_of(terms[i + 1], 0, bits));
    else line("always @(posedge clk) if (en) {} <= {};", name, bits_of(terms[i], 0, bits));
    up.push_back({name, bits, true});
  }
  return up;
}

// Several rows per multiplier: W = w0 + w1 2^f + ..., so that W x holds the products side by side, each less one where what
// is below is negative. Sums of products stay packed while a field has room, then every field gets its one back.
void Emitter::packed_rows(std::vector<std::vector<Term>>& rows, int tree_levels) {
  const int wb = s_.weight_bits, xb = s_.bits_in, acc = s_.bits_out;
  const int field = plan::packed_field(family_, s_.per_dsp, xb, wb), together = std::min(tree_levels, field - xb - wb);
  for (I i = 0; i < s_.simd; ++i) {
    line("reg {} x2_{};", range(xb), i);
    line("always @(posedge clk) if (en) x2_{} <= {};", i, lane("x1", i, xb, s_.lanes_in));
  }
  for (I from = 0; from < s_.pe; from += s_.per_dsp) {
    const int n = static_cast<int>(std::min<I>(s_.per_dsp, s_.pe - from)), width = (n - 1) * field + wb + xb;
    std::vector<Term> sums;
    for (I i = 0; i < s_.simd; ++i) {
      const std::string id = fmt::format("{}_{}", from, i);
      std::string packed, below;
      for (int k = 0; k < n; ++k) {
        const std::string w = fmt::format("b_{}_{}", from + k, i);
        Term v{w, wb, true};
        if (k > 0) {
          v = {fmt::format("v{}_{}", k, id), wb + 1, true};
          line("wire {} {} = {} - {};", range(wb + 1), v.name, bits_of({w, wb, true}, 0, wb + 1), extend("{" + below + "}", 1, false, wb + 1));
        }
        packed = bits_of(v, 0, k + 1 < n ? field : v.bits) + (k ? ", " + packed : "");
        below = fmt::format("{}[{}]", v.name, v.bits - 1);
      }
      const int bits = (n - 1) * field + wb + (n > 1);
      line("reg {} w_{};", range(bits), id);
      line("always @(posedge clk) if (en) w_{} <= {{{}}};", id, packed);
      line("wire signed {} we_{} = {};", range(width), id, bits_of({"w_" + id, bits, true}, 0, width));
      line("wire signed {} xe_{} = {};", range(width), id, bits_of({fmt::format("x2_{}", i), xb, s_.signed_in}, 0, width));
      line("reg signed {} p_{};", range(width), id);
      line("always @(posedge clk) if (en) p_{0} <= we_{0} * xe_{0};", id);
      sums.push_back({"p_" + id, width, true});
    }
    for (int level = 1; level <= together; ++level) sums = add_pairs(sums, fmt::format("g{}_{}", level, from), width + level);
    const int holds = xb + wb + together, take = std::min(holds, acc);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      std::vector<bool> read(static_cast<std::size_t>(sums[i].bits));
      for (int k = 0; k < n; ++k) {
        const std::string name = fmt::format("f{}_{}", from + k, i);
        line("reg signed {} {};", range(take), name);
        const int at = k * field;
        for (int j = at - (k > 0); j < at + take; ++j) read[static_cast<std::size_t>(j)] = true;
        const Term& t = sums[i];
        if (k == 0) line("always @(posedge clk) if (en) {} <= {};", name, bits_of(t, at, take));
        else line("always @(posedge clk) if (en) {} <= {} + {};", name, bits_of(t, at, take), extend(fmt::format("{{{}[{}]}}", sums[i].name, at - 1), 1, false, take));
        rows[static_cast<std::size_t>(from + k)].push_back({name, take, true});
      }
      std::string rest;
      for (std::size_t a = 0; a < read.size();) {
        std::size_t b = a;
        while (b < read.size() && read[b] == read[a]) ++b;
        if (!read[a]) rest += fmt::format("{}{}[{}:{}]", rest.empty() ? "" : ", ", sums[i].name, b - 1, a);
        a = b;
      }
      if (!rest.empty()) line("wire {}_unused = &{{{}}};", sums[i].name, rest);
    }
  }
}

void Emitter::multiply() {
  const Layer& l = layer();
  const bool dw = s_.kind == StageKind::depthwise || s_.kind == StageKind::depthwise_logic;
  const bool logic = s_.kind == StageKind::mvau_logic || s_.kind == StageKind::depthwise_logic, packed = s_.kind == StageKind::mvau_packed;
  const I pe = dw ? s_.lanes_in : s_.pe, simd = dw ? 1 : s_.simd;
  const I sf = dw ? s_.mw : s_.mw / s_.simd, nf = s_.mh / pe, depth = sf * nf;
  const int wb = s_.weight_bits, xb = s_.bits_in, xs = xb + (s_.signed_in ? 0 : 1), acc = s_.bits_out;
  const int pb = std::min(xs + wb, acc), width = static_cast<int>(pe * simd) * wb;
  head(dw ? fmt::format("depthwise: {} channels, {} taps, {} at once", s_.mh, s_.mw, pe)
          : fmt::format("matrix-vector unit: {} x {}, PE {}, SIMD {}", s_.mh, s_.mw, pe, simd));
  auto stored = [&](I w) { return s_.bipolar ? I(w > 0) : w; };
  // weights: word (nf, sf) holds PE rows of SIMD columns, row 0 and column 0 in the low bits
  std::vector<Word> words(static_cast<std::size_t>(depth));
  for (I n = 0; n < nf; ++n)
    for (I f = 0; f < sf; ++f)
      for (I p = 0; p < pe; ++p)
        for (I i = 0; i < simd; ++i)
          words[static_cast<std::size_t>(n * sf + f)].add(stored(l.weights[static_cast<std::size_t>((n * pe + p) * s_.mw + f * simd + i)]), wb);
  line("reg out_v;");
  line("wire en = ~out_v | m_tready;");
  line("wire fire = s_tvalid & en;");
  line("assign s_tready = en;");
  counter("fold", sf, "fire");
  if (depth > 1) counter("addr", depth, "fire");
  if (s_.writable) {
    config();
    writable("", words, width, "w1", "en", "addr", "cfg_store", "cfg_index");
    for (I i = 0; i < depth; ++i) writes(i, words[static_cast<std::size_t>(i)]);
    m_.window = {.what = "weights", .entries = depth, .width = width, .order = fmt::format("entry i holds outputs {0} (i / {1}) and up, inputs {2} (i % {1}) and up as they stream{5}: {0} times {2} weights of {3} bits, the first in the low bits{4}",
                                                                                     pe, sf, simd, wb, s_.bipolar ? "; 1 for +1, 0 for -1" : "", l.window ? dw ? " (rows, columns of the kernel)" : " (rows, columns of the kernel, channels)" : "")};
  } else if (depth > 1) {
    memory("", words, width, "w1", "en", "addr");
  } else {
    line("wire {} w1 = {}'h{};", range(width), width, words[0].hex());
  }
  // flags that travel beside the data: valid, first and last of a vector, TLAST
  int t = 0;
  for (I n = simd; n > 1; n = (n + 1) / 2) ++t;
  // x1, product, tree levels; what selects and adds multiples; what packs and unpacks
  const int stages = 2 + t + (logic ? plan::logic_levels(wb) : 0) + (packed ? 2 : 0);
  const bool folded = sf > 1;
  if (!logic) {
    line("reg {} x1;", range(s_.lanes_in * xb));
    line("always @(posedge clk) if (en) x1 <= s_tdata;");
  }
  line("reg {} v;", range(stages));
  line("always @(posedge clk) if (~rst_n) v <= {}; else if (en) v <= {{v[{}:0], fire}};", num(stages, 0), stages - 2);
  if (folded) {
    line("wire fold_begin = fold == {};", num(counter_bits(sf), 0));
    line("reg {} first, last;", range(stages));
    line("always @(posedge clk) if (en) begin first <= {{first[{0}:0], fold_begin}}; last <= {{last[{0}:0], fold_end}}; end", stages - 2);
  }
  if (s_.last_in) {
    line("reg {} frame;", range(stages));
    line("always @(posedge clk) if (en) frame <= {{frame[{}:0], s_tlast}};", stages - 2);
  }
  for (I i = 0; logic && i < s_.lanes_in; ++i) {
    line("wire {} x_{} = {};", range(xb), i, lane("s_tdata", i, xb, s_.lanes_in));
    multiples(std::to_string(i));
  }
  std::vector<std::vector<Term>> rows(static_cast<std::size_t>(pe));
  for (I p = 0; p < pe; ++p)
    for (I i = 0; i < simd; ++i) {
      const I xl = dw ? p : i;
      const std::string id = fmt::format("{}_{}", p, i);
      if (!logic && !packed) line("wire {} a_{} = {};", range(xb), id, lane("x1", xl, xb, s_.lanes_in));
      line("wire {} b_{} = {};", range(wb), id, lane("w1", p * simd + i, wb, pe * simd));
      if (!packed) rows[static_cast<std::size_t>(p)].push_back(logic ? product_logic(id, std::to_string(xl)) : product_plain(id, pb));
    }
  if (packed) packed_rows(rows, t);
  std::string all;
  for (I p = 0; p < pe; ++p) {
    std::vector<Term> terms = std::move(rows[static_cast<std::size_t>(p)]);
    int bits = terms[0].bits;
    for (int level = 1; terms.size() > 1; ++level) {
      bits = std::min(bits + 1, acc);
      terms = add_pairs(terms, fmt::format("t{}_{}", level, p), bits);
    }
    const std::string sum = bits_of(terms[0], 0, acc);
    line("reg signed {} acc_{};", range(acc), p);
    if (folded)
      line("always @(posedge clk) if (en & v[{0}]) acc_{1} <= (first[{0}] ? {2} : acc_{1}) + {3};", stages - 1, p, num(acc, 0), sum);
    else
      line("always @(posedge clk) if (en & v[{}]) acc_{} <= {};", stages - 1, p, sum);
    all = fmt::format("acc_{}", p) + (p ? ", " : "") + all;
  }
  line("always @(posedge clk) if (~rst_n) out_v <= 1'b0; else if (en) out_v <= v[{}]{};", stages - 1,
       folded ? fmt::format(" & last[{}]", stages - 1) : "");
  line("assign m_tvalid = out_v;");
  line("assign m_tdata = {{{}}};", all);
  if (s_.last_out) {
    line("reg frame_q;");
    line("always @(posedge clk) if (en) frame_q <= frame[{}];", stages - 1);
    line("assign m_tlast = frame_q;");
  }
}

// A constant matrix: sums of shifted inputs, one register level after the other.
void Emitter::constants() {
  const ShiftAdd& sums = plan::constant_sums(layer(), s_.bits_in, s_.signed_in);
  const int depth = s_.sum_depth, acc = s_.bits_out;
  head(fmt::format("constant matrix: {} x {}, {} sums in {} levels", s_.mh, s_.mw, sums.adders(), sums.depth));
  line("reg {} v;", range(depth));
  line("wire en = ~v[{}] | m_tready;", depth - 1);
  line("assign s_tready = en;");
  auto flags = [&](std::string_view name, std::string_view in, bool reset) {
    line("always @(posedge clk) {}if (en) {} <= {};", reset ? fmt::format("if (~rst_n) {} <= {}; else ", name, num(depth, 0)) : "", name,
         depth > 1 ? fmt::format("{{{}[{}:0], {}}}", name, depth - 2, in) : std::string(in));
  };
  flags("v", "s_tvalid", true);
  line("assign m_tvalid = v[{}];", depth - 1);
  if (s_.last_in) {
    line("reg {} frame;", range(depth));
    flags("frame", "s_tlast", false);
  }
  if (s_.last_out) line("assign m_tlast = frame[{}];", depth - 1);
  std::vector<int> read(sums.nodes.size(), 0);  // bits of an input that something reads
  for (const ShiftAdd::Output& o : sums.outputs)
    if (o.node >= 0) read[static_cast<std::size_t>(o.node)] = sums.nodes[static_cast<std::size_t>(o.node)].bits;
  for (const ShiftAdd::Node& n : sums.nodes)
    for (int operand : {n.a, n.b})
      if (operand >= 0) read[static_cast<std::size_t>(operand)] = sums.nodes[static_cast<std::size_t>(operand)].bits;
  std::string rest;
  auto term = [&](int node, int stage) {
    const ShiftAdd::Node& n = sums.nodes[static_cast<std::size_t>(node)];
    const int wait = stage - n.stage;
    return Term{(node < sums.inputs ? fmt::format("x{}", node) : fmt::format("n{}", node)) + (wait ? fmt::format("_{}", wait) : ""), n.bits, n.is_signed};
  };
  for (std::size_t i = 0; i < sums.nodes.size(); ++i) {
    const ShiftAdd::Node& n = sums.nodes[i];
    const int id = static_cast<int>(i), w = n.bits;
    const std::string name = term(id, n.stage).name;
    if (id < sums.inputs) {
      const std::string x = lane("s_tdata", id, s_.bits_in, s_.lanes_in);
      const I at = id * s_.bits_in;
      if (read[i] > 0) line("wire {} {} = {};", range(w), name, w == s_.bits_in ? x : fmt::format("s_tdata[{}:{}]", at + w - 1, at));
      if (read[i] < s_.bits_in) rest += fmt::format("{}s_tdata[{}:{}]", rest.empty() ? "" : ", ", at + s_.bits_in - 1, at + read[i]);
    } else {
      Term a = term(n.a, n.stage - 1);
      line("reg {} {};", range(w), name);
      std::string sum;
      if (n.b < 0) {
        sum = "-" + bits_of(a, 0, w);
      } else {
        Term b = term(n.b, n.stage - 1);
        bool minus_a = n.minus_a, minus_b = n.minus_b;
        int shift = n.shift_b;
        if (n.shift_a > 0) {  // b is the unshifted one
          std::swap(a, b);
          std::swap(minus_a, minus_b);
          shift = n.shift_a;
        }
        const int pass = minus_a ? 0 : std::min(w, shift), up = w - pass;
        // a, from bit `pass` up; b, moved up by what did not pass
        const std::string x = up ? bits_of(a, pass, up) : "";
        std::string y;
        if (up && pass == shift) y = bits_of(b, 0, up);
        else if (up) y = up > shift ? fmt::format("{{{}, {}}}", bits_of(b, 0, up - shift), num(shift, 0)) : num(up, 0);
        if (up) sum = minus_a ? y + " - " + x : x + (minus_b ? " - " : " + ") + y;
        if (pass) sum = up ? fmt::format("{{{}, {}}}", sum, bits_of(a, 0, pass)) : bits_of(a, 0, pass);
      }
      line("always @(posedge clk) if (en) {} <= {};", name, sum);
    }
    for (int k = 1; k <= n.held; ++k) {
      line("reg {} {};", range(w), term(id, n.stage + k).name);
      line("always @(posedge clk) if (en) {} <= {};", term(id, n.stage + k).name, term(id, n.stage + k - 1).name);
    }
  }
  if (!rest.empty()) line("wire input_unused = &{{{}}};", rest);
  std::string all;
  for (std::size_t o = 0; o < sums.outputs.size(); ++o) {
    const auto [node, shift] = sums.outputs[o];
    std::string y = num(acc, 0);
    if (node >= 0) {
      y = bits_of(term(node, sums.depth), 0, acc - shift);
      if (shift) y = fmt::format("{{{}, {}}}", y, num(shift, 0));
      if (sums.depth == 0) {  // a matrix without sums
        line("reg {} y{};", range(acc), o);
        line("always @(posedge clk) if (en) y{} <= {};", o, y);
        y = fmt::format("y{}", o);
      }
    }
    all = y + (o ? ", " : "") + all;
  }
  line("assign m_tdata = {{{}}};", all);
}

}  // namespace tandem::rtl
