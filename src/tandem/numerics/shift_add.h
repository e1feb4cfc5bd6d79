// Products with constant matrices as sums of shifted values: weights by canonical signed digits, pairs of terms that
// occur more than once computed once, every sum of two operands.
//
// Greedy elimination of the most frequent two-term pattern over all rows (as in multiple-constant multiplication: Hartley 1996,
// Paar 1997), then a tree per row that joins the earliest terms first.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "tandem/numerics/rational.h"

namespace tandem {

struct ShiftAdd {
  // (a << shift_a) + (b << shift_b), each negated where `minus`; b = -1: a alone. At least one shift is 0, and never both minus.
  struct Node {
    int a = -1, b = -1;
    int shift_a = 0, shift_b = 0;
    bool minus_a = false, minus_b = false;
    int stage = 0;           // register level; inputs 0
    int held = 0;            // levels that its value is still needed for after its own
    Int128 lo = 0, hi = 0;   // range, by intervals
    int bits = 1;            // what its readers need of it; fewer than the range where higher bits cancel
    bool is_signed = false;  // how a reader that wants more bits extends it
  };
  struct Output {
    int node = -1;  // -1: zero
    int shift = 0;
  };
  int inputs = 0;
  std::vector<Node> nodes;  // the inputs, then the sums; operands come before their readers
  std::vector<Output> outputs;
  int depth = 0;            // register levels of every output

  std::int64_t adders() const { return static_cast<std::int64_t>(nodes.size()) - inputs; }
  std::int64_t adder_bits() const;   // full adders: bits below the shift of the second operand pass
  std::int64_t double_bits() const;  // of these: both operands vary (else a carry chain alone does it where carries have their own input)
  std::int64_t held_bits() const;    // of values that wait for three levels or more: shift registers
  std::vector<Int128> run(std::span<const Int128> x) const;  // without the widths
};
// Full adders of a node: its bits, less those that pass unchanged.
int full_adders(const ShiftAdd::Node& n);

// Non-zero canonical signed digits of w: position and sign.
struct Digit {
  int shift = 0;
  bool minus = false;
};
std::vector<Digit> signed_digits(std::int64_t w);

// weights[rows][columns]; inputs of `bits`; results needed modulo 2^out_bits, which must hold every result.
ShiftAdd shift_add(std::span<const std::int64_t> weights, std::int64_t rows, std::int64_t columns, int bits, bool is_signed, int out_bits);

}  // namespace tandem
