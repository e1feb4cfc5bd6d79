#include "tandem/proof/bench.h"

#include <algorithm>
#include <map>

#include "tandem/base/hash.h"
#include "tandem/tool/work.h"

namespace tandem::proof {
namespace {
using I = std::int64_t;

void put64(std::string& s, std::uint64_t v) {
  for (int i = 0; i < 8; ++i) s += static_cast<char>(v >> (8 * i));
}
std::uint64_t get64(const std::string& s, std::size_t& at) {
  std::uint64_t v = 0;
  for (int i = 0; i < 8; ++i) v |= static_cast<std::uint64_t>(static_cast<unsigned char>(s[at++])) << (8 * i);
  return v;
}

void pack(std::string& out, const rtl::StreamPort& p, const I* frame) {
  std::vector<std::uint64_t> w(static_cast<std::size_t>(words_of(p)));
  for (I b = 0; b < p.beats; ++b) {
    std::fill(w.begin(), w.end(), 0);
    for (I l = 0; l < p.lanes; ++l) {
      const std::uint64_t v = static_cast<std::uint64_t>(frame[b * p.lanes + l]) & (p.bits >= 64 ? ~0ull : (1ull << p.bits) - 1);
      const I at = l * p.bits;
      w[static_cast<std::size_t>(at / 64)] |= v << (at % 64);
      if (at % 64 + p.bits > 64) w[static_cast<std::size_t>(at / 64 + 1)] |= v >> (64 - at % 64);
    }
    for (std::uint64_t x : w) put64(out, x);
  }
}
// The fixed part of the bench. It knows nothing of networks: it moves words, with gaps and stalls from a
// generator of its own, watches the AXI4-Stream rules, and writes what came out to a file.
constexpr std::string_view kBench = R"cpp(#include "Vtop.h"
#include "verilated.h"
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {
using U = std::uint64_t;
U state;
U random_word() { state ^= state << 13; state ^= state >> 7; state ^= state << 17; return state * 0x2545F4914F6CDD1Dull; }
bool chance(U p32) { return (random_word() >> 32) < p32; }

template <class T> void drive(T& port, const U* w) { port = static_cast<T>(w[0]); }
template <std::size_t N> void drive(VlWide<N>& port, const U* w) {
  for (std::size_t i = 0; i < N; ++i) port[i] = static_cast<EData>(w[i / 2] >> (32 * (i % 2)));
}
template <class T> void sample(const T& port, U* w) { w[0] = port; }
template <std::size_t N> void sample(const VlWide<N>& port, U* w) {
  for (std::size_t i = 0; i < N; i += 2) w[i / 2] = port[i] | (i + 1 < N ? static_cast<U>(port[i + 1]) << 32 : 0);
}

struct Side { U beats, words, total; };
struct Tap {  // one stream inside: beats and their cycles; within a window every cycle
  U words = 1, limit = 0;  // limit: of beats
  std::vector<U> beats, cycles, watched;
};
struct Bench {
  Side in, out;
  std::vector<U> stimulus, got, ends, now, held;
  U sent = 0, received = 0, first_in = 0, first_out = 0, fault = 0;
  bool offered = false, was_stalled = false, tvalid = false, tready = false;
  // Now and then one side stands still until nothing moves any more: every buffer fills, or runs empty.
  bool block_out = false, block_in = false, blocked = false;
  U since = 0;           // the cycle of the last beat on the other side, or when it began
  std::vector<U> trace;  // per cycle: valid and ready of both sides, low words of both sides
  U trace_end = 0;       // the cycle after the last one in it
  std::vector<U> monitors;  // three bits a stream inside: TVALID fell, TDATA changed, TLAST at the wrong beat
  U monitor_cycle = ~0ull;  // of the first fault
  std::vector<Tap> taps;
  // Gates between the stages, held back a phase at a time: one at random cycles, one all the time, or all at random cycles.
  U gates = 0, gate = 0, phase_end = 0, phase = 0;
  std::vector<U> hold;
  bool done() const { return sent == in.total && received == out.total; }
};
U settle = 0, trace_cycles = 0, watch_from = 0, watch_cycles = 0;
// Around the first output: half before it, half after it.
template <class D, class E>
void record(Bench& b, bool s_ready, const D& s_data, bool m_valid, const E& m_data, U cycle) {
  const bool full = b.trace.size() >= 3 * trace_cycles;
  if (full && b.trace_end != cycle) return;
  if (!(b.received > 0) && b.trace.size() >= 3 * (trace_cycles / 2)) b.trace.erase(b.trace.begin(), b.trace.begin() + 3);
  else if (full) return;
  std::vector<U> in(b.in.words), out(b.out.words);
  sample(s_data, in.data());
  sample(m_data, out.data());
  b.trace.push_back(b.offered | s_ready << 1 | m_valid << 2 | b.tready << 3);
  b.trace.push_back(in[0]);
  b.trace.push_back(out[0]);
  b.trace_end = cycle + 1;
}
// A stream inside, and what its monitors say.
template <class D>
void tap(Tap& t, U words, const D& data, bool valid, bool ready, bool last, U cycle) {
  const bool watched = cycle >= watch_from && cycle - watch_from < watch_cycles;
  t.words = words;
  const bool beat = valid && ready && t.cycles.size() < t.limit;
  if (!watched && !beat) return;
  std::vector<U> now(words);
  sample(data, now.data());
  if (beat) {
    t.beats.insert(t.beats.end(), now.begin(), now.end());
    t.cycles.push_back(cycle);
  }
  if (!watched) return;
  t.watched.push_back(valid | ready << 1 | last << 2);
  t.watched.insert(t.watched.end(), now.begin(), now.end());
}
enum Fault { valid_dropped = 1, data_changed = 2, last_wrong = 4, valid_waits = 8, too_many = 16, stuck = 32, bus_refused = 64 };
U gap = 0;
// Seldom a gate is shut for so long that buffers fill and run empty.
enum Phase : U { open_all, shut_one, half_one, some_of_all };
void hold_back(Bench& b, U cycle) {
  if (cycle >= b.phase_end) {
    const U r = random_word();
    constexpr Phase phases[8] = {open_all, shut_one, shut_one, half_one, half_one, half_one, some_of_all, some_of_all};
    const bool slow = (r >> 32) % (settle / 32 + 8) == 0;
    b.gate = (b.gate + 1) % b.gates;
    b.phase = slow ? shut_one : phases[r & 7];
    b.phase_end = cycle + 8 + (r >> 8) % 40 + (slow ? (r >> 16) % (settle / 2) : 0);
  }
  for (U& w : b.hold) w = b.phase == some_of_all ? random_word() & random_word() : 0;
  if (b.phase == shut_one || (b.phase == half_one && (random_word() >> 63))) b.hold[b.gate / 64] |= U(1) << (b.gate % 64);
}

template <class D, class V, class L, class R>
void before(Bench& b, D& tdata, V& tvalid, L& tlast, R& tready, U cycle) {
  if (gap) {
    if ((b.block_out || b.block_in) && cycle - b.since > settle) b.block_out = b.block_in = false;
    else if (!b.block_out && !b.block_in && ((!b.blocked && b.received >= b.out.beats) || chance((U(1) << 28) / settle))) {
      (b.blocked && (random_word() >> 63) ? b.block_in : b.block_out) = true;
      b.blocked = true;
      b.since = cycle;
    }
  }
  if (!b.offered && b.sent < b.in.total) b.offered = !b.block_in && (gap == 0 || !chance(gap));
  tvalid = b.offered;
  if (b.offered) {
    drive(tdata, &b.stimulus[b.sent * b.in.words]);
    tlast = (b.sent + 1) % b.in.beats == 0;
  } else if (gap) {
    std::vector<U> junk(b.in.words);
    for (U& j : junk) j = random_word();
    tlast = junk[0] & 1;
    drive(tdata, junk.data());
  }
  b.tready = !b.block_out && (gap == 0 || !chance(gap));
  tready = b.tready;
}
template <class R, class D, class V, class L>
void after(Bench& b, const R& s_tready, const D& tdata, const V& tvalid, const L& tlast, U cycle) {
  if (b.offered && s_tready) {
    if (b.sent == 0) b.first_in = cycle;
    ++b.sent;
    b.offered = false;
    if (b.block_out) b.since = cycle;
  }
  if (b.was_stalled && !tvalid) b.fault |= valid_dropped;
  if (tvalid) {
    sample(tdata, b.now.data());
    if (b.was_stalled && b.now != b.held) b.fault |= data_changed;
    if (b.tready) {
      if (b.received == b.out.total) { b.fault |= too_many; return; }
      if (b.received == 0) b.first_out = cycle;
      if (b.block_in) b.since = cycle;
      b.got.insert(b.got.end(), b.now.begin(), b.now.end());
      ++b.received;
      const bool end = b.received % b.out.beats == 0;
      if (end != static_cast<bool>(tlast)) b.fault |= last_wrong;
      if (end) b.ends.push_back(cycle);
    } else {
      b.held = b.now;
    }
  }
  b.was_stalled = tvalid && !b.tready;
}

std::vector<U> read_words(const char* name) {
  std::vector<U> w;
  std::FILE* f = std::fopen(name, "rb");
  if (!f) return w;
  U x;
  while (std::fread(&x, 8, 1, f) == 1) w.push_back(x);
  std::fclose(f);
  return w;
}
}  // namespace

// arguments: stimulus, result, nonce, seed, gap in 2^-32, frames (0: all), idle cycles before giving up, cycles to record
// around the first output, first cycle to watch, how many, cycles without a beat after which a block ends
int main(int argc, char** argv) {
  if (argc != 12) return 2;
  auto number = [&](int i) { return static_cast<U>(std::strtoull(argv[i], nullptr, 10)); };
  const U nonce = number(3), seed = number(4), max_frames = number(6), patience = number(7);
  gap = number(5);
  trace_cycles = number(8);
  watch_from = number(9);
  watch_cycles = number(10);
  settle = number(11);
  state = seed * 2 + 0x9E3779B97F4A7C15ull;
  VerilatedContext context;
  context.randReset(2);
  context.randSeed(static_cast<int>(seed & 0x7fffffff) + 1);
  Vtop top(&context);
  const std::vector<U> file = read_words(argv[1]);
  std::vector<Bench> bench(kDesigns);
  std::size_t at = 0;
  for (Bench& b : bench) {
    if (file.size() < at + 6 || file.size() < at + 6 + file[at + 5]) return 3;
    U frames = file[at];
    b.in = {file[at + 1], file[at + 2], 0};
    b.out = {file[at + 3], file[at + 4], 0};
    b.taps.resize(file[at + 5]);
    at += 6;
    for (Tap& t : b.taps) t.limit = file[at++];
    if (file.size() < at + frames * b.in.beats * b.in.words) return 3;
    b.stimulus.assign(file.begin() + at, file.begin() + at + frames * b.in.beats * b.in.words);
    at += frames * b.in.beats * b.in.words;
    if (max_frames && frames > max_frames) frames = max_frames;
    b.in.total = frames * b.in.beats;
    b.out.total = frames * b.out.beats;
    b.now.resize(b.out.words);
  }
  if (file.size() != at) return 3;
  U cycle = 0, idle = 0, moved = 0;
  hold_buses(top);
  for (int i = 0; i < 8; ++i) {
    top.rst_n = 0;
    top.clk = 0; top.eval();
    top.clk = 1; top.eval();
  }
  top.rst_n = 1;
  if (kBus) {  // what is written over a bus stays when the design is reset once more: its cycles are counted from there
    for (U waited = 0; ; ++waited) {
      top.clk = 0;
      const bool configured = configured_all(top, bench);
      top.eval();
      if (configured) break;
      if (waited == 1ull << 28) return 5;
      top.clk = 1; top.eval();
    }
    for (int i = 0; i < 8; ++i) {
      top.rst_n = 0;
      top.clk = 0; top.eval();
      top.clk = 1; top.eval();
    }
    top.rst_n = 1;
  }
  for (;; ++cycle) {
    top.clk = 0;
    before_all(top, bench, cycle);
    gates_all(top, bench, cycle);
    top.eval();
    if (gap && cycle % 13 == 0) check_valid(top, bench);
    if (trace_cycles) record_all(top, bench, cycle);
    after_all(top, bench, cycle);
    watch_all(top, bench, cycle);
    top.clk = 1;
    top.eval();
    U now = 0;
    bool done = true;
    for (const Bench& b : bench) { now += b.sent + b.received; done = done && b.done(); }
    // A few more cycles: nothing may follow the last frame.
    if (done && ++idle > 64) break;
    if (!done) {
      idle = now == moved ? idle + 1 : 0;
      if (idle > patience) {
        for (Bench& b : bench) if (!b.done()) b.fault |= stuck;
        break;
      }
    }
    moved = now;
  }
  monitors_all(top, bench);
  top.final();
  std::FILE* f = std::fopen(argv[2], "wb");
  if (!f) return 4;
  auto put = [&](U x) { std::fwrite(&x, 8, 1, f); };
  put(nonce);
  put(cycle);
  for (const Bench& b : bench) {
    put(b.fault); put(b.first_in); put(b.first_out); put(b.ends.size()); put(b.got.size());
    for (U x : b.ends) put(x);
    for (U x : b.got) put(x);
    put(b.trace_end - b.trace.size() / 3); put(b.trace.size());
    for (U x : b.trace) put(x);
    put(b.monitor_cycle); put(b.monitors.size());
    for (U x : b.monitors) put(x);
    put(b.taps.size());
    for (const Tap& t : b.taps) {
      for (const std::vector<U>* v : {&t.beats, &t.cycles, &t.watched}) {
        put(v->size());
        for (U x : *v) put(x);
      }
    }
  }
  put(~nonce);
  return std::fclose(f) == 0 ? 0 : 4;
}
)cpp";

// One bench watches every stream inside by a module of its own: it knows the rules and where a frame ends.
constexpr std::string_view kMonitor = R"v(module axis_monitor #(parameter W = 1, parameter [31:0] BEATS = 1, parameter [0:0] LAST = 1'b0) (
  input wire clk,
  input wire rst_n,
  input wire [W-1:0] tdata,
  input wire tvalid,
  input wire tready,
  input wire tlast,
  output reg [2:0] fault
);
  reg [W:0] held;
  reg stalled;
  reg [31:0] beat;
  wire end_frame = beat == BEATS - 32'd1;
  always @(posedge clk) begin
    held <= {tlast, tdata};
    stalled <= rst_n & tvalid & ~tready;
    if (~rst_n) begin
      beat <= 32'd0;
      fault <= 3'd0;
    end else begin
      if (tvalid & tready) beat <= end_frame ? 32'd0 : beat + 32'd1;
      if (stalled & ~tvalid) fault[0] <= 1'b1;
      if (stalled & tvalid & (held != {tlast, tdata})) fault[1] <= 1'b1;
      if (LAST & tvalid & (tlast != end_frame)) fault[2] <= 1'b1;
    end
  end
