// The self-test: random graphs through every engine, compared to the bit. The same for every user, with
// any seed. A mismatch is shrunk (shrink.h) and saved as a graph file with its inputs.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/ir/graph.h"
#include "tandem/rtl/generate.h"

namespace tandem::proof {

struct SelftestParams {
  std::int64_t graphs = 100;
  std::uint64_t seed = 0;
  // ref: the literal evaluator (the oracle, always there) and the carrier; exec; train: evaluation mode
  // behind the door; rtl: Verilog in Verilator (streaming graphs only).
  std::vector<std::string> engines{"ref", "exec"};
  // quantised: integer networks, each engine equal to the bit. all: graphs of every operator; ref then also means export and
  // import and extents as inferred, exec the float executor, node by node to 16 units in the last place of the largest number.
  std::string operators = "quantised";
  std::filesystem::path out = ".";     // folder for the graph file of a mismatch
  int shrink_rounds = 40;              // most rounds of cutting a mismatch down (a round of engine rtl takes seconds)
  // For the test of the self-test: changes what an engine computes (ref: the carrier), and the Verilog before it is simulated.
  std::function<void(std::string_view engine, const ir::Graph& g, std::vector<Tensor>& outputs)> tamper;
  std::function<void(const plan::StageGraph& g, rtl::Design& d)> tamper_rtl;
  std::function<void(std::int64_t done, std::int64_t total)> progress;
};
struct SelftestMismatch {
  std::string engine, what;            // "output 0 element 3: ref 0.5, exec 0.25"
  std::uint64_t seed = 0;              // of the graph
  std::string file;                    // the saved graph; its inputs lie beside it (.npz)
  std::string replay;                  // the command that shows it again
  int nodes = 0;                       // of the saved graph
};
struct EngineCount {
  std::int64_t graphs = 0, values = 0, refused = 0, mismatches = 0;
};
struct SelftestStats {
  std::int64_t graphs = 0;
  std::map<std::string, EngineCount> engines;
  std::map<std::string, std::int64_t> operators;  // how often each operator was drawn
  std::vector<SelftestMismatch> mismatches;
  double seconds = 0;
  bool ok() const { return mismatches.empty(); }
};
// Engines a caller may name. Throws Error(bad_input) for another one, Error(tool_missing) where the
// engine needs something that is not installed.
std::vector<std::string> selftest_engines();
SelftestStats selftest(const SelftestParams& params, const Cancel& cancel = Cancel::never());
// A saved mismatch again, through the engine that it names (or those of `params`, for another model), with its inputs and folding.
// Nothing is shrunk or saved.
SelftestStats selftest_replay(const std::filesystem::path& file, const SelftestParams& params, const Cancel& cancel = Cancel::never());

}  // namespace tandem::proof
