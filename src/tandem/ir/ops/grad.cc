// Operators of domain "tandem" that adjoints emit and forward graphs do not need. Each is defined here
// once, as a template over double and Rational; none is closed on the exact carrier (a training step
// runs in float unless a rule says otherwise).
#include <algorithm>
#include <cmath>
#include <map>
#include <type_traits>

#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/common.h"
#include "tandem/numerics/cast.h"

namespace tandem::ir {
namespace {

constexpr std::string_view kDomain = "tandem";
constexpr std::string_view kSource = "vector-Jacobian product of the forward operator (ONNX specification, opset 17)";

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

template <class T>
const Array<T>& in(const EvalArgs<T>& a, std::size_t i) {
  TANDEM_CHECK(i < a.in.size() && a.in[i], "{}: input {} is absent", a.graph.describe(a.node), i);
  return *a.in[i];
}
template <class T>
Array<T>& start(EvalArgs<T>& a, const Shape& shape) {
  a.out.assign(1, Array<T>(shape));
  return a.out[0];
}
std::int64_t integer_of(double v) { return static_cast<std::int64_t>(v); }
std::int64_t integer_of(const Rational& v) { return v.get_num().get_si(); }
Rational as_exact(double v) { return exact(v); }
Rational as_exact(const Rational& v) { return v; }
template <class T>
T from_exact(const Rational& v) {
  if constexpr (std::is_same_v<T, double>) return nearest_double(v);
  else return v;
}

// ---- shapes: the output has the type of the gradient and the extents of input `like` -------------
template <std::size_t Like>
void infer_like(InferContext& c) {
  TensorType t;
  t.dtype = c.in[0]->dtype;
  t.dims = c.in[Like]->dims;
  c.out.assign(1, t);
}
void infer_channel(InferContext& c) {  // one value per channel of input 1
  TensorType t;
  t.dtype = c.in[0]->dtype;
  t.dims = Dims{c.dims(1).at(1)};
  c.out.assign(1, t);
}

// ---- sums and moves --------------------------------------------------------------------------------
template <class T>
void sum_to(EvalArgs<T>& a) {
  const auto& x = in(a, 0);
  const auto& like = in(a, 1);
  auto& y = start(a, like.shape);
  const std::int64_t rx = static_cast<std::int64_t>(x.shape.size()), ry = static_cast<std::int64_t>(like.shape.size());
  const std::int64_t axis = a.node.has_attr("axis") ? a.node.attr_int("axis", 0) : rx - ry;
  auto strides = row_major_strides(like.shape);
  std::vector<std::int64_t> step(at(rx), 0), pos(at(rx), 0);
  for (std::int64_t i = 0; i < ry; ++i)
    if (like.shape[at(i)] != 1) step[at(i + axis)] = strides[at(i)];
  std::int64_t o = 0;
  for (std::size_t i = 0; i < x.v.size(); ++i) {
    y.v[at(o)] += x.v[i];
    for (std::int64_t d = rx - 1; d >= 0; --d) {
      o += step[at(d)];
      if (++pos[at(d)] < x.shape[at(d)]) break;
      o -= step[at(d)] * x.shape[at(d)];
      pos[at(d)] = 0;
    }
  }
}
const OpDef kSumTo{
    .domain = kDomain, .name = "SumTo", .summary = "Sums a tensor to the extents of another: undoes broadcasting.",
    .doc = "Axis i of `like` is aligned with axis i + axis of x (default: aligned on the right, as ONNX broadcasts). Axes of "
           "x without a partner, and those where `like` has extent 1, are summed.",
    .source = kSource,
    .inputs = {{"x", "the tensor to sum"}, {"like", "gives the extents; its values are not read"}},
    .outputs = {{"y", "of the extents of like"}},
    .attributes = {{"axis", AttrType::integer, "", "axis of x that axis 0 of like stands for"}},
    .infer = infer_like<1>, .eval = {sum_to<double>, sum_to<Rational>}};

template <class T>
void reshape_like(EvalArgs<T>& a) {
  auto& y = start(a, in(a, 1).shape);
  y.v = in(a, 0).v;
}
const OpDef kReshapeLike{
    .domain = kDomain, .name = "ReshapeLike", .summary = "The elements of x in the shape of another tensor.",
    .doc = "y has the extents of `like` and the elements of x in row-major order.", .source = kSource,
    .inputs = {{"x", "the elements"}, {"like", "gives the extents; its values are not read"}},
    .outputs = {{"y", "of the extents of like"}},
    .infer = infer_like<1>, .eval = {reshape_like<double>, reshape_like<Rational>}};

template <class T>
void slice_like(EvalArgs<T>& a) {
  const auto& x = in(a, 0);
  auto& y = start(a, in(a, 1).shape);
  const auto axis = at(a.node.attr_int("axis", 0));
  const std::int64_t first = a.node.attr_int("start", 0);
  std::int64_t outer = 1, inner = 1;
  for (std::size_t d = 0; d < axis; ++d) outer *= x.shape[d];
  for (std::size_t d = axis + 1; d < x.shape.size(); ++d) inner *= x.shape[d];
  const std::int64_t rows = y.shape[axis];
  for (std::int64_t o = 0; o < outer; ++o)
    std::copy_n(x.v.begin() + (o * x.shape[axis] + first) * inner, rows * inner, y.v.begin() + o * rows * inner);
}
const OpDef kSliceLike{
    .domain = kDomain, .name = "SliceLike", .summary = "A run of x along one axis, as long as another tensor is there.",
    .doc = "y = x[..., start : start + extent(like, axis), ...].", .source = kSource,
    .inputs = {{"x", "the whole"}, {"like", "gives the extents; its values are not read"}},
    .outputs = {{"y", "of the extents of like"}},
    .attributes = {{"axis", AttrType::integer, "0", "axis"}, {"start", AttrType::integer, "0", "first index"}},
    .infer = infer_like<1>, .eval = {slice_like<double>, slice_like<Rational>}};

template <class T>
void gather_grad(EvalArgs<T>& a) {
  const auto& dy = in(a, 0);
  const auto& like = in(a, 1);
  const auto& index = in(a, 2);
  auto& dx = start(a, like.shape);
  std::int64_t axis = a.node.attr_int("axis", 0);
  if (axis < 0) axis += static_cast<std::int64_t>(like.shape.size());
  std::int64_t outer = 1, inner = 1;
  for (std::size_t d = 0; d < at(axis); ++d) outer *= like.shape[d];
  for (std::size_t d = at(axis) + 1; d < like.shape.size(); ++d) inner *= like.shape[d];
  const std::int64_t extent = like.shape[at(axis)], n = static_cast<std::int64_t>(index.v.size());
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t i = 0; i < n; ++i) {
      std::int64_t k = integer_of(index.v[at(i)]);
      if (k < 0) k += extent;
      for (std::int64_t j = 0; j < inner; ++j) dx.v[at((o * extent + k) * inner + j)] += dy.v[at((o * n + i) * inner + j)];
    }
}
const OpDef kGatherGrad{
    .domain = kDomain, .name = "GatherGrad", .summary = "Gradient of Gather to its data: adds each row back where it came from.",
    .doc = "dX[.., indices[i], ..] += dY[.., i, ..]; dX starts at 0.", .source = kSource,
    .inputs = {{"dY", "gradient of the output"}, {"X", "gives the extents"}, {"indices", "as in Gather"}},
    .outputs = {{"dX", "of the extents of X"}},
    .attributes = {{"axis", AttrType::integer, "0", "as in Gather"}},
    .infer = infer_like<1>, .eval = {gather_grad<double>, gather_grad<Rational>}};

// ---- element-wise ------------------------------------------------------------------------------------
template <class T>
void relu_grad(EvalArgs<T>& a) {
  const auto &dy = in(a, 0), &x = in(a, 1);
  auto& dx = start(a, x.shape);
  for (std::size_t i = 0; i < x.v.size(); ++i)
    if (x.v[i] > 0) dx.v[i] = dy.v[i];
}
const OpDef kReluGrad{
    .domain = kDomain, .name = "ReluGrad", .summary = "Gradient of Relu.", .doc = "dX = dY where X > 0, else 0.", .source = kSource,
    .inputs = {{"dY", "gradient of the output"}, {"X", "input of Relu"}}, .outputs = {{"dX", "of the extents of X"}},
    .infer = infer_like<1>, .eval = {relu_grad<double>, relu_grad<Rational>}};

template <class T>
void clip_grad(EvalArgs<T>& a) {
  const auto &dy = in(a, 0), &x = in(a, 1);
  auto& dx = start(a, x.shape);
  auto bound = [&](std::size_t i, const char* key, T& v) {
    if (i < a.in.size() && a.in[i]) { v = a.in[i]->v.at(0); return true; }
    if (a.node.has_attr(key)) { v = from_exact<T>(exact(a.node.attr_float(key, 0))); return true; }
    return false;
  };
  T lo, hi;
  const bool has_lo = bound(2, "min", lo), has_hi = bound(3, "max", hi);
  for (std::size_t i = 0; i < x.v.size(); ++i)
    if (!(has_lo && x.v[i] < lo) && !(has_hi && x.v[i] > hi)) dx.v[i] = dy.v[i];
}
const OpDef kClipGrad{
    .domain = kDomain, .name = "ClipGrad", .summary = "Gradient of Clip.", .doc = "dX = dY where min <= X <= max, else 0.",
    .source = kSource,
    .inputs = {{"dY", "gradient of the output"}, {"X", "input of Clip"}, {"min", "as in Clip", true}, {"max", "as in Clip", true}},
    .outputs = {{"dX", "of the extents of X"}},
    .attributes = {{"min", AttrType::real, "", "as in Clip before opset 11"}, {"max", AttrType::real, "", "as in Clip before opset 11"}},
    .infer = infer_like<1>, .eval = {clip_grad<double>, clip_grad<Rational>}};

template <class T>
void softmax_grad(EvalArgs<T>& a) {
  const auto &dy = in(a, 0), &y = in(a, 1);
  auto& dx = start(a, y.shape);
  std::int64_t axis = a.node.attr_int("axis", -1);
  if (axis < 0) axis += static_cast<std::int64_t>(y.shape.size());
  std::int64_t outer = 1, inner = 1;
  for (std::size_t d = 0; d < at(axis); ++d) outer *= y.shape[d];
  for (std::size_t d = at(axis) + 1; d < y.shape.size(); ++d) inner *= y.shape[d];
  const std::int64_t n = y.shape[at(axis)];
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t j = 0; j < inner; ++j) {
      T s(0);
      for (std::int64_t i = 0; i < n; ++i) s += dy.v[at((o * n + i) * inner + j)] * y.v[at((o * n + i) * inner + j)];
      for (std::int64_t i = 0; i < n; ++i) {
        const std::size_t k = at((o * n + i) * inner + j);
        dx.v[k] = y.v[k] * (dy.v[k] - s);
      }
    }
}
const OpDef kSoftmaxGrad{
    .domain = kDomain, .name = "SoftmaxGrad", .summary = "Gradient of Softmax, from its output.",
    .doc = "dX = Y * (dY - sum over axis of dY * Y).", .source = kSource,
    .inputs = {{"dY", "gradient of the output"}, {"Y", "output of Softmax"}}, .outputs = {{"dX", "of the extents of Y"}},
    .attributes = {{"axis", AttrType::integer, "-1", "as in Softmax"}},
    .infer = infer_like<1>, .eval = {softmax_grad<double>, softmax_grad<Rational>}};

