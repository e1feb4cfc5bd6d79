// Resampling and detection: Resize, GridSample, RoiAlign, NonMaxSuppression, DeformConv.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/expansions.h"
#include "tandem/ir/ops/cascade.h"
#include "tandem/ir/ops/kit.h"
#include "tandem/ir/ops/sources.h"

#include <array>

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;
double number(std::int64_t i) { return static_cast<double>(i); }

// ---- Resize -----------------------------------------------------------------------------------------
// What becomes of one axis.
struct Stretch {
  std::int64_t in, out;
  double scale;
  double length;               // extent times scale: not whole where a scale was given, as in ONNX's reference
  double first = 0, last = 1;  // the part of the axis that is read, for tf_crop_and_resize
};
// One Stretch per axis of X, from scales or sizes; nullopt: not known yet.
std::optional<std::vector<Stretch>> stretches(const Graph& g, const Node& n, const Shape& x, const std::optional<std::vector<double>>& roi,
                                              const std::optional<std::vector<double>>& scales, const std::optional<std::vector<double>>& sizes) {
  const auto rank = static_cast<std::int64_t>(x.size());
  Ints axes = n.attr_ints("axes", {});
  if (axes.empty())
    for (std::int64_t d = 0; d < rank; ++d) axes.push_back(d);
  std::vector<Stretch> s;
  for (std::int64_t d : x) s.push_back({d, d, 1, number(d)});
  const auto& given = sizes ? sizes : scales;
  if (!given) return std::nullopt;
  if (given->size() != axes.size()) throw node_error(g, n, fmt::format("{} {} for {} axes", given->size(), sizes ? "sizes" : "scales", axes.size()));
  const std::string policy = n.attr_string("keep_aspect_ratio_policy", "stretch");
  if (policy != "stretch" && policy != "not_larger" && policy != "not_smaller")
    throw node_error(g, n, fmt::format("keep_aspect_ratio_policy '{}'", policy)).expected("stretch, not_larger or not_smaller");
  double common = policy == "not_larger" ? INFINITY : 0;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    Stretch& t = s[static_cast<std::size_t>(normal_axis(axes[i], rank, g, n))];
    const double v = (*given)[i];
    if (!(v > 0) || v > 1e9) throw node_error(g, n, fmt::format("{} {}", sizes ? "size" : "scale", v)).expected("a positive number");
    t.scale = sizes ? v / number(t.in) : v;
    t.length = sizes ? v : number(t.in) * v;
    t.out = to_int(std::floor(t.length));
    if (policy == "not_larger") common = std::min(common, t.scale);
    if (policy == "not_smaller") common = std::max(common, t.scale);
    if (roi && roi->size() == 2 * axes.size()) t.first = (*roi)[i], t.last = (*roi)[i + axes.size()];
  }
  if (sizes && policy != "stretch")
    for (std::int64_t a : axes) {
      Stretch& t = s[static_cast<std::size_t>(normal_axis(a, rank, g, n))];
      t.scale = common;
      t.out = to_int(std::floor(number(t.in) * common + 0.5));
      t.length = number(t.out);
    }
  return s;
}
std::optional<std::vector<double>> numbers(const Tensor* t) {
  if (!t) return std::nullopt;
  std::vector<double> v;
  for (std::int64_t i = 0; i < t->size(); ++i) v.push_back(t->at(i));
  return v;
}
const char* const kCoordinates[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"};
void infer_resize(InferContext& c) {
  const Dims& x = c.dims(0);
  const std::string mode = c.node.attr_string("mode", "nearest"), how = c.node.attr_string("coordinate_transformation_mode", "half_pixel");
  if (mode != "nearest" && mode != "linear" && mode != "cubic") c.fail(fmt::format("mode '{}'", mode), "nearest, linear or cubic");
  if (std::find(std::begin(kCoordinates), std::end(kCoordinates), how) == std::end(kCoordinates)) c.fail(fmt::format("coordinate_transformation_mode '{}'", how));
  c.out = {unknown_extents(c.in[0]->dtype, x.size())};
  const auto constant = [&](std::size_t i) { return has(c, i) && c.in_constant[i] && c.in_constant[i]->size() ? numbers(c.in_constant[i]) : std::nullopt; };
  if (!all_known(x)) return;
  Shape in, out;
  for (const Dim& d : x) in.push_back(d.n);
  if (const auto s = stretches(c.graph, c.node, in, std::nullopt, constant(2), constant(3))) {
    for (const Stretch& t : *s) out.push_back(t.out);
    c.out = {typed(c.in[0]->dtype, out)};
  } else if (c.in_constant.size() > 2 && !has(c, 3) && (!has(c, 2) || c.in_constant[2])) {
    c.fail("it has neither scales nor sizes");
  }
}
double place(const std::string& how, const Stretch& t, std::int64_t at) {
  const double x = number(at), in = number(t.in), out = t.length;
  if (how == "align_corners") return out == 1 ? 0 : x * (in - 1) / (out - 1);
  if (how == "asymmetric") return x / t.scale;
  if (how == "tf_half_pixel_for_nn") return (x + 0.5) / t.scale;
  if (how == "pytorch_half_pixel") return out > 1 ? (x + 0.5) / t.scale - 0.5 : 0;
  if (how == "tf_crop_and_resize") return out > 1 ? t.first * (in - 1) + x * (t.last - t.first) * (in - 1) / (out - 1) : 0.5 * (t.first + t.last) * (in - 1);
  if (how == "half_pixel_symmetric") return in / 2 * (1 - number(t.out) / out) + (x + 0.5) / t.scale - 0.5;
  return (x + 0.5) / t.scale - 0.5;
}
double cubic(double d, double a) {
  d = std::abs(d);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}
double nearest_index(double x, const std::string& how) {
  if (how == "floor") return std::floor(x);
  if (how == "ceil") return std::ceil(x);
  return how == "round_prefer_ceil" ? std::floor(x + 0.5) : std::ceil(x - 0.5);
}
struct Weighted {
  std::vector<std::pair<std::int64_t, double>> terms;  // index along the axis and weight
  bool outside = false;                                // tf_crop_and_resize: the extrapolation value instead
};
std::vector<Weighted> weights_of(const Node& n, const Stretch& t) {
  const std::string mode = n.attr_string("mode", "nearest"), how = n.attr_string("coordinate_transformation_mode", "half_pixel"),
                    rounding = n.attr_string("nearest_mode", "round_prefer_floor");
  const bool exclude = n.attr_int("exclude_outside", 0) != 0;
  const double a = n.attr_float("cubic_coeff_a", -0.75), shrink = n.attr_int("antialias", 0) ? std::min(1.0, t.scale) : 1;
  std::vector<Weighted> w(static_cast<std::size_t>(t.out));
  for (std::int64_t o = 0; o < t.out; ++o) {
    Weighted& at = w[static_cast<std::size_t>(o)];
    const double x = place(how, t, o);
    at.outside = how == "tf_crop_and_resize" && (x < 0 || x > number(t.in - 1));
    const auto clamped = [&](double i) { return std::clamp<std::int64_t>(to_int(i), 0, t.in - 1); };
    if (mode == "nearest") {
      at.terms.emplace_back(clamped(nearest_index(x, rounding)), 1);
      continue;
    }
    const double reach = (mode == "linear" ? 1 : 2) / shrink;
    double sum = 0;
    for (double i = std::floor(x - reach) + 1; i < x + reach; ++i) {
      const double d = (i - x) * shrink, v = mode == "linear" ? std::max(0.0, 1 - std::abs(d)) : cubic(d, a);
      if (v == 0 || (exclude && (i < 0 || i >= number(t.in)))) continue;
      at.terms.emplace_back(clamped(i), v);
      sum += v;
    }
    if (exclude || shrink < 1)
      for (auto& [i, v] : at.terms) v /= sum;
  }
  return w;
}
void resize_eval(Args& e) {
  const auto list = [&](std::size_t i) -> std::optional<std::vector<double>> { return has(e, i) && !e.in[i]->v.empty() ? std::optional(e.in[i]->v) : std::nullopt; };
  Array<double> x = *e.in[0];
  const auto s = stretches(e.graph, e.node, x.shape, list(1), list(2), list(3));
  if (!s) throw node_error(e.graph, e.node, "it has neither scales nor sizes");
  const double beyond = e.node.attr_float("extrapolation_value", 0);
  const bool crop = e.node.attr_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize";
  std::vector<std::vector<Weighted>> outside;
  for (std::size_t d = 0; d < s->size(); ++d) {  // the weights are a product: one axis after the other
    const Stretch& t = (*s)[d];
    const std::vector<Weighted> w = t.in == t.out && t.scale == 1 && !crop ? std::vector<Weighted>{} : weights_of(e.node, t);
    outside.push_back(w);
    if (w.empty()) continue;
    Shape ys = x.shape;
    ys[d] = t.out;
    Array<double> y(ys);
    const Around from(x.shape, static_cast<std::int64_t>(d)), to(ys, static_cast<std::int64_t>(d));
    for (std::int64_t o = 0; o < to.outer; ++o)
      for (std::int64_t k = 0; k < t.out; ++k)
        for (std::int64_t i = 0; i < to.inner; ++i) {
          double v = 0;
          for (const auto& [at, weight] : w[static_cast<std::size_t>(k)].terms) v += weight * x.v[static_cast<std::size_t>(from.at(o, at, i))];
          y.v[static_cast<std::size_t>(to.at(o, k, i))] = v;
        }
    x = std::move(y);
  }
  if (crop)
    for (std::size_t d = 0; d < outside.size(); ++d) {
      const Around a(x.shape, static_cast<std::int64_t>(d));
      for (std::size_t k = 0; k < outside[d].size(); ++k)
        if (outside[d][k].outside)
          for (std::int64_t o = 0; o < a.outer; ++o)
            for (std::int64_t i = 0; i < a.inner; ++i) x.v[static_cast<std::size_t>(a.at(o, static_cast<std::int64_t>(k), i))] = beyond;
    }
  e.out[0] = std::move(x);
}
// The weights of resize_eval the other way round.
void resize_grad_eval(Args& e) {
  const auto list = [&](std::size_t i) -> std::optional<std::vector<double>> { return has(e, i) && !e.in[i]->v.empty() ? std::optional(e.in[i]->v) : std::nullopt; };
  Array<double> d = *e.in[0];
  const auto s = stretches(e.graph, e.node, e.in[1]->shape, list(2), list(3), list(4));
  if (!s) throw node_error(e.graph, e.node, "it has neither scales nor sizes");
  const bool crop = e.node.attr_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize";
  for (std::size_t a = 0; a < s->size(); ++a) {
    const Stretch& t = (*s)[a];
    if (t.in == t.out && t.scale == 1 && !crop) continue;
    const std::vector<Weighted> w = weights_of(e.node, t);
    Shape xs = d.shape;
    if (xs.at(a) != t.out) throw node_error(e.graph, e.node, fmt::format("a gradient of {}", to_string(d.shape)));
    xs[a] = t.in;
    Array<double> x(xs);
    const Around from(d.shape, static_cast<std::int64_t>(a)), to(xs, static_cast<std::int64_t>(a));
    for (std::int64_t o = 0; o < from.outer; ++o)
      for (std::int64_t k = 0; k < t.out; ++k)
        for (std::int64_t i = 0; i < from.inner && !w[static_cast<std::size_t>(k)].outside; ++i)
          for (const auto& [at, weight] : w[static_cast<std::size_t>(k)].terms) x.v[static_cast<std::size_t>(to.at(o, at, i))] += weight * d.v[static_cast<std::size_t>(from.at(o, k, i))];
    d = std::move(x);
  }
  e.out[0] = std::move(d);
}
void infer_resize_grad(InferContext& c) { c.out = {TensorType{c.in[0]->dtype, c.in[1]->dims}}; }
std::vector<ValueId> adjoint_resize(Graph& g, const Node& node, std::span<const ValueId> grad) {
  const Node n = node;
  std::vector<ValueId> d(n.inputs.size(), kNone);
  if (grad.empty() || grad[0] == kNone) return d;
  std::vector<ValueId> in{grad[0]};
  in.insert(in.end(), n.inputs.begin(), n.inputs.end());
  d[0] = g.add_node("ResizeGrad", in, n.attrs, (n.name.empty() ? g.values[static_cast<std::size_t>(n.outputs[0])].name : n.name) + "/dX", "tandem");
  return d;
}
// Coordinates are exact quotients here: x = (a * place + b) / c.
Einsum resize_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0));
  const auto list = [&](std::size_t i) -> std::optional<std::vector<double>> {
    const Tensor* t = n.in(i) == kNone ? nullptr : g.constant(n.in(i));
    return t && t->size() ? numbers(t) : std::nullopt;
  };
  const auto scales = list(2), sizes = list(3);
  const std::string how = n.attr_string("coordinate_transformation_mode", "half_pixel"), mode = n.attr_string("mode", "nearest"), rounding = n.attr_string("nearest_mode", "round_prefer_floor");
  const auto s = scales || sizes ? stretches(g, n, x, std::nullopt, scales, sizes) : std::nullopt;
  if (!s || how == "tf_crop_and_resize" || n.attr_int("antialias", 0) || n.attr_int("exclude_outside", 0)) return {};
  Cascade c(g, n);
  std::vector<std::string> to = c.ranks(shape_of(g, n.outputs[0])), from = to;
  std::string weights;
  for (std::size_t d = 0; d < x.size(); ++d) {
    const Stretch& t = (*s)[d];
    if (t.in == t.out && t.scale == 1) continue;
    const Rational length = sizes && t.length == number(t.out) ? Rational(static_cast<long>(t.out)) : exact(t.length), in(static_cast<long>(t.in)), half(1, 2);
    const Rational step = 1 / (sizes && n.attr_string("keep_aspect_ratio_policy", "stretch") == "stretch" ? Rational(length / in) : exact(t.scale));
    Rational a = step, b = step / 2 - half;
    if (how == "align_corners") a = length == 1 ? Rational(0) : Rational((in - 1) / (length - 1)), b = 0;
    if (how == "asymmetric") b = 0;
    if (how == "tf_half_pixel_for_nn") b = step / 2;
    if (how == "pytorch_half_pixel" && length <= 1) a = b = 0;
    if (how == "half_pixel_symmetric") b += in / 2 * (1 - Rational(static_cast<long>(t.out)) / length);
    const auto quotient = [&](const Rational& shift) {
      const Rational offset = b + shift;
      mpz_class den;
      mpz_lcm(den.get_mpz_t(), a.get_den_mpz_t(), offset.get_den_mpz_t());
      const mpz_class k = a.get_num() * (den / a.get_den()), o = offset.get_num() * (den / offset.get_den());
      return std::array<mpz_class, 3>{k, o, den};
    };
    const auto fits = [](const std::array<mpz_class, 3>& q) { return std::all_of(q.begin(), q.end(), [](const mpz_class& v) { return v.fits_slong_p() && abs(v) < mpz_class(1l << 40); }); };
    if (mode == "nearest") {
      const bool up = rounding == "ceil" || rounding == "round_prefer_floor";  // ceil(x) or ceil(x - 1/2), else floor(x) or floor(x + 1/2)
      auto q = quotient(rounding == "round_prefer_floor" ? Rational(-half) : rounding == "round_prefer_ceil" ? half : Rational(0));
      if (up) q[1] += q[2] - 1;
      if (!fits(q)) return {};
      from[d] = fmt::format("clamp(floor(({}*{}+{})/{}))", q[0].get_si(), to[d], q[1].get_si(), q[2].get_si());
      continue;
    }
    const auto q = quotient(0);
    if (!fits(q)) return {};
    const std::string tap = c.rank(fmt::format("r{}", d), mode == "linear" ? 2 : 4), U = fmt::format("U{}[{}]", d, to[d]), W = fmt::format("W{}[{},{}]", d, to[d], tap);
    const std::string place = fmt::format("floor({})+{}-{}", U, tap, mode == "linear" ? 0 : 1);
    c.line("{} = {{({}*{}+{})/{}}}", U, q[0].get_si(), to[d], q[1].get_si(), q[2].get_si());
    if (mode == "linear") c.line("{} = hat({},{{{}}})", W, U, place);
    else c.line("{} = cubic({},{{{}}},{})", W, U, place, n.attr_float("cubic_coeff_a", -0.75));
    from[d] = "clamp(" + place + ")";
    weights += " * " + W;
  }
  c.line("{} {} {}{}", at(c.out(), to), weights.empty() ? "=" : "+=", at("X", from), weights);
  return c.done();
}
void sample_resize(const OpDef& op, Sample& s) {
  const Shape x{1, s.r.range(1, 2), s.r.range(1, 4), s.r.range(1, 4)};
  static const char* modes[] = {"nearest", "linear", "cubic"};
  const ValueId v = s.input(x);
  std::vector<ValueId> in{v, kNone};
  if (s.r.chance(0.5)) {
    Tensor t(DType::f32, {4});
    for (int i = 0; i < 4; ++i) t.set(i, i < 2 ? 1 : static_cast<double>(s.r.range(2, 6)) / 2);
    in.push_back(s.g.add_constant("scales", std::move(t)));
  } else {
    in.push_back(kNone);
    in.push_back(s.ints({x[0], x[1], s.r.range(1, 6), s.r.range(1, 6)}));
  }
  s.node(op, in, {{"mode", std::string(modes[s.r.range(0, 2)])}, {"coordinate_transformation_mode", std::string(kCoordinates[s.r.range(0, 4)])}});
}

