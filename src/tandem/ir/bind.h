// Free extents of a graph's inputs: bound for those who only look at it, or as the user says; or open with a bound.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tandem/ir/graph.h"

namespace tandem::ir {

// What is known of a symbol whose extent stays open. Kept in the graph's metadata as "tandem.extent.SYMBOL", so that files carry it.
struct Bound {
  std::int64_t most = 0;                                 // its largest value
  std::vector<std::pair<std::int64_t, double>> shares;   // values and how often they occur (sum 1); empty: unknown
};
// Error(bad_input) where the metadata say something else than "<=128" or "16*3,128*1".
std::map<std::string, Bound> bounds_of(const Graph& g);

// Binds every free extent of the inputs, to its largest value where there is a bound and to 1 elsewhere, and infers shapes; `notes`
// says what was bound. Error(bad_input): an input without a rank, and what infer_shapes() refuses.
Graph bind_free(const Graph& g, std::vector<std::string>* notes = nullptr);

// Calls f(graph, share) for every combination of the values of symbols whose shares are known, taken as independent; other extents
// as bind_free() has them. The shares sum to 1. Error(limit) above 4,096 combinations. Not called where no shares are known.
void for_each_extent(const Graph& g, const std::function<void(const Graph&, double)>& f);

// "batch=1" gives a symbol its extent; "x:0=1" axis 0 of the input x, whether it has a symbol, none, or another extent; "seq<=128"
// bounds a symbol, "seq=16*3,128*1" says that 16 is three times as frequent as 128 and nothing else occurs.
// Error(bad_input) names the symbols and inputs there are.
Graph bind_extents(const Graph& g, const std::vector<std::string>& extents);

}  // namespace tandem::ir
