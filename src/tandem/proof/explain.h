// Why two sets of values differ: layer by layer, the first element, the cause, and the signals around it.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/ir/exact.h"
#include "tandem/proof/cause.h"
#include "tandem/proof/verify.h"
#include "tandem/report/chart.h"
#include "tandem/tensor/npy.h"

namespace tandem::proof {

struct FirstDifference {
  std::int64_t frame = 0, element = 0;   // element: logical, row-major, of the frame
  std::vector<std::int64_t> index;       // the same by axis
  double expected = 0, actual = 0;
  std::int64_t cycle = -1;               // of the beat, in hardware
};
struct LayerDifference {
  std::string layer, node;       // of the plan and of the graph
  std::string where;             // hardware: "net_05_mvau, wire net.e05_0"
  std::int64_t elements = 0, differing = 0;
  double max = 0, mean = 0;      // of |expected - actual|, the mean over all elements
  std::optional<FirstDifference> first;
  Cause cause;
};
struct ExplainParams {
  std::uint64_t seed = 0;
  std::vector<double> stalls{0, 0.3, 0.7};  // the first run that differs is explained
  std::int64_t frames = 64;      // of those given: the first ones
  std::int64_t around = 50;      // cycles before and after the first difference
  double seconds = 600;
};
struct Explanation {
  std::string against;           // "Verilog", "float32", "values.npz"
  std::vector<LayerDifference> layers;
  std::string fault;             // of the protocol or a deadlock
  double stall = 0;              // of the run
  std::int64_t frames = 0;
  std::optional<report::Waveform> wave;
  std::string vcd, gtkw;         // of the same cycles; empty when nothing differs
  bool equal() const;
  const LayerDifference* first() const;  // the first layer that differs, in the order of the data
  std::string text() const;
};
// The Verilog of a design against the exact program: every stream that leaves a layer, and the queues and converters between
// them. `frames`: [n, ...] of the program's input.
Explanation explain(const rtl::Design& d, const plan::StageGraph& g, const ir::ExactProgram& p, const Tensor& frames, const ExplainParams& params = {},
                    const Cancel& cancel = Cancel::never());
// Values of the graph, by name, against the exact ones: what the user expects ([n, ...] each; unknown names and other shapes
// are bad input), or what a float32 runtime computes. `frames` as above.
Explanation explain_values(const ir::Graph& graph, const Tensor& frames, const Archive& expected, const Cancel& cancel = Cancel::never());
Explanation explain_float(const ir::Graph& graph, const Tensor& frames, const Cancel& cancel = Cancel::never());

std::string to_json(const Explanation& e);
// first.vcd and first.gtkw; nothing where nothing differs. Names the files written.
std::vector<std::filesystem::path> write_waves(const Explanation& e, const std::filesystem::path& folder);

}  // namespace tandem::proof