using Slope = double (*)(const Node&, double x);
double logistic(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
double real(const Node& n, const char* key, double fallback) { return n.attr_float(key, fallback); }
// Derivatives by the operator's name. Where one has a kink it is that of the branch the operator takes there.
const std::map<std::string_view, Slope>& slopes() {
  static const std::map<std::string_view, Slope> all{
      {"Abs", [](const Node&, double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0; }},
      {"Acos", [](const Node&, double x) { return -1 / std::sqrt(1 - x * x); }},
      {"Acosh", [](const Node&, double x) { return 1 / std::sqrt(x * x - 1); }},
      {"Asin", [](const Node&, double x) { return 1 / std::sqrt(1 - x * x); }},
      {"Asinh", [](const Node&, double x) { return 1 / std::sqrt(1 + x * x); }},
      {"Atan", [](const Node&, double x) { return 1 / (1 + x * x); }},
      {"Atanh", [](const Node&, double x) { return 1 / (1 - x * x); }},
      {"Celu", [](const Node& n, double x) { return x >= 0 ? 1 : std::exp(x / real(n, "alpha", 1)); }},
      {"Cos", [](const Node&, double x) { return -std::sin(x); }},
      {"Cosh", [](const Node&, double x) { return std::sinh(x); }},
      {"Elu", [](const Node& n, double x) { return x < 0 ? real(n, "alpha", 1) * std::exp(x) : 1; }},
      {"Erf", [](const Node&, double x) { return 2 / std::sqrt(M_PI) * std::exp(-x * x); }},
      {"Exp", [](const Node&, double x) { return std::exp(x); }},
      {"Gelu",
       [](const Node& n, double x) {
         if (n.attr_string("approximate", "none") != "tanh") return 0.5 * (1 + std::erf(x / std::sqrt(2.0))) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
         const double c = std::sqrt(2 / M_PI), t = std::tanh(c * (x + 0.044715 * x * x * x));
         return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
       }},
      {"HardSigmoid",
       [](const Node& n, double x) {
         const double a = real(n, "alpha", 0.2), y = a * x + real(n, "beta", 0.5);
         return y > 0 && y < 1 ? a : 0;
       }},
      {"HardSwish", [](const Node&, double x) { return x <= -3 ? 0 : x >= 3 ? 1 : x / 3 + 0.5; }},
      {"LeakyRelu", [](const Node& n, double x) { return x < 0 ? real(n, "alpha", 0.01) : 1; }},
      {"Log", [](const Node&, double x) { return 1 / x; }},
      {"Mish",
       [](const Node&, double x) {
         const double t = std::tanh(std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))));
         return t + x * (1 - t * t) * logistic(x);
       }},
      {"Neg", [](const Node&, double) { return -1.0; }},
      {"Reciprocal", [](const Node&, double x) { return -1 / (x * x); }},
      {"Selu",
       [](const Node& n, double x) { return real(n, "gamma", 1.05070102214813232421875) * (x > 0 ? 1 : real(n, "alpha", 1.67326319217681884765625) * std::exp(x)); }},
      {"Shrink", [](const Node& n, double x) { return std::abs(x) > real(n, "lambd", 0.5) ? 1.0 : 0.0; }},
      {"Sigmoid", [](const Node&, double x) { return logistic(x) * logistic(-x); }},
      {"Sin", [](const Node&, double x) { return std::cos(x); }},
      {"Sinh", [](const Node&, double x) { return std::cosh(x); }},
      {"Softplus", [](const Node&, double x) { return logistic(x); }},
      {"Softsign", [](const Node&, double x) { return 1 / ((1 + std::abs(x)) * (1 + std::abs(x))); }},
      {"Sqrt", [](const Node&, double x) { return 0.5 / std::sqrt(x); }},
      {"Swish",
       [](const Node& n, double x) {
         const double a = real(n, "alpha", 1), s = logistic(a * x);
         return s + a * x * s * (1 - s);
       }},
      {"Tan", [](const Node&, double x) { return 1 + std::tan(x) * std::tan(x); }},
      {"Tanh", [](const Node&, double x) { return 1 - std::tanh(x) * std::tanh(x); }},
      {"ThresholdedRelu", [](const Node& n, double x) { return x > real(n, "alpha", 1) ? 1.0 : 0.0; }},
  };
  return all;
}
void unary_grad(EvalArgs<double>& a) {
  const auto &dy = in(a, 0), &x = in(a, 1);
  const auto f = slopes().find(a.node.attr_string("of", ""));
  if (f == slopes().end()) throw node_error(a.graph, a.node, fmt::format("no derivative of '{}'", printable(a.node.attr_string("of", "")))).expected("a function of one number");
  auto& dx = start(a, x.shape);
  for (std::size_t i = 0; i < x.v.size(); ++i) dx.v[i] = dy.v[i] * f->second(a.node, x.v[i]);
}
const OpDef kUnaryGrad{
    .domain = kDomain, .name = "UnaryGrad", .summary = "Gradient of a function of one number.", .doc = "dX = dY * f'(X), f being the operator `of` with its attributes.", .source = kSource,
    .inputs = {{"dY", "gradient of the output"}, {"X", "input of the operator"}}, .outputs = {{"dX", "of the extents of X"}},
    .attributes = {{"of", AttrType::string, "required", "the operator's name"}, {"alpha", AttrType::real, "", "as in the operator"}, {"beta", AttrType::real, "", "as in the operator"},
                   {"gamma", AttrType::real, "", "as in the operator"}, {"lambd", AttrType::real, "", "as in the operator"}, {"bias", AttrType::real, "", "as in the operator"},
                   {"approximate", AttrType::string, "", "as in the operator"}},
    .infer = infer_like<1>, .eval = {unary_grad, nullptr}};

