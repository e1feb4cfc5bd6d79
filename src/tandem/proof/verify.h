// Generated Verilog against the exact result: every output word compared, and of the first frames what each layer sends; under random
// back-pressure at both ends and between the stages; cycles counted without it.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/base/metric.h"
#include "tandem/plan/timing.h"
#include "tandem/proof/bench.h"

namespace tandem::proof {

struct VerifyOptions {
  std::uint64_t seed = 0;
  std::vector<double> stalls{0.3, 0.7};  // probability of a gap in TVALID and of a low TREADY, beside the run without
  std::int64_t stall_frames = 8;         // frames of the runs with stalls (all frames run without)
  std::int64_t designs_per_model = 20;   // a Verilated model costs some seconds whatever its size
  double seconds = 600;                  // for one model's run
  std::int64_t patience = 100000;        // cycles without a beat after which a design counts as stuck (at least four times its slowest stage)
  std::int64_t trace_cycles = 0;         // of the first run with stalls, around the first output beat, to be recorded
};
struct Divergence {
  std::int64_t frame = 0, element = 0;   // element in stream order
  std::int64_t expected = 0, actual = 0;
  double stall = 0;                      // of the run
};
struct TracedCycle {
  bool in_valid = false, in_ready = false, out_valid = false, out_ready = false;
  std::int64_t in = 0, out = 0;          // element 0 of the beat
};
struct VerifyResult {
  bool ok = false;
  std::int64_t frames = 0, words = 0, mismatches = 0;  // words: elements compared over all runs
  std::optional<Divergence> first;
  // Streams inside that carry a layer's result: the first in their order that differs.
  std::int64_t inside_words = 0;
  std::string inside;            // "net.e03_0, from net_03_mvau to net_04_skid: frame 0, element 2: expected 3, got 1"; empty when none
  std::string fault;             // protocol (of the design or of a stream inside) or deadlock, in words; empty when none
  double interval = 0;           // cycles per frame in steady state (0 when fewer than 4 frames)
  std::int64_t latency = 0;      // cycles from the first input beat to the first output beat
  plan::Timing predicted;        // without Verilog; anything else than this in the run without stalls is a fault
  std::int64_t cycles = 0;       // simulated, of the run without stalls
  std::vector<TracedCycle> trace;
  std::int64_t trace_first = 0;  // cycle of the first
  double trace_stall = 0;        // probability of a stall in that run
  std::string tool;
  Metric interval_metric() const;
  Metric latency_metric() const;
  std::string text() const;      // one line
};
// Prefixes (Design::top) must differ within one call. Throws Error(tool_missing) without Verilator.
std::vector<VerifyResult> verify(std::span<const rtl::Design> designs, std::span<const Stimulus> stimuli,
                                 const VerifyOptions& options = {}, const Cancel& cancel = Cancel::never());

// What one run adds to a result; `unstalled`: it is the one that cycles are counted in.
void judge(const rtl::Design& d, const Stimulus& stimulus, const BenchRun& run, bool unstalled, const BenchParams& p, VerifyResult& v);
std::int64_t patience_for(std::span<const rtl::Design> designs, std::int64_t least);

}  // namespace tandem::proof
