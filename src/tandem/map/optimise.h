// The folding of a streaming design as an optimisation problem.
//
// Model. With an interval T that every stage keeps within (Folding::interval), what a layer needs depends on its own fold and
// on the lanes in which its operands come, and on nothing else (plan::expand_layer). So each layer has a table of options
// (lanes in, fold, lanes out -> LUTs, block RAMs, DSPs, multipliers), options that another one beats in everything are
// dropped, and a folding is one option per layer such that lanes out equal lanes in along every edge: converters are priced
// exactly, in the option of the layer that needs them.
//
// exact: an integer program over these options, solved by CBC; for the best throughput, one for each interval that bisection
// over the cycle counts of all options asks for. heuristic: the same tables, weights on the limits that are raised where a
// limit is broken, and for each choice of weights the best folding by dynamic programming over the lanes of live values;
// where no weights do, the same with up to 64 ways kept for each state.
// Latency is no sum over layers: what is made least is the sum of each layer's cycles times the share of its result that
// the next one needs before it can begin; figures printed afterwards are those of the twins.
// Multipliers are plain in the tables; other forms come afterwards (map/multipliers.h). Queues of joins are priced at a
// frame and sized afterwards (map/queues.h).
#pragma once
#include "tandem/map/folding.h"

namespace tandem::map {

enum class Objective : std::uint8_t { throughput, latency, resource };
enum class Method : std::uint8_t { heuristic, exact };
Objective objective_of(std::string_view name);  // Error(bad_input) for another word

struct FoldingGoal {
  Objective objective = Objective::throughput;
  Method method = Method::heuristic;
  std::int64_t interval = 0;  // most cycles a frame; 0: no limit. Required for resource
  double seconds = 60;        // for one integer program
};
struct FoldingStats {
  std::int64_t options = 0, programs = 0;  // options of the last table; integer programs solved
  double share = 0;                        // of LUTs and block RAMs, summed: what is made least at equal speed
};
// Throws Error(no) where no folding keeps the limits: with the smallest set of limits that exclude each other (none can be
// left out) and for each of them how far it would have to move. Error(tool_missing): exact without CBC.
Choice optimise_folding(const plan::StageGraph& g, const Budget& b, const FoldingGoal& goal, FoldingStats* stats = nullptr);

// What the tables say a folding of interval `f.interval` needs; equal to evaluate() (a test compares them).
Estimate by_tables(const plan::StageGraph& g, const plan::Folding& f, const plan::Calibration& family);

}  // namespace tandem::map