template <class T>
void move_grad(EvalArgs<T>& a) {
  const auto &dy = in(a, 0), &from = in(a, 2);
  auto& dx = start(a, in(a, 1).shape);
  if (from.v.size() != dy.v.size()) throw node_error(a.graph, a.node, fmt::format("{} places for {} elements", from.v.size(), dy.v.size()));
  const auto n = static_cast<std::int64_t>(dx.v.size());
  for (std::size_t i = 0; i < dy.v.size(); ++i) {
    const std::int64_t k = integer_of(from.v[i]);
    if (k < 0 || k > n) throw node_error(a.graph, a.node, fmt::format("place {} of {}", k, n));
    if (k > 0) dx.v[at(k - 1)] += dy.v[i];
  }
}
const OpDef kMoveGrad{
    .domain = kDomain, .name = "MoveGrad", .summary = "Gradient of an operator that copies elements: each goes back to where it came from.",
    .doc = "dX[from[i] - 1] += dY[i] over row-major elements; from = 0: dY[i] came from nowhere. dX starts at 0.", .source = kSource,
    .inputs = {{"dY", "gradient of the output"}, {"X", "gives the extents; its values are not read"}, {"from", "what the operator makes of 1, 2, 3, ... in place of X"}},
    .outputs = {{"dX", "of the extents of X"}}, .infer = infer_like<1>, .eval = {move_grad<double>, move_grad<Rational>}};

