// The test bench of generated designs: one Verilated model for several of them, a stimulus with gaps and stalls, a watch on
// every stream inside, and gates that hold single streams back.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/exec/exec.h"
#include "tandem/plan/stage_graph.h"
#include "tandem/rtl/generate.h"
#include "tandem/tool/verilator.h"

namespace tandem::proof {

// Whole frames in stream order (plan::to_stream), one after the other.
struct Stimulus {
  std::vector<std::int64_t> in, expected;
  // What each layer sends, [0] the input's: of the first frames only; empty where it is not known.
  std::vector<std::vector<std::int64_t>> layers;
  // Written over the design's bus before the first frame, address and word (rtl::Design::writes of others of its kind); empty: nothing is.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> writes;
};
// After e.run(): this frame's words; with `inside` those of every layer too.
void append_frame(Stimulus& s, const plan::StageGraph& g, const exec::Executor& e, bool inside);
// Whether frame i is worth looking inside: the first few, unless they are huge.
bool look_inside(const plan::StageGraph& g, std::int64_t frame);

// A stream inside a design: its input (stage -1) or what a stage sends on one port.
struct Stream {
  int stage = -1, port = 0;
  std::string wire;              // in the generated top: "in", "e03_0"; its signals are <wire>_tdata, _tvalid, _tready, _tlast
  rtl::StreamPort shape;
  bool last = false;             // carries TLAST
  int reader = -1;               // the stage that takes it; -1: the design's output
  int source = -1;               // whose values it carries: a layer + 1, 0: the input's; -1: something else, inside a layer
};
std::vector<Stream> streams_of(const rtl::Design& d);
// "net.e03_0, from net_03_mvau to net_04_skid"
std::string describe(const rtl::Design& d, const Stream& s);

// What a monitor saw: bits of its word.
enum StreamFault : unsigned { kValidDropped = 1, kDataChanged = 2, kLastWrong = 4 };
// Of both sides of a design, as the bench saw it.
enum BenchFault : unsigned { kOutValidDropped = 1, kOutDataChanged = 2, kOutLastWrong = 4, kValidWaits = 8, kTooMany = 16, kStuck = 32, kBusRefused = 64 };
std::string fault_text(std::uint64_t bench_fault);
std::string stream_fault_text(unsigned stream_fault);

struct BenchParams {
  std::uint64_t seed = 0, nonce = 0;
  double stall = 0;              // probability of a gap in TVALID and of a low TREADY
  std::int64_t frames = 0;       // 0: all
  std::int64_t patience = 100000;  // cycles without a beat on either side before giving up
  std::int64_t trace_cycles = 0;   // around the first output beat, to be recorded
  std::int64_t watch_from = 0, watch_cycles = 0;  // with taps: every stream, cycle by cycle
  double seconds = 600;
};
struct StreamRecord {            // with taps: every beat; where only results are tapped, of the frames that the stimulus knows
  std::vector<std::int64_t> elements;
  std::vector<std::int64_t> cycles;
};
struct StreamCycle {
  bool valid = false, ready = false, last = false;
  std::vector<std::uint64_t> data;
};
struct BenchRun {                // of one design
  std::uint64_t fault = 0;       // BenchFault
  std::int64_t cycles = 0, first_in = 0, first_out = 0;
  std::vector<std::int64_t> ends;      // cycle of the last beat of each frame
  std::vector<std::int64_t> got;       // elements that came out
  std::int64_t beats = 0;
  std::int64_t trace_first = 0;
  std::vector<std::uint64_t> trace;    // per cycle: flags, element 0 in, element 0 out
  std::vector<unsigned> streams;       // StreamFault of each of streams_of()
  std::int64_t stream_fault_cycle = -1;  // of the first
  std::vector<StreamRecord> taps;      // of each stream, empty where it is not tapped
  std::vector<std::vector<StreamCycle>> watched;  // [stream][cycle]
};

// What is built around the designs. Taps read out the streams that carry a layer's result, or all of them. Gates stand in every stream
// between two stages: open in runs without stalls, else one after the other is held back for a while.
struct BenchForm {
  enum class Taps { none, results, all } taps = Taps::none;
  bool gates = false;
  bool brief = false;            // few cycles will be simulated: compiled without optimisation, in a seventh of the time
};
// Cycles up to which that is faster. Both what compiling costs and what a cycle costs grow with the design.
inline constexpr double kBriefCycles = 100000;
// Cycles that some frames take, about.
double expected_cycles(const rtl::Design& d, std::int64_t frames, double stall);

class Bench {
 public:
  // Verilates and compiles. Prefixes (Design::top) must differ.
  Bench(std::span<const rtl::Design> designs, BenchForm form, double seconds = 600, const Cancel& cancel = Cancel::never());
  std::vector<BenchRun> run(std::span<const Stimulus> stimuli, const BenchParams& p, const Cancel& cancel = Cancel::never());
  const tool::Model& model() const { return model_; }

 private:
  std::span<const rtl::Design> designs_;
  BenchForm form_;
  tool::WorkFolder work_;
  tool::Model model_;
};

// The bench's parts, also written beside a built design.
std::string bench_verilog(std::span<const rtl::Design> designs, BenchForm form = {});
std::string bench_cpp(std::span<const rtl::Design> designs, BenchForm form = {});
// The design's top with a gate in each stream that leads from one stage to another, and how many there are: none in a top that is not
// written as ours are.
struct GatedTop {
  std::string text;
  int gates = 0;
};
GatedTop gated_top(const rtl::Design& d);
// Stimulus as the bench reads it: per design the beats of each frame, packed.
std::string bench_stimulus(std::span<const rtl::Design> designs, std::span<const Stimulus> stimuli, BenchForm form = {});

// The list of a design's bus player, <top>_writes.hex.
std::string bench_writes(const rtl::Design& d, const Stimulus& stimulus);

std::int64_t words_of(const rtl::StreamPort& p);      // of 64 bits, a beat
std::int64_t elements_of(const rtl::StreamPort& p);   // a frame
std::int64_t unpack(const rtl::StreamPort& p, const std::uint64_t* beat, std::int64_t lane);

}  // namespace tandem::proof
