// The iteration space of an operator as an extended Einsum: ranks with extents, affine access functions
// of the operands, a map and a reduce operator. Mappers and cost models read this and nothing else.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace tandem::ir {

struct Rank {
  std::string name;
  std::int64_t extent;
  bool reduced;  // contracted (does not appear in the output)
};
struct AffineTerm {
  int rank;  // index into Einsum::ranks
  std::int64_t coefficient;
};
struct AffineIndex {  // one index of an operand: sum of terms + offset
  std::vector<AffineTerm> terms;
  std::int64_t offset = 0;
};
struct Access {
  std::string operand;
  std::vector<AffineIndex> indices;
};
struct Einsum {
  std::vector<Rank> ranks;
  std::vector<Access> inputs;
  Access output;
  std::string map = "mul";     // mul, add, max, copy, relu, ...
  std::string reduce = "add";  // add, max, none
  bool valid() const { return !ranks.empty(); }
  std::int64_t iterations() const;  // product of extents: MACs of a contraction
  std::string text() const;         // "Y[n,o,p,q] += X[n,c,2*p+r-1,2*q+s-1] * W[o,c,r,s]"
};

}  // namespace tandem::ir
