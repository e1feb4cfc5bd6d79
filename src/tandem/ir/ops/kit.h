// What the wide families of operators share: element-wise maps from a function, axes, indices, samples.
#pragma once
#include "tandem/base/rng.h"
#include "tandem/ir/arrays.h"
#include "tandem/ir/ops/common.h"

namespace tandem::ir {

using Ints = std::vector<std::int64_t>;

inline DType out_type(const EvalArgs<double>& e, std::size_t i = 0) { return e.graph.values[static_cast<std::size_t>(e.node.outputs[i])].type.dtype; }
inline DType in_type(const EvalArgs<double>& e, std::size_t i = 0) { return e.graph.values[static_cast<std::size_t>(e.node.inputs[i])].type.dtype; }
inline bool has(const EvalArgs<double>& e, std::size_t i) { return i < e.in.size() && e.in[i]; }
inline bool has(const InferContext& c, std::size_t i) { return i < c.in.size() && c.in[i]; }

// An index from a double: saturated, so that ONNX's INT64_MAX as "to the end" stays one.
inline std::int64_t to_int(double v) {
  if (v >= 9.2e18) return std::numeric_limits<std::int64_t>::max();
  if (v <= -9.2e18) return std::numeric_limits<std::int64_t>::min();
  return static_cast<std::int64_t>(v);
}
inline Ints to_ints(const Array<double>& a) {
  Ints v;
  for (double x : a.v) v.push_back(to_int(x));
  return v;
}

// The extents before an axis, at it and behind it.
struct Around {
  std::int64_t outer, n, inner;
  Around(const Shape& s, std::int64_t axis)
      : outer(element_count(Shape(s.begin(), s.begin() + axis))), n(s[static_cast<std::size_t>(axis)]),
        inner(element_count(Shape(s.begin() + axis + 1, s.end()))) {}
  std::int64_t at(std::int64_t o, std::int64_t k, std::int64_t i) const { return (o * n + k) * inner + i; }
};

template <class E>  // EvalArgs or InferContext
std::int64_t axis_of(const E& e, std::int64_t axis, std::size_t rank) { return normal_axis(axis, static_cast<std::int64_t>(rank), e.graph, e.node); }

// Steps through the positions of a shape, last axis fastest.
inline bool next(Shape& at, const Shape& s) {
  for (std::size_t d = s.size(); d-- > 0;) {
    if (++at[d] < s[d]) return true;
    at[d] = 0;
  }
  return false;
}
inline std::int64_t flat(const Shape& at, const Shape& s) {
  std::int64_t i = 0;
  for (std::size_t d = 0; d < s.size(); ++d) i = i * s[d] + at[d];
  return i;
}

// y[i] = f(x[i]), where `make(node, dtype of the output)` gives f.
template <auto make>
void map_eval(EvalArgs<double>& e) {
  const auto f = make(e.node, out_type(e));
  Array<double> y(e.in[0]->shape);
  for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = f(e.in[0]->v[i]);
  e.out[0] = std::move(y);
}

// f(the values along the axis), in place.
template <class F>
Array<double> along(const Array<double>& x, std::int64_t axis, F f) {
  const Around a(x.shape, axis);
  Array<double> y(x.shape);
  std::vector<double> v(static_cast<std::size_t>(a.n));
  for (std::int64_t o = 0; o < a.outer; ++o)
    for (std::int64_t i = 0; i < a.inner; ++i) {
      for (std::int64_t k = 0; k < a.n; ++k) v[static_cast<std::size_t>(k)] = x.v[static_cast<std::size_t>(a.at(o, k, i))];
      f(v);
      for (std::int64_t k = 0; k < a.n; ++k) y.v[static_cast<std::size_t>(a.at(o, k, i))] = v[static_cast<std::size_t>(k)];
    }
  return y;
}
void log_softmax(std::vector<double>& v);

inline void infer_first(InferContext& c) { c.out.assign(1, *c.in[0]); }
template <DType t>
void infer_first_as(InferContext& c) { c.out = {TensorType{t, c.in[0]->dims}}; }

// Extents from a list; negative ones are unknown.
inline TensorType typed(DType t, const Shape& s) { return {t, dims_of(s)}; }
inline TensorType unknown_rank(DType t) { return {t, std::nullopt}; }
inline TensorType unknown_extents(DType t, std::size_t rank) { return {t, Dims(rank)}; }

// A random case of an operator, as its literal's `sample` makes it: the node with inputs of sensible shapes and values.
struct Sample {
  Rng& r;
  Graph& g;
  std::vector<Tensor>& inputs;

