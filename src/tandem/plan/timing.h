// Cycle-exact timing of a folded design without Verilog: every stage has a twin, the control registers of the
// emitted module and nothing of its data, and the twins are stepped together, cycle by cycle.
// simulate() finds the same times beat by beat (beats.cc), which costs nothing in cycles where nothing changes; a test compares both.
//
// A new StageKind adds one case to twin_of() in timing.cc. Where its module is a pipeline of n registers under one
// enable (`en = ~v[n-1] | m_tready`) that gives one beat for each `per` beats it takes, pipeline_twin(n, per) is the
// whole twin. Otherwise write the `cycle` function: the assignments of the module's always block, once.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "tandem/plan/stages.h"

namespace tandem::plan {

struct Twin {
  // One clock cycle. Bit k of in_valid is TVALID of input k, bit p of out_ready is TREADY of output p. Returns TREADY of
  // the inputs (bit k) as it stands before the clock edge, and then does the edge: registers, and `valid` of the next
  // cycle. Must not depend on anything else.
  std::uint64_t (*cycle)(Twin&, std::uint64_t in_valid, std::uint64_t out_ready) = nullptr;
  // Only where TVALID of the outputs depends on TVALID of the inputs in the same cycle (pad, fork): what it is now.
  std::uint64_t (*wires)(const Twin&, std::uint64_t in_valid) = nullptr;
  std::uint64_t valid = 0;                // TVALID of each output, when it comes from registers
  std::array<std::int64_t, 6> limit{};    // constants of the module
  std::array<std::int64_t, 5> at{};       // its counters
  std::uint64_t pipe = 0;                 // its shift register
  const std::vector<bool>* mask = nullptr;  // of the stage: which elements pass
};
// n registers (1 to 64) under one enable, one beat out for `per` beats in; `inputs` are taken together.
Twin pipeline_twin(int n, std::int64_t per = 1, int inputs = 1);
// After reset; nothing where the kind has no twin.
std::optional<Twin> twin_of(const StageShape& s);

struct Timing {
  bool known = false;       // every stage has a twin, and the limit of work was enough for `ends`
  bool deadlock = false;
  std::int64_t first_in = 0, first_out = 0;  // cycles after reset of the first beats; 0 where there is none
  std::vector<std::int64_t> ends;            // of the last output beat of each frame
  // Once the design is where it was `frames` frames ago, it repeats itself for ever: that many frames in that many cycles.
  std::int64_t repeat_frames = 0, repeat_cycles = 0;

  bool steady() const { return repeat_frames > 0; }
  std::int64_t latency() const { return first_out - first_in; }
  double interval() const { return steady() ? static_cast<double>(repeat_cycles) / static_cast<double>(repeat_frames) : 0; }
  std::int64_t end(std::int64_t frame) const;
};
struct TimingOptions {
  std::int64_t frames = 0;                   // whose ends are wanted, 0: until it repeats itself
  std::int64_t steps = 3'000'000'000;        // most stage cycles to step
  // Inputs of a stage (bit k) that nothing passes through in a cycle; asked for the stage behind the last one, its output. Only cycle by
  // cycle, for some `frames`.
  std::function<std::uint64_t(std::size_t stage, std::int64_t cycle)> shut = {};
};
inline constexpr int kSource = -2;           // StageShape::in[1] that is an input of the design (in[0]: -1)
// Of a design whose inputs always have data and whose outputs (those without a reader) are always taken; the frames are those
// of the last stage's first output.
Timing simulate(std::span<const StageShape> stages, const TimingOptions& options = {});
// The same, slow and obvious: every stage in every cycle. simulate() comes to this where a twin has a cycle function of its own
// without a rule in beats.h.
Timing simulate_cycles(std::span<const StageShape> stages, const TimingOptions& options = {});

}  // namespace tandem::plan