endmodule
)v";
constexpr int kMonitorBits = 3;

// Writes a list over AXI4-Lite, address and data in turn first, or together; what is refused or read back wrongly is an error. Words of 64
// bits, address above data; all ones end the list. Then CTRL must say: idle, not done, auto.
constexpr std::string_view kPlayer = R"v(module axil_player #(parameter N = 1, parameter A = 13, parameter LIST = "") (
  input wire clk,
  input wire rst_n,
  output reg [A-1:0] awaddr,
  output reg awvalid,
  input wire awready,
  output reg [31:0] wdata,
  output wire [3:0] wstrb,
  output reg wvalid,
  input wire wready,
  input wire [1:0] bresp,
  input wire bvalid,
  output reg bready,
  output wire [A-1:0] araddr,
  output reg arvalid,
  input wire arready,
  input wire [31:0] rdata,
  input wire [1:0] rresp,
  input wire rvalid,
  output wire rready,
  output reg configured,
  output reg refused
);
  reg [63:0] list [0:N];
  reg [31:0] at;
  reg [2:0] wait_w, wait_b;
  reg pending, asked, aw_sent, w_sent;
  wire [63:0] word = list[at];
  initial $readmemh(LIST, list);
  assign wstrb = 4'hf;
  assign araddr = {A{1'b0}};
  assign rready = 1'b1;
  always @(posedge clk) begin
    if (~rst_n) begin
      at <= 32'd0;
      {awvalid, wvalid, bready, arvalid, pending, asked, configured, refused, aw_sent, w_sent} <= 10'd0;
      wait_w <= 3'd0;
      wait_b <= 3'd0;
    end else if (~pending & (word != {64{1'b1}})) begin
      pending <= 1'b1;
      awaddr <= word[32 +: A];
      wdata <= word[31:0];
      awvalid <= at[0] | ~at[1];
      wvalid <= ~at[0] | ~at[1];
      wait_w <= at[4:2];
      wait_b <= at[3:1];
    end else if (pending) begin
      if (wait_w != 3'd0) wait_w <= wait_w - 3'd1;
      if (awvalid & awready) begin awvalid <= 1'b0; aw_sent <= 1'b1; end
      else if (~awvalid & ~aw_sent & (wait_w == 3'd0)) awvalid <= 1'b1;
      if (wvalid & wready) begin wvalid <= 1'b0; w_sent <= 1'b1; end
      else if (~wvalid & ~w_sent & (wait_w == 3'd0)) wvalid <= 1'b1;
      if (bvalid & (wait_b != 3'd0)) wait_b <= wait_b - 3'd1;
      bready <= bvalid & (wait_b == 3'd0) & ~bready;
      if (bvalid & bready) begin
        refused <= refused | (bresp != 2'd0);
        pending <= 1'b0;
        {aw_sent, w_sent} <= 2'd0;
        at <= at + 32'd1;
      end
    end else if (~asked) begin
      asked <= 1'b1;
      arvalid <= 1'b1;
    end else begin
      if (arvalid & arready) arvalid <= 1'b0;
      if (rvalid & ~configured) begin
        configured <= 1'b1;
        refused <= refused | (rresp != 2'd0) | (rdata != 32'h84);
      end
    end
  end
endmodule
)v";

// Stands between two stages. Shut, neither side sees the other; what its reader has been offered stays on offer. TDATA without TVALID
// is never what comes next.
constexpr std::string_view kGate = R"v(module axis_gate #(parameter W = 1) (
  input wire clk,
  input wire rst_n,
  input wire hold,
  input wire [W-1:0] tdata,
  input wire tvalid,
  output wire tready,
  output wire [W-1:0] to_tdata,
  output wire to_tvalid,
  input wire to_tready
);
  reg offered;
  wire open = ~hold | offered;
  assign to_tvalid = tvalid & open;
  assign tready = to_tready & open;
  assign to_tdata = to_tvalid ? tdata : ~tdata;
  always @(posedge clk) offered <= rst_n & to_tvalid & ~to_tready;
endmodule
)v";

// Streams of a design that are tapped.
std::vector<std::size_t> tapped(const std::vector<Stream>& streams, BenchForm form) {
  std::vector<std::size_t> r;
  for (std::size_t k = 0; k < streams.size(); ++k)
    if (form.taps == BenchForm::Taps::all || (form.taps == BenchForm::Taps::results && streams[k].source > 0)) r.push_back(k);
  return r;
}

// A layer's last stage sends its result; queues, converters and forks behind it copy that.
int source_of(const rtl::Design& d, int stage) {
  if (stage < 0) return 0;
  const plan::StageShape& x = d.stages[static_cast<std::size_t>(stage)];
  if (x.layer >= 0) {
    for (std::size_t i = static_cast<std::size_t>(stage) + 1; i < d.stages.size(); ++i)
      if (d.stages[i].layer == x.layer) return -1;
    return x.layer + 1;
  }
  const bool copies = x.kind == plan::StageKind::fork || x.kind == plan::StageKind::fifo || x.kind == plan::StageKind::skid || x.kind == plan::StageKind::convert;
  return copies ? source_of(d, x.in[0]) : -1;
}

}  // namespace

bool look_inside(const plan::StageGraph& g, std::int64_t frame) {
  constexpr I kFrames = 8, kElements = 1 << 22;
  I elements = 0;
  for (const plan::Layer& l : g.layers) elements += l.out.elements;
  return frame < kFrames && frame * elements <= kElements;
}

void append_frame(Stimulus& s, const plan::StageGraph& g, const exec::Executor& e, bool inside) {
  const auto append = [](std::vector<I>& to, const plan::Values& v, const std::vector<I>& frame) {
    for (std::int32_t i : v.order) to.push_back(frame[static_cast<std::size_t>(i)]);
  };
  append(s.in, g.input, e.integers(g.input_buffer));
  append(s.expected, g.output, e.integers(g.output_buffer));
  if (!inside) return;
  s.layers.resize(g.layers.size() + 1);
  append(s.layers[0], g.input, e.integers(g.input_buffer));
  for (std::size_t l = 0; l < g.layers.size(); ++l) {
    const plan::Layer& layer = g.layers[l];
    if (layer.buffer < 0) continue;
    std::vector<I>& to = s.layers[l + 1];
    const std::size_t from = to.size();
    append(to, layer.out, e.integers(layer.buffer));
    for (std::size_t j = 0; !layer.negated.empty() && from + j < to.size(); ++j)
      if (layer.negated[j % layer.negated.size()]) to[from + j] = -to[from + j];
  }
}

I words_of(const rtl::StreamPort& p) { return (p.width() + 63) / 64; }
I elements_of(const rtl::StreamPort& p) { return p.lanes * p.beats; }

I unpack(const rtl::StreamPort& p, const std::uint64_t* w, I lane) {
  const I at = lane * p.bits;
  std::uint64_t v = w[at / 64] >> (at % 64);
  if (at % 64 + p.bits > 64) v |= w[at / 64 + 1] << (64 - at % 64);
  if (p.bits >= 64) return static_cast<I>(v);
  v &= (1ull << p.bits) - 1;
  if (p.is_signed && (v >> (p.bits - 1))) v |= ~0ull << p.bits;
  return static_cast<I>(v);
}


std::vector<Stream> streams_of(const rtl::Design& d) {
  std::vector<Stream> r;
  if (d.modules.empty()) return r;  // what synthesis left: nothing inside has a name
  r.push_back({-1, 0, "in", d.in, d.stages.front().last_in, 0, 0});
  for (std::size_t i = 0; i < d.stages.size(); ++i) {
    const plan::StageShape& s = d.stages[i];
    for (int k = 0; k < s.ports_out; ++k)
      r.push_back({static_cast<int>(i), k, fmt::format("e{:02}_{}", i, k), {s.lanes_out, s.beats_out, s.bits_out, s.signed_out}, s.last_out, -1, -1});
  }
  for (Stream& x : r) {
    x.source = source_of(d, x.stage);
    for (std::size_t i = 0; i < d.stages.size(); ++i)
      for (std::size_t k = 0; k < (x.stage < 0 ? 1 : d.stages[i].in.size()); ++k)
        if (d.stages[i].in[k] == x.stage && d.stages[i].in_port[k] == x.port) x.reader = static_cast<int>(i);
  }
  return r;
}

double expected_cycles(const rtl::Design& d, std::int64_t frames, double stall) {
  I slowest = 1;
  for (const plan::StageShape& s : d.stages) slowest = std::max(slowest, stage_def(s.kind).cycles(s));
  return static_cast<double>(frames + 2) * static_cast<double>(slowest) * (stall > 0 ? 1.5 / (1 - stall) : 1);
}

std::string describe(const rtl::Design& d, const Stream& s) {
  const auto module = [&](int stage, const char* outside) { return stage < 0 ? std::string(outside) : d.modules[static_cast<std::size_t>(stage)]; };
  return fmt::format("{}.{}, from {} to {}", d.top, s.wire, module(s.stage, "the input"), module(s.reader, "the output"));
}

std::string fault_text(std::uint64_t f) {
  std::string r;
  auto add = [&](BenchFault bit, std::string_view t) { if (f & bit) r += (r.empty() ? "" : "; ") + std::string(t); };
  add(kOutValidDropped, "TVALID fell before TREADY");
  add(kOutDataChanged, "TDATA changed while stalled");
  add(kOutLastWrong, "TLAST at the wrong beat");
  add(kValidWaits, "TVALID depends on TREADY");
  add(kTooMany, "more beats than expected");
  add(kStuck, "no progress: a deadlock");
  add(kBusRefused, "the AXI4-Lite slave refused a write or is not idle after all of them");
  return r;
}
std::string stream_fault_text(unsigned f) { return fault_text(f & (kValidDropped | kDataChanged | kLastWrong)); }

GatedTop gated_top(const rtl::Design& d) {
  GatedTop g{d.files.empty() ? "" : d.files[0].text, 0};
  const std::string head = fmt::format("module {} (\n", d.top);
  std::string wires, gates;
  for (const Stream& s : streams_of(d)) {
    if (s.stage < 0 || s.reader < 0) continue;
    const auto ports = [&](std::string_view p, std::string_view from, bool last) {
      return last ? fmt::format(", .{0}_tlast({1}_tlast)", p, from) : fmt::format(".{0}_tdata({1}_tdata), .{0}_tvalid({1}_tvalid), .{0}_tready({1}_tready)", p, from);
    };
    std::string_view reader;
    std::size_t at = std::string::npos;
    for (const std::string_view p : {"s", "s0", "s1"})
      if (at == std::string::npos && (at = g.text.find(ports(p, s.wire, false))) != std::string::npos) reader = p;
    if (at == std::string::npos) continue;
    const std::string to = s.wire + "_to", data = ports(reader, s.wire, false), last = ports(reader, s.wire, true);
    if (g.text.compare(at + data.size(), last.size(), last) == 0) g.text.replace(at + data.size(), last.size(), ports(reader, to, true));
    g.text.replace(at, data.size(), ports(reader, to, false));
    const I width = s.shape.lanes * s.shape.bits;
    wires += fmt::format("  wire [{0}:0] {1}_tdata;\n  wire {1}_tvalid, {1}_tready{2};\n", width - 1, to, s.last ? fmt::format(", {}_tlast", to) : "");
    gates += fmt::format("  axis_gate #(.W({0})) {1}_gate (.clk(clk), .rst_n(rst_n), .hold(hold[{2}]), .tdata({3}), .tvalid({4}_tvalid), .tready({4}_tready),\n"
                         "    .to_tdata({5}), .to_tvalid({1}_tvalid), .to_tready({1}_tready));\n",
                         width + s.last, to, g.gates, s.last ? fmt::format("{{{0}_tlast, {0}_tdata}}", s.wire) : s.wire + "_tdata", s.wire,
                         s.last ? fmt::format("{{{0}_tlast, {0}_tdata}}", to) : to + "_tdata");
    ++g.gates;
  }
  const std::size_t from = g.text.find(head), body = from == std::string::npos ? from : g.text.find(");\n", from), end = g.text.rfind("endmodule");
  if (!g.gates || body == std::string::npos || end == std::string::npos) return {d.files.empty() ? "" : d.files[0].text, 0};
  g.text.insert(end, gates);
  g.text.insert(body + 3, wires);
  g.text.insert(from + head.size(), fmt::format("  input  wire [{}:0] hold,\n", g.gates - 1));
  return g;
}

// The monitors look at the nets of the generated top by their hierarchical names: the design itself stays as it is.
namespace {
bool has_bus(std::span<const rtl::Design> designs) {
  return std::any_of(designs.begin(), designs.end(), [](const rtl::Design& d) { return !d.windows.empty(); });
}
std::string bus_ports(std::size_t i, std::string_view prefix) {
  std::string r;
  for (const char* p : {"awaddr", "awvalid", "awready", "wdata", "wstrb", "wvalid", "wready", "bresp", "bvalid", "bready", "araddr", "arvalid", "arready", "rdata", "rresp", "rvalid", "rready"})
    r += fmt::format("{}.{}{}(d{}_{})", r.empty() ? "" : ", ", prefix, p, i, p);
  return r;
}
}  // namespace

std::string bench_verilog(std::span<const rtl::Design> designs, BenchForm form) {
  const bool bus = has_bus(designs);
  std::string t = "`default_nettype none\n" + std::string(kMonitor) + (form.gates ? std::string(kGate) : "") + (bus ? std::string(kPlayer) : "") + "module top (\n  input wire clk,\n  input wire rst_n" +
                  (bus ? ",\n  input wire bus_rst_n" : "");
  std::string body;
  for (std::size_t i = 0; i < designs.size(); ++i) {
    const rtl::Design& d = designs[i];
    const std::vector<Stream> streams = streams_of(d);
    const std::vector<std::size_t> taps = tapped(streams, form);
    const int gates = form.gates ? gated_top(d).gates : 0;
    t += fmt::format(
        ",\n  input wire [{1}:0] d{0}_s_tdata, input wire d{0}_s_tvalid, output wire d{0}_s_tready, input wire d{0}_s_tlast,\n"
        "  output wire [{2}:0] d{0}_m_tdata, output wire d{0}_m_tvalid, input wire d{0}_m_tready, output wire d{0}_m_tlast,\n"
        "  output wire [{3}:0] d{0}_faults, output wire d{0}_fault",
        i, d.in.width() - 1, d.out.width() - 1, std::max<I>(1, kMonitorBits * static_cast<I>(streams.size())) - 1);
    body += fmt::format(
        "  {1} d{0} ({2}.clk(clk), .rst_n(rst_n), .s_axis_tdata(d{0}_s_tdata), .s_axis_tvalid(d{0}_s_tvalid),\n"
        "    .s_axis_tready(d{0}_s_tready), .s_axis_tlast(d{0}_s_tlast), .m_axis_tdata(d{0}_m_tdata),\n"
        "    .m_axis_tvalid(d{0}_m_tvalid), .m_axis_tready(d{0}_m_tready), .m_axis_tlast(d{0}_m_tlast){3});\n"
        "  assign d{0}_fault = |d{0}_faults;\n",
        i, d.top, gates ? fmt::format(".hold(d{}_hold), ", i) : "", d.windows.empty() ? "" : fmt::format(",\n    {}", bus_ports(i, "s_axil_") + fmt::format(", .irq(d{}_irq)", i)));
    if (!d.windows.empty()) {
      const int a = d.address_bits - 1;
      t += fmt::format(",\n  output wire d{0}_configured, output wire d{0}_refused", i);
      body += fmt::format("  wire [{1}:0] d{0}_awaddr, d{0}_araddr;\n  wire [31:0] d{0}_wdata, d{0}_rdata;\n  wire [3:0] d{0}_wstrb;\n  wire [1:0] d{0}_bresp, d{0}_rresp;\n"
                          "  wire d{0}_awvalid, d{0}_awready, d{0}_wvalid, d{0}_wready, d{0}_bvalid, d{0}_bready, d{0}_arvalid, d{0}_arready, d{0}_rvalid, d{0}_rready, d{0}_irq;\n"
                          "  axil_player #(.N({2}), .A({3}), .LIST(\"{4}_writes.hex\")) d{0}_player (.clk(clk), .rst_n(bus_rst_n), {5}, .configured(d{0}_configured), .refused(d{0}_refused));\n"
                          "  wire d{0}_irq_unused = d{0}_irq;\n",
                          i, a, d.writes.size(), a + 1, d.top, bus_ports(i, ""));
    }
    if (gates) t += fmt::format(",\n  input wire [{}:0] d{}_hold", gates - 1, i);
    if (streams.empty()) body += fmt::format("  assign d{}_faults = 1'b0;\n", i);
    for (std::size_t k = 0; k < streams.size(); ++k) {
      const Stream& s = streams[k];
      const I width = s.shape.lanes * s.shape.bits;
      const std::string last = s.last ? fmt::format("d{}.{}_tlast", i, s.wire) : "1'b0";
      body += fmt::format(
          "  axis_monitor #(.W({2}), .BEATS(32'd{3}), .LAST(1'b{4})) d{0}_monitor{1} (.clk(clk), .rst_n(rst_n), .tdata(d{0}.{5}_tdata),\n"
          "    .tvalid(d{0}.{5}_tvalid), .tready(d{0}.{5}_tready), .tlast({6}), .fault(d{0}_faults[{7}:{8}]));\n",
          i, k, width, s.shape.beats, s.last ? 1 : 0, s.wire, last, kMonitorBits * k + kMonitorBits - 1, kMonitorBits * k);
      if (!std::binary_search(taps.begin(), taps.end(), k)) continue;
      t += fmt::format(",\n  output wire [{2}:0] d{0}_t{1}_data, output wire d{0}_t{1}_valid, output wire d{0}_t{1}_ready, output wire d{0}_t{1}_last", i, k, width - 1);
      body += fmt::format("  assign d{0}_t{1}_data = d{0}.{2}_tdata;\n  assign d{0}_t{1}_valid = d{0}.{2}_tvalid;\n  assign d{0}_t{1}_ready = d{0}.{2}_tready;\n  assign d{0}_t{1}_last = {3};\n",
                          i, k, s.wire, last);
    }
  }
  return t + "\n);\n" + body + "endmodule\n`default_nettype wire\n";
}

std::string bench_cpp(std::span<const rtl::Design> designs, BenchForm form) {
  std::string fixed(kBench);
  const bool bus = has_bus(designs);
  std::string calls = fmt::format("constexpr bool kBus = {};\nconstexpr std::size_t kDesigns = {};\nvoid before_all(Vtop& t, std::vector<Bench>& b, U cycle) {{\n", bus, designs.size());
  const auto each = [&](auto f) {
    for (std::size_t i = 0; i < designs.size(); ++i) calls += f(i);
  };
  each([](std::size_t i) { return fmt::format("  before(b[{0}], t.d{0}_s_tdata, t.d{0}_s_tvalid, t.d{0}_s_tlast, t.d{0}_m_tready, cycle);\n", i); });
  calls += "}\nvoid after_all(Vtop& t, std::vector<Bench>& b, U cycle) {\n";
  each([](std::size_t i) { return fmt::format("  after(b[{0}], t.d{0}_s_tready, t.d{0}_m_tdata, t.d{0}_m_tvalid, t.d{0}_m_tlast, cycle);\n", i); });
  calls += "}\nvoid record_all(Vtop& t, std::vector<Bench>& b, U cycle) {\n";
  each([](std::size_t i) { return fmt::format("  record(b[{0}], t.d{0}_s_tready, t.d{0}_s_tdata, t.d{0}_m_tvalid, t.d{0}_m_tdata, cycle);\n", i); });
  calls += "}\nvoid watch_all(Vtop& t, std::vector<Bench>& b, U cycle) {\n";
  each([](std::size_t i) { return fmt::format("  if (t.d{0}_fault && b[{0}].monitor_cycle == ~0ull) b[{0}].monitor_cycle = cycle;\n", i); });
  each([&](std::size_t i) {
    std::string s;
    const std::vector<Stream> streams = streams_of(designs[i]);
    for (std::size_t j = 0; const std::size_t k : tapped(streams, form))
      s += fmt::format("  tap(b[{0}].taps[{3}], {2}, t.d{0}_t{1}_data, t.d{0}_t{1}_valid, t.d{0}_t{1}_ready, t.d{0}_t{1}_last, cycle);\n", i, k, words_of(streams[k].shape), j++);
    return s;
  });
  calls += "}\nvoid gates_all(Vtop& t, std::vector<Bench>& b, U cycle) {\n";
  each([&](std::size_t i) {
    const int gates = form.gates ? gated_top(designs[i]).gates : 0;
    return gates ? fmt::format("  b[{0}].gates = {1};\n  b[{0}].hold.resize({2});\n  if (gap) hold_back(b[{0}], cycle);\n  drive(t.d{0}_hold, b[{0}].hold.data());\n", i, gates, (gates + 63) / 64) : std::string();
  });
  calls += std::string("}\nvoid hold_buses(Vtop& t) {\n  (void)t;\n") + (bus ? "  t.bus_rst_n = 0;\n" : "");
  calls += "}\n// The buses have written what they have to; false: not yet.\nbool configured_all(Vtop& t, std::vector<Bench>& b) {\n  bool all = true;\n";
  if (bus) calls += "  t.bus_rst_n = 1;\n";
  each([&](std::size_t i) { return designs[i].windows.empty() ? std::string() : fmt::format("  all = all && t.d{0}_configured;\n  if (t.d{0}_refused) b[{0}].fault |= bus_refused;\n", i); });
  each([](std::size_t i) { return fmt::format("  t.d{0}_s_tvalid = 0;\n  t.d{0}_m_tready = 0;\n", i); });
  calls += "  (void)t, (void)b;\n  return all;\n}\nvoid monitors_all(Vtop& t, std::vector<Bench>& b) {\n";
  each([&](std::size_t i) {
    const std::size_t bits = std::max<std::size_t>(1, kMonitorBits * streams_of(designs[i]).size());
    return fmt::format("  b[{0}].monitors.resize({1});\n  sample(t.d{0}_faults, b[{0}].monitors.data());\n", i, (bits + 63) / 64);
  });
  calls += "}\n// TVALID must not look at TREADY.\nvoid check_valid(Vtop& t, std::vector<Bench>& b) {\n";
  each([](std::size_t i) { return fmt::format("  b[{0}].tvalid = t.d{0}_m_tvalid; t.d{0}_m_tready = !b[{0}].tready;\n", i); });
  calls += "  t.eval();\n";
  each([](std::size_t i) { return fmt::format("  if (b[{0}].tvalid != static_cast<bool>(t.d{0}_m_tvalid)) b[{0}].fault |= valid_waits;\n  t.d{0}_m_tready = b[{0}].tready;\n", i); });
  calls += "  t.eval();\n}\n";
  const std::string_view mark = "std::vector<U> read_words";
  fixed.insert(fixed.find(mark), calls + "\n");
  return fixed;
}

std::string bench_stimulus(std::span<const rtl::Design> designs, std::span<const Stimulus> stimuli, BenchForm form) {
  std::string s;
  for (std::size_t i = 0; i < designs.size(); ++i) {
    const rtl::Design& d = designs[i];
    const I n = elements_of(d.in);
    const I frames = static_cast<I>(stimuli[i].in.size()) / n;
    TANDEM_CHECK(static_cast<I>(stimuli[i].in.size()) == frames * n && static_cast<I>(stimuli[i].expected.size()) == frames * elements_of(d.out),
                 "stimulus of '{}': {} inputs and {} results for frames of {} and {}", d.top, stimuli[i].in.size(), stimuli[i].expected.size(), n, elements_of(d.out));
    const std::vector<Stream> streams = streams_of(d);
    const std::vector<std::size_t> taps = tapped(streams, form);
    for (I v : {frames, d.in.beats, words_of(d.in), d.out.beats, words_of(d.out), static_cast<I>(taps.size())}) put64(s, static_cast<std::uint64_t>(v));
    for (std::size_t k : taps) {
      const std::size_t source = static_cast<std::size_t>(std::max(0, streams[k].source));
      put64(s, form.taps == BenchForm::Taps::all ? ~0ull : source < stimuli[i].layers.size() ? stimuli[i].layers[source].size() / static_cast<std::uint64_t>(streams[k].shape.lanes) : 0);
    }
    for (I f = 0; f < frames; ++f) pack(s, d.in, stimuli[i].in.data() + f * n);
  }
  return s;
}

std::string bench_writes(const rtl::Design& d, const Stimulus& stimulus) {
  TANDEM_CHECK(stimulus.writes.empty() || stimulus.writes.size() == d.writes.size(), "{} words for the windows of '{}', which hold {}", stimulus.writes.size(), d.top, d.writes.size());
  std::string s;
  for (const auto& [address, word] : stimulus.writes) s += fmt::format("{:08x}{:08x}\n", address, word);
  for (std::size_t i = stimulus.writes.size(); i <= d.writes.size(); ++i) s += "ffffffffffffffff\n";
  return s;
}

Bench::Bench(std::span<const rtl::Design> designs, BenchForm form, double seconds, const Cancel& cancel) : designs_(designs), form_(form) {
  tool::ModelOptions m;
  m.seconds = seconds;
  // Thousands of cells become one function, on which an optimising compiler spends minutes.
  if (form.brief || std::any_of(designs.begin(), designs.end(), [](const rtl::Design& d) { return d.modules.empty(); })) m.optimise = "-O0";
  // Designs may share modules: those of one name are the same.
  std::map<std::string, std::uint64_t> put;
  for (const rtl::Design& d : designs)
    for (const rtl::File& f : d.files) {
      const auto [it, fresh] = put.try_emplace(f.name, fnv1a(f.text));
      TANDEM_CHECK(it->second == fnv1a(f.text), "two designs of one model hold different files {}", f.name);
      if (!fresh) continue;
      work_.put(f.name, form.gates && &f == &d.files[0] ? gated_top(d).text : f.text);
      if (f.name.ends_with(".v")) m.verilog.push_back(f.name);
    }
  work_.put("top.v", bench_verilog(designs, form));
  m.verilog.push_back("top.v");
  work_.put("bench.cpp", bench_cpp(designs, form));
  m.cpp = {"bench.cpp"};
  model_ = tool::build_model(work_, m, cancel);
}

std::vector<BenchRun> Bench::run(std::span<const Stimulus> stimuli, const BenchParams& p, const Cancel& cancel) {
  work_.put("stimulus.bin", bench_stimulus(designs_, stimuli, form_));
  for (std::size_t i = 0; i < designs_.size(); ++i)
    if (!designs_[i].windows.empty()) work_.put(designs_[i].top + "_writes.hex", bench_writes(designs_[i], stimuli[i]));
  std::int64_t settle = 64;
  for (const rtl::Design& d : designs_)
    for (const plan::StageShape& s : d.stages) settle = std::max(settle, 2 * stage_def(s.kind).cycles(s));
  settle = std::min(settle, p.patience / 2);
  const auto text_of = [](auto v) { return std::to_string(v); };
  const tool::ProcessResult run = tool::run_model(
      work_, model_,
      {"stimulus.bin", "result.bin", text_of(p.nonce), text_of(p.seed), text_of(static_cast<std::uint64_t>(p.stall * 4294967296.0)), text_of(p.frames), text_of(p.patience),
       text_of(p.trace_cycles), text_of(p.watch_from), text_of(p.watch_cycles), text_of(settle)},
      p.seconds, tool::Trust::ours, cancel);
  if (run.timed_out) throw Error(Exit::limit, fmt::format("the simulation took more than {} s", p.seconds)).fix("verify fewer frames");
  if (!work_.has("result.bin")) throw Error(Exit::bug, "the simulation ended without a result: " + run.summary());
  const std::string text = work_.get("result.bin", 8ull << 30);
  std::filesystem::remove(work_ / "result.bin");
  std::size_t at = 0;
  auto next = [&] {
    if (at + 8 > text.size()) throw Error(Exit::limit, "the simulation's result is cut short (disk full?)");
    return get64(text, at);
  };
  auto list = [&](std::uint64_t n) {
    if (n > (text.size() - at) / 8) throw Error(Exit::limit, "the simulation's result is cut short (disk full?)");
    std::vector<std::uint64_t> v(n);
    for (std::uint64_t& x : v) x = next();
    return v;
  };
  const auto elements = [](const rtl::StreamPort& s, const std::vector<std::uint64_t>& words) {
    const std::size_t per = static_cast<std::size_t>(words_of(s));
    std::vector<I> e;
    e.reserve(words.size() / per * static_cast<std::size_t>(s.lanes));
    for (std::size_t b = 0; b + per <= words.size(); b += per)
      for (I l = 0; l < s.lanes; ++l) e.push_back(unpack(s, &words[b], l));
    return e;
  };
  if (next() != p.nonce) throw Error(Exit::bug, "the simulation's result is not of this run");
  const std::uint64_t cycles = next();
  std::vector<BenchRun> all;
  for (const rtl::Design& d : designs_) {
    BenchRun r;
    r.cycles = static_cast<I>(cycles);
    r.fault = next();
    r.first_in = static_cast<I>(next());
    r.first_out = static_cast<I>(next());
    const std::uint64_t ends = next(), got = next();
    for (std::uint64_t x : list(ends)) r.ends.push_back(static_cast<I>(x));
    r.got = elements(d.out, list(got));
    r.beats = static_cast<I>(got) / words_of(d.out);
    r.trace_first = static_cast<I>(next());
    r.trace = list(next());
    r.stream_fault_cycle = static_cast<I>(next());
    const std::vector<std::uint64_t> monitors = list(next());
    const std::vector<Stream> streams = streams_of(d);
    for (std::size_t k = 0; k < streams.size(); ++k) {
      unsigned f = 0;
      for (std::size_t b = 0; b < kMonitorBits; ++b) {
        const std::size_t bit = k * kMonitorBits + b;
        f |= static_cast<unsigned>(monitors.at(bit / 64) >> (bit % 64) & 1) << b;
      }
      r.streams.push_back(f);
    }
    r.taps.resize(streams.size());
    r.watched.resize(streams.size());
    const std::vector<std::size_t> taps = tapped(streams, form_);
    if (next() != taps.size()) throw Error(Exit::bug, "the simulation's result is of another form");
    for (const std::size_t k : taps) {
      const rtl::StreamPort& s = streams[k].shape;
      StreamRecord record;
      record.elements = elements(s, list(next()));
      for (std::uint64_t x : list(next())) record.cycles.push_back(static_cast<I>(x));
      r.taps[k] = std::move(record);
      const std::vector<std::uint64_t> w = list(next());
      const std::size_t per = 1 + static_cast<std::size_t>(words_of(s));
      for (std::size_t c = 0; c + per <= w.size(); c += per)
        r.watched[k].push_back({(w[c] & 1) != 0, (w[c] & 2) != 0, (w[c] & 4) != 0, {w.begin() + static_cast<std::ptrdiff_t>(c + 1), w.begin() + static_cast<std::ptrdiff_t>(c + per)}});
    }
    all.push_back(std::move(r));
  }
  if (next() != ~p.nonce) throw Error(Exit::bug, "the simulation's result has the wrong length");
  return all;
}

}  // namespace tandem::proof
