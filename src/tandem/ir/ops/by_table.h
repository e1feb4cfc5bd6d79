// Softmax and layer normalisation as integer arithmetic with a table: what operators TableSoftmax and TableNormalize mean, in every engine.
//
// Softmax is TensorFlow Lite's int8 form (ops/tflite.h), whose exponential becomes a table by the difference to the largest element:
//   E_i = exps[largest - N_i] (31 fraction bits), S = sum of (E_i + 2^11) >> 12, R = its reciprocal by three steps of Newton,
//   Y_i = min(high_product(R, E_i) rounded to `bits` fraction bits, 2^bits - 1).
// Normalisation of n integers, with D_i = n N_i - sum N, V = n sum N^2 - (sum N)^2 + epsilon:
//   V = m 4^e with 1 <= m < 4, r = roots[the A highest bits of m] (about 2^f / sqrt m), Y_i = D_i r / 2^(f + e - bits) rounded, ties up;
//   all 0 where V = 0. roots has 2^A entries, indexed by m 2^(A-2).
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "tandem/ir/op.h"
#include "tandem/numerics/rational.h"

namespace tandem::ir {

inline constexpr std::int64_t kMostExponentials = 4096;
// Elements whose sum always fits its 12 integer bits.
inline constexpr std::int64_t kMostSoftmax = 4095;
// exp(-beta * scale * d) for d = 0, 1, ... as TensorFlow Lite's softmax has it; 0 where it leaves a difference out.
std::vector<std::int32_t> tflite_exponentials(float scale, float beta, std::int64_t n);
// `below`: largest - N of each element; beyond the table the exponential is 0.
void softmax_by_table(std::span<const std::int64_t> below, std::span<const std::int32_t> exps, int bits, std::span<std::int64_t> y);

// 2^f / sqrt(m) at the middle of each entry's interval; entries below a quarter are 0.
std::vector<std::int32_t> root_table(int address_bits, int root_bits);
void normalise_by_table(std::span<const std::int64_t> x, std::span<const std::int32_t> roots, int root_bits, int bits, std::int64_t epsilon, std::span<std::int64_t> y);
// The epsilon of a TableNormalize of so many elements, in its integers.
std::int64_t normalise_epsilon(const Graph& g, const Node& n, std::int64_t elements);
// Magnitude that no result of n elements exceeds.
std::int64_t normalised_bound(std::int64_t n, std::span<const std::int32_t> roots, int root_bits, int bits);

std::span<const OpDef> by_table_ops();

}  // namespace tandem::ir
