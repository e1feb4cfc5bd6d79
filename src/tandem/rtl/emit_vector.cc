#include "tandem/rtl/emit.h"

namespace tandem::rtl {

// A vector is held while its elements are looked up twice: for the sum of their exponentials, and for the results. One multiplier,
// bit by bit or at once, computes the reciprocal of the sum and then the results (ir/ops/by_table.h says what).
void Emitter::softmax() {
  const Layer& l = layer();
  const I n = s_.mh, m = plan::vector_product(s_);
  const int xb = s_.bits_in, ob = s_.bits_out, pb = counter_bits(n), ab = s_.table_bits;
  const I sum_end = n + 2, cycles = std::max({sum_end + 1, m + 5, I(11)});
  const int cb = counter_bits(cycles);
  head(fmt::format("softmax of {} values, {} bits", n, l.fraction_bits));
  line("reg [4:0] state;  // loads, sums, normalises the sum, computes its reciprocal, sends");
  line("reg {} c;", range(cb));
  line("reg [2:0] round;");
  line("reg out_v;");
  line("wire take = s_tvalid & state[0];");
  line("assign s_tready = state[0];");
  line("wire load = c == {};", num(cb, 2));
  line("wire multiplied = c == {};", num(cb, m + 3));
  line("wire end_product = c == {};", num(cb, m + 4));
  line("wire finish = state[4] & end_product & (~out_v | m_tready);");
  counter("place", n, "take");
  counter("sent", n, "finish");
  line("wire summed = state[1] & (c == {});", num(cb, sum_end));
  line("wire normal = state[2] & (c == {});", num(cb, 10));
  line("wire newton = state[3] & end_product;");
  f_.set("CZERO", num(cb, 0)).set("CONE", num(cb, 1)).set("CTWO", num(cb, 2)).set("XH", xb - 1).set("NH", n - 1).set("OB", ob - 1);
  f_.set("RAM", std::string(block(n, xb, plan::Memory::writable)));
  put(R"(  always @(posedge clk)
    if (~rst_n) begin
      state <= 5'd1;
      out_v <= 1'b0;
    end else begin
      if (take & place_end) state <= 5'd2;
      if (summed) state <= 5'd4;
      if (normal) state <= 5'd8;
      if (newton & (round == 3'd6)) state <= 5'd16;
      if (finish & sent_end) state <= 5'd1;
      out_v <= finish | (out_v & ~m_tready);
    end
  always @(posedge clk)
    if (state[0] | summed | finish | (newton & (round == 3'd6))) c <= @CZERO@;
    else if (normal | newton) c <= @CTWO@;
    else if (~(state[4] & end_product)) c <= c + @CONE@;
  always @(posedge clk) if (state[2]) round <= 3'd0; else if (newton) round <= round + 3'd1;
)");
  const std::string_view sign = s_.signed_in ? "signed " : "";
  line("wire {}{} x = s_tdata;", sign, range(xb));
  line("reg {}{} most;", sign, range(xb));
  line("always @(posedge clk) if (take & ({}(x > most))) most <= x;", n > 1 ? fmt::format("(place == {}) | ", num(pb, 0)) : "1'b1 | ");
  put("  @RAM@reg [@XH@:0] mem [0:@NH@];\n  reg [@XH@:0] x_q;\n");
  line("always @(posedge clk) if (take) mem[{}] <= s_tdata;", n > 1 ? "place" : "1'b0");
  if (n > 1) line("wire {} rd = state[4] ? sent : c[{}:0];", range(pb), pb - 1);
  line("always @(posedge clk) x_q <= mem[{}];", n > 1 ? "rd" : "1'b0");
  line("wire {} below = most - x_q;", range(xb));
  if (ab < xb) line("wire below_unused = &below[{}:{}];", xb - 1, ab);
  std::vector<Word> words;
  for (std::int32_t e : l.table) {
    words.emplace_back();
    words.back().add(e, 31);
  }
  memory("_exp", words, 31, "p", "1'b1", ab < xb ? fmt::format("below[{}:0]", ab - 1) : "below");
  put(R"(  reg [19:0] part;
  always @(posedge clk) part <= {1'b0, p[30:12]} + {19'd0, p[11]};
  reg [30:0] sum;  // of the exponentials, 19 fraction bits; then normalised to a half or more
  reg [3:0] right;
)");
  line("wire counted = state[1] & (c >= {});", num(cb, 3));
  put(R"(  always @(posedge clk)
    if (state[0]) begin
      sum <= 31'd0;
      right <= 4'd11;
    end else if (counted) begin
      sum <= sum + {11'd0, part};
    end else if (state[2] & ~sum[30]) begin
      sum <= {sum[29:0], 1'b0};
      right <= right - 4'd1;
    end
  reg signed [31:0] a, z, rest;
  reg [30:0] b;
  reg signed [32:0] acc, high;
  wire [30:0] inverse = z[30] ? 31'h7fffffff : {z[29:0], 1'b0};
)");
  if (s_.serial) {
    put("  wire signed [32:0] next = acc + (b[0] ? {a[31], a} : 33'sd0);\n");
    f_.set("STEP", "acc <= {next[32], next[32:1]};\n      b <= {next[0], b[30:1]};");
  } else {
    put("  wire signed [63:0] next = {{32{a[31]}}, a} * {33'd0, b};\n");
    f_.set("STEP", "acc <= next[63:31];\n      b <= next[30:0];");
  }
  line("wire step = (c >= {}) & (c < {});", num(cb, 3), num(cb, m + 3));
  put(R"(  always @(posedge clk) begin
    if (load) begin
      acc <= 33'sd0;
      if (state[4]) begin
        a <= {1'b0, inverse};
        b <= p;
      end else if (round[0]) begin
        a <= z;
        b <= sum;
      end else if (round == 3'd0) begin
        a <= -32'sd1010580540;
        b <= sum;
      end else begin
        a <= rest;
        b <= z[30:0];
      end
    end else if (step) begin
      @STEP@
    end
    if (multiplied) high <= acc + {32'd0, b[30]};
    if (newton) begin
      if (round == 3'd0) z <= 32'sd1515870810 + high[31:0];
      else if (round[0]) rest <= 32'sd536870912 - high[31:0];
      else z <= z + {high[29:0], 2'b00};
    end
  end
  wire high_unused = &high[32:30];
  wire z_unused = z[31];
)");
  const int f = l.fraction_bits;
  line("wire {} top = high[30:{}];", range(f + 1), 30 - f);
  line("wire {} shifted = top >> right;", range(f + 1));
  line("wire {} rounded = {{1'b0, shifted}} + {};", range(f + 2), num(f + 2, 1));
  line("wire rounded_unused = rounded[0];");
  line("reg {} out_q;", range(ob));
  line("always @(posedge clk) if (finish) out_q <= rounded[{}] ? {{{}{{1'b1}}}} : rounded[{}:1];", f + 1, ob, f);
  line("assign m_tvalid = out_v;");
  line("assign m_tdata = out_q;");
  if (s_.last_out) {
    line("reg last_x, last_q;");
    line("always @(posedge clk) begin if (take) last_x <= s_tlast; if (finish) last_q <= last_x & sent_end; end");
    line("assign m_tlast = last_q;");
  }
}

// A vector is held while its sum and its sum of squares are made; then each element is scaled by a reciprocal root from a table.
void Emitter::normalize() {
  const Layer& l = layer();
  const plan::Values& in = g_.values_of(l.in[0]);
  const I n = s_.mh, m = plan::vector_product(s_);
  const int xb = s_.bits_in, xs = xb + (s_.signed_in ? 0 : 1), ob = s_.bits_out, pb = counter_bits(n), vw = s_.sum_bits, bw = s_.factor_bits, f = l.root_bits, below = f - l.fraction_bits - 1;
  const Int128 most = std::max<Int128>(in.hi, -Int128(in.lo)), reach = std::max<Int128>(1, n * (Int128(in.hi) - in.lo));
  const int sw = std::max(signed_bits(std::min<Int128>(-1, n * Int128(in.lo)), n * Int128(in.hi)), xs), ab = signed_bits(0, n * most), qb = signed_bits(0, n * most * most), dw = std::max(signed_bits(-reach, reach), sw);
  const int aw = std::max(ab + 1, dw), pw = aw + 1 + bw, steps = std::max(1, vw / 2 - 1), eb = counter_bits(vw / 2), cb = counter_bits(std::max<I>(m + 6, steps));
  head(fmt::format("normalises {} values to {} fraction bits", n, l.fraction_bits));
  line("reg [4:0] state;  // loads, sums, normalises the spread, looks up its root, sends");
  line("reg {} c;", range(cb));
  line("reg out_v;");
  line("wire take = s_tvalid & state[0];");
  line("assign s_tready = state[0];");
  line("wire load = c == {};", num(cb, 3));
  line("wire step = (c >= {}) & (c < {});", num(cb, 4), num(cb, m + 4));
  line("wire multiplied = c == {};", num(cb, m + 4));
  line("wire end_element = c == {};", num(cb, m + 5));
  line("wire finish = state[4] & end_element & (~out_v | m_tready);");
  counter("place", n, "take");
  counter("sent", n, "finish");
  line("wire spread = state[1] & multiplied;");
  line("wire normal = state[2] & (c == {});", num(cb, steps - 1));
  f_.set("CZERO", num(cb, 0)).set("CONE", num(cb, 1)).set("XH", xb - 1).set("NH", n - 1);
  f_.set("RAM", std::string(block(n, xb, plan::Memory::writable)));
  put(R"(  always @(posedge clk)
    if (~rst_n) begin
      state <= 5'd1;
      out_v <= 1'b0;
    end else begin
      if (take & place_end) state <= 5'd2;
      if (spread) state <= 5'd4;
      if (normal) state <= 5'd8;
      if (state[3]) state <= 5'd16;
      if (finish & sent_end) state <= 5'd1;
      out_v <= finish | (out_v & ~m_tready);
    end
  always @(posedge clk)
    if (state[0]) c <= @CONE@;
    else if (spread | normal | state[3] | finish) c <= @CZERO@;
    else if (~(state[4] & end_element)) c <= c + @CONE@;
  @RAM@reg [@XH@:0] mem [0:@NH@];
  reg [@XH@:0] x_q, x;
  reg [1:0] v, first;
)");
  line("always @(posedge clk) begin");
  line("  if (take) mem[{}] <= s_tdata;", n > 1 ? "place" : "1'b0");
  line("  x_q <= mem[{}];", n > 1 ? "sent" : "1'b0");
  line("end");
  line("wire begins = {};", n > 1 ? fmt::format("place == {}", num(pb, 0)) : "1'b1");
  line("always @(posedge clk) begin v <= {{v[0], take & rst_n}}; first <= {{first[0], begins}}; x <= s_tdata; end");
  line("wire signed {} xe = {};", range(xs), extend("x", xb, s_.signed_in, xs));
  line("reg signed {} square;", range(2 * xs));
  line("always @(posedge clk) square <= {0} * {0};", extend("xe", xs, true, 2 * xs));
  line("reg signed {} sum;", range(sw));
  line("always @(posedge clk) if (v[0]) sum <= (first[0] ? {} : sum) + {};", num(sw, 0), extend("xe", xs, true, sw));
  line("reg {} squares;", range(qb));
  line("wire {} more = {};", range(qb), 2 * xs > qb ? fmt::format("square[{}:0]", qb - 1) : extend("square", 2 * xs, false, qb));
  if (2 * xs > qb) line("wire square_unused = &square[{}:{}];", 2 * xs - 1, qb);
  line("always @(posedge clk) if (v[1]) squares <= (first[1] ? {} : squares) + more;", num(qb, 0));
  // |sum|, and n times the squares
  line("wire {} size = sum[{}] ? -sum : sum;", range(sw), sw - 1);
  line("reg {} size_q;", range(ab));
  line("always @(posedge clk) size_q <= {};", sw > ab ? fmt::format("size[{}:0]", ab - 1) : extend("size", sw, false, ab));
  if (sw > ab) line("wire size_unused = &size[{}:{}];", sw - 1, ab);
  line("wire {} whole = {};", range(vw), extend("squares", qb, false, vw));
  line("reg {} scaled, raised;", range(vw));
  line("always @(posedge clk) begin scaled <= whole * {}; raised <= scaled + {}; end", num(vw, n), num(vw, l.epsilon));
  line("reg signed {} a;", range(aw));
  line("reg {} b;", range(bw));
  line("reg signed {} acc;", range(aw + 1));
  if (s_.serial) {
    line("wire signed {} next = acc + (b[0] ? {{a[{}], a}} : {});", range(aw + 1), aw - 1, num(aw + 1, 0));
    f_.set("STEP", fmt::format("acc <= {{next[{0}], next[{0}:1]}};\n      b <= {{next[0], b[{1}:1]}};", aw, bw - 1));
  } else {
    line("wire signed {} next = {} * {{{}'d0, b}};", range(pw), extend("a", aw, true, pw), pw - bw);
    f_.set("STEP", fmt::format("acc <= next[{}:{}];\n      b <= next[{}:0];", pw - 1, bw, bw - 1));
  }
  line("reg signed {} scaled_x, offset_x;", range(dw));
  line("wire signed {} x_w = {};", range(dw), extend("x_q", xb, s_.signed_in, dw));
  line("always @(posedge clk) begin scaled_x <= x_w * {}; offset_x <= scaled_x - {}; end", num(dw, n), extend("sum", sw, true, dw));
  const std::string root_a = extend("offset_x", dw, true, aw), sum_a = extend("size_q", ab, false, aw), sum_b = extend("size_q", ab, false, bw), root_b = extend("root", f + 1, false, bw);
  f_.set("AROOT", root_a).set("ASUM", sum_a).set("BROOT", root_b).set("BSUM", sum_b).set("ACCZERO", num(aw + 1, 0));
  put(R"(  always @(posedge clk)
    if (load) begin
      acc <= @ACCZERO@;
      a <= state[4] ? @AROOT@ : @ASUM@;
      b <= state[4] ? @BROOT@ : @BSUM@;
    end else if (step) begin
      @STEP@
    end
)");
  line("wire {} product = {{acc, b}};", range(pw));
  line("wire {} taken = {};", range(vw), pw >= vw ? pw == vw ? "product" : fmt::format("product[{}:0]", vw - 1) : extend("product", pw, false, vw));
  line("reg {} spread_q;", range(vw));
  line("reg {} right;", range(eb));
  line("always @(posedge clk)");
  line("  if (state[1]) begin");
  line("    if (multiplied) spread_q <= raised - taken;");
  line("    right <= {};", num(eb, vw / 2 - 1));
  line("  end else if (state[2] & (spread_q[{}:{}] == 2'd0)) begin", vw - 1, vw - 2);
  line("    spread_q <= {{spread_q[{}:0], 2'd0}};", vw - 3);
  line("    right <= right - {};", num(eb, 1));
  line("  end");
  std::vector<Word> words;
  for (std::int32_t e : l.table) {
    words.emplace_back();
    words.back().add(e, f + 1);
  }
  const int tb = s_.table_bits;
  memory("_root", words, f + 1, "root", "state[3]", tb < vw ? fmt::format("spread_q[{}:{}]", vw - 1, vw - tb) : tb == vw ? "spread_q" : fmt::format("{{spread_q, {}}}", num(tb - vw, 0)));
  const int w = pw - below;
  line("wire signed {} moved = product[{}:{}];", range(w), pw - 1, below);
  if (below > 0) line("wire product_unused = &product[{}:0];", below - 1);
  line("wire signed {} shifted = moved >>> right;", range(w));
  line("reg {} near;", range(ob + 1));
  line("always @(posedge clk) if (multiplied) near <= {};", w > ob + 1 ? fmt::format("shifted[{}:0]", ob) : extend("shifted", w, true, ob + 1));
  if (w > ob + 1) line("wire shifted_unused = &shifted[{}:{}];", w - 1, ob + 1);
  line("wire {} rounded = near + {};", range(ob + 1), num(ob + 1, 1));
  line("wire rounded_unused = rounded[0];");
  line("reg {} out_q;", range(ob));
  line("always @(posedge clk) if (finish) out_q <= rounded[{}:1];", ob);
  line("assign m_tvalid = out_v;");
  line("assign m_tdata = out_q;");
  if (s_.last_out) {
    line("reg last_x, last_q;");
    line("always @(posedge clk) begin if (take) last_x <= s_tlast; if (finish) last_q <= last_x & sent_end; end");
    line("assign m_tlast = last_q;");
  }
}

}  // namespace tandem::rtl
