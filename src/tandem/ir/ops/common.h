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
  struct Axis {
    std::int64_t n, stride;
  };
  std::vector<Axis> axes_;  // innermost first; those that act as one are one
};

// Windows of Conv and pooling over any number of axes, ONNX's attributes resolved (auto_pad, ceil_mode, dilations). For
// ceil_mode the padding behind grows so that out() gives the ceiling.
struct Windows {
  Shape kernel, stride, dilation, before, after;  // one entry per spatial axis
  Shape out(const Shape& in) const;               // extents of the output for spatial extents `in`
  // [positions * taps]: for each position of the output the flat indices of its window's elements within the spatial axes; -1: padding.
  std::vector<std::int64_t> taps(const Shape& in) const;
  bool padded() const;
};
// Throws Error(bad_input) naming the node on unsupported or inconsistent attributes, or where the window does not fit.
Windows windows_of(const Graph& g, const Node& n, const Shape& in, const Shape& kernel);
// Elements of each window that count in the mean, per position of the output.
std::vector<std::int64_t> window_counts(const Graph& g, const Node& n, const Windows& w, const Shape& in);
inline Shape spatial(const Shape& x) { return Shape(x.begin() + 2, x.end()); }
// Ranks of the positions (p, q, ...) and the taps (r, s, ...) of a window in an Einsum, and the indices into the windowed operand.
std::vector<Rank> position_ranks(const Shape& y, bool reduced);
std::vector<Rank> tap_ranks(const Shape& kernel, bool reduced);
std::vector<AffineIndex> window_indices(const Windows& w, int position, int tap);
inline AffineIndex index_of(int rank) { return {{{rank, 1}}, 0}; }
// sum over channels and taps of x * w (+ bias where it is not null), groups given by the weights' extents. [N, C, ...] * [O, C/group, ...].
template <class T>
Array<T> convolve(const Array<T>& x, const Array<T>& w, const Array<T>* bias, const Windows& windows) {
  const Shape in = spatial(x.shape), out = windows.out(in);
  const std::int64_t N = x.shape[0], C = x.shape[1], O = w.shape[0], Cg = w.shape[1], Og = Cg ? O / (C / Cg) : O;
  const std::vector<std::int64_t> taps = windows.taps(in);
  const std::int64_t size = element_count(in), positions = element_count(out), window = element_count(windows.kernel);
  Shape ys{N, O};
  ys.insert(ys.end(), out.begin(), out.end());
  Array<T> y(ys);
  for (std::int64_t n = 0; n < N; ++n)
    for (std::int64_t o = 0; o < O; ++o) {
      T* to = y.v.data() + (n * O + o) * positions;
      std::fill(to, to + positions, bias ? bias->v[static_cast<std::size_t>(o)] : T(0));
      for (std::int64_t c = 0; c < Cg; ++c) {
        const T* from = x.v.data() + (n * C + o / Og * Cg + c) * size;
        const T* by = w.v.data() + (o * Cg + c) * window;
        for (std::int64_t p = 0; p < positions; ++p)
          for (std::int64_t k = 0; k < window; ++k)
            if (const std::int64_t at = taps[static_cast<std::size_t>(p * window + k)]; at >= 0) to[p] += from[at] * by[k];  // padding is the real 0
      }
    }
  return y;
}
void infer_convolution(InferContext& c, std::size_t weights);  // shapes of inputs 0 and `weights` to the shape of the output, of input 0's type

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

extern const OpDef kConv, kConvTranspose, kMaxPool, kAveragePool, kLpPool, kGlobalAveragePool, kGlobalMaxPool, kGlobalLpPool, kMaxUnpool, kMatMul, kGemm, kAdd, kSub, kMul, kDiv, kPow,
    kBatchNormalization, kRelu, kClip, kFlatten, kReshape, kSqueeze, kUnsqueeze, kShape, kGather, kTranspose, kConcat,
    kArgMax, kArgMin, kSoftmax, kIdentity, kDropout, kQuant, kBipolarQuant, kThreshold, kDelay;

}  // namespace tandem::ir
