// What the operator literals share: broadcasting, evaluators from one template, inference helpers.
#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>

#include "tandem/ir/op.h"
#include "tandem/numerics/cast.h"

namespace tandem::ir {

// An Evaluator from `struct F { template <class T> static void run(EvalArgs<T>&); };`
template <class F>
constexpr Evaluator both() {
  return {&F::template run<double>, &F::template run<Rational>};
}
template <class F>
constexpr Evaluator float_only() {
  return {&F::template run<double>, nullptr};
}

template <class T> T number_from(double x);
template <> inline double number_from<double>(double x) { return x; }
template <> inline Rational number_from<Rational>(double x) { return exact(x); }
inline Rational number_exact(double x) { return exact(x); }
inline const Rational& number_exact(const Rational& x) { return x; }
template <class T> T number_of(const Rational& q);
template <> inline double number_of<double>(const Rational& q) { return nearest_double(q); }
template <> inline Rational number_of<Rational>(const Rational& q) { return q; }

Shape broadcast(const Shape& a, const Shape& b);
// Maps the flat index of an output of shape `out` to that of an operand of shape `in`.
class Broadcaster {
 public:
  Broadcaster(const Shape& in, const Shape& out);
  std::int64_t operator()(std::int64_t flat) const;

 private:
  Shape out_;
  std::vector<std::int64_t> stride_;
  bool same_;
};

// 2-D windows of Conv and pooling, ONNX's attributes resolved (auto_pad, ceil_mode, dilations).
struct Window {
  std::int64_t kh, kw, sh, sw, dh, dw, pt, pl, pb, pr;
  std::int64_t out_h(std::int64_t h) const { return (h + pt + pb - dh * (kh - 1) - 1) / sh + 1; }
  std::int64_t out_w(std::int64_t w) const { return (w + pl + pr - dw * (kw - 1) - 1) / sw + 1; }
};
// Throws Error(bad_input) naming the node on unsupported or inconsistent attributes. For ceil_mode the
// end padding grows so that out_h/out_w give the ceiling.
Window window_of(const Graph& g, const Node& n, std::int64_t h, std::int64_t w, std::int64_t kh, std::int64_t kw);
// Elements of each window that count in the mean: [out_h * out_w].
std::vector<std::int64_t> window_counts(const Graph& g, const Node& n, const Window& w, std::int64_t h, std::int64_t width);

Dims broadcast_dims(const InferContext& c, const Dims& a, const Dims& b);
std::int64_t normal_axis(std::int64_t axis, std::int64_t rank, const Graph& g, const Node& n);
std::vector<std::int64_t> int_list(const Tensor& t);
// The f32 factor A = gamma / sqrt(var + eps): exact radicand, correctly rounded once (docs/semantics.md 2).
float batchnorm_factor(float gamma, float var, float epsilon);
// [n, k] x [k, m] with batch broadcasting: extents of a MatMul.
struct MatMulShape {
  Shape batch, out;
  std::int64_t n, k, m;
  bool a_vector, b_vector;
};
MatMulShape matmul_shape(const Graph& g, const Node& node, const Shape& a, const Shape& b);
// The cast of a quantiser node from its constant inputs, one per group. Shared by every engine.
struct QuantiserCasts {
  std::vector<Cast> casts;  // one per group
  Shape group;              // as Grouped::shape
  std::string format;       // "uint4", "int8", "bipolar"
  int bits = 0;
  bool is_signed = false;
};
QuantiserCasts quant_spec(const Graph& g, const Node& n, const Shape& x);

Error node_error(const Graph& g, const Node& n, std::string what);
Einsum elementwise_einsum(const Graph& g, const Node& n);
Shape shape_of(const Graph& g, ValueId v);  // all extents known, or Error naming the value

extern const OpDef kConv, kMaxPool, kAveragePool, kGlobalAveragePool, kMatMul, kGemm, kAdd, kSub, kMul, kDiv, kPow,
    kBatchNormalization, kRelu, kClip, kFlatten, kReshape, kSqueeze, kUnsqueeze, kShape, kGather, kTranspose, kConcat,
    kArgMax, kSoftmax, kIdentity, kDropout, kQuant, kBipolarQuant, kThreshold, kDelay;

}  // namespace tandem::ir
