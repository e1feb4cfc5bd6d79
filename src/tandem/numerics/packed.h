// Arrays in a number format: quantise, pack, unpack, dequantise.
//
// Per group: (i) the statistic, exactly; (ii) the scale S, rounded into its encoding; (iii) every element cast against the
// encoded scale. That order is the definition. A group of zeros has scale 1 and codes of zero.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "tandem/numerics/format.h"
#include "tandem/tensor/tensor.h"

namespace tandem {

struct Packed {
  Format format;
  Shape shape;
  std::vector<std::uint8_t> codes;   // as format.layout says; each plane begins at a byte
  std::vector<float> scales;         // by group, values of the scale's encoding
  std::vector<std::int64_t> zeros;   // by group; empty without zero point
};

// The code of y on the element's grid, literal: neighbours on the grid, rounding, overflow. Integers: cast_code. Other
// elements: half_even takes the neighbour at an even distance (in grid points) from zero, overflow is judged as if the grid
// went on by one value. Elements of at most 16 bits, or integers.
std::uint64_t code_of(const Element& e, const CastSpec& c, const Rational& y);

// x: row-major, element_count(shape) values. Scales of source fixed or learned must be given (one per group, encoded);
// others may be. Asymmetric formats (zero=intN) choose Z so that 0 is exact. Throws Error(bad_input) for a NaN that the
// format cannot hold, for a scale that is not positive, and naming the part for formats that this does not do: type variants,
// scales per element or of a parent, percentile and mse scales, casts other than rounding, floats above 16
// bits other than f32 with scale one.
Packed quantise(std::span<const float> x, const Shape& shape, const Format& f, std::span<const float> scales = {},
                std::span<const std::int64_t> zeros = {});
// S * (decode(code) - Z), rounded once to f32.
std::vector<float> dequantise(const Packed& p);

// Group of every element and number of groups.
std::int64_t group_count(const ScaleSpec& s, const Shape& shape);
std::int64_t group_of(const ScaleSpec& s, const Shape& shape, std::int64_t index);

// Codes (as integers, one per element) to bytes and back.
std::vector<std::uint8_t> pack(std::span<const std::uint64_t> codes, const Format& f);
std::vector<std::uint64_t> unpack(std::span<const std::uint8_t> bytes, std::int64_t count, const Format& f);

// Bytes of codes, scales and zero points, each rounded up to whole bytes; and the same in bits per element.
std::uint64_t packed_bytes(const Format& f, const Shape& shape);
double bits_per_element(const Format& f, const Shape& shape);

}  // namespace tandem
