// How far each stage of a dataflow design is folded in time.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::plan {

// PE: outputs computed at once; SIMD: inputs consumed at once. A matrix-vector unit of MH outputs and MW
// inputs takes (MH/PE) * (MW/SIMD) cycles per vector. Pooling and depthwise units use PE only
// (channels per beat).
// How a requantiser computes its codes: by searching a table of steps, by factor and shift (where the steps
// have that form), or whichever costs less.
enum class Requantiser : std::uint8_t { automatic, table, arithmetic };
// How a contraction multiplies. plain: `*`, left to synthesis; logic: selected multiples of the input, summed in LUTs;
// packed: weights of several rows in one operand of a DSP; constant: every weight a shared sum of shifted inputs, PE = MH,
// one vector a cycle once SIMD inputs a cycle have made it whole; automatic: by cost (map::choose_multipliers), until then plain.
enum class Multipliers : std::uint8_t { automatic, plain, logic, packed, constant };
std::string_view to_string(Multipliers m);
struct Fold {
  std::int64_t pe = 1, simd = 1;
  Requantiser requantiser = Requantiser::automatic;
  bool logic = false;  // weights in LUTs, even where they would fill block RAMs
  Multipliers multipliers = Multipliers::automatic;
  int per_dsp = 2;     // packed: rows that share a DSP
  std::vector<std::int64_t> queues;  // a join: how many beats of each operand may wait for the other; empty: a frame
  bool operator==(const Fold&) const = default;
};

struct StageGraph;

// One Fold per layer of the stage graph, in its order. Layers that cannot be folded keep {1, 1}.
struct Folding {
  std::vector<Fold> of;
  // Cycles a frame that every stage may take: what works one step a cycle may do so where it keeps within them. 0: as
  // many as the slowest stage before it takes.
  std::int64_t interval = 0;
  bool operator==(const Folding&) const = default;
};

// Everything fully folded: the smallest design.
Folding smallest_folding(const StageGraph& g);
// Throws Error(bad_input) that names the layer: PE must divide MH, SIMD must divide the channels of a
// window (or MW where there is no window).
void check_folding(const StageGraph& g, const Folding& f);
// {"format": "tandem.folding", "version": 1, "layers": [{"name": "s01_conv1", "pe": 2, "simd": 1}, ...]}; a
// requantiser whose form is chosen by hand has "requantiser": "table" or "arithmetic"; weights kept out of block RAM are
// "memory": "logic"; "multipliers": "plain", "logic", "packed" (with "per_dsp": 2 or more) or "constant" where chosen; the
// queues of a join are "queues": [3, 66]. "interval" beside "layers", where it is not 0.
std::string to_json(const StageGraph& g, const Folding& f);
// Layers by name; missing ones stay fully folded, an unknown one is an error that lists the known names.
Folding folding_from_json(const StageGraph& g, std::string_view text, std::string_view file = "folding.json");

}  // namespace tandem::plan
