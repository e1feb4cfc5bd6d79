// What several commands do with a model file.
#pragma once
#include <string>
#include <vector>

#include "tandem/cli/command.h"
#include "tandem/ir/bind.h"
#include "tandem/ir/kinds.h"

namespace tandem::cli {

// A model and what is said of it on the command line: `tandem VERB MODEL [--weights FILE] [--dim batch=1]`.
struct ModelArgs {
  std::string file, weights;
  std::vector<std::string> dims;
  bool cache = false, quantisers = false;
  bool look_only = false;  // weights that are not there may be invented unasked: only the structure counts
  void declare(Options& o, const std::string& help, bool required = true);
  // Any format, told apart by content. Free extents that --dim does not name are still symbols.
  ir::Graph read(const Context& c) const;  // its structure: operators may be unknown
  ir::Graph load(const Context& c) const;  // verified
};

using ir::bind_free;

using ir::kinds_of;

// The row of `tandem ops` for one operator: what each engine does with a graph of this operator between
// quantisers. Found by asking the engines, not by a list.
struct OpCells {
  std::string ref, carrier, exec, train, rtl, adjoint;  // "exact", "f32", "yes", or "no: reason"
};
OpCells cells_of(std::string_view domain, std::string_view op);
// A graph of one operator between two quantisers; empty nodes when the operator is not of forward graphs.
// `inputs`: arrays that suit it, where the operator draws its own case.
ir::Graph probe_graph(std::string_view domain, std::string_view op, std::vector<Tensor>* inputs = nullptr);

}  // namespace tandem::cli