template <class T>
void extreme_grad(EvalArgs<T>& a) {
  const auto &dy = in(a, 0), &x = in(a, 1), &y = in(a, 2);
  auto& dx = start(a, x.shape);
  const Broadcaster group(y.shape, x.shape);
  std::vector<bool> given(y.v.size());
  for (std::size_t i = 0; i < x.v.size(); ++i) {
    const std::size_t k = at(group(static_cast<std::int64_t>(i)));
    if (given[k] || x.v[i] != y.v[k]) continue;
    given[k] = true;
    dx.v[i] = dy.v[k];
  }
}
const OpDef kExtremeGrad{
    .domain = kDomain, .name = "ExtremeGrad", .summary = "Gradient of a maximum or minimum over axes: to the first element that attains it.",
    .doc = "dX = dY at the first element of each group that equals Y, else 0.", .source = kSource,
    .inputs = {{"dY", "gradient of the output, with extents of 1 for the axes reduced"}, {"X", "input"}, {"Y", "output, shaped as dY"}},
    .outputs = {{"dX", "of the extents of X"}}, .infer = infer_like<1>, .eval = {extreme_grad<double>, extreme_grad<Rational>}};

// ---- windows -----------------------------------------------------------------------------------------
// Calls f(position, tap, flat spatial index) for every output position and kernel tap that lies inside the input.
template <class F>
void for_taps(const Windows& w, const Shape& x, F&& f) {
  const Shape in = spatial(x);
  const std::vector<std::int64_t> taps = w.taps(in);
  const std::int64_t window = element_count(w.kernel);
  for (std::size_t i = 0; i < taps.size(); ++i)
    if (taps[i] >= 0) f(static_cast<std::int64_t>(i) / window, static_cast<std::int64_t>(i) % window, taps[i]);
}

