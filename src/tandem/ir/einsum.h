// The iteration space of an operator as an extended Einsum: a cascade of statements, each with ranks and their extents, access
// functions of the operands, a map and a reduce operator. Mappers and cost models read this and nothing else.
//
// A statement runs its map at every point of its ranks that its guards let pass and where every access lies inside its operand;
// other points give nothing. An output starts at 0 (add) or unset; a later statement overwrites or goes on from what is there.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::ir {

struct Rank {
  std::string name;
  std::int64_t extent;
  bool reduced;           // contracted (does not appear in the output)
  bool stepwise = false;  // one step after the other: neighbouring statements that name it run together, step by step
};
struct AffineTerm {
  int rank;  // index into Einsum::ranks
  std::int64_t coefficient;
};
struct DataTerm;
struct AffineIndex {  // one index of an operand: floor((sum of terms + offset) / divisor) + the data terms
  std::vector<AffineTerm> terms;
  std::int64_t offset = 0;
  std::int64_t divisor = 1;
  std::vector<DataTerm> data;  // no initialiser: the type is not complete here
  bool clamped = false;  // to the operand's extent
};
// An operand with one index for each axis; with one index in all, of its row-major elements. Without a name: the number that its
// one index is (its quotient exact). A name that is a number is that number.
struct Access {
  std::string operand;
  std::vector<AffineIndex> indices = {};
};
struct DataTerm {  // the largest integer not above an element of another operand
  Access from;
  std::int64_t coefficient = 1;
};
struct Guard {  // only points where `test` is above 0
  Access test;
  int rank = -1;             // of which, for given others, ...
  std::int64_t passes = -1;  // ... this many points pass; -1: it depends
};
struct Einsum {
  std::vector<Rank> ranks;
  std::vector<Access> inputs;
  Access output;
  std::string map = "mul";     // mul, add, sub, max, copy, an operator's name in small letters, ...
  std::string reduce = "add";  // add, mul, max, min, argmax, none: the last one written. argmax keeps its second input where the first is largest, or its last
  std::vector<Guard> guards = {};
  std::vector<Einsum> before = {};  // the statements that run first
  bool valid() const { return !output.operand.empty(); }
  std::int64_t iterations() const;  // of this statement: product of extents (guarded ones as far as they pass)
  std::int64_t macs() const;        // of the cascade: iterations of products that are summed
  std::string text() const;         // "Y[n,o,p,q] += X[n,c,2*p+r-1,2*q+s-1] * W[o,c,r,s]", a line for each statement
  std::vector<const Einsum*> statements() const;
};

// From such a text: ranks are the names in `extents`, in order of appearance; those missing in the output's affine terms are reduced.
//   for t: S[t+1,h] += W[h,k] * S[t,k]                    a stepwise rank
//   Y[p] = X[clamp(floor((2*p+1)/3))]                      rational, clamped
//   V[p] += X[floor(U[p])+i] * hat ...                     an index read from data
//   Y[b,o] += W[e,o,i] * X[b,i] where S[b,e] (2 of e)      guarded; {2*p+r-1} is a number made of ranks
Einsum parse_einsum(std::string_view text, const std::map<std::string, std::int64_t>& extents);

}  // namespace tandem::ir
