// A graph as text for people, error reports and comparisons.
#pragma once
#include <string>

#include "tandem/ir/graph.h"

namespace tandem::ir {

// One line per input, initialiser and node, in the order of the graph; the same graph gives the same bytes.
// Initialisers show their first values and a hash of all of them.
std::string to_text(const Graph& g);

std::string to_text(const Attribute& a);

// Equal in everything that a graph says: names, types, order, attributes, bytes of tensors, metadata.
// Value ids may differ. Returns the first difference as a sentence, or an empty string.
std::string first_difference(const Graph& a, const Graph& b);

}  // namespace tandem::ir
