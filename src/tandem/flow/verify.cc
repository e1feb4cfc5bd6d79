#include "tandem/flow/verify.h"

#include <algorithm>
#include <cstring>

#include "tandem/base/hash.h"
#include "tandem/tool/verilator.h"
#include "tandem/tool/work.h"

namespace tandem::flow {
namespace {
using I = std::int64_t;

I words_of(const rtl::StreamPort& p) { return (p.width() + 63) / 64; }
I elements(const rtl::StreamPort& p) { return p.lanes * p.beats; }

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
I unpack(const rtl::StreamPort& p, const std::uint64_t* w, I lane) {
  const I at = lane * p.bits;
  std::uint64_t v = w[at / 64] >> (at % 64);
  if (at % 64 + p.bits > 64) v |= w[at / 64 + 1] << (64 - at % 64);
  if (p.bits >= 64) return static_cast<I>(v);
  v &= (1ull << p.bits) - 1;
  if (p.is_signed && (v >> (p.bits - 1))) v |= ~0ull << p.bits;
  return static_cast<I>(v);
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
struct Bench {
  Side in, out;
  std::vector<U> stimulus, got, ends, now, held;
  U sent = 0, received = 0, first_in = 0, first_out = 0, fault = 0;
  bool offered = false, was_stalled = false, tvalid = false, tready = false;
  std::vector<U> trace;  // per cycle: valid and ready of both sides, low words of both sides
  U trace_end = 0;       // the cycle after the last one in it
  bool done() const { return sent == in.total && received == out.total; }
};
U trace_cycles = 0;
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
enum Fault { valid_dropped = 1, data_changed = 2, last_wrong = 4, valid_waits = 8, too_many = 16, stuck = 32 };
U gap = 0;

template <class D, class V, class L, class R>
void before(Bench& b, D& tdata, V& tvalid, L& tlast, R& tready) {
  if (!b.offered && b.sent < b.in.total) b.offered = gap == 0 || !chance(gap);
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
  b.tready = gap == 0 || !chance(gap);
  tready = b.tready;
}
template <class R, class D, class V, class L>
void after(Bench& b, const R& s_tready, const D& tdata, const V& tvalid, const L& tlast, U cycle) {
  if (b.offered && s_tready) {
    if (b.sent == 0) b.first_in = cycle;
    ++b.sent;
    b.offered = false;
  }
  if (b.was_stalled && !tvalid) b.fault |= valid_dropped;
  if (tvalid) {
    sample(tdata, b.now.data());
    if (b.was_stalled && b.now != b.held) b.fault |= data_changed;
    if (b.tready) {
      if (b.received == b.out.total) { b.fault |= too_many; return; }
      if (b.received == 0) b.first_out = cycle;
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
int main(int argc, char** argv) {
  if (argc != 9) return 2;
  auto number = [&](int i) { return static_cast<U>(std::strtoull(argv[i], nullptr, 10)); };
  const U nonce = number(3), seed = number(4), max_frames = number(6), patience = number(7);
  gap = number(5);
  trace_cycles = number(8);
  state = seed * 2 + 0x9E3779B97F4A7C15ull;
  VerilatedContext context;
  context.randReset(2);
  context.randSeed(static_cast<int>(seed & 0x7fffffff) + 1);
  Vtop top(&context);
  const std::vector<U> file = read_words(argv[1]);
  std::vector<Bench> bench(kDesigns);
  std::size_t at = 0;
  for (Bench& b : bench) {
    if (file.size() < at + 5) return 3;
    U frames = file[at];
    b.in = {file[at + 1], file[at + 2], 0};
    b.out = {file[at + 3], file[at + 4], 0};
    at += 5;
    if (file.size() < at + frames * b.in.beats * b.in.words) return 3;
    b.stimulus.assign(file.begin() + at, file.begin() + at + frames * b.in.beats * b.in.words);
    at += frames * b.in.beats * b.in.words;
    if (max_frames && frames > max_frames) frames = max_frames;
    b.in.total = frames * b.in.beats;
    b.out.total = frames * b.out.beats;
    b.now.resize(b.out.words);
  }
  U cycle = 0, idle = 0, moved = 0;
  for (int i = 0; i < 8; ++i) {
    top.rst_n = 0;
    top.clk = 0; top.eval();
    top.clk = 1; top.eval();
  }
  top.rst_n = 1;
  for (;; ++cycle) {
    top.clk = 0;
    before_all(top, bench);
    top.eval();
    if (gap && cycle % 13 == 0) check_valid(top, bench);
    if (trace_cycles) record_all(top, bench, cycle);
    after_all(top, bench, cycle);
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
  }
  put(~nonce);
  return std::fclose(f) == 0 ? 0 : 4;
}
)cpp";

std::string fault_text(std::uint64_t f) {
  std::string r;
  auto add = [&](int bit, std::string_view t) { if (f & static_cast<unsigned>(bit)) r += (r.empty() ? "" : "; ") + std::string(t); };
  add(1, "TVALID fell before TREADY");
  add(2, "TDATA changed while stalled");
  add(4, "TLAST at the wrong beat");
  add(8, "TVALID depends on TREADY");
  add(16, "more beats than expected");
  add(32, "no progress: a deadlock");
  return r;
}

// The cycles of the run without stalls against those of the twins; "" where they agree.
std::string timing_fault(const plan::Timing& t, std::uint64_t first_in, std::uint64_t first_out, const std::vector<std::uint64_t>& end) {
  if (!t.known) return "";
  const I latency = static_cast<I>(first_out - first_in);
  if (t.deadlock || t.latency() != latency)
    return fmt::format("cycles to the first output beat: predicted {}, simulated {}", t.deadlock ? "a deadlock" : std::to_string(t.latency()), latency);
  for (std::size_t f = 0; f < end.size(); ++f)
    if (t.end(static_cast<I>(f)) != static_cast<I>(end[f])) return fmt::format("cycle of the end of frame {}: predicted {}, simulated {}", f, t.end(static_cast<I>(f)), end[f]);
  return "";
}

// One model of up to designs_per_model designs.
void verify_group(std::span<const rtl::Design> designs, std::span<const Stimulus> stimuli, const VerifyOptions& o,
                  std::uint64_t group, std::span<VerifyResult> results, const Cancel& cancel) {
  tool::WorkFolder work;
  tool::ModelOptions m;
  m.seconds = o.seconds;
  for (const rtl::Design& d : designs) {
    for (const rtl::File& f : d.files) work.put(f.name, f.text);
    for (const std::string& n : d.names(".v")) m.verilog.push_back(n);
  }
  work.put("top.v", bench_verilog(designs));
  m.verilog.push_back("top.v");
  work.put("bench.cpp", bench_cpp(designs));
  m.cpp = {"bench.cpp"};
  work.put("stimulus.bin", bench_stimulus(designs, stimuli, 0));
  const tool::Model model = tool::build_model(work, m, cancel);

  std::vector<double> runs{0};
  runs.insert(runs.end(), o.stalls.begin(), o.stalls.end());
  for (std::size_t i = 0; i < designs.size(); ++i) {
    results[i].ok = true;
    results[i].tool = model.tool;
    results[i].frames = static_cast<I>(stimuli[i].in.size()) / elements(designs[i].in);
  }
  // Idle cycles that no stage may take: its slowest part between two outputs.
  I patience = 100000;
  for (const rtl::Design& d : designs)
    for (const plan::StageShape& s : d.stages) patience = std::max(patience, 4 * stage_def(s.kind).cycles(s));
  for (std::size_t r = 0; r < runs.size(); ++r) {
    const double p = runs[r];
    const std::uint64_t nonce = fnv1a(fmt::format("{} {} {} {}", o.seed, group, r, designs[0].hash));
    const tool::ProcessResult run = tool::run_model(
        work, model,
        {"stimulus.bin", "result.bin", std::to_string(nonce), std::to_string(o.seed + group * 1000 + r),
         std::to_string(static_cast<std::uint64_t>(p * 4294967296.0)), std::to_string(r ? o.stall_frames : 0), std::to_string(patience),
         std::to_string(r + 1 == std::min<std::size_t>(2, runs.size()) ? o.trace_cycles : 0)},
        o.seconds, tool::Trust::ours, cancel);
    if (run.timed_out) throw Error(Exit::limit, fmt::format("the simulation took more than {} s", o.seconds)).fix("verify fewer frames");
    if (!work.has("result.bin")) throw Error(Exit::bug, "the simulation ended without a result: " + run.summary());
    const std::string text = work.get("result.bin", 8ull << 30);
    std::filesystem::remove(work / "result.bin");
    std::size_t at = 0;
    auto next = [&] {
      if (at + 8 > text.size()) throw Error(Exit::limit, "the simulation's result is cut short (disk full?)");
      return get64(text, at);
    };
    if (next() != nonce) throw Error(Exit::bug, "the simulation's result is not of this run");
    const std::uint64_t cycles = next();
    for (std::size_t i = 0; i < designs.size(); ++i) {
      VerifyResult& v = results[i];
      const rtl::Design& d = designs[i];
      const std::uint64_t fault = next();
      const std::uint64_t first_in = next(), first_out = next(), ends = next(), got = next();
      std::vector<std::uint64_t> end(ends), words(got);
      for (std::uint64_t& x : end) x = next();
      for (std::uint64_t& x : words) x = next();
      const std::uint64_t trace_first = next(), traced = next();
      std::vector<std::uint64_t> trace(traced);
      for (std::uint64_t& x : trace) x = next();
      if (traced) {
        v.trace_first = static_cast<I>(trace_first);
        v.trace_stall = p;
        for (std::size_t c = 0; c + 2 < traced; c += 3)
          v.trace.push_back({(trace[c] & 1) != 0, (trace[c] & 2) != 0, (trace[c] & 4) != 0, (trace[c] & 8) != 0, unpack(d.in, &trace[c + 1], 0), unpack(d.out, &trace[c + 2], 0)});
      }
      if (fault) {
        v.ok = false;
        if (v.fault.empty()) v.fault = fault_text(fault);
      }
      if (r == 0) {
        v.cycles = static_cast<I>(cycles);
        v.latency = static_cast<I>(first_out - first_in);
        // Steady state: the second half of the frames.
        if (ends >= 4) v.interval = static_cast<double>(end[ends - 1] - end[ends / 2]) / static_cast<double>(ends - 1 - ends / 2);
        v.predicted = plan::simulate(d.stages, {.frames = v.frames});
        if (const std::string t = fault ? "" : timing_fault(v.predicted, first_in, first_out, end); !t.empty()) {
          v.ok = false;
          v.fault = t;
        }
      }
      const I per = words_of(d.out), beats = static_cast<I>(got) / per, n = elements(d.out);
      const I frames = r ? std::min(v.frames, o.stall_frames) : v.frames;
      if (beats != frames * d.out.beats && !fault) {
        v.ok = false;
        v.fault = fmt::format("{} beats instead of {}", beats, frames * d.out.beats);
      }
      for (I b = 0; b < std::min(beats, frames * d.out.beats); ++b)
        for (I l = 0; l < d.out.lanes; ++l) {
          const I e = b * d.out.lanes + l, y = unpack(d.out, &words[static_cast<std::size_t>(b * per)], l);
          ++v.words;
          const I want = stimuli[i].expected[static_cast<std::size_t>(e)];
          if (y == want) continue;
          v.ok = false;
          ++v.mismatches;
          if (!v.first) v.first = Divergence{e / n, e % n, want, y, p};
        }
    }
    if (next() != ~nonce) throw Error(Exit::bug, "the simulation's result has the wrong length");
  }
}

}  // namespace

std::string bench_verilog(std::span<const rtl::Design> designs) {
  std::string t = "`default_nettype none\nmodule top (\n  input wire clk,\n  input wire rst_n";
  for (std::size_t i = 0; i < designs.size(); ++i)
    t += fmt::format(
        ",\n  input wire [{1}:0] d{0}_s_tdata, input wire d{0}_s_tvalid, output wire d{0}_s_tready, input wire d{0}_s_tlast,\n"
        "  output wire [{2}:0] d{0}_m_tdata, output wire d{0}_m_tvalid, input wire d{0}_m_tready, output wire d{0}_m_tlast",
        i, designs[i].in.width() - 1, designs[i].out.width() - 1);
  t += "\n);\n";
  for (std::size_t i = 0; i < designs.size(); ++i)
    t += fmt::format(
        "  {1} d{0} (.clk(clk), .rst_n(rst_n), .s_axis_tdata(d{0}_s_tdata), .s_axis_tvalid(d{0}_s_tvalid),\n"
        "    .s_axis_tready(d{0}_s_tready), .s_axis_tlast(d{0}_s_tlast), .m_axis_tdata(d{0}_m_tdata),\n"
        "    .m_axis_tvalid(d{0}_m_tvalid), .m_axis_tready(d{0}_m_tready), .m_axis_tlast(d{0}_m_tlast));\n",
        i, designs[i].top);
  return t + "endmodule\n`default_nettype wire\n";
}

std::string bench_cpp(std::span<const rtl::Design> designs) {
  std::string fixed(kBench);
  std::string calls = fmt::format("constexpr std::size_t kDesigns = {};\nvoid before_all(Vtop& t, std::vector<Bench>& b) {{\n", designs.size());
  for (std::size_t i = 0; i < designs.size(); ++i)
    calls += fmt::format("  before(b[{0}], t.d{0}_s_tdata, t.d{0}_s_tvalid, t.d{0}_s_tlast, t.d{0}_m_tready);\n", i);
  calls += "}\nvoid after_all(Vtop& t, std::vector<Bench>& b, U cycle) {\n";
  for (std::size_t i = 0; i < designs.size(); ++i)
    calls += fmt::format("  after(b[{0}], t.d{0}_s_tready, t.d{0}_m_tdata, t.d{0}_m_tvalid, t.d{0}_m_tlast, cycle);\n", i);
  calls += "}\nvoid record_all(Vtop& t, std::vector<Bench>& b, U cycle) {\n";
  for (std::size_t i = 0; i < designs.size(); ++i)
    calls += fmt::format("  record(b[{0}], t.d{0}_s_tready, t.d{0}_s_tdata, t.d{0}_m_tvalid, t.d{0}_m_tdata, cycle);\n", i);
  calls += "}\n// TVALID must not look at TREADY.\nvoid check_valid(Vtop& t, std::vector<Bench>& b) {\n";
  for (std::size_t i = 0; i < designs.size(); ++i)
    calls += fmt::format("  b[{0}].tvalid = t.d{0}_m_tvalid; t.d{0}_m_tready = !b[{0}].tready;\n", i);
  calls += "  t.eval();\n";
  for (std::size_t i = 0; i < designs.size(); ++i)
    calls += fmt::format("  if (b[{0}].tvalid != static_cast<bool>(t.d{0}_m_tvalid)) b[{0}].fault |= valid_waits;\n  t.d{0}_m_tready = b[{0}].tready;\n", i);
  calls += "  t.eval();\n}\n";
  const std::string_view mark = "std::vector<U> read_words";
  fixed.insert(fixed.find(mark), calls + "\n");
  return fixed;
}

std::string bench_stimulus(std::span<const rtl::Design> designs, std::span<const Stimulus> stimuli, std::int64_t max_frames) {
  std::string s;
  for (std::size_t i = 0; i < designs.size(); ++i) {
    const rtl::Design& d = designs[i];
    const I n = elements(d.in);
    I frames = static_cast<I>(stimuli[i].in.size()) / n;
    TANDEM_CHECK(static_cast<I>(stimuli[i].in.size()) == frames * n && static_cast<I>(stimuli[i].expected.size()) == frames * elements(d.out),
                 "stimulus of '{}': {} inputs and {} results for frames of {} and {}", d.top, stimuli[i].in.size(), stimuli[i].expected.size(), n, elements(d.out));
    if (max_frames) frames = std::min(frames, max_frames);
    for (I v : {frames, d.in.beats, words_of(d.in), d.out.beats, words_of(d.out)}) put64(s, static_cast<std::uint64_t>(v));
    for (I f = 0; f < frames; ++f) pack(s, d.in, stimuli[i].in.data() + f * n);
  }
  return s;
}

std::vector<VerifyResult> verify(std::span<const rtl::Design> designs, std::span<const Stimulus> stimuli, const VerifyOptions& o, const Cancel& cancel) {
  TANDEM_CHECK(designs.size() == stimuli.size(), "{} designs, {} stimuli", designs.size(), stimuli.size());
  std::vector<VerifyResult> r(designs.size());
  const std::size_t step = static_cast<std::size_t>(std::max<I>(1, o.designs_per_model));
  for (std::size_t i = 0; i < designs.size(); i += step) {
    const std::size_t n = std::min(step, designs.size() - i);
    verify_group(designs.subspan(i, n), stimuli.subspan(i, n), o, i / step, std::span(r).subspan(i, n), cancel);
  }
  return r;
}

Metric VerifyResult::interval_metric() const {
  return {interval, "cycles", Fidelity::rtl_simulated, fmt::format("{}, {} frames without stalls", tool, frames), {}, {}};
}
Metric VerifyResult::latency_metric() const {
  return {static_cast<double>(latency), "cycles", Fidelity::rtl_simulated, fmt::format("{}, first input beat to first output beat", tool), {}, {}};
}
std::string VerifyResult::text() const {
  std::string s = fmt::format("{} frames, {} words compared, {} mismatches", frames, words, mismatches);
  if (first)
    s += fmt::format("; first at frame {}, element {} (stall probability {}): expected {}, got {}", first->frame, first->element, first->stall, first->expected, first->actual);
  if (!fault.empty()) s += "; " + fault;
  return s;
}

}  // namespace tandem::flow