template <class T, bool ToWeight>
void conv_grad(EvalArgs<T>& a) {
  // dY, W, X (gives extents)  or  dY, X, W (gives extents)
  const auto& dy = in(a, 0);
  const auto& other = in(a, 1);
  auto& out = start(a, in(a, 2).shape);
  const Shape xs = ToWeight ? other.shape : out.shape, ws = ToWeight ? out.shape : other.shape;
  const Windows w = windows_of(a.graph, a.node, spatial(xs), spatial(ws));
  const std::int64_t group = a.node.attr_int("group", 1), og = ws[0] / group, cg = ws[1];
  const std::int64_t in_size = element_count(spatial(xs)), out_size = element_count(spatial(dy.shape)), window = element_count(w.kernel);
  for (std::int64_t b = 0; b < xs[0]; ++b)
    for (std::int64_t o = 0; o < ws[0]; ++o)
      for (std::int64_t c = 0; c < cg; ++c) {
        const std::int64_t xc = (o / og) * cg + c;
        for_taps(w, xs, [&](std::int64_t p, std::int64_t k, std::int64_t x) {
          const T& g = dy.v[at((b * ws[0] + o) * out_size + p)];
          const std::size_t xi = at((b * xs[1] + xc) * in_size + x), wi = at((o * cg + c) * window + k);
          if constexpr (ToWeight) out.v[wi] += g * other.v[xi];
          else out.v[xi] += g * other.v[wi];
        });
      }
}
// Ranks n, g (group), o (per group), c (per group), positions, taps; which are reduced depends on the product.
template <bool ToWeight>
Einsum conv_grad_einsum(const Graph& g, const Node& n) {
  auto extents = [&](std::size_t i) {
    Shape s;
    const auto& d = g.values[at(n.inputs.at(i))].type.dims;
    if (d && all_known(*d))
      for (const Dim& e : *d) s.push_back(e.n);
    return s;
  };
  const Shape y = extents(0), x = extents(ToWeight ? 1 : 2), w = extents(ToWeight ? 2 : 1);
  Einsum e;
  if (x.size() < 3 || y.size() != x.size() || w.size() != x.size()) return e;
  const Windows k = windows_of(g, n, spatial(x), spatial(w));
  const std::int64_t group = n.attr_int("group", 1);
  enum { N, G, O, C, P };
  const int rank = static_cast<int>(k.kernel.size()), R = P + rank;
  e.ranks = {{"n", y[0], ToWeight}, {"g", group, false}, {"o", w[0] / group, !ToWeight}, {"c", w[1], false}};
  for (Rank& r : position_ranks(spatial(y), true)) e.ranks.push_back(std::move(r));
  for (Rank& r : tap_ranks(k.kernel, !ToWeight)) e.ranks.push_back(std::move(r));
  const AffineIndex oc{{{G, w[0] / group}, {O, 1}}, 0};
  Access dy{"dY", {index_of(N), oc}}, xa{ToWeight ? "X" : "dX", {index_of(N), {{{G, w[1]}, {C, 1}}, 0}}}, wa{ToWeight ? "dW" : "W", {oc, index_of(C)}};
  for (AffineIndex& i : window_indices(k, P, R)) xa.indices.push_back(std::move(i));
  for (int d = 0; d < rank; ++d) dy.indices.push_back(index_of(P + d)), wa.indices.push_back(index_of(R + d));
  e.inputs = {dy, ToWeight ? xa : wa};
  e.output = ToWeight ? wa : xa;
  return e;
}
const std::vector<AttrDef> kConvAttributes{
    {"strides", AttrType::integers, "1 1", "as in Conv"},   {"pads", AttrType::integers, "0 0 0 0", "as in Conv"},
    {"dilations", AttrType::integers, "1 1", "as in Conv"}, {"group", AttrType::integer, "1", "as in Conv"},
    {"auto_pad", AttrType::string, "NOTSET", "as in Conv"}, {"kernel_shape", AttrType::integers, "", "as in Conv"}};
const OpDef kConvGradInput{
    .domain = kDomain, .name = "ConvGradInput", .summary = "Gradient of Conv to its input (a transposed convolution).",
    .doc = "dX[n,c,stride*p+dilation*r-pad,..] += dY[n,o,p,q] * W[o,c,r,s].", .source = kSource,
    .inputs = {{"dY", "gradient of the output"}, {"W", "weights"}, {"X", "gives the extents; its values are not read"}},
    .outputs = {{"dX", "of the extents of X"}}, .attributes = kConvAttributes,
    .infer = infer_like<2>, .eval = {conv_grad<double, false>, conv_grad<Rational, false>}, .einsum = conv_grad_einsum<false>};
const OpDef kConvGradWeight{
    .domain = kDomain, .name = "ConvGradWeight", .summary = "Gradient of Conv to its weights.",
    .doc = "dW[o,c,r,s] += dY[n,o,p,q] * X[n,c,stride*p+dilation*r-pad,..].", .source = kSource,
    .inputs = {{"dY", "gradient of the output"}, {"X", "input of Conv"}, {"W", "gives the extents; its values are not read"}},
    .outputs = {{"dW", "of the extents of W"}}, .attributes = kConvAttributes,
    .infer = infer_like<2>, .eval = {conv_grad<double, true>, conv_grad<Rational, true>}, .einsum = conv_grad_einsum<true>};

template <class T>
void maxpool_grad(EvalArgs<T>& a) {
  const auto &dy = in(a, 0), &x = in(a, 1);
  auto& dx = start(a, x.shape);
  const Windows w = windows_of(a.graph, a.node, spatial(x.shape), a.node.attr_ints("kernel_shape", {}));
  const std::int64_t planes = x.shape[0] * x.shape[1], in_size = element_count(spatial(x.shape)), out_size = element_count(spatial(dy.shape));
  std::vector<std::int64_t> best(at(out_size));
  for (std::int64_t c = 0; c < planes; ++c) {
    std::fill(best.begin(), best.end(), -1);
    const T* px = x.v.data() + c * in_size;
    for_taps(w, x.shape, [&](std::int64_t p, std::int64_t, std::int64_t i) {
      std::int64_t& b = best[at(p)];
      if (b < 0 || px[i] > px[b]) b = i;
    });
    for (std::int64_t o = 0; o < out_size; ++o)
      if (best[at(o)] >= 0) dx.v[at(c * in_size + best[at(o)])] += dy.v[at(c * out_size + o)];
  }
}
const std::vector<AttrDef> kPoolAttributes{
    {"kernel_shape", AttrType::integers, "required", "as in the pool"}, {"strides", AttrType::integers, "1 1", "as in the pool"},
    {"pads", AttrType::integers, "0 0 0 0", "as in the pool"},          {"dilations", AttrType::integers, "1 1", "as in the pool"},
    {"auto_pad", AttrType::string, "NOTSET", "as in the pool"},         {"ceil_mode", AttrType::integer, "0", "as in the pool"},
    {"count_include_pad", AttrType::integer, "0", "as in AveragePool"}};