// ---- GridSample -------------------------------------------------------------------------------------
double reflected(double x, double lo, double hi) {
  const double range = hi - lo;
  if (range <= 0) return lo;
  if (x >= lo && x <= hi) return x;
  const bool below = x < lo;
  const double d = below ? lo - x : x - hi, n = std::floor(d / range), r = d - n * range;
  const bool even = std::fmod(n, 2) == 0;
  return below == even ? lo + r : hi - r;
}
void infer_grid(InferContext& c) {
  const Dims &x = c.dims(0), &grid = c.dims(1);
  if (x.size() < 3 || grid.size() != x.size()) c.fail(fmt::format("input of rank {}, grid of rank {}", x.size(), grid.size()), "[N, C, spatial] and [N, spatial, number of axes]");
  if (grid.back().known() && grid.back().n != static_cast<std::int64_t>(x.size()) - 2) c.fail(fmt::format("grid places have {} coordinates", grid.back().n), fmt::format("{}", x.size() - 2));
  Dims y{x[0], x[1]};
  y.insert(y.end(), grid.begin() + 1, grid.end() - 1);
  c.out = {TensorType{c.in[0]->dtype, y}};
}
void grid_eval(Args& e) {
  const Array<double>&x = *e.in[0], &grid = *e.in[1];
  const Shape in = spatial(x.shape), strides = row_major_strides(in);
  const std::size_t axes = in.size();
  const std::string mode = e.node.attr_string("mode", "linear"), padding = e.node.attr_string("padding_mode", "zeros");
  const bool align = e.node.attr_int("align_corners", 0) != 0, bicubic = mode == "bicubic" || mode == "cubic", nearest = mode == "nearest";
  if (!bicubic && !nearest && mode != "linear" && mode != "bilinear") throw node_error(e.graph, e.node, fmt::format("mode '{}'", mode)).expected("linear, nearest or cubic");
  if (padding != "zeros" && padding != "border" && padding != "reflection") throw node_error(e.graph, e.node, fmt::format("padding_mode '{}'", padding)).expected("zeros, border or reflection");
  const auto padded = [&](double v, std::size_t d) {
    const double lo = align ? 0 : -0.5, hi = align ? number(in[d] - 1) : number(in[d]) - 0.5;
    if (v >= lo && v <= hi) return v;
    return padding == "border" ? std::clamp(v, 0.0, number(in[d] - 1)) : padding == "reflection" ? reflected(v, lo, hi) : v;
  };
  // The element's place along an axis; -1: zero.
  const auto index = [&](double v, std::size_t d) -> std::int64_t {
    if (v >= 0 && v < number(in[d])) return to_int(v);
    if (padding == "zeros") return -1;
    return std::clamp<std::int64_t>(to_int(padded(v, d)), 0, in[d] - 1);
  };
  Shape ys{x.shape[0], x.shape[1]};
  ys.insert(ys.end(), grid.shape.begin() + 1, grid.shape.end() - 1);
  Array<double> y(ys);
  const std::int64_t places = element_count(spatial(ys)), size = element_count(in);
  std::vector<std::vector<std::pair<std::int64_t, double>>> terms(axes);
  for (std::int64_t n = 0; n < ys[0]; ++n)
    for (std::int64_t p = 0; p < places; ++p) {
      for (std::size_t d = 0; d < axes; ++d) {
        const double g = grid.v[static_cast<std::size_t>((n * places + p) * static_cast<std::int64_t>(axes)) + axes - 1 - d];  // the last axis comes first
        double v = align ? (g + 1) / 2 * number(in[d] - 1) : ((g + 1) * number(in[d]) - 1) / 2;
        if (!bicubic) v = padded(v, d);
        terms[d].clear();
        if (nearest) {
          terms[d].emplace_back(index(std::nearbyint(v), d), 1);
        } else {
          const double base = std::floor(v);
          for (int k = bicubic ? -1 : 0; k < (bicubic ? 3 : 2); ++k)
            terms[d].emplace_back(index(base + k, d), bicubic ? cubic(v - base - k, -0.75) : 1 - std::abs(v - base - k));
        }
      }
      std::size_t combinations = 1;
      for (const auto& t : terms) combinations *= t.size();
      for (std::size_t k = 0; k < combinations; ++k) {
        std::size_t rest = k;
        std::int64_t at = 0;
        double weight = 1;
        for (std::size_t d = axes; d-- > 0 && at >= 0; rest /= terms[d].size()) {
          const auto& [i, w] = terms[d][rest % terms[d].size()];
          at = i < 0 ? -1 : at + i * strides[d];
          weight *= w;
        }
        if (at < 0) continue;
        for (std::int64_t c = 0; c < ys[1]; ++c)
          y.v[static_cast<std::size_t>((n * ys[1] + c) * places + p)] += weight * x.v[static_cast<std::size_t>((n * ys[1] + c) * size + at)];
      }
    }
  e.out[0] = std::move(y);
}
Einsum grid_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0)), grid = shape_of(g, n.in(1)), in = spatial(x);
  const std::string mode = n.attr_string("mode", "linear"), padding = n.attr_string("padding_mode", "zeros");
  const bool align = n.attr_int("align_corners", 0) != 0, bicubic = mode == "bicubic" || mode == "cubic", nearest = mode == "nearest";
  Cascade c(g, n);
  c.rank("n", x[0]), c.rank("c", x[1]);
  const std::vector<std::string> p = c.ranks(Shape(grid.begin() + 1, grid.end() - 1), "pqt");
  std::vector<std::string> place{"n"}, from{"n", "c"}, to{"n", "c"};
  place.insert(place.end(), p.begin(), p.end());
  to.insert(to.end(), p.begin(), p.end());
  std::string weights;
  for (std::size_t d = 0; d < in.size(); ++d) {
    const auto each = [&](const char* name) { return at(fmt::format("{}{}", name, d), place); };
    const double lo = align ? 0 : -0.5, hi = align ? number(in[d] - 1) : number(in[d]) - 0.5;
    const auto padded = [&](const std::string& v) {
      return padding == "reflection" ? fmt::format("reflect({},{},{})", v, lo, hi) : padding == "border" ? fmt::format("border({},{},{},{})", v, lo, hi, in[d] - 1) : v;
    };
    std::vector<std::string> coordinate = place;
    coordinate.push_back(fmt::format("{}", in.size() - 1 - d));  // the last axis comes first
    c.line("{} = {} + 1", each("G"), at("grid", coordinate));
    c.line("{} = {} * {}", each("S"), each("G"), align ? number(in[d] - 1) / 2 : number(in[d]) / 2);
    c.line("{} = {} - {}", each("U"), each("S"), align ? 0 : 0.5);
    c.line("{} = {}", each("V"), bicubic ? each("U") : padded(each("U")));
    std::vector<std::string> tapped = place;
    std::string J;
    if (nearest) {
      J = each("J");
      c.line("{} = round({})", each("K"), each("V"));
      c.line("{} = {}", J, padded(each("K")));
    } else {
      const std::string tap = c.rank(fmt::format("r{}", d), bicubic ? 4 : 2), taken = fmt::format("{{floor({})+{}-{}}}", each("V"), tap, bicubic ? 1 : 0);
      tapped.push_back(tap);
      const std::string W = at(fmt::format("W{}", d), tapped);
      if (bicubic) c.line("{} = cubic({},{},-0.75)", W, each("V"), taken);
      else c.line("{} = hat({},{})", W, each("V"), taken);
      weights += " * " + W;
      J = at(fmt::format("J{}", d), tapped);
      c.line("{} = {}", J, padded(taken));
    }
    from.push_back(padding == "zeros" ? fmt::format("floor({})", J) : fmt::format("clamp(floor({}))", J));
  }
  c.line("{} {} {}{}", at(c.out(), to), weights.empty() ? "=" : "+=", at("X", from), weights);
  return c.done();
}
void sample_grid(const OpDef& op, Sample& s) {
  static const char *modes[] = {"linear", "nearest", "cubic"}, *pads[] = {"zeros", "border", "reflection"};
  const ValueId x = s.input({s.r.range(1, 2), 2, s.r.range(1, 4), s.r.range(1, 4)});
  const std::int64_t n = s.g.values[static_cast<std::size_t>(x)].type.dims->at(0).n;
  s.node(op, {x, s.input({n, 2, 3, 2}, -1.5, 1.5)}, {{"mode", std::string(modes[s.r.range(0, 2)])}, {"padding_mode", std::string(pads[s.r.range(0, 2)])}, {"align_corners", s.r.range(0, 1)}});
}

