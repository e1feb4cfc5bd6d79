// Mutation testing of the proof: single faults put into generated Verilog must be found by `verify`; what survives is either
// proven equivalent or a hole in the bench.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/proof/verify.h"

namespace tandem::proof {

enum class FaultClass { operation, constant, width, sign, address, handshake };
inline constexpr int kFaultClasses = 6;
std::string_view name_of(FaultClass c);

// One fault: some text of one stage's module replaced.
struct Mutation {
  std::size_t design = 0;
  int stage = 0;
  FaultClass kind = FaultClass::operation;
  std::size_t at = 0, length = 0;  // in the module's file
  std::string to;
  std::string line, changed;       // the whole line before and after
};
// Every fault of the classes that can be put into a stage's module, in order.
std::vector<Mutation> mutations_of(const rtl::Design& d, int stage);
// The design under another prefix, with the fault; its other modules are those of the original.
rtl::Design mutated(const rtl::Design& d, const Mutation& m, std::string_view prefix);

struct MutationParams {
  std::int64_t mutants = 200;
  std::uint64_t seed = 0;
  std::int64_t per_model = 40;
  double proof_seconds = 90;       // of each proof
  bool prove = true;
  std::function<void(const std::string&)> say;  // what is done, and each proof
};
enum class Fate { caught, equivalent, slower, survived, invalid };
struct Mutant {
  Mutation mutation;
  std::string stage;               // name of its kind
  Fate fate = Fate::survived;
  std::string how;                 // what caught it, or what the proof says
};
struct MutationStats {
  std::vector<Mutant> mutants;     // without the invalid: those that Verilator refuses
  std::int64_t caught = 0, equivalent = 0, slower = 0, survived = 0, invalid = 0;
  std::vector<std::string> refused;  // the invalid, with Verilator's words
  std::map<std::string, std::int64_t> by_stage, by_class;
  double seconds = 0;
  // Of those that change any word: those that are proven to change none (equivalent), or only the time, do not.
  double caught_share() const;
  std::string text() const;
};
// Draws the mutants evenly over the kinds of stage among the designs and the classes of faults, and judges each by verify().
// equivalent: the module sends the same for ever whatever a legal sender sends, within the range that its layer is declared for, and whatever the receiver does.
// slower: every word right, other cycles. What is not settled counts as survived.
// Throws Error(tool_missing) without Verilator; without yosys nothing is proven.
MutationStats run_mutants(std::span<const rtl::Design> designs, std::span<const plan::StageGraph> graphs, std::span<const ir::ExactProgram> programs, std::span<const Stimulus> stimuli, const MutationParams& params,
                          const Cancel& cancel = Cancel::never());

}  // namespace tandem::proof