const OpDef kMaxPoolGrad{
    .domain = kDomain, .name = "MaxPoolGrad", .summary = "Gradient of MaxPool: to the first maximum of each window.",
    .doc = "Ties go to the lowest row-major index of the window.", .source = kSource,
    .inputs = {{"dY", "gradient of the output"}, {"X", "input of MaxPool"}}, .outputs = {{"dX", "of the extents of X"}},
    .attributes = kPoolAttributes, .infer = infer_like<1>, .eval = {maxpool_grad<double>, maxpool_grad<Rational>}};

template <class T>
void averagepool_grad(EvalArgs<T>& a) {
  const auto& dy = in(a, 0);
  const Shape xs = in(a, 1).shape;
  auto& dx = start(a, xs);
  const Windows w = windows_of(a.graph, a.node, spatial(xs), a.node.attr_ints("kernel_shape", {}));
  const std::vector<std::int64_t> counts = window_counts(a.graph, a.node, w, spatial(xs));
  const std::int64_t planes = xs[0] * xs[1], in_size = element_count(spatial(xs)), out_size = element_count(spatial(dy.shape));
  for (std::int64_t c = 0; c < planes; ++c)
    for_taps(w, xs, [&](std::int64_t p, std::int64_t, std::int64_t i) {
      dx.v[at(c * in_size + i)] += dy.v[at(c * out_size + p)] / T(static_cast<double>(counts[at(p)]));
    });
}
const OpDef kAveragePoolGrad{
    .domain = kDomain, .name = "AveragePoolGrad", .summary = "Gradient of AveragePool.",
    .doc = "dX += dY / n for every element of a window, n as AveragePool counts it.", .source = kSource,
    .inputs = {{"dY", "gradient of the output"}, {"X", "gives the extents; its values are not read"}},
    .outputs = {{"dX", "of the extents of X"}},
    .attributes = kPoolAttributes, .infer = infer_like<1>, .eval = {averagepool_grad<double>, averagepool_grad<Rational>}};

template <class T>
void globalaveragepool_grad(EvalArgs<T>& a) {
  const auto& dy = in(a, 0);
  const Shape xs = in(a, 1).shape;
  auto& dx = start(a, xs);
  std::int64_t n = 1;
  for (std::size_t d = 2; d < xs.size(); ++d) n *= xs[d];
  for (std::size_t i = 0; i < dx.v.size(); ++i) dx.v[i] = dy.v[i / at(n)] / T(static_cast<double>(n));
}
const OpDef kGlobalAveragePoolGrad{
    .domain = kDomain, .name = "GlobalAveragePoolGrad", .summary = "Gradient of GlobalAveragePool.", .doc = "dX = dY / (H * W).",
    .source = kSource,
    .inputs = {{"dY", "gradient of the output"}, {"X", "gives the extents; its values are not read"}},
    .outputs = {{"dX", "of the extents of X"}},
    .infer = infer_like<1>, .eval = {globalaveragepool_grad<double>, globalaveragepool_grad<Rational>}};

// ---- batch normalisation (not rational: a square root) -------------------------------------------------
struct ChannelView {
  std::int64_t batch, channels, inner;
};
ChannelView channels_of(const Shape& s) {
  ChannelView v{s.at(0), s.at(1), 1};
  for (std::size_t d = 2; d < s.size(); ++d) v.inner *= s[d];
  return v;
}
// Mean and 1/sqrt(variance + eps) of one channel: of the batch in training mode, else as given.
struct Moments {
  double mean, inv;
};
Moments moments(const Array<double>& x, const ChannelView& v, std::int64_t c, bool training, double eps, double mean, double var) {
  if (training) {
    const double n = static_cast<double>(v.batch * v.inner);
    mean = var = 0;
    for (std::int64_t b = 0; b < v.batch; ++b)
      for (std::int64_t i = 0; i < v.inner; ++i) mean += x.v[at((b * v.channels + c) * v.inner + i)];
    mean /= n;
    for (std::int64_t b = 0; b < v.batch; ++b)
      for (std::int64_t i = 0; i < v.inner; ++i) var += std::pow(x.v[at((b * v.channels + c) * v.inner + i)] - mean, 2);
    var /= n;
  }
  return {mean, 1 / std::sqrt(var + eps)};
}
void batchnorm_grad_input(EvalArgs<double>& a) {
  const auto &dy = in(a, 0), &x = in(a, 1), &gamma = in(a, 2), &mean = in(a, 3), &var = in(a, 4);
  auto& dx = start(a, x.shape);
  const bool training = a.node.attr_int("training_mode", 0) != 0;
  const double eps = a.node.attr_float("epsilon", 1e-5);
  const ChannelView v = channels_of(x.shape);
  for (std::int64_t c = 0; c < v.channels; ++c) {
    const Moments m = moments(x, v, c, training, eps, mean.v[at(c)], var.v[at(c)]);
    double s = 0, sx = 0;  // means of dY and of dY * normalised X
    if (training) {
      for (std::int64_t b = 0; b < v.batch; ++b)
        for (std::int64_t i = 0; i < v.inner; ++i) {
          const std::size_t k = at((b * v.channels + c) * v.inner + i);
          s += dy.v[k];
          sx += dy.v[k] * (x.v[k] - m.mean) * m.inv;
        }
      s /= static_cast<double>(v.batch * v.inner);
      sx /= static_cast<double>(v.batch * v.inner);
    }
    for (std::int64_t b = 0; b < v.batch; ++b)
      for (std::int64_t i = 0; i < v.inner; ++i) {
        const std::size_t k = at((b * v.channels + c) * v.inner + i);
        dx.v[k] = gamma.v[at(c)] * m.inv * (dy.v[k] - s - (x.v[k] - m.mean) * m.inv * sx);
      }
  }
}
const std::vector<AttrDef> kBatchNormAttributes{{"epsilon", AttrType::real, "1e-5", "as in BatchNormalization"},
                                                {"training_mode", AttrType::integer, "0", "1: the statistics are those of the batch"}};