// ---- RoiAlign ---------------------------------------------------------------------------------------
// The four neighbours of a place and their weights; nothing beyond one element outside.
struct Corners {
  std::int64_t at[4];
  double weight[4] = {0, 0, 0, 0};
};
Corners corners(double h, double w, std::int64_t H, std::int64_t W) {
  Corners c{{0, 0, 0, 0}};
  if (h < -1 || h > number(H) || w < -1 || w > number(W)) return c;
  h = std::clamp(h, 0.0, number(H - 1)), w = std::clamp(w, 0.0, number(W - 1));
  const std::int64_t y0 = to_int(h), x0 = to_int(w), y1 = std::min(y0 + 1, H - 1), x1 = std::min(x0 + 1, W - 1);
  const double fy = h - number(y0), fx = w - number(x0);
  return {{y0 * W + x0, y0 * W + x1, y1 * W + x0, y1 * W + x1}, {(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx}};
}
void infer_roi(InferContext& c) {
  const Dims &x = c.dims(0), &rois = c.dims(1);
  if (x.size() != 4 || rois.size() != 2) c.fail(fmt::format("input of rank {}, rois of rank {}", x.size(), rois.size()), "[N, C, H, W] and [rois, 4]");
  const std::int64_t h = c.node.attr_int("output_height", 1), w = c.node.attr_int("output_width", 1);
  if (h < 1 || w < 1) c.fail(fmt::format("an output of {} x {}", h, w));
  c.out = {TensorType{c.in[0]->dtype, Dims{rois[0], x[1], Dim(h), Dim(w)}}};
}
void roi_eval(Args& e) {
  const Array<double>&x = *e.in[0], &rois = *e.in[1];
  const std::int64_t C = x.shape[1], H = x.shape[2], W = x.shape[3], P = e.node.attr_int("output_height", 1), Q = e.node.attr_int("output_width", 1), ratio = e.node.attr_int("sampling_ratio", 0);
  const double scale = e.node.attr_float("spatial_scale", 1);
  const bool half = e.node.attr_string("coordinate_transformation_mode", "half_pixel") == "half_pixel", most = e.node.attr_string("mode", "avg") == "max";
  if (rois.shape[1] != 4 || static_cast<std::int64_t>(e.in[2]->v.size()) != rois.shape[0]) throw node_error(e.graph, e.node, "rois and batch_indices do not fit").expected("[rois, 4] and [rois]");
  Array<double> y(Shape{rois.shape[0], C, P, Q});
  for (std::int64_t r = 0; r < rois.shape[0]; ++r) {
    const double* b = rois.v.data() + 4 * r;
    const double off = half ? 0.5 : 0, w0 = b[0] * scale - off, h0 = b[1] * scale - off;
    double w = b[2] * scale - off - w0, h = b[3] * scale - off - h0;
    if (!half) w = std::max(w, 1.0), h = std::max(h, 1.0);
    const double bh = h / number(P), bw = w / number(Q);
    const std::int64_t gh = ratio > 0 ? ratio : to_int(std::ceil(bh)), gw = ratio > 0 ? ratio : to_int(std::ceil(bw)), batch = to_int(e.in[2]->v[static_cast<std::size_t>(r)]);
    if (batch < 0 || batch >= x.shape[0]) throw node_error(e.graph, e.node, fmt::format("batch index {} of {}", batch, x.shape[0]));
    if (gh > 10'000 || gw > 10'000) throw node_error(e.graph, e.node, fmt::format("a region of {} x {} samples in each bin", gh, gw)).expected("at most 10000 along an axis");
    for (std::int64_t c = 0; c < C; ++c) {
      const double* from = x.v.data() + (batch * C + c) * H * W;
      for (std::int64_t p = 0; p < P; ++p)
        for (std::int64_t q = 0; q < Q; ++q) {
          double sum = 0, largest = -INFINITY;
          for (std::int64_t i = 0; i < gh; ++i)
            for (std::int64_t j = 0; j < gw; ++j) {
              const Corners k = corners(h0 + (number(p) + (number(i) + 0.5) / number(gh)) * bh, w0 + (number(q) + (number(j) + 0.5) / number(gw)) * bw, H, W);
              for (int m = 0; m < 4; ++m) {
                const double v = k.weight[m] * from[k.at[m]];
                sum += v, largest = std::max(largest, v);
              }
            }
          y.v[static_cast<std::size_t>(((r * C + c) * P + p) * Q + q)] = most ? (gh * gw > 0 ? largest : 0) : sum / number(std::max<std::int64_t>(1, gh * gw));
        }
    }
  }
  e.out[0] = std::move(y);
}
void sample_roi(const OpDef& op, Sample& s) {
  const ValueId x = s.input({2, s.r.range(1, 2), 5, 6});
  const std::int64_t n = s.r.range(1, 3);
  Tensor rois(DType::f32, {n, 4});
  for (std::int64_t i = 0; i < n; ++i) {
    rois.set(4 * i, static_cast<double>(s.r.range(0, 2))), rois.set(4 * i + 1, static_cast<double>(s.r.range(0, 2)));
    rois.set(4 * i + 2, static_cast<double>(s.r.range(3, 6))), rois.set(4 * i + 3, static_cast<double>(s.r.range(3, 5)));
  }
  const ValueId r = s.g.add_constant("rois", std::move(rois));
  s.node(op, {x, r, s.constant({n}, 0, 1, DType::i64)},
         {{"output_height", s.r.range(1, 3)}, {"output_width", s.r.range(1, 3)}, {"sampling_ratio", s.r.range(0, 2)}, {"mode", std::string(s.r.chance(0.5) ? "avg" : "max")},
          {"coordinate_transformation_mode", std::string(s.r.chance(0.5) ? "half_pixel" : "output_half_pixel")}});
}

// ---- NonMaxSuppression ------------------------------------------------------------------------------
void infer_suppression(InferContext& c) {
  if (c.dims(0).size() != 3 || c.dims(1).size() != 3) c.fail("boxes and scores must have rank 3", "[batch, boxes, 4] and [batch, classes, boxes]");
  c.out = {TensorType{DType::i64, Dims{Dim(), Dim(3)}}};
}
void suppression_eval(Args& e) {
  const Array<double>&boxes = *e.in[0], &scores = *e.in[1];
  const std::int64_t n = boxes.shape[1], classes = scores.shape[1];
  if (boxes.shape[2] != 4 || scores.shape[0] != boxes.shape[0] || scores.shape[2] != n) throw node_error(e.graph, e.node, fmt::format("boxes {} and scores {} do not fit", to_string(boxes.shape), to_string(scores.shape)));
  const auto scalar = [&](std::size_t i, double fallback) { return has(e, i) && !e.in[i]->v.empty() ? e.in[i]->v[0] : fallback; };
  const std::int64_t most = to_int(scalar(2, 0));
  const double overlap = scalar(3, 0), least = scalar(4, -INFINITY);
  const bool centre = e.node.attr_int("center_point_box", 0) != 0;
  struct Box {
    double y0, x0, y1, x1;
  };
  const auto box = [&](std::int64_t b, std::int64_t i) -> Box {
    const double* v = boxes.v.data() + (b * n + i) * 4;
    if (centre) return {v[1] - v[3] / 2, v[0] - v[2] / 2, v[1] + v[3] / 2, v[0] + v[2] / 2};
    return {std::min(v[0], v[2]), std::min(v[1], v[3]), std::max(v[0], v[2]), std::max(v[1], v[3])};
  };
  const auto too_close = [&](const Box& a, const Box& b) {
    const double h = std::min(a.y1, b.y1) - std::max(a.y0, b.y0), w = std::min(a.x1, b.x1) - std::max(a.x0, b.x0);
    if (h <= 0 || w <= 0) return false;
    const double both = h * w, all = (a.y1 - a.y0) * (a.x1 - a.x0) + (b.y1 - b.y0) * (b.x1 - b.x0) - both;
    return all > 0 && both / all > overlap;
  };
  std::vector<double> chosen;
  for (std::int64_t b = 0; b < boxes.shape[0]; ++b)
    for (std::int64_t c = 0; c < classes; ++c) {
      const double* s = scores.v.data() + (b * classes + c) * n;
      Ints order;
      for (std::int64_t i = 0; i < n; ++i)
        if (s[i] > least) order.push_back(i);
      std::stable_sort(order.begin(), order.end(), [&](std::int64_t i, std::int64_t j) { return s[i] > s[j]; });
      std::vector<Box> kept;
      for (std::int64_t i : order) {
        if (static_cast<std::int64_t>(kept.size()) >= most) break;
        const Box x = box(b, i);
        if (std::any_of(kept.begin(), kept.end(), [&](const Box& k) { return too_close(x, k); })) continue;
        kept.push_back(x);
        chosen.insert(chosen.end(), {number(b), number(c), number(i)});
      }
    }
  Array<double> y(Shape{static_cast<std::int64_t>(chosen.size() / 3), 3});
  y.v = std::move(chosen);
  e.out[0] = std::move(y);
}
void sample_suppression(const OpDef& op, Sample& s) {
  const std::int64_t n = s.r.range(1, 6);
  const ValueId boxes = s.input({1, n, 4}, 0, 4), scores = s.input({1, 2, n}, 0, 1);
  s.node(op, {boxes, scores, s.ints({s.r.range(1, 4)}), s.scalar(0.5), s.scalar(0.25)}, {{"center_point_box", s.r.range(0, 1)}});
}

// ---- DeformConv -------------------------------------------------------------------------------------
void infer_deform(InferContext& c) {
  if (c.dims(0).size() != 4) c.fail(fmt::format("input has rank {}", c.dims(0).size()), "two spatial axes");
  infer_convolution(c, 1);
}
// A convolution whose taps are displaced by `offset` and weighted by `mask`: its input is a gathered one, [N, C, taps, positions].
void deform_eval(Args& e) {
  const Array<double>&x = *e.in[0], &w = *e.in[1], &offset = *e.in[2];
  const Shape in = spatial(x.shape);
  const Windows win = windows_of(e.graph, e.node, in, spatial(w.shape));
  const Shape out = win.out(in);
  const std::int64_t N = x.shape[0], C = x.shape[1], H = in[0], W = in[1], taps = element_count(win.kernel), positions = element_count(out), groups = e.node.attr_int("offset_group", 1);
  if (groups < 1 || C % groups || offset.shape != Shape{N, groups * taps * 2, out[0], out[1]} || (has(e, 4) && e.in[4]->shape != Shape{N, groups * taps, out[0], out[1]}))
    throw node_error(e.graph, e.node, fmt::format("offset {} (or mask) does not fit", to_string(offset.shape))).expected(to_string(Shape{N, groups * taps * 2, out[0], out[1]}));
  // The gathered input, laid out so that an ordinary convolution of stride `kernel` reads it.
  Array<double> gathered(Shape{N, C, out[0] * win.kernel[0], out[1] * win.kernel[1]});
  for (std::int64_t n = 0; n < N; ++n)
    for (std::int64_t c = 0; c < C; ++c)
      for (std::int64_t p = 0; p < positions; ++p)
        for (std::int64_t k = 0; k < taps; ++k) {
          const std::int64_t g = n * groups + c / (C / groups), r = k / win.kernel[1], s = k % win.kernel[1];
          const double h = number(p / out[1] * win.stride[0] - win.before[0] + r * win.dilation[0]) + offset.v[static_cast<std::size_t>((g * taps * 2 + 2 * k) * positions + p)];
          const double v = number(p % out[1] * win.stride[1] - win.before[1] + s * win.dilation[1]) + offset.v[static_cast<std::size_t>((g * taps * 2 + 2 * k + 1) * positions + p)];
          const double h0 = std::floor(h), v0 = std::floor(v);
          double sum = 0;
          for (int i = 0; i < 2; ++i)
            for (int j = 0; j < 2; ++j) {
              const double y = h0 + i, z = v0 + j;
              if (y < 0 || y >= number(H) || z < 0 || z >= number(W)) continue;
              sum += (1 - std::abs(h - y)) * (1 - std::abs(v - z)) * x.v[static_cast<std::size_t>(((n * C + c) * H + to_int(y)) * W + to_int(z))];
            }
          if (has(e, 4)) sum *= e.in[4]->v[static_cast<std::size_t>((g * taps + k) * positions + p)];
          gathered.v[static_cast<std::size_t>(((n * C + c) * gathered.shape[2] + p / out[1] * win.kernel[0] + r) * gathered.shape[3] + p % out[1] * win.kernel[1] + s)] = sum;
        }
  const Shape one(2, 1), zero(2, 0);
  e.out[0] = convolve(gathered, w, has(e, 3) ? e.in[3] : nullptr, Windows{win.kernel, win.kernel, one, zero, zero});
}
// The displaced places, the bilinear weights of their four neighbours, the taps gathered with them, and the convolution of those.
Einsum deform_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0)), w = shape_of(g, n.in(1)), y = shape_of(g, n.outputs[0]);
  const Windows win = windows_of(g, n, spatial(x), spatial(w));
  const std::int64_t group = n.attr_int("group", 1), shifts = n.attr_int("offset_group", 1), R = win.kernel[0], S = win.kernel[1], each = x[1] / shifts;
  Cascade c(g, n);
  c.rank("n", x[0]), c.rank("d", shifts), c.rank("r", R), c.rank("s", S), c.rank("p", y[2]), c.rank("q", y[3]), c.rank("e", each), c.rank("i", 2), c.rank("j", 2);
  c.rank("g", group), c.rank("o", w[0] / group), c.rank("c", w[1]);
  const std::string tap = fmt::format("{}*d+{}*r+s", R * S, S);
  for (int k = 0; k < 2; ++k) {
    const char *u = k ? "V" : "U", *a = k ? "Hv" : "Hu", *near = k ? "j" : "i";
    c.line("{}[n,d,r,s,p,q] = {{{}*{}+{}*{}-{}}} + {}[n,{}*d+{}*r+2*s+{},p,q]", u, win.stride[static_cast<std::size_t>(k)], k ? "q" : "p", win.dilation[static_cast<std::size_t>(k)], k ? "s" : "r",
           win.before[static_cast<std::size_t>(k)], c.in(2), 2 * R * S, 2 * S, k);
    c.line("{}[n,d,r,s,p,q,{}] = hat({}[n,d,r,s,p,q],{{floor({}[n,d,r,s,p,q])+{}}})", a, near, u, u, near);
  }
  c.line("T[n,{}*d+e,r,s,p,q] += X[n,{}*d+e,floor(U[n,d,r,s,p,q])+i,floor(V[n,d,r,s,p,q])+j] * Hu[n,d,r,s,p,q,i] * Hv[n,d,r,s,p,q,j]{}", each, each,
         n.in(4) == kNone ? "" : fmt::format(" * {}[n,{},p,q]", c.in(4), tap));
  const std::string channel = fmt::format("{}*g+o", w[0] / group);
  if (n.in(3) != kNone) c.line("Y[n,{},p,q] = {}[{}]", channel, c.in(3), channel);
  c.line("Y[n,{},p,q] += T[n,{}*g+c,r,s,p,q] * W[{},c,r,s]", channel, w[1], channel);
  return c.done();
}
void sample_deform(const OpDef& op, Sample& s) {
  const std::int64_t group = s.r.range(1, 2), og = s.r.range(1, 2), c = 2 * group, o = group * s.r.range(1, 2);
  const ValueId x = s.input({1, c, 5, 4}), w = s.constant({o, c / group, 2, 2}, -1, 1), offset = s.input({1, og * 8, 4, 3}, -1.5, 1.5);
  std::vector<ValueId> in{x, w, offset, s.r.chance(0.5) ? s.constant({o}, -1, 1) : kNone};
  if (s.r.chance(0.5)) in.push_back(s.input({1, og * 4, 4, 3}, 0, 1));
  s.node(op, in, {{"group", group}, {"offset_group", og}, {"kernel_shape", Shape{2, 2}}});
}

}  // namespace

