// What each engine would do with each node of a model, found by asking the engines; nothing is run or written.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "tandem/hardware/target.h"
#include "tandem/ir/graph.h"

namespace tandem::flow {

struct NodeVerdict {
  std::string node, op;  // Graph::describe(); operator with its domain unless ONNX
  std::string ref;       // exact, f32 (rounded at every node, on the host), folded (constant), unknown
  std::string exec;      // the same, or no
  std::string train;     // yes, no
  std::string hardware;  // the kind of its stage (dense, requant ...), merged (into a neighbour: costs nothing), host, folded, no
};
struct EngineRefusal {
  std::string engine;    // exec, train, hardware, all (an unknown operator)
  std::string node;      // empty: the whole model
  std::string reason;
  std::string fix;       // the rewrite that would help; never empty
};
struct DoctorParams {
  std::optional<hardware::Target> target;  // absent: whether hardware exists at all, not whether it fits
  std::string input_format;                // as BuildParams::input_format
};
struct DoctorReport {
  std::vector<NodeVerdict> nodes;          // in the model's order
  std::vector<EngineRefusal> refused;
  std::vector<std::string> notes;          // free extents bound to 1, what the host computes
  std::string fit;                         // with a target: estimated use, what limits the speed
  // Nothing is refused but for training: a finished model need not be trained.
  bool ok() const;
};
// Errors: a structure that is no model (bad_input). Unknown operators are verdicts, not errors.
DoctorReport examine(const ir::Graph& model, const DoctorParams& params = {});

std::string to_text(const DoctorReport& r);
std::string to_json(const DoctorReport& r, std::string_view model, std::string_view target);

}  // namespace tandem::flow