const OpDef kBatchNormGradInput{
    .domain = kDomain, .name = "BatchNormGradInput", .summary = "Gradient of BatchNormalization to its input.",
    .doc = "Inference: dX = dY * scale / sqrt(var + eps). Training, with h the normalised X and means over the batch: "
           "dX = scale / sqrt(var + eps) * (dY - mean(dY) - h * mean(dY * h)).",
    .source = "Ioffe and Szegedy, 2015",
    .inputs = {{"dY", "gradient of the output"}, {"X", "input"}, {"scale", "per channel"}, {"mean", "per channel"}, {"var", "per channel"}},
    .outputs = {{"dX", "of the extents of X"}}, .attributes = kBatchNormAttributes,
    .infer = infer_like<1>, .eval = {batchnorm_grad_input, nullptr}};

void batchnorm_grad_scale(EvalArgs<double>& a) {
  const auto &dy = in(a, 0), &x = in(a, 1), &mean = in(a, 2), &var = in(a, 3);
  const ChannelView v = channels_of(x.shape);
  auto& d = start(a, {v.channels});
  const bool training = a.node.attr_int("training_mode", 0) != 0;
  const double eps = a.node.attr_float("epsilon", 1e-5);
  for (std::int64_t c = 0; c < v.channels; ++c) {
    const Moments m = moments(x, v, c, training, eps, mean.v[at(c)], var.v[at(c)]);
    for (std::int64_t b = 0; b < v.batch; ++b)
      for (std::int64_t i = 0; i < v.inner; ++i) {
        const std::size_t k = at((b * v.channels + c) * v.inner + i);
        d.v[at(c)] += dy.v[k] * (x.v[k] - m.mean) * m.inv;
      }
  }
}
const OpDef kBatchNormGradScale{
    .domain = kDomain, .name = "BatchNormGradScale", .summary = "Gradient of BatchNormalization to its scale.",
    .doc = "dscale[c] = sum of dY * (X - mean) / sqrt(var + eps) over batch and positions.", .source = "Ioffe and Szegedy, 2015",
    .inputs = {{"dY", "gradient of the output"}, {"X", "input"}, {"mean", "per channel"}, {"var", "per channel"}},
    .outputs = {{"dscale", "one value per channel"}}, .attributes = kBatchNormAttributes,
    .infer = infer_channel, .eval = {batchnorm_grad_scale, nullptr}};

// ---- quantisers: straight-through, scales by LSQ ---------------------------------------------------------
// Index of the element of `p` (broadcast on the right) that belongs to each element of `x`.
std::vector<std::size_t> broadcast_index(const Shape& p, const Shape& x) {
  const std::int64_t n = element_count(x);
  std::vector<std::size_t> idx(at(n), 0);
  auto strides = row_major_strides(p);
  std::vector<std::int64_t> step(x.size(), 0), pos(x.size(), 0);
  if (p.size() > x.size())  // leading extents of 1
    TANDEM_CHECK(element_count(p) == 1, "a quantiser parameter of shape {} for a value of shape {}", tandem::to_string(p), tandem::to_string(x));
  else
    for (std::size_t i = 0; i < p.size(); ++i)
      if (p[i] != 1) step[i + x.size() - p.size()] = strides[i];
  std::int64_t o = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    idx[at(i)] = at(o);
    for (std::size_t d = x.size(); d-- > 0;) {
      o += step[d];
      if (++pos[d] < x[d]) break;
      o -= step[d] * x[d];
      pos[d] = 0;
    }
  }
  return idx;
}
template <class T, bool Scale>
void quant_grad(EvalArgs<T>& a) {
  const auto &dy = in(a, 0), &x = in(a, 1), &scale = in(a, 2), &zero = in(a, 3), &width = in(a, 4);
  auto& out = start(a, Scale ? scale.shape : x.shape);
  const bool is_signed = a.node.attr_int("signed", 1) != 0, narrow = a.node.attr_int("narrow", 0) != 0;
  const std::int64_t bits = integer_of(width.v.at(0));
  Cast c;
  c.bipolar = is_signed && bits == 1;
  c.kmin = is_signed && !c.bipolar ? -(std::int64_t{1} << (bits - 1)) + narrow : 0;
  c.kmax = c.bipolar ? 1 : is_signed ? (std::int64_t{1} << (bits - 1)) - 1 : (std::int64_t{1} << bits) - 1 - narrow;
  c.rounding = parse_rounding(a.node.attr_string("rounding_mode", "ROUND"));
  const auto si = broadcast_index(scale.shape, x.shape), zi = broadcast_index(zero.shape, x.shape);
  for (std::size_t i = 0; i < x.v.size(); ++i) {
    const Rational s = as_exact(scale.v[si[i]]), q = as_exact(x.v[i]) / s, z = c.bipolar ? Rational(0) : as_exact(zero.v[zi[i]]);
    const Rational low = c.bipolar ? Rational(-1) : Rational(c.kmin - z), high = c.bipolar ? Rational(1) : Rational(c.kmax - z);
    const bool inside = low <= q && q <= high;
    if constexpr (Scale) {
      c.scale = s;
      c.zero = z.get_num();
      Rational slope = inside && !c.bipolar ? Rational(c.level(cast_code(c, as_exact(x.v[i]))) - q)
                       : c.bipolar          ? Rational(q >= 0 ? 1 : -1)
                                            : (q < low ? low : high);
      out.v[si[i]] += dy.v[i] * from_exact<T>(slope);
    } else if (inside) {
      out.v[i] = dy.v[i];
    }
  }
}
template <class T, bool Scale>
void bipolar_grad(EvalArgs<T>& a) {
  const auto &dy = in(a, 0), &x = in(a, 1), &scale = in(a, 2);
  auto& out = start(a, Scale ? scale.shape : x.shape);
  const auto si = broadcast_index(scale.shape, x.shape);
  for (std::size_t i = 0; i < x.v.size(); ++i) {
    const T &s = scale.v[si[i]], &v = x.v[i];
    if constexpr (Scale) out.v[si[i]] += v >= 0 ? dy.v[i] : T(-dy.v[i]);
    else if (v <= s && v >= T(-s)) out.v[i] = dy.v[i];
  }
}
constexpr std::string_view kLsq = "Esser et al., Learned Step Size Quantization, ICLR 2020; Bengio et al., 2013 (straight-through)";
const std::vector<PortDef> kQuantInputs{{"dY", "gradient of the output"}, {"x", "as in Quant"}, {"scale", "as in Quant"},
                                        {"zeropt", "as in Quant"}, {"bitwidth", "as in Quant"}};
