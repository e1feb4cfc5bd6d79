// What the forms of domain "tflite" share: their quantised operands, checks, samples and attributes.
#pragma once
#include "tandem/ir/ops/kit.h"
#include "tandem/ir/ops/tflite.h"

namespace tandem::ir::tflite {

using Args = EvalArgs<double>;

inline constexpr std::string_view kDomain = "tflite", kSource = "TensorFlow Lite, quantisation specification; reference kernels of TensorFlow Lite Micro";

// ---- attributes -----------------------------------------------------------------------------------
struct Quantised {
  float scale = 1;
  std::int32_t zero = 0;
};
inline Quantised quantised(const Node& n, std::string_view port) {
  return {static_cast<float>(n.attr_float(fmt::format("{}_scale", port), 1)), static_cast<std::int32_t>(n.attr_int(fmt::format("{}_zero", port), 0))};
}
inline std::vector<float> scales(const Node& n, const std::string& key) {
  std::vector<float> s;
  if (const auto it = n.attrs.find(key); it != n.attrs.end())
    if (const auto* v = std::get_if<std::vector<double>>(&it->second)) s.assign(v->begin(), v->end());
  return s;
}
struct Range {
  std::int64_t least, most;
};
inline Range range_of(DType t) {
  const auto [lo, hi] = integer_range(t);
  return {static_cast<std::int64_t>(lo), static_cast<std::int64_t>(hi)};
}
// The integers that a fused activation leaves.
inline Range activation_range(const Node& n, DType t, const Quantised& y) {
  Range r = range_of(t);
  const std::string a = n.attr_string("activation", "NONE");
  const auto at = [&](float v) {
    const float q = std::round(v / y.scale);
    return y.zero + static_cast<std::int64_t>(std::clamp(q, -2147483648.f, 2147483520.f));
  };
  if (a == "RELU" || a == "RELU6") r.least = std::max(r.least, at(0));
  if (a == "RELU6") r.most = std::min(r.most, at(6));
  if (a == "RELU_N1_TO_1") r.least = std::max(r.least, at(-1)), r.most = std::min(r.most, at(1));
  return r;
}
inline std::int64_t clamped(std::int64_t v, const Range& r) { return std::min(std::max(v, r.least), r.most); }

// ---- checks at compile time -----------------------------------------------------------------------
inline void need(const InferContext& c, bool ok, const std::string& what, const std::string& expected = "") {
  if (!ok) c.fail(what, expected);
}
inline DType type_at(const InferContext& c, std::size_t i) { return c.in[i]->dtype; }
inline void need_type(const InferContext& c, std::size_t i, std::initializer_list<DType> types) {
  if (!has(c, i)) return;
  std::string list;
  for (DType t : types) list += fmt::format("{}{}", list.empty() ? "" : " or ", to_string(t));
  need(c, std::find(types.begin(), types.end(), type_at(c, i)) != types.end(), fmt::format("input {} holds {}", i, to_string(type_at(c, i))), list);
}
inline void need_quantised(const InferContext& c, std::string_view port, DType t, bool symmetric = false) {
  const double s = c.node.attr_float(fmt::format("{}_scale", port), 1);
  need(c, s > 0 && std::isfinite(s) && std::isfinite(static_cast<float>(s)), fmt::format("{}_scale is {}", port, s), "a positive number");
  const std::int64_t z = c.node.attr_int(fmt::format("{}_zero", port), 0);
  const Range r = range_of(t);
  need(c, is_float(t) || (z >= r.least && z <= r.most), fmt::format("{}_zero is {}", port, z), fmt::format("a number of {}", to_string(t)));
  need(c, !symmetric || z == 0, fmt::format("{}_zero is {}", port, z), "0: integers of 16 bits are symmetric");
}
inline void need_activation(const InferContext& c) {
  const std::string a = c.node.attr_string("activation", "NONE");
  need(c, a == "NONE" || a == "RELU" || a == "RELU6" || a == "RELU_N1_TO_1", fmt::format("activation '{}'", a), "NONE, RELU, RELU6 or RELU_N1_TO_1");
}
inline void need_multiplier(const InferContext& c, Multiplier f, bool wide = false) {
  need(c, f.shift >= -31 && f.shift <= (wide ? 7 : 30), fmt::format("the scales differ by a factor of 2^{}", f.shift), wide ? "at most 2^7 for 64-bit sums" : "at most 2^30");
}
// All extents of an input, or nothing where some are not known.
inline std::optional<Shape> extents(const InferContext& c, std::size_t i) {
  if (!has(c, i) || !c.in[i]->dims || !all_known(*c.in[i]->dims)) return std::nullopt;
  Shape s;
  for (const Dim& d : *c.in[i]->dims) s.push_back(d.n);
  return s;
}
inline void need_rank(const InferContext& c, std::size_t i, std::size_t rank) {
  need(c, !has(c, i) || !c.in[i]->dims || c.in[i]->dims->size() == rank,
       fmt::format("input {} has {} axes", i, has(c, i) && c.in[i]->dims ? c.in[i]->dims->size() : 0), fmt::format("{}", rank));
}

// ---- element by element ---------------------------------------------------------------------------
// y[i] = f(x[i]) on integers.
template <class F>
void map(Args& e, F f) {
  Array<double> y(e.in[0]->shape);
  for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = static_cast<double>(f(static_cast<std::int32_t>(e.in[0]->v[i])));
  e.out[0] = std::move(y);
}
inline void infer_map(InferContext& c) {
  need_type(c, 0, {DType::i8, DType::i16});
  need_quantised(c, "x", type_at(c, 0), false), need_quantised(c, "y", type_at(c, 0), false);
  c.out.assign(1, *c.in[0]);
}

// ---- samples --------------------------------------------------------------------------------------
inline double some_scale(const Sample& s) { return static_cast<float>(s.r.uniform() * 0.1 + 0.002); }
inline DType some_type(const Sample& s) { return s.r.chance(0.5) ? DType::i8 : DType::i16; }
inline std::int64_t some_zero(const Sample& s, DType t) { return t == DType::i8 ? s.r.range(-128, 127) : 0; }
inline double least_of(DType t) { return integer_range(t).first; }
inline double most_of(DType t) { return integer_range(t).second; }
inline std::string some_activation(const Sample& s) {
  static constexpr std::string_view names[] = {"NONE", "RELU", "RELU6", "RELU_N1_TO_1"};
  return std::string(names[s.r.range(0, 3)]);
}
inline ValueId some_input(Sample& s, const Shape& shape, DType t) { return s.input(shape, least_of(t), most_of(t), t); }
using Attributes = std::map<std::string, Attribute>;

// ---- literals -------------------------------------------------------------------------------------
inline AttrDef scale_of(std::string_view name) { return {name, AttrType::real, "1", "the real value of one step; f32"}; }
inline AttrDef zero_of(std::string_view name) { return {name, AttrType::integer, "0", "the integer that stands for 0"}; }
inline const AttrDef kActivation{"activation", AttrType::string, "NONE", "clamps the result: NONE, RELU, RELU6 or RELU_N1_TO_1"},
    kPadding{"padding", AttrType::string, "VALID", "SAME: ceil(n / stride) positions; VALID: whole windows only"},
    kStrides{"strides", AttrType::integers, "1, 1", "height, width"}, kDilations{"dilations", AttrType::integers, "1, 1", "height, width"},
    kAccumulator{"accumulator", AttrType::integer, "32", "bits of the sums; 64 for i16, where the product with the factor then keeps 15 bits of it"},
    kWeightScale{"w_scale", AttrType::reals, "required", "one, or one per output channel"},
    kTo{"to", AttrType::integer, "", "the output's type, by ONNX's number"};
inline std::vector<AttrDef> attributes(std::initializer_list<AttrDef> first, std::initializer_list<AttrDef> more = {}) {
  std::vector<AttrDef> a(first);
  a.insert(a.end(), more.begin(), more.end());
  return a;
}

// Of Conv2D, DepthwiseConv2D, TransposeConv, FullyConnected and BatchMatMul.
Einsum contraction_einsum(const Graph& g, const Node& n);
Einsum svdf_einsum(const Graph& g, const Node& n);

}  // namespace tandem::ir::tflite