  Tensor random(const Shape& s, double lo, double hi, DType t = DType::f32) const {
    Tensor x(t, s);
    for (std::int64_t i = 0; i < x.size(); ++i) {
      // Whole numbers over the whole interval, floats on a grid that every float format holds.
      const double u = lo + (hi - lo) * r.uniform();
      x.set(i, is_float(t) ? std::round(u * 64) / 64 : std::floor(std::min(u + r.uniform(), hi)));
    }
    return x;
  }
  ValueId input(const Shape& s, double lo = -2, double hi = 2, DType t = DType::f32) {
    inputs.push_back(random(s, lo, hi, t));
    return g.add_input(g.unique_name("x"), t, dims_of(s));
  }
  ValueId constant(const Shape& s, double lo, double hi, DType t = DType::f32) { return g.add_constant(g.unique_name("c"), random(s, lo, hi, t)); }
  ValueId ints(const Ints& v) { return g.add_constant(g.unique_name("i"), Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v)); }
  ValueId scalar(double v, DType t = DType::f32) {
    Tensor x(t, Shape{});
    x.set(0, v);
    return g.add_constant(g.unique_name("s"), std::move(x));
  }
  Shape shape(std::int64_t min_rank = 1, std::int64_t max_rank = 4) const {
    Shape s(static_cast<std::size_t>(r.range(min_rank, max_rank)));
    for (auto& d : s) d = r.range(1, 4);
    return s;
  }
  std::int64_t axis(std::size_t rank) const { return r.range(-static_cast<std::int64_t>(rank), static_cast<std::int64_t>(rank) - 1); }
  void node(const OpDef& op, std::vector<ValueId> in, std::map<std::string, Attribute> attrs = {}, std::size_t outputs = 1) {
    const ValueId first = g.add_node(std::string(op.name), std::move(in), std::move(attrs), "probe", std::string(op.domain));
    std::vector<ValueId> all{first};
    for (std::size_t i = 1; i < outputs; ++i) all.push_back(g.add_value(g.unique_name("probe_more")));
    g.nodes.back().outputs = all;
    g.outputs = all;
  }
};

// Families of operators, each a table of literals in its own file.
std::span<const OpDef> unary_ops();
std::span<const OpDef> binary_ops();
std::span<const OpDef> reduce_ops();
std::span<const OpDef> move_ops();
std::span<const OpDef> norm_ops();
std::span<const OpDef> loss_ops();
std::span<const OpDef> image_ops();
std::span<const OpDef> integer_ops();
std::span<const OpDef> recurrent_ops();
std::span<const OpDef> signal_ops();
std::span<const OpDef> algebra_ops();
std::span<const OpDef> control_ops();
std::span<const OpDef> tflite_ops();
std::span<const OpDef> tflite_recent_ops();
std::span<const OpDef> open_quant_ops();
std::span<const OpDef> ml_ops();
std::span<const OpDef> random_ops();
std::span<const OpDef> training_ops();
std::span<const OpDef> arrange_ops();
std::span<const OpDef> attention_ops();
std::span<const OpDef> contrib_ops();
std::span<const OpDef> contrib_matmul_ops();

}  // namespace tandem::ir
