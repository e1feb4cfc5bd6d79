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

void Emitter::multiply() {
  const Layer& l = layer();
  const bool dw = s_.kind == StageKind::depthwise;
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
  if (depth > 1) {
    counter("addr", depth, "fire");
    memory("", words, width, "w1", "en", "addr");
  } else {
    line("wire {} w1 = {}'h{};", range(width), width, words[0].hex());
  }
  // flags that travel beside the data: valid, first and last of a vector, TLAST
  int t = 0;
  for (I n = simd; n > 1; n = (n + 1) / 2) ++t;
  const int stages = 2 + t;  // x1, product, tree levels
  const bool folded = sf > 1;
  line("reg {} x1;", range(s_.lanes_in * xb));
  line("always @(posedge clk) if (en) x1 <= s_tdata;");
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
  std::vector<std::string> sums;
  for (I p = 0; p < pe; ++p) {
    std::vector<std::string> terms;
    for (I i = 0; i < simd; ++i) {
      const I xl = dw ? p : i, wl = p * simd + i;
      const std::string id = fmt::format("{}_{}", p, i);
      std::string xw = lane("x1", xl, xb, s_.lanes_in), ww = lane("w1", wl, wb, pe * simd);
      line("wire {} a_{} = {};", range(xb), id, xw);
      line("wire {} b_{} = {};", range(wb), id, ww);
      line("wire signed {} ae_{} = {};", range(pb), id, extend("a_" + id, xb, s_.signed_in, pb));
      line("reg signed {} p_{};", range(pb), id);
      if (s_.bipolar) {  // +1 is stored as 1, -1 as 0
        line("always @(posedge clk) if (en) p_{0} <= b_{0} ? ae_{0} : -ae_{0};", id);
      } else {
        line("wire signed {} be_{} = {};", range(pb), id, extend("b_" + id, wb, true, pb));
        line("always @(posedge clk) if (en) p_{0} <= ae_{0} * be_{0};", id);
      }
      terms.push_back("p_" + id);
    }
    int bits = pb;
    for (int level = 1; terms.size() > 1; ++level) {
      const int next = std::min(bits + 1, acc);
      std::vector<std::string> up;
      for (std::size_t i = 0; i < terms.size(); i += 2) {
        const std::string id = fmt::format("t{}_{}_{}", level, p, i / 2);
        line("reg signed {} {};", range(next), id);
        if (i + 1 < terms.size())
          line("always @(posedge clk) if (en) {} <= {} + {};", id, extend(terms[i], bits, true, next), extend(terms[i + 1], bits, true, next));
        else
          line("always @(posedge clk) if (en) {} <= {};", id, extend(terms[i], bits, true, next));
        up.push_back(id);
      }
      terms = std::move(up);
      bits = next;
    }
    const std::string sum = extend(terms[0], bits, true, acc);
    line("reg signed {} acc_{};", range(acc), p);
    if (folded)
      line("always @(posedge clk) if (en & v[{0}]) acc_{1} <= (first[{0}] ? {2} : acc_{1}) + {3};", stages - 1, p, num(acc, 0), sum);
    else
      line("always @(posedge clk) if (en & v[{}]) acc_{} <= {};", stages - 1, p, sum);
    sums.push_back(fmt::format("acc_{}", p));
  }
  line("always @(posedge clk) if (~rst_n) out_v <= 1'b0; else if (en) out_v <= v[{}]{};", stages - 1,
       folded ? fmt::format(" & last[{}]", stages - 1) : "");
  line("assign m_tvalid = out_v;");
  std::string all;
  for (std::size_t i = sums.size(); i-- > 0;) all += sums[i] + (i ? ", " : "");
  line("assign m_tdata = {{{}}};", all);
  if (s_.last_out) {
    line("reg frame_q;");
    line("always @(posedge clk) if (en) frame_q <= frame[{}];", stages - 1);
    line("assign m_tlast = frame_q;");
  }
}

}  // namespace tandem::rtl
