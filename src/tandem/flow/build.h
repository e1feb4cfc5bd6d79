// From a model to verified hardware, in one call: lower, fold, generate, verify, synthesise, place.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/flow/cells.h"
#include "tandem/flow/synthesis.h"
#include "tandem/hardware/target.h"
#include "tandem/ir/graph.h"
#include "tandem/map/folding.h"
#include "tandem/proof/explain.h"
#include "tandem/proof/verify.h"
#include "tandem/report/chart.h"

namespace tandem::flow {

struct BuildParams {
  std::string name = "net";            // of the design, for reports
  hardware::Target target;
  double clock_mhz = 0;                // 0: the target's
  double throughput = 0;               // frames per second; 0: as fast as the target holds
  std::string writable;                // what can be written while it runs: "weights", "thresholds" or both, see ir::writable_of
  std::string input_format;            // "uint8/255", "fixed<16,6>", "bipolar": see hardware_graph
  std::int64_t multipliers = 0;        // most that work at once; 0: 64 on parts without placement, else what the part holds
  std::optional<std::string> folding;  // JSON text; chosen when absent
  std::string folding_file = "folding.json";
  std::string method;                  // of choosing one: "exact" (integer program), "heuristic" (the same problem), empty: unfold the slowest layer
  std::string objective;               // throughput, latency, resource; empty: throughput. With one and no method: heuristic
  std::optional<Tensor> frames;        // data to verify on: [n, ...] of the input's shape
  std::string model_file, data;        // as typed, for the line that quantises a float model; may be empty
  std::string quantised;               // how the model was quantised on the way, for the report; empty: it came quantised
  std::string frames_source;           // where they come from: data set, split, n
  std::int64_t random_frames = 64;     // else random codes
  std::uint64_t seed = 0;
  std::string command;                 // as typed, for the provenance; may be empty
  bool verify = true;
  bool place = true;                   // synthesis, placement, bitstream (iCE40)
  int seeds = 1;                       // placements; the median of their Fmax counts
  bool netlist = false;                // simulate what synthesis left too (iCE40; standard cells always do)
  double fill = 0;                     // share of the LUTs that the first folding may plan; 0: the target's (0.85; xcup 0.7)
  bool dry_run = false;                // folding and closed forms only: nothing is run, nothing written
  std::filesystem::path out;           // folder; empty: nothing is written
  bool overwrite = true;
  std::function<void(std::string_view)> say;  // what happens now
};
struct BuildLayer {                    // one row of the layer table
  std::string name, node, kind;
  std::string shape;                   // "16x8x8 -> 8x8x8"
  std::int64_t pe = 1, simd = 1, macs = 0, weights = 0;
  int weight_bits = 0, bits = 0;       // of the result
  std::int64_t cycles = 0;             // per frame: exact, of its slowest stage
  plan::Cost cost;                     // estimated
  double low = 0, high = 0;            // of the LUTs: the 5 and 95 % quantiles of its stages, added
};
struct BuildStage {                    // one stage, estimated and as synthesis counted it (xcup, standard cells)
  std::string name;                    // of its module
  double estimated = 0, low = 0, high = 0, found = 0;  // in the unit of the LUTs
};
// What a build will take: rough, from the estimated LUTs, and meant to be said before it begins.
struct Effort {
  double seconds = 0, bytes = 0, work_bytes = 0;  // wall time on two processors; in `out`; of the tools' own files
  std::string text() const;
};
struct BuildResult {
  std::string name, target, hash;
  std::string quantised;               // as in BuildParams
  std::vector<BuildLayer> layers;
  std::vector<NamedMetric> metrics;    // the summary; each with its fidelity and source
  std::vector<report::Distribution> precision;  // integers of each quantiser over the first frames
  std::optional<report::Waveform> wave;         // both streams around the first output beat, stalled at random
  std::vector<std::string> host;       // what stays on the host
  std::string frames_source;
  std::string limit;                   // what keeps it from being faster
  std::optional<proof::VerifyResult> verified;
  std::optional<SynthesisResult> synthesis;  // iCE40: placed
  std::optional<StageSynthesis> stages;      // xcup: synthesised
  std::optional<CellsResult> cells;          // standard cells: synthesised
  std::optional<proof::VerifyResult> rewritten;  // with random words written over its bus, against the exact result of those
  std::optional<proof::VerifyResult> netlist;       // what synthesis left, compared with the exact result
  std::vector<BuildStage> stage_counts;      // where every stage was counted
  std::string lut, bram, dsp;                // units of the costs
  std::vector<std::pair<std::string, std::string>> provenance;  // what, with which, where and when
  bool uses_dsp = false;
  std::int64_t multipliers = 0;              // PE * SIMD, summed
  std::vector<std::int64_t> outputs;   // words of all frames, logical order: what the Verilog must send
  Tensor values;                       // f32 or i64 [frames, ...]: what the words stand for (scale and offset per channel applied)
  double generate_s = 0, verify_s = 0, synthesis_s = 0;
  Effort effort;
  double planned = 0;                  // share of the part's LUTs that the folding was thought to need, a shell included
  std::string full;                    // what the part has too little of ("lut4", "bram", ...) after synthesis or placement; else empty
  double excess = 0;                   // by how many, where the tools say so
  std::vector<std::string> tried;      // foldings that did not fit, and why; this one came after them
  bool ok = false;                     // verified without a mismatch and, where asked, placed
  std::string reason;                  // when not
};
// Error(no): the model or the target cannot; the mismatch or what does not fit is in BuildResult. A chosen folding that the
// tools cannot fit is folded further, at most three times. Error(limit) when the disk has no room for what will be written.
// The folder holds rtl/, bench/, model.onnx, folding.json, frames.npz, build.json, driver.md, summary.txt, report.html, and
// where it was placed net.bin with its board.pcf.
BuildResult build(const ir::Graph& model, const BuildParams& params, const Cancel& cancel = Cancel::never());

// Verifies the Verilog of a folder written by build() as it lies there, on its frames or on `frames`.
proof::VerifyResult verify_folder(const std::filesystem::path& folder, const std::optional<Tensor>& frames = {},
                           std::uint64_t seed = 0, const Cancel& cancel = Cancel::never());

// The same folder, explained: its Verilog against the exact result layer by layer, the values a user expects (by names of the
// model's values), what a float32 runtime computes. Two engines at a time, in this order.
struct ExplainFolderParams {
  std::optional<Tensor> frames;        // else the folder's own
  std::optional<Archive> expected;
  bool verilog = true, float32 = false;
  std::int64_t most_frames = 64;       // the first ones
  std::uint64_t seed = 0;
};
std::vector<proof::Explanation> explain_folder(const std::filesystem::path& folder, const ExplainFolderParams& params, const Cancel& cancel = Cancel::never());

// What to type for a float model; `model` and `data` as typed, placeholders where empty.
std::string quantize_line(const std::string& model, const std::string& data, bool build);

// What of a target's resources a design may plan, the shell taken off.
map::Budget budget_of(const hardware::Target& t);

// The graph with one input of batch 1 and, when `format` is not empty, a quantiser of that format on it: an integer or
// fixed-point format of at most 16 bits (scale 1, fixed<W,I>: 2^-(W-I)), or "bipolar"; "/D" divides its scale by D.
ir::Graph hardware_graph(const ir::Graph& model, std::string_view format);
// What to type for an input without a quantiser: uint8/255 for images of one or three channels, else fixed<16,6>.
std::string proposed_input_format(const ir::Graph& g);

std::string summary_text(const BuildResult& r);
std::string to_json(const BuildResult& r);

}  // namespace tandem::flow