const std::vector<AttrDef> kQuantAttributes{{"signed", AttrType::integer, "1", "as in Quant"}, {"narrow", AttrType::integer, "0", "as in Quant"},
                                            {"rounding_mode", AttrType::string, "ROUND", "as in Quant"}};
const OpDef kQuantGradInput{
    .domain = kDomain, .name = "QuantGradInput", .summary = "Straight-through gradient of Quant to its input.",
    .doc = "dx = dY where kmin <= x/scale + zeropt <= kmax, else 0 (bipolar: where |x| <= scale).", .source = kLsq,
    .inputs = kQuantInputs, .outputs = {{"dx", "of the extents of x"}}, .attributes = kQuantAttributes,
    .infer = infer_like<1>, .eval = {quant_grad<double, false>, quant_grad<Rational, false>}};
const OpDef kQuantGradScale{
    .domain = kDomain, .name = "QuantGradScale", .summary = "Gradient of Quant to its scale (learned step size).",
    .doc = "dscale = sum of dY * (level - x/scale) inside the range, dY * (the level at the end) outside; level = code - zeropt. "
           "The LSQ factor 1/sqrt(N * kmax) is the trainer's, not the operator's.",
    .source = kLsq, .inputs = kQuantInputs, .outputs = {{"dscale", "of the extents of scale"}}, .attributes = kQuantAttributes,
    .infer = infer_like<2>, .eval = {quant_grad<double, true>, quant_grad<Rational, true>}};
const std::vector<PortDef> kBipolarInputs{{"dY", "gradient of the output"}, {"x", "as in BipolarQuant"}, {"scale", "as in BipolarQuant"}};
const OpDef kBipolarQuantGradInput{
    .domain = kDomain, .name = "BipolarQuantGradInput", .summary = "Straight-through gradient of BipolarQuant to its input.",
    .doc = "dx = dY where |x| <= scale, else 0.", .source = kLsq,
    .inputs = kBipolarInputs, .outputs = {{"dx", "of the extents of x"}},
    .infer = infer_like<1>, .eval = {bipolar_grad<double, false>, bipolar_grad<Rational, false>}};
const OpDef kBipolarQuantGradScale{
    .domain = kDomain, .name = "BipolarQuantGradScale", .summary = "Gradient of BipolarQuant to its scale.",
    .doc = "dscale = sum of dY * sign(x), sign(0) = +1.", .source = kLsq,
    .inputs = kBipolarInputs, .outputs = {{"dscale", "of the extents of scale"}},
    .infer = infer_like<2>, .eval = {bipolar_grad<double, true>, bipolar_grad<Rational, true>}};

const OpDef* const kGradOps[] = {
    &kSumTo, &kReshapeLike, &kSliceLike, &kGatherGrad, &kReluGrad, &kClipGrad, &kUnaryGrad, &kMoveGrad, &kExtremeGrad, &kSoftmaxGrad, &kConvGradInput, &kConvGradWeight,
    &kMaxPoolGrad, &kAveragePoolGrad, &kGlobalAveragePoolGrad, &kBatchNormGradInput, &kBatchNormGradScale,
    &kQuantGradInput, &kQuantGradScale, &kBipolarQuantGradInput, &kBipolarQuantGradScale};

}  // namespace

bool has_slope(std::string_view op) { return slopes().contains(op); }

std::span<const OpDef* const> grad_ops() { return kGradOps; }

}  // namespace tandem::ir