std::span<const OpDef> image_ops() {
  static const std::vector<AttrDef> resize_attributes = {{"antialias", AttrType::integer, "0", "1: linear and cubic widen where they shrink"}, {"axes", AttrType::integers, "every axis", "the axes that scales, sizes and roi speak of"},
                           {"coordinate_transformation_mode", AttrType::string, "half_pixel", "half_pixel, half_pixel_symmetric, pytorch_half_pixel, align_corners, asymmetric, tf_half_pixel_for_nn or tf_crop_and_resize"},
                           {"cubic_coeff_a", AttrType::real, "-0.75", "of cubic"}, {"exclude_outside", AttrType::integer, "0", "1: elements outside get no weight"},
                           {"extrapolation_value", AttrType::real, "0", "outside the region of tf_crop_and_resize"}, {"keep_aspect_ratio_policy", AttrType::string, "stretch", "stretch, not_larger or not_smaller"},
                           {"mode", AttrType::string, "nearest", "nearest, linear or cubic"}, {"nearest_mode", AttrType::string, "round_prefer_floor", "round_prefer_floor, round_prefer_ceil, floor or ceil"}};
  static const OpDef ops[] = {  // not before kConv, whose attributes DeformConv takes
      OpDef{.domain = "", .name = "Resize", .summary = "Resamples along its axes.",
            .doc = "Y is X at the coordinates that coordinate_transformation_mode gives: the nearest element, or a weighted sum of 2 (linear) or 4 (cubic) along each axis. Closed over exact values for the nearest.", .source = "ONNX Resize-19",
            .inputs = {{"X", "any shape"}, {"roi", "of tf_crop_and_resize: firsts, then lasts, in [0, 1]", true}, {"scales", "one per axis", true}, {"sizes", "one per axis, instead of scales", true}}, .outputs = {{"Y", "floor(extent * scale), or sizes"}},
            .attributes = resize_attributes,
            .closure = Closure::move, .infer = infer_resize, .eval = {resize_eval, move_exactly}, .einsum = resize_einsum, .adjoint = adjoint_resize, .sample = sample_resize},
      OpDef{.domain = "tandem", .name = "ResizeGrad", .summary = "Gradient of Resize.", .doc = "dX adds each element of dY to those it was made of, by their weights.", .source = "vector-Jacobian product of ONNX Resize-19",
            .inputs = {{"dY", "gradient of the output"}, {"X", "gives the extents"}, {"roi", "as in Resize", true}, {"scales", "as in Resize", true}, {"sizes", "as in Resize", true}}, .outputs = {{"dX", "of the extents of X"}},
            .attributes = resize_attributes, .infer = infer_resize_grad, .eval = {resize_grad_eval, nullptr}},
      OpDef{.domain = "", .name = "GridSample", .summary = "Reads X at the places of a grid.", .doc = "Coordinates are in [-1, 1], last axis first; between elements linear, nearest or cubic (a = -0.75).", .source = "ONNX GridSample-20",
            .inputs = {{"X", "[N, C, spatial]"}, {"grid", "[N, spatial of Y, number of axes]"}}, .outputs = {{"Y", "[N, C, spatial of the grid]"}},
            .attributes = {{"align_corners", AttrType::integer, "0", "1: -1 and 1 are the centres of the outer elements, 0: their outer edges"}, {"mode", AttrType::string, "linear", "linear, nearest or cubic; bilinear and bicubic are the same"},
                           {"padding_mode", AttrType::string, "zeros", "zeros, border or reflection"}},
            .infer = infer_grid, .eval = {grid_eval, nullptr}, .einsum = grid_einsum, .adjoint = adjoint_expanded, .expansion = expand_grid_sample, .sample = sample_grid},
      OpDef{.domain = "", .name = "RoiAlign", .summary = "Regions of interest on a common grid.", .doc = "Each bin is the mean of bilinear samples (mode max: the largest weighted neighbour, as ONNX's reference has it).", .source = "ONNX RoiAlign-16",
            .inputs = {{"X", "[N, C, H, W]"}, {"rois", "[rois, 4]: x0, y0, x1, y1"}, {"batch_indices", "[rois]"}}, .outputs = {{"Y", "[rois, C, output_height, output_width]"}},
            .attributes = {{"coordinate_transformation_mode", AttrType::string, "half_pixel", "half_pixel or output_half_pixel"}, {"mode", AttrType::string, "avg", "avg or max"}, {"output_height", AttrType::integer, "1", "rows of bins"},
                           {"output_width", AttrType::integer, "1", "columns of bins"}, {"sampling_ratio", AttrType::integer, "0", "samples along each axis of a bin; 0: by its size"}, {"spatial_scale", AttrType::real, "1", "from the rois' coordinates to X's"}},
            .infer = infer_roi, .eval = {roi_eval, nullptr}, .adjoint = adjoint_expanded, .expansion = expand_roi_align, .sample = sample_roi},
      OpDef{.domain = "", .name = "NonMaxSuppression", .summary = "Keeps the boxes of highest score that do not overlap.",
            .doc = "By descending score (equal ones: the lower index first), a box of a score above the threshold is kept unless its intersection over union with a kept one is above iou_threshold.", .source = "ONNX NonMaxSuppression-11",
            .inputs = {{"boxes", "[batch, boxes, 4]"}, {"scores", "[batch, classes, boxes]"}, {"max_output_boxes_per_class", "default 0", true}, {"iou_threshold", "default 0", true}, {"score_threshold", "default none", true}},
            .outputs = {{"Y", "[chosen, 3]: batch, class, box"}}, .attributes = {{"center_point_box", AttrType::integer, "0", "1: x, y, width, height; 0: two corners y, x"}},
            .infer = infer_suppression, .eval = {suppression_eval, nullptr}, .sample = sample_suppression},
      OpDef{.domain = "", .name = "DeformConv", .summary = "Convolution with displaced taps.", .doc = "Y[n,o,p] = B[o] + sum over c,k of W[o,c,k] * mask[k,p] * X[n,c, p*stride + k*dilation - pad + offset[k,p]], X bilinear, 0 outside.", .source = "ONNX DeformConv-19",
            .inputs = {{"X", "[N, C, H, W]"}, {"W", "[out, C/group, kh, kw]"}, {"offset", "[N, offset_group * kh * kw * 2, out_h, out_w]"}, {"B", "[out]", true}, {"mask", "[N, offset_group * kh * kw, out_h, out_w]; default 1", true}},
            .outputs = {{"Y", "[N, out, out_h, out_w]"}},
            .attributes = [] { auto a = kConv.attributes; a.push_back({"offset_group", AttrType::integer, "1", "groups of channels with their own offsets"}); return a; }(),
            .infer = infer_deform, .eval = {deform_eval, nullptr}, .einsum = deform_einsum, .adjoint = adjoint_expanded, .expansion = expand_deform_conv, .sample = sample_deform},
  };
  return ops;
}

}  // namespace tandem::ir
